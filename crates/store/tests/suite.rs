//! One suite, both databases. A difference between them is a failure here; neither is ever skipped.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

mod postgres;

use flowyte_core::id::{
    Id, InviteId, MemberId, OrganizationId, PublishableKeyId, ResourceId, SecretKeyId, SessionId, UserId,
    VisitorId,
};
use flowyte_core::time::{DAY, HOUR};
use flowyte_core::{CredentialKind, Digest, Environment, Role, Timestamp};
use flowyte_store::accounts::{Inviters, Joining, NewOwner, NewSession, OrganizationChange, Proof};
use flowyte_store::audit::{AuditAction, AuditFilter, ChainReport};
use flowyte_store::db::id;
use flowyte_store::feed::{SecretKeyState, VisitorState};
use flowyte_store::keys::{KeyFilter, KeySort, NewSecret, NewSecretKey, SecretKeyChange, SecretKeyRow};
use flowyte_store::publishable::{NewPublishableKey, NewVisitor, PublishableKeyFilter, PublishableKeyRow};
use flowyte_store::sweep::Old;
use flowyte_store::usage::UsageRow;
use flowyte_store::walk::{Order, Search, Window};
use flowyte_store::{
    Actor, AuditContext, Claim, Class, Follower, Growth, Guest, Lane, Link, Mode, Once, Postgres, Revision,
    Seen, Sqlite, State, Store, StoreError, args,
};
use futures_util::FutureExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

/// A guest that owns what publishable keys are pinned to.
const AGENTS: Guest = Guest {
    name: "agents",
    migrations: &[(
        1,
        "CREATE TABLE agents (id BYTES PRIMARY KEY, organization_id BYTES NOT NULL REFERENCES organizations (id), deleted_at BIGINT)",
    )],
    peppers: &[],
    resource: Some("SELECT id FROM agents WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL"),
    orphaned_keys: None,
};

/// Runs `test` on an empty SQLite file and on an empty PostgreSQL database.
async fn on_both<F: Future<Output = ()>>(test: impl Fn(Arc<dyn Store>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    test(Sqlite::open(&folder.path().join("flowyte.db"), &[AGENTS]).await.unwrap()).await;
    test(flowyte_store::Postgres::connect(&postgres::empty_database().await, &[AGENTS]).await.unwrap()).await;
}

fn fresh<I: Id>() -> I {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut unique = [0; 10];
    unique[2..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    // The millisecond moves with the counter, so later ids sort later.
    let counter = u64::from_be_bytes(unique[2..].try_into().unwrap());
    I::generate(NOW.plus(counter as i64 * 1_000), unique)
}

fn secret() -> NewSecret {
    let id: SecretKeyId = fresh();
    let mut digest = [7; 32];
    digest[..16].copy_from_slice(id.as_bytes());
    NewSecret { digest: Digest::from_bytes(digest), pepper: [1; 8], last4: "9xYz".into() }
}

/// Every key that fits, read in pages of two. However few rows a page may pass, they are the same.
async fn keys(store: &Arc<dyn Store>, organization: OrganizationId, filter: &KeyFilter) -> Vec<SecretKeyId> {
    let read = async |most| {
        let mut window = Window { most, ..Window::new(None, 2) };
        let mut seen = Vec::new();
        for _ in 0..100 {
            let found = store.secret_keys(organization, filter, window, NOW).await.unwrap();
            assert!(found.rows.len() <= 2);
            seen.extend(found.rows.iter().map(|key| key.id));
            window.after = found.next;
            if found.next.is_none() {
                return seen;
            }
        }
        panic!("the list does not end");
    };
    let seen = read(1000).await;
    for few in [1, 2, 3] {
        assert_eq!(read(few).await, seen, "{few} rows a page");
    }
    seen
}

fn by_at(now: Timestamp) -> AuditContext {
    AuditContext {
        actor: Actor { kind: "user", id: "user_1".into(), name: "Ada".into() },
        address: "192.0.2.1".into(),
        now,
    }
}

fn session() -> NewSession {
    NewSession { id: fresh(), secret: secret(), signed_in_at: NOW, user_agent: "browser".into() }
}

fn owner(email: &str) -> NewOwner {
    NewOwner {
        organization: fresh(),
        organization_name: "Acme".into(),
        user: fresh(),
        member: fresh(),
        name: "Ada".into(),
        email: email.into(),
        password_hash: "$argon2id$".into(),
    }
}

async fn found(store: &Arc<dyn Store>, email: &str) -> (OrganizationId, UserId, MemberId) {
    let new = owner(email);
    store.found_organization(&new, &session(), None, &by_at(NOW)).await.unwrap();
    (new.organization, new.user, new.member)
}

/// Lets a key become anything.
const ANYTHING: fn(&SecretKeyRow, &SecretKeyRow) -> Result<(), StoreError> = |_, _| Ok(());

fn inviters() -> Inviters {
    Inviters(vec![Role::Owner, Role::Admin])
}

fn new_key(created_by: UserId) -> NewSecretKey {
    NewSecretKey {
        id: fresh(),
        name: "backend".into(),
        environment: Environment::Live,
        scopes: vec!["agents:read".into()],
        created_by,
        expires_at: NOW.plus(90 * DAY),
        rate_limit_rpm: Some(60),
        allowed_addresses: vec![],
        secret: secret(),
    }
}

async fn mint(store: &Arc<dyn Store>, organization: OrganizationId, user: UserId) -> SecretKeyRow {
    let seal = |_: &SecretKeyRow| vec![];
    match store.mint_secret_key(organization, &new_key(user), 1_000, None, &by_at(NOW), &seal).await.unwrap()
    {
        Once::Fresh(key) => key,
        Once::Replay(_) => panic!("nothing was claimed"),
    }
}

/// Everything that decisions need.
async fn snapshot(store: &Arc<dyn Store>, now: Timestamp) -> Vec<State> {
    let mut states = Vec::new();
    store.snapshot(now, &mut |state| states.push(state)).await.unwrap();
    states
}

#[tokio::test]
async fn set_up_happens_once() {
    on_both(|store| async move {
        assert!(store.is_empty().await.unwrap());
        let token = secret().digest;
        store.offer_setup(token).await.unwrap();
        let by = by_at(NOW);
        let wrong =
            store.found_organization(&owner("a@example.com"), &session(), Some(secret().digest), &by).await;
        assert!(matches!(wrong, Err(StoreError::NotFound)));
        store.found_organization(&owner("a@example.com"), &session(), Some(token), &by).await.unwrap();
        let again = store.found_organization(&owner("b@example.com"), &session(), Some(token), &by).await;
        assert!(matches!(again, Err(StoreError::NotFound)));
        assert!(!store.is_empty().await.unwrap());
        let known = store.found_organization(&owner("a@example.com"), &session(), None, &by).await;
        assert!(matches!(known, Err(StoreError::Conflict(_))));
    })
    .await;
}

#[tokio::test]
async fn a_key_lives_is_rotated_and_dies() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let key = mint(&store, organization, user).await;
        assert_eq!((key.secrets.len(), key.created_by.1.as_str()), (1, "Ada"));

        let grace = NOW.plus(HOUR);
        let seal = |_: &(SecretKeyRow, Revision)| vec![];
        let rotate = async |until| match store
            .rotate_secret_key(organization, key.id, &secret(), until, &ANYTHING, None, &by_at(NOW), &seal)
            .await
            .unwrap()
        {
            Once::Fresh((row, _)) => row,
            Once::Replay(_) => panic!("nothing was claimed"),
        };
        let ends = |row: &SecretKeyRow| row.secrets.iter().map(|it| it.expires_at).collect::<Vec<_>>();
        assert_eq!(ends(&rotate(grace).await), [Timestamp::NEVER, grace]);
        // A second rotation ends the older secret at once: never three.
        assert_eq!(ends(&rotate(grace).await), [Timestamp::NEVER, grace]);

        let change = |end| SecretKeyChange { grace_ends_at: Some(end), ..Default::default() };
        let longer = store
            .change_secret_key(organization, key.id, &change(grace.plus(1)), &ANYTHING, &by_at(NOW))
            .await;
        assert!(matches!(longer, Err(StoreError::Conflict(_))));
        let (cut, _) = store
            .change_secret_key(organization, key.id, &change(NOW), &ANYTHING, &by_at(NOW))
            .await
            .unwrap();
        assert_eq!(ends(&cut), [Timestamp::NEVER]);

        let (dead, revision) = store.revoke_secret_key(organization, key.id, &by_at(NOW)).await.unwrap();
        assert_eq!(dead.revoked_at, Some(NOW));
        let (again, same) = store.revoke_secret_key(organization, key.id, &by_at(NOW.plus(1))).await.unwrap();
        assert_eq!((again.revoked_at, same), (Some(NOW), revision));
        let raised = store
            .rotate_secret_key(organization, key.id, &secret(), NOW, &ANYTHING, None, &by_at(NOW), &seal)
            .await;
        assert!(matches!(raised, Err(StoreError::Conflict(_))));
        let renamed = SecretKeyChange { name: Some("x".into()), ..Default::default() };
        let changed = store.change_secret_key(organization, key.id, &renamed, &ANYTHING, &by_at(NOW)).await;
        assert!(matches!(changed, Err(StoreError::Conflict(_))));
    })
    .await;
}

