//! Chat in the shape of OpenAI, so that clients made for it talk to an agent: the model is the agent's id.

use crate::Call;
use crate::agents::{Agent, Agents};
use crate::conversations::{Speaker, Utterance};
use crate::handlers::chat::{published, run, turn};
use crate::handlers::chat_sessions::finished;
use crate::id::AgentId;
use crate::live::{self, Speech};
use crate::turn::{Done, Event, Keep};
use bytes::Bytes;
use flowyte_core::id::Id;
use flowyte_http::answer::Answer;
use flowyte_http::problem::{Outcome, Problem};
use flowyte_store::Page;
use flowyte_verifier::Verifier;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What shapes an answer, and goes on to the model where one answers.
const WISHES: [&str; 8] = [
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "seed",
];

#[derive(Deserialize)]
struct Complete {
    model: String,
    messages: Vec<Said>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    /// Null where an assistant called tools.
    content: Option<Content>,
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
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl Said {
    /// As a line of what was said; `None` where nothing was. `index`: of the message.
    fn line(self, index: usize) -> Outcome<Option<Utterance>> {
        let mut text = String::new();
        match self.content {
            None => return Ok(None),
            Some(Content::Text(whole)) => text = whole,
            Some(Content::Parts(parts)) => {
                for (number, part) in parts.into_iter().enumerate() {
                    let pointer = || format!("/messages/{index}/content/{number}/type");
                    match (part.kind.as_str(), part.text) {
                        ("text", Some(more)) => text.push_str(&more),
                        // What an assistant would not say is nothing that was said.
                        ("refusal", _) => {}
                        _ => {
                            return Err(Problem::body(
                                pointer(),
                                "must be text, with a `text`; agents read nothing else",
                            ));
                        }
                    }
                }
            }
        }
        let speaker = match self.role.as_str() {
            "developer" => Some(Speaker::System),
            "function" => Some(Speaker::Tool),
            role => Speaker::parse(role),
        };
        Ok(speaker.map(|speaker| Utterance { speaker, text }))
    }
}

/// Whether a value of a field asks for something.
type Asks = fn(&Value) -> bool;

/// Fields that ask for what is not done, each with whether a value of it asks, and what is taken. To pass over them would let a caller
/// believe that it was done; whatever else is not known is passed over, as OpenAI's clients expect.
const NOT_DONE: [(&str, Asks, &str); 8] = [
    ("response_format", |it| it["type"] != "text", "must be of the type text: answers are plain text"),
    (
        "tool_choice",
        compels,
        "must be auto or none: an agent calls its own skills and never the caller's tools",
    ),
    (
        "function_call",
        compels,
        "must be auto or none: an agent calls its own skills and never the caller's functions",
    ),
    ("logprobs", |it| *it != Value::Bool(false), "must be false: probabilities are not available"),
    ("top_logprobs", |it| *it != json!(0), "must be left out: probabilities are not available"),
    (
        "logit_bias",
        |it| it.as_object().is_none_or(|it| !it.is_empty()),
        "must be left out: tokens can't be weighed",
    ),
    ("modalities", |it| *it != json!(["text"]), "must be [\"text\"]: answers are plain text"),
    ("web_search_options", |_| true, "must be left out: answers come from what the agent knows"),
];

/// Whether a choice of tools compels a call.
fn compels(choice: &Value) -> bool {
    match choice.as_str() {
        Some(word) => !matches!(word, "auto" | "none"),
        None => choice["type"] != "allowed_tools" || choice["allowed_tools"]["mode"] != "auto",
    }
}

fn refuse_what_is_not_done(body: &Value) -> Outcome<()> {
    let asked = NOT_DONE
        .iter()
        .find(|(field, asks, _)| body.get(*field).is_some_and(|value| !value.is_null() && asks(value)));
    asked.map_or(Ok(()), |(field, _, why)| Err(Problem::body(format!("/{field}"), *why)))
}

/// Answers the last message. The conversation is its caller's: nothing of it is kept.
pub async fn complete(call: Call) -> Outcome<Answer> {
    refuse_what_is_not_done(&call.body)?;
    let body: Complete = call.read()?;
    let agent = AgentId::parse(&body.model).ok_or_else(Problem::not_found)?;
    let config = published(&call, call.organization()?, agent).await?.config;
    let mut history = Vec::new();
    for (index, said) in body.messages.into_iter().enumerate() {
        history.extend(said.line(index)?);
    }
    let last = history.pop().filter(|it| it.speaker == Speaker::User && !it.text.trim().is_empty());
    let last = last.ok_or_else(|| {
        Problem::body("/messages", "must end with a message of the user, which is the one that is answered")
    })?;
    let prompt_words = history.iter().chain([&last]).map(|it| words(&it.text)).sum();
    let mut turn = turn(&call, agent, config, Keep::Charge, history, last.text)?;
    let wishes = WISHES.iter().filter_map(|it| Some(((*it).to_owned(), call.body.get(*it)?.clone())));
    turn.wishes = wishes.filter(|(_, value)| !value.is_null()).collect();
    let id: String = turn.message.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let head = Head {
        id: format!("chatcmpl-{id}"),
        created: call.now.as_millis() / 1_000,
        model: body.model,
        prompt_words,
    };
    let begun = turn.begin(call.store()).await?;
    let warrant = Arc::new(call.permitted.warrant);
    let events = run(call.state.clone(), warrant.clone(), begun);
    if body.stream == Some(true) {
        let with_usage = body.stream_options.unwrap_or_default().include_usage == Some(true);
        let chunks = Chunks { head, begun: false, with_usage };
        return Ok(live::answer(warrant, events, chunks));
    }
    let done = finished(events).await?;
    live::check(&warrant)?;
    let message = json!({"role": "assistant", "content": done.text, "refusal": null});
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish(&done)});
    let mut completion = head.object("chat.completion", json!([choice]));
    completion["usage"] = head.usage(&done);
    Ok(Answer::json(completion.to_string().into()))
}

