//! The commands beside the server: audit verify, backup, restore, pepper; and the server on PostgreSQL.

use crate::support::{PASSWORD, Server, text};
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// Runs a command on a data folder: whether it succeeded, and everything it said.
fn run(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_flowyte"))
        .args(arguments)
        .arg("--data")
        .arg(folder)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_chain_is_verified_and_a_cut_end_shows_against_earlier_heads() {
    let mut server = Server::start(&[]);
    let owner = server.set_up("ada@example.com");
    server.mint(&owner, json!({"name": "x", "scopes": ["agents:read"]}));
    let heads = server.folder.join("heads");
    let heads = heads.to_str().unwrap();
    let (whole, said) = run(&server.folder, &["audit", "verify", "--write", heads]);
    assert!(whole && said.contains("whole"), "{said}");
    let (whole, said) = run(&server.folder, &["audit", "verify", "--against", heads]);
    assert!(whole, "{said}");
    let edit = |server: &mut Server, sql: &'static str| {
        server.kill();
        let file = server.folder.join("flowyte.db");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = flowyte_store::Sqlite::open(&file).await.unwrap();
            let mut tx = store.begin(flowyte_store::Mode::Batch).await.unwrap();
            tx.exec(sql, vec![]).await.unwrap();
            tx.commit().await.unwrap();
            store.close().await;
        });
    };
    edit(&mut server, "DELETE FROM audit_events WHERE sequence = 3");
    let (whole, said) = run(&server.folder, &["audit", "verify"]);
    assert!(whole, "a cut end alone can't be seen: {said}");
    let (whole, said) = run(&server.folder, &["audit", "verify", "--against", heads]);
    assert!(!whole && said.contains("the end of the chain was cut"), "{said}");
    edit(&mut server, "UPDATE audit_events SET action = 'x' WHERE sequence = 1");
    let (whole, said) = run(&server.folder, &["audit", "verify"]);
    assert!(!whole && said.contains("BROKEN at 1"), "{said}");
}

#[test]
fn an_old_backup_brings_no_revoked_key_back() {
    let mut server = Server::start(&[]);
    let owner = server.set_up("ada@example.com");
    let mint =
        |server: &Server, name: &str| server.mint(&owner, json!({"name": name, "scopes": ["agents:read"]}));
    let ((stays, kept), (goes, gone), (turns, old)) =
        (mint(&server, "stays"), mint(&server, "goes"), mint(&server, "turns"));
    let backup = server.folder.join("../backup");
    let backup = backup.to_str().unwrap();
    let (done, said) = run(&server.folder, &["backup", backup]);
    assert!(done, "{said}");
    assert!(!run(&server.folder, &["backup", backup]).0, "a backup is never written over");
    server.as_member(&owner, "DELETE", &format!("/api/v1/api-keys/{goes}"), None).data();
    server
        .as_member(
            &owner,
            "POST",
            &format!("/api/v1/api-keys/{turns}/rotate"),
            Some(&json!({"graceSeconds": 0})),
        )
        .data();
    let (_, later) = mint(&server, "later");
    let (done, said) = run(&server.folder, &["restore", backup]);
    assert!(!done && said.contains("another flowyte uses"), "{said}");
    server.kill();
    let (done, said) = run(&server.folder, &["restore", backup]);
    assert!(done && said.contains(&goes) && !said.contains(&stays), "{said}");
    server.kill_and_restart();
    let ask = |secret: &str| server.as_key(secret, "GET", "/api/v1/whoami", None);
    assert_eq!(ask(&kept).status, 200);
    assert_eq!(ask(&gone).code(), "credential_revoked");
    assert_eq!(ask(&old).code(), "credential_expired");
    assert_eq!(ask(&later).code(), "invalid_credential");
    assert_eq!(server.as_member(&owner, "GET", "/api/v1/auth/session", None).code(), "credential_revoked");
    let owner = server.log_in("ada@example.com", PASSWORD).cookie();
    assert_eq!(server.as_member(&owner, "GET", "/api/v1/audit-events/verify", None).data()["intact"], true);
}

