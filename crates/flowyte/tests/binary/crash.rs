//! Ends without warning, full disks, wrong folders: nothing acknowledged is lost, nothing is half done, and what stands in
//! the way is said.

use crate::support::{Got, Server, World, free_port, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a client was told of one key.
#[derive(Clone, Default)]
struct Told {
    name: String,
    secret: String,
    /// Set when a revocation was acknowledged.
    revoked: bool,
    /// A change was asked for and no answer came: it may or may not have happened.
    unsure: bool,
}

/// A request that a kill may cut short.
fn ask(port: u16, owner: &str, method: &str, path: &str, body: &str) -> Option<Got> {
    ask_with(port, &format!("Cookie: {owner}\r\nSec-Fetch-Site: same-origin"), method, path, body)
}

/// The same under any header fields.
pub fn ask_with(port: u16, fields: &str, method: &str, path: &str, body: &str) -> Option<Got> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{fields}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut all = String::new();
    stream.read_to_string(&mut all).ok()?;
    let (head, body) = all.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // An answer that was cut short acknowledges nothing.
    serde_json::from_str::<Value>(body).ok()?;
    Some(Got { status, headers: Vec::new(), body: body.to_owned() })
}

/// Rows: AU-07 ST-01.
#[test]
fn a_kill_loses_nothing_that_was_acknowledged_and_leaves_nothing_half_done() {
    const CHANGES: usize = 1_000;
    const KILLS: u32 = 10;
    let mut world = World::new(&[("LOG_LEVEL", "error")]);
    let told: Mutex<BTreeMap<String, Told>> = Mutex::default();
    let (done, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (port, owner) = (world.server.port, world.owner.clone());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (told, done, acknowledged, owner) = (&told, &done, &acknowledged, owner.as_str());
            scope.spawn(move || {
                let mut n = 0;
                while !done.load(Ordering::Relaxed) {
                    n += 1;
                    let name = format!("w{worker}-{n}");
                    let body = json!({"name": name, "scopes": ["agents:read"]}).to_string();
                    let Some(minted) = ask(port, owner, "POST", "/api/v1/api-keys", &body) else {
                        sleep(Duration::from_millis(5));
                        continue;
                    };
                    assert_eq!(minted.status, 201, "{minted:?}");
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    let (id, secret) = (text(&minted.data()["id"]), text(&minted.data()["secret"]));
                    let mut key = Told { name, secret, ..Told::default() };
                    if n % 3 != 0 {
                        let (method, path, body) = match n % 3 {
                            1 => ("POST", format!("/api/v1/api-keys/{id}/rotate"), r#"{"graceSeconds":0}"#),
                            _ => ("DELETE", format!("/api/v1/api-keys/{id}"), ""),
                        };
                        match ask(port, owner, method, &path, body) {
                            None => key.unsure = true,
                            Some(got) => {
                                assert!(got.status < 300, "{got:?}");
                                acknowledged.fetch_add(1, Ordering::Relaxed);
                                if method == "DELETE" {
                                    key.revoked = true;
                                } else {
                                    key.secret = text(&got.data()["secret"]);
                                }
                            }
                        }
                    }
                    told.lock().unwrap().insert(id, key);
                }
            });
        }
        for kill in 0..KILLS {
            let target = CHANGES * (kill as usize + 1) / KILLS as usize;
            while acknowledged.load(Ordering::Relaxed) < target {
                sleep(Duration::from_millis(1));
            }
            let begun = Instant::now();
            world.server.kill_and_restart();
            assert!(begun.elapsed() < Duration::from_secs(5), "a restart took {:?}", begun.elapsed());
        }
        done.store(true, Ordering::Relaxed);
    });
    let told = told.into_inner().unwrap();
    assert!(acknowledged.load(Ordering::Relaxed) >= CHANGES);
    let server = &world.server;
    let mut kept: BTreeMap<String, Value> = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page =
            server.as_member(&owner, "GET", &format!("/api/v1/api-keys?limit=100{cursor}"), None).json();
        for key in page["data"].as_array().unwrap() {
            kept.insert(text(&key["id"]), key.clone());
        }
        match page["pagination"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    for (id, key) in &told {
        let row = kept.get(id).unwrap_or_else(|| panic!("an acknowledged key is lost: {}", key.name));
        assert_eq!(row["name"], key.name.as_str());
        let status = server.as_key(&key.secret, "GET", "/api/v1/whoami", None).status;
        match (key.revoked, key.unsure) {
            (_, true) => assert!(matches!(status, 200 | 401)),
            (true, _) => assert_eq!((status, row["status"].as_str()), (401, Some("revoked")), "{}", key.name),
            (false, _) => assert_eq!((status, row["status"].as_str()), (200, Some("active")), "{}", key.name),
        }
    }
    // Each key that is there is there as a whole, with the event that tells of it.
    let verified = server.as_member(&owner, "GET", "/api/v1/audit-events/verify", None).data();
    assert_eq!(verified["intact"], true, "{verified}");
    let mut minted = 0;
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/audit-events?action=api_key.minted&limit=100{cursor}");
        let page = server.as_member(&owner, "GET", &path, None).json();
        minted += page["data"].as_array().unwrap().len();
        match page["pagination"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(minted, kept.len());
    assert!(kept.values().all(|key| key["secrets"].as_array().is_some_and(|it| it.len() == 1)));
}

/// How a server that does not start ends.
fn failure(folder: &std::path::Path, settings: &[(&str, &str)]) -> String {
    let settings: Vec<_> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let output = Server::command(folder, free_port(), free_port(), &settings).output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "{:?}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Rows: ST-26.
#[test]
fn a_second_process_on_the_folder_says_so() {
    let server = Server::start(&[]);
    let said = failure(&server.folder, &[]);
    assert!(said.contains("another flowyte uses the data folder"), "{said}");
    assert_eq!(server.ops("/health/ready").status, 200);
}

#[test]
fn a_broken_configuration_is_told_whole_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let said = failure(
        &data,
        &[
            ("SIGNUP", "perhaps"),
            ("PUBLIC_URL", "http://api.example"),
            ("STRANGER_RPM", "-1"),
            ("NONSENSE", "1"),
        ],
    );
    for part in ["FLOWYTE_SIGNUP", "FLOWYTE_PUBLIC_URL", "FLOWYTE_STRANGER_RPM", "FLOWYTE_NONSENSE"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    assert!(!data.exists());
}

#[test]
fn a_folder_that_can_not_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = failure(&file, &[]);
    assert!(said.contains("data folder") && said.contains("can't be made"), "{said}");
    // Root writes wherever it likes but to a file system that nobody may write; anybody else is kept out by the mode.
    let mount = Mount::tmpfs("size=8m");
    let place = match &mount {
        Some(mount) => {
            mount.remount("ro");
            mount.path().join("data")
        }
        None => {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
            folder.path().join("data")
        }
    };
    let said = failure(&place, &[]);
    assert!(said.contains("data folder") && said.contains("choose another with --data"), "{said}");
}

/// Rows: ST-28.
#[test]
fn a_pepper_file_that_is_lost_or_another_one_stops_the_start() {
    let mut server = Server::start(&[]);
    let owner = server.set_up("ada@example.com");
    server.mint(&owner, json!({"name": "x", "scopes": ["agents:read"]}));
    server.kill();
    let pepper = server.folder.join("pepper.key");
    let kept = server.folder.join("kept");
    std::fs::rename(&pepper, &kept).unwrap();
    let said = failure(&server.folder, &[]);
    assert!(said.contains("pepper file") && said.contains("is missing") && !pepper.exists(), "{said}");
    let other = format!("{}\n", "ab".repeat(32));
    std::fs::write(&pepper, other).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&pepper, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(failure(&server.folder, &[]).contains("chmod 600"));
    std::fs::set_permissions(&pepper, std::fs::Permissions::from_mode(0o600)).unwrap();
    let said = failure(&server.folder, &[]);
    assert!(said.contains("belongs to another installation"), "{said}");
    std::fs::rename(&kept, &pepper).unwrap();
    server.kill_and_restart();
}

/// A file system of its own, where this machine lets tests have one.
struct Mount(tempfile::TempDir);

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        println!("no file system can be mounted here, so a full one is not tried");
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().unwrap().success());
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Rows: ST-04.
#[test]
fn a_full_disk_acknowledges_nothing_verifies_on_and_recovers() {
    let Some(mount) = Mount::tmpfs("size=3m") else { return };
    let server = Server::start_in(&mount.path().join("data"), None, &[("LOG_LEVEL", "error")]);
    let owner = server.set_up("ada@example.com");
    let (id, key) = server.mint(&owner, json!({"name": "before", "scopes": ["agents:read"]}));
    let filler = mount.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    use std::io::Write;
    while file.write_all(&[0; 4096]).is_ok() {}
    let mint = || {
        let body = json!({"name": "full", "scopes": ["agents:read"]});
        server.as_member(&owner, "POST", "/api/v1/api-keys", Some(&body))
    };
    // What the log has room for still fits, so it is written until nothing does.
    let refused = (0..2_000).map(|_| mint()).find(|got| got.status != 201).expect("the disk never fills");
    assert_eq!((refused.status, refused.code().as_str()), (503, "dependency_unavailable"));
    assert!(refused.header("retry-after").is_some());
    let revoke = server.as_member(&owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None);
    assert_eq!(revoke.status, 503, "{revoke:?}");
    assert_eq!(server.as_key(&key, "GET", "/api/v1/whoami", None).status, 200);
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let begun = Instant::now();
    while mint().status != 201 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it does not recover");
        sleep(Duration::from_millis(100));
    }
    server.as_member(&owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).data();
    assert_eq!(server.as_key(&key, "GET", "/api/v1/whoami", None).code(), "credential_revoked");
    assert_eq!(server.as_member(&owner, "GET", "/api/v1/audit-events/verify", None).data()["intact"], true);
}

