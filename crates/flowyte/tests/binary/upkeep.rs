//! The commands beside the server: audit verify, backup, restore, pepper; and the server on PostgreSQL.

use crate::support::{PASSWORD, SHOP, Server, World, text};
use serde_json::{Value, json};
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
    assert!(whole && said.contains("intact"), "{said}");
    let (whole, said) = run(&server.folder, &["audit", "verify", "--against", heads]);
    assert!(whole, "{said}");
    let edit = |server: &mut Server, sql: &'static str| {
        server.kill();
        let file = server.folder.join("flowyte.db");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = flowyte_store::Sqlite::open(&file, flowyte::GUESTS).await.unwrap();
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

/// What says in an answer what somebody may do.
const RIGHTS: [&str; 12] = [
    "id",
    "name",
    "email",
    "env",
    "role",
    "status",
    "scopes",
    "expiresAt",
    "rateLimitRpm",
    "allowedAddresses",
    "allowedOrigins",
    "requireIdentityVerification",
];

/// What the keys, members and policy of an organization grant.
fn granted(server: &Server, owner: &str, agents: &[&str]) -> Vec<Value> {
    let mut all = Vec::new();
    let list = |path: &str| server.as_member(owner, "GET", &format!("/api/v1/{path}?limit=100"), None).data();
    let agents = agents.iter().map(|it| format!("agents/{it}/publishable-keys"));
    for path in ["api-keys".to_owned(), "members".to_owned(), "invites".to_owned()].into_iter().chain(agents)
    {
        for row in list(&path).as_array().unwrap() {
            let mut row = row.clone();
            row.as_object_mut().unwrap().retain(|name, _| RIGHTS.contains(&name.as_str()));
            all.push(row);
        }
    }
    all.push(server.as_member(owner, "GET", "/api/v1/organization", None).data()["keyPolicy"].clone());
    all.sort_by_key(|it| it["id"].as_str().unwrap_or("").to_owned());
    all
}

