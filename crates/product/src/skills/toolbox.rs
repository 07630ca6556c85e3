//! Running skills. A model calls them as tools; for the embedded answerer a visitor writes the skill's trigger: `/name`, then
//! nothing, a JSON object of arguments, or the only required argument as it is.
//!
//! What needs a confirmation is asked for in one fixed sentence that names the skill and its arguments, and runs only if the
//! visitor's next message is a yes. So what a yes means stands in the conversation itself, for the visitor to read as for us.

use crate::answerer::{KNOWS, Source};
use crate::conversations::{Speaker, Utterance};
use crate::id::{AgentId, SkillId};
use crate::knowledge::{Passage, Retriever};
use crate::outbound::{Limits, Outbound, Outgoing};
use crate::skills::{Action, Config, Method, Skill, is_in_query, tool};
use crate::texts::work_out;
use crate::words::words;
use flowyte_core::id::OrganizationId;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;

/// Most bytes that a webhook may answer.
const LONGEST_ANSWER: usize = 65_536;
/// Longest arguments of a call, as JSON.
const LONGEST_ARGUMENTS: usize = 16_384;
/// Characters of what came of a call that the model reads and receipts show.
const LONGEST_RESULT: usize = 8_000;
/// Characters of it that a visitor is told.
const LONGEST_SAID: usize = 2_000;
/// Passages that a look-up finds.
const PASSAGES: usize = 5;

/// How the question for a confirmation begins and ends.
const ASK: &str = "Shall I run ";
const ASK_END: &str = "? Please answer yes or no.";
/// Messages that are a yes, without what stands around their words.
const YES: [&str; 28] = [
    "yes",
    "y",
    "yes please",
    "yes do it",
    "yep",
    "yeah",
    "sure",
    "ok",
    "okay",
    "go ahead",
    "yes go ahead",
    "do it",
    "please do",
    "confirm",
    "confirmed",
    "correct",
    "ja",
    "ja bitte",
    "jawohl",
    "sí",
    "si",
    "sí por favor",
    "claro",
    "oui",
    "d'accord",
    "sì",
    "sim",
    "tak",
];
/// Messages that are a no.
const NO: [&str; 13] = [
    "no",
    "n",
    "no thanks",
    "no thank you",
    "nope",
    "don't",
    "cancel",
    "stop",
    "nein",
    "nein danke",
    "non",
    "não",
    "nie",
];

/// Opens the header fields of a webhook.
pub type Open = dyn Fn(&Skill) -> Option<HeaderMap> + Send + Sync;

/// What the skills of one agent need to run.
pub struct Reach {
    /// The organization that the agent belongs to.
    pub organization: OrganizationId,
    /// The agent whose skills and knowledge they are.
    pub agent: AgentId,
    /// Asks webhooks at public addresses only.
    pub outbound: Arc<Outbound>,
    /// Looks things up in the agent's knowledge.
    pub retriever: Arc<dyn Retriever>,
    /// Opens the sealed header fields of a webhook; `None` where that can't be done.
    pub open: Box<Open>,
}

words! {
    /// What came of a call.
    Status {
        /// It ran, and what it was to do is done.
        Succeeded = "succeeded",
        /// It ran and went wrong.
        Failed = "failed",
        /// It did not run: there is no such skill, or the arguments do not fit.
        Refused = "refused",
        /// It waits for the visitor's yes.
        Asked = "awaiting_confirmation",
    }
}

/// What a call does to the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is over, and completed.
    End,
    /// It is over, and people take over.
    Transfer {
        /// Where the conversation goes, in the customer's words: a team, a number, an address.
        destination: String,
    },
    /// Something is to be passed on; it stands in the call's arguments.
    Message,
}

impl Effect {
    /// Whether the conversation is over.
    pub const fn ends(&self) -> bool {
        matches!(self, Self::End | Self::Transfer { .. })
    }
}

/// A call of a skill, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    /// Which skill; `None` where there is none of that name.
    pub skill: Option<SkillId>,
    /// What it was called by.
    pub tool: String,
    /// What it is called with, as it was given.
    pub arguments: Value,
    /// Whether the skill ran, and how that went.
    pub status: Status,
    /// The same in full: what the model reads and receipts show.
    pub result: String,
    /// The same in words for the visitor.
    pub said: String,
    /// What it does to the conversation.
    pub effect: Option<Effect>,
    /// What the result leans on.
    pub sources: Vec<Source>,
    /// It looked something up and found nothing that answers.
    pub unknown: bool,
    /// How long the call took, in milliseconds.
    pub took_ms: u64,
}

