//! What the kept heads of audit chains show, and what keeping them costs.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

use flowyte_core::Timestamp;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_management::heads::{HeadState, Heads, Verification};
use flowyte_store::audit::AuditAction;
use flowyte_store::db::id;
use flowyte_store::{Actor, AuditContext, Growth, Link, Sqlite, Store, args};
use flowyte_verifier::pepper::Peppers;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

static APPENDED: AtomicI64 = AtomicI64::new(0);

fn organization(n: u8) -> OrganizationId {
    OrganizationId::from_bytes([n; 16])
}

/// A server's part in it: a database with some organizations, and the heads beside it.
struct Place {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    heads: Arc<Heads>,
}

impl Place {
    async fn new(organizations: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("flowyte.db"), &[]).await.unwrap();
        let mut tx = store.batch().await.unwrap();
        for n in 1..=organizations {
            let sql = "INSERT INTO organizations (id, name, created_at) VALUES ($1, 'x', $2)";
            tx.exec(sql, vec![id(organization(n)), NOW.into()]).await.unwrap();
        }
        tx.commit().await.unwrap();
        let heads = Self::open(&folder);
        Self { folder, store, heads }
    }

    fn open(folder: &tempfile::TempDir) -> Arc<Heads> {
        Heads::open(&folder.path().join("audit-heads"), &Peppers::new(vec![[1; 32]]).unwrap())
    }

    fn file(&self) -> PathBuf {
        self.heads.path().to_owned()
    }

    /// As after a stop in good order.
    async fn restart(&mut self) {
        self.keep().await;
        self.heads = Self::open(&self.folder);
        assert_eq!(self.heads.refused(), None);
    }

    async fn append(&self, n: u8, events: u8) {
        for _ in 0..events {
            // No two events are the same, so what is appended where something was cut off is something else.
            let now = NOW.plus(APPENDED.fetch_add(1, Ordering::Relaxed));
            let actor = Actor { kind: "system", id: String::new(), name: "test".into() };
            let by = AuditContext { actor, address: String::new(), now };
            let (action, kind, id, name) = ("tested", "test", String::new(), "");
            let deed = AuditAction { action, kind, id, name, details: Default::default() };
            self.store.audit_only(organization(n), &by, deed).await.unwrap();
        }
    }

    async fn edit(&self, sql: &'static str) {
        let mut tx = self.store.batch().await.unwrap();
        tx.exec(sql, args![]).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn keep(&self) {
        self.heads.keep(&*self.store, NOW).await.unwrap();
    }

    async fn catch_up(&self) {
        let mut after = Some(OrganizationId::from_bytes([0; 16]));
        while let Some(from) = after {
            after = self.heads.catch_up(&*self.store, from, NOW).await.unwrap();
        }
    }

    async fn verify(&self, full: bool) -> Verification {
        self.heads.verify(&*self.store, organization(1), full, NOW).await.unwrap()
    }

    /// Events, the first that was walked, where it is broken, and what the head says.
    async fn seen(&self, full: bool) -> (i64, i64, Option<i64>, HeadState) {
        let found = self.verify(full).await;
        assert_eq!(found.is_intact(), found.report.broken_at.is_none());
        (found.report.events, found.report.walked_from, found.report.broken_at, found.head)
    }
}

#[tokio::test]
async fn a_verification_walks_what_came_since_the_last_one_over_a_restart_too() {
    let mut place = Place::new(1).await;
    assert_eq!(place.seen(false).await, (0, 1, None, HeadState::None));
    place.append(1, 10).await;
    assert_eq!(place.seen(false).await, (10, 1, None, HeadState::Holds));
    assert_eq!(place.seen(false).await, (10, 11, None, HeadState::Holds));
    place.append(1, 2).await;
    place.restart().await;
    assert_eq!(place.seen(false).await, (12, 11, None, HeadState::Holds));
    place.restart().await;
    assert_eq!(place.seen(false).await, (12, 13, None, HeadState::Holds));
    assert_eq!(place.seen(true).await, (12, 1, None, HeadState::Holds));
    // What was changed before that is seen by a whole walk, and by every one after it.
    place.edit("UPDATE audit_events SET action = 'x' WHERE sequence = 5").await;
    assert_eq!(place.seen(false).await, (12, 13, None, HeadState::Holds));
    assert_eq!(place.seen(true).await, (12, 1, Some(5), HeadState::Holds));
    assert_eq!(place.seen(false).await, (12, 1, Some(5), HeadState::Holds));
    place.restart().await;
    assert_eq!(place.seen(false).await, (12, 1, Some(5), HeadState::Holds));
    place.edit("UPDATE audit_events SET action = 'tested' WHERE sequence = 5").await;
    assert_eq!(place.seen(false).await, (12, 1, None, HeadState::Holds));
    assert_eq!(place.seen(false).await, (12, 13, None, HeadState::Holds));
}

