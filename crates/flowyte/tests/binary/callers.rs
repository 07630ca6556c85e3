//! The callers that the decision cases name, in a database, and a server with one fixed clock that they ask over HTTP.

use crate::case::{Case, NOW, cases};
use crate::support::raw;
use flowyte::config::{Given, settings};
use flowyte::server::{Parts, Server};
use flowyte_core::credential::Secret;
use flowyte_core::id::{
    Id, MemberId, OrganizationId, PublishableKeyId, ResourceId, SecretKeyId, SessionId, UserId,
};
use flowyte_core::time::{DAY, HOUR};
use flowyte_core::{Brand, CredentialKind, Environment, Pepper, Role, Timestamp};
use flowyte_doors::api;
use flowyte_http::accept;
use flowyte_http::wire::Limits;
use flowyte_store::accounts::{Inviters, Joining, NewOwner, NewSession, Proof};
use flowyte_store::keys::{NewSecret, NewSecretKey, SecretKeyRow};
use flowyte_store::publishable::{NewPublishableKey, PublishableKeyRow};
use flowyte_store::{Actor, AuditContext, Sqlite, Store};
use flowyte_verifier::clock::{Clock, System};
use flowyte_verifier::pepper::Peppers;
use flowyte_verifier::replica::Replica;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

/// The id of the publishable key.
pub const WIDGET: [u8; 16] = [0xbb; 16];
/// The id of what it is pinned to.
pub const PINNED: [u8; 16] = [0xaa; 16];
const PEPPER: [u8; 32] = [7; 32];

/// A clock that stands still, and breaks when it is told to.
#[derive(Clone, Default)]
pub struct Fixed(pub Arc<AtomicBool>);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::Relaxed), "the clock is broken");
        NOW
    }
}

static NEXT: AtomicU16 = AtomicU16::new(1);

fn unique() -> [u8; 2] {
    NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()
}

fn fresh<I: Id>() -> I {
    let [high, low] = unique();
    I::generate(NOW, [high, low, high, low, high, low, high, low, high, low])
}

fn secret(kind: CredentialKind) -> (Secret, NewSecret) {
    let [high, low] = unique();
    let mut random = [low % 62; 30];
    (random[0], random[1]) = (low / 62, high);
    let secret = Brand::default().format(kind, Environment::Live, &random);
    let pepper = Pepper::new(PEPPER);
    let stored = NewSecret {
        digest: pepper.digest_body(secret.body()),
        pepper: pepper.id(),
        last4: secret.last4().into(),
    };
    (secret, stored)
}

pub fn by() -> AuditContext {
    let actor = Actor { kind: "system", id: String::new(), name: String::new() };
    AuditContext { actor, address: String::new(), now: NOW.plus(-HOUR) }
}

fn session(signed_in_at: Timestamp) -> (Secret, NewSession) {
    let (shown, secret) = secret(CredentialKind::Session);
    (shown, NewSession { id: fresh::<SessionId>(), secret, signed_in_at, user_agent: String::new() })
}

async fn found(store: &dyn Store, email: &str, signed_in_at: Timestamp) -> (OrganizationId, UserId, Secret) {
    let (shown, session) = session(signed_in_at);
    let owner = NewOwner {
        organization: fresh(),
        organization_name: "Alpha".into(),
        user: fresh(),
        member: fresh::<MemberId>(),
        name: "Ada".into(),
        email: email.into(),
        password_hash: String::new(),
    };
    store.found_organization(&owner, &session, None, &by()).await.unwrap();
    (owner.organization, owner.user, shown)
}

async fn mint(
    store: &dyn Store,
    (organization, user): (OrganizationId, UserId),
    scope: &str,
    change: impl FnOnce(&mut NewSecretKey),
) -> (SecretKeyId, Secret) {
    let (shown, secret) = secret(CredentialKind::SecretKey);
    let mut new = NewSecretKey {
        id: fresh(),
        name: "x".into(),
        environment: Environment::Live,
        scopes: vec![scope.into()],
        created_by: user,
        expires_at: NOW.plus(1),
        rate_limit_rpm: None,
        allowed_addresses: vec![],
        secret,
    };
    change(&mut new);
    let seal = |_: &SecretKeyRow| vec![];
    assert!(store.mint_secret_key(organization, &new, 1_000, None, &by(), &seal).await.is_ok());
    (new.id, shown)
}

