//! Where a request is authorized: operation, credential, look-up, decision, limits. Every door asks this one function.

use crate::clock::{Clock, Entropy, NoEntropy, boot_time};
use crate::meter::{Meter, rate_limit_prefix};
use crate::pepper::Peppers;
use crate::replica::Replica;
use crate::seal::Seal;
use crate::settings::Settings;
use crate::usage::{CredentialRef, Usage};
use flowyte_core::contract::Matched;
use flowyte_core::credential::{Secret, present, random_indices};
use flowyte_core::id::{Id, PublishableKeyId};
use flowyte_core::limit::{Limited, Quota};
use flowyte_core::time::MINUTE;
use flowyte_core::{
    Brand, Contract, CredentialKind, Denial, Digest, Environment, Lookup, Pepper, Permit, Presented, Record,
    RequestFacts, Timestamp, decide,
};
use flowyte_store::Store;
use flowyte_store::keys::NewSecret;
use flowyte_store::publishable::{IdentitySecret, PublishableKeyRow};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// What identity secrets are sealed for.
const IDENTITY_SECRET: &str = "identity-secret";

/// Answers who is calling and whether they may, from this node's own memory.
pub struct Verifier {
    /// The first word of credentials, which is `flowyte` if the operator chose no other.
    pub brand: Brand,
    /// Scheme and authority of the server as browsers see it, without a slash at its end.
    pub public_url: String,
    /// The operations that there are, and who may call them.
    pub contract: Arc<Contract>,
    /// The database, which the replica follows and in which permitted changes are made.
    pub store: Arc<dyn Store>,
    /// This node's copy, in memory, of everything that decisions need.
    pub replica: Arc<Replica>,
    /// Under which secrets are stored.
    pub peppers: Peppers,
    /// Counts the requests with an invalid credential of each address, by which an address is limited.
    pub unauthenticated: Meter,
    /// Counts the calls of each credential until they are written to the store in batches.
    pub usage: Usage,
    /// Tells the time; tests replace it.
    pub clock: Box<dyn Clock>,
    /// Gives random bytes for secrets and ids; tests replace it.
    pub entropy: Box<dyn Entropy>,
}

/// A decision about one request, and what was found out on the way to it.
pub struct Authorization<'c, 'p> {
    /// The operation that was asked for, where there is one.
    pub matched: Option<Matched<'c, 'p>>,
    /// Leave to run it, or why not.
    pub decision: Result<Permit, Denial>,
    /// The credential that was found, whatever was decided.
    pub credential: Option<CredentialRef>,
    /// The digest that it was found by.
    pub digest: Option<Digest>,
    /// What is left of the tightest limit.
    pub quota: Option<Quota>,
    /// The credential lists the origin of the request.
    pub origin_listed: bool,
    /// When it was decided, by the boot clock.
    pub decided: i64,
}

impl Authorization<'_, '_> {
    /// Seconds after which the same request may be sent again, where waiting helps.
    pub fn retry_after(&self) -> Option<u32> {
        match &self.decision {
            Err(Denial::RateLimited(limited)) => Some(limited.retry_after_seconds),
            Err(Denial::VerificationUnavailable) => Some(1),
            _ => None,
        }
    }

    /// What `WWW-Authenticate` says (RFC 6750 §3), where a credential would have helped.
    pub fn challenge(&self, contract: &Contract) -> Option<Cow<'static, str>> {
        let operation = self.matched.as_ref().map(|it| it.operation);
        self.decision.as_ref().err().and_then(|denial| denial.challenge(contract, operation))
    }
}

impl Verifier {
    /// Makes a verifier of its parts; no call is counted yet and no limit used.
    #[allow(clippy::too_many_arguments)] // Each is a part that tests replace.
    pub fn new(
        settings: Settings,
        contract: Arc<Contract>,
        store: Arc<dyn Store>,
        replica: Arc<Replica>,
        peppers: Peppers,
        clock: Box<dyn Clock>,
        entropy: Box<dyn Entropy>,
    ) -> Arc<Self> {
        Arc::new(Self {
            brand: settings.brand,
            public_url: settings.public_url,
            contract,
            store,
            replica,
            peppers,
            unauthenticated: Meter::new(settings.unauthenticated_rpm, MINUTE),
            usage: Usage::default(),
            clock,
            entropy,
        })
    }

