//! One suite, both databases. A difference between them is a failure here; neither is ever skipped.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

mod postgres;

use flowyte_core::id::{
    AgentId, Id, InviteId, MemberId, OrganizationId, PublishableKeyId, SecretKeyId, SessionId, UserId,
    VisitorId,
};
use flowyte_core::time::{DAY, HOUR};
use flowyte_core::{Digest, Environment, Role, Timestamp};
use flowyte_store::accounts::{NewOwner, NewSession};
use flowyte_store::audit::AuditFilter;
use flowyte_store::db::id;
use flowyte_store::keys::{NewSecret, NewSecretKey, SecretKeyChange, SecretKeyRow};
use flowyte_store::publishable::{NewPublishableKey, NewVisitor, PublishableKeyRow};
use flowyte_store::{
    Actor, By, Claim, Follower, Mode, Once, Page, Revision, Sqlite, State, Store, StoreError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

/// Runs `test` on an empty SQLite file and on an empty PostgreSQL database.
async fn on_both<F: Future<Output = ()>>(test: impl Fn(Arc<dyn Store>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    test(Sqlite::open(&folder.path().join("flowyte.db")).await.unwrap()).await;
    test(flowyte_store::Postgres::connect(&postgres::empty_database().await).await.unwrap()).await;
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

fn by_at(now: Timestamp) -> By {
    By {
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
            .rotate_secret_key(organization, key.id, &secret(), until, None, &by_at(NOW), &seal)
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
        let longer = store.change_secret_key(organization, key.id, &change(grace.plus(1)), &by_at(NOW)).await;
        assert!(matches!(longer, Err(StoreError::Conflict(_))));
        let (cut, _) =
            store.change_secret_key(organization, key.id, &change(NOW), &by_at(NOW)).await.unwrap();
        assert_eq!(ends(&cut), [Timestamp::NEVER]);

        let (dead, revision) = store.revoke_secret_key(organization, key.id, &by_at(NOW)).await.unwrap();
        assert_eq!(dead.revoked_at, Some(NOW));
        let (again, same) = store.revoke_secret_key(organization, key.id, &by_at(NOW.plus(1))).await.unwrap();
        assert_eq!((again.revoked_at, same), (Some(NOW), revision));
        let raised =
            store.rotate_secret_key(organization, key.id, &secret(), NOW, None, &by_at(NOW), &seal).await;
        assert!(matches!(raised, Err(StoreError::Conflict(_))));
        let renamed = SecretKeyChange { name: Some("x".into()), ..Default::default() };
        let changed = store.change_secret_key(organization, key.id, &renamed, &by_at(NOW)).await;
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
                store.change_secret_key(ours, key, &change, &by).await,
                Err(StoreError::NotFound)
            ));
            assert!(matches!(store.revoke_secret_key(ours, key, &by).await, Err(StoreError::NotFound)));
        }
        assert!(store.secret_keys(ours, Page { limit: 10, before: None }, NOW).await.unwrap().is_empty());
        assert!(matches!(
            store.change_role(ours, member, Role::Viewer, Role::Owner, &by_at(NOW)).await,
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
        assert_eq!(
            store.secret_keys(organization, Page { limit: 10, before: None }, NOW).await.unwrap().len(),
            1
        );

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
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let rows = store.secret_keys(organization, Page { limit: 2, before }, NOW).await.unwrap();
            seen.extend(rows.iter().take(2).map(|key| key.id));
            if rows.len() <= 2 {
                break;
            }
            before = seen.last().map(|key| *key.as_bytes());
        }
        assert_eq!(seen, minted);
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
            let mut tx = store.begin(flowyte_store::Mode::Batch).await.unwrap();
            tx.exec(change, vec![]).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(store.audit_verify(organization).await.unwrap().broken_at, Some(broken));
        }
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
        let start = store.snapshot(NOW).await.unwrap();
        let key = mint(&store, organization, user).await;
        let (_, revoked_at) = store.revoke_secret_key(organization, key.id, &by_at(NOW)).await.unwrap();
        assert_eq!(reached.0.load(Ordering::SeqCst), revoked_at);

        let news = store.changes(start.revision).await.unwrap();
        assert_eq!((news.revision, news.states.len()), (start.revision + 2, 1));
        assert!(
            matches!(&news.states[0], State::SecretKey { revoked: true, secrets, .. } if secrets.len() == 1)
        );
        assert!(store.changes(news.revision).await.unwrap().states.is_empty());

        // A removed member is told as such; the last owner can't be removed.
        assert!(matches!(
            store.remove_member(organization, member, Role::Owner, &by_at(NOW)).await,
            Err(StoreError::Conflict(_))
        ));
        let all = store.snapshot(NOW).await.unwrap();
        assert!(all.states.iter().any(|it| matches!(it, State::Member { role: Some(Role::Owner), .. })));
        assert!(all.states.iter().any(|it| matches!(it, State::SecretKey { revoked: true, .. })));
    })
    .await;
}

#[tokio::test]
async fn sessions_open_switch_and_end() {
    on_both(|store| async move {
        let (organization, user, _) = found(&store, "a@example.com").await;
        let (elsewhere, _, _) = found(&store, "b@example.com").await;
        let first: SessionId = store.sessions(user, NOW).await.unwrap()[0].id;
        let refused = store.open_session(elsewhere, user, &session(), Some(first), &by_at(NOW)).await;
        assert!(matches!(refused, Err(StoreError::NotFound)));
        let second = session();
        store.open_session(organization, user, &second, Some(first), &by_at(NOW)).await.unwrap();
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
                Role::Owner,
                &by_at(NOW),
            )
            .await
            .unwrap();
    })
    .await;
}

/// A visitor's session is forgotten when nobody used it for a while, some at a time, and whoever reads the change log is not stopped by
/// one that is gone.
#[tokio::test]
async fn visitors_sessions_that_are_over_are_forgotten() {
    on_both(|store| async move {
        let (organization, _, _) = found(&store, "a@example.com").await;
        let (agent, key): (AgentId, PublishableKeyId) = (fresh(), fresh());
        let mut tx = store.begin(Mode::Batch).await.unwrap();
        tx.exec(
            "INSERT INTO agents (id, organization_id, name, version, draft, created_by_id, created_by_name, created_at, updated_at) \
             VALUES ($1, $2, 'x', 1, '{}', '', '', $3, $3)",
            vec![id(agent), id(organization), NOW.into()],
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
        assert!(store.mint_publishable_key(organization, agent, &new, None, &by_at(NOW), &seal).await.is_ok());
        let before = store.revision().await.unwrap();
        let open = |at| {
            let store = store.clone();
            async move {
                let visitor = NewVisitor {
                    id: fresh(),
                    conversation: fresh(),
                    secret: secret(),
                    origin: "https://shop.example".into(),
                    subject: None,
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
                State::Visitor { id, .. } => Some(id),
                _ => None,
            });
            visitors.collect::<Vec<VisitorId>>()
        };
        assert_eq!(told(store.changes(before).await.unwrap().states), [stays]);
        assert_eq!(told(store.snapshot(later).await.unwrap().states), [stays]);
        assert_eq!(told(store.snapshot(later.plus(HOUR)).await.unwrap().states), []);
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