/// The same where nothing may be mounted: the running server's files may grow no further.
///
/// Rows: ST-04.
#[test]
fn a_file_that_may_not_grow_acknowledges_nothing_verifies_on_and_recovers() {
    let server = Server::start(&[("LOG_LEVEL", "error")]);
    let owner = server.set_up("ada@example.com");
    let (id, key) = server.mint(&owner, json!({"name": "before", "scopes": ["agents:read"]}));
    let may_grow = |current: Option<u64>| {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let pid = Pid::from_raw(server.id() as i32);
        prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    };
    let mint = || {
        let body = json!({"name": "full", "scopes": ["agents:read"]});
        server.as_member(&owner, "POST", "/api/v1/api-keys", Some(&body))
    };
    may_grow(Some(4096));
    let refused = mint();
    assert_eq!((refused.status, refused.code().as_str()), (503, "dependency_unavailable"), "{refused:?}");
    let revoke = server.as_member(&owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None);
    assert_eq!(revoke.status, 503, "{revoke:?}");
    assert_eq!(server.as_key(&key, "GET", "/api/v1/whoami", None).status, 200);
    may_grow(None);
    let begun = Instant::now();
    while mint().status != 201 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it does not recover");
        sleep(Duration::from_millis(100));
    }
    server.as_member(&owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).data();
    assert_eq!(server.as_key(&key, "GET", "/api/v1/whoami", None).code(), "credential_revoked");
    assert_eq!(server.as_member(&owner, "GET", "/api/v1/audit-events/verify", None).data()["intact"], true);
}