/// Every caller that a case may name. Keys hold one scope, but for the one that holds all.
pub async fn callers(store: &dyn Store, scope: &str, every: Vec<String>) -> BTreeMap<&'static str, Secret> {
    let mut callers = BTreeMap::new();
    let (organization, user, owner) = found(store, "owner@x.example", NOW.plus(-HOUR)).await;
    callers.insert("owner", owner);
    let (_, invited) = secret(CredentialKind::OneTime);
    let invite = fresh();
    store
        .invite(organization, invite, "v@x.example", Role::Viewer, &invited, (user, Role::Owner), &by())
        .await
        .unwrap();
    let (shown, new) = session(NOW.plus(-HOUR));
    let joining = Joining::New { user: fresh(), name: "Vi".into(), password_hash: String::new() };
    store
        .accept_invite(&[invited.digest], &Inviters(vec![Role::Owner]), &joining, fresh(), &new, &by())
        .await
        .unwrap();
    callers.insert("viewer", shown);
    for (name, signed_in_at) in [("old", NOW.plus(-13 * HOUR)), ("idle", NOW.plus(-HOUR))] {
        let (shown, new) = session(signed_in_at);
        store.open_session(organization, user, &new, Proof::Password(""), &by()).await.unwrap();
        callers.insert(name, shown);
        if name == "idle" {
            let mut tx = store.batch().await.unwrap();
            let args = vec![flowyte_store::db::id(new.id), NOW.plus(-DAY).into()];
            tx.exec("UPDATE sessions SET last_seen_at = $2 WHERE id = $1", args).await.unwrap();
            tx.commit().await.unwrap();
        }
    }
    let owned = (organization, user);
    callers.insert("key", mint(store, owned, scope, |_| {}).await.1);
    callers.insert("all", mint(store, owned, scope, |key| key.scopes = every).await.1);
    callers.insert("expired", mint(store, owned, scope, |key| key.expires_at = NOW.plus(-1)).await.1);
    callers.insert("edge", mint(store, owned, scope, |key| key.expires_at = NOW).await.1);
    let fenced = |key: &mut NewSecretKey| key.allowed_addresses = vec!["10.0.0.0/8".into()];
    callers.insert("fenced", mint(store, owned, scope, fenced).await.1);
    let (id, revoked) = mint(store, owned, scope, |_| {}).await;
    store.revoke_secret_key(organization, id, &by()).await.unwrap();
    callers.insert("revoked", revoked);
    callers.insert("unknown", secret(CredentialKind::SecretKey).0);

    #[cfg(feature = "product")]
    publish_agent(store, organization).await;
    let (widget, stored) = secret(CredentialKind::PublishableKey);
    let new = NewPublishableKey {
        id: PublishableKeyId::from_bytes(WIDGET),
        name: "site".into(),
        environment: Environment::Live,
        key_public: widget.expose().into(),
        allowed_origins: vec!["https://shop.example".into()],
        rate_limit_rpm: None,
        identity: None,
        secret: stored,
    };
    let seal = |_: &PublishableKeyRow| vec![];
    assert!(
        store
            .mint_publishable_key(organization, ResourceId::from_bytes(PINNED), &new, None, &by(), &seal)
            .await
            .is_ok()
    );
    callers.insert("widget", widget);

    let (elsewhere, other, _) = found(store, "other@x.example", NOW.plus(-HOUR)).await;
    callers.insert("suspended", mint(store, (elsewhere, other), scope, |_| {}).await.1);
    let mut tx = store.batch().await.unwrap();
    let args = vec![flowyte_store::db::id(elsewhere)];
    tx.exec("UPDATE organizations SET suspended = 1 WHERE id = $1", args).await.unwrap();
    tx.commit().await.unwrap();
    callers
}

/// The agent that the publishable key is pinned to, where there are agents.
#[cfg(feature = "product")]
async fn publish_agent(store: &dyn Store, organization: OrganizationId) {
    use flowyte_product::agents::{Agent, Agents, Version};
    let agent = flowyte_product::id::AgentId::from_bytes(PINNED);
    let seal = |_: &Agent| vec![];
    Agents(store).create(organization, agent, "Desk", Default::default(), None, &by(), &seal).await.unwrap();
    let seal = |_: &Version| vec![];
    Agents(store).publish(organization, agent, fresh(), None, None, &by(), &seal).await.unwrap();
}

/// What a server does outside.
#[cfg(feature = "product")]
pub type Outside = flowyte_product::Services;
#[cfg(not(feature = "product"))]
pub struct Outside;

/// As little of it as there can be.
#[cfg(feature = "product")]
pub fn nothing_outside() -> Outside {
    crate::support::services(Box::new(flowyte_product::answerer::Embedded))
}
#[cfg(not(feature = "product"))]
pub fn nothing_outside() -> Outside {
    Outside
}

