//! From the store to a decision: what a write acknowledged is what the next request meets.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

use flowyte_contract::{Api, compile_all};
use flowyte_core::credential::{Secret, present};
use flowyte_core::facts::Field;
use flowyte_core::id::{Id, MemberId, OrganizationId, SecretKeyId, UserId};
use flowyte_core::time::{DAY, HOUR};
use flowyte_core::{Brand, CredentialKind, Environment, Pepper, RequestFacts, Role, Timestamp, decide};
use flowyte_store::accounts::{Inviters, NewOwner, NewSession};
use flowyte_store::keys::{NewSecret, NewSecretKey, SecretKeyChange, SecretKeyRow};
use flowyte_store::{Actor, AuditContext, Class, Entity, Once, Revision, Sqlite, Store};
use flowyte_verifier::authorize::Authorization;
use flowyte_verifier::clock::{Clock, System};
use flowyte_verifier::pepper::Peppers;
use flowyte_verifier::replica::Replica;
use flowyte_verifier::warrant::{Asked, Warrant};
use flowyte_verifier::{Settings, Verifier};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

struct World {
    _folder: tempfile::TempDir,
    api: Api,
    pepper: Pepper,
    store: Arc<dyn Store>,
    replica: Arc<Replica>,
    next: AtomicU8,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("flowyte.db"), &[]).await.unwrap();
        let api = compile_all(&[
            include_str!("../../../contracts/plane.yaml"),
            include_str!("../../../contracts/product.yaml"),
        ]);
        let api = api.unwrap_or_else(|all| panic!("{all:?}"));
        let replica =
            Replica::load(store.clone(), api.contract.scopes().clone(), 60_000, false, NOW).await.unwrap();
        Self { _folder: folder, api, pepper: Pepper::new([7; 32]), store, replica, next: AtomicU8::new(1) }
    }

    fn unique(&self) -> u8 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn id<I: Id>(&self) -> I {
        I::generate(NOW, [self.unique(); 10])
    }

    fn secret(&self, kind: CredentialKind) -> (Secret, NewSecret) {
        let secret = Brand::default().format(kind, Environment::Live, &[self.unique(); 30]);
        let stored = NewSecret {
            digest: self.pepper.digest_body(secret.body()),
            pepper: self.pepper.id(),
            last4: secret.last4().into(),
        };
        (secret, stored)
    }

    /// The answer to a request at `at` with this credential.
    fn ask(&self, secret: &Secret, call: &str, at: Timestamp) -> &'static str {
        let (method, path) = call.split_once(' ').unwrap();
        let bearer = format!("Bearer {}", secret.expose());
        let facts = facts(secret, &bearer, method, path);
        let matched = self.api.contract.find(method, path).ok().unwrap();
        let presented = present(&Brand::default(), matched.operation, &facts).unwrap().unwrap();
        let digest = self.pepper.digest(&presented);
        let decision =
            self.replica.with(&digest, |record| decide(&matched, Some(&presented), record, &facts, at));
        decision.map_or_else(|denial| denial.code(), |_| "permit")
    }

    /// A permit of `POST /agents` for this credential, decided so many nanoseconds ago, as a store.
    fn warrant(&self, secret: &Secret, ago: i64) -> Warrant {
        let settings = Settings {
            brand: Brand::default(),
            public_url: "https://flowyte.example".into(),
            organization_rpm: 60_000,
            unauthenticated_rpm: 60,
        };
        let (contract, peppers) = (self.api.contract.clone(), Peppers::new(vec![[7; 32]]).unwrap());
        let (store, replica) = (self.store.clone(), self.replica.clone());
        let clock = Box::new(Fixed);
        let verifier = Verifier::new(settings, contract, store, replica, peppers, clock, Box::new(System));
        let bearer = format!("Bearer {}", secret.expose());
        let facts = facts(secret, &bearer, "POST", "/api/v1/agents");
        let authorization = verifier.authorize(&facts);
        let authorization = Authorization { decided: authorization.decided - ago, ..authorization };
        Warrant::new(verifier.clone(), Class::Product, Asked::of(&facts), &authorization)
            .unwrap_or_else(|denial| panic!("{}", denial.code()))
    }

    async fn owner(&self) -> (OrganizationId, UserId, MemberId, Secret) {
        let (secret, stored) = self.secret(CredentialKind::Session);
        let new = NewOwner {
            organization: self.id(),
            organization_name: "Acme".into(),
            user: self.id(),
            member: self.id(),
            name: "Ada".into(),
            email: format!("ada{}@example.com", self.unique()),
            password_hash: "$argon2id$".into(),
        };
        let session =
            NewSession { id: self.id(), secret: stored, signed_in_at: NOW, user_agent: "browser".into() };
        self.store.found_organization(&new, &session, None, &by()).await.unwrap();
        (new.organization, new.user, new.member, secret)
    }

    async fn mint(&self, organization: OrganizationId, user: UserId, scope: &str) -> (SecretKeyId, Secret) {
        let (secret, stored) = self.secret(CredentialKind::SecretKey);
        let new = NewSecretKey {
            id: self.id(),
            name: "backend".into(),
            environment: Environment::Live,
            scopes: vec![scope.into()],
            created_by: user,
            expires_at: NOW.plus(DAY),
            rate_limit_rpm: None,
            allowed_addresses: vec![],
            secret: stored,
        };
        let seal = |_: &SecretKeyRow| vec![];
        assert!(matches!(
            self.store.mint_secret_key(organization, &new, 1_000, None, &by(), &seal).await,
            Ok(Once::Fresh(_))
        ));
        (new.id, secret)
    }
}