#[tokio::test]
async fn elsewhere_is_nowhere() {
    on_both(|store| async move {
        let (_, user, _) = found(&store, "a@example.com").await;
        let (theirs, _, member) = found(&store, "b@example.com").await;
        let (ours, _, _) = found(&store, "c@example.com").await;
        let key = mint(&store, theirs, user).await.id;
        for key in [key, fresh()] {
            let change = SecretKeyChange { name: Some("x".into()), ..Default::default() };
            let by = by_at(NOW);
            assert!(matches!(store.find_secret_key(ours, key, NOW).await, Err(StoreError::NotFound)));
            assert!(matches!(
                store.change_secret_key(ours, key, &change, &ANYTHING, &by).await,
                Err(StoreError::NotFound)
            ));
            assert!(matches!(store.revoke_secret_key(ours, key, &by).await, Err(StoreError::NotFound)));
        }
        assert!(keys(&store, ours, &KeyFilter::default()).await.is_empty());
        assert!(matches!(
            store.change_role(ours, member, Role::Viewer, Role::Owner, None, &inviters(), &by_at(NOW)).await,
            Err(StoreError::NotFound)
        ));
        assert!(store.find_secret_key(theirs, key, NOW).await.unwrap().revoked_at.is_none());
    })
    .await;
}

#[tokio::test]
async fn one_idempotency_key_makes_one_secret_key() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let claim = Claim {
            actor: user.to_string(),
            digest: [3; 32],
            operation: "mintApiKey".into(),
            request: [4; 32],
            expires_at: NOW.plus(HOUR),
        };
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (store, claim) = (store.clone(), claim.clone());
                tokio::spawn(async move {
                    let seal = |key: &SecretKeyRow| key.id.to_string().into_bytes();
                    store
                        .mint_secret_key(
                            organization,
                            &new_key(user),
                            1_000,
                            Some(&claim),
                            &by_at(NOW),
                            &seal,
                        )
                        .await
                        .unwrap()
                })
            })
            .collect();
        let (mut fresh_ids, mut replayed) = (Vec::new(), Vec::new());
        for task in tasks {
            match task.await.unwrap() {
                Once::Fresh(key) => fresh_ids.push(key.id.to_string().into_bytes()),
                Once::Replay(answer) => replayed.push(answer),
            }
        }
        assert_eq!((fresh_ids.len(), replayed.len()), (1, 7));
        assert!(replayed.iter().all(|answer| *answer == fresh_ids[0]));
        assert_eq!(keys(&store, organization, &KeyFilter::default()).await.len(), 1);

        let other = Claim { request: [5; 32], ..claim.clone() };
        let seal = |_: &SecretKeyRow| vec![];
        let reused = store
            .mint_secret_key(organization, &new_key(user), 1_000, Some(&other), &by_at(NOW), &seal)
            .await;
        assert!(matches!(reused, Err(StoreError::IdempotencyKeyReused)));
        let later = store
            .mint_secret_key(
                organization,
                &new_key(user),
                1_000,
                Some(&other),
                &by_at(NOW.plus(2 * HOUR)),
                &seal,
            )
            .await;
        assert!(matches!(later, Ok(Once::Fresh(_))));
    })
    .await;
}

#[tokio::test]
async fn pages_are_newest_first_and_complete() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let mut minted = Vec::new();
        for _ in 0..5 {
            minted.push(mint(&store, organization, user).await.id);
        }
        minted.reverse();
        assert_eq!(keys(&store, organization, &KeyFilter::default()).await, minted);
        minted.reverse();
        let oldest = KeyFilter { sort: KeySort::Oldest, ..Default::default() };
        assert_eq!(keys(&store, organization, &oldest).await, minted);
    })
    .await;
}

