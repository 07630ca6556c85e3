//! Repeated requests under one Idempotency-Key get the first one's answer.

use crate::db::{BatchTx, id};
use crate::{StoreError, args};
use flowyte_core::Timestamp;
use flowyte_core::id::{Id, OrganizationId};

/// A client's Idempotency-Key, as the store sees it: digests only.
#[derive(Clone)]
pub struct Claim {
    /// The principal that repeats: a user or a key, not the credential, which may be rotated in between.
    pub actor: String,
    /// Keyed digest of the Idempotency-Key.
    pub digest: [u8; 32],
    /// The `operationId` of the request.
    pub operation: String,
    /// Digest of path and body.
    pub request: [u8; 32],
    /// When the answer is forgotten.
    pub expires_at: Timestamp,
}

/// Turns what was done into the answer to keep: rendered, then sealed under a key only the client can rebuild.
pub type Seal<'a, T> = &'a (dyn Fn(&T) -> Vec<u8> + Send + Sync);

/// Done now, or done before.
pub enum Once<T> {
    /// This call did it, and this is what came of it.
    Fresh(T),
    /// An earlier call did; this is its sealed answer.
    Replay(Vec<u8>),
}

impl BatchTx {
    /// The sealed answer of an earlier call with the same key and request; `None` when this is the first.
    pub async fn claimed(
        &mut self,
        organization: OrganizationId,
        claim: Option<&Claim>,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(claim) = claim else { return Ok(None) };
        // So many at once that those of a flood are not left to one of its neighbours.
        self.queue(
            "DELETE FROM idempotency WHERE (organization_id, actor, digest) IN \
             (SELECT organization_id, actor, digest FROM idempotency WHERE expires_at <= $1 ORDER BY expires_at LIMIT 20)",
            args![now],
        )
        .await?;
        let found = self
            .opt(
                "SELECT operation, request, answer FROM idempotency WHERE organization_id = $1 AND actor = $2 AND digest = $3 \
                 AND expires_at > $4",
                args![*organization.as_bytes(), claim.actor.clone(), claim.digest, now],
            )
            .await?;
        let Some(row) = found else { return Ok(None) };
        if row.get::<String>("operation")? != claim.operation || row.bytes::<32>("request")? != claim.request
        {
            return Err(StoreError::IdempotencyKeyReused);
        }
        row.get("answer").map(Some)
    }

    /// Keeps the sealed answer, in the transaction of what it tells of.
    pub async fn remember(
        &mut self,
        organization: OrganizationId,
        claim: Option<&Claim>,
        answer: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), StoreError> {
        let Some(claim) = claim else { return Ok(()) };
        self.queue(
            "INSERT INTO idempotency (organization_id, actor, digest, operation, request, answer, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (organization_id, actor, digest) DO UPDATE SET \
             operation = excluded.operation, request = excluded.request, answer = excluded.answer, \
             expires_at = excluded.expires_at",
            vec![
                id(organization),
                claim.actor.clone().into(),
                claim.digest.into(),
                claim.operation.clone().into(),
                claim.request.into(),
                answer().into(),
                claim.expires_at.into(),
            ],
        )
        .await?;
        Ok(())
    }
}
