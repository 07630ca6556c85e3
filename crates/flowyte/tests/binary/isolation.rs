//! What one tenant has and does, another does not notice: as much of it as a test can make in a few seconds, or with
//! `FLOWYTE_ISOLATION=full` as much as once took the server down. Answers are counted, not timed: none of another tenant is refused.

use crate::support::{World, text};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How much there is: in a test, or in full.
fn size(small: u64, full: u64) -> u64 {
    if is_full() { full } else { small }
}

fn is_full() -> bool {
    std::env::var("FLOWYTE_ISOLATION").is_ok_and(|it| it == "full")
}

/// How often the other tenant goes round while the load is on.
fn rounds() -> usize {
    size(15, 300) as usize
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A world, on PostgreSQL where `url` names a database.
fn world(url: Option<&str>) -> World {
    let mut given = vec![("LOG_LEVEL", "warn")];
    given.extend(url.map(|url| ("DATABASE", url)));
    World::new(&given)
}

/// Does something to the database while no server runs on it, and starts the server again.
fn fill(world: &mut World, url: Option<&str>, sql: &str) {
    world.server.kill();
    execute(url, &world.server.folder, sql);
    world.server.kill_and_restart();
}

/// Runs statements on the database at `url`, or on the SQLite file of a data folder, which it makes where there is none.
pub fn execute(url: Option<&str>, folder: &Path, sql: &str) {
    match url {
        Some(url) => runtime().block_on(async {
            crate::postgres::connected(url).await.batch_execute(sql).await.unwrap();
        }),
        None => rusqlite::Connection::open(folder.join("flowyte.db")).unwrap().execute_batch(sql).unwrap(),
    }
}

/// The numbers from 1 on as a table `series (n)`, and 16 bytes made of each, in the words of either database.
fn series(url: Option<&str>, count: u64) -> (String, &'static str) {
    match url {
        Some(_) => (
            format!("series AS (SELECT n FROM generate_series(1, {count}) n)"),
            "decode(md5('x' || n), 'hex')",
        ),
        None => (
            format!("series AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM series WHERE n < {count})"),
            "unhex(printf('%032x', n))",
        ),
    }
}

/// Conversations of the first organization. `age`: microseconds since they were last spoken in; they are open.
fn conversations(url: Option<&str>, count: u64, age: i64) -> String {
    let (series, id) = series(url, count);
    format!(
        "WITH RECURSIVE {series} INSERT INTO conversations (id, organization_id, agent_id, environment, started_at, last_at) \
         SELECT {id}, a.organization_id, a.id, 'live', a.created_at - {age}, a.created_at - {age} \
         FROM (SELECT * FROM agents ORDER BY id LIMIT 1) a, series"
    )
}

/// What the other tenant does once, and everything about it that is not as it should be.
fn go_round(world: &World, wrong: &mut Vec<String>) {
    let server = &world.server;
    let mut expect = |what: &str, status: u16, got: crate::support::Got| {
        if got.status != status {
            wrong.push(format!("{what}: {} {}", got.status, got.code()));
        }
        got
    };
    expect("whoami", 200, server.as_key(&world.other_all, "GET", "/api/v1/whoami", None));
    let body = json!({"name": "round", "scopes": ["agents:read"]});
    let minted =
        expect("mint", 201, server.as_member(&world.other_owner, "POST", "/api/v1/api-keys", Some(&body)));
    if minted.status != 201 {
        return;
    }
    let (id, key) = (text(&minted.data()["id"]), text(&minted.data()["secret"]));
    expect("whoami of a new key", 200, server.as_key(&key, "GET", "/api/v1/whoami", None));
    let path = format!("/api/v1/api-keys/{id}");
    expect("revoke", 200, server.as_member(&world.other_owner, "DELETE", &path, None));
    expect("whoami after it", 401, server.as_key(&key, "GET", "/api/v1/whoami", None));
}

/// The first tenant asks for something dear, so many times at once and again and again, until the other has gone its rounds. Answers how
/// often it was told what, by status.
fn beside(world: &World, at_once: usize, path: &str) -> BTreeMap<u16, usize> {
    let (over, told) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
    let begun = AtomicUsize::new(0);
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    begun.fetch_add(1, Ordering::Relaxed);
                    let got = world.server.as_member(&world.owner, "GET", path, None);
                    *told.lock().unwrap().entry(got.status).or_default() += 1;
                }
            });
        }
        let _ends = Ends(&over);
        while begun.load(Ordering::Relaxed) < at_once {
            std::thread::yield_now();
        }
        for _ in 0..rounds() {
            go_round(world, &mut wrong);
        }
    });
    let log = world.server.output.lock().unwrap();
    assert!(wrong.is_empty(), "the other tenant noticed: {wrong:?}\n{log}");
    told.into_inner().unwrap()
}

