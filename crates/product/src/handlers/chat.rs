//! Public chat: a visitor of somebody's page talks to the agent of a publishable key.

use crate::Call;
use crate::Product;
use crate::agents::{Agents, Version};
use crate::answerer::greeting;
use crate::conversations::{Conversations, Message, Speaker, Utterance, opened, sources_json};
use crate::handlers::skills;
use crate::id::{AgentId, ConversationId};
use crate::identity_token;
use crate::live::{self, Speech, event};
use crate::turn::{Begun, Event, Keep, Means, Turn};
use bytes::Bytes;
use flowyte_core::id::{Id, OrganizationId, PublishableKeyId, VisitorId};
use flowyte_core::{CredentialKind, Environment};
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::or_internal;
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_store::StoreError;
use flowyte_store::publishable::{NewVisitor, VISITOR_LIFE};
use flowyte_verifier::{Verifier, Warrant};
use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::mpsc::{self, Receiver};

/// Events that wait for a slow reader before whoever makes them waits too.
const EVENTS: usize = 16;

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
    let agent = or_internal(caller.pinned(), "a publishable key has no agent")?;
    published(&call, organization, agent).await?;
    let row = call.store().publishable_key_of(organization, key).await?;
    let subject = match row.require_identity {
        // An identity that nobody asked for is not looked at, so it is not believed either.
        false => None,
        true => {
            let refused =
                || Problem::new(Code::IdentityRequired, "The key asks for a signed visitor identity.");
            let secret =
                or_internal(call.verifier.open_identity_secret(&row), "an identity secret can't be opened")?;
            let token = body.identity_token.as_deref().ok_or_else(refused)?;
            let subject = identity_token::verify(token, &secret, &agent.to_string(), call.now);
            Some(subject.map_err(|why| {
                Problem::new(
                    Code::IdentityRequired,
                    format!("The visitor's identity token is refused: {why}."),
                )
            })?)
        }
    };
    let (secret, stored) = call.verifier.secret(CredentialKind::Visitor, Environment::Live)?;
    let conversation: ConversationId = call.verifier.id(call.now)?;
    let visitor = NewVisitor {
        id: call.verifier.id(call.now)?,
        context: *conversation.as_bytes(),
        secret: stored,
        origin: call.origin().unwrap_or_default().to_owned(),
        verified: subject.is_some(),
        beside: vec![opened(organization, conversation, agent, caller.environment(), subject, call.now)],
    };
    call.store().open_visitor(organization, key, &visitor, call.now).await?;
    let url = format!("{}/api/v1/chat/widget/messages", call.verifier.public_url);
    Ok(Answer::data(json!({
        "conversationId": conversation.to_string(),
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
    let conversation = call.store().context_of(caller.organization(), visitor).await?;
    let conversation = ConversationId::from_bytes(conversation);
    Ok((caller.organization(), or_internal(caller.pinned(), "a visitor session has no agent")?, conversation))
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
    let keep = Keep::Conversation(conversation);
    // Its page has greeted the visitor, with what the bootstrap says.
    let greeted = vec![Utterance { speaker: Speaker::Assistant, text: greeting(&version.config) }];
    let begun = turn(&call, agent, version.config, keep, greeted, body.content)?.begin(call.store()).await?;
    let warrant = Arc::new(call.permitted.warrant);
    Ok(live::answer(warrant.clone(), run(call.state.clone(), warrant, begun), Messages))
}

/// What becomes of a turn in which somebody tries an agent out: nothing is kept of it, but what a model says is paid for, so
/// that it is charged like a message.
pub(crate) fn trial(product: &Product, environment: Environment) -> Keep {
    match environment {
        Environment::Live if product.charges_trials => Keep::Charge,
        _ => Keep::Nothing,
    }
}

/// A turn of this caller.
pub(super) fn turn(
    call: &Call,
    agent: AgentId,
    config: Map<String, Value>,
    keep: Keep,
    history: Vec<Utterance>,
    text: String,
) -> Outcome<Turn> {
    Ok(Turn {
        organization: call.organization()?,
        agent,
        environment: call.caller()?.environment(),
        config,
        keep,
        history,
        text,
        wishes: Map::new(),
        message: call.verifier.id(call.now)?,
        random: call.verifier.random()?,
        at: call.now,
    })
}

/// Runs a turn in a task of its own: an answer that was begun is kept, whether or not somebody still listens.
pub(crate) fn run(product: Arc<Product>, warrant: Arc<Warrant>, begun: Begun) -> Receiver<Event> {
    let (events, received) = mpsc::channel(EVENTS);
    let last_word = events.clone();
    tokio::spawn(async move {
        let now = || product.verifier.now();
        let reach = |organization, agent| skills::reach(&product, organization, agent);
        let means = Means {
            store: &*warrant,
            house: &*product.verifier.store,
            retriever: &*product.retriever,
            answerers: &product.answerers,
            reach: &reach,
            now: &now,
        };
        if AssertUnwindSafe(begun.run(means, events)).catch_unwind().await.is_err() {
            let why = StoreError::Inconsistent("a turn panicked".into());
            let _ = last_word.send(Event::Failed(why.into())).await; // Nobody listens any more: nobody to tell.
        }
    });
    received
}

/// What a chat shows of a turn: the answer as it is made, and the whole of it.
pub(super) struct Messages;

impl Speech for Messages {
    fn event(&mut self, verifier: &Verifier, happened: Event) -> Option<Bytes> {
        match happened {
            Event::Delta(text) => Some(event("message_delta", &json!({"text": text}))),
            Event::Done(done) => {
                let (id, sources) = (done.id.to_string(), sources_json(&done.sources));
                Some(event("done", &json!({"messageId": id, "text": done.text, "sources": sources})))
            }
            Event::Failed(error) => Some(live::failure(verifier, &error.into())),
            Event::UserUtterance(_) | Event::Retrieval(..) | Event::Called(_) | Event::AgentMessage(..) => {
                None
            }
        }
    }
}

/// A message as chats show it.
pub(super) fn message(message: &Message) -> Value {
    json!({
        "id": message.id.to_string(),
        "role": message.speaker.as_str(),
        "text": message.text,
        "at": instant(message.at),
        "sources": sources_json(&message.sources),
    })
}

/// The visitor's conversation, oldest message first.
pub async fn list(call: Call) -> Outcome<Answer> {
    let (organization, _, conversation) = place(&call).await?;
    let page = call.page()?;
    let rows = Conversations(call.store()).messages(organization, conversation, page).await?;
    call.list(page, rows, |message| *message.id.as_bytes(), message)
}
