//! A permit with what it was made of, so that it can be made anew: inside the transaction of what it permitted, and while a
//! stream runs.

use crate::app::App;
use crate::live;
use crate::problem::{Outcome, Problem};
use crate::replica::boot_time;
use async_trait::async_trait;
use flowyte_core::facts::Field;
use flowyte_core::{Denial, Digest, OperationIndex, Permit, RequestFacts, decide_again};
use flowyte_store::{Class, Follower, Lane, Mode, Store, StoreError, Tx};
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::timeout;

/// A permit older than this is made anew before something is written, nanoseconds. A replica may be trusted for twice as long.
const PERMIT_LIFE: i64 = 1_000_000_000;
/// How long the replica may take to read what changed while a transaction waits for it.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Operations that take rights away, or may. Their transactions go before all others.
const NARROWING: &[&str] = &[
    "logout",
    "endSession",
    "changePassword",
    "recoverAccount",
    "updateMember",
    "removeMember",
    "withdrawInvite",
    "updateApiKey",
    "revokeApiKey",
    "updatePublishableKey",
    "revokePublishableKey",
];

/// Other operations on credentials, people and organizations.
const CREDENTIALS: &[&str] = &[
    "setup",
    "signup",
    "login",
    "getSession",
    "listSessions",
    "switchOrganization",
    "readInvite",
    "acceptInvite",
    "createOrganization",
    "getOrganization",
    "updateOrganization",
    "listMembers",
    "listInvites",
    "createInvite",
    "createRecoveryLink",
    "listApiKeys",
    "mintApiKey",
    "getApiKey",
    "rotateApiKey",
    "listPublishableKeys",
    "mintPublishableKey",
    "rotatePublishableKey",
];

fn class(operation: &str) -> Class {
    match operation {
        it if NARROWING.contains(&it) => Class::Narrowing,
        it if CREDENTIALS.contains(&it) => Class::Credentials,
        _ => Class::Product,
    }
}

/// What a decision was made of, owned. Taking it from a request copies no text.
pub struct Asked {
    method: Method,
    uri: Uri,
    origin: Option<HeaderValue>,
    fetch_site: Option<HeaderValue>,
    address: IpAddr,
}

impl Asked {
    /// The facts of a request.
    pub fn of(parts: &Parts, address: IpAddr) -> Self {
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            origin: only(&parts.headers, header::ORIGIN),
            fetch_site: only(&parts.headers, HeaderName::from_static("sec-fetch-site")),
            address,
        }
    }

    /// As a text, to be read by [`Asked::from_text`].
    pub fn to_text(&self) -> String {
        let text =
            |value: &Option<HeaderValue>| value.as_ref().map(|it| it.to_str().unwrap_or_default().to_owned());
        json!({
            "method": self.method.as_str(),
            "uri": self.uri.path_and_query().map_or("", PathAndQuery::as_str),
            "origin": text(&self.origin),
            "fetchSite": text(&self.fetch_site),
            "address": self.address,
        })
        .to_string()
    }

    /// What was written by [`Asked::to_text`].
    pub fn from_text(text: &str) -> Option<Self> {
        let read: Value = serde_json::from_str(text).ok()?;
        let header = |name: &str| match read[name].as_str() {
            Some(text) => HeaderValue::from_str(text).ok().map(Some),
            None => Some(None),
        };
        Some(Self {
            method: read["method"].as_str()?.parse().ok()?,
            uri: read["uri"].as_str()?.parse().ok()?,
            origin: header("origin")?,
            fetch_site: header("fetchSite")?,
            address: read["address"].as_str()?.parse().ok()?,
        })
    }

    fn facts<'a>(&'a self, public_origin: &'a str) -> RequestFacts<'a> {
        let field = |value: &'a Option<HeaderValue>| Field::collect(value.iter().map(HeaderValue::as_bytes));
        RequestFacts {
            method: self.method.as_str(),
            path: self.uri.path(),
            query: self.uri.query(),
            // What was presented has been found already.
            authorization: Field::None,
            session_cookie: Field::None,
            origin: field(&self.origin),
            fetch_site: field(&self.fetch_site),
            address: self.address,
            public_origin,
        }
    }
}

/// The one field of this name. More than one are kept as an empty one, which proves and names nothing either.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<HeaderValue> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (first, None) => first.cloned(),
        _ => Some(HeaderValue::from_static("")),
    }
}

/// A permit for one operation that can be made anew. It is the store of what it permits: a transaction that changes something
/// begins only while the permit holds, and nobody changes credentials, members or policies until it ends.
pub struct Warrant {
    app: Arc<App>,
    operation: OperationIndex,
    asked: Asked,
    digest: Option<Digest>,
    permit: Permit,
    /// When it was decided, by the boot clock.
    decided: i64,
}

