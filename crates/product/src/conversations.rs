//! Conversations: what was said, what happened, what came of it, and finding them again.

use crate::agents::AgentIsThere;
use crate::answerer::Source;
use crate::billing::{charge_message_in, return_message_in};
use crate::gaps;
use crate::gist::{Gist, Question};
use crate::id::{AgentId, ConversationId, KnowledgeSourceId, MessageId};
use crate::knowledge::analysis::{language, terms, told_language};
use crate::mood::{Mood, Sentiment};
use crate::texts::work_out;
use crate::words::words;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::time::MINUTE;
use flowyte_core::{Environment, Timestamp};
use flowyte_store::db::id;
use flowyte_store::{BatchTx, Claim, Once, Page, ReadTx, Row, Store, StoreError, Value};
use serde_json::json;
use std::collections::BTreeSet;

/// A conversation that nobody went on with for this long is over.
pub const IDLE: i64 = 30 * MINUTE;
/// Earlier messages that an answer may draw on.
const REMEMBERED: i64 = 20;
/// Different words of one message that can be found again.
const MOST_WORDS: usize = 600;
/// Words that one search looks for.
pub const MOST_SEARCHED: usize = 16;
/// Messages that a summary is made from where nothing was noted on the way.
const SUMMED_UP: i64 = 400;

words! {
    /// Who said something in a conversation.
    Speaker {
        /// Whoever set the conversation up; never stored.
        System = "system",
        /// The visitor, or the program that asks for one.
        User = "user",
        /// The agent that answers.
        Assistant = "assistant",
        /// What a tool of the caller found; never stored.
        Tool = "tool",
    }
}

words! {
    /// How a conversation was opened, and so who may go on with it.
    Via {
        /// By a visitor of a page.
        Widget = "widget",
        /// By a backend or a member.
        Session = "session",
        /// With a talk token, over a WebSocket.
        Talk = "talk",
    }
}

words! {
    /// What a conversation came to.
    Outcome {
        /// The last question was answered, or the caller said that it is over.
        Completed = "completed",
        /// The agent handed the conversation over to people.
        Transferred = "transferred",
        /// The visitor went without an answer to the last question, or without asking.
        Abandoned = "abandoned",
        /// The last question could not be answered because something broke.
        Error = "error",
    }
}

/// Something said, without where and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utterance {
    /// Who said it. Besides a visitor and the agent, what a program sends along may come from a system or a tool.
    pub speaker: Speaker,
    /// What was said, as it was shown.
    pub text: String,
}

/// Something that was said and kept.
#[derive(Clone, Debug)]
pub struct Message {
    /// `msg_…`; ids of a conversation order by time.
    pub id: MessageId,
    /// Who said it; only [`Speaker::User`] and [`Speaker::Assistant`] are ever stored.
    pub speaker: Speaker,
    /// What was said, as it was shown.
    pub text: String,
    /// Its language, ISO 639-1; empty where nobody looked.
    pub language: String,
    /// The knowledge sources that an answer is based on; empty for what a visitor said.
    pub sources: Vec<Source>,
    /// When it was said or happened.
    pub at: Timestamp,
}

/// A conversation with what came of it so far.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// `conv_…`, made when it is opened.
    pub id: ConversationId,
    /// The agent that answers in it.
    pub agent: AgentId,
    /// The environment: live or test.
    pub environment: Environment,
    /// `chat`, until other channels serve.
    pub channel: String,
    /// How it was opened, which decides who may go on with it.
    pub via: Via,
    /// When it was opened, before anything was said.
    pub started_at: Timestamp,
    /// When something was said last.
    pub last_at: Timestamp,
    /// When it was found to be over.
    pub ended_at: Option<Timestamp>,
    /// Nothing while it goes on.
    pub outcome: Option<Outcome>,
    /// The language of the last message of the visitor.
    pub language: Option<String>,
    /// How many messages the visitor has sent.
    pub user_turns: i64,
    /// How often the agent answered.
    pub agent_turns: i64,
    /// Answers in which the agent said that it does not know.
    pub unanswered: i64,
    /// How the visitor feels; nothing before the first message.
    pub mood: Option<Mood>,
    /// In a sentence or two.
    pub summary: Option<String>,
    /// In a word or two.
    pub topic: Option<String>,
}

