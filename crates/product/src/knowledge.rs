//! What an agent answers from: sources, the passages they are cut into, and finding those that fit a question.

pub mod analysis;
pub mod cut;
pub(crate) mod english;
pub mod extract;
pub mod index;
pub mod ingest;
pub mod library;
mod page;
mod said;
mod segment;
mod spelling;
mod statistics;

use crate::agents::AgentIsThere;
use crate::id::{AgentId, KnowledgeSourceId, PassageId, UploadId};
use crate::knowledge::cut::Piece;
use crate::uploads;
use crate::words::words;
use async_trait::async_trait;
use flowyte_core::Timestamp;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::time::SECOND;
use flowyte_store::audit::AuditAction;
use flowyte_store::db::id;
use flowyte_store::walk::{Found, Search, Walk, Window};
use flowyte_store::{AuditContext, BatchTx, Claim, Once, ReadTx, Row, Store, StoreError, args, walk_sql};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Sources that an agent may have.
pub const MOST_SOURCES: i64 = 1_000;
/// Passages that an agent may have: its index is kept in memory.
pub const MOST_PASSAGES: i64 = 20_000;
/// Changes of an agent's passages that are remembered: what an index is behind of by more is not worth following.
pub const KEPT_CHANGES: i64 = MOST_SOURCES;
/// How often a source is fetched again, in seconds, where nobody says otherwise.
pub const REFRESH_INTERVAL: i64 = 604_800;

/// A passage that was found for a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// `chunk_…`, made when its source was read.
    pub id: PassageId,
    /// The knowledge source that it comes from.
    pub source: KnowledgeSourceId,
    /// What the organization calls its source.
    pub label: String,
    /// Where the source was fetched.
    pub url: Option<String>,
    /// The question that it answers, where its source says so.
    pub question: Option<String>,
    /// The passage in full, as it was cut.
    pub text: String,
    /// Its language, ISO 639-1; empty where nobody could tell.
    pub language: String,
    /// How sure it is that it answers the question, 0 to 1.
    pub similarity: f64,
}

/// Finds what an agent knows about a question.
#[async_trait]
pub trait Retriever: Send + Sync {
    /// The best passages of an agent for a question, best first. `sources`: only of these; empty: of all.
    async fn retrieve(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        query: &str,
        sources: &[KnowledgeSourceId],
        limit: usize,
    ) -> Result<Vec<Passage>, StoreError>;
}

words! {
    /// Where a source's words come from.
    Kind {
        /// Its texts were given, in the request itself.
        Text = "text",
        /// Questions and answers were given.
        Faq = "faq",
        /// The words come from a file that was uploaded.
        File = "file",
        /// The words come from a web page, which is fetched.
        Url = "url",
    }
}

words! {
    /// How far a source is.
    Status {
        /// It waits to be read: nobody has yet, or the first attempt failed and is made again.
        Pending = "pending",
        /// It is being read, and nothing of it is served yet.
        Indexing = "indexing",
        /// It was read, and its passages are served; they still are while it is read again.
        Indexed = "indexed",
        /// It could not be read, and nothing of it is served.
        Failed = "failed",
    }
}

