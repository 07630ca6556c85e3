//! Every way a decision can say no.

use crate::limit::Limited;
use crate::path::Ambiguity;
use crate::{Contract, CredentialKind, Operation, Requirement, ScopeSet};
use std::borrow::Cow;

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
    /// The contract declares the operation with `x-reserved`, so every caller is refused, whatever its scopes.
    OperationReserved,
    /// A session cookie on an unsafe method from another site.
    CrossSiteRequest,
    /// No origin, or one that is not listed.
    OriginNotAllowed,
    /// The publishable key is pinned to another resource.
    ResourceNotAllowed,
    /// The session signed in too long ago for this operation.
    ReauthenticationRequired,
    /// The caller's scopes satisfy none of the operation's alternatives for its kind of credential.
    InsufficientScope {
        /// The scopes that the caller's credential grants.
        held: ScopeSet,
        /// The kind whose alternatives count.
        kind: CredentialKind,
    },
    /// Too many requests: of the key, of its organization, or of a caller without a valid credential.
    RateLimited(Limited),
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
            Self::ResourceNotAllowed => "agent_not_allowed",
            Self::ReauthenticationRequired => "reauthentication_required",
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::RateLimited(_) => "rate_limited",
        }
    }
}

/// The sets of scopes of which a credential of this kind needs one, and the one of them that `held` lacks least of.
pub fn needed(
    operation: Option<&Operation>,
    held: ScopeSet,
    kind: CredentialKind,
) -> (Vec<ScopeSet>, ScopeSet) {
    let sets: Vec<ScopeSet> = match operation.map(Operation::requirement) {
        Some(Requirement::Credential(all)) => {
            all.iter().filter(|it| it.kind == kind).map(|it| it.scopes).collect()
        }
        _ => Vec::new(),
    };
    let nearest = sets.iter().copied().min_by_key(|set| set.minus(held).len()).unwrap_or(ScopeSet::EMPTY);
    (sets, nearest)
}

/// What `WWW-Authenticate` begins with (RFC 6750 §3).
pub const CHALLENGE: &str = "Bearer realm=\"flowyte\"";
/// What it says to a credential that does not hold.
pub const INVALID_TOKEN: &str = "Bearer realm=\"flowyte\", error=\"invalid_token\"";

impl Denial {
    /// What `WWW-Authenticate` says, where another credential would have helped.
    pub fn challenge(&self, contract: &Contract, operation: Option<&Operation>) -> Option<Cow<'static, str>> {
        match *self {
            Self::MissingCredential => Some(CHALLENGE.into()),
            Self::InvalidCredential | Self::CredentialExpired | Self::CredentialRevoked => {
                Some(INVALID_TOKEN.into())
            }
            Self::InsufficientScope { held, kind } => {
                let scopes = contract.scopes().names(needed(operation, held, kind).1).join(" ");
                Some(format!("{CHALLENGE}, error=\"insufficient_scope\", scope=\"{scopes}\"").into())
            }
            _ => None,
        }
    }
}
