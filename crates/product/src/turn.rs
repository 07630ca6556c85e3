//! One turn of a conversation, whatever it came in through: a question, what is found for it, the answer, what is kept.

use crate::answerer::{Answerers, Piece, Question, Source};
use crate::billing::{charge_message_in, return_message_in};
use crate::conversations::{Conversations, Heard, Outcome, Reply, Utterance, sources_json};
use crate::id::{AgentId, ConversationId, MessageId};
use crate::knowledge::{Passage, Retriever};
use crate::model::Usage;
use crate::skills::Skills;
use crate::skills::toolbox::{Called, Effect, Reach, Toolbox};
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::{Environment, Timestamp};
use flowyte_http::problem::{Code, Problem};
use flowyte_store::{InLane, Lane, Store, StoreError};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// Passages that an answer may lean on.
const PASSAGES: usize = 5;

/// What becomes of a turn besides its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It belongs to a conversation, is kept in it and charged.
    Conversation(ConversationId),
    /// It is charged, and its caller keeps it.
    Charge,
    /// Nothing: somebody tries the agent out, and no model is paid for it.
    Nothing,
}

/// A question to an agent.
pub struct Turn {
    /// The organization that the agent belongs to.
    pub organization: OrganizationId,
    /// The agent that is asked.
    pub agent: AgentId,
    /// In which world: tests are never charged.
    pub environment: Environment,
    /// The draft or the version that answers.
    pub config: Map<String, Value>,
    /// Whether the turn is kept in a conversation, only charged, or neither.
    pub keep: Keep,
    /// What was said before, oldest first. A kept conversation adds what it remembers.
    pub history: Vec<Utterance>,
    /// The question, as it was typed.
    pub text: String,
    /// How its caller wishes the answer to be made; see [`Question::wishes`].
    pub wishes: Map<String, Value>,
    /// The id of the question (`msg_…`), under which it is charged for once.
    pub message: MessageId,
    /// What makes the answer's id unique.
    pub random: [u8; 10],
    /// When the question came; its answer is dated later.
    pub at: Timestamp,
}

/// What a turn needs to run.
pub struct Means<'m> {
    /// Where it is kept, while its caller may still be answered.
    pub store: &'m dyn Store,
    /// Where what became of it is noted in any case.
    pub house: &'m dyn Store,
    /// Finds what the agent knows.
    pub retriever: &'m dyn Retriever,
    /// The answerers, one for each environment.
    pub answerers: &'m Answerers,
    /// What an agent's skills need to run.
    pub reach: &'m (dyn Fn(OrganizationId, AgentId) -> Reach + Send + Sync),
    /// Tells the time that answers are dated by.
    pub now: &'m (dyn Fn() -> Timestamp + Send + Sync),
}

/// What happens in a turn, as it happens. All but [`Event::Delta`] is what its receipt says.
#[derive(Debug)]
pub enum Event {
    /// The question, as it was typed.
    UserUtterance(String),
    /// The question, and the passages of the agent's knowledge that were found for it, best first.
    Retrieval(String, Vec<Passage>),
    /// A skill was called, whether or not it ran.
    Called(Box<Called>),
    /// More text of the answer; all of them together are the whole answer.
    Delta(String),
    /// The whole answer, with what it leans on.
    AgentMessage(String, Vec<Source>),
    /// It was kept, where it is kept at all.
    Done(Done),
    /// Something broke, so there is no answer and nothing follows; what was charged is given back, if that can be done.
    Failed(Broken),
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Something could not be read or kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Who answers did not. The text is for the operator.
    #[error("{0}")]
    Answerer(String),
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Store(error) => error.into(),
            // Logged where it was found.
            Broken::Answerer(_) => Self::new(
                Code::DependencyUnavailable,
                "The model does not answer at the moment; nothing was charged. Try again shortly.",
            ),
        }
    }
}

/// The end of a turn that went well.
#[derive(Clone, Debug)]
pub struct Done {
    /// The id of the answer (`msg_…`).
    pub id: MessageId,
    /// The whole text of the answer.
    pub text: String,
    /// The knowledge sources that the answer is based on.
    pub sources: Vec<Source>,
    /// When the answer was complete, at least a millisecond after its question.
    pub at: Timestamp,
    /// The time from the question to the whole answer, in milliseconds.
    pub duration_ms: i64,
    /// The tokens that a model took; `None` where no model answered, or not all of its requests were counted.
    pub usage: Option<Usage>,
    /// Whether the caller's limit on its length ended it.
    pub cut: bool,
    /// What became of the conversation, where it is over.
    pub outcome: Option<Outcome>,
}