impl Called {
    /// As streams and receipts show it: the `tool_call` event.
    pub fn to_json(&self) -> Value {
        let mut event = json!({
            "skillId": self.skill.map(|it| it.to_string()),
            "name": self.tool,
            "arguments": self.arguments,
            "status": self.status.as_str(),
            "result": self.result,
            "latencyMs": self.took_ms,
        });
        if let Some(Effect::Transfer { destination }) = &self.effect {
            event["destination"] = destination.clone().into();
        }
        event
    }
}

/// A call that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What the skill is called by.
    pub tool: String,
    /// What it is called with, as it was given.
    pub arguments: Value,
    /// The visitor said yes to exactly this.
    pub confirmed: bool,
}

/// What a visitor's message says about skills.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// To run a skill: the message is its trigger, or a yes to the question for a confirmation.
    Run(Request),
    /// Not to run what was asked about.
    Decline,
    /// To run one, with arguments that can't be read.
    Unreadable(String),
}

/// What came of a skill, before it is written up.
struct Outcome {
    status: Status,
    result: String,
    said: String,
    effect: Option<Effect>,
    sources: Vec<Source>,
    unknown: bool,
}

impl Outcome {
    fn good(result: impl Into<String>, said: impl Into<String>) -> Self {
        Self {
            status: Status::Succeeded,
            result: result.into(),
            said: said.into(),
            effect: None,
            sources: Vec::new(),
            unknown: false,
        }
    }

    fn bad(status: Status, result: impl Into<String>, said: impl Into<String>) -> Self {
        Self { status, ..Self::good(result, said) }
    }

    fn with(self, effect: Effect) -> Self {
        Self { effect: Some(effect), ..self }
    }
}

/// What one agent can do, for the length of a turn.
#[derive(Default)]
pub struct Toolbox {
    skills: Vec<Skill>,
    reach: Option<Reach>,
}

impl Toolbox {
    /// Of an agent's enabled skills.
    pub fn new(skills: Vec<Skill>, reach: Reach) -> Self {
        Self { skills, reach: Some(reach) }
    }

    /// All that the agent may call.
    pub fn skills(&self) -> &[Skill] {
        &self.skills
    }

    fn find(&self, name: &str) -> Option<&Skill> {
        self.skills.iter().find(|it| it.tool() == name)
    }

    /// What the visitor answered to the last question for a confirmation, if there was one and this is an answer.
    pub fn confirmed(&self, text: &str, history: &[Utterance]) -> Option<Wish> {
        let last = history.last().filter(|it| it.speaker == Speaker::Assistant)?;
        let (tool, arguments) = asked(&last.text)?;
        self.find(&tool).filter(|it| it.requires_confirmation)?;
        let plain = text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let plain: String = plain.replace('’', "'").replace([',', '.', '!'], " ");
        let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        match plain.as_str() {
            word if YES.contains(&word) => Some(Wish::Run(Request { tool, arguments, confirmed: true })),
            word if NO.contains(&word) => Some(Wish::Decline),
            _ => None,
        }
    }

    /// What a visitor's message says about skills by itself: a trigger, or the answer to a question for a confirmation.
    pub fn wish(&self, text: &str, history: &[Utterance]) -> Option<Wish> {
        self.confirmed(text, history).or_else(|| self.triggered(text))
    }

    fn triggered(&self, text: &str) -> Option<Wish> {
        let text = text.trim().strip_prefix('/')?;
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let skill = self.find(&tool(word))?;
        let arguments = match rest.trim() {
            "" => json!({}),
            object if object.starts_with('{') => match serde_json::from_str(object) {
                Ok(arguments) => arguments,
                Err(_) => {
                    return Some(Wish::Unreadable(
                        "What comes after the name of the skill is not a JSON object.".into(),
                    ));
                }
            },
            words => match skill.parameters.sole_text() {
                Some(name) => Value::Object(Map::from_iter([(name.to_owned(), words.into())])),
                None => {
                    let message = format!("/{} takes a JSON object of arguments.", skill.tool());
                    return Some(Wish::Unreadable(message));
                }
            },
        };
        Some(Wish::Run(Request { tool: skill.tool(), arguments, confirmed: false }))
    }

