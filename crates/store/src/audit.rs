//! The audit trail: one hash chain per organization, appended in the transaction of the change it tells of.

use crate::db::{ProductTx, Row, Statement, Store, id};
use crate::growth::{Growth, Link};
use crate::labour::labour;
use crate::{Page, StoreError, args};
use flowyte_core::Timestamp;
use flowyte_core::id::{AuditEventId, Id, OrganizationId};
use sha2::{Digest as _, Sha256};

/// Who did something, as the audit trail names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `user`, `secret_key`, `system` or `anonymous`.
    pub kind: &'static str,
    /// The actor's id as clients know it, such as `user_…` or `key_…`; empty for the system and for anonymous callers.
    pub id: String,
    /// A name for people, as it was then.
    pub name: String,
}

/// Who, from where and when: what every change carries.
#[derive(Clone, Debug)]
pub struct AuditContext {
    /// The actor that the events name.
    pub actor: Actor,
    /// From which address; empty for the system.
    pub address: String,
    /// The present time, with which the change and its events are dated.
    pub now: Timestamp,
}

/// One thing that was done, and what it was done to, to be appended to an audit trail.
#[derive(Clone, Debug)]
pub struct AuditAction<'a> {
    /// What was done, in the form `target.verb`: `api_key.minted`, `member.joined`.
    pub action: &'a str,
    /// The kind of the target: `api_key`, `member`, `agent` and so on.
    pub kind: &'a str,
    /// The id of the target as clients know it, with its prefix.
    pub id: String,
    /// The name of the target for people, as it was then; empty where it has none.
    pub name: &'a str,
    /// What else is worth knowing; never a secret.
    pub details: serde_json::Value,
}

/// An event of an audit trail, as it is stored.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// The id of the event (`evt_…`), which is made from its time and its hash.
    pub id: AuditEventId,
    /// Position in the organization's chain, from 1.
    pub sequence: i64,
    /// When it was done: the instant that the change itself is dated with.
    pub at: Timestamp,
    /// What kind of actor did it, as in [`Actor::kind`].
    pub actor_kind: String,
    /// The actor's id, as in [`Actor::id`].
    pub actor_id: String,
    /// The actor's name as it was then; changing the name later does not change the event.
    pub actor_name: String,
    /// What was done, as in [`AuditAction::action`].
    pub action: String,
    /// The kind of the target, as in [`AuditAction::kind`].
    pub target_kind: String,
    /// The target's id, as in [`AuditAction::id`].
    pub target_id: String,
    /// The target's name as it was then.
    pub target_name: String,
    /// What else is worth knowing, as JSON text; never a secret.
    pub details: String,
    /// The IP address that the request came from; empty for the system.
    pub address: String,
    /// SHA-256 over the hash before and every field of this event.
    pub hash: [u8; 32],
}

/// What a walk along the chain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Events in the chain. Those before `walked_from` are taken to be all there.
    pub events: i64,
    /// The sequence that the walk began with.
    pub walked_from: i64,
    /// The first sequence that does not follow from the one before, or is missing or another than it was.
    pub broken_at: Option<i64>,
    /// The last event that follows.
    pub head: Option<Link>,
}

/// The place in the chain that a row stands at.
fn link(row: &Row) -> Result<Link, StoreError> {
    Ok(Link { sequence: row.get("sequence")?, hash: row.bytes("hash")? })
}

/// How far a walk along the chain has come.
struct Walk {
    organization: OrganizationId,
    report: ChainReport,
    expected: i64,
    before: [u8; 32],
}

impl Walk {
    /// A walk that begins with the event after `link`.
    fn behind(organization: OrganizationId, link: Link) -> Self {
        let expected = link.sequence + 1;
        let head = Some(link).filter(|it| *it != Link::START);
        let report = ChainReport { events: link.sequence, walked_from: expected, broken_at: None, head };
        Self { organization, report, expected, before: link.hash }
    }

    /// Holds the next events against the chain, in the order of their sequence.
    fn along(mut self, rows: &[Row]) -> Result<Self, StoreError> {
        for row in rows {
            let event = AuditEvent::read(row)?;
            self.report.events += 1;
            let follows = event.sequence == self.expected
                && event.hash == event.chained(self.organization, &self.before);
            if self.report.broken_at.is_none() {
                match follows {
                    true => self.report.head = Some(event.link()),
                    false => self.report.broken_at = Some(self.expected),
                }
            }
            (self.expected, self.before) = (event.sequence + 1, event.hash);
        }
        Ok(self)
    }
}