impl Event {
    /// Its name and what it says, as receipts and simulations show it. `None`: only of interest while it happens.
    pub fn audit(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::UserUtterance(text) => Some(("user_utterance", json!({"text": text}))),
            Self::Retrieval(query, passages) => {
                let chunks: Vec<Value> = passages.iter().map(chunk).collect();
                let mut data = json!({"query": query, "chunks": chunks});
                if let Some(best) = passages.first() {
                    data["topScore"] = best.similarity.into();
                }
                Some(("kb_retrieval", data))
            }
            Self::AgentMessage(text, sources) => {
                Some(("agent_message", json!({"text": text, "sources": sources_json(sources)})))
            }
            Self::Called(called) => Some(("tool_call", called.to_json())),
            Self::Done(done) => {
                let mut data = json!({"durationMs": done.duration_ms});
                if let Some(usage) = &done.usage {
                    data["model"] = usage.model.clone().into();
                    data["promptTokens"] = usage.prompt_tokens.into();
                    data["completionTokens"] = usage.completion_tokens.into();
                }
                if let Some(outcome) = done.outcome {
                    data["outcome"] = outcome.as_str().into();
                }
                Some(("done", data))
            }
            Self::Delta(_) | Self::Failed(_) => None,
        }
    }
}

fn chunk(it: &Passage) -> Value {
    json!({
        "id": it.id.to_string(),
        "sourceId": it.source.to_string(),
        "label": it.label,
        "answer": it.text,
        "similarity": it.similarity,
    })
}

/// A turn that was heard and, where it is, charged.
pub struct Begun(Turn);

impl Turn {
    /// Hears the question: what is kept of it and what it costs is written before anything is answered.
    pub async fn begin(mut self, store: &dyn Store) -> Result<Begun, StoreError> {
        match self.keep {
            Keep::Conversation(conversation) => {
                let language = self.config.get("primaryLanguage").and_then(Value::as_str).unwrap_or_default();
                let heard = Heard { id: self.message, text: &self.text, language, at: self.at };
                let before = Conversations(store).hear(self.organization, conversation, &heard).await?;
                self.history.extend(before);
            }
            Keep::Charge => {
                let mut tx = store.batch().await?;
                charge_message_in(
                    &mut tx,
                    self.organization,
                    self.environment,
                    self.agent,
                    self.message,
                    self.at,
                )
                .await?;
                tx.commit().await?;
            }
            Keep::Nothing => {}
        }
        Ok(Begun(self))
    }
}

impl Begun {
    /// Answers, says what happens as it happens, and keeps it, whether or not somebody still listens.
    pub async fn run(self, means: Means<'_>, events: Sender<Event>) {
        let Self(turn) = &self;
        let _ = events.send(Event::UserUtterance(turn.text.clone())).await;
        let mut happened = Vec::new();
        let last = match turn.answer(&means, &events, &mut happened).await {
            Ok(done) => Event::Done(done),
            Err(error) => {
                turn.failed(&means, happened, &error).await;
                Event::Failed(error)
            }
        };
        let _ = events.send(last).await;
    }
}

/// The pieces of an answer, put together.
#[derive(Default)]
struct Given {
    text: String,
    sources: Vec<Source>,
    unknown: bool,
    usage: Option<Usage>,
    outcome: Option<Outcome>,
    cut: bool,
}