/// The facts of a request of the dashboard's own page, or of a key with this header.
fn facts<'a>(secret: &'a Secret, bearer: &'a str, method: &'a str, path: &'a str) -> RequestFacts<'a> {
    let is_session = secret.expose().starts_with("flowyte_st_");
    RequestFacts {
        method,
        path,
        query: None,
        authorization: if is_session { Field::None } else { Field::One(bearer) },
        session_cookie: if is_session { Field::One(secret.expose()) } else { Field::None },
        origin: Field::None,
        fetch_site: Field::One("same-origin"),
        address: "192.0.2.1".parse().unwrap(),
        public_origin: "https://flowyte.example",
    }
}

/// A clock that stands still.
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        NOW
    }
}

fn by() -> AuditContext {
    AuditContext {
        actor: Actor { kind: "system", id: String::new(), name: String::new() },
        address: String::new(),
        now: NOW,
    }
}

const AGENTS: &str = "GET /api/v1/agents";

/// A store on the same file whose commits no replica here is told of, as another node's would be.
async fn beside(world: &World) -> Arc<dyn Store> {
    Sqlite::open_beside(&world._folder.path().join("flowyte.db"), &[]).await.unwrap()
}

/// Lets a key become anything.
const ANYTHING: fn(&SecretKeyRow, &SecretKeyRow) -> Result<(), flowyte_store::StoreError> = |_, _| Ok(());

#[tokio::test]
async fn minted_works_and_revoked_does_not() {
    let world = World::new().await;
    let (organization, user, ..) = world.owner().await;
    let (id, key) = world.mint(organization, user, "agents:read").await;
    assert_eq!(world.ask(&key, AGENTS, NOW), "permit");
    assert_eq!(world.ask(&key, "POST /api/v1/agents", NOW), "insufficient_scope");
    assert_eq!(world.ask(&key, "GET /api/v1/webhooks", NOW), "operation_reserved");
    assert_eq!(world.ask(&key, AGENTS, NOW.plus(DAY - 1)), "permit");
    assert_eq!(world.ask(&key, AGENTS, NOW.plus(DAY)), "credential_expired");
    // Well-formed and never minted.
    let other = Brand::default().format(CredentialKind::SecretKey, Environment::Test, &[200; 30]);
    assert_eq!(world.ask(&other, AGENTS, NOW), "invalid_credential");
    world.store.revoke_secret_key(organization, id, &by()).await.unwrap();
    assert_eq!(world.ask(&key, AGENTS, NOW), "credential_revoked");

    // A node that starts later knows it as well.
    let folder = &world._folder;
    let again = Sqlite::open(&folder.path().join("flowyte.db"), &[]).await.unwrap();
    let scopes = world.api.contract.scopes().clone();
    let replica = Replica::load(again, scopes, 60_000, false, NOW).await.unwrap();
    let restarted = World { replica, ..world };
    assert_eq!(restarted.ask(&key, AGENTS, NOW), "credential_revoked");
}