fn finish(done: &Done) -> &'static str {
    if done.cut { "length" } else { "stop" }
}

/// What is counted where no model counts tokens.
fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// The organization's agents as models, newest first.
pub async fn models(call: Call) -> Outcome<Answer> {
    let after = call.query.get("after").map(|it| {
        AgentId::parse(it)
            .map(|it| *it.as_bytes())
            .ok_or_else(|| Problem::query("after", "is not an agent's id"))
    });
    let page = Page { limit: call.query.get_u32("limit").unwrap_or(100), before: after.transpose()? };
    let mut rows = Agents(call.store()).list(call.organization()?, page).await?;
    let more = rows.len() > page.limit as usize;
    rows.truncate(page.limit as usize);
    let models: Vec<Value> = rows.iter().map(model).collect();
    Ok(Answer::json(json!({"object": "list", "data": models, "has_more": more}).to_string().into()))
}

/// One agent as a model.
pub async fn one_model(call: Call) -> Outcome<Answer> {
    let row = Agents(call.store()).find(call.organization()?, call.id("agentId")?).await?;
    Ok(Answer::json(model(&row).to_string().into()))
}

fn model(agent: &Agent) -> Value {
    json!({
        "id": agent.id.to_string(),
        "object": "model",
        "created": agent.created_at.as_millis() / 1_000,
        "owned_by": agent.organization.to_string(),
    })
}

/// What a completion and each chunk of it begin with.
struct Head {
    id: String,
    created: i64,
    model: String,
    /// How many words came in.
    prompt_words: u64,
}

impl Head {
    fn object(&self, kind: &str, choices: Value) -> Value {
        json!({"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices})
    }

    /// The model's tokens; words where there was no model, or one that did not count.
    fn usage(&self, done: &Done) -> Value {
        let (prompt, completion) = match &done.usage {
            Some(usage) => (usage.prompt_tokens, usage.completion_tokens),
            None => (self.prompt_words, words(&done.text)),
        };
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
    }
}

/// A completion, chunk by chunk.
struct Chunks {
    head: Head,
    begun: bool,
    with_usage: bool,
}

fn data(what: &Value) -> String {
    format!("data: {what}\n\n")
}

impl Chunks {
    fn chunk(&self, delta: Value, finish: Option<&str>) -> String {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        self.framed(json!([choice]), Value::Null)
    }

    fn framed(&self, choices: Value, usage: Value) -> String {
        let mut chunk = self.head.object("chat.completion.chunk", choices);
        if self.with_usage {
            chunk["usage"] = usage;
        }
        data(&chunk)
    }
}

impl Speech for Chunks {
    fn event(&mut self, verifier: &Verifier, happened: Event) -> Option<Bytes> {
        match happened {
            Event::Delta(text) => {
                let delta = match std::mem::replace(&mut self.begun, true) {
                    false => json!({"role": "assistant", "content": text}),
                    true => json!({"content": text}),
                };
                Some(self.chunk(delta, None).into())
            }
            Event::Done(done) => {
                let mut last = self.chunk(json!({}), Some(finish(&done)));
                if self.with_usage {
                    last.push_str(&self.framed(json!([]), self.head.usage(&done)));
                }
                Some((last + "data: [DONE]\n\n").into())
            }
            Event::Failed(error) => Some(self.failure(verifier, &error.into())),
            Event::UserUtterance(_) | Event::Retrieval(..) | Event::Called(_) | Event::AgentMessage(..) => {
                None
            }
        }
    }

    /// The clients raise what has a member `error`.
    fn failure(&self, verifier: &Verifier, problem: &Problem) -> Bytes {
        let mut document = live::document(verifier, problem);
        document["error"] = openai(problem);
        data(&document).into()
    }
}

/// A refusal with what clients made for OpenAI look for in it: a member `error`.
pub fn refused(problem: Problem) -> Problem {
    let error = openai(&problem);
    problem.with("error", error)
}

/// A problem as OpenAI's clients read it. They show its message alone, so that names the fields.
fn openai(problem: &Problem) -> Value {
    let errors = problem.member("errors").and_then(Value::as_array);
    let named = |it: &Value| {
        format!("{} {}", it["field"].as_str().unwrap_or_default(), it["message"].as_str().unwrap_or_default())
    };
    let message = errors.map(|it| it.iter().map(named).collect::<Vec<_>>().join("; "));
    let kind = match problem.code().status() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({
        "message": message.as_deref().unwrap_or(problem.detail()),
        "type": kind,
        "param": errors.and_then(|it| it.first()).map(|it| it["field"].clone()),
        "code": problem.code().as_str(),
    })
}