/// A line of a conversation's receipt.
#[derive(Clone, Debug)]
pub struct Happening {
    /// The place in the conversation's receipt, counted from 1.
    pub sequence: i64,
    /// What happened: `user_utterance`, `kb_retrieval`, `tool_call`, `agent_message` and so on.
    pub kind: String,
    /// What its kind says of it, as the receipt shows it.
    pub data: serde_json::Value,
    /// When it was said or happened.
    pub at: Timestamp,
}

/// What conversations are looked for; all that is given must fit.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Only those with this agent.
    pub agent: Option<AgentId>,
    /// Only those that began at this time or later.
    pub from: Option<Timestamp>,
    /// Only those that began before this time.
    pub to: Option<Timestamp>,
    /// Only those on this channel.
    pub channel: Option<String>,
    /// Only those with this outcome.
    pub outcome: Option<Outcome>,
    /// Only those in this environment.
    pub environment: Option<Environment>,
    /// With all these words, in whatever message.
    pub text: Option<String>,
    /// How many conversations that fit are passed over, for clients that ask for pages by number.
    pub skip: i64,
}

/// A conversation that is about to be opened.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// `conv_…`, made when it is opened.
    pub id: ConversationId,
    /// The agent that will answer in it.
    pub agent: AgentId,
    /// The environment: live or test.
    pub environment: Environment,
    /// How it is opened, which decides who may go on with it.
    pub via: Via,
}

/// A visitor's message that is about to be kept and charged for.
#[derive(Clone, Debug)]
pub struct Heard<'h> {
    /// The id of the message.
    pub id: MessageId,
    /// The message, as the visitor typed it.
    pub text: &'h str,
    /// The agent's first language, for texts that do not tell theirs.
    pub language: &'h str,
    /// When it was said or happened.
    pub at: Timestamp,
}

/// An answer of the agent that is about to be kept.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The id of the message.
    pub id: MessageId,
    /// What was said, as it was shown.
    pub text: String,
    /// The knowledge sources that the answer is based on.
    pub sources: Vec<Source>,
    /// The agent does not know.
    pub unknown: bool,
    /// How sure the best passage was, where there was one.
    pub top_score: Option<f64>,
    /// The time from the question to the whole answer, in milliseconds.
    pub latency_ms: i64,
    /// What became of the conversation, where the answer ends it.
    pub outcome: Option<Outcome>,
    /// When it was said or happened.
    pub at: Timestamp,
}

fn sources(text: &str) -> Result<Vec<Source>, StoreError> {
    let wrong = || StoreError::Inconsistent("column sources".into());
    let all: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|_| wrong())?;
    all.iter()
        .map(|it| {
            let text = |name: &str| it[name].as_str().map(str::to_owned);
            let id = text("id").and_then(|id| KnowledgeSourceId::parse(&id)).ok_or_else(wrong)?;
            Ok(Source { id, label: text("label").ok_or_else(wrong)?, url: text("url") })
        })
        .collect()
}

/// Sources as a column and the API have them.
pub fn sources_json(all: &[Source]) -> serde_json::Value {
    all.iter().map(|it| json!({"id": it.id.to_string(), "label": it.label, "url": it.url})).collect()
}

fn message(row: &Row) -> Result<Message, StoreError> {
    Ok(Message {
        id: row.id("id")?,
        speaker: Speaker::of(row, "role")?,
        text: row.get("text")?,
        language: row.get("language")?,
        sources: sources(&row.get::<String>("sources")?)?,
        at: row.time("at")?,
    })
}

fn conversation(row: &Row) -> Result<Conversation, StoreError> {
    let outcome: Option<String> = row.get("outcome")?;
    let user_turns: i64 = row.get("user_turns")?;
    Ok(Conversation {
        id: row.id("id")?,
        agent: row.id("agent_id")?,
        environment: row.environment()?,
        channel: row.get("channel")?,
        via: Via::of(row, "via")?,
        started_at: row.time("started_at")?,
        last_at: row.time("last_at")?,
        ended_at: row.maybe_time("ended_at")?,
        outcome: outcome.map(|_| Outcome::of(row, "outcome")).transpose()?,
        language: row.get("language")?,
        user_turns,
        agent_turns: row.get("agent_turns")?,
        unanswered: row.get("unanswered")?,
        mood: match user_turns {
            0 => None,
            _ => Some(Mood { valence: row.get("valence")?, frustration: row.get("frustration")? }),
        },
        summary: row.get("summary")?,
        topic: row.get("topic")?,
    })
}

