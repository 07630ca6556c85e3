//! Organizations on an empty SQLite file and on an empty PostgreSQL database.
#![allow(dead_code)] // Not every test uses everything.

use flowyte_core::id::{Id, OrganizationId, SecretKeyId};
use flowyte_core::{Digest, Environment, Timestamp};
use flowyte_store::accounts::{NewOwner, NewSession};
use flowyte_store::keys::NewSecret;
use flowyte_store::{Actor, AuditContext, Sqlite, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);
pub const LIVE: Environment = Environment::Live;

/// Runs `test` on an empty SQLite file and on an empty PostgreSQL database.
pub async fn on_both<F: Future<Output = ()>>(test: impl Fn(Arc<dyn Store>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    test(Sqlite::open(&folder.path().join("flowyte.db"), &[flowyte_product::GUEST]).await.unwrap()).await;
    test(
        flowyte_store::Postgres::connect(&crate::postgres::empty_database().await, &[flowyte_product::GUEST])
            .await
            .unwrap(),
    )
    .await;
}

pub fn fresh<I: Id>() -> I {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let counter = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut unique = [0; 10];
    unique[2..].copy_from_slice(&counter.to_be_bytes());
    I::generate(NOW.plus(counter as i64 * 1_000), unique)
}

pub fn by(now: Timestamp) -> AuditContext {
    let actor = Actor { kind: "user", id: "user_1".into(), name: "Ada".into() };
    AuditContext { actor, address: "192.0.2.1".into(), now }
}

pub async fn found(store: &Arc<dyn Store>) -> OrganizationId {
    let unique: SecretKeyId = fresh();
    let new = NewOwner {
        organization: fresh(),
        organization_name: "Acme".into(),
        user: fresh(),
        member: fresh(),
        name: "Ada".into(),
        email: format!("{unique}@x.example"),
        password_hash: "$argon2id$".into(),
    };
    let mut digest = [7; 32];
    digest[..16].copy_from_slice(unique.as_bytes());
    let secret = NewSecret { digest: Digest::from_bytes(digest), pepper: [1; 8], last4: "9xYz".into() };
    let session = NewSession { id: fresh(), secret, signed_in_at: NOW, user_agent: "browser".into() };
    store.found_organization(&new, &session, None, &by(NOW)).await.unwrap();
    new.organization
}
