//! Chat for backends and members: a session is a conversation that its caller opened and ends.

use crate::Call;
use crate::conversations::{
    Conversation, Conversations, NewConversation, Outcome as CameTo, Via, sources_json,
};
use crate::handlers::chat::{Messages, message, published, run, turn};
use crate::id::{AgentId, ConversationId};
use crate::live;
use crate::turn::{Event, Keep};
use flowyte_core::id::Id;
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::or_internal;
use flowyte_http::problem::{Outcome, Problem};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;

fn render(session: &Conversation) -> Value {
    json!({
        "id": session.id.to_string(),
        "agentId": session.agent.to_string(),
        "environment": session.environment.as_str(),
        "status": if session.ended_at.is_some() { "ended" } else { "open" },
        "outcome": session.outcome.map(CameTo::as_str),
        "createdAt": instant(session.started_at),
        "endedAt": instant(session.ended_at),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    agent_id: String,
}

/// Opens a session with an agent that was published.
pub async fn open(call: Call) -> Outcome<Answer> {
    let body: Open = call.read()?;
    let agent = AgentId::parse(&body.agent_id).ok_or_else(Problem::not_found)?;
    published(&call, call.organization()?, agent).await?;
    let environment = call.caller()?.environment();
    let new = NewConversation { id: call.verifier.id(call.now)?, agent, environment, via: Via::Session };
    let seal = |session: &Conversation| call.seal(&render(session));
    let done =
        Conversations(call.store()).open(call.organization()?, &new, call.claim(), call.now, &seal).await?;
    call.once(done, render)
}

async fn session(call: &Call) -> Outcome<Conversation> {
    let environment = call.caller()?.environment();
    Ok(Conversations(call.store()).session(call.organization()?, environment, call.id("id")?).await?)
}

/// `getChatSession`: the conversation behind a session.
pub async fn get(call: Call) -> Outcome<Answer> {
    Ok(Answer::data(render(&session(&call).await?)))
}

/// `listChatMessages`: a page of the messages of a chat session, the oldest first.
pub async fn messages(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let id: ConversationId = session(&call).await?.id;
    let rows = Conversations(call.store()).messages(call.organization()?, id, page).await?;
    call.list(page, rows, |message| *message.id.as_bytes(), message)
}

#[derive(Deserialize)]
struct Send {
    content: String,
    #[serde(default)]
    stream: bool,
}

/// A message; the answer as a whole, or as a stream of events.
pub async fn send(call: Call) -> Outcome<Answer> {
    let body: Send = call.read()?;
    let session = session(&call).await?;
    let version = published(&call, call.organization()?, session.agent).await?;
    let keep = Keep::Conversation(session.id);
    let turn = turn(&call, session.agent, version.config, keep, Vec::new(), body.content)?;
    let begun = turn.begin(call.store()).await?;
    let warrant = Arc::new(call.permitted.warrant);
    let events = run(call.state.clone(), warrant.clone(), begun);
    if body.stream {
        return Ok(live::answer(warrant, events, Messages));
    }
    let done = finished(events).await?;
    live::check(&warrant)?;
    Ok(Answer::data(json!({
        "id": done.id.to_string(),
        "role": "assistant",
        "text": done.text,
        "at": instant(done.at),
        "sources": sources_json(&done.sources),
    })))
}

/// Waits for the end of a turn.
pub(super) async fn finished(mut events: Receiver<Event>) -> Outcome<crate::turn::Done> {
    while let Some(event) = events.recv().await {
        match event {
            Event::Done(done) => return Ok(done),
            Event::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
    or_internal(None, "a turn ended without a result")
}

/// Ends a session for good.
pub async fn end(call: Call) -> Outcome<Answer> {
    let (organization, environment) = (call.organization()?, call.caller()?.environment());
    let ended = Conversations(call.store()).end(organization, environment, call.id("id")?, call.now).await?;
    Ok(Answer::data(render(&ended)))
}
