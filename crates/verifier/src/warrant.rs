//! A permit with what it was made of, so that it can be made anew: inside the transaction of what it permitted, and while a
//! stream runs.

use crate::authorize::{Authorization, Verifier};
use crate::clock::boot_time;
use async_trait::async_trait;
use flowyte_core::facts::Field;
use flowyte_core::id::Id;
use flowyte_core::{CredentialKind, Denial, Digest, Permit, RequestFacts, decide_again};
use flowyte_store::guest::Guest;
use flowyte_store::{Class, Follower, Grown, Lane, Mode, SecurityTx, Store, StoreError};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::timeout;

/// A permit older than this is made anew before something is written, nanoseconds. A replica may be trusted for twice as long.
const PERMIT_LIFE: i64 = 1_000_000_000;
/// How long the replica may take to read what changed while a transaction waits for it.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The facts that a decision was made of, owned, but for the credential, which has been found already.
pub struct Asked {
    /// Method, path, query, origin and fetch site, one after the other: one allocation for all of them.
    text: String,
    /// Where each of them ends.
    ends: [usize; 5],
    has_query: bool,
    has_origin: bool,
    has_fetch_site: bool,
    address: IpAddr,
}

impl Asked {
    /// The facts of a request.
    pub fn of(facts: &RequestFacts<'_>) -> Self {
        // More than one field are kept as an empty one, which proves and names nothing either.
        let parts = [
            facts.method,
            facts.path,
            facts.query.unwrap_or(""),
            facts.origin.one().unwrap_or(""),
            facts.fetch_site.one().unwrap_or(""),
        ];
        let mut end = 0;
        let ends = parts.map(|part| {
            end += part.len();
            end
        });
        Self {
            text: parts.concat(),
            ends,
            has_query: facts.query.is_some(),
            has_origin: facts.origin != Field::None,
            has_fetch_site: facts.fetch_site != Field::None,
            address: facts.address,
        }
    }

    fn part(&self, at: usize) -> &str {
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[begin..self.ends[at]]
    }

    /// As a text, to be read by [`Asked::from_text`].
    pub fn to_text(&self) -> String {
        json!({
            "method": self.part(0),
            "path": self.part(1),
            "query": self.has_query.then(|| self.part(2)),
            "origin": self.has_origin.then(|| self.part(3)),
            "fetchSite": self.has_fetch_site.then(|| self.part(4)),
            "address": self.address,
        })
        .to_string()
    }

    /// What was written by [`Asked::to_text`].
    pub fn from_text(text: &str) -> Option<Self> {
        let read: Value = serde_json::from_str(text).ok()?;
        let field = |name: &str| read[name].as_str().map_or(Field::None, Field::One);
        Some(Self::of(&RequestFacts {
            method: read["method"].as_str()?,
            path: read["path"].as_str()?,
            query: read["query"].as_str(),
            authorization: Field::None,
            session_cookie: Field::None,
            origin: field("origin"),
            fetch_site: field("fetchSite"),
            address: read["address"].as_str()?.parse().ok()?,
            public_origin: "",
        }))
    }

    fn facts<'a>(&'a self, public_origin: &'a str) -> RequestFacts<'a> {
        let field = |given: bool, at| if given { Field::One(self.part(at)) } else { Field::None };
        RequestFacts {
            method: self.part(0),
            path: self.part(1),
            query: self.has_query.then(|| self.part(2)),
            authorization: Field::None,
            session_cookie: Field::None,
            origin: field(self.has_origin, 3),
            fetch_site: field(self.has_fetch_site, 4),
            address: self.address,
            public_origin,
        }
    }
}

/// A permit for one operation that can be made anew. It is the store of what it permits: a transaction that changes something
/// begins only while the permit holds, and nobody changes credentials, members or policies until it ends.
pub struct Warrant {
    verifier: Arc<Verifier>,
    class: Class,
    asked: Asked,
    digest: Option<Digest>,
    permit: Permit,
    /// When it was decided, by the boot clock.
    decided: i64,
}

impl Warrant {
    /// What was permitted. `class`: how what it writes waits beside what others write.
    pub fn new(
        verifier: Arc<Verifier>,
        class: Class,
        asked: Asked,
        authorization: &Authorization<'_, '_>,
    ) -> Result<Self, Denial> {
        let permit = authorization.decision?;
        let (digest, decided) = (authorization.digest, authorization.decided);
        Ok(Self { verifier, class, asked, digest, permit, decided })
    }

    /// A permit for what was permitted to the same secret before.
    pub fn resumed(
        verifier: Arc<Verifier>,
        class: Class,
        asked: Asked,
        digest: Digest,
    ) -> Result<Self, Denial> {
        let decided = boot_time();
        let permit = decide_anew(&verifier, &asked, &digest)?;
        Ok(Self { verifier, class, asked, digest: Some(digest), permit, decided })
    }

