//! Where verification and authorization combine, in the one order of refusals.

use crate::authorize::{covers_scopes, takes_kind};
use crate::contract::Matched;
use crate::facts::Field;
use crate::id::{Id, ResourceId};
use crate::time::HOUR;
use crate::verify::{is_active, verify};
use crate::{
    CredentialKind, Denial, OperationIndex, Presented, Principal, Record, RequestFacts, Restrictions,
    Timestamp,
};
use std::sync::atomic::Ordering;

/// How long after sign-in a session may do what asks for a fresh one.
pub const FRESH_SESSION: i64 = 12 * HOUR;

/// What the replica answers for a digest.
#[derive(Clone, Copy)]
pub enum Lookup<'r> {
    /// The replica can't prove that it is fresh.
    Unavailable,
    /// No secret that is in use has the digest.
    Unknown,
    /// The digest is that of this secret.
    Found(&'r Record<'r>),
}

/// Leave to run one operation. Handlers can't run without one, and nothing but [`decide`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    operation: OperationIndex,
    caller: Option<Principal>,
    decided_at: Timestamp,
}

impl Permit {
    /// The one operation that may run.
    pub const fn operation(&self) -> OperationIndex {
        self.operation
    }

    /// The instant at which the permit was decided, on the clock that the caller of [`decide`] passed in.
    pub const fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    /// Who is calling; `None` on a public operation.
    pub const fn caller(&self) -> Option<&Principal> {
        self.caller.as_ref()
    }

    /// Whether it lets its caller do all that `earlier` let them do: the same operation for the same caller in the same role, with no
    /// scope less.
    pub fn covers(&self, earlier: &Self) -> bool {
        self.operation == earlier.operation
            && match (&self.caller, &earlier.caller) {
                (None, None) => true,
                (Some(now), Some(then)) => now.covers(then),
                _ => false,
            }
    }
}

/// Decides one request. `record` is what the replica knows of `presented`'s digest; it is not asked when nothing was
/// presented. Allocates nothing.
///
/// Order: missing → unavailable → unknown, wrong prefix → revoked → expired → suspended → address → kind → reserved →
/// other site, origin, resource → old session → scope.
pub fn decide(
    matched: &Matched<'_, '_>,
    presented: Option<&Presented<'_>>,
    record: Lookup<'_>,
    facts: &RequestFacts<'_>,
    now: Timestamp,
) -> Result<Permit, Denial> {
    let operation = matched.operation;
    let Some(presented) = presented else {
        if !operation.is_public() {
            return Err(Denial::MissingCredential);
        }
        if operation.reserved {
            return Err(Denial::OperationReserved);
        }
        same_site_if_it_says(facts)?;
        return Ok(Permit { operation: matched.index, caller: None, decided_at: now });
    };
    let record = found(record)?;
    permit(matched, verify(presented, record, now)?, record, facts, now)
}

/// Decides a request anew that was permitted before, in the same order: `record` is what the replica knows now of the
/// digest that was found then.
pub fn decide_again(
    matched: &Matched<'_, '_>,
    record: Lookup<'_>,
    facts: &RequestFacts<'_>,
    now: Timestamp,
) -> Result<Permit, Denial> {
    let record = found(record)?;
    permit(matched, is_active(record, now)?, record, facts, now)
}

fn found<'r>(record: Lookup<'r>) -> Result<&'r Record<'r>, Denial> {
    match record {
        Lookup::Unavailable => Err(Denial::VerificationUnavailable),
        Lookup::Unknown => Err(Denial::InvalidCredential),
        Lookup::Found(record) => Ok(record),
    }
}

/// Everything that comes after the credential was verified.
fn permit(
    matched: &Matched<'_, '_>,
    principal: Principal,
    record: &Record<'_>,
    facts: &RequestFacts<'_>,
    now: Timestamp,
) -> Result<Permit, Denial> {
    let operation = matched.operation;
    if operation.is_public() {
        if operation.reserved {
            return Err(Denial::OperationReserved);
        }
        same_site_if_it_says(facts)?;
        return Ok(Permit { operation: matched.index, caller: None, decided_at: now });
    }
    if record.organization.suspended.load(Ordering::Relaxed) {
        return Err(Denial::OrganizationSuspended);
    }
    let restrictions = record.restrictions;
    if let Some(Restrictions { addresses, .. }) = restrictions
        && !addresses.is_empty()
        && !addresses.iter().any(|block| block.contains(facts.address))
    {
        return Err(Denial::AddressNotAllowed);
    }
    takes_kind(operation, &principal)?;
    if operation.reserved {
        return Err(Denial::OperationReserved);
    }
    match principal.kind() {
        CredentialKind::Session => {
            same_site(facts)?;
            let signed_in = restrictions.and_then(|restrictions| restrictions.signed_in_at);
            if operation.fresh_session && signed_in.is_none_or(|at| now.since(at) >= FRESH_SESSION) {
                return Err(Denial::ReauthenticationRequired);
            }
        }
        CredentialKind::PublishableKey | CredentialKind::Visitor => {
            let listed = |origin: &str| {
                restrictions.is_some_and(|it| it.origins.iter().any(|listed| listed.matches(origin)))
            };
            if !facts.origin.one().is_some_and(listed) {
                return Err(Denial::OriginNotAllowed);
            }
            own_resource(matched, &principal, facts)?;
        }
        CredentialKind::SecretKey | CredentialKind::OneTime => {}
    }
    covers_scopes(operation, &principal)?;
    Ok(Permit { operation: matched.index, caller: Some(principal), decided_at: now })
}

/// A session cookie is sent by the browser whoever asks, so an unsafe request must prove that our own page made it.
fn same_site(facts: &RequestFacts<'_>) -> Result<(), Denial> {
    let proven = match facts.fetch_site {
        Field::One(site) => site == "same-origin" && !foreign_origin(facts),
        Field::None => facts.origin == Field::One(facts.public_origin),
        Field::Many => false,
    };
    if facts.is_unsafe() && !proven { Err(Denial::CrossSiteRequest) } else { Ok(()) }
}

/// A public operation has no cookie to abuse, but login sets one: a browser on another site may not log its user in.
fn same_site_if_it_says(facts: &RequestFacts<'_>) -> Result<(), Denial> {
    let another_site = match facts.fetch_site {
        Field::One(site) => !matches!(site, "same-origin" | "none"),
        Field::None => false,
        Field::Many => true,
    };
    if facts.is_unsafe() && (another_site || foreign_origin(facts)) {
        Err(Denial::CrossSiteRequest)
    } else {
        Ok(())
    }
}

fn foreign_origin(facts: &RequestFacts<'_>) -> bool {
    !matches!(facts.origin, Field::None) && facts.origin != Field::One(facts.public_origin)
}

/// The resource named in the request must be the credential's own. One answer for every other one, existing or not.
fn own_resource(
    matched: &Matched<'_, '_>,
    principal: &Principal,
    facts: &RequestFacts<'_>,
) -> Result<(), Denial> {
    let Some(parameter) = matched.operation.pinned_parameter.as_deref() else { return Ok(()) };
    let is_own = |text: &str| ResourceId::parse(text).is_some_and(|named| principal.pinned() == Some(named));
    let in_path = matched.param(parameter);
    let in_query = facts.query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == parameter).then_some(value)
    });
    if in_path.into_iter().chain(in_query).all(is_own) { Ok(()) } else { Err(Denial::ResourceNotAllowed) }
}
