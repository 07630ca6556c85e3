//! Trying an agent out: what it would say, with nothing kept and nothing counted.

use crate::answer::Answer;
use crate::app::or_internal;
use crate::call::Call;
use crate::handlers::chat::{EVENTS, published};
use crate::live::{self, event};
use crate::problem::{Outcome, Problem};
use flowyte_core::id::AgentId;
use flowyte_platform::agents::Agents;
use flowyte_platform::answerer::Question;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Simulate {
    #[serde(default = "yes")]
    draft_mode: bool,
    transcript: Vec<Line>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Line {
    role: String,
    text: String,
}

/// Answers the last line of a transcript as the draft, or the live version, would.
pub async fn simulate(call: Call) -> Outcome<Answer> {
    let body: Simulate = call.read()?;
    let (organization, agent) = (call.organization()?, call.id::<AgentId>("agentId")?);
    let config = match body.draft_mode {
        true => Agents(call.store()).find(organization, agent).await?.config(),
        false => published(&call, organization, agent).await?.config,
    };
    let last = body.transcript.last().filter(|it| it.role == "user");
    let text = last.ok_or_else(|| {
        Problem::field("transcript", "must end with a line of the user, which is what is answered")
    })?;
    let first = body.transcript.len() == 1;
    let mut pieces = call.app.answerer.answer(&Question { config: &config, text: &text.text, first });
    let (events, received) = mpsc::channel(EVENTS);
    let heard = event("user_utterance", &json!({"text": text.text}));
    tokio::spawn(async move {
        // Whoever listens no longer needs no answer: nothing of this is kept.
        events.send(heard).await.ok()?;
        let mut said = String::new();
        while let Some(piece) = pieces.next().await {
            said.push_str(&piece);
        }
        events.send(event("agent_message", &json!({"text": said}))).await.ok()?;
        events.send(event("done", &json!({}))).await.ok()
    });
    Ok(live::answer(call.app.clone(), or_internal(call.digest, "a caller has no digest")?, received))
}