/// Sets it when it goes, however that comes.
struct Ends<'d>(&'d AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Once, closing them was one statement that ran into its time-out, and the lease was renewed by the task that waited for it.
#[test]
fn a_restart_beside_many_open_conversations_refuses_nobody() {
    let url = runtime().block_on(crate::postgres::empty_database());
    let mut world = world(Some(&url));
    fill(&mut world, Some(&url), &conversations(Some(&url), size(20_000, 300_000), 7_200_000_000));
    let open = || {
        runtime().block_on(async {
            let sql = "SELECT COUNT(*) FROM conversations WHERE ended_at IS NULL";
            let database = crate::postgres::connected(&url).await;
            database.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
        })
    };
    let mut wrong = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(size(60, 1_200));
    // Whoever spoke a moment ago, the world's own visitor, stays open.
    while open() > 1 {
        go_round(&world, &mut wrong);
        assert!(Instant::now() < deadline, "conversations stay open: {}", open());
    }
    for _ in 0..rounds() {
        go_round(&world, &mut wrong);
    }
    let log = world.server.output.lock().unwrap();
    assert!(wrong.is_empty(), "the other tenant noticed: {wrong:?}\n{log}");
}

/// Once, they took the connections that the lease was renewed over, and on SQLite those that the replica was fed over.
#[test]
fn reports_of_one_tenant_refuse_nothing_of_another() {
    let url = runtime().block_on(crate::postgres::empty_database());
    for url in [Some(url.as_str()), None] {
        let mut world = world(url);
        fill(&mut world, url, &conversations(url, size(20_000, 1_000_000), 0));
        let told = beside(&world, 12, "/api/v1/analytics/overview");
        assert!(told.contains_key(&200), "{told:?}");
        assert!(told.keys().all(|status| [200, 429, 503].contains(status)), "{told:?}");
    }
}

/// Once, a verification of the chain held one of the readers that the replica waited for.
#[test]
fn checks_of_one_audit_trail_refuse_nothing_of_another_tenant() {
    let mut world = world(None);
    let (series, id) = series(None, size(20_000, 1_000_000));
    // They do not follow from one another, which is what a check says in the end; it reads all of them before.
    let events = format!(
        "WITH RECURSIVE {series} INSERT INTO audit_events SELECT e.organization_id, e.sequence + n, {id}, e.at, e.actor_kind, e.actor_id, \
         e.actor_name, e.action, e.target_kind, e.target_id, e.target_name, e.details, e.address, e.hash FROM (SELECT * FROM audit_events \
         WHERE organization_id = (SELECT organization_id FROM agents ORDER BY id LIMIT 1) ORDER BY sequence DESC LIMIT 1) e, series"
    );
    fill(&mut world, None, &events);
    let told = beside(&world, 5, "/api/v1/audit-events/verify");
    assert!(told.contains_key(&200), "{told:?}");
    assert!(told.keys().all(|status| [200, 429, 503].contains(status)), "{told:?}");
}

/// Once, the snapshot was one statement, which ran into its time-out.
#[test]
fn a_server_with_many_keys_starts_and_knows_them() {
    let url = runtime().block_on(crate::postgres::empty_database());
    for (url, full) in [(Some(url.as_str()), 4_000_000), (None, 10_000_000)] {
        let mut world = world(url);
        let count = size(20_000, full);
        let (series, id) = series(url, count);
        let of = "(SELECT * FROM secret_keys ORDER BY id LIMIT 1) k";
        let keys = format!(
            "WITH RECURSIVE {series} INSERT INTO secret_keys (id, organization_id, name, environment, scopes, created_at, created_by, \
             expires_at, allowed_addresses) SELECT {id}, k.organization_id, 'many', k.environment, k.scopes, k.created_at, k.created_by, \
             k.expires_at, k.allowed_addresses FROM {of}, series"
        );
        let digest = match url {
            Some(_) => "sha256(convert_to('x' || n, 'UTF8'))",
            None => "randomblob(32)",
        };
        let secrets = format!(
            "WITH RECURSIVE {series} INSERT INTO secrets (digest, pepper_id, organization_id, key_id, sequence, last4, created_at, expires_at) \
             SELECT {digest}, s.pepper_id, s.organization_id, {id}, 1, s.last4, s.created_at, s.expires_at \
             FROM (SELECT * FROM secrets ORDER BY key_id LIMIT 1) s, series"
        );
        fill(&mut world, url, &format!("{keys}; {secrets}"));
        let metrics = world.server.ops("/metrics").body;
        let known =
            metrics.lines().find_map(|line| line.strip_prefix("flowyte_replica_secrets ")).unwrap_or("0");
        assert!(
            known.parse::<f64>().unwrap() >= count as f64,
            "{known} of {count} are known, PostgreSQL: {}",
            url.is_some()
        );
        let mut wrong = Vec::new();
        go_round(&world, &mut wrong);
        assert_eq!(wrong, Vec::<String>::new());
    }
}