async fn load(
    tx: &mut ReadTx,
    organization: OrganizationId,
    which: ConversationId,
) -> Result<Conversation, StoreError> {
    let row = tx
        .one(
            "SELECT * FROM conversations WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(which)],
        )
        .await?;
    conversation(&row)
}

/// Adds what happened; the last of it has the number `last`.
async fn happened(
    tx: &mut BatchTx,
    organization: OrganizationId,
    conversation: ConversationId,
    last: i64,
    events: &[(&'static str, serde_json::Value)],
    at: Timestamp,
) -> Result<(), StoreError> {
    let first = last - events.len() as i64 + 1;
    for (sequence, (kind, data)) in (first..).zip(events) {
        tx.queue(
            "INSERT INTO conversation_events (organization_id, conversation_id, sequence, type, data, at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            vec![
                id(organization),
                id(conversation),
                sequence.into(),
                (*kind).into(),
                data.to_string().into(),
                at.into(),
            ],
        )
        .await?;
    }
    Ok(())
}

/// Of an answer: the language that it tells, the words that it is found by, and the question, if it is one that nothing was known about.
async fn analysed_answer(
    organization: OrganizationId,
    question: &str,
    reply: &Reply,
) -> Result<(Option<&'static str>, Vec<String>, Option<gaps::Miss>), StoreError> {
    let (text, question) = (reply.text.clone(), question.to_owned());
    let (top_score, unknown, at) = (reply.top_score, reply.unknown, reply.at);
    work_out(organization, move || {
        let miss = unknown.then(|| gaps::Miss::of(&question, top_score, at)).flatten();
        (told_language(&text), searched(&text, MOST_WORDS), miss)
    })
    .await
}

/// The words that a text is found by, in every language alike.
fn searched(text: &str, most: usize) -> Vec<String> {
    let all: BTreeSet<String> = terms(text, "").into_iter().collect();
    all.into_iter().take(most).collect()
}

/// `$1` is the organization, `$2` the conversation; sixteen words at once, since a message has many.
const ADD_WORDS: &str = "INSERT INTO conversation_words (organization_id, conversation_id, word) VALUES \
     ($1, $2, $3), ($1, $2, $4), ($1, $2, $5), ($1, $2, $6), ($1, $2, $7), ($1, $2, $8), ($1, $2, $9), ($1, $2, $10), \
     ($1, $2, $11), ($1, $2, $12), ($1, $2, $13), ($1, $2, $14), ($1, $2, $15), ($1, $2, $16), ($1, $2, $17), ($1, $2, $18) \
     ON CONFLICT DO NOTHING";
const WORDS_AT_ONCE: usize = 16;

/// `words` as exactly sixteen arguments: the first fills up.
fn sixteen(words: &[String]) -> impl Iterator<Item = Value> {
    let first = words.first().map_or("", String::as_str);
    (0..WORDS_AT_ONCE).map(move |at| words.get(at).map_or(first, String::as_str).into())
}

async fn find_by(
    tx: &mut BatchTx,
    organization: OrganizationId,
    conversation: ConversationId,
    words: &[String],
) -> Result<(), StoreError> {
    for some in words.chunks(WORDS_AT_ONCE) {
        let args = [id(organization), id(conversation)].into_iter().chain(sixteen(some)).collect();
        tx.queue(ADD_WORDS, args).await?;
    }
    Ok(())
}

async fn add(
    tx: &mut BatchTx,
    organization: OrganizationId,
    conversation: ConversationId,
    new: &Message,
    words: &[String],
    unknown: bool,
    latency_ms: Option<i64>,
) -> Result<(), StoreError> {
    tx.queue(
        "INSERT INTO messages (id, organization_id, conversation_id, role, text, language, sources, unknown, latency_ms, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        vec![
            id(new.id),
            id(organization),
            id(conversation),
            new.speaker.as_str().into(),
            new.text.clone().into(),
            new.language.clone().into(),
            sources_json(&new.sources).to_string().into(),
            unknown.into(),
            latency_ms.into(),
            new.at.into(),
        ],
    )
    .await?;
    find_by(tx, organization, conversation, words).await
}