/// A text, file or page that agents know passages of.
#[derive(Clone, Debug)]
pub struct KnowledgeSource {
    /// The id of the source (`source_…`).
    pub id: KnowledgeSourceId,
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// The agent that it belongs to.
    pub agent: AgentId,
    /// Where its words come from.
    pub kind: Kind,
    /// What its organization calls it; visitors see it under answers.
    pub label: String,
    /// The address of the page that is fetched; `None` for texts and files.
    pub url: Option<String>,
    /// The text or the questions that were given; none of a file or page.
    pub text: Option<String>,
    /// The file that is not read yet.
    pub upload: Option<UploadId>,
    /// How far its reading is.
    pub status: Status,
    /// Why the last reading failed.
    pub error: Option<String>,
    /// Passages written of those found.
    pub progress: (i64, i64),
    /// How many of its passages are served.
    pub passages: i64,
    /// The version of its passages that is served.
    pub version: i64,
    /// Digest of what was read last.
    pub digest: Option<Vec<u8>>,
    /// Whether it is fetched again by itself.
    pub refresh_enabled: bool,
    /// How long after a reading it is fetched again, in seconds.
    pub refresh_interval_s: i64,
    /// When it is to be read next.
    pub due_at: Option<Timestamp>,
    /// When its passages were written.
    pub indexed_at: Option<Timestamp>,
    /// When it was read last.
    pub checked_at: Option<Timestamp>,
    /// When it was read and said something new.
    pub changed_at: Option<Timestamp>,
    /// When the source was added.
    pub created_at: Timestamp,
    /// When anything of it changed.
    pub updated_at: Timestamp,
}

impl KnowledgeSource {
    /// When it is fetched again.
    pub fn next_refresh(&self) -> Option<Timestamp> {
        self.due_at
            .filter(|_| self.refresh_enabled && matches!(self.status, Status::Indexed | Status::Failed))
    }
}

/// A source that is to be added.
#[derive(Clone, Debug)]
pub struct NewSource {
    /// The id that the source gets (`source_…`).
    pub id: KnowledgeSourceId,
    /// What its organization calls it; visitors see it under answers.
    pub label: String,
    /// What it is made of.
    pub content: Content,
}

/// What a source is made of.
#[derive(Clone, Debug)]
pub enum Content {
    /// A text that is here already.
    Text(String),
    /// Questions and answers, as [`cut::pairs`] reads them.
    Faq(String),
    /// A file that was uploaded before.
    File(UploadId),
    /// A page that is fetched.
    Url(String),
}

impl Content {
    fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Faq(_) => Kind::Faq,
            Self::File(_) => Kind::File,
            Self::Url(_) => Kind::Url,
        }
    }
}

/// A source to be read, under a lease.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is to be read.
    pub source: KnowledgeSource,
    /// The number of the lease. Whoever has another one by now may write nothing more of the source.
    pub lease: i64,
    /// How often it was tried since it was read last, this time included.
    pub attempts: i64,
    /// The agent's first language, for texts that do not tell theirs.
    pub language: String,
}

/// What becomes of a source that was not read.
#[derive(Clone, Debug)]
pub struct Failure<'f> {
    /// Why, for the people who added it.
    pub message: &'f str,
    /// When it is tried again, if it may go better then.
    pub retry_at: Option<Timestamp>,
}