/// However few rows a page may pass, a search finds the same.
#[tokio::test]
async fn a_search_finds_the_same_in_pages_of_any_size() {
    on_both(|store| async move {
        let (organization, _, _) = found(&store, "a@example.com").await;
        let agent: ResourceId = fresh();
        let mut tx = store.security().await.unwrap();
        tx.exec(
            "INSERT INTO agents (id, organization_id) VALUES ($1, $2)",
            vec![id(agent), id(organization)],
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        for name in ["Shop 1", "Blog", "shop 2", "Shöp", "shop 3"] {
            let new = NewPublishableKey {
                id: fresh(),
                name: name.into(),
                environment: Environment::Live,
                key_public: name.into(),
                allowed_origins: vec!["https://shop.example".into()],
                rate_limit_rpm: None,
                identity: None,
                secret: secret(),
            };
            let seal = |_: &PublishableKeyRow| vec![];
            store.mint_publishable_key(organization, agent, &new, None, &by_at(NOW), &seal).await.unwrap();
        }
        for (search, fits) in [
            (Some("SHOP"), &["shop 3", "shop 2", "Shop 1"][..]),
            (Some("Shö"), &["Shöp"]),
            (None, &["shop 3", "Shöp", "shop 2", "Blog", "Shop 1"]),
        ] {
            let filter = PublishableKeyFilter { search: Search::new(search), ..Default::default() };
            for (most, order) in
                [1, 2, 3, 1000].into_iter().flat_map(|it| [(it, Order::Newest), (it, Order::Oldest)])
            {
                let mut window = Window { most, order, ..Window::new(None, 2) };
                let mut seen = Vec::new();
                loop {
                    let page = store.publishable_keys(organization, agent, &filter, window).await.unwrap();
                    seen.extend(page.rows.into_iter().map(|it| it.name));
                    window.after = page.next;
                    if page.next.is_none() {
                        break;
                    }
                }
                if order == Order::Oldest {
                    seen.reverse();
                }
                assert_eq!(seen, fits, "{search:?} in {most} rows, {order:?} first");
            }
        }
    })
    .await;
}

/// Rows: TX-14.
#[tokio::test]
async fn keys_are_found_by_what_is_said_of_them() {
    on_both(|store| async move {
        let (organization, ada, _) = found(&store, "a@example.com").await;
        let (elsewhere, bob, _) = found(&store, "b@example.com").await;
        mint(&store, elsewhere, bob).await;
        let new = |name: &str, days: i64, scope: &str, environment| NewSecretKey {
            id: fresh(),
            name: name.into(),
            environment,
            scopes: vec![scope.into(), "chat:write".into()],
            created_by: ada,
            expires_at: if days == 0 { Timestamp::NEVER } else { NOW.plus(days * DAY) },
            rate_limit_rpm: None,
            allowed_addresses: vec![],
            secret: secret(),
        };
        let all = [
            new("Booking backend", 0, "agents:read", Environment::Live),
            new("booking 100%", 30, "agents:write", Environment::Test),
            new("a_b\\c", 1, "numbers:read", Environment::Live),
            new("Über axb", -1, "agents:read", Environment::Live),
        ];
        for key in &all {
            store.mint_secret_key(organization, key, 100, None, &by_at(NOW), &|_| vec![]).await.unwrap();
        }
        store.revoke_secret_key(organization, all[0].id, &by_at(NOW)).await.unwrap();
        let which = async |filter: KeyFilter| {
            let place = |id| all.iter().position(|it| it.id == id).unwrap();
            keys(&store, organization, &filter).await.into_iter().map(place).collect::<Vec<_>>()
        };
        let none = KeyFilter::default;
        let search = async |text: &str| which(KeyFilter { search: Some(text.into()), ..none() }).await;
        assert_eq!(search("booking").await, [1, 0]);
        assert_eq!(search("BOOKING B").await, [0]);
        assert_eq!(search("Über").await, [3]);
        assert_eq!(search("9xYz").await.len(), 4);
        assert_eq!(search(&all[2].id.to_string()).await, [2]);
        // Wildcards and the sign that escapes them are characters like others.
        assert_eq!(search("%").await, [1]);
        assert_eq!(search("_").await, [2]);
        assert_eq!(search("a_b").await, [2]);
        assert_eq!(search("\\").await, [2]);
        assert!(search("' OR 1=1 --").await.is_empty());
        let status = async |text: &str| which(KeyFilter { status: Some(text.into()), ..none() }).await;
        assert_eq!(
            (status("revoked").await, status("expired").await, status("active").await),
            (vec![0], vec![3], vec![2, 1])
        );
        let scope = async |text: &str| which(KeyFilter { scope: Some(text.into()), ..none() }).await;
        assert_eq!(
            (scope("agents:read").await, scope("agents").await, scope("%").await),
            (vec![3, 0], vec![], vec![])
        );
        assert_eq!(which(KeyFilter { environment: Some(Environment::Test), ..none() }).await, [1]);
        assert_eq!(which(KeyFilter { created_by: Some(ada), ..none() }).await, [3, 2, 1, 0]);
        assert!(which(KeyFilter { created_by: Some(bob), ..none() }).await.is_empty());
        assert_eq!(which(KeyFilter { unused_since: Some(NOW), ..none() }).await, [3, 2, 1, 0]);
        assert_eq!(which(KeyFilter { expiring_before: Some(NOW.plus(2 * DAY)), ..none() }).await, [3, 2]);
        assert_eq!(which(KeyFilter { sort: KeySort::Expiry, ..none() }).await, [3, 2, 1, 0]);
        let soonest = KeyFilter { sort: KeySort::Expiry, status: Some("active".into()), ..none() };
        assert_eq!(which(soonest).await, [2, 1]);
    })
    .await;
}

#[tokio::test]
async fn a_change_that_is_based_on_an_older_state_is_refused() {
    on_both(|store| async move {
        let (organization, user, member) = found(&store, "a@example.com").await;
        let key = mint(&store, organization, user).await;
        let named = |name: &str, tag: &str| SecretKeyChange {
            name: Some(name.into()),
            expected: Some(tag.into()),
            ..Default::default()
        };
        let (renamed, _) = store
            .change_secret_key(organization, key.id, &named("two", &key.tag()), &ANYTHING, &by_at(NOW))
            .await
            .unwrap();
        assert_ne!(renamed.tag(), key.tag());
        let late = store
            .change_secret_key(organization, key.id, &named("three", &key.tag()), &ANYTHING, &by_at(NOW))
            .await;
        assert!(matches!(late, Err(StoreError::Stale)));
        // Of many at once that are based on the same state, one is done.
        let tasks = (0..16).map(|n| {
            let (store, change) = (store.clone(), named(&format!("n{n}"), &renamed.tag()));
            tokio::spawn(async move {
                store.change_secret_key(organization, key.id, &change, &ANYTHING, &by_at(NOW)).await.is_ok()
            })
        });
        let done = futures_util::future::join_all(tasks).await;
        assert_eq!(done.into_iter().filter(|it| *it.as_ref().unwrap()).count(), 1);
        let there = store.member(organization, member).await.unwrap();
        let role = store
            .change_role(
                organization,
                member,
                Role::Owner,
                Role::Owner,
                Some("0123456789abcdef"),
                &inviters(),
                &by_at(NOW),
            )
            .await;
        assert!(matches!(role, Err(StoreError::Stale)));
        let same = store
            .change_role(
                organization,
                member,
                Role::Owner,
                Role::Owner,
                Some(&there.tag()),
                &inviters(),
                &by_at(NOW),
            )
            .await;
        assert!(same.is_ok());
        let acme = store.organization(organization).await.unwrap();
        let change = |tag: String| OrganizationChange {
            name: Some("New".into()),
            expected: Some(tag),
            ..Default::default()
        };
        store.change_organization(organization, &change(acme.tag()), &by_at(NOW)).await.unwrap();
        let late = store.change_organization(organization, &change(acme.tag()), &by_at(NOW)).await;
        assert!(matches!(late, Err(StoreError::Stale)));
    })
    .await;
}

/// Rows: AU-01 AU-04.
#[tokio::test]
async fn the_chain_has_no_fork_under_parallel_changes_and_shows_tampering() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { mint(&store, organization, user).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let report = store.audit_verify(organization).await.unwrap();
        assert_eq!((report.events, report.broken_at), (66, None));
        let filter = AuditFilter { action: Some("api_key.minted".into()), ..Default::default() };
        assert_eq!(store.audit_events(organization, &filter, None, 100).await.unwrap().len(), 64);

        // Each from the end on, so that the first break is the newest tampering: edited, swapped, deleted, inserted.
        for (change, broken) in [
            ("UPDATE audit_events SET action = 'x' WHERE sequence = 12", 12),
            ("UPDATE audit_events SET sequence = CASE sequence WHEN 9 THEN -10 ELSE -9 END WHERE sequence IN (9, 10)", 9),
            ("UPDATE audit_events SET sequence = -sequence WHERE sequence < 0", 9),
            ("DELETE FROM audit_events WHERE sequence = 7", 7),
            (
                "INSERT INTO audit_events SELECT organization_id, 7, id, at, actor_kind, actor_id, actor_name, action, target_kind, \
                 target_id, target_name, details, address, hash FROM audit_events WHERE sequence = 4",
                7,
            ),
        ] {
            let mut tx = store.batch().await.unwrap();
            tx.exec(change, vec![]).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(store.audit_verify(organization).await.unwrap().broken_at, Some(broken));
        }
    })
    .await;
}

