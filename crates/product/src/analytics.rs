//! How agents do, in numbers that are counted from what happened. A conversation counts from its visitor's first message on.

use crate::agents::AgentIsThere;
use crate::conversations::Outcome;
use crate::id::AgentId;
use crate::mood::Sentiment;
use flowyte_core::id::OrganizationId;
use flowyte_core::time::DAY;
use flowyte_core::{Environment, Timestamp};
use flowyte_store::db::id;
use flowyte_store::{ReadTx, Row, Store, StoreError, Value};
use std::collections::BTreeMap;

/// Answers that percentiles are taken of, the newest.
const MOST_ANSWERS: i64 = 100_000;
/// How many topics are named, the most frequent ones.
const TOPICS: i64 = 10;

/// Which conversations are counted: of whom, since when, until when.
#[derive(Clone, Debug)]
pub struct Window {
    /// Of this agent; of all.
    pub agent: Option<AgentId>,
    /// Only those that began at this time or later.
    pub from: Timestamp,
    /// Only those that began before this time.
    pub to: Timestamp,
    /// On this channel; on all.
    pub channel: Option<String>,
    /// The environment: live or test.
    pub environment: Environment,
}

/// How many conversations there were, and what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them, whatever became of them.
    pub total: i64,
    /// With an answer at least.
    pub answered: i64,
    /// How many of them are over, whatever their outcome.
    pub ended: i64,
    /// That came to this, in the order of [`Counts::OUTCOMES`].
    pub outcomes: [i64; 4],
    /// In the order of [`Sentiment::ALL`].
    pub sentiments: [i64; 4],
    /// Questions that were asked in them.
    pub questions: i64,
    /// Those to which the agent said that it does not know.
    pub unanswered: i64,
    /// What was charged while they went on, in credits.
    pub spent: i64,
}

impl Counts {
    /// The outcomes that [`Counts::outcomes`] counts, in its order.
    pub const OUTCOMES: [Outcome; 4] =
        [Outcome::Completed, Outcome::Transferred, Outcome::Abandoned, Outcome::Error];

    /// How many came to this.
    pub fn came_to(&self, outcome: Outcome) -> i64 {
        Self::OUTCOMES.iter().zip(self.outcomes).find(|(it, _)| **it == outcome).map_or(0, |(_, many)| many)
    }

    fn add(&mut self, cell: &Cell) {
        self.total += cell.many;
        self.questions += cell.questions;
        self.unanswered += cell.unanswered;
        self.answered += if cell.answered { cell.many } else { 0 };
        if let Some(outcome) = &cell.outcome {
            self.ended += cell.many;
            for (slot, it) in self.outcomes.iter_mut().zip(Self::OUTCOMES) {
                *slot += if it.as_str() == outcome { cell.many } else { 0 };
            }
        }
        for (slot, it) in self.sentiments.iter_mut().zip(Sentiment::ALL) {
            *slot += if Some(it.as_str()) == cell.sentiment.as_deref() { cell.many } else { 0 };
        }
    }
}

/// Everything that is counted in a window.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The counts over all conversations of the window.
    pub all: Counts,
    /// The same by the bytes of the agent's id.
    pub by_agent: BTreeMap<[u8; 16], Counts>,
    /// The same by channel; `chat` is the only one that serves yet.
    pub by_channel: BTreeMap<String, Counts>,
    /// By day, `YYYY-MM-DD`, every day of the window.
    pub by_day: BTreeMap<String, Counts>,
    /// What was charged, by its kind, in credits.
    pub spent_on: BTreeMap<String, i64>,
    /// What conversations were about most, with how many were.
    pub topics: Vec<(String, i64)>,
}

/// How long answers took, and what nobody looked at yet.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Milliseconds by language: the median, and what 95 of 100 stayed within.
    pub latency: BTreeMap<String, (i64, i64)>,
    /// Knowledge gaps that are open.
    pub open_gaps: i64,
}

struct Cell {
    agent: [u8; 16],
    day: String,
    channel: String,
    outcome: Option<String>,
    sentiment: Option<String>,
    answered: bool,
    many: i64,
    questions: i64,
    unanswered: i64,
}

fn day(row: &Row) -> Result<String, StoreError> {
    Ok(Timestamp::from_micros(row.get::<i64>("day")? * DAY).day())
}

fn cell(row: &Row) -> Result<Cell, StoreError> {
    Ok(Cell {
        agent: row.bytes("agent_id")?,
        day: day(row)?,
        channel: row.get("channel")?,
        outcome: row.get("outcome")?,
        sentiment: row.get("sentiment")?,
        answered: row.flag("answered")?,
        many: row.get("many")?,
        questions: row.get("questions")?,
        unanswered: row.get("unanswered")?,
    })
}

fn args(organization: OrganizationId, window: &Window) -> Vec<Value> {
    use flowyte_core::id::Id;
    vec![
        id(organization),
        window.agent.map(|it| *it.as_bytes()).into(),
        window.from.into(),
        window.to.into(),
        window.channel.clone().into(),
        window.environment.as_str().into(),
    ]
}

