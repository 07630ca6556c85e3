//! Talk tokens: each opens one conversation with an agent over a connection of its own.

use crate::agents::AgentIsThere;
use crate::conversations::{NewConversation, Via, open_in};
use crate::id::{AgentId, ConversationId};
use flowyte_core::id::OrganizationId;
use flowyte_core::time::MINUTE;
use flowyte_core::{Digest, Environment, Timestamp};
use flowyte_store::db::id;
use flowyte_store::{Row, Store, StoreError};

/// How long a token may wait for its connection.
pub const LIFE: i64 = MINUTE;

/// A talk token, and the conversation that it opens.
#[derive(Clone, Debug)]
pub struct Talk {
    /// The organization that the agent belongs to.
    pub organization: OrganizationId,
    /// The agent that answers in it.
    pub agent: AgentId,
    /// The conversation that it becomes. One with a draft is not kept.
    pub conversation: ConversationId,
    /// With the draft, not with the version that channels serve.
    pub draft: bool,
    /// The environment: live or test.
    pub environment: Environment,
    /// The secret that asked for it, with which it ends.
    pub minted_by: Digest,
    /// What the request for it was permitted by, as the server wrote it down to ask again.
    pub asked: String,
}

/// Why a token opens nothing.
#[derive(Debug)]
pub enum NotTaken {
    /// Not known, past its time, or used.
    Unknown,
    /// Its agent may not be talked to from that page. The token is as good as before.
    Origin,
    /// The store refused it, or failed.
    Store(StoreError),
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn talk(row: &Row) -> Result<Talk, StoreError> {
    Ok(Talk {
        organization: row.id("organization_id")?,
        agent: row.id("agent_id")?,
        conversation: row.id("conversation_id")?,
        draft: row.flag("draft")?,
        environment: row.environment()?,
        minted_by: Digest::from_bytes(row.bytes("minted_by")?),
        asked: row.get("asked")?,
    })
}

/// The talk tokens of a store.
pub struct Talks<'s>(pub &'s dyn Store);

impl Talks<'_> {
    /// Adds a token, and forgets those that nobody used.
    pub async fn mint(&self, new: &Talk, digest: Digest, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.0.batch().await?;
        tx.agent_is_there(new.organization, new.agent).await?;
        // So many at once that those of a flood are not left to one of its neighbours.
        tx.queue(
            "DELETE FROM talk_tokens WHERE digest IN \
             (SELECT digest FROM talk_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT 20)",
            vec![now.into()],
        )
        .await?;
        tx.queue(
            "INSERT INTO talk_tokens (digest, organization_id, agent_id, conversation_id, draft, environment, minted_by, \
             expires_at, asked) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            vec![
                digest.into(),
                id(new.organization),
                id(new.agent),
                id(new.conversation),
                new.draft.into(),
                new.environment.as_str().into(),
                new.minted_by.into(),
                now.plus(LIFE).into(),
                new.asked.clone().into(),
            ],
        )
        .await?;
        tx.commit().await
    }

    /// Whose token it is, if there is one that may be used now. It writes nothing: anybody may ask, with any text.
    pub async fn organization_of(
        &self,
        digests: &[Digest],
        now: Timestamp,
    ) -> Result<Option<OrganizationId>, StoreError> {
        let mut tx = self.0.read().await?;
        for digest in digests {
            let sql = "SELECT organization_id FROM talk_tokens WHERE digest = $1 AND expires_at > $2";
            if let Some(row) = tx.opt(sql, vec![(*digest).into(), now.into()]).await? {
                return row.id("organization_id").map(Some);
            }
        }
        Ok(None)
    }

    /// Uses a token up: of many who try, one gets what it opens. `digests`: of its text, under each pepper. `origin`: the
    /// page that it comes from, unless it is our own; it must be one that a key of the agent lists.
    pub async fn take(
        &self,
        digests: &[Digest],
        origin: Option<&str>,
        now: Timestamp,
    ) -> Result<Talk, NotTaken> {
        let mut tx = self.0.batch().await?;
        for digest in digests {
            let found = tx
                .opt(
                    "SELECT * FROM talk_tokens WHERE digest = $1 AND expires_at > $2",
                    vec![(*digest).into(), now.into()],
                )
                .await?;
            let Some(row) = found else { continue };
            let talk = talk(&row)?;
            if let Some(origin) = origin {
                let keys = tx
                    .all(
                        "SELECT allowed_origins FROM publishable_keys \
                         WHERE organization_id = $1 AND resource_id = $2 AND revoked_at IS NULL",
                        vec![id(talk.organization), id(talk.agent)],
                    )
                    .await?;
                let listed =
                    keys.iter().map(|key| key.list("allowed_origins")).collect::<Result<Vec<_>, _>>()?;
                if !listed.iter().flatten().any(|it| it == origin) {
                    return Err(NotTaken::Origin);
                }
            }
            // Whoever deletes the row has the token; a second one finds nothing to delete.
            if tx.exec("DELETE FROM talk_tokens WHERE digest = $1", vec![(*digest).into()]).await? == 0 {
                return Err(NotTaken::Unknown);
            }
            if !talk.draft {
                let (agent, environment) = (talk.agent, talk.environment);
                let new = NewConversation { id: talk.conversation, agent, environment, via: Via::Talk };
                open_in(&mut tx, talk.organization, &new, now).await?;
            }
            tx.commit().await?;
            return Ok(talk);
        }
        Err(NotTaken::Unknown)
    }
}

impl Talk {
    /// What clients call the place of the conversation.
    pub fn room(&self) -> String {
        self.conversation.to_string()
    }
}