/// A walk from behind a verified event reads only what came since; it sees what was changed there, and that the event itself was.
#[tokio::test]
async fn a_verification_goes_on_from_where_another_came_to() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        for _ in 0..10 {
            mint(&store, organization, user).await;
        }
        let first = store.audit_verify(organization).await.unwrap();
        assert_eq!((first.events, first.walked_from, first.broken_at), (12, 1, None));
        let verified = first.head.unwrap();
        let again = store.audit_verify_after(organization, verified).await.unwrap();
        assert_eq!(again, ChainReport { walked_from: 13, ..first });
        for _ in 0..3 {
            mint(&store, organization, user).await;
        }
        let after = || store.audit_verify_after(organization, verified);
        let grown = after().await.unwrap();
        assert_eq!((grown.events, grown.walked_from, grown.broken_at), (15, 13, None));
        let end = store.audit_end(organization).await.unwrap();
        assert_eq!((grown.head, end.unwrap().sequence), (end, 15));

        let edit = async |sql| {
            let mut tx = store.batch().await.unwrap();
            tx.exec(sql, vec![]).await.unwrap();
            tx.commit().await.unwrap();
        };
        edit("UPDATE audit_events SET action = 'x' WHERE sequence = 14").await;
        assert_eq!(after().await.unwrap().broken_at, Some(14));
        // What lies before is not read again: only a whole walk sees it.
        edit("UPDATE audit_events SET action = 'x' WHERE sequence = 5").await;
        let report = after().await.unwrap();
        assert_eq!((report.walked_from, report.broken_at), (13, Some(14)));
        assert_eq!(store.audit_verify(organization).await.unwrap().broken_at, Some(5));
        // The verified event is gone or another: everything is walked.
        edit("DELETE FROM audit_events WHERE sequence >= 12").await;
        let report = after().await.unwrap();
        assert_eq!((report.events, report.walked_from, report.broken_at), (11, 1, Some(5)));
        let differs = |sequence, hash| store.audit_differs(organization, Link { sequence, hash });
        assert_eq!(differs(12, verified.hash).await.unwrap(), Some(12));
        assert_eq!(differs(20, verified.hash).await.unwrap(), Some(12), "the first that is missing");
        assert_eq!(differs(11, verified.hash).await.unwrap(), Some(11));
        edit("DELETE FROM audit_events").await;
        let report = after().await.unwrap();
        assert_eq!((report.events, report.broken_at, report.head), (0, Some(1), None));
    })
    .await;
}

/// Whoever keeps the heads of chains looks at those alone that have grown, or goes over all of them once, some at a time.
#[tokio::test]
async fn the_chains_that_have_grown_are_noted_once_they_are_durable() {
    on_both(|store| async move {
        let mut all = Vec::new();
        for name in ["a@example.com", "b@example.com", "c@example.com"] {
            all.push(found(&store, name).await);
        }
        all.sort_by_key(|it| it.0);
        let (idle, (busy, user, _)) = (all[0].0, all[1]);
        assert_eq!(store.grown().take_all().len(), 3);
        let before = store.audit_end(busy).await.unwrap().unwrap();
        mint(&store, busy, user).await;
        mint(&store, busy, user).await;
        let mut tx = store.security().await.unwrap();
        let deed = || AuditAction {
            action: "x",
            kind: "x",
            id: String::new(),
            name: "",
            details: Default::default(),
        };
        tx.audit(idle, &by_at(NOW), deed()).await.unwrap();
        drop(tx); // It never was.
        let last = store.audit_end(busy).await.unwrap().unwrap();
        assert_eq!(last.sequence, before.sequence + 2);
        let noted = store.grown().take_all();
        assert_eq!(noted.into_iter().collect::<Vec<_>>(), [(busy, Growth { before, last })]);
        // In whichever order they are noted.
        let link = |sequence| Link { sequence, hash: [sequence as u8; 32] };
        let growth = |before, last| Growth { before: link(before), last: link(last) };
        store.grown().note([(busy, growth(5, 6)), (busy, growth(3, 4)), (busy, growth(4, 5))]);
        assert_eq!(store.grown().take(busy), Some(growth(3, 6)));
        assert_eq!(store.grown().take(busy), None);

        store.settled().await.unwrap();
        let (mut seen, mut after) = (Vec::new(), OrganizationId::from_bytes([0; 16]));
        loop {
            let some = store.audit_ends(after, 2).await.unwrap();
            let Some((last, _)) = some.last() else { break };
            after = *last;
            seen.extend(some);
        }
        let mut ends = Vec::new();
        for (organization, _, _) in &all {
            ends.push((*organization, store.audit_end(*organization).await.unwrap()));
        }
        assert_eq!(seen, ends);
        let mut tx = store.batch().await.unwrap();
        tx.exec("DELETE FROM audit_events WHERE organization_id = $1", vec![id(busy)]).await.unwrap();
        tx.commit().await.unwrap();
        let some = store.audit_ends(OrganizationId::from_bytes([0; 16]), 500).await.unwrap();
        assert_eq!(some.iter().find(|it| it.0 == busy), Some(&(busy, None)));
    })
    .await;
}

struct Reached(AtomicI64);