    /// Makes a call, or asks for a confirmation first. `history`: what was said before it.
    pub async fn call(&self, request: Request, history: &[Utterance]) -> Called {
        let begun = Instant::now();
        let skill = self.find(&request.tool);
        let outcome = match (skill, &self.reach) {
            (None, _) => Outcome::bad(Status::Refused, "There is no such skill.", "I can't do that."),
            (Some(_), None) => Outcome::bad(Status::Failed, "Skills can't run here.", "I can't do that."),
            (Some(skill), Some(reach)) => match fits(reach.organization, skill, &request.arguments).await {
                Err(why) => {
                    let why = format!("The arguments do not fit: {why}.");
                    Outcome::bad(Status::Refused, why.clone(), why)
                }
                Ok(()) if skill.requires_confirmation && !request.confirmed => Outcome::bad(
                    Status::Asked,
                    "It has not run: the visitor is asked for a confirmation first.",
                    question(&request.tool, &request.arguments),
                ),
                Ok(()) => reach.act(skill, &request.arguments, history).await,
            },
        };
        Called {
            skill: skill.map(|it| it.id),
            tool: request.tool,
            arguments: request.arguments,
            status: outcome.status,
            result: cut(&outcome.result, LONGEST_RESULT),
            said: cut(&outcome.said, LONGEST_SAID),
            effect: outcome.effect,
            sources: outcome.sources,
            unknown: outcome.unknown,
            took_ms: begun.elapsed().as_millis() as u64,
        }
    }
}

impl Reach {
    async fn act(&self, skill: &Skill, arguments: &Value, history: &[Utterance]) -> Outcome {
        match &skill.config {
            Config::Webhook { .. } => self.webhook(skill, arguments).await,
            Config::Knowledge => self.look_up(arguments["query"].as_str().unwrap_or_default()).await,
            Config::Transfer { destination } => {
                let said = format!("I'm handing you over to {destination}.");
                let effect = Effect::Transfer { destination: destination.clone() };
                Outcome::good("The conversation is handed over to people.", said).with(effect)
            }
            Config::Builtin(Action::EndCall) => {
                Outcome::good("The conversation is over.", "Goodbye.").with(Effect::End)
            }
            Config::Builtin(Action::TakeMessage) => Outcome::good(
                "The message is kept and will be read.",
                "Thank you, I have noted your message.",
            )
            .with(Effect::Message),
            Config::Builtin(Action::Repeat) => {
                let said = history.iter().rev().find(|it| it.speaker == Speaker::Assistant);
                let said = said.map_or("I have not said anything yet.", |it| it.text.as_str());
                Outcome::good(said, said)
            }
        }
    }

    async fn webhook(&self, skill: &Skill, arguments: &Value) -> Outcome {
        const SORRY: &str = "That did not work. Please try again later.";
        let failed = |why: String| Outcome::bad(Status::Failed, why, SORRY);
        let Config::Webhook { url, method, timeout_ms, .. } = &skill.config else {
            return failed("It is no webhook.".into());
        };
        let Some(mut headers) = (self.open)(skill) else {
            tracing::error!(skill = %skill.id, "a webhook's header fields can't be opened");
            return failed("Its header fields can't be opened; set them again.".into());
        };
        let taken = arguments.as_object().into_iter().flat_map(Map::keys);
        let taken = Url::parse(url).ok().and_then(|url| taken.clone().find(|name| is_in_query(&url, name)));
        if let Some(name) = taken {
            return failed(format!("The query of its URL has `{name}` already, so it can't be an argument."));
        }
        let (url, body) = match method {
            Method::Get | Method::Delete => match with_query(url, arguments) {
                Some(url) => (url, String::new()),
                None => return failed("Its URL can't be read.".into()),
            },
            Method::Post | Method::Put | Method::Patch => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                (url.clone(), arguments.to_string())
            }
        };
        let method = match method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let limits = Limits { bytes: LONGEST_ANSWER, time: Duration::from_millis((*timeout_ms).into()) };
        let answer =
            match self.outbound.send(Outgoing { method, url, headers, body: body.into() }, limits).await {
                Err(refusal) => return failed(refusal.to_string()),
                Ok(answer) => answer,
            };
        let text = String::from_utf8_lossy(&answer.body);
        if !(200..300).contains(&answer.status) {
            return failed(format!("The service answers {}: {text}", answer.status));
        }
        let said = match serde_json::from_slice::<Value>(&answer.body) {
            Ok(value) => match value.get("message").and_then(Value::as_str) {
                Some(message) => message.to_owned(),
                None => value.to_string(),
            },
            Err(_) if text.trim().is_empty() => "Done.".to_owned(),
            Err(_) => text.trim().to_owned(),
        };
        Outcome::good(text, said)
    }

    async fn look_up(&self, query: &str) -> Outcome {
        let found = self.retriever.retrieve(self.organization, self.agent, query, &[], PASSAGES).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "knowledge can't be looked up");
                return Outcome::bad(
                    Status::Failed,
                    "The knowledge can't be read.",
                    "I can't look that up now.",
                );
            }
        };
        let passages: Vec<Value> = found.iter().map(passage).collect();
        let result = Value::from(passages).to_string();
        match found.first().filter(|it| it.similarity >= KNOWS) {
            None => Outcome { unknown: true, ..Outcome::good(result, "I found nothing about that.") },
            Some(best) => {
                let source = Source { id: best.source, label: best.label.clone(), url: best.url.clone() };
                Outcome { sources: vec![source], ..Outcome::good(result, &best.text) }
            }
        }
    }
}