#[tokio::test]
async fn narrowing_and_rotation_are_met_by_the_next_request() {
    let world = World::new().await;
    let (organization, user, ..) = world.owner().await;
    let (id, old) = world.mint(organization, user, "agents:read").await;
    let (new, stored) = world.secret(CredentialKind::SecretKey);
    let seal = |_: &(SecretKeyRow, Revision)| vec![];
    let grace = NOW.plus(HOUR);
    world
        .store
        .rotate_secret_key(organization, id, &stored, grace, &ANYTHING, None, &by(), &seal)
        .await
        .unwrap();
    assert_eq!((world.ask(&old, AGENTS, NOW), world.ask(&new, AGENTS, NOW)), ("permit", "permit"));
    assert_eq!(world.ask(&old, AGENTS, grace.plus(-1)), "permit");
    assert_eq!(world.ask(&old, AGENTS, grace), "credential_expired");
    let cut = SecretKeyChange { grace_ends_at: Some(NOW), ..Default::default() };
    world.store.change_secret_key(organization, id, &cut, &ANYTHING, &by()).await.unwrap();
    assert_eq!(
        (world.ask(&old, AGENTS, NOW), world.ask(&new, AGENTS, NOW)),
        ("credential_expired", "permit")
    );
    // No grace outlives the key.
    let (late, stored) = world.secret(CredentialKind::SecretKey);
    let grace = NOW.plus(DAY + HOUR);
    world
        .store
        .rotate_secret_key(organization, id, &stored, grace, &ANYTHING, None, &by(), &seal)
        .await
        .unwrap();
    assert_eq!(
        (world.ask(&new, AGENTS, NOW.plus(DAY)), world.ask(&late, AGENTS, NOW.plus(DAY))),
        ("credential_expired", "credential_expired")
    );
    // A scope this release does not know, and one no key may hold, grant nothing.
    let stored = vec!["keys:read".into(), "*".into(), "agents:everything".into()];
    let narrowed = SecretKeyChange { scopes: Some(stored), ..Default::default() };
    world.store.change_secret_key(organization, id, &narrowed, &ANYTHING, &by()).await.unwrap();
    assert_eq!(world.ask(&new, AGENTS, NOW), "insufficient_scope");
    // An address list that can't be read closes the key rather than opening it.
    let unreadable =
        SecretKeyChange { allowed_addresses: Some(vec!["10.0.0.1/8".into()]), ..Default::default() };
    world.store.change_secret_key(organization, id, &unreadable, &ANYTHING, &by()).await.unwrap();
    assert_eq!(world.ask(&new, AGENTS, NOW), "credential_revoked");
}

#[tokio::test]
async fn roles_are_read_at_the_next_request() {
    let world = World::new().await;
    let (organization, user, member, session) = world.owner().await;
    let (guest_organization, guest, ..) = world.owner().await;
    let minting = "POST /api/v1/api-keys";
    assert_eq!(world.ask(&session, minting, NOW), "permit");
    // The last owner stays one.
    assert!(
        world
            .store
            .change_role(organization, member, Role::Viewer, Role::Owner, None, &Inviters(vec![]), &by())
            .await
            .is_err()
    );
    assert_eq!(world.ask(&session, minting, NOW), "permit");
    // An idle day ends the session; so does signing out.
    assert_eq!(world.ask(&session, minting, NOW.plus(DAY)), "credential_expired");
    let open = world.store.sessions(user, NOW).await.unwrap();
    world.store.end_session(user, open[0].id, &by()).await.unwrap();
    assert_eq!(world.ask(&session, minting, NOW), "credential_revoked");
    // The other organization's session did not notice.
    assert_eq!(world.store.sessions(guest, NOW).await.unwrap().len(), 1);
    assert_ne!(guest_organization, organization);
}