/// One of each kind of right is narrowed after a backup, and nothing is wider after that was restored.
#[test]
fn an_old_backup_widens_nothing() {
    let mut world = World::new(&[]);
    let (owner, agent) = (world.owner.clone(), world.agent.clone());
    let member = |world: &World, method: &str, path: &str, body: Value| {
        let body = (!body.is_null()).then_some(&body);
        world.server.as_member(&owner, method, &format!("/api/v1/{path}"), body).data()
    };
    let mint = |world: &World, name: &str| {
        world
            .server
            .mint(&owner, json!({"name": name, "scopes": ["agents:read", "agents:write"], "expiresAt": null}))
    };
    let names = ["scopes", "addresses", "shorter", "rate", "revoked", "kept"];
    let keys: Vec<(String, String)> = names.iter().map(|it| mint(&world, it)).collect();
    let publishable = |world: &World, agent: &str, name: &str| {
        let origins = [SHOP, "https://other.example"];
        let body = json!({"name": name, "env": "live", "allowedOrigins": origins});
        let key = member(world, "POST", &format!("agents/{agent}/publishable-keys"), body);
        (text(&key["id"]), text(&key["keyPublic"]))
    };
    let deleted = text(&member(&world, "POST", "agents", json!({"name": "Gone"}))["id"]);
    let pages: Vec<(String, String)> =
        ["origins", "identity", "rate", "revoked"].iter().map(|it| publishable(&world, &agent, it)).collect();
    let (_, of_deleted) = publishable(&world, &deleted, "of a deleted agent");
    let invite = |world: &World, email: &str| {
        member(world, "POST", "invites", json!({"email": email, "role": "admin"}))
    };
    let (withdrawn, used) = (invite(&world, "withdrawn@x.example"), invite(&world, "used@x.example"));
    let backup = world.server.folder.join("../backup");
    let backup = backup.to_str().unwrap().to_owned();
    let (done, said) = run(&world.server.folder, &["backup", &backup]);
    assert!(done, "{said}");

    let change = |world: &World, at: usize, body: Value| {
        member(world, "PATCH", &format!("api-keys/{}", keys[at].0), body)
    };
    change(&world, 0, json!({"scopes": ["agents:read"]}));
    change(&world, 1, json!({"allowedAddresses": ["192.0.2.0/24"]}));
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(30);
    change(&world, 2, json!({"expiresAt": soon.to_string()}));
    change(&world, 3, json!({"rateLimitRpm": 7}));
    member(&world, "DELETE", &format!("api-keys/{}", keys[4].0), Value::Null);
    let page = |world: &World, at: usize, body: Value| {
        let (method, key) = (if body.is_null() { "DELETE" } else { "PATCH" }, &pages[at].0);
        member(world, method, &format!("agents/{agent}/publishable-keys/{key}"), body)
    };
    page(&world, 0, json!({"allowedOrigins": [SHOP]}));
    page(&world, 1, json!({"requireIdentityVerification": true}));
    page(&world, 2, json!({"rateLimitRpm": 7}));
    page(&world, 3, Value::Null);
    member(&world, "DELETE", &format!("agents/{deleted}"), Value::Null);
    member(&world, "PATCH", "organization", json!({"keyPolicy": {"maxTtlDays": 30, "requireExpiry": true}}));
    let members = member(&world, "GET", "members", Value::Null);
    let id = |email: &str| {
        let all = members.as_array().unwrap();
        text(&all.iter().find(|it| it["email"] == email).unwrap()["id"])
    };
    member(&world, "PATCH", &format!("members/{}", id("admin@alpha.example")), json!({"role": "viewer"}));
    member(&world, "DELETE", &format!("members/{}", id("developer@alpha.example")), Value::Null);
    member(&world, "DELETE", &format!("invites/{}", text(&withdrawn["id"])), Value::Null);
    let accept = |world: &World, invite: &Value| {
        let body = json!({"token": invite["token"], "name": "Grace", "password": PASSWORD});
        world.server.send("POST", "/api/v1/auth/invites/accept", &[], Some(&body))
    };
    assert_eq!(accept(&world, &used).status, 201);
    let another = "harbour-violin-cactus-38";
    let body = json!({"currentPassword": PASSWORD, "newPassword": another});
    let changed = world.server.as_member(&world.viewer, "POST", "/api/v1/auth/password", Some(&body));
    assert!(changed.status < 300, "{changed:?}");
    let before = granted(&world.server, &owner, &[&agent]);

    world.server.kill();
    let (done, said) = run(&world.server.folder, &["restore", &backup]);
    assert!(done && !said.contains("--acknowledge"), "{said}");
    for named in
        [&keys[0].0, &keys[1].0, &keys[2].0, &keys[3].0, &keys[4].0, &pages[0].0, &pages[1].0, &pages[3].0]
    {
        assert!(said.contains(named.as_str()), "{named} is not named: {said}");
    }
    assert!(
        said.contains("developer@alpha.example is no member any more") && !said.contains(&keys[5].0),
        "{said}"
    );
    world.server.kill_and_restart();
    let sign_in = |world: &World, email: &str, password: &str| world.server.log_in(email, password);
    let owner_again = sign_in(&world, "ada@alpha.example", PASSWORD).cookie();
    // Who came since is no member of the backup, which is narrower; all else is as it was, row for row.
    let came_since = |it: &Value| it["email"] == "used@x.example";
    let before: Vec<Value> = before.into_iter().filter(|it| !came_since(it)).collect();
    assert_eq!(granted(&world.server, &owner_again, &[&agent]), before);
    let ask = |at: usize| world.server.as_key(&keys[at].1, "GET", "/api/v1/agents", None);
    assert_eq!((ask(5).status, ask(0).status), (200, 200));
    let create = world.server.as_key(&keys[0].1, "POST", "/api/v1/agents", Some(&json!({"name": "x"})));
    assert_eq!(create.code(), "insufficient_scope");
    assert_eq!((ask(1).code(), ask(4).code()), ("address_not_allowed".into(), "credential_revoked".into()));
    let open = |key: &str| world.server.as_widget(key, "POST", "/api/v1/chat/widget/sessions", None);
    assert_eq!(
        (open(&pages[1].1).code(), open(&pages[3].1).code()),
        ("identity_required".into(), "credential_revoked".into())
    );
    assert_eq!(open(&of_deleted).code(), "credential_revoked");
    for (what, session) in [("owner", &owner), ("viewer", &world.viewer), ("admin", &world.admin)] {
        assert_eq!(
            world.server.as_member(session, "GET", "/api/v1/auth/session", None).code(),
            "credential_revoked",
            "{what}"
        );
    }
    assert_eq!(
        world.server.as_widget(&world.visitor, "GET", "/api/v1/chat/widget/messages", None).status,
        401
    );
    assert_eq!(sign_in(&world, "viewer@alpha.example", PASSWORD).code(), "login_failed");
    assert_eq!(sign_in(&world, "viewer@alpha.example", another).status, 200);
    assert!(sign_in(&world, "developer@alpha.example", PASSWORD).status >= 400);
    for invite in [&withdrawn, &used] {
        assert!(accept(&world, invite).status >= 400);
    }
    let audit = world.server.as_member(&owner_again, "GET", "/api/v1/audit-events/verify", None).data();
    assert_eq!(audit["intact"], true);

    // Where the data folder is lost nobody can say what was narrowed, and the operator has to look.
    world.server.kill();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (done, said) = run(&data, &["restore", &backup]);
    assert!(done && said.contains("--acknowledge") && names.iter().all(|it| said.contains(it)), "{said}");
    let serve = || {
        let (port, ops_port) = (crate::support::free_port(), crate::support::free_port());
        Server::command(&data, port, ops_port, &[]).output().unwrap()
    };
    let refused = serve();
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && why.contains("flowyte restore --acknowledge"), "{why}");
    let (done, said) = run(&data, &["restore", "--list"]);
    assert!(done && said.contains(&keys[0].0) && said.contains("not served yet"), "{said}");
    // A backup of it, put in its own place, is no way round.
    let around = folder.path().join("around");
    assert!(run(&data, &["backup", around.to_str().unwrap()]).0);
    assert!(run(&data, &["restore", around.to_str().unwrap()]).0);
    assert!(!serve().status.success());
    let (done, said) = run(&data, &["restore", "--acknowledge"]);
    assert!(done && said.starts_with("acknowledged"), "{said}");
    let server = Server::start_in(&data, None, &[]);
    assert_eq!(server.as_key(&keys[4].1, "GET", "/api/v1/agents", None).status, 200, "nobody could know");
    assert!(accept_at(&server, &used).status >= 400, "an invite of then is open again");
}

