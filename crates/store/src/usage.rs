//! What credentials were used for: written in batches, off the path of requests.

use crate::db::{BatchTx, Store, id};
use crate::{StoreError, args};
use flowyte_core::id::{Id, OrganizationId, SecretKeyId};
use flowyte_core::{CredentialKind, Digest, Timestamp};
use std::collections::BTreeMap;

/// Calls of one credential to one operation with one outcome on one day.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// The credential's id without its prefix.
    pub credential: [u8; 16],
    /// What kind of credential it is.
    pub kind: CredentialKind,
    /// The digest of the secret that was used, where it is one of a secret key.
    pub secret: Option<Digest>,
    /// It was an older secret in its grace.
    pub superseded: bool,
    /// UTC day, `YYYY-MM-DD`.
    pub day: String,
    /// The `operationId` of the operation that was called.
    pub operation: String,
    /// `allowed`, or the code of the refusal.
    pub outcome: String,
    /// Calls on that day, of one outcome.
    pub calls: i64,
    /// When the last of these calls was counted, at its answer.
    pub last_at: Timestamp,
    /// The IP address that the last of these calls came from.
    pub address: String,
}

/// What each row of a table is left with after a batch: the last use, in the order of the table's key, in which every writer takes rows,
/// so that no two wait for one another.
fn last_of<K: Ord>(batch: &[UsageRow], key: impl Fn(&UsageRow) -> Option<K>) -> BTreeMap<K, &UsageRow> {
    let mut last: BTreeMap<K, &UsageRow> = BTreeMap::new();
    for row in batch {
        let Some(key) = key(row) else { continue };
        let known = last.entry(key).or_insert(row);
        if known.last_at <= row.last_at {
            *known = row;
        }
    }
    last
}

impl BatchTx {
    /// The counters of a batch, in the order of their keys.
    async fn count(&mut self, batch: &[UsageRow]) -> Result<(), StoreError> {
        let mut rows: Vec<&UsageRow> =
            batch.iter().filter(|row| row.kind == CredentialKind::SecretKey).collect();
        rows.sort_by_key(|row| (row.organization, row.credential, &row.day, &row.operation, &row.outcome));
        for row in &rows {
            self.queue(
                "INSERT INTO usage (organization_id, key_id, day, operation_id, outcome, calls, last_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (organization_id, key_id, day, operation_id, outcome) \
                 DO UPDATE SET calls = usage.calls + excluded.calls, \
                 last_at = CASE WHEN excluded.last_at > usage.last_at THEN excluded.last_at ELSE usage.last_at END",
                vec![
                    id(row.organization),
                    row.credential.into(),
                    row.day.clone().into(),
                    row.operation.clone().into(),
                    row.outcome.clone().into(),
                    row.calls.into(),
                    row.last_at.into(),
                ],
            )
            .await?;
        }
        rows.retain(|row| row.superseded && row.secret.is_some());
        rows.sort_by_key(|row| (row.organization, row.secret.map(|it| *it.as_bytes()), &row.address));
        for row in rows {
            let Some(digest) = row.secret else { continue };
            self.queue(
                "INSERT INTO superseded_usage (organization_id, digest, address, calls, last_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (organization_id, digest, address) \
                 DO UPDATE SET calls = superseded_usage.calls + excluded.calls, \
                 last_at = CASE WHEN excluded.last_at > superseded_usage.last_at THEN excluded.last_at ELSE superseded_usage.last_at END",
                args![*row.organization.as_bytes(), digest, row.address.clone(), row.calls, row.last_at],
            )
            .await?;
        }
        Ok(())
    }
}

impl dyn Store + '_ {
    /// Adds a batch: counters for keys, last use for keys and sessions, the last call of each secret. Only allowed calls count as use.
    pub async fn add_usage(&self, batch: &[UsageRow]) -> Result<(), StoreError> {
        let mut tx = self.batch().await?;
        tx.count(batch).await?;
        let used = |kind| {
            move |row: &UsageRow| (row.kind == kind && row.outcome == "allowed").then_some(row.credential)
        };
        for (key, row) in last_of(batch, used(CredentialKind::SecretKey)) {
            tx.queue(
                "UPDATE secret_keys SET last_used_at = $2, last_used_address = $3, last_used_operation = $4 \
                 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $2)",
                args![key, row.last_at, row.address.clone(), row.operation.clone()],
            )
            .await?;
        }
        for (kind, sql) in [
            (
                CredentialKind::Session,
                "UPDATE sessions SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2",
            ),
            (
                CredentialKind::PublishableKey,
                "UPDATE publishable_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
            ),
            (
                CredentialKind::Visitor,
                "UPDATE visitors SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2",
            ),
        ] {
            for (credential, row) in last_of(batch, used(kind)) {
                tx.queue(sql, args![credential, row.last_at]).await?;
            }
        }
        for (digest, row) in last_of(batch, |row| row.secret.map(|it| *it.as_bytes())) {
            tx.queue(
                "UPDATE secrets SET last_call_at = $3, last_call_operation = $4, last_call_outcome = $5 \
                 WHERE digest = $1 AND organization_id = $2 AND (last_call_at IS NULL OR last_call_at <= $3)",
                args![
                    digest,
                    *row.organization.as_bytes(),
                    row.last_at,
                    row.operation.clone(),
                    row.outcome.clone()
                ],
            )
            .await?;
        }
        tx.commit().await
    }

    /// Who still uses the older secret of a key whose grace runs: calls from each address, the latest first.
    pub async fn superseded_usage(
        &self,
        organization: OrganizationId,
        key: SecretKeyId,
        now: Timestamp,
    ) -> Result<Vec<(String, i64, Timestamp)>, StoreError> {
        let mut tx = self.read().await?;
        let rows = tx
            .all(
                "SELECT u.address, u.calls, u.last_at FROM superseded_usage u JOIN secrets s ON s.digest = u.digest \
                 WHERE u.organization_id = $1 AND s.organization_id = $1 AND s.key_id = $2 AND s.expires_at > $3 \
                 ORDER BY u.last_at DESC, u.address",
                args![*organization.as_bytes(), *key.as_bytes(), now],
            )
            .await?;
        rows.iter().map(|row| Ok((row.get("address")?, row.get("calls")?, row.time("last_at")?))).collect()
    }

    /// Forgets the use of older secrets whose grace is over.
    pub async fn forget_superseded_usage(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.batch().await?;
        tx.queue(
            "DELETE FROM superseded_usage WHERE NOT EXISTS \
             (SELECT 1 FROM secrets s WHERE s.digest = superseded_usage.digest AND s.expires_at > $1)",
            args![now],
        )
        .await?;
        tx.commit().await
    }

    /// A key's counters between two days, both included: (day, operation, outcome, calls, last).
    pub async fn usage(
        &self,
        organization: OrganizationId,
        key: SecretKeyId,
        from: &str,
        to: &str,
    ) -> Result<Vec<(String, String, String, i64, Timestamp)>, StoreError> {
        let mut tx = self.read().await?;
        let rows = tx
            .all(
                "SELECT day, operation_id, outcome, calls, last_at FROM usage WHERE organization_id = $1 AND key_id = $2 \
                 AND day >= $3 AND day <= $4 ORDER BY day, operation_id, outcome",
                args![*organization.as_bytes(), *key.as_bytes(), from, to],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    row.get("day")?,
                    row.get("operation_id")?,
                    row.get("outcome")?,
                    row.get("calls")?,
                    row.time("last_at")?,
                ))
            })
            .collect()
    }
}