fn source(row: &Row) -> Result<KnowledgeSource, StoreError> {
    Ok(KnowledgeSource {
        id: row.id("id")?,
        organization: row.id("organization_id")?,
        agent: row.id("agent_id")?,
        kind: Kind::of(row, "kind")?,
        label: row.get("label")?,
        url: row.get("url")?,
        text: row.get("text")?,
        upload: row.maybe_id("upload_id")?,
        status: Status::of(row, "status")?,
        error: row.get("error_message")?,
        progress: (row.get("progress_current")?, row.get("progress_total")?),
        passages: row.get("passages")?,
        version: row.get("version")?,
        digest: row.get("content_digest")?,
        refresh_enabled: row.flag("refresh_enabled")?,
        refresh_interval_s: row.get("refresh_interval_s")?,
        due_at: row.maybe_time("due_at")?,
        indexed_at: row.maybe_time("indexed_at")?,
        checked_at: row.maybe_time("checked_at")?,
        changed_at: row.maybe_time("changed_at")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

async fn load(
    tx: &mut ReadTx,
    organization: OrganizationId,
    agent: AgentId,
    which: KnowledgeSourceId,
) -> Result<KnowledgeSource, StoreError> {
    tx.agent_is_there(organization, agent).await?;
    let row = tx
        .one(
            "SELECT * FROM knowledge_sources WHERE organization_id = $1 AND agent_id = $2 AND id = $3",
            vec![id(organization), id(agent), id(which)],
        )
        .await?;
    source(&row)
}

/// Moves the agent's generation: from the commit on, every index of its passages is old in what it has of this source.
async fn changed(
    tx: &mut BatchTx,
    organization: OrganizationId,
    agent: AgentId,
    source: KnowledgeSourceId,
) -> Result<(), StoreError> {
    let row = tx
        .one(
            "UPDATE agents SET knowledge_generation = knowledge_generation + 1 WHERE organization_id = $1 AND id = $2 \
             RETURNING knowledge_generation",
            vec![id(organization), id(agent)],
        )
        .await?;
    let generation: i64 = row.get("knowledge_generation")?;
    tx.queue(
        "INSERT INTO knowledge_changes (organization_id, agent_id, generation, source_id) VALUES ($1, $2, $3, $4)",
        vec![id(organization), id(agent), generation.into(), id(source)],
    )
    .await?;
    tx.queue(
        "DELETE FROM knowledge_changes WHERE organization_id = $1 AND agent_id = $2 AND generation <= $3",
        vec![id(organization), id(agent), (generation - KEPT_CHANGES).into()],
    )
    .await?;
    Ok(())
}

/// Takes everything away that an agent knows: it goes with the agent.
pub(crate) async fn forget(
    tx: &mut BatchTx,
    organization: OrganizationId,
    agent: AgentId,
) -> Result<(), StoreError> {
    let own = || vec![id(organization), id(agent)];
    // First of all: whoever reads one of them holds its row while writing, and finds the lease lost afterwards.
    tx.queue(
        "UPDATE knowledge_sources SET lease = lease + 1 WHERE organization_id = $1 AND agent_id = $2",
        own(),
    )
    .await?;
    tx.queue("DELETE FROM passages WHERE organization_id = $1 AND agent_id = $2", own()).await?;
    tx.queue("DELETE FROM knowledge_changes WHERE organization_id = $1 AND agent_id = $2", own()).await?;
    tx.queue(
        "DELETE FROM uploads WHERE organization_id = $1 AND id IN \
         (SELECT upload_id FROM knowledge_sources WHERE organization_id = $1 AND agent_id = $2 AND upload_id IS NOT NULL)",
        own(),
    )
    .await?;
    tx.queue("DELETE FROM knowledge_sources WHERE organization_id = $1 AND agent_id = $2", own()).await?;
    Ok(())
}

fn deed<'a>(action: &'a str, source: &'a KnowledgeSource, details: Value) -> AuditAction<'a> {
    AuditAction { action, kind: "knowledge_source", id: source.id.to_string(), name: &source.label, details }
}

/// What an agent knows, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// How many sources are served.
    pub indexed: i64,
    /// Sources that are not read yet.
    pub waiting: i64,
    /// Sources that could not be read.
    pub failed: i64,
    /// How many passages are served, of all sources.
    pub passages: i64,
}

/// What changed of an agent's passages.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The agent's generation after these changes.
    pub generation: i64,
    /// The sources that were exchanged or removed.
    pub sources: Vec<KnowledgeSourceId>,
    /// Passages that they have now.
    pub passages: i64,
}

/// The knowledge of a store.
pub struct Knowledge<'s>(pub &'s dyn Store);