impl Warrant {
    /// `digest`: of the credential that got the permit, where one was presented. `decided`: when, by the boot clock.
    pub fn new(
        app: Arc<App>,
        operation: OperationIndex,
        asked: Asked,
        digest: Option<Digest>,
        permit: Permit,
        decided: i64,
    ) -> Self {
        Self { app, operation, asked, digest, permit, decided }
    }

    /// A permit for what was permitted to the same secret before.
    pub fn resumed(app: Arc<App>, asked: Asked, digest: Digest) -> Outcome<Self> {
        let (contract, decided) = (app.api.contract(), boot_time());
        let facts = asked.facts(&app.config.public_url);
        let matched = contract.find(facts.method, facts.path);
        let matched = matched.map_err(|denial| Problem::denied(&denial, contract, None))?;
        let (now, operation) = (app.now(), matched.index);
        let permit = app.replica.with(&digest, |found| decide_again(&matched, found, &facts, now));
        let permit = permit.map_err(|denial| ended(&app, operation, denial))?;
        Ok(Self::new(app, operation, asked, Some(digest), permit, decided))
    }

    /// What it was made of.
    pub const fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The server.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Decides anew, by what is known now.
    pub fn again(&self) -> Result<Permit, Denial> {
        // On a public operation that nothing was presented to there is nothing that could have ended.
        let Some(digest) = &self.digest else { return Ok(self.permit) };
        let facts = self.asked.facts(&self.app.config.public_url);
        let matched = self.app.api.contract().find(facts.method, facts.path)?;
        let now = self.app.now();
        self.app.replica.with(digest, |found| decide_again(&matched, found, &facts, now))
    }

    /// Whether what it permitted may go on, or what its caller is told.
    pub fn stands(&self) -> Outcome<()> {
        self.again().map(drop).map_err(|denial| ended(&self.app, self.operation, denial))
    }

    fn lane(&self) -> Lane {
        let operation = &self.app.api.contract().operations()[self.operation].id;
        Lane { class: class(operation), organization: self.permit.caller().map(|it| it.organization()) }
    }

    /// What a transaction may rely on: the same caller in the same role, with no scope less, since a handler has looked at them.
    fn holds(&self) -> Result<(), StoreError> {
        match self.again() {
            Ok(permit) if permit.covers(&self.permit) => Ok(()),
            Ok(_) => Err(StoreError::Conflict(
                "What you may do was changed while this request ran, so nothing was done. Send it again.",
            )),
            Err(denial) => Err(StoreError::Denied(denial)),
        }
    }
}

/// What is said of a permit that ended.
fn ended(app: &App, operation: OperationIndex, denial: Denial) -> Problem {
    let contract = app.api.contract();
    match denial {
        Denial::InvalidCredential => live::ended(), // Forgotten since.
        denial => Problem::denied(&denial, contract, contract.operations().get(operation)),
    }
}

#[async_trait]
impl Store for Warrant {
    async fn begin(&self, mode: Mode) -> Result<Tx, StoreError> {
        self.begin_in(self.lane(), mode).await
    }

    /// A [`Mode::Write`] transaction excludes every other change of credentials, so what holds at its beginning holds until its
    /// commit: after a revocation was answered, nothing that it took away is done.
    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<Tx, StoreError> {
        let mut tx = self.app.store.begin_in(lane, mode).await?;
        match mode {
            Mode::Read | Mode::Feed => {}
            Mode::Write if self.digest.is_some() => {
                let newest = tx.revision().await?;
                if let Some(follower) = self.follower().get() {
                    let caught_up = timeout(CATCH_UP, follower.reach(newest)).await;
                    caught_up.map_err(|_| StoreError::Denied(Denial::VerificationUnavailable))?;
                }
                self.holds()?;
            }
            Mode::Batch if boot_time() - self.decided > PERMIT_LIFE => self.holds()?,
            Mode::Write | Mode::Batch => {}
        }
        Ok(tx)
    }

    fn follower(&self) -> &OnceLock<Arc<dyn Follower>> {
        self.app.store.follower()
    }

    async fn claim(&self) -> Result<(), StoreError> {
        self.app.store.claim().await
    }

    async fn woken(&self) {
        self.app.store.woken().await
    }

    async fn close(&self) {
        self.app.store.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_with_a_lane_of_its_own_is_there() {
        let api = crate::serve::contract().unwrap();
        for id in NARROWING.iter().chain(CREDENTIALS) {
            assert!(api.contract().operations().iter().any(|it| it.id == *id), "{id}");
        }
    }
}