#[async_trait::async_trait]
impl Follower for Reached {
    async fn reach(&self, revision: Revision) {
        self.0.fetch_max(revision, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn the_feed_is_gapless_and_tells_the_newest_state() {
    on_both(|store| async move {
        let reached = Arc::new(Reached(AtomicI64::new(0)));
        store.follower().set(reached.clone()).ok().unwrap();
        let (organization, user, member) = found(&store, "a@example.com").await;
        let start = store.snapshot(NOW, &mut |_| {}).await.unwrap();
        let key = mint(&store, organization, user).await;
        let (_, revoked_at) = store.revoke_secret_key(organization, key.id, &by_at(NOW)).await.unwrap();
        assert_eq!(reached.0.load(Ordering::SeqCst), revoked_at);

        let news = store.changes(start).await.unwrap();
        assert_eq!((news.seen.revision, news.states.len()), (start.revision + 2, 1));
        assert!(
            matches!(&news.states[0], State::SecretKey(SecretKeyState { revoked: true, secrets, .. }) if secrets.len() == 1)
        );
        assert!(store.changes(news.seen).await.unwrap().states.is_empty());

        // A removed member is told as such; the last owner can't be removed.
        assert!(matches!(
            store.remove_member(organization, member, Role::Owner, &inviters(), &by_at(NOW)).await,
            Err(StoreError::Conflict(_))
        ));
        let all = snapshot(&store, NOW).await;
        assert!(all.iter().any(|it| matches!(it, State::Member { role: Some(Role::Owner), .. })));
        assert!(all.iter().any(|it| matches!(it, State::SecretKey(SecretKeyState { revoked: true, .. }))));
    })
    .await;
}

/// Two batches of the same keys, one the other way round: neither waits for what the other holds, and both count.
#[tokio::test]
async fn batches_of_usage_take_rows_in_one_order() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let mut there = Vec::new();
        for _ in 0..20 {
            let key = mint(&store, organization, user).await;
            there.push(UsageRow {
                organization,
                credential: *key.id.as_bytes(),
                kind: CredentialKind::SecretKey,
                secret: None,
                superseded: false,
                day: "2026-09-20".into(),
                operation: "listAgents".into(),
                outcome: "allowed".into(),
                calls: 1,
                last_at: NOW,
                address: "192.0.2.1".into(),
            });
        }
        let back: Vec<UsageRow> = there.iter().rev().cloned().collect();
        for _ in 0..20 {
            let (one, other) = tokio::join!(store.add_usage(&there), store.add_usage(&back));
            one.unwrap();
            other.unwrap();
        }
        let key = SecretKeyId::from_bytes(there[0].credential);
        let counted = store.usage(organization, key, "2026-09-20", "2026-09-20").await.unwrap();
        assert_eq!(counted.len(), 1);
        assert_eq!(counted[0].3, 40);
        let row = store.find_secret_key(organization, key, NOW).await.unwrap();
        assert_eq!(row.last_used, Some((NOW, "192.0.2.1".into(), "listAgents".into())));
    })
    .await;
}

#[tokio::test]
async fn sessions_open_switch_and_end() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let (elsewhere, _, _) = found(&store, "b@example.com").await;
        let first: SessionId = store.sessions(user, NOW).await.unwrap()[0].id;
        let replacing = Proof::Session(first);
        let refused = store.open_session(elsewhere, user, &session(), replacing, &by_at(NOW)).await;
        assert!(matches!(refused, Err(StoreError::NotFound)));
        let second = session();
        store.open_session(organization, user, &second, replacing, &by_at(NOW)).await.unwrap();
        let open: Vec<_> = store.sessions(user, NOW).await.unwrap().iter().map(|it| it.id).collect();
        assert_eq!(open, [second.id]);
        store.end_session(user, second.id, &by_at(NOW)).await.unwrap();
        assert!(matches!(store.end_session(user, second.id, &by_at(NOW)).await, Err(StoreError::NotFound)));
        store
            .invite(
                organization,
                fresh::<InviteId>(),
                "c@example.com",
                Role::Viewer,
                &secret(),
                (user, Role::Owner),
                &by_at(NOW),
            )
            .await
            .unwrap();
    })
    .await;
}

/// Hashing takes a while: a password that was changed meanwhile opens nothing any more, and lets nobody in.
#[tokio::test]
async fn a_password_opens_something_only_while_it_is_the_persons() {
    on_both(|store| async move {
        let by = by_at(NOW);
        let (organization, user, _) = found(&store, "a@example.com").await;
        let (elsewhere, inviter, _) = found(&store, "b@example.com").await;
        let invited = secret();
        let maker = (inviter, Role::Owner);
        store.invite(elsewhere, fresh(), "a@example.com", Role::Viewer, &invited, maker, &by).await.unwrap();
        let old = "$argon2id$";
        let open = async |hash| {
            let (new, proof) = (session(), Proof::Password(hash));
            store.open_session(organization, user, &new, proof, &by).await
        };
        let another = async |hash| {
            store.create_organization(fresh(), "More", user, fresh(), Some(hash), 10, &by).await.map(drop)
        };
        let join = async |hash: &str| {
            let joining = Joining::Known { user, password_hash: hash.to_owned() };
            let digests = [invited.digest];
            store.accept_invite(&digests, &inviters(), &joining, fresh(), &session(), &by).await
        };
        open(old).await.unwrap();
        another(old).await.unwrap();
        let new = "$argon2id$new";
        let kept = session();
        store.change_password(organization, user, new, &kept, &by).await.unwrap();
        assert!(matches!(open(old).await, Err(StoreError::Conflict(_))));
        assert!(matches!(another(old).await, Err(StoreError::Conflict(_))));
        assert!(matches!(join(old).await, Err(StoreError::Conflict(_))));
        let sessions: Vec<_> = store.sessions(user, NOW).await.unwrap().iter().map(|it| it.id).collect();
        assert_eq!(sessions, [kept.id]);
        assert_eq!(store.memberships(user).await.unwrap().len(), 2);
        open(new).await.unwrap();
        join(new).await.unwrap();
    })
    .await;
}

/// A start reads some keys at a time, each of them once and with its own secrets.
#[tokio::test]
async fn a_snapshot_has_every_key_with_its_secrets() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let first = mint(&store, organization, user).await.id;
        let mut tx = store.batch().await.unwrap();
        let mut expected: Vec<(SecretKeyId, usize)> = vec![(first, 1)];
        for n in 0..4_100_usize {
            let key: SecretKeyId = fresh();
            tx.exec(
                "INSERT INTO secret_keys (id, organization_id, name, environment, scopes, created_at, created_by, expires_at, \
                 allowed_addresses) VALUES ($1, $2, 'k', 'live', '[]', 0, $3, 1, '[]')",
                vec![id(key), id(organization), id(user)],
            )
            .await
            .unwrap();
            for sequence in 1..=1 + (n % 2) as i64 {
                tx.exec(
                    "INSERT INTO secrets (digest, pepper_id, organization_id, key_id, sequence, last4, created_at, expires_at) \
                     VALUES ($1, $2, $3, $4, $5, 'abcd', 0, $6)",
                    vec![
                        secret().digest.into(),
                        [1; 8].into(),
                        id(organization),
                        id(key),
                        sequence.into(),
                        sequence.into(),
                    ],
                )
                .await
                .unwrap();
            }
            expected.push((key, 1 + n % 2));
        }
        tx.commit().await.unwrap();
        let mut found: Vec<_> = snapshot(&store, NOW)
            .await
            .into_iter()
            .filter_map(|it| match it {
                State::SecretKey(SecretKeyState { id, secrets, .. }) => Some((id, secrets.len())),
                _ => None,
            })
            .collect();
        found.sort_by_key(|it| *it.0.as_bytes());
        expected.sort_by_key(|it| *it.0.as_bytes());
        assert!(found == expected, "{} keys, {} expected", found.len(), expected.len());
    })
    .await;
}

