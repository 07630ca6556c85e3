//! Where a key is verified: the record that its digest found, against what was presented and the clock.

use crate::{CredentialKind, Denial, Presented, Principal, Record, Timestamp};

/// Makes a [`Principal`] of a credential whose digest found `record`.
///
/// The kind and, where its kind says one, the environment the secret claims must be the record's: a secret body under another prefix is unknown, not
/// merely wrong.
pub fn verify(presented: &Presented<'_>, record: &Record<'_>, now: Timestamp) -> Result<Principal, Denial> {
    let other_environment = record.kind.has_environment() && presented.environment() != record.environment;
    if presented.kind() != record.kind || other_environment {
        return Err(Denial::InvalidCredential);
    }
    is_active(record, now)
}

/// The same for a credential that was found by what was presented before.
///
/// Revoked is said before expired. Expiry is half-open: at `expires_at` it no longer works.
pub fn is_active(record: &Record<'_>, now: Timestamp) -> Result<Principal, Denial> {
    if matches!(record.kind, CredentialKind::OneTime) {
        return Err(Denial::InvalidCredential);
    }
    if record.revoked {
        return Err(Denial::CredentialRevoked);
    }
    let idle_end =
        record.restrictions.and_then(|restrictions| restrictions.idle.as_ref()).map(|idle| idle.ends_at());
    if now >= record.expires_at || idle_end.is_some_and(|end| now >= end) {
        return Err(Denial::CredentialExpired);
    }
    Ok(Principal::of(record))
}
