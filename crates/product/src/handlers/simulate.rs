//! Trying an agent out: what it would say, with nothing kept. A model's answers are charged.

use crate::Call;
use crate::agents::Agents;
use crate::conversations::{Speaker, Utterance};
use crate::handlers::chat::{published, run, trial, turn};
use crate::id::AgentId;
use crate::live::{self, Speech, event};
use crate::turn::Event;
use bytes::Bytes;
use flowyte_core::id::OrganizationId;
use flowyte_http::answer::Answer;
use flowyte_http::problem::{Outcome, Problem};
use flowyte_verifier::Verifier;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Simulate {
    #[serde(default = "yes")]
    draft_mode: bool,
    transcript: Vec<Said>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Said {
    role: String,
    text: String,
}

/// The draft, or the version that channels serve.
pub(super) async fn config(
    call: &Call,
    organization: OrganizationId,
    agent: AgentId,
    draft: bool,
) -> Outcome<Map<String, Value>> {
    match draft {
        true => Ok(Agents(call.store()).find(organization, agent).await?.config()),
        false => Ok(published(call, organization, agent).await?.config),
    }
}

/// Answers the last line of a transcript as the draft, or the live version, would.
pub async fn simulate(call: Call) -> Outcome<Answer> {
    let body: Simulate = call.read()?;
    let agent: AgentId = call.id("agentId")?;
    let config = config(&call, call.organization()?, agent, body.draft_mode).await?;
    let line = |it: Said| Speaker::parse(&it.role).map(|speaker| Utterance { speaker, text: it.text });
    let mut history: Vec<Utterance> = body.transcript.into_iter().filter_map(line).collect();
    let last = history.pop().filter(|it| it.speaker == Speaker::User).ok_or_else(|| {
        Problem::body("/transcript", "must end with a message of the user, which is the one that is answered")
    })?;
    let keep = trial(&call.state, call.environment()?);
    let begun = turn(&call, agent, config, keep, history, last.text)?.begin(call.store()).await?;
    let warrant = Arc::new(call.permitted.warrant);
    Ok(live::answer(warrant.clone(), run(call.state.clone(), warrant, begun), Audit))
}

/// Everything that a receipt would say.
struct Audit;

impl Speech for Audit {
    fn event(&mut self, verifier: &Verifier, happened: Event) -> Option<Bytes> {
        match happened {
            Event::Failed(error) => Some(live::failure(verifier, &error.into())),
            _ => happened.audit().map(|(name, data)| event(name, &data)),
        }
    }
}