#[test]
fn peppers_are_rotated_and_retired_when_nothing_depends_on_them() {
    let mut server = Server::start(&[]);
    let owner = server.set_up("ada@example.com");
    let (_, before) = server.mint(&owner, json!({"name": "before", "scopes": ["agents:read"]}));
    let (done, said) = run(&server.folder, &["pepper", "rotate"]);
    assert!(!done && said.contains("another flowyte"), "{said}");
    server.kill();
    let (_, listed) = run(&server.folder, &["pepper", "list"]);
    let first = listed.split(' ').next().unwrap().to_owned();
    assert!(listed.contains("in use, current"), "{listed}");
    assert!(run(&server.folder, &["pepper", "rotate"]).0);
    server.kill_and_restart();
    let (_, after) = server.mint(&owner, json!({"name": "after", "scopes": ["agents:read"]}));
    for secret in [&before, &after] {
        assert_eq!(server.as_key(secret, "GET", "/api/v1/whoami", None).status, 200);
    }
    server.kill();
    let (done, said) = run(&server.folder, &["pepper", "retire", &first]);
    assert!(!done && said.contains("still depend"), "{said}");
    assert!(run(&server.folder, &["pepper", "rotate"]).0);
    assert!(run(&server.folder, &["pepper", "rotate"]).0);
    let (_, listed) = run(&server.folder, &["pepper", "list"]);
    let unused = listed.lines().find(|line| line.ends_with("unused")).unwrap().split(' ').next().unwrap();
    let (done, said) = run(&server.folder, &["pepper", "retire", unused]);
    assert!(done, "{said}");
    server.kill_and_restart();
    assert_eq!(server.as_key(&before, "GET", "/api/v1/whoami", None).status, 200);
}

/// The same server on the other database: what was revoked stays so, one process serves, and while the database is away
/// credentials are verified until the lease ends and not a moment longer.
#[test]
fn the_server_on_postgresql() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = runtime.block_on(crate::postgres::empty_database());
    let settings = [("DATABASE", url.as_str()), ("LOG_LEVEL", "error")];
    let mut server = Server::start(&settings);
    let owner = server.set_up("ada@example.com");
    let (id, key) = server.mint(&owner, json!({"name": "x", "scopes": ["agents:read"]}));
    let ask = |server: &Server, secret: &str| server.as_key(secret, "GET", "/api/v1/whoami", None);
    assert_eq!(ask(&server, &key).status, 200);
    let rotated = server.as_member(
        &owner,
        "POST",
        &format!("/api/v1/api-keys/{id}/rotate"),
        Some(&json!({"graceSeconds": 0})),
    );
    let newer = text(&rotated.data()["secret"]);
    assert_eq!((ask(&server, &key).code(), ask(&server, &newer).status), ("credential_expired".into(), 200));
    let other = tempfile::tempdir().unwrap();
    let settings: Vec<_> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let second =
        Server::command(other.path(), crate::support::free_port(), crate::support::free_port(), &settings)
            .output()
            .unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && said.contains("another flowyte serves from this database"), "{said}");
    server.kill_and_restart();
    assert_eq!(ask(&server, &newer).status, 200);
    server.as_member(&owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).data();
    assert_eq!(ask(&server, &newer).code(), "credential_revoked");

    let (_, key) = server.mint(&owner, json!({"name": "y", "scopes": ["agents:read"]}));
    crate::postgres::freeze(&url, true);
    assert_eq!(ask(&server, &key).status, 200, "within the lease");
    std::thread::sleep(std::time::Duration::from_millis(2_600));
    let unsure = ask(&server, &key);
    assert_eq!((unsure.status, unsure.code().as_str()), (503, "verification_unavailable"));
    assert!(unsure.header("retry-after").is_some());
    assert_eq!(server.ops("/health/ready").status, 503);
    crate::postgres::freeze(&url, false);
    let begun = std::time::Instant::now();
    while ask(&server, &key).status != 200 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(8), "it does not recover");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