/// A passage as a model reads it.
pub(crate) fn passage(it: &Passage) -> Value {
    let mut data = json!({"label": it.label, "text": it.text});
    if let Some(question) = &it.question {
        data["question"] = question.clone().into();
    }
    data
}

/// Arguments as parameters of a query: texts as they are, anything else as JSON.
fn with_query(url: &str, arguments: &Value) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    let members = arguments.as_object().filter(|it| !it.is_empty());
    if let Some(members) = members {
        let mut pairs = url.query_pairs_mut();
        for (name, value) in members {
            match value {
                Value::Null => {}
                Value::String(text) => drop(pairs.append_pair(name, text)),
                other => drop(pairs.append_pair(name, &other.to_string())),
            }
        }
    }
    Some(url.into())
}

/// Holds arguments against the skill's schema, whose cost is the customer's choice.
async fn fits(organization: OrganizationId, skill: &Skill, arguments: &Value) -> Result<(), String> {
    if arguments.to_string().len() > LONGEST_ARGUMENTS {
        return Err(format!("they are longer than {LONGEST_ARGUMENTS} bytes"));
    }
    let (parameters, arguments) = (skill.parameters.clone(), arguments.clone());
    work_out(organization, move || parameters.check(&arguments)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "arguments could not be checked");
        Err("they could not be checked".into())
    })
}

fn question(tool: &str, arguments: &Value) -> String {
    format!("{ASK}{tool} with {arguments}{ASK_END}")
}

/// The call that a message of the agent asks about in its last sentence.
fn asked(said: &str) -> Option<(String, Value)> {
    let said = said.trim_end().strip_suffix(ASK_END)?;
    said.match_indices(ASK).find_map(|(at, _)| {
        let (tool, arguments) = said[at + ASK.len()..].split_once(" with ")?;
        let arguments: Value = serde_json::from_str(arguments).ok().filter(Value::is_object)?;
        Some((tool.to_owned(), arguments))
    })
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_question_for_a_confirmation_says_again_what_it_asks(before in "\\PC{0,40}", tool in "[a-z0-9_]{1,20}", text in "\\PC{0,60}") {
            let arguments = json!({"text": text, "more": [1, {"x": null}]});
            let said = format!("{before}\n\n{}", question(&tool, &arguments));
            proptest::prop_assert_eq!(asked(&said), Some((tool, arguments)));
        }

        #[test]
        fn nothing_else_asks(said in "\\PC{0,80}") {
            proptest::prop_assert_eq!(asked(&said), None);
        }
    }

    #[test]
    fn arguments_become_a_query() {
        let url =
            with_query("https://x.example/a?b=1", &json!({"c": "d e&f", "n": 2, "none": null, "list": [1]}));
        assert_eq!(url.as_deref(), Some("https://x.example/a?b=1&c=d+e%26f&n=2&list=%5B1%5D"));
        assert_eq!(with_query("https://x.example/a", &json!({})).as_deref(), Some("https://x.example/a"));
    }
}
