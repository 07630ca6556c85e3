//! The caller, once proven. Made by `verify` alone.

use crate::id::{
    Id, OrganizationId, PublishableKeyId, ResourceId, SecretKeyId, SessionId, UserId, VisitorId,
};
use crate::{CredentialKind, Environment, Record, Role, ScopeSet, Timestamp};

/// Who is calling: one credential of one organization. Copied out of the replica; holds no borrow and no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    kind: CredentialKind,
    environment: Environment,
    organization: OrganizationId,
    credential: [u8; 16],
    scopes: ScopeSet,
    user: Option<(UserId, Role)>,
    pinned: Option<ResourceId>,
    expires_at: Timestamp,
}

impl Principal {
    /// The only constructor; `verify` has checked the record against the credential and the clock.
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let restrictions = record.restrictions;
        Self {
            kind: record.kind,
            environment: record.environment,
            organization: record.organization.id,
            credential: record.id,
            scopes: record.scopes,
            user: restrictions.and_then(|restrictions| restrictions.user),
            pinned: restrictions.and_then(|restrictions| restrictions.pinned),
            expires_at: record.expires_at,
        }
    }

    /// Whether this is who `earlier` was, in the same role and with no scope less.
    pub fn covers(&self, earlier: &Self) -> bool {
        let who = |it: &Self| (it.kind, it.environment, it.organization, it.credential, it.user, it.pinned);
        who(self) == who(earlier) && self.scopes.covers(earlier.scopes)
    }

    /// The kind of the credential that was presented.
    pub const fn kind(&self) -> CredentialKind {
        self.kind
    }

    /// Which world it acts in.
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// The organization, which the credential alone decides.
    pub const fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// The scopes that its credential grants.
    pub const fn scopes(&self) -> ScopeSet {
        self.scopes
    }

    /// The person and role behind a session.
    pub const fn user(&self) -> Option<(UserId, Role)> {
        self.user
    }

    /// The resource that a publishable key or visitor session is pinned to.
    pub const fn pinned(&self) -> Option<ResourceId> {
        self.pinned
    }

    /// First instant at which the credential no longer works.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The id of the credential without its prefix.
    pub const fn credential(&self) -> [u8; 16] {
        self.credential
    }

    /// The id of the credential as clients know it.
    pub fn credential_id(&self) -> String {
        credential_id(self.kind, self.credential)
    }
}

/// The id of a credential as clients know it, with the prefix of its kind.
pub fn credential_id(kind: CredentialKind, id: [u8; 16]) -> String {
    match kind {
        CredentialKind::SecretKey => SecretKeyId::from_bytes(id).to_string(),
        CredentialKind::PublishableKey => PublishableKeyId::from_bytes(id).to_string(),
        CredentialKind::Session => SessionId::from_bytes(id).to_string(),
        CredentialKind::Visitor | CredentialKind::OneTime => VisitorId::from_bytes(id).to_string(),
    }
}