/// `at`: the day of it, in whole days since 1970.
async fn spending(
    tx: &mut ReadTx,
    organization: OrganizationId,
    window: &Window,
    figures: &mut Figures,
) -> Result<(), StoreError> {
    // What is charged is charged for chat, so far.
    if window.channel.as_deref().is_some_and(|it| it != "chat") {
        return Ok(());
    }
    let mut args = args(organization, window);
    args.remove(4);
    let rows = tx
        .all(
            "SELECT t.agent_id, t.at / 86400000000 AS day, t.kind, CAST(SUM(e.credits) AS BIGINT) AS credits \
             FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id AND e.account = 'revenue' \
             WHERE t.organization_id = $1 AND t.agent_id IS NOT NULL AND t.agent_id = COALESCE($2, t.agent_id) \
             AND t.at >= $3 AND t.at < $4 AND t.environment = $5 GROUP BY t.agent_id, t.at / 86400000000, t.kind",
            args,
        )
        .await?;
    for row in &rows {
        let credits: i64 = row.get("credits")?;
        figures.all.spent += credits;
        *figures.spent_on.entry(row.get("kind")?).or_default() += credits;
        figures.by_agent.entry(row.bytes("agent_id")?).or_default().spent += credits;
        figures.by_day.entry(day(row)?).or_default().spent += credits;
    }
    Ok(())
}

/// The analytics of a store.
pub struct Analytics<'s>(pub &'s dyn Store);

impl Analytics<'_> {
    /// Counts the conversations of a window, and what was charged for them.
    pub async fn figures(
        &self,
        organization: OrganizationId,
        window: &Window,
    ) -> Result<Figures, StoreError> {
        let mut tx = self.0.read().await?;
        if let Some(agent) = window.agent {
            tx.agent_is_there(organization, agent).await?;
        }
        let rows = tx
            .all(
                "SELECT agent_id, started_at / 86400000000 AS day, channel, outcome, sentiment, \
                 CAST(CASE WHEN agent_turns > 0 THEN 1 ELSE 0 END AS BIGINT) AS answered, COUNT(*) AS many, \
                 CAST(SUM(user_turns) AS BIGINT) AS questions, CAST(SUM(unanswered) AS BIGINT) AS unanswered FROM conversations WHERE organization_id = $1 AND agent_id = COALESCE($2, agent_id) \
                 AND started_at >= $3 AND started_at < $4 AND (CAST($5 AS TEXT) IS NULL OR channel = $5) \
                 AND environment = $6 AND user_turns > 0 GROUP BY agent_id, started_at / 86400000000, channel, outcome, \
                 sentiment, CAST(CASE WHEN agent_turns > 0 THEN 1 ELSE 0 END AS BIGINT)",
                args(organization, window),
            )
            .await?;
        let mut figures = Figures::default();
        let mut at = window.from;
        while at < window.to {
            figures.by_day.insert(at.day(), Counts::default());
            at = Timestamp::from_micros((at.as_micros().div_euclid(DAY) + 1) * DAY);
        }
        for row in &rows {
            let cell = cell(row)?;
            figures.all.add(&cell);
            figures.by_agent.entry(cell.agent).or_default().add(&cell);
            figures.by_channel.entry(cell.channel.clone()).or_default().add(&cell);
            figures.by_day.entry(cell.day.clone()).or_default().add(&cell);
        }
        spending(&mut tx, organization, window, &mut figures).await?;
        let mut args = args(organization, window);
        args.push(TOPICS.into());
        let rows = tx
            .all(
                "SELECT topic, COUNT(*) AS many FROM conversations WHERE organization_id = $1 \
                 AND agent_id = COALESCE($2, agent_id) AND started_at >= $3 AND started_at < $4 \
                 AND (CAST($5 AS TEXT) IS NULL OR channel = $5) AND environment = $6 AND topic IS NOT NULL \
                 GROUP BY topic ORDER BY COUNT(*) DESC, topic LIMIT $7",
                args,
            )
            .await?;
        for row in &rows {
            figures.topics.push((row.get("topic")?, row.get("many")?));
        }
        Ok(figures)
    }

    /// How fast an agent answered, by language, and how many gaps in its knowledge are open.
    pub async fn answers(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        window: &Window,
    ) -> Result<Answers, StoreError> {
        let mut tx = self.0.read().await?;
        tx.agent_is_there(organization, agent).await?;
        let mut args = args(organization, window);
        args.push(MOST_ANSWERS.into());
        let rows = tx
            .all(
                "SELECT m.language, m.latency_ms FROM messages m \
                 JOIN conversations c ON c.id = m.conversation_id WHERE m.organization_id = $1 AND c.organization_id = $1 \
                 AND c.agent_id = $2 AND c.started_at >= $3 AND c.started_at < $4 \
                 AND (CAST($5 AS TEXT) IS NULL OR c.channel = $5) AND c.environment = $6 AND m.latency_ms IS NOT NULL \
                 ORDER BY m.id DESC LIMIT $7",
                args,
            )
            .await?;
        let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut answers = Answers::default();
        for row in &rows {
            times.entry(row.get("language")?).or_default().push(row.get("latency_ms")?);
        }
        for (language, mut all) in times.into_iter().filter(|(language, _)| !language.is_empty()) {
            all.sort_unstable();
            answers.latency.insert(language, (percentile(&all, 50), percentile(&all, 95)));
        }
        answers.open_gaps = tx
            .one(
                "SELECT COUNT(*) AS many FROM knowledge_gaps g WHERE g.organization_id = $1 AND g.agent_id = $2 \
                 AND g.status = 'open' AND EXISTS (SELECT 1 FROM knowledge_gap_hits h WHERE h.gap_id = g.id AND h.environment = $3)",
                vec![id(organization), id(agent), window.environment.as_str().into()],
            )
            .await?
            .get("many")?;
        Ok(answers)
    }
}

/// The smallest of the sorted values that `percent` of them do not pass.
fn percentile(sorted: &[i64], percent: usize) -> i64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let all: Vec<i64> = (1..=100).collect();
        assert_eq!((percentile(&all, 50), percentile(&all, 95)), (50, 95));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 95)), (7, 7));
        assert_eq!(percentile(&[1, 2, 3], 50), 2);
    }
}