/// Whichever comes first after the start: somebody asks, the walk over all chains, or an event that is appended to what is left.
#[tokio::test]
async fn a_cut_end_is_named_by_the_first_event_that_is_missing_whatever_is_appended_then() {
    for first in ["ask", "catch up", "append", "append and catch up", "append and ask"] {
        let mut place = Place::new(1).await;
        place.append(1, 10).await;
        place.restart().await;
        place.edit("DELETE FROM audit_events WHERE sequence > 6").await;
        if first.starts_with("append") {
            place.append(1, 2).await;
        }
        match first {
            "catch up" | "append and catch up" => place.catch_up().await,
            "append" => place.keep().await,
            _ => drop(place.verify(false).await),
        }
        place.append(1, 1).await;
        let broken = (Some(7), HeadState::Differs);
        let seen = |it: (i64, i64, Option<i64>, HeadState)| (it.2, it.3);
        assert_eq!(seen(place.seen(false).await), broken, "{first}");
        place.append(1, 10).await;
        place.keep().await;
        assert_eq!(seen(place.seen(true).await), broken, "{first}: the chain is longer than it was");
        place.restart().await;
        place.catch_up().await;
        assert_eq!(seen(place.seen(false).await), broken, "{first}: after a restart");
    }
}

#[tokio::test]
async fn a_chain_that_was_recomputed_is_not_the_one_that_was() {
    for verified in [false, true] {
        let mut place = Place::new(1).await;
        place.append(1, 10).await;
        if verified {
            place.verify(true).await;
        }
        place.restart().await;
        // Sound in itself, and not what was there.
        place.edit("DELETE FROM audit_events WHERE sequence > 8").await;
        place.append(1, 4).await;
        place.store.grown().take_all(); // Not by this process.
        assert_eq!(place.store.audit_verify(organization(1)).await.unwrap().broken_at, None);
        place.catch_up().await;
        assert_eq!(place.seen(false).await, (12, 1, Some(10), HeadState::Differs));
        place.edit("DELETE FROM audit_events").await;
        assert_eq!(place.seen(false).await, (0, 1, Some(1), HeadState::Differs));
    }
}

#[tokio::test]
async fn a_round_writes_what_has_changed_and_nothing_else() {
    let place = Place::new(50).await;
    for n in 1..=50 {
        place.append(n, 1).await;
    }
    place.keep().await;
    let text = || std::fs::read_to_string(place.file()).unwrap();
    let before = text();
    assert_eq!(before.lines().count(), 1 + 50 + 1);
    place.keep().await;
    place.catch_up().await;
    assert_eq!(text(), before);
    place.append(7, 3).await;
    place.keep().await;
    let added = text().strip_prefix(&before).unwrap().to_owned();
    assert!(added.lines().count() == 2 && added.contains(&organization(7).to_string()), "{added}");
    // A command beside the server, whose events nobody notes here.
    place.append(7, 1).await;
    place.store.grown().take_all();
    place.append(7, 1).await;
    place.keep().await;
    let found = place.heads.verify(&*place.store, organization(7), false, NOW).await.unwrap();
    assert_eq!((found.report.events, found.head), (6, HeadState::Holds));
    // Who changed the file meanwhile gets nothing by it: memory has what it said.
    std::fs::write(place.file(), "x").unwrap();
    place.append(8, 1).await;
    place.keep().await;
    let again = Place::open(&place.folder);
    assert_eq!((again.refused(), again.organizations().len()), (None, 50));
    assert_eq!(again.behind(&*place.store).await.unwrap(), []);
}

/// Two commits may be noted in another order than they were made in, and a round may come between.
#[tokio::test]
async fn a_late_note_is_no_cut() {
    let place = Place::new(1).await;
    place.append(1, 3).await;
    place.keep().await;
    let before = place.store.audit_end(organization(1)).await.unwrap().unwrap();
    place.append(1, 1).await;
    let late = place.store.grown().take(organization(1)).unwrap();
    assert_eq!(late.before, before);
    place.append(1, 1).await;
    place.keep().await;
    place.store.grown().note([(organization(1), late)]);
    place.keep().await;
    assert_eq!(place.seen(false).await, (5, 1, None, HeadState::Holds));
    let link = Link { sequence: 2, hash: [9; 32] };
    place.store.grown().note([(organization(1), Growth { before: link, last: link })]);
    assert_eq!(place.seen(false).await, (5, 6, None, HeadState::Holds));
}

#[tokio::test]
async fn a_file_that_is_not_this_installations_is_told_of_and_left_alone() {
    let mut place = Place::new(1).await;
    place.append(1, 3).await;
    place.restart().await;
    let text = std::fs::read_to_string(place.file()).unwrap();
    let forged = text.replace("\"sequence\":3", "\"sequence\":2");
    for forged in [forged.as_str(), "", "\n", "{\"auditHeads\":2}\n"] {
        std::fs::write(place.file(), forged).unwrap();
        place.heads = Place::open(&place.folder);
        assert!(place.heads.refused().is_some(), "{forged}");
        let found = place.verify(false).await;
        assert!(!found.is_intact() && found.head == HeadState::Unsigned, "{found:?}");
        assert_eq!(found.report.broken_at, None);
        place.append(1, 1).await;
        place.keep().await;
        assert_eq!(std::fs::read_to_string(place.file()).unwrap(), forged);
        assert_eq!(place.store.grown().take_all().len(), 0, "nothing piles up");
    }
    std::fs::write(place.file(), text).unwrap();
    place.heads = Place::open(&place.folder);
    place.catch_up().await;
    assert_eq!(place.seen(false).await, (7, 1, None, HeadState::Holds));
}
