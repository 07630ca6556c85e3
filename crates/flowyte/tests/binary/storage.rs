//! The database when it is slow, held by somebody else, mute or damaged: what was promised stays true, and credentials are
//! verified on.

use crate::postgres::connected;
use crate::support::{Got, Server, World, text};
use serde_json::json;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// A replica answers for this long after it has heard of its database.
const LEASE: Duration = Duration::from_secs(2);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn mint(server: &Server, owner: &str) -> Got {
    let body = json!({"name": "x", "scopes": ["agents:read"]});
    server.as_member(owner, "POST", "/api/v1/api-keys", Some(&body))
}

fn whoami(server: &Server, key: &str) -> Got {
    server.as_key(key, "GET", "/api/v1/whoami", None)
}

/// Says that it is over, also when a test fails, so that whoever goes on until then ends.
struct Ends<'d>(&'d AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn sqlite(server: &Server) -> rusqlite::Connection {
    rusqlite::Connection::open(server.folder.join("flowyte.db")).unwrap()
}

fn run(runtime: &Runtime, database: &Client, sql: &str) {
    runtime.block_on(database.batch_execute(sql)).unwrap();
}

/// A disk whose syncs take 300 ms or fail, while a file says so.
struct Disk {
    library: String,
    /// What its syncs do: `slow` or `broken`.
    state: PathBuf,
    /// One byte for each sync since it had a state.
    syncs: PathBuf,
}

impl Disk {
    fn new(folder: &Path) -> Self {
        let [source, library, state, syncs] =
            ["disk.c", "disk.so", "state", "syncs"].map(|name| folder.join(name));
        let code = format!(
            r#"
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <errno.h>
            #include <fcntl.h>
            #include <time.h>
            #include <unistd.h>
            static int act(const char *name, int descriptor) {{
                char state = 0;
                int file = open("{state}", O_RDONLY);
                if (file >= 0) {{
                    if (read(file, &state, 1) != 1) state = 0;
                    close(file);
                    int count = open("{syncs}", O_WRONLY | O_APPEND | O_CREAT, 0600);
                    if (write(count, "x", 1) != 1) return -1;
                    close(count);
                }}
                struct timespec wait = {{0, 300000000}};
                if (state == 's') nanosleep(&wait, 0);
                if (state == 'b') {{ errno = EIO; return -1; }}
                return ((int (*)(int)) dlsym(RTLD_NEXT, name))(descriptor);
            }}
            int fsync(int descriptor) {{ return act("fsync", descriptor); }}
            int fdatasync(int descriptor) {{ return act("fdatasync", descriptor); }}
            "#,
            state = state.display(),
            syncs = syncs.display()
        );
        std::fs::write(&source, code).unwrap();
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        assert!(made.unwrap().success(), "the C compiler that builds SQLite builds this");
        Self { library: text(&json!(library.to_str())), state, syncs }
    }

    fn is(&self, state: &str) {
        std::fs::write(&self.state, state).unwrap();
    }

    fn syncs(&self) -> usize {
        std::fs::read(&self.syncs).map_or(0, |it| it.len())
    }
}

/// Rows: ST-05.
#[test]
fn a_slow_disk_delays_who_writes_and_nobody_else() {
    const WRITERS: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let world = World::new(&[("env:LD_PRELOAD", &disk.library), ("LOG_LEVEL", "error")]);
    let server = &world.server;
    disk.is("slow");
    let (verified, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _ends = Ends(&done);
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    let begun = Instant::now();
                    assert_eq!(mint(server, &world.owner).status, 201);
                    begun.elapsed()
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(whoami(server, &world.key).status, 200);
                verified.fetch_add(1, Ordering::Relaxed);
            }
        });
        for writer in writers {
            assert!(writer.join().unwrap() >= Duration::from_millis(300), "the disk is not slow");
        }
    });
    // Each verification that waited with them would have taken 300 ms.
    assert!(verified.into_inner() >= 20, "verifying waits for the disk");
    // And those that wait at once share a sync.
    assert!(disk.syncs() < WRITERS, "{} syncs for {WRITERS} writers", disk.syncs());
}