fn accept_at(server: &Server, invite: &Value) -> crate::support::Got {
    let body = json!({"token": invite["token"], "name": "Grace", "password": PASSWORD});
    server.send("POST", "/api/v1/auth/invites/accept", &[], Some(&body))
}

/// Rows: ST-28.
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
/// credentials are verified until the lease ends and not a moment longer, and no revocation is said to be done.
///
/// Rows: ST-06 ST-07 ST-26.
#[test]
fn the_server_on_postgresql() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (url, _database) = runtime.block_on(crate::postgres::database_alone());
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
    let (id, asked) = server.mint(&owner, json!({"name": "z", "scopes": ["agents:read"]}));
    crate::postgres::freeze(&url, true);
    std::thread::scope(|scope| {
        let revoke =
            scope.spawn(|| server.as_member(&owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None));
        assert_eq!(ask(&server, &key).status, 200, "within the lease");
        let begun = std::time::Instant::now();
        let unsure = loop {
            let unsure = ask(&server, &key);
            if unsure.status != 200 {
                break unsure;
            }
            assert!(begun.elapsed() < std::time::Duration::from_secs(8), "the lease does not end");
            std::thread::sleep(std::time::Duration::from_millis(50));
        };
        assert_eq!((unsure.status, unsure.code().as_str()), (503, "verification_unavailable"));
        assert!(unsure.header("retry-after").is_some());
        assert_eq!(server.ops("/health/ready").status, 503);
        let unsure = revoke.join().unwrap();
        assert_eq!((unsure.status, unsure.code().as_str()), (503, "dependency_unavailable"));
        assert!(unsure.header("retry-after").is_some());
        crate::postgres::freeze(&url, false);
    });
    let begun = std::time::Instant::now();
    while ask(&server, &key).status != 200 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(8), "it does not recover");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    server.as_member(&owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).data();
    assert_eq!(ask(&server, &asked).code(), "credential_revoked");
}