impl Knowledge<'_> {
    /// Sources of an agent, newest first.
    pub async fn list(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        search: &Search,
        status: Option<&str>,
        window: Window,
    ) -> Result<Found<KnowledgeSource>, StoreError> {
        let mut tx = self.0.read().await?;
        tx.agent_is_there(organization, agent).await?;
        // Without the text, which may be long and which lists do not show.
        let sql = walk_sql!(
            window.order,
            from "knowledge_sources WHERE organization_id = $1 AND agent_id = $5",
            select "SELECT id, organization_id, agent_id, kind, label, url, NULL AS text, upload_id, status, error_message, \
                 progress_current, progress_total, passages, version, content_digest, refresh_enabled, refresh_interval_s, due_at, \
                 indexed_at, checked_at, changed_at, created_at, updated_at FROM knowledge_sources \
                 WHERE organization_id = $1 AND agent_id = $5",
            id "id",
            filter "AND (CAST($6 AS TEXT) IS NULL OR status = $6) \
                 AND (CAST($7 AS TEXT) IS NULL OR id = $8 OR LOWER(label) LIKE $7 ESCAPE '\\' OR label LIKE $9 ESCAPE '\\' \
                 OR LOWER(url) LIKE $7 ESCAPE '\\')"
        );
        let mut args = args![status];
        args.append(&mut search.args::<KnowledgeSourceId>());
        let searched = search.is_some() || status.is_some();
        tx.walk(
            organization,
            &window,
            Walk { sql, list: args![*agent.as_bytes()], filter: args, searched },
            source,
        )
        .await
    }

    /// A source by its id, whatever its status.
    pub async fn find(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        which: KnowledgeSourceId,
    ) -> Result<KnowledgeSource, StoreError> {
        load(&mut self.0.read().await?, organization, agent, which).await
    }

    /// What an agent knows, in numbers.
    pub async fn stock(&self, organization: OrganizationId, agent: AgentId) -> Result<Stock, StoreError> {
        let mut tx = self.0.read().await?;
        let rows = tx
            .all(
                "SELECT status, COUNT(*) AS sources, CAST(SUM(passages) AS BIGINT) AS passages FROM knowledge_sources \
                 WHERE organization_id = $1 AND agent_id = $2 GROUP BY status",
                vec![id(organization), id(agent)],
            )
            .await?;
        let mut stock = Stock::default();
        for row in rows {
            let sources: i64 = row.get("sources")?;
            match Status::of(&row, "status")? {
                Status::Indexed => stock.indexed += sources,
                Status::Failed => stock.failed += sources,
                Status::Pending | Status::Indexing => stock.waiting += sources,
            }
            stock.passages += row.get::<i64>("passages")?;
        }
        Ok(stock)
    }

    /// Adds a source, which is then due to be read.
    pub async fn create(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        new: &NewSource,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: &(dyn Fn(&KnowledgeSource) -> Vec<u8> + Send + Sync),
    ) -> Result<Once<KnowledgeSource>, StoreError> {
        let mut tx = self.0.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        tx.agent_is_there(organization, agent).await?;
        let row = tx
            .one(
                "SELECT COUNT(*) AS sources FROM knowledge_sources WHERE organization_id = $1 AND agent_id = $2",
                vec![id(organization), id(agent)],
            )
            .await?;
        if row.get::<i64>("sources")? >= MOST_SOURCES {
            return Err(StoreError::Conflict(
                "The agent has as many sources as it may have; remove some first.",
            ));
        }
        let (text, url, upload) = match &new.content {
            Content::Text(text) | Content::Faq(text) => (Some(text.clone()), None, None),
            Content::Url(url) => (None, Some(url.clone()), None),
            Content::File(upload) => (None, None, Some(*upload)),
        };
        if let Some(upload) = upload {
            uploads::attach(&mut tx, organization, upload, by.now).await?;
        }
        tx.queue(
            "INSERT INTO knowledge_sources (id, organization_id, agent_id, kind, label, url, text, upload_id, status, \
             refresh_interval_s, due_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending', $9, $10, $10, $10)",
            vec![
                id(new.id),
                id(organization),
                id(agent),
                new.content.kind().as_str().into(),
                new.label.clone().into(),
                url.into(),
                text.into(),
                upload.map(|it| *it.as_bytes()).into(),
                REFRESH_INTERVAL.into(),
                by.now.into(),
            ],
        )
        .await?;
        let row = load(&mut tx, organization, agent, new.id).await?;
        let details = json!({"agentId": agent.to_string(), "kind": row.kind.as_str()});
        tx.audit(organization, by, deed("knowledge_source.added", &row, details)).await?;
        tx.remember(organization, claim, || seal(&row)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(row))
    }

    /// Sets whether and how often a source is fetched again.
    pub async fn set_refresh(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        which: KnowledgeSourceId,
        enabled: Option<bool>,
        interval_s: Option<i64>,
        by: &AuditContext,
    ) -> Result<KnowledgeSource, StoreError> {
        let mut tx = self.0.product().await?;
        let old = load(&mut tx, organization, agent, which).await?;
        let enabled = enabled.unwrap_or(old.refresh_enabled);
        if enabled && old.kind != Kind::Url {
            return Err(StoreError::Conflict(
                "Only a url source can be fetched again; this one never changes by itself.",
            ));
        }
        let interval_s = interval_s.unwrap_or(old.refresh_interval_s);
        // A reading that is due or under way sets the next one when it ends.
        let due_at = match old.status {
            Status::Pending | Status::Indexing => old.due_at,
            Status::Indexed | Status::Failed => {
                let last = old.checked_at.unwrap_or(by.now);
                enabled.then(|| last.plus(interval_s * SECOND))
            }
        };
        tx.queue(
            "UPDATE knowledge_sources SET refresh_enabled = $4, refresh_interval_s = $5, due_at = $6, updated_at = $7 \
             WHERE organization_id = $1 AND agent_id = $2 AND id = $3",
            vec![
                id(organization),
                id(agent),
                id(which),
                enabled.into(),
                interval_s.into(),
                due_at.into(),
                by.now.into(),
            ],
        )
        .await?;
        let row = load(&mut tx, organization, agent, which).await?;
        let details = json!({"refreshEnabled": enabled, "refreshIntervalS": interval_s});
        tx.audit(organization, by, deed("knowledge_source.changed", &row, details)).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Removes a source with its passages.
    pub async fn delete(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        which: KnowledgeSourceId,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.product().await?;
        let row = load(&mut tx, organization, agent, which).await?;
        let own = || vec![id(organization), id(which)];
        // First of all: whoever reads it holds its row while writing, and finds the lease lost afterwards.
        tx.queue(
            "UPDATE knowledge_sources SET lease = lease + 1 WHERE organization_id = $1 AND id = $2",
            own(),
        )
        .await?;
        tx.queue("DELETE FROM passages WHERE organization_id = $1 AND source_id = $2", own()).await?;
        if let Some(upload) = row.upload {
            tx.queue(
                "DELETE FROM uploads WHERE organization_id = $1 AND id = $2",
                vec![id(organization), id(upload)],
            )
            .await?;
        }
        tx.queue("DELETE FROM knowledge_sources WHERE organization_id = $1 AND id = $2", own()).await?;
        changed(&mut tx, organization, agent, which).await?;
        tx.audit(
            organization,
            by,
            deed("knowledge_source.removed", &row, json!({"agentId": agent.to_string()})),
        )
        .await?;
        tx.commit().await
    }

    /// Ends every lease: for the start of the only process that works on sources.
    pub async fn release(&self) -> Result<(), StoreError> {
        let mut tx = self.0.batch().await?;
        tx.queue("UPDATE knowledge_sources SET leased_until = NULL WHERE leased_until IS NOT NULL", vec![])
            .await?;
        tx.commit().await
    }

    /// How many sources wait to be read; a thousand is as far as is counted.
    pub async fn waiting(&self, now: Timestamp) -> Result<i64, StoreError> {
        let mut tx = self.0.read().await?;
        let sql = "SELECT COUNT(*) AS n FROM (SELECT 1 AS one FROM knowledge_sources WHERE due_at <= $1 LIMIT 1000) AS due";
        tx.one(sql, vec![now.into()]).await?.get("n")
    }

    /// The source that has been due for longest, leased until then; one of an organization of which none is being read goes first. `None`: nothing is due.
    pub async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<Job>, StoreError> {
        let mut tx = self.0.batch().await?;
        let row = tx
            .opt(
                "UPDATE knowledge_sources SET leased_until = $2, lease = lease + 1, attempts = attempts + 1, updated_at = $1, \
                 status = CASE WHEN status = 'pending' THEN 'indexing' ELSE status END \
                 WHERE id = (SELECT id FROM knowledge_sources WHERE due_at <= $1 AND (leased_until IS NULL OR leased_until <= $1) \
                 ORDER BY CASE WHEN organization_id IN (SELECT organization_id FROM knowledge_sources WHERE leased_until > $1) \
                 THEN 1 ELSE 0 END, due_at, id LIMIT 1) AND (leased_until IS NULL OR leased_until <= $1) RETURNING *",
                vec![now.into(), until.into()],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (lease, attempts, source) = (row.get("lease")?, row.get("attempts")?, source(&row)?);
        let row = tx
            .opt(
                "SELECT draft FROM agents WHERE organization_id = $1 AND id = $2",
                vec![id(source.organization), id(source.agent)],
            )
            .await?;
        let draft: Map<String, Value> = match row {
            Some(row) => serde_json::from_str(&row.get::<String>("draft")?).unwrap_or_default(),
            None => Map::new(),
        };
        let language = draft.get("primaryLanguage").and_then(Value::as_str).unwrap_or("en");
        let language = language.split('-').next().unwrap_or(language).to_lowercase();
        tx.commit().await?;
        Ok(Some(Job { source, lease, attempts, language }))
    }

    /// Writes passages of a version that is not served yet, and how far that is. `false`: the lease is lost.
    pub async fn write(
        &self,
        job: &Job,
        passages: &[(PassageId, i64, &Piece, &str)],
        total: i64,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let source = &job.source;
        let mut tx = self.0.batch().await?;
        let first = passages.first().map_or(0, |it| it.1);
        let held = tx
            .exec(
                "UPDATE knowledge_sources SET leased_until = $4, progress_current = $5, progress_total = $6, updated_at = $7 \
                 WHERE organization_id = $1 AND id = $2 AND lease = $3",
                vec![
                    id(source.organization),
                    id(source.id),
                    job.lease.into(),
                    until.into(),
                    (first + passages.len() as i64).into(),
                    total.into(),
                    now.into(),
                ],
            )
            .await?;
        if held == 0 {
            return Ok(false);
        }
        if first == 0 {
            // What a reading that was cut short left behind.
            tx.queue(
                "DELETE FROM passages WHERE organization_id = $1 AND source_id = $2 AND version <> $3",
                vec![id(source.organization), id(source.id), source.version.into()],
            )
            .await?;
        }
        for (passage, position, piece, language) in passages {
            tx.queue(
                "INSERT INTO passages (id, organization_id, agent_id, source_id, version, position, heading, question, text, language) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                vec![
                    id(*passage),
                    id(source.organization),
                    id(source.agent),
                    id(source.id),
                    (source.version + 1).into(),
                    (*position).into(),
                    piece.heading.clone().into(),
                    piece.question.clone().into(),
                    piece.text.clone().into(),
                    (*language).into(),
                ],
            )
            .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Serves the version that was written in place of the one before. `digest`: of what was read. `false`: the lease is lost.
    pub async fn serve(
        &self,
        job: &Job,
        total: i64,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let source = &job.source;
        let mut tx = self.0.batch().await?;
        let row = tx
            .one(
                "SELECT CAST(COALESCE(SUM(passages), 0) AS BIGINT) AS passages FROM knowledge_sources \
                 WHERE organization_id = $1 AND agent_id = $2 AND id <> $3",
                vec![id(source.organization), id(source.agent), id(source.id)],
            )
            .await?;
        if row.get::<i64>("passages")? + total > MOST_PASSAGES {
            drop(tx);
            let message = format!(
                "The agent may have {MOST_PASSAGES} passages, and with this source it would have more."
            );
            return self.fail(job, &Failure { message: &message, retry_at: None }, now).await;
        }
        let held = tx
            .exec(
                "UPDATE knowledge_sources SET version = version + 1, passages = $4, progress_current = $4, progress_total = $4, \
                 status = 'indexed', error_message = NULL, content_digest = $5, upload_id = NULL, leased_until = NULL, attempts = 0, \
                 due_at = CASE WHEN refresh_enabled = 1 THEN $6 + refresh_interval_s * 1000000 END, \
                 indexed_at = $6, checked_at = $6, changed_at = $6, updated_at = $6 \
                 WHERE organization_id = $1 AND id = $2 AND lease = $3",
                vec![
                    id(source.organization),
                    id(source.id),
                    job.lease.into(),
                    total.into(),
                    digest.into(),
                    now.into(),
                ],
            )
            .await?;
        if held == 0 {
            return Ok(false);
        }
        tx.queue(
            "DELETE FROM passages WHERE organization_id = $1 AND source_id = $2 AND version <> $3",
            vec![id(source.organization), id(source.id), (source.version + 1).into()],
        )
        .await?;
        if let Some(upload) = source.upload {
            tx.queue(
                "DELETE FROM uploads WHERE organization_id = $1 AND id = $2",
                vec![id(source.organization), id(upload)],
            )
            .await?;
        }
        changed(&mut tx, source.organization, source.agent, source.id).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Notes that a source was read and says what it said before. `false`: the lease is lost.
    pub async fn unchanged(&self, job: &Job, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.0.batch().await?;
        let held = tx
            .exec(
                "UPDATE knowledge_sources SET error_message = NULL, leased_until = NULL, attempts = 0, \
                 due_at = CASE WHEN refresh_enabled = 1 THEN $4 + refresh_interval_s * 1000000 END, checked_at = $4, updated_at = $4 \
                 WHERE organization_id = $1 AND id = $2 AND lease = $3",
                vec![id(job.source.organization), id(job.source.id), job.lease.into(), now.into()],
            )
            .await?;
        tx.commit().await?;
        Ok(held > 0)
    }

    /// Notes why a source was not read. What was served of it before goes on being served. `false`: the lease is lost.
    pub async fn fail(&self, job: &Job, failure: &Failure<'_>, now: Timestamp) -> Result<bool, StoreError> {
        let source = &job.source;
        let status = match (source.version > 0, failure.retry_at) {
            (true, _) => Status::Indexed,
            (false, Some(_)) => Status::Pending,
            (false, None) => Status::Failed,
        };
        let mut tx = self.0.batch().await?;
        let held = tx
            .exec(
                "UPDATE knowledge_sources SET status = $4, error_message = $5, leased_until = NULL, \
                 attempts = CASE WHEN $6 IS NULL THEN 0 ELSE attempts END, progress_current = passages, progress_total = passages, \
                 due_at = CASE WHEN $6 IS NULL AND refresh_enabled = 1 THEN $7 + refresh_interval_s * 1000000 ELSE $6 END, \
                 checked_at = $7, updated_at = $7 WHERE organization_id = $1 AND id = $2 AND lease = $3",
                vec![
                    id(source.organization),
                    id(source.id),
                    job.lease.into(),
                    status.as_str().into(),
                    failure.message.into(),
                    failure.retry_at.into(),
                    now.into(),
                ],
            )
            .await?;
        if held > 0 && failure.retry_at.is_none() {
            tx.queue(
                "DELETE FROM passages WHERE organization_id = $1 AND source_id = $2 AND version <> $3",
                vec![id(source.organization), id(source.id), source.version.into()],
            )
            .await?;
            if let Some(upload) = source.upload {
                tx.queue(
                    "DELETE FROM uploads WHERE organization_id = $1 AND id = $2",
                    vec![id(source.organization), id(upload)],
                )
                .await?;
            }
        }
        tx.commit().await?;
        Ok(held > 0)
    }

    /// How often an agent's passages have changed.
    pub async fn generation(&self, organization: OrganizationId, agent: AgentId) -> Result<i64, StoreError> {
        let mut tx = self.0.read().await?;
        let row = tx
            .one(
                "SELECT knowledge_generation FROM agents WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL",
                vec![id(organization), id(agent)],
            )
            .await?;
        row.get("knowledge_generation")
    }

    /// Every passage of an agent that is served, and the generation that they are of.
    pub async fn passages(
        &self,
        organization: OrganizationId,
        agent: AgentId,
    ) -> Result<(i64, Vec<index::Entry>), StoreError> {
        let mut tx = self.0.read().await?;
        let row = tx
            .one(
                "SELECT knowledge_generation FROM agents WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL",
                vec![id(organization), id(agent)],
            )
            .await?;
        let rows = tx
            .all(
                "SELECT p.id, p.source_id, s.label, s.url, p.heading, p.question, p.text, p.language FROM passages p \
                 JOIN knowledge_sources s ON s.organization_id = p.organization_id AND s.id = p.source_id AND s.version = p.version \
                 WHERE p.organization_id = $1 AND p.agent_id = $2 ORDER BY p.source_id, p.position",
                vec![id(organization), id(agent)],
            )
            .await?;
        Ok((row.get("knowledge_generation")?, rows.iter().map(entry).collect::<Result<_, StoreError>>()?))
    }

    /// What changed of an agent's passages after a generation. `None`: that is no longer known, or the agent is gone.
    pub async fn changed_since(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        generation: i64,
    ) -> Result<Option<Changed>, StoreError> {
        let mut tx = self.0.read().await?;
        let rows = tx
            .all(
                "SELECT c.generation, c.source_id, COALESCE(s.passages, 0) AS passages FROM knowledge_changes c \
                 LEFT JOIN knowledge_sources s ON s.organization_id = c.organization_id AND s.id = c.source_id \
                 WHERE c.organization_id = $1 AND c.agent_id = $2 AND c.generation > $3 ORDER BY c.generation",
                vec![id(organization), id(agent), generation.into()],
            )
            .await?;
        let last = rows.last().map(|it| it.get("generation")).transpose()?;
        // One row for each generation, or there are some that nobody knows of.
        let Some(last) = last.filter(|it| it - generation == rows.len() as i64) else { return Ok(None) };
        let mut sources: BTreeMap<KnowledgeSourceId, i64> = BTreeMap::new();
        for row in rows {
            sources.insert(row.id("source_id")?, row.get("passages")?);
        }
        let passages = sources.values().sum();
        Ok(Some(Changed { generation: last, sources: sources.into_keys().collect(), passages }))
    }

    /// Every passage that is served of the sources that changed after a generation, up to another one.
    pub async fn passages_since(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        generation: i64,
        last: i64,
    ) -> Result<Vec<index::Entry>, StoreError> {
        let mut tx = self.0.read().await?;
        let rows = tx
            .all(
                "SELECT p.id, p.source_id, s.label, s.url, p.heading, p.question, p.text, p.language FROM \
                 (SELECT DISTINCT source_id FROM knowledge_changes \
                 WHERE organization_id = $1 AND agent_id = $2 AND generation > $3 AND generation <= $4) c \
                 JOIN knowledge_sources s ON s.organization_id = $1 AND s.id = c.source_id \
                 JOIN passages p ON p.organization_id = $1 AND p.source_id = s.id AND p.version = s.version \
                 ORDER BY p.source_id, p.position",
                vec![id(organization), id(agent), generation.into(), last.into()],
            )
            .await?;
        rows.iter().map(entry).collect()
    }
}

fn entry(row: &Row) -> Result<index::Entry, StoreError> {
    Ok(index::Entry {
        id: row.id("id")?,
        source: row.id("source_id")?,
        label: row.get("label")?,
        url: row.get("url")?,
        heading: row.get("heading")?,
        question: row.get("question")?,
        text: row.get("text")?,
        language: row.get("language")?,
    })
}
