//! Conversations and what was said in them.

use flowyte_core::Timestamp;
use flowyte_core::id::{ConversationId, MessageId, OrganizationId};
use flowyte_store::db::id;
use flowyte_store::{Mode, Page, Row, Store, StoreError};

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The visitor.
    User,
    /// The agent.
    Assistant,
}

impl Speaker {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Which.
    pub id: MessageId,
    /// Who spoke.
    pub speaker: Speaker,
    /// What.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

fn message(row: &Row) -> Result<Message, StoreError> {
    let role: String = row.get("role")?;
    let speaker = [Speaker::User, Speaker::Assistant].into_iter().find(|it| it.as_str() == role);
    Ok(Message {
        id: row.id("id")?,
        speaker: speaker.ok_or_else(|| StoreError::Inconsistent(format!("role {role}")))?,
        text: row.get("text")?,
        at: row.time("at")?,
    })
}

/// The conversations of a store.
pub struct Conversations<'s>(pub &'s dyn Store);

impl Conversations<'_> {
    /// Adds a message; answers whether it is the first of the conversation.
    pub async fn say(
        &self,
        organization: OrganizationId,
        conversation: ConversationId,
        new: &Message,
    ) -> Result<bool, StoreError> {
        let mut tx = self.0.begin(Mode::Batch).await?;
        let before = tx
            .opt(
                "SELECT id FROM messages WHERE organization_id = $1 AND conversation_id = $2 LIMIT 1",
                vec![id(organization), id(conversation)],
            )
            .await?;
        tx.exec(
            "INSERT INTO messages (id, organization_id, conversation_id, role, text, at) VALUES ($1, $2, $3, $4, $5, $6)",
            vec![
                id(new.id),
                id(organization),
                id(conversation),
                new.speaker.as_str().into(),
                new.text.clone().into(),
                new.at.into(),
            ],
        )
        .await?;
        tx.commit().await?;
        Ok(before.is_none())
    }

    /// Messages, oldest first; the page begins after its position.
    pub async fn messages(
        &self,
        organization: OrganizationId,
        conversation: ConversationId,
        page: Page,
    ) -> Result<Vec<Message>, StoreError> {
        let mut tx = self.0.begin(Mode::Read).await?;
        let rows = tx
            .all(
                "SELECT * FROM messages WHERE organization_id = $1 AND conversation_id = $2 AND id > $3 ORDER BY id LIMIT $4",
                vec![
                    id(organization),
                    id(conversation),
                    page.before.unwrap_or_default().into(),
                    page.probe().into(),
                ],
            )
            .await?;
        rows.iter().map(message).collect()
    }
}