impl AuditEvent {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id("id")?,
            sequence: row.get("sequence")?,
            at: row.time("at")?,
            actor_kind: row.get("actor_kind")?,
            actor_id: row.get("actor_id")?,
            actor_name: row.get("actor_name")?,
            action: row.get("action")?,
            target_kind: row.get("target_kind")?,
            target_id: row.get("target_id")?,
            target_name: row.get("target_name")?,
            details: row.get("details")?,
            address: row.get("address")?,
            hash: row.bytes("hash")?,
        })
    }

    fn link(&self) -> Link {
        Link { sequence: self.sequence, hash: self.hash }
    }

    /// Length-prefixed fields, so that no two events share an encoding.
    fn chained(&self, organization: OrganizationId, before: &[u8; 32]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(before);
        let (sequence, at) = (self.sequence.to_be_bytes(), self.at.as_micros().to_be_bytes());
        let texts = [
            &self.actor_kind,
            &self.actor_id,
            &self.actor_name,
            &self.action,
            &self.target_kind,
            &self.target_id,
            &self.target_name,
            &self.details,
            &self.address,
        ];
        let fixed = [&organization.as_bytes()[..], &sequence, &at];
        for field in fixed.into_iter().chain(texts.iter().map(|text| text.as_bytes())) {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        hash.finalize().into()
    }
}

/// Asks for the newest event of an organization.
pub(crate) fn end_of_chain(organization: OrganizationId) -> Statement {
    (
        "SELECT sequence, hash FROM audit_events WHERE organization_id = $1 ORDER BY sequence DESC LIMIT 1",
        vec![id(organization)],
    )
}

impl ProductTx {
    /// Appends an event. The caller's transaction is the only writer, so the chain can't fork.
    pub async fn audit(
        &mut self,
        organization: OrganizationId,
        by: &AuditContext,
        deed: AuditAction<'_>,
    ) -> Result<(), StoreError> {
        let (sql, args) = end_of_chain(organization);
        let last = self.all(sql, args).await?;
        self.audit_after(&last, organization, by, deed).await
    }

    /// The same where [`end_of_chain`] has been asked in this transaction already, and answered `last`.
    pub(crate) async fn audit_after(
        &mut self,
        last: &[Row],
        organization: OrganizationId,
        by: &AuditContext,
        deed: AuditAction<'_>,
    ) -> Result<(), StoreError> {
        let before = last.first().map_or(Ok(Link::START), link)?;
        let mut event = AuditEvent {
            id: AuditEventId::from_bytes([0; 16]),
            sequence: before.sequence + 1,
            at: by.now,
            actor_kind: by.actor.kind.into(),
            actor_id: by.actor.id.clone(),
            actor_name: by.actor.name.clone(),
            action: deed.action.into(),
            target_kind: deed.kind.into(),
            target_id: deed.id,
            target_name: deed.name.into(),
            details: deed.details.to_string(),
            address: by.address.clone(),
            hash: [0; 32],
        };
        event.hash = event.chained(organization, &before.hash);
        self.grows(organization, Growth { before, last: event.link() });
        // The hash is as unlike every other as random bytes are, so the id needs none.
        let mut unique = [0; 10];
        unique.copy_from_slice(&event.hash[..10]);
        event.id = AuditEventId::generate(by.now, unique);
        self.queue(
            "INSERT INTO audit_events (organization_id, sequence, id, at, actor_kind, actor_id, actor_name, action, \
             target_kind, target_id, target_name, details, address, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            vec![
                id(organization),
                event.sequence.into(),
                id(event.id),
                event.at.into(),
                event.actor_kind.into(),
                event.actor_id.into(),
                event.actor_name.into(),
                event.action.into(),
                event.target_kind.into(),
                event.target_id.into(),
                event.target_name.into(),
                event.details.into(),
                event.address.into(),
                event.hash.into(),
            ],
        )
        .await?;
        Ok(())
    }
}

/// Which events are wanted; absent means any.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// The actor's id, which must be the same to the letter.
    pub actor: Option<String>,
    /// The action, which must be the same to the letter.
    pub action: Option<String>,
    /// The id of what it was done to.
    pub target: Option<String>,
    /// The earliest instant of an event; one of exactly this instant is included.
    pub from: Option<Timestamp>,
    /// The end of the time; an event of exactly this instant is left out.
    pub to: Option<Timestamp>,
}

