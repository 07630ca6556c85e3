//! Chat in the shape of OpenAI, so that clients made for it talk to an agent: the model is the agent's id.

use crate::answer::Answer;
use crate::app::App;
use crate::call::Call;
use crate::handlers::chat::{published, run, turn};
use crate::handlers::chat_sessions::finished;
use crate::live::{self, Speech};
use crate::problem::{Outcome, Problem};
use bytes::Bytes;
use flowyte_core::id::{AgentId, Id};
use flowyte_platform::conversations::{Line, Speaker};
use flowyte_platform::turn::{Event, Keep};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The one operation whose clients look for refusals where OpenAI puts them.
pub const OPERATION: &str = "createChatCompletion";

#[derive(Deserialize)]
struct Complete {
    model: String,
    messages: Vec<Said>,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: Content,
}

/// A text, or parts of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: String,
}

impl Said {
    fn line(self) -> Option<Line> {
        let text = match self.content {
            Content::Text(text) => text,
            Content::Parts(parts) => parts.into_iter().map(|it| it.text).collect(),
        };
        Speaker::parse(&self.role).map(|speaker| Line { speaker, text })
    }
}

/// Answers the last message. The conversation is its caller's: nothing of it is kept.
pub async fn complete(call: Call) -> Outcome<Answer> {
    let body: Complete = call.read()?;
    let agent = AgentId::parse(&body.model).ok_or_else(Problem::not_found)?;
    let config = published(&call, call.organization()?, agent).await?.config;
    let mut history: Vec<Line> = body.messages.into_iter().filter_map(Said::line).collect();
    let last = history.pop().filter(|it| it.speaker == Speaker::User && !it.text.trim().is_empty());
    let last = last.ok_or_else(|| {
        Problem::body("/messages", "must end with something that the user says, which is what is answered")
    })?;
    let turn = turn(&call, agent, config, Keep::Charge, history, last.text)?;
    let id: String = turn.message.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let head =
        Head { id: format!("chatcmpl-{id}"), created: call.now.as_millis() / 1_000, model: body.model };
    let begun = turn.begin(call.store()).await?;
    let warrant = Arc::new(call.warrant);
    let events = run(warrant.clone(), begun);
    if body.stream {
        return Ok(live::answer(warrant, events, Chunks { head, begun: false }));
    }
    let done = finished(events).await?;
    warrant.stands()?;
    let message = json!({"role": "assistant", "content": done.text});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    Ok(Answer::json(head.object("chat.completion", choice).to_string().into()))
}

/// What a completion and each chunk of it begin with.
struct Head {
    id: String,
    created: i64,
    model: String,
}

impl Head {
    fn object(&self, kind: &str, choice: Value) -> Value {
        json!({"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": [choice]})
    }
}

/// A completion, chunk by chunk.
struct Chunks {
    head: Head,
    begun: bool,
}

fn data(what: &Value) -> String {
    format!("data: {what}\n\n")
}

impl Chunks {
    fn chunk(&self, delta: Value, finish: Option<&str>) -> String {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        data(&self.head.object("chat.completion.chunk", choice))
    }
}

impl Speech for Chunks {
    fn event(&mut self, app: &App, happened: Event) -> Option<Bytes> {
        match happened {
            Event::Delta(text) => {
                let delta = match std::mem::replace(&mut self.begun, true) {
                    false => json!({"role": "assistant", "content": text}),
                    true => json!({"content": text}),
                };
                Some(self.chunk(delta, None).into())
            }
            Event::Done(_) => Some((self.chunk(json!({}), Some("stop")) + "data: [DONE]\n\n").into()),
            Event::Failed(error) => Some(self.failure(app, &error.into())),
            Event::UserUtterance(_) | Event::Retrieval(..) | Event::Called(_) | Event::AgentMessage(..) => {
                None
            }
        }
    }

    /// The clients raise what has a member `error`.
    fn failure(&self, app: &App, problem: &Problem) -> Bytes {
        let mut document = live::document(app, problem);
        document["error"] = problem.openai();
        data(&document).into()
    }
}