    /// The same, for a request that looks through much: it waits behind others of its kind, and holds up nothing else of its organization.
    pub fn for_report(self) -> Self {
        Self { class: Class::Reports, ..self }
    }

    /// What it was made of.
    pub const fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The digest of the credential that got the permit, where one was presented.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The permit as it was decided when the request came.
    pub const fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The verifier that decided, and that decides anew.
    pub fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }

    /// Whether what it permitted may go on, by what is known now.
    pub fn check(&self) -> Result<Permit, Denial> {
        match &self.digest {
            // On a public operation that nothing was presented to there is nothing that could have ended.
            None => Ok(self.permit),
            Some(digest) => decide_anew(&self.verifier, &self.asked, digest),
        }
    }

    /// The same, asked only where the permit is older than it may be.
    pub fn check_if_old(&self) -> Result<(), Denial> {
        if boot_time() - self.decided > PERMIT_LIFE { self.check().map(drop) } else { Ok(()) }
    }

    fn lane(&self) -> Lane {
        Lane { class: self.class, organization: self.permit.caller().map(|it| it.organization()) }
    }

    /// What a transaction may rely on: the same caller in the same role, with no scope less, since a handler has looked at them.
    fn holds(&self) -> Result<(), StoreError> {
        match self.check() {
            Ok(permit) if permit.covers(&self.permit) => Ok(()),
            Ok(_) => Err(StoreError::Conflict(
                "What you may do was changed while this request ran, so nothing was done. Send it again.",
            )),
            Err(denial) => Err(StoreError::Denied(denial)),
        }
    }
}

impl Warrant {
    /// Waits until the replica knows what the permit is made of as it is in `tx`, which sees the newest of it.
    async fn catch_up(&self, tx: &mut SecurityTx) -> Result<(), StoreError> {
        let replica = &self.verifier.replica;
        let newest = match self.made_of() {
            Some(entities) => match tx.newest_change(replica.revision(), entities).await? {
                Some(newest) => newest,
                // What others changed meanwhile is nothing to it.
                None => return Ok(()),
            },
            None => tx.revision().await?,
        };
        let caught_up = timeout(CATCH_UP, replica.reach(newest)).await;
        caught_up.map_err(|_| StoreError::Denied(Denial::VerificationUnavailable))
    }

    /// Ids of everything that the record of its credential is made of (`CredentialTable::apply`): the organization, and the key or the
    /// session with its user. `None` for other credentials, which hang on more.
    fn made_of(&self) -> Option<[[u8; 16]; 3]> {
        let caller = self.permit.caller()?;
        let (organization, credential) = (*caller.organization().as_bytes(), caller.credential());
        match (caller.kind(), caller.user()) {
            (CredentialKind::SecretKey, _) => Some([organization, credential, credential]),
            (CredentialKind::Session, Some((user, _))) => Some([organization, credential, *user.as_bytes()]),
            _ => None,
        }
    }
}

fn decide_anew(verifier: &Verifier, asked: &Asked, digest: &Digest) -> Result<Permit, Denial> {
    let facts = asked.facts(&verifier.public_url);
    let matched = verifier.contract.find(facts.method, facts.path)?;
    let now = verifier.now();
    verifier.replica.with(digest, |found| decide_again(&matched, found, &facts, now))
}

#[async_trait]
impl Store for Warrant {
    async fn begin(&self, mode: Mode) -> Result<SecurityTx, StoreError> {
        self.begin_in(self.lane(), mode).await
    }

    /// A [`Mode::Write`] transaction excludes every other change of credentials, so what holds at its beginning holds until its
    /// commit: after a revocation was answered, nothing that it took away is done.
    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<SecurityTx, StoreError> {
        let mut tx = self.verifier.store.begin_in(lane, mode).await?;
        match mode {
            Mode::Read | Mode::Glance | Mode::Feed => {}
            Mode::Write if self.digest.is_some() => {
                self.catch_up(&mut tx).await?;
                self.holds()?;
            }
            Mode::Batch if boot_time() - self.decided > PERMIT_LIFE => self.holds()?,
            Mode::Write | Mode::Batch => {}
        }
        Ok(tx)
    }

    fn guests(&self) -> &[Guest] {
        self.verifier.store.guests()
    }

    fn follower(&self) -> &OnceLock<Arc<dyn Follower>> {
        self.verifier.store.follower()
    }

    fn grown(&self) -> &Grown {
        self.verifier.store.grown()
    }

    async fn settled(&self) -> Result<(), StoreError> {
        self.verifier.store.settled().await
    }

    async fn claim(&self) -> Result<(), StoreError> {
        self.verifier.store.claim().await
    }

    async fn woken(&self) {
        self.verifier.store.woken().await
    }

    async fn close(&self) {
        self.verifier.store.close().await
    }
}
