//! Knowledge gaps: questions that an agent could not answer, and what people make of them.

use crate::agents::AgentIsThere;
use crate::id::{AgentId, ConversationId, KnowledgeGapId};
use crate::knowledge::analysis::terms;
use crate::words::words;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::{Environment, Timestamp};
use flowyte_store::audit::AuditAction;
use flowyte_store::db::id;
use flowyte_store::{AuditContext, BatchTx, ReadTx, Row, Store, StoreError};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// From which similarity of the best passage on the answer may have been there and was not found.
const NEAR: i64 = 250;
/// The longest question that gaps are told apart by, in characters.
const TOLD_APART: usize = 300;

words! {
    /// What becomes of a gap.
    Status {
        /// Nobody looked at it yet, or it was asked again after somebody called it covered.
        Open = "open",
        /// Somebody has said that they are writing the answer.
        InProgress = "in_progress",
        /// The agent's knowledge has the answer now; the gap is open again when it is asked once more without one.
        Covered = "covered",
        /// Nothing that the agent should know.
        Dismissed = "dismissed",
    }
}

/// A question that was not answered.
#[derive(Clone, Debug)]
pub struct Gap {
    /// `gap_…`, made when the question was asked first.
    pub id: KnowledgeGapId,
    /// As it was asked first.
    pub text: String,
    /// How often it was asked.
    pub count: i64,
    /// In how many conversations it was asked.
    pub conversations: i64,
    /// What people have made of the gap.
    pub status: Status,
    /// How sure the best passage ever was, in thousandths.
    pub top_score: Option<i64>,
    /// When it was asked last.
    pub last_at: Timestamp,
}

impl Gap {
    /// Whether there was something to answer from that was not sure enough.
    pub fn is_miss(&self) -> bool {
        self.top_score.is_some_and(|score| score >= NEAR)
    }
}

/// A question that an agent could not answer, as it is noted.
pub(crate) struct Miss {
    question: String,
    /// What it comes down to.
    asked: String,
    top_score: Option<f64>,
    at: Timestamp,
}

impl Miss {
    /// Nothing, where the text asks nothing: one without a word (`???`, an emoji) is no question that an answer could be missing
    /// for. `top_score`: of the passage that came closest, where there was one.
    pub fn of(question: &str, top_score: Option<f64>, at: Timestamp) -> Option<Self> {
        let asked: String = terms(question, "").join(" ").chars().take(TOLD_APART).collect();
        (!asked.is_empty()).then_some(Self { question: question.to_owned(), asked, top_score, at })
    }
}

/// Notes a question that was not answered.
pub(crate) async fn note(
    tx: &mut BatchTx,
    organization: OrganizationId,
    agent: AgentId,
    conversation: ConversationId,
    environment: Environment,
    miss: &Miss,
) -> Result<(), StoreError> {
    let asked = &miss.asked;
    // Organization, agent and words are unique, so a hash of them is as good as randomness.
    let hash = Sha256::new_with_prefix(organization.as_bytes())
        .chain_update(agent.as_bytes())
        .chain_update(asked)
        .finalize();
    let mut unique = [0; 10];
    unique.copy_from_slice(&hash[..10]);
    let row = tx
        .one(
            "INSERT INTO knowledge_gaps (id, organization_id, agent_id, question, query_text, status, top_score, first_at, last_at) \
             VALUES ($1, $2, $3, $4, $5, 'open', $6, $7, $7) ON CONFLICT (organization_id, agent_id, question) DO UPDATE SET \
             last_at = excluded.last_at, \
             top_score = CASE WHEN knowledge_gaps.top_score >= excluded.top_score THEN knowledge_gaps.top_score \
             ELSE COALESCE(excluded.top_score, knowledge_gaps.top_score) END, \
             status = CASE knowledge_gaps.status WHEN 'covered' THEN 'open' ELSE knowledge_gaps.status END RETURNING id",
            vec![
                id(KnowledgeGapId::generate(miss.at, unique)),
                id(organization),
                id(agent),
                asked.clone().into(),
                miss.question.as_str().into(),
                miss.top_score.map(|score| (score * 1_000.0) as i64).into(),
                miss.at.into(),
            ],
        )
        .await?;
    tx.exec(
        "INSERT INTO knowledge_gap_hits (gap_id, organization_id, conversation_id, environment, hits) VALUES ($1, $2, $3, $4, 1) \
         ON CONFLICT (gap_id, conversation_id) DO UPDATE SET hits = knowledge_gap_hits.hits + 1",
        vec![
            id(row.id::<KnowledgeGapId>("id")?),
            id(organization),
            id(conversation),
            environment.as_str().into(),
        ],
    )
    .await
    .map(drop)
}