impl dyn Store + '_ {
    /// Events newest first; `before` is the sequence of the last one of the page before.
    pub async fn audit_events(
        &self,
        organization: OrganizationId,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        macro_rules! events {
            ($target:literal) => {
                concat!(
                    "SELECT * FROM audit_events WHERE organization_id = $1 AND sequence < $2 \
                     AND (CAST($3 AS TEXT) IS NULL OR actor_id = $3) AND (CAST($4 AS TEXT) IS NULL OR action = $4) \
                     AND at >= $5 AND at < $6",
                    $target,
                    " ORDER BY sequence DESC LIMIT $7"
                )
            };
        }
        let page = Page { limit, before: None };
        let mut args = args![
            *organization.as_bytes(),
            before.unwrap_or(i64::MAX),
            filter.actor.clone(),
            filter.action.clone(),
            filter.from.unwrap_or(Timestamp::from_micros(i64::MIN)),
            filter.to.unwrap_or(Timestamp::NEVER),
            page.probe(),
        ];
        // A statement of its own, so that the index of targets serves it.
        let sql = match &filter.target {
            Some(target) => {
                args.push(target.clone().into());
                events!(" AND target_id = $8")
            }
            None => events!(""),
        };
        let rows = self.read().await?.all(sql, args).await?;
        rows.iter().map(AuditEvent::read).collect()
    }

    /// Recomputes the chain from its beginning.
    pub async fn audit_verify(&self, organization: OrganizationId) -> Result<ChainReport, StoreError> {
        self.walk(Walk::behind(organization, Link::START)).await
    }

    /// The same from behind an event that an earlier walk came to. Where that is not what it was, the whole chain is walked.
    pub async fn audit_verify_after(
        &self,
        organization: OrganizationId,
        verified: Link,
    ) -> Result<ChainReport, StoreError> {
        let Some(differs) = self.audit_differs(organization, verified).await? else {
            return self.walk(Walk::behind(organization, verified)).await;
        };
        let mut report = self.audit_verify(organization).await?;
        report.broken_at = Some(report.broken_at.map_or(differs, |at| at.min(differs)));
        Ok(report)
    }

    /// A page at a time: between two pages no connection and no thread is held.
    async fn walk(&self, mut walk: Walk) -> Result<ChainReport, StoreError> {
        let organization = walk.organization;
        loop {
            let rows = self
                .read()
                .await?
                .all(
                    "SELECT * FROM audit_events WHERE organization_id = $1 AND sequence >= $2 ORDER BY sequence LIMIT 1000",
                    args![*organization.as_bytes(), walk.expected],
                )
                .await?;
            if rows.is_empty() {
                return Ok(walk.report);
            }
            walk = labour(move || walk.along(&rows))
                .await
                .map_err(|error| StoreError::Inconsistent(format!("audit: {error}")))??;
        }
    }

    /// Whether a chain no longer has an event that it had: `None` where it has it, or the first sequence that is missing or another, as
    /// far as that event can tell.
    pub async fn audit_differs(
        &self,
        organization: OrganizationId,
        had: Link,
    ) -> Result<Option<i64>, StoreError> {
        match self.audit_hash(organization, had.sequence).await? {
            Some(hash) if hash == had.hash => Ok(None),
            Some(_) => Ok(Some(had.sequence)),
            None => {
                let end = self.audit_end(organization).await?.unwrap_or(Link::START);
                Ok(Some(had.sequence.min(end.sequence + 1)))
            }
        }
    }

    /// Where a chain ends; `None` where it has no event.
    pub async fn audit_end(&self, organization: OrganizationId) -> Result<Option<Link>, StoreError> {
        let (sql, args) = end_of_chain(organization);
        let row = self.glance().await?.opt(sql, args).await?;
        row.as_ref().map(link).transpose()
    }

    /// Where the chains of some organizations end: of those with an id after `after`, in their order, `most` at most.
    pub async fn audit_ends(
        &self,
        after: OrganizationId,
        most: u32,
    ) -> Result<Vec<(OrganizationId, Option<Link>)>, StoreError> {
        let rows = self
            .read()
            .await?
            .all(
                "SELECT o.id AS id, e.sequence AS sequence, e.hash AS hash FROM (SELECT id, (SELECT MAX(sequence) \
                 FROM audit_events WHERE organization_id = organizations.id) AS last FROM organizations \
                 WHERE id > $1 ORDER BY id LIMIT $2) o \
                 LEFT JOIN audit_events e ON e.organization_id = o.id AND e.sequence = o.last ORDER BY o.id",
                args![*after.as_bytes(), most],
            )
            .await?;
        let end = |row: &Row| row.get::<Option<i64>>("sequence")?.map(|_| link(row)).transpose();
        rows.iter().map(|row| Ok((row.id("id")?, end(row)?))).collect()
    }

    /// The organizations there are, oldest first.
    pub async fn organizations(&self) -> Result<Vec<OrganizationId>, StoreError> {
        let mut tx = self.read().await?;
        let rows = tx.all("SELECT id FROM organizations ORDER BY id", vec![]).await?;
        rows.iter().map(|row| row.id("id")).collect()
    }

    /// The hash of one event of a chain; `None` where the chain does not reach so far.
    pub async fn audit_hash(
        &self,
        organization: OrganizationId,
        sequence: i64,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let sql = "SELECT hash FROM audit_events WHERE organization_id = $1 AND sequence = $2";
        let row = self.glance().await?.opt(sql, args![*organization.as_bytes(), sequence]).await?;
        row.map(|row| row.bytes("hash")).transpose()
    }

    /// Records something that changed nothing else, like a failed sign-in.
    pub async fn audit_only(
        &self,
        organization: OrganizationId,
        by: &AuditContext,
        deed: AuditAction<'_>,
    ) -> Result<(), StoreError> {
        let mut tx = self.security().await?;
        tx.audit(organization, by, deed).await?;
        tx.commit().await
    }
}