impl Turn {
    async fn answer(
        &self,
        means: &Means<'_>,
        events: &Sender<Event>,
        happened: &mut Vec<(&'static str, Value)>,
    ) -> Result<Done, Broken> {
        let passages =
            means.retriever.retrieve(self.organization, self.agent, &self.text, &[], PASSAGES).await?;
        let top_score = passages.first().map(|it| it.similarity);
        let retrieval = Event::Retrieval(self.text.clone(), passages.clone());
        happened.extend(retrieval.audit());
        let _ = events.send(retrieval).await;

        let given = self.listen(means, passages, events, happened).await?;
        // Ids order by milliseconds, and an answer comes after its question.
        let at = (means.now)().max(self.at.plus(1_000));
        let done = Done {
            id: MessageId::generate(at, self.random),
            text: given.text.clone(),
            sources: given.sources.clone(),
            at,
            duration_ms: at.since(self.at) / 1_000,
            usage: given.usage.clone(),
            cut: given.cut,
            outcome: given.outcome,
        };
        let message = Event::AgentMessage(given.text.clone(), given.sources.clone());
        happened.extend(message.audit());
        if let Keep::Conversation(conversation) = self.keep {
            self.keep_answer(means.store, conversation, given, top_score, &done, happened).await?;
        }
        let _ = events.send(message).await;
        Ok(done)
    }

    /// Takes the answer piece by piece, and says what happens.
    async fn listen(
        &self,
        means: &Means<'_>,
        passages: Vec<Passage>,
        events: &Sender<Event>,
        happened: &mut Vec<(&'static str, Value)>,
    ) -> Result<Given, Broken> {
        let skills = Skills(means.store).enabled(self.organization, self.agent).await?;
        let toolbox = Arc::new(Toolbox::new(skills, (means.reach)(self.organization, self.agent)));
        let question = Question {
            config: &self.config,
            text: &self.text,
            history: &self.history,
            passages,
            toolbox,
            wishes: &self.wishes,
        };
        let mut pieces = means.answerers.of(self.environment).answer(&question);
        let mut given = Given::default();
        while let Some(piece) = pieces.next().await {
            match piece {
                Piece::Text(more) => {
                    given.text.push_str(&more);
                    let _ = events.send(Event::Delta(more)).await;
                }
                Piece::Sources(named) => given.sources = named,
                Piece::Unknown => given.unknown = true,
                Piece::Called(called) => {
                    match called.effect {
                        Some(Effect::End) => given.outcome = given.outcome.or(Some(Outcome::Completed)),
                        Some(Effect::Transfer { .. }) => given.outcome = Some(Outcome::Transferred),
                        // It stands in the event, which the receipt shows.
                        Some(Effect::Message) | None => {}
                    }
                    let called = Event::Called(called);
                    happened.extend(called.audit());
                    let _ = events.send(called).await;
                }
                Piece::Usage(counted) => given.usage = Some(counted),
                Piece::Cut => given.cut = true,
                Piece::Failed(why) => return Err(Broken::Answerer(why)),
            }
        }
        Ok(given)
    }

    /// Keeps an answer in its conversation, with everything that happened.
    async fn keep_answer(
        &self,
        store: &dyn Store,
        conversation: ConversationId,
        given: Given,
        top_score: Option<f64>,
        done: &Done,
        happened: &[(&'static str, Value)],
    ) -> Result<(), StoreError> {
        let reply = Reply {
            id: done.id,
            text: given.text,
            sources: given.sources,
            unknown: given.unknown,
            top_score,
            latency_ms: done.duration_ms,
            outcome: given.outcome,
            at: done.at,
        };
        let mut all = happened.to_vec();
        all.extend(Event::Done(done.clone()).audit());
        Conversations(store).answer(self.organization, conversation, &self.text, &reply, &all).await
    }

    /// Notes what broke and gives back what the answer would have cost, if that can be done.
    async fn failed(&self, means: &Means<'_>, mut happened: Vec<(&'static str, Value)>, error: &Broken) {
        tracing::error!(%error, agent = %self.agent, "a question could not be answered");
        happened.push(("error", json!({"code": "dependency_unavailable"})));
        let now = (means.now)();
        let house = &InLane(means.house, Lane::product(self.organization));
        let noted = match self.keep {
            Keep::Nothing => return,
            Keep::Charge => self.give_back(house, now).await,
            Keep::Conversation(conversation) => {
                Conversations(house).fail(self.organization, conversation, self.message, &happened, now).await
            }
        };
        if let Err(error) = noted {
            tracing::error!(%error, message = %self.message, "a question that got no answer could not be given back");
        }
    }

    async fn give_back(&self, store: &dyn Store, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = store.batch().await?;
        return_message_in(&mut tx, self.organization, self.environment, self.message, now).await?;
        tx.commit().await
    }
}
