//! A server that is upgraded goes on with what an earlier release wrote: every credential opens what it opened before, and nothing that was
//! taken away comes back.

use crate::isolation::execute;
use crate::support::{Server, text};
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const RELEASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/releases");
const AGENT: &str = "agent_01a224889d9e79c595acaacdd2817ed1";

// What release 0.1.0 showed once when each was made. Its peppers are beside its tables.
const KEY: &str = "flowyte_sk_live_lvrsfrusCOmpRFjmY56R30yRp2qkhk0dZzHr";
const REVOKED_KEY: &str = "flowyte_sk_live_CDz6hbuIWKpvqpb9KiN0I4vSZX37JB4NbNW4";
const KEY_OF_ANOTHER_ADDRESS: &str = "flowyte_sk_live_ABDTKExUnIWhizLBoWgs5dfaF8oyll0Vqoat";
const WIDGET: &str = "flowyte_pk_live_DroD3pdopWUGSuIbksKdHqdnjqLR8W4MQPgW";
const REVOKED_WIDGET: &str = "flowyte_pk_test_wW7leAoWVOalmX9Ityiehm6ZvNwmfC3aNcHW";
const VISITOR: &str = "flowyte_vt_L4Uf2pwkt9tKBg4KnPI02vRbuijJ072FGJSx";
const INVITE: &str = "flowyte_it_DwkOrtBw0xWvfKqio10p6JLYNNE7Za2gs6MZ";

/// A data folder as release 0.1.0 left it; the rows that end by themselves are as old as they were when it stopped.
fn release_0_1_0(url: Option<&str>, folder: &Path) {
    let from = Path::new(RELEASES).join("0.1.0");
    std::fs::create_dir(folder).unwrap();
    // Written anew, since a checkout may have made it readable for others, which the server refuses.
    let pepper = std::fs::read(from.join("pepper.key")).unwrap();
    let mut file = std::fs::OpenOptions::new();
    file.write(true).create_new(true).mode(0o600);
    file.open(folder.join("pepper.key")).unwrap().write_all(&pepper).unwrap();
    let sql = std::fs::read_to_string(from.join("flowyte.sql")).unwrap();
    let sql = match url {
        Some(_) => {
            let sql = sql.replace("X'", r"BYTEA '\x").replace("BYTES", "BYTEA");
            format!("SET session_replication_role = replica; {sql}")
        }
        None => format!("PRAGMA foreign_keys = OFF; {}", sql.replace("BYTES", "BLOB")),
    };
    execute(url, folder, &sql);
    let now = jiff::Timestamp::now().as_microsecond();
    let week = 7 * 24 * 3_600_000_000_i64;
    execute(
        url,
        folder,
        &format!(
            "UPDATE visitors SET created_at = {now}, last_seen_at = {now}, expires_at = {now} + {week}; \
             UPDATE invites SET created_at = {now}, expires_at = {now} + {week}"
        ),
    );
}

/// Rows: KF-17.
#[test]
fn credentials_of_release_0_1_0_open_what_they_opened() {
    let postgres = tokio::runtime::Runtime::new().unwrap().block_on(crate::postgres::empty_database());
    for url in [None, Some(postgres.as_str())] {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("data");
        release_0_1_0(url, &folder);
        let settings: Vec<_> = url.map(|url| ("DATABASE", url)).into_iter().collect();
        let mut server = Server::start_in(&folder, Some(temporary), &settings);
        holds(&server);
        // What was brought up to date is not done again.
        server.kill_and_restart();
        assert_eq!(server.as_key(KEY, "GET", "/api/v1/whoami", None).code(), "credential_revoked");
        let (whole, said) = server.run(&["audit", "verify"]);
        assert!(whole, "{said}");
    }
}

fn holds(server: &Server) {
    let answers = |key: &str| server.as_key(key, "GET", "/api/v1/agents", None);
    let agents = answers(KEY);
    assert_eq!(agents.status, 200, "{agents:?}");
    assert_eq!(agents.data()[0]["id"], AGENT);
    assert_eq!(answers(REVOKED_KEY).code(), "credential_revoked");
    assert_eq!(answers(KEY_OF_ANOTHER_ADDRESS).code(), "address_not_allowed");
    assert_eq!(server.as_key(KEY, "DELETE", &format!("/api/v1/agents/{AGENT}"), None).status, 403);

    let session = |key: &str| server.as_widget(key, "POST", "/api/v1/chat/widget/sessions", None);
    assert_eq!(session(WIDGET).status, 201);
    assert_eq!(session(REVOKED_WIDGET).code(), "credential_revoked");
    let elsewhere = [&*format!("Authorization: Bearer {WIDGET}"), "Origin: https://elsewhere.example"];
    let refused = server.send("POST", "/api/v1/chat/widget/sessions", &elsewhere, None);
    assert_eq!(refused.code(), "origin_not_allowed");
    let question = json!({"content": "When are you open?"});
    let answer = server.as_widget(VISITOR, "POST", "/api/v1/chat/widget/messages", Some(&question));
    assert!(answer.status == 200 && answer.body.contains("nine to five"), "{answer:?}");

    assert_eq!(server.log_in("ada@example.com", "another-kettle-orbit-71").status, 401);
    let owner = server.log_in("ada@example.com", "mountain-kettle-orbit-71").cookie();
    let keys = server.as_member(&owner, "GET", "/api/v1/api-keys", None).data();
    let names: Vec<_> = keys.as_array().unwrap().iter().map(|it| text(&it["name"])).collect();
    assert_eq!(names, ["restricted", "gone", "first"]);
    let wallet = server.as_member(&owner, "GET", "/api/v1/billing/wallet", None);
    assert_eq!(wallet.status, 200, "{wallet:?}");
    let trail = server.as_member(&owner, "GET", "/api/v1/audit-events/verify", None).data();
    assert_eq!(trail["intact"], true, "{trail}");
    // A developer of then may do what a developer may, and an invite of then is taken.
    let developer = server.log_in("grace@example.com", "lantern-river-cobalt-29").cookie();
    let (_, minted) = server.mint(&developer, json!({"name": "new", "scopes": ["agents:read"]}));
    assert_eq!(answers(&minted).status, 200);
    assert_eq!(server.as_member(&developer, "GET", "/api/v1/invites", None).status, 403);
    let body = json!({"token": INVITE, "name": "Joan", "password": "copper-window-lilac-84"});
    let taken = server.send("POST", "/api/v1/auth/invites/accept", &[], Some(&body));
    assert_eq!(taken.status, 201, "{taken:?}");
    // And what is revoked now is over at once.
    let id = text(&keys[2]["id"]);
    assert_eq!(server.as_member(&owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).status, 200);
    assert_eq!(answers(KEY).code(), "credential_revoked");
}