/// Commits share a sync of the database's log. One that starts again forgets what it had not written, which nobody was told was done: the
/// server that had read more of it ends, and the next one knows what there is.
#[test]
fn a_database_that_starts_again_has_everything_that_was_acknowledged() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (url, _database) = runtime.block_on(crate::postgres::database_alone());
    let mut server = Server::start(&[("DATABASE", &url), ("LOG_LEVEL", "error")]);
    let owner = server.set_up("ada@example.com");
    let whoami = |server: &Server, secret: &str| server.as_key(secret, "GET", "/api/v1/whoami", None).status;
    for _ in 0..3 {
        let (minted, revoked): (Mutex<Vec<String>>, Mutex<Vec<String>>) = Default::default();
        let (done, port) = (AtomicBool::new(false), server.port);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let body = json!({"name": "x", "scopes": ["agents:read"]}).to_string();
                        let Some(got) = ask(port, &owner, "POST", "/api/v1/api-keys", &body) else {
                            continue;
                        };
                        if got.status != 201 {
                            assert_eq!(got.status, 503, "{got:?}");
                            continue;
                        }
                        let (id, secret) = (text(&got.data()["id"]), text(&got.data()["secret"]));
                        let even = id.as_bytes().last().is_some_and(|it| it % 2 == 0);
                        if even {
                            let path = format!("/api/v1/api-keys/{id}");
                            // Without an answer it may or may not be revoked.
                            if ask(port, &owner, "DELETE", &path, "").is_some_and(|got| got.status == 200) {
                                revoked.lock().unwrap().push(secret);
                            }
                        } else {
                            minted.lock().unwrap().push(secret);
                        }
                    }
                });
            }
            let begun = Instant::now();
            while minted.lock().unwrap().len() < 100 {
                assert!(begun.elapsed() < Duration::from_secs(60), "too little is minted");
                sleep(Duration::from_millis(10));
            }
            crate::postgres::crash(&url);
            sleep(Duration::from_millis(300));
            done.store(true, Ordering::Relaxed);
        });
        // It goes on by itself, unless it had read something that is gone.
        let begun = Instant::now();
        loop {
            match server.try_ended() {
                Some(status) => {
                    assert!(!status.success());
                    let said = server.output.lock().unwrap().clone();
                    assert!(said.contains("the database went back to an earlier state"), "{said}");
                    server.kill_and_restart();
                }
                None if server.ready() => break,
                None => sleep(Duration::from_millis(50)),
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not go on");
        }
        for secret in minted.into_inner().unwrap() {
            assert_eq!(whoami(&server, &secret), 200, "an acknowledged key is gone");
        }
        for secret in &revoked.into_inner().unwrap() {
            assert_eq!(whoami(&server, secret), 401, "an acknowledged revocation is gone");
        }
    }
}