/// What an organization's key policy allowed when a request was looked at is asked again when the key is written.
#[tokio::test]
async fn a_key_keeps_to_the_policy_that_is_in_force_when_it_is_written() {
    on_both(|store| async move {
        let by = by_at(NOW);
        let (organization, user, _) = found(&store, "a@example.com").await;
        let mint = async |expires_at| {
            let new = NewSecretKey { expires_at, ..new_key(user) };
            store.mint_secret_key(organization, &new, 1_000, None, &by, &|_| vec![]).await.map(|done| {
                match done {
                    Once::Fresh(key) => key.id,
                    Once::Replay(_) => panic!("it has no Idempotency-Key"),
                }
            })
        };
        let change = async |key, expires_at| {
            let change = SecretKeyChange { expires_at, ..SecretKeyChange::default() };
            store.change_secret_key(organization, key, &change, &ANYTHING, &by).await.map(drop)
        };
        let policy = async |max_ttl_days, require_expiry| {
            let change = OrganizationChange {
                max_ttl_days: Some(max_ttl_days),
                require_expiry: Some(require_expiry),
                ..OrganizationChange::default()
            };
            store.change_organization(organization, &change, &by).await.unwrap();
        };
        let key = mint(Timestamp::NEVER).await.unwrap();
        policy(None, true).await;
        assert!(matches!(mint(Timestamp::NEVER).await, Err(StoreError::Conflict(_))));
        assert!(matches!(change(key, Some(Timestamp::NEVER)).await, Err(StoreError::Conflict(_))));
        mint(NOW.plus(300 * DAY)).await.unwrap();
        policy(Some(30), false).await;
        assert!(matches!(mint(NOW.plus(31 * DAY)).await, Err(StoreError::Conflict(_))));
        assert!(matches!(change(key, Some(NOW.plus(31 * DAY))).await, Err(StoreError::Conflict(_))));
        mint(NOW.plus(30 * DAY)).await.unwrap();
        change(key, Some(NOW.plus(30 * DAY))).await.unwrap();
        // What nobody asks to change stays as it is.
        policy(Some(1), true).await;
        change(key, None).await.unwrap();
    })
    .await;
}

/// Whoever reads waits for those of their own organization, which has half of the connections at most.
#[tokio::test]
async fn one_organizations_reads_leave_a_connection_to_another() {
    on_both(|store| async move {
        let lane = |organization: u8| Lane {
            class: Class::Credentials,
            organization: Some(OrganizationId::from_bytes([organization; 16])),
        };
        let held = store.begin_in(lane(1), Mode::Read).await.unwrap();
        let mut crowd: Vec<_> = (0..50).map(|_| store.begin_in(lane(1), Mode::Read)).collect();
        for it in &mut crowd {
            assert!(it.now_or_never().is_none());
        }
        let patient = Duration::from_secs(5);
        let other = tokio::time::timeout(patient, store.begin_in(lane(2), Mode::Read)).await;
        assert!(other.expect("a connection is left").is_ok());
        drop(held);
        let next = tokio::time::timeout(patient, crowd.remove(0)).await;
        assert!(next.expect("the crowd goes on").is_ok());
    })
    .await;
}

/// A visitor's session is forgotten when nobody used it for a while, some at a time, and whoever reads the change log is not stopped by
/// one that is gone.
#[tokio::test]
async fn visitors_sessions_that_are_over_are_forgotten() {
    on_both(|store| async move {
        let (organization, _, _) = found(&store, "a@example.com").await;
        let (agent, key): (ResourceId, PublishableKeyId) = (fresh(), fresh());
        let mut tx = store.batch().await.unwrap();
        tx.exec(
            "INSERT INTO agents (id, organization_id) VALUES ($1, $2)",
            vec![id(agent), id(organization)],
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        let new = NewPublishableKey {
            id: key,
            name: "site".into(),
            environment: Environment::Live,
            key_public: "public".into(),
            allowed_origins: vec!["https://shop.example".into()],
            rate_limit_rpm: None,
            identity: None,
            secret: secret(),
        };
        let seal = |_: &PublishableKeyRow| vec![];
        assert!(
            store.mint_publishable_key(organization, agent, &new, None, &by_at(NOW), &seal).await.is_ok()
        );
        let before = store.revision().await.unwrap();
        let open = |at| {
            let store = store.clone();
            async move {
                let visitor = NewVisitor {
                    id: fresh(),
                    context: *fresh::<SessionId>().as_bytes(),
                    secret: secret(),
                    origin: "https://shop.example".into(),
                    verified: false,
                    beside: vec![],
                };
                store.open_visitor(organization, key, &visitor, at).await.unwrap();
                visitor.id
            }
        };
        for _ in 0..5 {
            open(NOW).await;
        }
        let later = NOW.plus(HOUR);
        let stays = open(later).await;
        assert_eq!(store.sweep_visitors(NOW, 3).await.unwrap(), 0);
        assert_eq!(store.sweep_visitors(later, 3).await.unwrap(), 3);
        assert_eq!(store.sweep_visitors(later, 3).await.unwrap(), 2);
        assert_eq!(store.sweep_visitors(later, 3).await.unwrap(), 0);
        let told = |states: Vec<State>| {
            let visitors = states.into_iter().filter_map(|it| match it {
                State::Visitor(VisitorState { id, .. }) => Some(id),
                _ => None,
            });
            visitors.collect::<Vec<VisitorId>>()
        };
        assert_eq!(told(store.changes(Seen::up_to(before)).await.unwrap().states), [stays]);
        assert_eq!(told(snapshot(&store, later).await), [stays]);
        assert_eq!(told(snapshot(&store, later.plus(HOUR)).await), []);
    })
    .await;
}

/// The count that limits keys is kept, not taken anew for each mint, and still only keys that work count.
#[tokio::test]
async fn only_keys_that_work_count_against_the_limit() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let seal = |_: &SecretKeyRow| vec![];
        let mint_at = async |now: Timestamp| {
            let new = NewSecretKey { expires_at: now.plus(DAY), ..new_key(user) };
            store.mint_secret_key(organization, &new, 3, None, &by_at(now), &seal).await
        };
        let mut minted = Vec::new();
        for _ in 0..3 {
            match mint_at(NOW).await.unwrap() {
                Once::Fresh(key) => minted.push(key.id),
                Once::Replay(_) => panic!("nothing was claimed"),
            }
        }
        assert!(matches!(mint_at(NOW).await, Err(StoreError::Conflict(_))));
        // One that is revoked makes room, once however often it is revoked.
        for _ in 0..2 {
            store.revoke_secret_key(organization, minted[0], &by_at(NOW)).await.unwrap();
        }
        mint_at(NOW).await.unwrap();
        assert!(matches!(mint_at(NOW).await, Err(StoreError::Conflict(_))));
        // So do those that expired; to revoke one of them makes no more.
        let later = NOW.plus(2 * DAY);
        mint_at(later).await.unwrap();
        store.revoke_secret_key(organization, minted[1], &by_at(later)).await.unwrap();
        mint_at(later).await.unwrap();
        mint_at(later).await.unwrap();
        assert!(matches!(mint_at(later).await, Err(StoreError::Conflict(_))));
    })
    .await;
}

