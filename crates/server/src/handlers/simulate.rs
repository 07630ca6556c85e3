//! Trying an agent out: what it would say, with nothing kept and nothing counted.

use crate::answer::Answer;
use crate::app::or_internal;
use crate::call::Call;
use crate::handlers::chat::{EVENTS, PASSAGES, published, sources};
use crate::live::{self, event};
use crate::problem::{Outcome, Problem};
use flowyte_core::id::AgentId;
use flowyte_platform::agents::Agents;
use flowyte_platform::answerer::{Piece, Question};
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
    let passages = call.app.retriever.retrieve(organization, agent, &text.text, &[], PASSAGES).await?;
    let question = Question { config: &config, text: &text.text, first, passages };
    let mut pieces = call.app.answerer.answer(&question);
    let (events, received) = mpsc::channel(EVENTS);
    let heard = event("user_utterance", &json!({"text": text.text}));
    tokio::spawn(async move {
        // Whoever listens no longer needs no answer: nothing of this is kept.
        events.send(heard).await.ok()?;
        let (mut said, mut named) = (String::new(), Vec::new());
        while let Some(piece) = pieces.next().await {
            match piece {
                Piece::Text(piece) => said.push_str(&piece),
                Piece::Sources(sources) => named = sources,
                Piece::Unknown => {}
            }
        }
        events.send(event("agent_message", &json!({"text": said, "sources": sources(&named)}))).await.ok()?;
        events.send(event("done", &json!({}))).await.ok()
    });
    Ok(live::answer(call.app.clone(), or_internal(call.digest, "a caller has no digest")?, received))
}