/// Everything goes to PostgreSQL: what was revoked there is revoked here, sessions and visitors go on, and the audit trail holds.
#[cfg(all(feature = "product", feature = "postgres"))]
#[test]
fn an_installation_moves_to_postgresql() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = runtime.block_on(crate::postgres::empty_database());
    let mut world = World::new(&[("LOG_LEVEL", "error")]);
    let (gone_id, gone) = world.server.mint(&world.owner, json!({"name": "gone", "scopes": ["agents:read"]}));
    world.server.as_member(&world.owner, "DELETE", &format!("/api/v1/api-keys/{gone_id}"), None).data();
    let said = json!({"content": "What do you charge? 12 € ☕"});
    assert_eq!(
        world.server.as_widget(&world.visitor, "POST", "/api/v1/chat/widget/messages", Some(&said)).status,
        200
    );
    let list = |server: &Server, path: &str| {
        server.as_member(&world.owner, "GET", &format!("/api/v1/{path}"), None).data()
    };
    // Not keys and members, which were seen by a server that writes this down now and then.
    let lists = ["organization", "audit-events", "agents", "conversations", "billing/wallet"];
    let before: Vec<Value> = lists.iter().map(|path| list(&world.server, path)).collect();
    let migrate = |folder: &Path, url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowyte"));
        let output = command.args(["migrate", "--from"]).arg(folder).args(["--to", url]).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let folder = world.server.folder.clone();
    let (done, said) = migrate(&folder, &url);
    assert!(!done && said.contains("stop it first"), "it serves still: {said}");
    world.server.terminate();
    let (done, said) = migrate(&folder, "postgres://nobody@127.0.0.1:1/nothing");
    assert!(!done && said.contains("nothing was moved"), "{said}");
    let (done, said) = migrate(&folder.join("audit"), &url);
    assert!(!done && said.contains("it has no flowyte.db"), "{said}");
    let (done, said) = migrate(&folder, &url);
    assert!(done && said.contains("number and digest of each table are the same there"), "{said}");
    let (done, said) = migrate(&folder, &url);
    assert!(done && said.contains("nothing was written"), "{said}");

    let server = Server::start_in(&folder, None, &[("DATABASE", &url), ("LOG_LEVEL", "error")]);
    let whoami = |secret: &str| server.as_key(secret, "GET", "/api/v1/whoami", None);
    assert_eq!((whoami(&world.key).status, whoami(&world.other_all).status), (200, 200));
    assert_eq!(whoami(&gone).code(), "credential_revoked");
    for (path, before) in lists.iter().zip(&before) {
        assert_eq!(list(&server, path).to_string(), before.to_string(), "{path}");
    }
    let more = json!({"content": "And on Sundays?"});
    assert_eq!(
        server.as_widget(&world.visitor, "POST", "/api/v1/chat/widget/messages", Some(&more)).status,
        200
    );
    let verified = list(&server, "audit-events/verify");
    assert_eq!(verified["intact"], true, "{verified}");
    let (_, key) = server.mint(&world.owner, json!({"name": "new", "scopes": ["agents:read"]}));
    assert_eq!(whoami(&key).status, 200);
    // What is in use is not written over.
    let (done, said) = migrate(&folder, &url);
    assert!(!done && said.contains("stop it first"), "{said}");
    drop(server);
    let (done, said) = migrate(&folder, &url);
    assert!(!done && said.contains("differs in the table"), "{said}");
}