    /// Decides one request and charges it to the limits that it is under: those of the key and its organization, or that of the
    /// caller's address where the credential is not valid.
    pub fn authorize<'c, 'p>(&'c self, facts: &RequestFacts<'p>) -> Authorization<'c, 'p> {
        let (now, decided) = (self.now(), boot_time());
        let matched = match self.contract.find(facts.method, facts.path) {
            Ok(matched) => matched,
            Err(denial) => return Authorization::refused(None, denial, decided),
        };
        let found = match present(&self.brand, matched.operation, facts) {
            Ok(presented) => self.look_up(&matched, presented.as_ref(), facts, now),
            Err(denial) => Found::nothing(Err(denial)),
        };
        let (mut decision, mut quota) = (found.decision, found.quota);
        if matches!(decision, Err(Denial::InvalidCredential)) {
            decision =
                decision.map_err(|denial| self.charge_unauthenticated(facts.address).err().unwrap_or(denial));
        }
        if let Err(Denial::RateLimited(limited)) = &decision {
            quota = found.credential.map(|_| limited.quota);
        }
        Authorization {
            matched: Some(matched),
            decision,
            credential: found.credential,
            digest: found.digest,
            quota,
            origin_listed: found.origin_listed,
            decided,
        }
    }

    /// Looks the credential up under each active pepper, decides, and charges what is permitted.
    fn look_up(
        &self,
        matched: &Matched<'_, '_>,
        presented: Option<&Presented<'_>>,
        facts: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Found {
        for digest in presented.iter().flat_map(|it| self.peppers.digests(it.body())) {
            let found = self.replica.with(&digest, |lookup| match lookup {
                Lookup::Unknown => None,
                Lookup::Unavailable => Some(Found::nothing(Err(Denial::VerificationUnavailable))),
                Lookup::Found(record) => {
                    let decision = decide(matched, presented, lookup, facts, now);
                    Some(Found::of(record, digest, decision, facts, (now, self.pulse())))
                }
            });
            if let Some(found) = found {
                return found;
            }
        }
        Found::nothing(decide(matched, presented, Lookup::Unknown, facts, now))
    }

    /// Charges a credential that is not valid to the address it came from.
    pub fn charge_unauthenticated(&self, address: IpAddr) -> Result<(), Denial> {
        self.unauthenticated.take(rate_limit_prefix(address), self.pulse()).map_err(Denial::RateLimited)
    }

    /// Charges one more request to the limits of a credential that was found before: what happens on an open connection.
    pub fn charge(&self, digest: &Digest) -> Result<Quota, Denial> {
        let now = self.now();
        self.replica.with(digest, |lookup| match lookup {
            Lookup::Found(record) => charge(record, now, self.pulse()).map_err(Denial::RateLimited),
            Lookup::Unknown => Err(Denial::CredentialRevoked),
            Lookup::Unavailable => Err(Denial::VerificationUnavailable),
        })
    }

    /// A credential that was found before, for the log; `None` when it is forgotten.
    pub fn credential(&self, digest: &Digest) -> Option<CredentialRef> {
        self.replica.with(digest, |lookup| match lookup {
            Lookup::Found(record) => Some(credential(record, *digest)),
            Lookup::Unknown | Lookup::Unavailable => None,
        })
    }

    /// The present time of the verifier's clock, with which decisions are made and records are dated.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What limits are counted by: a clock that nobody sets, so that a machine's wrong time neither closes nor opens them.
    pub fn pulse(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.ticks())
    }

    /// `N` random bytes that are fit for secrets; [`NoEntropy`] where the operating system gives none.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], NoEntropy> {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A new id, made from `now` and ten random bytes, so that ids sort by the time they were made.
    pub fn id<I: Id>(&self, now: Timestamp) -> Result<I, NoEntropy> {
        Ok(I::generate(now, self.random()?))
    }

    /// A new credential, and what is stored of it.
    pub fn secret(
        &self,
        kind: CredentialKind,
        environment: Environment,
    ) -> Result<(Secret, NewSecret), NoEntropy> {
        new_secret(&self.brand, self.peppers.current(), kind, environment, &*self.entropy)
    }

    /// Seals the secret with which a customer signs who their visitors are.
    pub fn seal_identity_secret(
        &self,
        secret: &[u8],
        key: PublishableKeyId,
    ) -> Result<IdentitySecret, NoEntropy> {
        let pepper = self.peppers.current();
        let sealed = Seal::new(pepper, IDENTITY_SECRET).seal(secret, key.as_bytes(), self.random()?);
        Ok(IdentitySecret { sealed, pepper: pepper.id() })
    }

