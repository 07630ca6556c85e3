//! What a replica keeps for one secret: everything a decision needs, found by one look-up.

use crate::address::AddressBlock;
use crate::id::{OrganizationId, ResourceId, UserId};
use crate::limit::RateLimit;
use crate::{CredentialKind, Environment, Origin, Role, ScopeSet, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// An organization as decisions see it.
#[derive(Debug)]
pub struct Organization {
    /// The id of the organization.
    pub id: OrganizationId,
    /// The operator suspended it: every credential of it is refused. Set in place, since every record of it points here.
    pub suspended: AtomicBool,
    /// The organization's own rate limit.
    pub limit: RateLimit,
}

/// One secret's record, as a look-up shows it. A key in rotation has two.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    /// The organization it belongs to.
    pub organization: &'r Organization,
    /// What it grants: of a key, its own; of a session, its member's role.
    pub scopes: ScopeSet,
    /// The id of the key, session or visitor session, without its prefix.
    pub id: [u8; 16],
    /// First instant at which it no longer works; [`Timestamp::NEVER`] when it does not expire.
    pub expires_at: Timestamp,
    /// Bound to the secret's own prefix.
    pub kind: CredentialKind,
    /// Bound to the secret's own prefix.
    pub environment: Environment,
    /// Revoked, ended or withdrawn; for good.
    pub revoked: bool,
    /// An older secret of a rotated key, which works until its grace ends.
    pub superseded: bool,
    /// What only some credentials have.
    pub restrictions: Option<&'r Restrictions>,
}

/// Restrictions and ties that plain secret keys do not have; kept apart so that those stay small.
#[derive(Debug, Default)]
pub struct Restrictions {
    /// Where a secret key may be used from; empty: anywhere.
    pub addresses: Vec<AddressBlock>,
    /// Where a publishable key or visitor session may be used from; empty: nowhere.
    pub origins: Vec<Origin>,
    /// The resource a publishable key or visitor session is pinned to.
    pub pinned: Option<ResourceId>,
    /// The person behind a session, and in which role.
    pub user: Option<(UserId, Role)>,
    /// The rate limit of a key itself, which applies besides the organization's; `None`: only that of the organization applies.
    pub limit: Option<Arc<RateLimit>>,
    /// The idle clock of a session.
    pub idle: Option<Idle>,
    /// When the person signed in, for operations that ask for a fresh session.
    pub signed_in_at: Option<Timestamp>,
}

/// Ends a session that is not used. Sliding, so it is moved by use; never past the record's own expiry.
#[derive(Debug)]
pub struct Idle {
    /// Last use, microseconds since the Unix epoch.
    last_used: AtomicI64,
    /// Microseconds without use after which the session is over.
    after: i64,
}

impl Idle {
    /// A session last used at `last_used` that ends after `after` microseconds without use.
    pub fn new(last_used: Timestamp, after: i64) -> Self {
        Self { last_used: AtomicI64::new(last_used.as_micros()), after }
    }

    /// First instant at which the session is over if it is not used again.
    pub fn ends_at(&self) -> Timestamp {
        self.last_used().plus(self.after)
    }

    /// When the session was last used.
    pub fn last_used(&self) -> Timestamp {
        Timestamp::from_micros(self.last_used.load(Ordering::Relaxed))
    }

    /// Notes a use. An earlier instant never moves it back.
    pub fn touch(&self, now: Timestamp) {
        self.last_used.fetch_max(now.as_micros(), Ordering::Relaxed);
    }
}