/// What a sync that failed was to make durable is not on the disk, and the next sync would not say so (fsync(2)): so nothing is
/// acknowledged, and the process ends before anybody builds on it.
#[test]
fn a_disk_that_can_not_be_synced_acknowledges_nothing_and_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let mut server = Server::start(&[("env:LD_PRELOAD", &disk.library)]);
    let owner = server.set_up("ada@example.com");
    let (_, key) = server.mint(&owner, json!({"name": "before", "scopes": ["agents:read"]}));
    disk.is("broken");
    let headers = format!("Cookie: {owner}\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json");
    let body = r#"{"name":"after","scopes":["agents:read"]}"#;
    let request = format!(
        "POST /api/v1/api-keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // The process may be gone before it has answered.
    let answer = server.raw(request.as_bytes());
    assert!(answer.as_ref().is_none_or(|got| got.status == 503), "{answer:?}");
    assert!(!server.ended(Duration::from_secs(10)).success());
    let output = server.output.lock().unwrap().clone();
    assert!(output.contains("the disk can't be synced"), "{output}");
    std::fs::remove_file(&disk.state).unwrap();
    server.kill_and_restart();
    assert_eq!(server.as_key(&key, "GET", "/api/v1/whoami", None).status, 200);
}

/// A backup tool that holds the file, and one that reads for long.
///
/// Rows: ST-25.
#[test]
fn a_file_that_somebody_holds_is_waited_for_in_bounds() {
    let server = Server::start(&[("LOG_LEVEL", "error")]);
    let owner = server.set_up("ada@example.com");
    let (_, key) = server.mint(&owner, json!({"name": "before", "scopes": ["agents:read"]}));
    let other = sqlite(&server);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    let refused = std::thread::scope(|scope| {
        let minting = scope.spawn(|| mint(&server, &owner));
        while !minting.is_finished() {
            assert_eq!(whoami(&server, &key).status, 200);
        }
        minting.join().unwrap()
    });
    assert_eq!((refused.status, refused.code().as_str()), (503, "dependency_unavailable"), "{refused:?}");
    assert!(refused.header("retry-after").is_some() && begun.elapsed() < Duration::from_secs(12));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(mint(&server, &owner).status, 201);

    // What is written while somebody reads an older state stays in the log until they are done. Then the log is used again from
    // its beginning: the same writes make it no longer.
    let length = || std::fs::metadata(server.folder.join("flowyte.db-wal")).unwrap().len();
    other.execute_batch("BEGIN; SELECT COUNT(*) FROM users").unwrap();
    let writes = || (0..300).for_each(|_| assert_eq!(mint(&server, &owner).status, 201));
    writes();
    other.execute_batch("COMMIT").unwrap();
    let longest = length();
    writes();
    writes();
    assert!(length() <= longest + longest / 2, "{longest} and then {}", length());
}

/// Revokes a key as another process would, and tells nobody.
fn revoke_in_silence(runtime: &Runtime, database: &Client, name: &str) {
    let sql = format!(
        "BEGIN; \
         UPDATE head SET revision = revision + 1 WHERE id = 1; \
         UPDATE secret_keys SET revoked_at = created_at WHERE name = '{name}'; \
         INSERT INTO changes (revision, organization_id, entity, entity_id, at) \
         SELECT h.revision, k.organization_id, 'secret_key', k.id, k.created_at FROM head h, secret_keys k WHERE k.name = '{name}'; \
         COMMIT"
    );
    run(runtime, database, &sql);
}

