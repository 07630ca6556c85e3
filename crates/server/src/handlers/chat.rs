//! Public chat: a visitor of somebody's page talks to the agent of a publishable key.

use crate::answer::Answer;
use crate::app::{App, or_internal};
use crate::call::{Call, instant};
use crate::handlers::publishable::open_identity;
use crate::identity_token;
use crate::live::{self, event};
use crate::problem::{Code, Outcome, Problem};
use bytes::Bytes;
use flowyte_core::id::{AgentId, ConversationId, Id, OrganizationId, PublishableKeyId, VisitorId};
use flowyte_core::{CredentialKind, Environment, Timestamp};
use flowyte_platform::agents::{Agents, Version};
use flowyte_platform::answerer::{Piece, Question, Source};
use flowyte_platform::conversations::{Conversations, Message, Speaker};
use flowyte_store::publishable::{NewVisitor, VISITOR_LIFE};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc::{self, Sender};

/// Events that wait for a slow reader before whoever makes them waits too.
pub(super) const EVENTS: usize = 16;
/// Passages that an answer may draw on.
pub(super) const PASSAGES: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    identity_token: Option<String>,
}

/// Opens a visitor session, bound to the key, its agent and the page's origin.
pub async fn open(call: Call) -> Outcome<Answer> {
    let body: Open = call.read()?;
    let caller = *call.caller()?;
    let organization = caller.organization();
    let key = PublishableKeyId::from_bytes(caller.credential());
    let agent = or_internal(caller.agent(), "a publishable key has no agent")?;
    published(&call, organization, agent).await?;
    let row = call.store().publishable_key_of(organization, key).await?;
    let subject = match row.require_identity {
        // An identity that nobody asked for is not looked at, so it is not believed either.
        false => None,
        true => {
            let refused =
                || Problem::new(Code::IdentityRequired, "The key asks for a signed visitor identity.");
            let secret = or_internal(open_identity(&call, &row), "an identity secret can't be opened")?;
            let token = body.identity_token.as_deref().ok_or_else(refused)?;
            let subject = identity_token::verify(token, &secret, &agent.to_string(), call.now);
            Some(subject.map_err(|why| {
                Problem::new(Code::IdentityRequired, format!("The identity is refused: {why}."))
            })?)
        }
    };
    let (secret, stored) = call.app.secret(CredentialKind::Visitor, Environment::Live)?;
    let visitor = NewVisitor {
        id: call.app.id(call.now)?,
        conversation: call.app.id(call.now)?,
        secret: stored,
        origin: call.origin.clone().unwrap_or_default(),
        subject,
    };
    call.store().open_visitor(organization, key, &visitor, call.now).await?;
    let url = format!("{}/api/v1/chat/widget/messages", call.app.config.public_url);
    Ok(Answer::data(json!({
        "conversationId": visitor.conversation.to_string(),
        "visitorToken": secret.expose(),
        "transport": {"kind": "sse", "url": url, "token": secret.expose()},
        "expiresAt": instant(call.now.plus(VISITOR_LIFE)),
    })))
}

/// The version that channels serve.
pub(super) async fn published(call: &Call, organization: OrganizationId, agent: AgentId) -> Outcome<Version> {
    let (_, published) = Agents(call.store()).live(organization, agent).await?;
    published.ok_or_else(|| {
        Problem::new(Code::NoPublishedVersion, "The agent was never published; publish it first.")
    })
}

/// The visitor's place: organization, agent, conversation.
async fn place(call: &Call) -> Outcome<(OrganizationId, AgentId, ConversationId)> {
    let caller = call.caller()?;
    let visitor = VisitorId::from_bytes(caller.credential());
    let conversation = call.store().conversation_of(caller.organization(), visitor).await?;
    Ok((caller.organization(), or_internal(caller.agent(), "a visitor session has no agent")?, conversation))
}

#[derive(Deserialize)]
struct Send {
    content: String,
}

/// A visitor's message; the answer comes as a stream of events.
pub async fn send(call: Call) -> Outcome<Answer> {
    let body: Send = call.read()?;
    let (organization, agent, conversation) = place(&call).await?;
    let version = published(&call, organization, agent).await?;
    let said =
        Message { id: call.app.id(call.now)?, speaker: Speaker::User, text: body.content, at: call.now };
    let first = Conversations(call.store()).say(organization, conversation, &said).await?;
    let passages = call.app.retriever.retrieve(organization, agent, &said.text, &[], PASSAGES).await?;
    let question = Question { config: &version.config, text: &said.text, first, passages };
    let pieces = call.app.answerer.answer(&question);
    let (events, received) = mpsc::channel(EVENTS);
    let digest = or_internal(call.digest, "a visitor has no digest")?;
    let at = call.now.plus(1_000); // Ids order by milliseconds, and an answer comes after its question.
    let reply = Reply { app: call.app.clone(), organization, conversation, at };
    // Its own task: an answer that was begun is kept, whether or not somebody still listens.
    tokio::spawn(reply.run(pieces, events));
    Ok(live::answer(call.app.clone(), digest, received))
}

/// What an answer leans on.
pub(super) fn sources(all: &[Source]) -> Value {
    all.iter().map(|it| json!({"id": it.id.to_string(), "label": it.label, "url": it.url})).collect()
}

struct Reply {
    app: Arc<App>,
    organization: OrganizationId,
    conversation: ConversationId,
    at: Timestamp,
}

impl Reply {
    /// Sends each piece as it comes, keeps the whole, and says so.
    async fn run(self, mut pieces: BoxStream<'static, Piece>, events: Sender<Bytes>) {
        let (mut text, mut sources) = (String::new(), Vec::new());
        while let Some(piece) = pieces.next().await {
            match piece {
                Piece::Text(piece) => {
                    text.push_str(&piece);
                    let _ = events.send(event("message_delta", &json!({"text": piece}))).await;
                }
                Piece::Sources(named) => sources = named,
                Piece::Unknown => {}
            }
        }
        let last = match self.keep(&text, &sources).await {
            Ok(done) => event("done", &done),
            Err(problem) => live::failure(&self.app, &problem),
        };
        let _ = events.send(last).await;
    }

    async fn keep(&self, text: &str, sources: &[Source]) -> Outcome<Value> {
        let id = self.app.id(self.at)?;
        let message = Message { id, speaker: Speaker::Assistant, text: text.to_owned(), at: self.at };
        Conversations(&*self.app.store).say(self.organization, self.conversation, &message).await?;
        Ok(json!({"messageId": id.to_string(), "text": text, "sources": self::sources(sources)}))
    }
}

/// The visitor's conversation, oldest message first.
pub async fn list(call: Call) -> Outcome<Answer> {
    let (organization, _, conversation) = place(&call).await?;
    let page = call.page()?;
    let rows = Conversations(call.store()).messages(organization, conversation, page).await?;
    call.list(
        page,
        rows,
        |message| *message.id.as_bytes(),
        |message| {
            json!({
                "id": message.id.to_string(),
                "role": message.speaker.as_str(),
                "text": message.text,
                "at": instant(message.at),
            })
        },
    )
}