#[tokio::test]
async fn an_invite_stands_while_its_maker_could_make_it() {
    on_both(|store| async move {
        let (organization, owner, _) = found(&store, "owner@example.com").await;
        let by = by_at(NOW);
        let invite = async |maker, role: Role, email: &str| {
            let secret = secret();
            let id: InviteId = fresh();
            store.invite(organization, id, email, role, &secret, maker, &by).await.unwrap();
            secret.digest
        };
        let accept = async |digest| {
            let (user, member): (UserId, MemberId) = (fresh(), fresh());
            let joining = Joining::New { user, name: "New".into(), password_hash: "$x$".into() };
            let done = store.accept_invite(&[digest], &inviters(), &joining, member, &session(), &by).await;
            done.map(|()| (user, member))
        };
        let stands = async |digest| store.find_invite(&[digest], &inviters(), NOW).await.is_ok();
        let open = async || {
            store
                .invites(organization, flowyte_store::Page { limit: 10, before: None }, NOW)
                .await
                .unwrap()
                .len()
        };
        let (second, second_member) =
            accept(invite((owner, Role::Owner), Role::Owner, "second@example.com").await).await.unwrap();
        let as_owner = invite((second, Role::Owner), Role::Owner, "o@example.com").await;
        let as_admin = invite((second, Role::Owner), Role::Admin, "a@example.com").await;
        assert_eq!(open().await, 2);

        // An owner who becomes an admin invites no owners any more; who becomes a developer, nobody.
        let lower = async |role| {
            store
                .change_role(organization, second_member, role, Role::Owner, None, &inviters(), &by)
                .await
                .unwrap()
        };
        lower(Role::Admin).await;
        assert_eq!((stands(as_owner).await, stands(as_admin).await, open().await), (false, true, 1));
        lower(Role::Developer).await;
        assert_eq!((stands(as_admin).await, open().await), (false, 0));
        assert!(matches!(accept(as_admin).await, Err(StoreError::NotFound)));
        // What was withdrawn does not come back with the role.
        lower(Role::Owner).await;
        assert!(!stands(as_admin).await && !stands(as_owner).await);

        // Removed: none. Disabled: none, though nobody withdrew it.
        let last = invite((second, Role::Owner), Role::Viewer, "v@example.com").await;
        store.remove_member(organization, second_member, Role::Owner, &inviters(), &by).await.unwrap();
        assert!(matches!(accept(last).await, Err(StoreError::NotFound)));
        let first = invite((owner, Role::Owner), Role::Viewer, "v@example.com").await;
        assert!(stands(first).await);
        let mut tx = store.batch().await.unwrap();
        tx.exec("UPDATE users SET disabled = 1", vec![]).await.unwrap();
        tx.commit().await.unwrap();
        assert!(matches!(accept(first).await, Err(StoreError::NotFound)));
    })
    .await;
}

/// Whoever owned an organization when a backup was made, and was removed since, is not its owner again after a restore: those are who
/// owned it before the restore, whom the backup does not know.
#[tokio::test]
async fn a_backup_whose_owner_was_removed_gets_the_owners_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let (now, backup) = (folder.path().join("flowyte.db"), folder.path().join("backup.db"));
    let store = Sqlite::open(&now, &[AGENTS]).await.unwrap();
    let (organization, _, first) = found(&store, "a@example.com").await;
    Sqlite::backup(&now, &backup).await.unwrap();
    let (_, later, _) = found(&store, "b@example.com").await;
    let mut tx = store.batch().await.unwrap();
    tx.exec(
        "INSERT INTO members (id, organization_id, user_id, role, joined_at) VALUES ($1, $2, $3, 'owner', $4)",
        vec![id(fresh::<MemberId>()), id(organization), id(later), NOW.into()],
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    store.remove_member(organization, first, Role::Owner, &inviters(), &by_at(NOW)).await.unwrap();
    let restored = Sqlite::open(&backup, &[AGENTS]).await.unwrap();
    assert!(store.continues(&*restored).await.unwrap() && !restored.continues(&*store).await.unwrap());
    let holds = |_: Role| flowyte_core::ScopeSet::EMPTY;
    restored.narrow(&store.standing().await.unwrap(), &holds, &by_at(NOW)).await.unwrap();
    let members =
        restored.members(organization, &Search::default(), None, Window::new(None, 10)).await.unwrap().rows;
    let owners: Vec<_> = members.iter().map(|it| (it.email.as_str(), it.role)).collect();
    assert_eq!(owners, [("b@example.com", Role::Owner)]);
}

/// A clock that is wrong at a restore does not bring back what had expired: how late it has been goes into the restored database.
#[tokio::test]
async fn a_backup_has_seen_what_the_database_had_that_it_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let (now, backup) = (folder.path().join("flowyte.db"), folder.path().join("backup.db"));
    let store = Sqlite::open(&now, &[AGENTS]).await.unwrap();
    found(&store, "a@example.com").await;
    Sqlite::backup(&now, &backup).await.unwrap();
    let later = NOW.plus(7 * flowyte_core::time::DAY);
    store.note_time(later).await.unwrap();
    let restored = Sqlite::open(&backup, &[AGENTS]).await.unwrap();
    let holds = |_: Role| flowyte_core::ScopeSet::EMPTY;
    restored.narrow(&store.standing().await.unwrap(), &holds, &by_at(NOW)).await.unwrap();
    assert_eq!(restored.seen_at().await.unwrap(), later);
}

/// What has one statement is not begun and not ended, so it can't have a second one; and what nobody waited for fails the commit.
#[tokio::test]
async fn a_transaction_is_whole_or_never_was() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let name = "SELECT name FROM organizations WHERE id = $1";
        let named = || async {
            let row = store.glance().await.unwrap().one(name, vec![id(organization)]).await.unwrap();
            row.get::<String>("name").unwrap()
        };
        let before = named().await;
        let rename = "UPDATE organizations SET name = $2 WHERE id = $1";
        let again = "INSERT INTO users (id, handle, name, password_hash, disabled, created_at, email) \
             SELECT id, handle, name, password_hash, disabled, created_at, email FROM users WHERE id = $1";
        let mut tx = store.batch().await.unwrap();
        tx.queue(rename, vec![id(organization), "never".into()]).await.unwrap();
        let refused = match tx.queue(again, vec![id(user)]).await {
            Ok(()) => tx.commit().await.unwrap_err(),
            Err(at_once) => at_once,
        };
        assert!(refused.is_duplicate(), "{refused}");
        assert_eq!(named().await, before);
        let mut tx = store.batch().await.unwrap();
        tx.queue(rename, vec![id(organization), "dropped".into()]).await.unwrap();
        drop(tx);
        assert_eq!(named().await, before);
        let mut tx = store.batch().await.unwrap();
        tx.queue(rename, vec![id(organization), "after".into()]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(named().await, "after");
    })
    .await;
}