/// Notifications are hints: a feed that is mute, cut off or begun anew loses nothing, and they carry nothing but a revision.
///
/// Rows: ST-17 ST-18 ST-20.
#[test]
fn what_nobody_was_notified_of_is_known_within_the_lease() {
    let runtime = runtime();
    let url = runtime.block_on(crate::postgres::empty_database());
    let server = Server::start(&[("DATABASE", &url), ("LOG_LEVEL", "error")]);
    let owner = server.set_up("ada@example.com");
    let key = |name: &str| server.mint(&owner, json!({"name": name, "scopes": ["agents:read"]})).1;
    let (mute, cut, told) = (key("mute"), key("cut"), key("told"));
    let database = runtime.block_on(connected(&url));
    // Whatever is asked after the lease is refused, and in the end for what it is. A busy machine may be unsure in between.
    let ends_within_the_lease = |key: &str| {
        let begun = Instant::now();
        loop {
            let at = begun.elapsed();
            let got = whoami(&server, key);
            match got.status {
                401 => break assert_eq!(got.code(), "credential_revoked"),
                200 => assert!(at < LEASE + Duration::from_millis(500), "a revoked key works on"),
                _ => assert!(got.status == 503 && at < Duration::from_secs(30), "{got:?}"),
            }
        }
    };
    revoke_in_silence(&runtime, &database, "mute");
    ends_within_the_lease(&mute);
    let listening = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let ended = runtime.block_on(database.query(listening, &[])).unwrap().len();
    assert_eq!(ended, 1, "nobody listened");
    revoke_in_silence(&runtime, &database, "cut");
    ends_within_the_lease(&cut);
    assert_eq!(whoami(&server, &told).status, 200);

    let long = json!({"name": "x".repeat(100), "scopes": ["agents:read"], "allowedAddresses":
        (0..100).map(|n| format!("2001:db8:1234:5678:9abc:def0:{n:x}:1")).collect::<Vec<_>>()});
    let payload = runtime.block_on(async {
        let (listener, mut connection) = crate::postgres::connection(&url).connect(NoTls).await.unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    tell.send(notification.payload().to_owned()).unwrap();
                }
            }
        });
        listener.batch_execute("LISTEN flowyte_changes").await.unwrap();
        server.mint(&owner, long);
        told.recv().await.unwrap()
    });
    assert!(payload.parse::<u64>().is_ok(), "{payload}");
}

/// Reports that wait for their tables take their own connections and nobody else's.
///
/// Rows: ST-32.
#[test]
fn reports_that_hang_hold_up_no_key() {
    let runtime = runtime();
    let url = runtime.block_on(crate::postgres::empty_database());
    let world = World::new(&[("DATABASE", &url), ("LOG_LEVEL", "error")]);
    let server = &world.server;
    let connect = || runtime.block_on(connected(&url));
    let (database, watching) = (connect(), connect());
    // A read that an organization may make as often as it likes, and a report, of which it has one at a time beside those.
    let reads = ["/api/v1/conversations/conv_01890a5dac96774bbcceb302099a8057", "/api/v1/analytics/overview"];
    run(&runtime, &database, "BEGIN; LOCK TABLE conversations IN ACCESS EXCLUSIVE MODE");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&done);
        for reader in 0..12 {
            let path = reads[reader % reads.len()];
            let (done, world) = (&done, &world);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let got = server.as_key(&world.all, "GET", path, None);
                    assert!(matches!(got.status, 200 | 404 | 429 | 503), "{got:?}");
                }
            });
        }
        // One of each kind waits for the table; on many cores an organization has more.
        let waiting = || -> i64 {
            let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            runtime.block_on(watching.query_one(sql, &[])).unwrap().get(0)
        };
        let begun = Instant::now();
        while waiting() < 2 {
            assert!(begun.elapsed() < Duration::from_secs(30), "the reports do not hang");
        }
        let (id, key) = server.mint(&world.owner, json!({"name": "meanwhile", "scopes": ["agents:read"]}));
        assert_eq!(whoami(server, &key).status, 200);
        server.as_member(&world.owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).data();
        assert_eq!(whoami(server, &key).code(), "credential_revoked");
        // So nobody is to send credentials elsewhere.
        assert_eq!(server.ops("/health/ready").status, 200);
        let metrics = server.ops("/metrics").body;
        assert!(metrics.contains("flowyte_replica_lag_revisions 0"), "{metrics}");
        run(&runtime, &database, "ROLLBACK");
    });
}

