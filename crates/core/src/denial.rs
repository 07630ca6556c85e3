//! Every way a decision can say no.

use crate::path::Ambiguity;
use crate::{CredentialKind, ScopeSet};

/// A refusal. Holds what the caller needs to do better, and nothing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The path has no single meaning.
    AmbiguousPath(Ambiguity),
    /// More than one credential, or one where none may stand.
    MalformedRequest(&'static str),
    /// No such path in the contract.
    NotFound,
    /// The path exists without this method.
    MethodNotAllowed {
        /// The path's number in the contract, whose methods answer `Allow`.
        path: usize,
    },
    /// The operation needs a credential and none came.
    MissingCredential,
    /// Malformed, wrong checksum, wrong carrier or unknown.
    InvalidCredential,
    /// Known, and past its time.
    CredentialExpired,
    /// Known, and revoked or ended.
    CredentialRevoked,
    /// The replica can't prove that it is fresh.
    VerificationUnavailable,
    /// The operator suspended the organization.
    OrganizationSuspended,
    /// The caller's address is outside the key's list.
    AddressNotAllowed,
    /// The operation does not take this kind.
    CredentialNotAllowed {
        /// The kinds it takes, as [`CredentialKind::bit`]s.
        allowed: u8,
    },
    /// Declared and not released.
    OperationReserved,
    /// A session cookie on an unsafe method from another site.
    CrossSiteRequest,
    /// No origin, or one that is not listed.
    OriginNotAllowed,
    /// The publishable key is another agent's.
    AgentNotAllowed,
    /// The session signed in too long ago for this operation.
    ReauthenticationRequired,
    /// No alternative is covered.
    InsufficientScope {
        /// What the caller has.
        held: ScopeSet,
        /// Whose alternatives count.
        kind: CredentialKind,
    },
}

impl Denial {
    /// The stable code that clients match on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AmbiguousPath(_) | Self::MalformedRequest(_) => "malformed_request",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::MissingCredential => "missing_credential",
            Self::InvalidCredential => "invalid_credential",
            Self::CredentialExpired => "credential_expired",
            Self::CredentialRevoked => "credential_revoked",
            Self::VerificationUnavailable => "verification_unavailable",
            Self::OrganizationSuspended => "organization_suspended",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::CredentialNotAllowed { .. } => "credential_not_allowed",
            Self::OperationReserved => "operation_reserved",
            Self::CrossSiteRequest => "cross_site_request",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::AgentNotAllowed => "agent_not_allowed",
            Self::ReauthenticationRequired => "reauthentication_required",
            Self::InsufficientScope { .. } => "insufficient_scope",
        }
    }
}
