//! Everything a request may need, built once at start.

use crate::bodies::Bodies;
use crate::clock::{Clock, Entropy, NoEntropy};
use crate::config::Config;
use crate::handlers::Handler;
use crate::meter::Meter;
use crate::metrics::Answers;
use crate::password::Passwords;
use crate::pepper::Peppers;
use crate::problem::{Code, Outcome, Problem};
use crate::replica::Replica;
use crate::usage::Usage;
use bytes::Bytes;
use flowyte_contract::Api;
use flowyte_core::credential::{Secret, random_indices};
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::time::{DAY, MINUTE};
use flowyte_core::{Brand, CredentialKind, Environment, Pepper, Timestamp};
use flowyte_platform::answerer::Answerers;
use flowyte_platform::carrier::Carriers;
use flowyte_platform::knowledge::Retriever;
use flowyte_platform::knowledge::library::Library;
use flowyte_platform::outbound::Outbound;
use flowyte_platform::payment::Payments;
use flowyte_store::Store;
use flowyte_store::keys::NewSecret;
use flowyte_store::labour::{Bounds, Turns};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The running server, apart from its sockets.
pub struct App {
    /// What the operator chose.
    pub config: Config,
    /// Our own API, compiled.
    pub api: Api,
    /// Its document, as it is served.
    pub document: Bytes,
    /// By operation; `None` where it is reserved.
    pub handlers: Vec<Option<Handler>>,
    /// The truth.
    pub store: Arc<dyn Store>,
    /// What decisions read.
    pub replica: Arc<Replica>,
    /// Under which secrets are stored.
    pub peppers: Peppers,
    /// Hashes passwords.
    pub passwords: Passwords,
    /// Invalid credentials, by address.
    pub strangers: Meter,
    /// Passwords that fitted no account, by e-mail address, from devices that are not known.
    pub failures_by_account: Meter,
    /// The same, by device, from those that are.
    pub failures_by_device: Meter,
    /// Failed sign-ins, by address.
    pub failures_by_address: Meter,
    /// Sign-ins that succeeded, by account: each costs a hash and a session.
    pub logins_by_account: Meter,
    /// The same, by address.
    pub logins_by_address: Meter,
    /// Sign-ups, by address.
    pub signups_by_address: Meter,
    /// Secret keys met in browsers: one audit event a day each.
    pub browser_keys: Meter,
    /// A stop has begun: nothing new is to be sent here.
    pub draining: AtomicBool,
    /// Counts answers, for `/metrics`.
    pub answers: Answers,
    /// Counts calls.
    pub usage: Usage,
    /// Finds what an agent knows.
    pub retriever: Arc<dyn Retriever>,
    /// Wakes who reads knowledge sources.
    pub due: tokio::sync::Notify,
    /// Makes requests to addresses that customers name.
    pub outbound: Arc<Outbound>,
    /// Memory for the bodies of requests.
    pub bodies: Bodies,
    /// Operations that take a core for a while, by organization.
    pub dear: Turns<OrganizationId>,
    /// Answer visitors.
    pub answerers: Answerers,
    /// Takes payments.
    pub payments: Payments,
    /// Sells telephone numbers.
    pub carriers: Carriers,
    /// The time.
    pub clock: Box<dyn Clock>,
    /// Randomness.
    pub entropy: Box<dyn Entropy>,
}

/// The time in which failed sign-ins are counted.
const LOGIN_WINDOW: i64 = 15 * MINUTE;
/// Sign-ins with the right password in that time.
const LOGINS_PER_ACCOUNT: u32 = 100;
/// The same from one address, behind which a whole company may be.
const LOGINS_PER_ADDRESS: u32 = 1_000;

/// An organization does one dear thing at once; its others wait, and a few of its own only.
const DEAR: Bounds =
    Bounds { at_once: 4, each: 1, waiting: 256, waiting_each: 32, patience: Duration::from_secs(10) };