/// Rows: ST-29.
#[test]
fn a_start_that_is_killed_is_made_up_for_and_a_later_release_s_database_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("data");
    let file = folder.join("flowyte.db");
    let start = |ports: (u16, u16)| {
        let mut command = Server::command(&folder, ports.0, ports.1, &[]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    // Killed while the tables are made: at other moments each time, since the file is looked for at once.
    for spins in [0, 1, 10, 100, 1_000, 10_000] {
        let mut child = start((crate::support::free_port(), crate::support::free_port()));
        let begun = Instant::now();
        while !file.exists() {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        (0..spins).for_each(|_| std::thread::yield_now());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut server = Server::start_in(&folder, None, &[]);
    let owner = server.set_up("ada@example.com");
    let (_, key) = server.mint(&owner, json!({"name": "x", "scopes": ["agents:read"]}));
    server.kill_and_restart();
    assert_eq!(whoami(&server, &key).status, 200);
    server.kill();
    sqlite(&server).execute_batch("INSERT INTO migrations (version) VALUES (100000)").unwrap();
    let ports = (crate::support::free_port(), crate::support::free_port());
    let refused = Server::command(&folder, ports.0, ports.1, &[]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("written by a later release"), "{said}");
}

/// A background task that ends takes the server with it, and the log and the exit code say so: here the one that follows changes, in a database
/// that another put back to an earlier state.
#[test]
fn a_database_that_goes_back_ends_the_server_at_once() {
    let runtime = runtime();
    let url = runtime.block_on(crate::postgres::empty_database());
    let mut server = Server::start(&[("DATABASE", &url), ("LOG_LEVEL", "error")]);
    let owner = server.set_up("ada@example.com");
    let (_, key) = server.mint(&owner, json!({"name": "x", "scopes": ["agents:read"]}));
    assert_eq!(whoami(&server, &key).status, 200);
    let database = runtime.block_on(connected(&url));
    let begun = Instant::now();
    run(
        &runtime,
        &database,
        "BEGIN; DELETE FROM changes WHERE revision = (SELECT revision FROM head); UPDATE head SET revision = revision - 1; COMMIT",
    );
    let status = server.ended(Duration::from_secs(10));
    // It looks once a second, and a busy machine takes its time.
    assert!(begun.elapsed() < LEASE + Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(status.code(), Some(1));
    let said = server.output.lock().unwrap().clone();
    assert!(said.contains("the database went back to an earlier state"), "{said}");
    assert!(said.contains("the background task feed returned"), "{said}");
    server.kill_and_restart();
    assert_eq!(whoami(&server, &key).status, 200);
}

/// Whichever background task panics: the process ends with a line that names it. Builds for release can't be asked to panic.
#[cfg(debug_assertions)]
#[test]
fn a_panic_in_any_background_task_ends_the_server() {
    let url = runtime().block_on(crate::postgres::empty_database());
    let tasks = [
        "operations",
        "usage",
        "disk",
        "time",
        "feed",
        "audit heads",
        "housekeeping",
        #[cfg(feature = "product")]
        "billing",
        #[cfg(feature = "product")]
        "numbers",
        #[cfg(feature = "product")]
        "conversations",
        #[cfg(feature = "product")]
        "uploads",
        #[cfg(feature = "product")]
        "knowledge",
    ];
    for task in tasks {
        let mut settings = vec![("env:PANICKING_TASK".to_owned(), task.to_owned())];
        // Only PostgreSQL is followed.
        if task == "feed" {
            settings.push(("DATABASE".to_owned(), url.clone()));
        }
        let folder = tempfile::tempdir().unwrap();
        let (port, ops_port) = (crate::support::free_port(), crate::support::free_port());
        let ended = Server::command(&folder.path().join("data"), port, ops_port, &settings).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{task}: {said}");
        assert!(said.contains("a task panicked"), "{task}: {said}");
        assert!(said.contains(&format!("the background task {task} panicked")), "{task}: {said}");
    }
}