/// Opens a conversation in the transaction of what opens it.
pub(crate) async fn open_in(
    tx: &mut BatchTx,
    organization: OrganizationId,
    new: &NewConversation,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.agent_is_there(organization, new.agent).await?;
    tx.exec(
        "INSERT INTO conversations (id, organization_id, agent_id, environment, via, started_at, last_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
        vec![
            id(new.id),
            id(organization),
            id(new.agent),
            new.environment.as_str().into(),
            new.via.as_str().into(),
            now.into(),
        ],
    )
    .await
    .map(drop)
}

/// What the outcome is when nobody goes on: the last turn decides.
const IDLE_OUTCOME: &str = "UPDATE conversations SET ended_at = $1, outcome = CASE standing WHEN 'answered' THEN 'completed' \
     WHEN 'transferred' THEN 'transferred' WHEN 'asked' THEN 'error' WHEN 'failed' THEN 'error' ELSE 'abandoned' END \
     WHERE id IN (SELECT id FROM conversations WHERE ended_at IS NULL AND last_at < $2 LIMIT $3)";

/// The statement that writes a visitor's conversation down, in the transaction that opens their session.
pub fn opened(
    organization: OrganizationId,
    conversation: ConversationId,
    agent: AgentId,
    environment: Environment,
    subject: Option<String>,
    now: Timestamp,
) -> (&'static str, Vec<flowyte_store::Value>) {
    (
        "INSERT INTO conversations (id, organization_id, agent_id, environment, visitor_subject, started_at, last_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
        vec![
            id(conversation),
            id(organization),
            id(agent),
            environment.as_str().into(),
            subject.into(),
            now.into(),
        ],
    )
}

/// The conversations of a store.
pub struct Conversations<'s>(pub &'s dyn Store);