/// Rows: LC-21.
#[tokio::test]
async fn a_clock_that_jumps_and_comes_back_ends_nothing_for_good() {
    let world = World::new().await;
    let (organization, user, _, session) = world.owner().await;
    let (_, key) = world.mint(organization, user, "agents:read").await;
    let ahead = NOW.plus(DAY);
    assert_eq!(
        (world.ask(&key, AGENTS, ahead), world.ask(&session, AGENTS, ahead)),
        ("credential_expired", "credential_expired")
    );
    world.replica.sweep(ahead).await;
    assert_eq!((world.ask(&key, AGENTS, NOW), world.ask(&session, AGENTS, NOW)), ("permit", "permit"));
}

/// A permit is decided again before something is written, and otherwise once it is older than a second.
#[tokio::test]
async fn an_old_permit_is_decided_again() {
    let world = World::new().await;
    let (organization, user, ..) = world.owner().await;
    let (id, key) = world.mint(organization, user, "agents:write").await;
    let (young, old) = (world.warrant(&key, 0), world.warrant(&key, 1_100_000_000));
    assert!(young.check_if_old().is_ok() && old.check_if_old().is_ok());
    world.store.revoke_secret_key(organization, id, &by()).await.unwrap();
    assert!(young.check_if_old().is_ok());
    assert_eq!(old.check_if_old().map_err(|it| it.code()), Err("credential_revoked"));
    assert!((&young as &dyn Store).security().await.is_err());
}

/// What is changed by somebody else, of whose change the replica has not heard yet, is known inside a transaction that the permit opens.
#[tokio::test]
async fn a_transaction_knows_what_the_replica_has_not_heard_of() {
    for (what, sql, entity) in [
        ("revoked", "UPDATE secret_keys SET revoked_at = 1 WHERE id = $1", Entity::SecretKey),
        ("narrowed", "UPDATE secret_keys SET scopes = '[]' WHERE id = $1", Entity::SecretKey),
        ("cut short", "UPDATE secrets SET expires_at = 1 WHERE key_id = $1", Entity::SecretKey),
        ("suspended", "UPDATE organizations SET suspended = 1 WHERE id = $1", Entity::Organization),
        ("signed out", "UPDATE sessions SET ended_at = 1 WHERE id = $1", Entity::Session),
        ("demoted", "UPDATE members SET role = 'viewer' WHERE user_id = $1", Entity::Member),
        ("removed", "DELETE FROM members WHERE user_id = $1", Entity::Member),
        ("disabled", "UPDATE users SET disabled = 1 WHERE id = $1", Entity::Member),
    ] {
        let world = World::new().await;
        let (organization, user, _, session) = world.owner().await;
        let (id, key) = world.mint(organization, user, "agents:write").await;
        let (_, other) = world.mint(organization, user, "agents:write").await;
        let open = world.store.sessions(user, NOW).await.unwrap()[0].id;
        let of_key = matches!(entity, Entity::SecretKey | Entity::Organization);
        let warrant = world.warrant(if of_key { &key } else { &session }, 0);
        let unconcerned = world.warrant(&other, 0);
        let elsewhere = beside(&world).await;
        let changed = match entity {
            Entity::SecretKey => *id.as_bytes(),
            Entity::Organization => *organization.as_bytes(),
            Entity::Session => *open.as_bytes(),
            _ => *user.as_bytes(),
        };
        let mut tx = elsewhere.security().await.unwrap();
        tx.exec(sql, vec![changed.into()]).await.unwrap();
        tx.change(organization, entity, SecretKeyId::from_bytes(changed), NOW).await.unwrap();
        tx.commit().await.unwrap();
        let before = world.replica.revision();
        // Nobody waits for what is nothing to them.
        if entity != Entity::Organization {
            assert!((&unconcerned as &dyn Store).security().await.is_ok(), "{what}");
            assert_eq!(world.replica.revision(), before, "{what}");
        }
        assert!((&warrant as &dyn Store).security().await.is_err(), "{what}");
        assert_eq!(world.replica.revision(), before + 1, "{what}");
    }
}