/// Serves the store on a port of its own. `shared`: as if others might write and nothing proved that it is fresh.
pub async fn serve(
    clock: Fixed,
    file: &std::path::Path,
    shared: bool,
    outside: Outside,
) -> (u16, Arc<Server>) {
    #[cfg(not(feature = "product"))]
    let Outside = outside;
    let store = Sqlite::open(file, flowyte::GUESTS).await.unwrap();
    let contract = flowyte::serve::contract().unwrap();
    let replica =
        Replica::load(store, contract.contract.scopes().clone(), 60_000, shared, NOW).await.unwrap();
    let mut given = Given::default();
    for (name, value) in [("public_url", "https://flowyte.example"), ("trusted_proxies", "127.0.0.1/32")] {
        given.flag(settings().find(|it| it.name == name).unwrap(), value.into());
    }
    let config = given.finish().ok().unwrap();
    let peppers = Peppers::new(vec![PEPPER]).unwrap();
    let parts = Parts {
        api: contract,
        replica,
        peppers,
        clock: Box::new(clock),
        entropy: Box::new(System),
        #[cfg(feature = "product")]
        services: outside,
    };
    let app = Server::new(config, parts).ok().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (refusing, serving) = (app.door.clone(), app.door.clone());
    let refuse: accept::Refuse = Arc::new(move |refusal, peer| api::refuse(&refusing, refusal, peer));
    let service_for = move |peer| {
        let app = serving.clone();
        hyper::service::service_fn(move |request| api::serve(app.clone(), request, peer))
    };
    tokio::spawn(accept::serve(listener, Limits::default(), refuse, service_for, std::future::pending()));
    (port, app)
}

pub fn ask(port: u16, case: &Case, callers: &BTreeMap<&str, Secret>) -> String {
    let (method, path) = case.call.split_once(' ').unwrap();
    let text = callers.get(case.r#as.as_str()).map_or("", |secret| secret.expose());
    let is_session = text.starts_with("flowyte_st_");
    let mut query = case.query.clone();
    let bearer = format!("Authorization: Bearer {text}\r\n");
    let credential = match case.header.as_deref() {
        Some("twice") => bearer.repeat(2),
        Some("garbage") => "Authorization: Bearer null\r\n".into(),
        Some("lower") => bearer.replace("Bearer", "bearer"),
        Some("tab") => bearer.replace("Bearer ", "Bearer\t"),
        Some("query") => {
            query = Some(format!("key={text}&access_token={text}"));
            String::new()
        }
        Some("key") => {
            query = Some(format!("key={text}"));
            String::new()
        }
        Some("bearer") => bearer,
        Some(other) => panic!("{}: header {other}", case.name),
        None if is_session => format!("Cookie: __Host-flowyte_session={text}\r\n"),
        None if text.is_empty() => String::new(),
        None => bearer,
    };
    let query = query.map_or_else(String::new, |it| format!("?{it}"));
    let field = |name: &str, value: &Option<String>| {
        value.as_ref().map_or_else(String::new, |it| format!("{name}: {it}\r\n"))
    };
    let address = Some(case.address.clone().unwrap_or_else(|| "192.0.2.1".into()));
    let request = format!(
        "{method} {path}{query} HTTP/1.1\r\nHost: flowyte.example\r\nConnection: close\r\n{credential}{}{}{}\r\n",
        field("Origin", &case.origin),
        field("Sec-Fetch-Site", &case.site),
        field("X-Forwarded-For", &address)
    );
    let got = raw(port, request.as_bytes()).unwrap_or_else(|| panic!("{}: no answer", case.name));
    got.check_invariants(&case.name);
    // HEAD has no body to name a code in.
    match (got.status, got.code().as_str()) {
        (..=399, _) | (_, "unsupported_media_type") => "permit".into(),
        (401, "") => "missing_credential".into(),
        (_, code) => code.to_owned(),
    }
}

/// Asks a server whatever the cases say, and answers how many there were. `change` may leave a case out, or ask it of another operation.
pub fn every_case_is_answered(scope: &str, change: impl Fn(Case) -> Option<Case>) -> usize {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flowyte.db");
    let contract = flowyte::serve::contract().unwrap();
    let table = contract.contract.scopes();
    let every: Vec<String> = table.names(table.secret_keys()).into_iter().map(str::to_owned).collect();
    let (callers, fresh, stale) = runtime.block_on(async {
        let store = Sqlite::open(&file, flowyte::GUESTS).await.unwrap();
        let callers = callers(&*store, scope, every).await;
        store.close().await;
        let fresh = serve(Fixed::default(), &file, false, nothing_outside()).await.0;
        (callers, fresh, serve(Fixed::default(), &file, true, nothing_outside()).await.0)
    });
    let cases: Vec<Case> = cases().into_iter().filter_map(change).collect();
    let wrong: Vec<String> = cases
        .iter()
        .map(|case| (case, ask(if case.stale { stale } else { fresh }, case, &callers)))
        .filter(|(case, answer)| case.answer != *answer)
        .map(|(case, answer)| format!("{}: {answer} instead of {}", case.name, case.answer))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    cases.len()
}