/// Whoever has read changes that the database has lost since may not go on from there: another change has their number now.
#[tokio::test]
async fn a_change_log_that_went_back_is_noticed() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let before = store.snapshot(NOW, &mut |_| {}).await.unwrap();
        let key = mint(&store, organization, user).await;
        let seen = store.changes(before).await.unwrap().seen;
        assert_eq!(store.changes(seen).await.unwrap().seen, seen);
        // The database is as it was before the key, which nobody sees by the number alone.
        let lose = async || {
            let mut tx = store.security().await.unwrap();
            tx.exec("DELETE FROM changes WHERE revision = $1", args![seen.revision]).await.unwrap();
            tx.exec("UPDATE head SET revision = $1 WHERE id = 1", args![before.revision]).await.unwrap();
            tx.commit().await.unwrap();
        };
        lose().await;
        assert!(matches!(store.changes(seen).await, Err(StoreError::Forgotten)));
        let by = by_at(NOW.plus(DAY));
        store.revoke_secret_key(organization, key.id, &by).await.unwrap();
        assert_eq!(store.revision().await.unwrap(), seen.revision);
        assert!(matches!(store.changes(seen).await, Err(StoreError::Forgotten)));
        // Whoever had not read so far goes on.
        assert_eq!(store.changes(before).await.unwrap().states.len(), 1);
        mint(&store, organization, user).await;
        assert!(matches!(store.changes(seen).await, Err(StoreError::Forgotten)));
    })
    .await;
}

/// Of a long change log some is read at a time.
#[tokio::test]
async fn a_long_change_log_is_read_in_parts() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let key = mint(&store, organization, user).await;
        let start = store.snapshot(NOW, &mut |_| {}).await.unwrap();
        let mut tx = store.security().await.unwrap();
        let last = start.revision + 10_100;
        for revision in start.revision + 1..=last {
            let args =
                args![revision, *organization.as_bytes(), "secret_key", *key.id.as_bytes(), NOW];
            tx.queue("INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES ($1, $2, $3, $4, $5)", args)
                .await
                .unwrap();
        }
        tx.exec("UPDATE head SET revision = $1 WHERE id = 1", args![last]).await.unwrap();
        tx.commit().await.unwrap();
        let first = store.changes(start).await.unwrap();
        assert!(first.more && first.seen.revision < last && first.states.len() == 1);
        let second = store.changes(first.seen).await.unwrap();
        assert!(!second.more && second.seen.revision == last && second.states.len() == 1);
        assert!(store.changes(second.seen).await.unwrap().states.is_empty());
    })
    .await;
}

/// What is over for long enough is forgotten, some of it at a time, and nothing else is.
#[tokio::test]
async fn what_is_old_is_forgotten() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let key = mint(&store, organization, user).await;
        let start = store.revision().await.unwrap();
        let week = NOW.plus(8 * DAY);
        let late = NewSecretKey { expires_at: week.plus(DAY), ..new_key(user) };
        let seal = |_: &SecretKeyRow| vec![];
        store.mint_secret_key(organization, &late, 1_000, None, &by_at(week), &seal).await.unwrap();
        // A change log that goes on where somebody has read it, and not where it was cut.
        let sweep = async |old: Old, now: Timestamp| {
            let mut all = 0;
            loop {
                let done = store.forget(old, now, 2).await.unwrap();
                assert!(done <= 2, "{old:?}: {done}");
                all += done;
                if done < 2 {
                    return all;
                }
            }
        };
        assert_eq!(sweep(Old::Changes, NOW.plus(6 * DAY)).await, 0);
        assert_eq!(sweep(Old::Changes, week).await, start as u64);
        assert!(matches!(store.changes(Seen::up_to(start - 1)).await, Err(StoreError::Forgotten)));
        let news = store.changes(Seen::up_to(start)).await.unwrap().states;
        assert!(
            matches!(&news[..], [State::SecretKey(SecretKeyState { id, .. })] if *id == late.id),
            "{news:?}"
        );

        // A superseded secret goes a month after its grace; the one that works stays, however old.
        let grace = NOW.plus(DAY);
        let seal = |_: &(SecretKeyRow, Revision)| vec![];
        store
            .rotate_secret_key(organization, key.id, &secret(), grace, &ANYTHING, None, &by_at(NOW), &seal)
            .await
            .unwrap();
        assert_eq!(sweep(Old::Secrets, grace.plus(29 * DAY)).await, 0);
        assert_eq!(sweep(Old::Secrets, grace.plus(31 * DAY)).await, 1);
        assert_eq!(sweep(Old::Secrets, grace.plus(3_000 * DAY)).await, 0);

        let sessions = async || {
            let states = snapshot(&store, NOW).await;
            states.iter().filter(|it| matches!(it, State::Session(_))).count()
        };
        let before = sessions().await;
        assert!(before > 0);
        assert_eq!(sweep(Old::Sessions, NOW.plus(59 * DAY)).await, 0);
        assert_eq!(sweep(Old::Sessions, NOW.plus(61 * DAY)).await, before as u64);
        assert_eq!(sessions().await, 0);

        let row = UsageRow {
            organization,
            credential: *key.id.as_bytes(),
            kind: CredentialKind::SecretKey,
            secret: None,
            superseded: false,
            day: NOW.day(),
            operation: "listAgents".into(),
            outcome: "allowed".into(),
            calls: 3,
            last_at: NOW,
            address: "127.0.0.1".into(),
        };
        let yesterday = UsageRow { day: NOW.plus(-DAY).day(), ..row.clone() };
        store.add_usage(&[row, yesterday]).await.unwrap();
        assert_eq!(sweep(Old::Usage, NOW.plus(400 * DAY)).await, 1);
        assert_eq!(sweep(Old::Usage, NOW.plus(401 * DAY)).await, 1);
    })
    .await;
}

/// What `sslmode` says is what is done.
#[tokio::test]
async fn a_connection_is_protected_as_its_url_says() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_server, certificate) = postgres::with_tls(port);
    let other = tempfile::tempdir().unwrap();
    postgres::certificate(other.path().to_str().unwrap(), "");
    let (right, wrong) = (certificate.display(), other.path().join("server.crt"));
    let wrong = wrong.display();
    let protected = async |host: &str, how: &str| {
        let url = format!("postgres://flowyte@{host}:{port}/postgres?{how}");
        let store = Postgres::connect(&url, &[]).await?;
        let sql = "SELECT CAST(CASE WHEN ssl THEN 1 ELSE 0 END AS BIGINT) AS ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = store.read().await?.one(sql, vec![]).await?;
        row.flag("ssl")
    };
    // It may still be starting.
    let begun = std::time::Instant::now();
    while protected("localhost", "sslmode=disable").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (host, how, protects) in [
        ("localhost", "sslmode=disable".to_owned(), false),
        ("localhost", String::new(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("localhost", format!("sslmode=verify-full&sslrootcert={right}"), true),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={right}"), true),
    ] {
        assert_eq!(protected(host, &how).await.unwrap(), protects, "{host} {how}");
    }
    for (host, how) in [
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={right}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={wrong}")),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={wrong}")),
        ("localhost", format!("sslmode=require&sslrootcert={wrong}")),
        ("localhost", "sslmode=verify-full".to_owned()),
    ] {
        let refused = protected(host, &how).await.unwrap_err().to_string();
        assert!(refused.contains("certificate"), "{host} {how}: {refused}");
    }
}
