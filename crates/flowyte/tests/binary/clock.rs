//! The binary under a clock that is set back and ahead while it runs, by libfaketime.

use crate::support::{PASSWORD, Server, text};
use serde_json::json;
use std::path::Path;
use std::process::Command;

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A server whose clock is the real one, moved by what `file` says.
fn start(folder: &Path, file: &Path) -> Server {
    assert!(Path::new(LIBRARY).exists(), "libfaketime is missing; run: tools/install {LIBRARY} faketime");
    let settings = [
        ("env:LD_PRELOAD", LIBRARY),
        ("env:FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("env:FAKETIME_NO_CACHE", "1"),
        ("env:DONT_FAKE_MONOTONIC", "1"),
    ];
    Server::start_in(folder, None, &settings)
}

/// Item F14. Rows: ST-23.
#[test]
fn a_clock_set_back_revives_nothing_and_locks_nobody_out() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, file) = (temporary.path().join("data"), temporary.path().join("clock"));
    let set = |offset: &str| std::fs::write(&file, format!("{offset}\n")).unwrap();
    set("+0");
    let mut server = start(&folder, &file);
    let owner = server.set_up("ada@alpha.example");
    let (id, old) = server.mint(&owner, json!({"name": "rotated", "scopes": ["agents:read"]}));
    let rotate = server.as_member(
        &owner,
        "POST",
        &format!("/api/v1/api-keys/{id}/rotate"),
        Some(&json!({"graceSeconds": 60})),
    );
    let new = text(&rotate.data()["secret"]);
    let (_, limited) =
        server.mint(&owner, json!({"name": "limited", "scopes": ["agents:read"], "rateLimitRpm": 600}));
    let (_, few) = server.mint(&owner, json!({"name": "few", "scopes": ["agents:read"], "rateLimitRpm": 2}));
    let code = |server: &Server, secret: &str| server.as_key(secret, "GET", "/api/v1/whoami", None).code();
    assert_eq!((code(&server, &old), code(&server, &new)), (String::new(), String::new()));
    for _ in 0..50 {
        assert_eq!(code(&server, &limited), "");
    }
    set("+2m");
    assert_eq!(code(&server, &old), "credential_expired");

    // Back by an hour and two minutes: what ended stays ended, what is good is not locked out, and what is new works.
    set("-1h");
    assert_eq!(code(&server, &old), "credential_expired");
    for _ in 0..50 {
        assert_eq!(code(&server, &limited), "");
    }
    let (_, later) = server.mint(&owner, json!({"name": "later", "scopes": ["agents:read"]}));
    assert_eq!((code(&server, &new), code(&server, &later)), (String::new(), String::new()));
    assert_eq!(server.log_in("ada@alpha.example", PASSWORD).status, 200);

    // Over a kill, too.
    server.kill_and_restart();
    assert_eq!((code(&server, &old), code(&server, &new)), ("credential_expired".into(), String::new()));

    // Ahead by thirty days, then right again: what ended meanwhile stays so, by the server's own time. No limit fills by it.
    assert_eq!([code(&server, &few), code(&server, &few), code(&server, &few)], ["", "", "rate_limited"]);
    set("+30d");
    assert_eq!(code(&server, &few), "rate_limited");
    assert_eq!((code(&server, &later), code(&server, &old)), (String::new(), "credential_expired".into()));
    let thirty_days_on = server.log_in("ada@alpha.example", PASSWORD);
    assert_eq!(thirty_days_on.status, 200);
    set("+0");
    assert_eq!(server.as_member(&owner, "GET", "/api/v1/auth/session", None).code(), "credential_expired");
    assert_eq!(code(&server, &later), "");
    assert!(server.terminate().success());

    // A clock that is further behind than a day is the operator's to judge.
    let flowyte = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_flowyte"))
            .args(arguments)
            .args([
                "--data",
                folder.to_str().unwrap(),
                "--listen",
                "127.0.0.1:0",
                "--ops-listen",
                "127.0.0.1:0",
            ])
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (started, said) = flowyte(&["serve"]);
    assert!(!started && said.contains("flowyte clock reset"), "{said}");
    let (reset, said) = flowyte(&["clock", "reset"]);
    assert!(reset && said.contains("time counts from"), "{said}");
    let server = start(&folder, &file);
    assert_eq!(code(&server, &later), "");
}