impl App {
    /// Puts the parts together; the contract and the handlers must name the same operations.
    #[allow(clippy::too_many_arguments)] // Each is a part that tests replace.
    pub fn new(
        config: Config,
        api: Api,
        store: Arc<dyn Store>,
        replica: Arc<Replica>,
        peppers: Peppers,
        answerers: Answerers,
        payments: Payments,
        carriers: Carriers,
        clock: Box<dyn Clock>,
        entropy: Box<dyn Entropy>,
    ) -> Result<Arc<Self>, Vec<String>> {
        let handlers = crate::handlers::bind(api.contract())?;
        Ok(Arc::new(Self {
            strangers: Meter::new(config.stranger_rpm, MINUTE),
            failures_by_account: Meter::new(config.login_failures_per_account, LOGIN_WINDOW),
            failures_by_device: Meter::new(config.login_failures_per_account, LOGIN_WINDOW),
            failures_by_address: Meter::new(config.login_failures_per_address, LOGIN_WINDOW),
            logins_by_account: Meter::new(LOGINS_PER_ACCOUNT, LOGIN_WINDOW),
            logins_by_address: Meter::new(LOGINS_PER_ADDRESS, LOGIN_WINDOW),
            signups_by_address: Meter::new(config.signups_per_address, DAY),
            browser_keys: Meter::new(1, DAY),
            draining: AtomicBool::new(false),
            answers: Answers::new(api.contract().operations().iter().map(|it| it.id.clone())),
            usage: Usage::default(),
            retriever: Arc::new(Library::new(store.clone())),
            due: tokio::sync::Notify::new(),
            outbound: Arc::new(Outbound::new(config.outbound_allow.clone())),
            bodies: Bodies::new(config.body_memory),
            dear: Turns::new("reports", DEAR),
            answerers,
            payments,
            carriers,
            document: served(&api.document, &config),
            config,
            api,
            handlers,
            store,
            replica,
            peppers,
            passwords: Passwords::default(),
            clock,
            entropy,
        }))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What limits are counted by: a clock that nobody sets, so that a machine's wrong time neither closes nor opens them.
    pub fn pulse(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.ticks())
    }

    /// `N` random bytes.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], NoEntropy> {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A new id.
    pub fn id<I: Id>(&self, now: Timestamp) -> Result<I, NoEntropy> {
        Ok(I::generate(now, self.random()?))
    }

    /// A new credential, and what is stored of it.
    pub fn secret(
        &self,
        kind: CredentialKind,
        environment: Environment,
    ) -> Result<(Secret, NewSecret), NoEntropy> {
        new_secret(&self.config.brand, self.peppers.current(), kind, environment, &*self.entropy)
    }

    /// The name of the session cookie. The `__Host-` name is the only one that is read where there is TLS.
    pub fn cookie_name(&self) -> &'static str {
        cookie_name(&self.config)
    }
}

fn cookie_name(config: &Config) -> &'static str {
    if config.is_https() { "__Host-flowyte_session" } else { "flowyte_session" }
}

/// The document with the name of the session cookie that is in force here.
fn served(document: &Value, config: &Config) -> Bytes {
    let mut document = document.clone();
    let schemes = document["components"]["securitySchemes"].as_object_mut();
    for scheme in schemes.into_iter().flat_map(Map::values_mut) {
        if scheme["x-credential"] == CredentialKind::Session.as_str() {
            scheme["name"] = cookie_name(config).into();
        }
    }
    document.to_string().into()
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

impl From<NoEntropy> for Problem {
    fn from(error: NoEntropy) -> Self {
        tracing::error!(%error, "no random numbers can be read, so no secret can be made");
        Self::new(
            Code::DependencyUnavailable,
            "The operating system has no random numbers at the moment; nothing was created.",
        )
    }
}

/// Shorthand of handlers: the value, or the problem that says the server is at fault.
pub fn or_internal<T>(value: Option<T>, what: &'static str) -> Outcome<T> {
    value.ok_or_else(|| {
        tracing::error!(what, "something that should be impossible happened");
        Problem::new(
            Code::InternalError,
            "Something went wrong on the server. The operator finds the cause in the log, under the request id.",
        )
    })
}