impl Conversations<'_> {
    /// Adds a conversation in which nothing was said yet.
    pub async fn open(
        &self,
        organization: OrganizationId,
        new: &NewConversation,
        claim: Option<&Claim>,
        now: Timestamp,
        seal: &(dyn Fn(&Conversation) -> Vec<u8> + Send + Sync),
    ) -> Result<Once<Conversation>, StoreError> {
        let mut tx = self.0.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, now).await? {
            return Ok(Once::Replay(answer));
        }
        open_in(&mut tx, organization, new, now).await?;
        let row = load(&mut tx, organization, new.id).await?;
        tx.remember(organization, claim, || seal(&row)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(row))
    }

    /// One of the organization's, by its id.
    pub async fn find(
        &self,
        organization: OrganizationId,
        which: ConversationId,
    ) -> Result<Conversation, StoreError> {
        load(&mut self.0.glance().await?, organization, which).await
    }

    /// One that a backend or a member opened in this world. What another world opened is nowhere: who answers and who pays goes by it.
    pub async fn session(
        &self,
        organization: OrganizationId,
        environment: Environment,
        which: ConversationId,
    ) -> Result<Conversation, StoreError> {
        let found = self.find(organization, which).await?;
        let own = found.via == Via::Session && found.environment == environment;
        if own { Ok(found) } else { Err(StoreError::NotFound) }
    }

    /// Conversations in which a visitor said something, newest first.
    pub async fn search(
        &self,
        organization: OrganizationId,
        search: &Search,
        page: Page,
    ) -> Result<Vec<Conversation>, StoreError> {
        let words = search.text.as_deref().map(|text| searched(text, MOST_SEARCHED));
        // Something to look for that has no word in it is nowhere.
        let found_by: Option<i64> = words.as_ref().map(|words| words.len() as i64);
        let mut args = vec![
            id(organization),
            page.before_bytes(),
            search.agent.map(|it| *it.as_bytes()).into(),
            search.from.unwrap_or(Timestamp::from_micros(i64::MIN)).into(),
            search.to.unwrap_or(Timestamp::NEVER).into(),
            search.channel.clone().into(),
            search.outcome.map(Outcome::as_str).into(),
            search.environment.map(Environment::as_str).into(),
            page.probe().into(),
            search.skip.into(),
            found_by.into(),
        ];
        args.extend(sixteen(&words.unwrap_or_default()));
        let mut tx = self.0.read().await?;
        let rows = tx
            .all(
                "SELECT * FROM conversations WHERE organization_id = $1 AND id < $2 AND user_turns > 0 \
                 AND agent_id = COALESCE($3, agent_id) AND started_at >= $4 AND started_at < $5 \
                 AND (CAST($6 AS TEXT) IS NULL OR channel = $6) AND (CAST($7 AS TEXT) IS NULL OR outcome = $7) \
                 AND (CAST($8 AS TEXT) IS NULL OR environment = $8) \
                 AND (CAST($11 AS BIGINT) IS NULL OR id IN (SELECT conversation_id FROM conversation_words \
                 WHERE organization_id = $1 \
                 AND word IN ($12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27) \
                 GROUP BY conversation_id HAVING COUNT(*) = $11)) ORDER BY id DESC LIMIT $9 OFFSET $10",
                args,
            )
            .await?;
        rows.iter().map(conversation).collect()
    }

    /// Adds what a visitor said, and charges for the answer that it will get. Answers what was said before, oldest first.
    pub async fn hear(
        &self,
        organization: OrganizationId,
        conversation: ConversationId,
        heard: &Heard<'_>,
    ) -> Result<Vec<Utterance>, StoreError> {
        let (text, spoken) = (heard.text.to_owned(), heard.language.to_owned());
        let (mood, language, words, question) = work_out(organization, move || {
            let language = language(&text, &spoken);
            let question = Question::of(&text, &language);
            (Mood::of(&text), language, searched(&text, MOST_WORDS), question)
        })
        .await?;
        let (before, so_far) = self.remembered(organization, conversation).await?;
        let mut tx = self.0.batch().await?;
        // First, since it holds the row: turns of one conversation at the same time are numbered one after the other.
        let row = tx
            .opt(
                "UPDATE conversations SET user_turns = user_turns + 1, events = events + 1, last_at = $3, language = $4, \
                 valence = valence + $5, frustration = frustration + $6, standing = 'asked', ended_at = NULL, outcome = NULL \
                 WHERE organization_id = $1 AND id = $2 AND closed = 0 \
                 RETURNING agent_id, environment, events, valence, frustration, gist",
                vec![
                    id(organization),
                    id(conversation),
                    heard.at.into(),
                    language.clone().into(),
                    mood.valence.into(),
                    mood.frustration.into(),
                ],
            )
            .await?;
        let Some(row) = row else {
            load(&mut tx, organization, conversation).await?;
            return Err(StoreError::Conflict("The conversation has ended; open another."));
        };
        let mood = Mood { valence: row.get("valence")?, frustration: row.get("frustration")? };
        let mut gist = Gist::read(&row)?.unwrap_or(so_far);
        gist.hear(question);
        tx.queue(
            "UPDATE conversations SET sentiment = $3, gist = $4 WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(conversation), mood.sentiment().as_str().into(), gist.to_text().into()],
        )
        .await?;
        let new = Message {
            id: heard.id,
            speaker: Speaker::User,
            text: heard.text.to_owned(),
            language,
            sources: Vec::new(),
            at: heard.at,
        };
        add(&mut tx, organization, conversation, &new, &words, false, None).await?;
        let event = ("user_utterance", json!({"text": heard.text}));
        happened(&mut tx, organization, conversation, row.get("events")?, &[event], heard.at).await?;
        let environment = row.environment()?;
        charge_message_in(&mut tx, organization, environment, row.id("agent_id")?, heard.id, heard.at)
            .await?;
        tx.commit().await?;
        Ok(before)
    }

    /// What was said last, oldest first; and where no gist was noted on the way, the one of what was said so far.
    async fn remembered(
        &self,
        organization: OrganizationId,
        conversation: ConversationId,
    ) -> Result<(Vec<Utterance>, Gist), StoreError> {
        let mut tx = self.0.read().await?;
        let place = || vec![id(organization), id(conversation)];
        let row = tx
            .one("SELECT user_turns, gist FROM conversations WHERE organization_id = $1 AND id = $2", place())
            .await?;
        let mut gist = Gist::default();
        // Begun under a release that read everything again each time.
        if row.get::<i64>("user_turns")? > 0 && Gist::read(&row)?.is_none() {
            let said = tx
                .all(
                    "SELECT role, text, language, sources, unknown FROM messages \
                     WHERE organization_id = $1 AND conversation_id = $2 ORDER BY id LIMIT $3",
                    [place(), vec![SUMMED_UP.into()]].concat(),
                )
                .await?;
            for row in &said {
                match Speaker::of(row, "role")? {
                    Speaker::User => {
                        gist.hear(Question::of(&row.get::<String>("text")?, &row.get::<String>("language")?))
                    }
                    _ => gist.answer(&sources(&row.get::<String>("sources")?)?, row.flag("unknown")?),
                }
            }
        }
        let before = tx
            .all(
                "SELECT role, text FROM messages WHERE organization_id = $1 AND conversation_id = $2 ORDER BY id DESC LIMIT $3",
                [place(), vec![REMEMBERED.into()]].concat(),
            )
            .await?;
        let line = |row: &Row| Ok(Utterance { speaker: Speaker::of(row, "role")?, text: row.get("text")? });
        Ok((before.iter().rev().map(line).collect::<Result<_, StoreError>>()?, gist))
    }

    /// Adds an answer with what happened on the way, and sums the conversation up anew.
    pub async fn answer(
        &self,
        organization: OrganizationId,
        conversation: ConversationId,
        question: &str,
        reply: &Reply,
        events: &[(&'static str, serde_json::Value)],
    ) -> Result<(), StoreError> {
        let (told, words, miss) = analysed_answer(organization, question, reply).await?;
        let unknown = miss.is_some();
        let mut tx = self.0.batch().await?;
        let standing = match (reply.outcome, unknown) {
            (Some(Outcome::Transferred), _) => "transferred",
            (None, true) => "unknown",
            _ => "answered",
        };
        let row = tx
            .one(
                "UPDATE conversations SET agent_turns = agent_turns + 1, unanswered = unanswered + $7, events = events + $3, \
                 last_at = $4, standing = $5, outcome = COALESCE($6, CASE outcome WHEN 'error' THEN 'completed' ELSE outcome END), \
                 ended_at = CASE WHEN CAST($6 AS TEXT) IS NULL THEN ended_at ELSE $4 END, \
                 closed = CASE WHEN CAST($6 AS TEXT) IS NULL THEN closed ELSE 1 END \
                 WHERE organization_id = $1 AND id = $2 RETURNING agent_id, environment, events, gist, language",
                vec![
                    id(organization),
                    id(conversation),
                    (events.len() as i64).into(),
                    reply.at.into(),
                    standing.into(),
                    reply.outcome.map(Outcome::as_str).into(),
                    i64::from(unknown).into(),
                ],
            )
            .await?;
        // Where its text does not tell, it is the conversation's.
        let spoken: Option<String> = row.get("language")?;
        let new = Message {
            id: reply.id,
            speaker: Speaker::Assistant,
            text: reply.text.clone(),
            language: told.map_or(spoken.unwrap_or_default(), str::to_owned),
            sources: reply.sources.clone(),
            at: reply.at,
        };
        add(&mut tx, organization, conversation, &new, &words, unknown, Some(reply.latency_ms)).await?;
        happened(&mut tx, organization, conversation, row.get("events")?, events, reply.at).await?;
        if let Some(miss) = miss {
            gaps::note(&mut tx, organization, row.id("agent_id")?, conversation, row.environment()?, &miss)
                .await?;
        }
        let mut gist = Gist::read(&row)?.unwrap_or_default();
        gist.answer(&reply.sources, unknown);
        tx.queue(
            "UPDATE conversations SET gist = $3, summary = $4, topic = $5 WHERE organization_id = $1 AND id = $2",
            vec![
                id(organization),
                id(conversation),
                gist.to_text().into(),
                gist.summary().into(),
                gist.topic().into(),
            ],
        )
        .await?;
        tx.commit().await
    }

    /// Notes that a question could not be answered because something broke, and gives back what the answer would have cost.
    pub async fn fail(
        &self,
        organization: OrganizationId,
        conversation: ConversationId,
        question: MessageId,
        events: &[(&'static str, serde_json::Value)],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.batch().await?;
        let row = tx
            .one(
                "UPDATE conversations SET events = events + $3, standing = 'failed' WHERE organization_id = $1 AND id = $2 \
                 RETURNING events, environment",
                vec![id(organization), id(conversation), (events.len() as i64).into()],
            )
            .await?;
        happened(&mut tx, organization, conversation, row.get("events")?, events, at).await?;
        let environment = row.environment()?;
        return_message_in(&mut tx, organization, environment, question, at).await?;
        tx.commit().await
    }

    /// Ends a session for good. Ending it again changes nothing.
    pub async fn end(
        &self,
        organization: OrganizationId,
        environment: Environment,
        which: ConversationId,
        now: Timestamp,
    ) -> Result<Conversation, StoreError> {
        let mut tx = self.0.batch().await?;
        tx.queue(
            "UPDATE conversations SET closed = 1, ended_at = COALESCE(ended_at, $3), outcome = COALESCE(outcome, CASE standing \
             WHEN 'transferred' THEN 'transferred' WHEN 'asked' THEN 'error' WHEN 'failed' THEN 'error' ELSE 'completed' END) \
             WHERE organization_id = $1 AND id = $2 AND environment = $4 AND via = 'session' AND closed = 0",
            vec![id(organization), id(which), now.into(), environment.as_str().into()],
        )
        .await?;
        let row = load(&mut tx, organization, which).await?;
        if row.via != Via::Session || row.environment != environment {
            return Err(StoreError::NotFound);
        }
        tx.commit().await?;
        Ok(row)
    }

    /// Says what came of some conversations that nobody went on with; of how many.
    pub async fn close_idle(&self, now: Timestamp, most: u32) -> Result<u64, StoreError> {
        let mut tx = self.0.batch().await?;
        let closed = tx.exec(IDLE_OUTCOME, vec![now.into(), now.plus(-IDLE).into(), most.into()]).await?;
        tx.commit().await?;
        Ok(closed)
    }

    /// Messages, oldest first; the page begins after its position.
    pub async fn messages(
        &self,
        organization: OrganizationId,
        conversation: ConversationId,
        page: Page,
    ) -> Result<Vec<Message>, StoreError> {
        let mut tx = self.0.read().await?;
        let rows = tx
            .all(
                "SELECT * FROM messages WHERE organization_id = $1 AND conversation_id = $2 AND id > $3 ORDER BY id LIMIT $4",
                vec![
                    id(organization),
                    id(conversation),
                    page.before.unwrap_or_default().into(),
                    page.probe().into(),
                ],
            )
            .await?;
        rows.iter().map(message).collect()
    }

    /// What happened, in order; the page begins after its position.
    pub async fn receipt(
        &self,
        organization: OrganizationId,
        which: ConversationId,
        after: i64,
        page: Page,
    ) -> Result<Vec<Happening>, StoreError> {
        let mut tx = self.0.read().await?;
        load(&mut tx, organization, which).await?;
        let rows = tx
            .all(
                "SELECT * FROM conversation_events WHERE organization_id = $1 AND conversation_id = $2 AND sequence > $3 \
                 ORDER BY sequence LIMIT $4",
                vec![id(organization), id(which), after.into(), page.probe().into()],
            )
            .await?;
        let happening = |row: &Row| {
            Ok(Happening {
                sequence: row.get("sequence")?,
                kind: row.get("type")?,
                data: serde_json::from_str(&row.get::<String>("data")?)
                    .map_err(|error| StoreError::Inconsistent(format!("column data: {error}")))?,
                at: row.time("at")?,
            })
        };
        rows.iter().map(happening).collect()
    }
}

/// What a conversation's sentiment is called, where there is one.
pub fn sentiment(conversation: &Conversation) -> Option<(f64, Sentiment)> {
    conversation.mood.map(|mood| (mood.score(), mood.sentiment()))
}