    /// Opens it again, for checking what its customer signed.
    pub fn open_identity_secret(&self, row: &PublishableKeyRow) -> Option<Vec<u8>> {
        let sealed = row.identity_secret.as_deref()?;
        self.peppers.iter().find_map(|it| Seal::new(it, IDENTITY_SECRET).open(sealed, row.id.as_bytes()))
    }

    /// Whether browsers reach the server through TLS.
    pub fn is_https(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    /// The name of the session cookie. The `__Host-` name is the only one that is read where there is TLS.
    pub fn cookie_name(&self) -> &'static str {
        cookie_name(&self.public_url)
    }
}

/// The name of the session cookie of a server with this public URL.
pub fn cookie_name(public_url: &str) -> &'static str {
    if public_url.starts_with("https://") { "__Host-flowyte_session" } else { "flowyte_session" }
}

impl<'c, 'p> Authorization<'c, 'p> {
    fn refused(matched: Option<Matched<'c, 'p>>, denial: Denial, decided: i64) -> Self {
        Self {
            matched,
            decision: Err(denial),
            credential: None,
            digest: None,
            quota: None,
            origin_listed: false,
            decided,
        }
    }
}

/// What a look-up came to.
struct Found {
    decision: Result<Permit, Denial>,
    credential: Option<CredentialRef>,
    digest: Option<Digest>,
    quota: Option<Quota>,
    origin_listed: bool,
}

impl Found {
    /// Nothing that could be named.
    fn nothing(decision: Result<Permit, Denial>) -> Self {
        Self { decision, credential: None, digest: None, quota: None, origin_listed: false }
    }

    fn of(
        record: &Record<'_>,
        digest: Digest,
        decision: Result<Permit, Denial>,
        facts: &RequestFacts<'_>,
        (now, pulse): (Timestamp, Timestamp),
    ) -> Self {
        if matches!(decision, Err(Denial::InvalidCredential)) {
            return Self::nothing(decision);
        }
        let mut found = Self {
            decision,
            credential: Some(credential(record, digest)),
            digest: Some(digest),
            quota: None,
            origin_listed: lists(record, facts),
        };
        if decision.is_ok() {
            match charge(record, now, pulse) {
                Ok(quota) => found.quota = Some(quota),
                Err(limited) => found.decision = Err(Denial::RateLimited(limited)),
            }
        }
        found
    }
}

fn credential(record: &Record<'_>, digest: Digest) -> CredentialRef {
    CredentialRef {
        organization: record.organization.id,
        kind: record.kind,
        id: record.id,
        secret: (record.kind == CredentialKind::SecretKey).then_some(digest),
        superseded: record.superseded,
    }
}

fn lists(record: &Record<'_>, facts: &RequestFacts<'_>) -> bool {
    let origins = record.restrictions.map_or(&[][..], |it| &it.origins);
    facts.origin.one().is_some_and(|origin| origins.iter().any(|listed| listed.matches(origin)))
}

/// Takes one request from the key's limit and the organization's, and moves a session's idle clock.
fn charge(record: &Record<'_>, now: Timestamp, pulse: Timestamp) -> Result<Quota, Limited> {
    let restrictions = record.restrictions;
    if let Some(idle) = restrictions.and_then(|it| it.idle.as_ref()) {
        idle.touch(now);
    }
    let shared = &record.organization.limit;
    match restrictions.and_then(|it| it.limit.as_ref()) {
        Some(own) => own.take_both(shared, pulse),
        None => shared.take(pulse),
    }
}

/// A new credential, and what is stored of it under a pepper.
pub fn new_secret(
    brand: &Brand,
    pepper: &Pepper,
    kind: CredentialKind,
    environment: Environment,
    entropy: &dyn Entropy,
) -> Result<(Secret, NewSecret), NoEntropy> {
    let indices = loop {
        let mut bytes = [0; 64];
        entropy.fill(&mut bytes)?;
        // Thirty of sixty-four bytes are fair but in one case of 10^36.
        if let Some(indices) = random_indices(&bytes) {
            break indices;
        }
    };
    let secret = brand.format(kind, environment, &indices);
    let stored = NewSecret {
        digest: pepper.digest_body(secret.body()),
        pepper: pepper.id(),
        last4: secret.last4().to_owned(),
    };
    Ok((secret, stored))
}