fn gap(row: &Row) -> Result<Gap, StoreError> {
    Ok(Gap {
        id: row.id("id")?,
        text: row.get("query_text")?,
        count: row.get("hits")?,
        conversations: row.get("conversations")?,
        status: Status::of(row, "status")?,
        top_score: row.get("top_score")?,
        last_at: row.time("last_at")?,
    })
}

/// How many questions an agent left unanswered; in one environment, or in both.
async fn asked(
    tx: &mut ReadTx,
    organization: OrganizationId,
    agent: AgentId,
    environment: Option<Environment>,
) -> Result<i64, StoreError> {
    tx.one(
        "SELECT CAST(COALESCE(SUM(h.hits), 0) AS BIGINT) AS total FROM knowledge_gaps g \
         JOIN knowledge_gap_hits h ON h.gap_id = g.id WHERE g.organization_id = $1 AND g.agent_id = $2 \
         AND (CAST($3 AS TEXT) IS NULL OR h.environment = $3)",
        vec![id(organization), id(agent), environment.map(Environment::as_str).into()],
    )
    .await?
    .get("total")
}

/// The gaps of a store.
pub struct Gaps<'s>(pub &'s dyn Store);

/// What an agent could not answer.
pub struct Found {
    /// Whether anybody talked to it yet; before, no gap says nothing.
    pub ready: bool,
    /// The gaps that were asked in the most conversations first.
    pub gaps: Vec<Gap>,
    /// Unanswered questions altogether, those that are not in `gaps` too.
    pub total: i64,
}

impl Gaps<'_> {
    /// The most frequent gaps of an agent in an environment. `status`: only those.
    pub async fn list(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        environment: Environment,
        status: Option<Status>,
        limit: u32,
    ) -> Result<Found, StoreError> {
        let mut tx = self.0.read().await?;
        tx.agent_is_there(organization, agent).await?;
        let talked = tx
            .opt(
                "SELECT id FROM conversations WHERE organization_id = $1 AND agent_id = $2 AND environment = $3 \
                 AND user_turns > 0 LIMIT 1",
                vec![id(organization), id(agent), environment.as_str().into()],
            )
            .await?;
        let rows = tx
            .all(
                "SELECT g.id, g.query_text, g.status, g.top_score, g.last_at, CAST(SUM(h.hits) AS BIGINT) AS hits, \
                 COUNT(*) AS conversations FROM knowledge_gaps g JOIN knowledge_gap_hits h ON h.gap_id = g.id \
                 WHERE g.organization_id = $1 AND g.agent_id = $2 AND (CAST($3 AS TEXT) IS NULL OR g.status = $3) \
                 AND h.environment = $5 GROUP BY g.id, g.query_text, g.status, g.top_score, g.last_at \
                 ORDER BY COUNT(*) DESC, SUM(h.hits) DESC, g.last_at DESC, g.id LIMIT $4",
                vec![
                    id(organization),
                    id(agent),
                    status.map(Status::as_str).into(),
                    limit.into(),
                    environment.as_str().into(),
                ],
            )
            .await?;
        let total = asked(&mut tx, organization, agent, Some(environment)).await?;
        let gaps = rows.iter().map(gap).collect::<Result<_, _>>()?;
        Ok(Found { ready: talked.is_some(), gaps, total })
    }

    /// Says what becomes of a gap; also answers how many questions went unanswered altogether.
    pub async fn curate(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        which: KnowledgeGapId,
        status: Status,
        by: &AuditContext,
    ) -> Result<(Gap, i64), StoreError> {
        let mut tx = self.0.product().await?;
        tx.agent_is_there(organization, agent).await?;
        tx.one(
            "UPDATE knowledge_gaps SET status = $4 WHERE organization_id = $1 AND agent_id = $2 AND id = $3 RETURNING id",
            vec![id(organization), id(agent), id(which), status.as_str().into()],
        )
        .await?;
        let details = json!({"status": status.as_str()});
        let deed = AuditAction {
            action: "knowledge_gap.changed",
            kind: "knowledge_gap",
            id: which.to_string(),
            name: "",
            details,
        };
        tx.audit(organization, by, deed).await?;
        tx.commit().await?;
        // Counting all that was ever asked is nothing that other writes should wait for.
        let mut tx = self.0.read().await?;
        let row = tx
            .one(
                "SELECT g.id, g.query_text, g.status, g.top_score, g.last_at, CAST(SUM(h.hits) AS BIGINT) AS hits, \
                 COUNT(*) AS conversations FROM knowledge_gaps g JOIN knowledge_gap_hits h ON h.gap_id = g.id \
                 WHERE g.organization_id = $1 AND g.id = $2 \
                 GROUP BY g.id, g.query_text, g.status, g.top_score, g.last_at",
                vec![id(organization), id(which)],
            )
            .await?;
        let row = gap(&row)?;
        let total = asked(&mut tx, organization, agent, None).await?;
        Ok((row, total))
    }
}
