//! Attacks that take more than one request. Each test names the rows of the list that it checks.

use crate::support::{Got, PASSWORD, SHOP, Server, World, raw, text, worlds};
use flowyte_core::CredentialKind;
use flowyte_store::Sqlite;
use serde_json::{Value, json};
use std::sync::Barrier;
use std::thread::sleep;
use std::time::Duration;

fn answer(got: &Got) -> (u16, String) {
    (got.status, got.code())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Writes to the database behind a server that does not run.
fn behind_its_back(server: &mut Server, sql: &[&'static str]) {
    server.kill();
    let file = server.folder.join("flowyte.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(&file, flowyte::GUESTS).await.unwrap();
        for statement in sql {
            let mut tx = store.batch().await.unwrap();
            tx.exec(statement, vec![]).await.unwrap();
            tx.commit().await.unwrap();
        }
        store.close().await;
    });
    server.kill_and_restart();
}

/// Rows: LC-01 LC-09 LC-10 LC-13 LC-14 LC-22 LC-06 SC-17.
#[test]
fn a_key_through_its_life() {
    for world in worlds(&[]) {
        let server = &world.server;
        let owner = &world.owner;
        let whoami = |secret: &str| answer(&server.as_key(secret, "GET", "/api/v1/whoami", None));
        let fine = (200, String::new());
        let revoked = refused(401, "credential_revoked");
        let expired = refused(401, "credential_expired");
        let mint =
            |name: &str| server.mint(owner, json!({"name": name, "scopes": ["agents:read", "agents:write"]}));
        let act = |method: &str, path: &str, body: Value| {
            server.as_member(owner, method, &format!("/api/v1/api-keys/{path}"), Some(&body))
        };

        // Rotation: both through the grace, the old one not after it was cut short; a second rotation ends the oldest.
        let (id, first) = mint("rotated");
        let second =
            text(&act("POST", &format!("{id}/rotate"), json!({"graceSeconds": 3600})).data()["secret"]);
        assert_eq!((whoami(&first), whoami(&second)), (fine.clone(), fine.clone()));
        let third =
            text(&act("POST", &format!("{id}/rotate"), json!({"graceSeconds": 3600})).data()["secret"]);
        assert_eq!(
            (whoami(&first), whoami(&second), whoami(&third)),
            (expired.clone(), fine.clone(), fine.clone())
        );
        let longer = act("PATCH", &id, json!({"graceEndsAt": "2099-01-01T00:00:00Z"}));
        assert_eq!(answer(&longer), refused(409, "conflict"));
        act("PATCH", &id, json!({"graceEndsAt": "2020-01-01T00:00:00Z"})).data();
        assert_eq!((whoami(&second), whoami(&third)), (expired.clone(), fine.clone()));
        let fourth = text(&act("POST", &format!("{id}/rotate"), json!({"graceSeconds": 0})).data()["secret"]);
        assert_eq!((whoami(&third), whoami(&fourth)), (expired.clone(), fine.clone()));

        // Narrowed while it is used.
        assert_eq!(server.as_key(&fourth, "POST", "/api/v1/agents", Some(&json!({"name": "x"}))).status, 201);
        act("PATCH", &id, json!({"scopes": ["agents:read"]})).data();
        let narrowed = server.as_key(&fourth, "POST", "/api/v1/agents", Some(&json!({"name": "x"})));
        assert_eq!(answer(&narrowed), refused(403, "insufficient_scope"));

        // Revoked: at once, every secret, again the same; nothing brings it back.
        let gone = act("DELETE", &id, Value::Null).data();
        assert_eq!((whoami(&fourth), whoami(&third)), (revoked.clone(), revoked.clone()));
        let again = act("DELETE", &id, Value::Null).data();
        assert_eq!((&gone["revokedAt"], again["status"].as_str()), (&again["revokedAt"], Some("revoked")));
        for (method, path, body) in
            [("POST", format!("{id}/rotate"), json!({})), ("PATCH", id.clone(), json!({"name": "back"}))]
        {
            assert_eq!(answer(&act(method, &path, body)), refused(409, "conflict"));
        }

        // Expiry.
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(300);
        let (short, old) = server
            .mint(owner, json!({"name": "short", "scopes": ["agents:read"], "expiresAt": soon.to_string()}));
        while whoami(&old) == fine {
            sleep(Duration::from_millis(20));
        }
        assert_eq!(whoami(&old), expired);
        assert_eq!(answer(&act("POST", &format!("{short}/rotate"), json!({}))), refused(409, "conflict"));
    }
}

/// Rows: LC-07 SC-02 SC-04 SE-16 SE-20 KF-13.
#[test]
fn rows_that_say_nothing_sensible_grant_nothing() {
    let mut world = World::new(&[]);
    let (_, zero) = world.server.mint(&world.owner, json!({"name": "zero", "scopes": ["agents:read"]}));
    let (_, negative) =
        world.server.mint(&world.owner, json!({"name": "negative", "scopes": ["agents:read"]}));
    let (_, empty) = world.server.mint(&world.owner, json!({"name": "empty", "scopes": ["agents:read"]}));
    let (_, unknown) = world.server.mint(&world.owner, json!({"name": "unknown", "scopes": ["agents:read"]}));
    let (_, restrictions) =
        world.server.mint(&world.owner, json!({"name": "restrictions", "scopes": ["agents:read"]}));
    behind_its_back(
        &mut world.server,
        &[
            "UPDATE secret_keys SET expires_at = 0 WHERE name = 'zero'",
            "UPDATE secret_keys SET expires_at = -5 WHERE name = 'negative'",
            "UPDATE secret_keys SET scopes = '[]' WHERE name = 'empty'",
            "UPDATE secret_keys SET scopes = '[\"nothing:read\", \"*\"]' WHERE name = 'unknown'",
            "UPDATE secret_keys SET allowed_addresses = '[\"nonsense\"]' WHERE name = 'restrictions'",
            "UPDATE sessions SET last_seen_at = last_seen_at - 86400000000 WHERE user_id IN (SELECT id FROM users WHERE email = 'viewer@alpha.example')",
            "UPDATE sessions SET expires_at = created_at + 1000 WHERE user_id IN (SELECT id FROM users WHERE email = 'developer@alpha.example')",
            "UPDATE sessions SET signed_in_at = signed_in_at - 46800000000 WHERE user_id IN (SELECT id FROM users WHERE email = 'ada@alpha.example')",
        ],
    );
    let server = &world.server;
    let get = |secret: &str| answer(&server.as_key(secret, "GET", "/api/v1/agents", None));
    assert_eq!(get(&zero), refused(401, "credential_expired"));
    assert_eq!(get(&negative), refused(401, "credential_expired"));
    assert_eq!(get(&empty), refused(403, "insufficient_scope"));
    assert_eq!(get(&unknown), refused(403, "insufficient_scope"));
    assert_eq!(get(&restrictions), refused(401, "credential_revoked"));
    let session = |cookie: &str| answer(&server.as_member(cookie, "GET", "/api/v1/auth/session", None));
    assert_eq!(session(&world.viewer), refused(401, "credential_expired"), "idle");
    assert_eq!(session(&world.developer), refused(401, "credential_expired"), "absolute");
    assert_eq!(session(&world.owner).0, 200);
    let old = server.as_member(
        &world.owner,
        "POST",
        "/api/v1/api-keys",
        Some(&json!({"name": "x", "scopes": ["agents:read"]})),
    );
    assert_eq!(answer(&old), refused(403, "reauthentication_required"));

    // What the database holds of a key is no key.
    let file = server.folder.join("flowyte.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let digest: [u8; 32] = runtime.block_on(async {
        let store = Sqlite::open(&file, flowyte::GUESTS).await.unwrap();
        let mut tx = store.read().await.unwrap();
        tx.one("SELECT digest FROM secrets LIMIT 1", vec![]).await.unwrap().bytes("digest").unwrap()
    });
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(digest);
    let body: String = hex.chars().take(36).collect();
    for stolen in [hex, base64, format!("flowyte_sk_live_{body}")] {
        assert_eq!(get(&stolen), refused(401, "invalid_credential"));
    }
}

/// A row that was damaged on the disk opens nothing, says so in the log, and takes nobody else along.
///
/// Rows: ST-24.
#[test]
fn a_damaged_row_is_refused_and_the_others_are_not() {
    let mut world = World::new(&[]);
    let mint =
        |name: &str| world.server.mint(&world.owner, json!({"name": name, "scopes": ["agents:read"]})).1;
    let (flipped, short, unreadable, fine) =
        (mint("flipped"), mint("short"), mint("unreadable"), mint("fine"));
    behind_its_back(
        &mut world.server,
        &[
            "UPDATE secrets SET digest = CAST(CASE WHEN substr(digest, 1, 1) = x'00' THEN x'01' ELSE x'00' END || substr(digest, 2) AS BLOB) WHERE key_id = (SELECT id FROM secret_keys WHERE name = 'flipped')",
            "UPDATE secrets SET digest = substr(digest, 1, 31) WHERE key_id = (SELECT id FROM secret_keys WHERE name = 'short')",
            "UPDATE secret_keys SET scopes = substr(scopes, 2) WHERE name = 'unreadable'",
            "UPDATE publishable_keys SET allowed_origins = 'x' WHERE organization_id = (SELECT id FROM organizations WHERE name = 'Alpha')",
        ],
    );
    let get = |secret: &str| answer(&world.server.as_key(secret, "GET", "/api/v1/agents", None));
    for damaged in [&flipped, &short, &unreadable] {
        assert_eq!(get(damaged), refused(401, "invalid_credential"));
    }
    let page = world.server.as_widget(&world.pk, "GET", "/api/v1/widget/bootstrap", None);
    assert_eq!(answer(&page), refused(401, "invalid_credential"));
    assert_eq!((get(&fine).0, get(&world.other_all).0), (200, 200));
    let said = world.server.output.lock().unwrap().clone();
    for table in ["secrets", "secret_keys", "publishable_keys"] {
        let line = said
            .lines()
            .find(|it| it.contains("a row is damaged") && it.contains(&format!("table=\"{table}\"")));
        assert!(line.is_some_and(|it| it.contains("ERROR")), "{table}: {said}");
    }
}

/// Whoever may not sign in any more gets in nowhere: no session goes on, and nothing makes another one.
///
/// Rows: LC-18.
#[test]
fn no_way_in_forgets_that_somebody_is_disabled() {
    let mut world = World::new(&[]);
    let (grace, password) = ("admin@alpha.example", PASSWORD);
    let invite = |cookie: &str, email: &str| {
        let body = json!({"email": email, "role": "viewer"});
        text(&world.server.as_member(cookie, "POST", "/api/v1/invites", Some(&body)).data()["token"])
    };
    let (theirs, of_theirs) = (invite(&world.other_owner, grace), invite(&world.admin, "late@x.example"));
    let members = world.server.as_member(&world.owner, "GET", "/api/v1/members", None).data();
    let id = text(&members.as_array().unwrap().iter().find(|it| it["email"] == grace).unwrap()["id"]);
    let link = format!("/api/v1/members/{id}/recovery-link");
    let recovery = text(&world.server.as_member(&world.owner, "POST", &link, None).data()["token"]);
    behind_its_back(
        &mut world.server,
        &["UPDATE users SET disabled = 1 WHERE email = 'admin@alpha.example'"],
    );
    let server = &world.server;
    let ended = refused(401, "credential_revoked");
    let rotate = format!("/api/v1/api-keys/{}/rotate", world.key_id);
    for (method, path, body) in [
        ("GET", "/api/v1/auth/session", None),
        ("POST", "/api/v1/api-keys", Some(json!({"name": "x", "scopes": ["agents:read"]}))),
        ("POST", rotate.as_str(), Some(json!({}))),
        ("POST", "/api/v1/auth/session/organization", Some(json!({"organizationId": world.organization}))),
        ("POST", "/api/v1/organizations", Some(json!({"name": "Elsewhere"}))),
    ] {
        assert_eq!(answer(&server.as_member(&world.admin, method, path, body.as_ref())), ended, "{path}");
    }
    assert_eq!(answer(&server.log_in(grace, password)), refused(401, "login_failed"));
    let recover = |token: &str| {
        let body = json!({"token": token, "password": "copper-lantern-vivid-19"});
        answer(&server.send("POST", "/api/v1/auth/recovery", &[], Some(&body)))
    };
    assert_eq!(recover(&recovery), refused(404, "not_found"));
    let later = server.as_member(&world.owner, "POST", &link, None);
    if later.status < 300 {
        assert_eq!(recover(&text(&later.data()["token"])), refused(404, "not_found"));
    }
    let accept = |token: &str, body: Value| {
        let mut body = body;
        body["token"] = token.into();
        answer(&server.send("POST", "/api/v1/auth/invites/accept", &[], Some(&body)))
    };
    assert_eq!(accept(&theirs, json!({"password": password})), refused(401, "login_failed"));
    assert_eq!(accept(&theirs, json!({"password": password, "name": "Grace"})), refused(409, "conflict"));
    let stranger = json!({"password": "copper-lantern-vivid-20", "name": "Late"});
    assert_eq!(accept(&of_theirs, stranger), refused(404, "not_found"), "an invite that they made");
    // What they made for others goes on, and so do the others.
    assert_eq!(server.as_key(&world.key, "GET", "/api/v1/agents", None).status, 200);
    assert_eq!(server.as_member(&world.viewer, "GET", "/api/v1/auth/session", None).status, 200);
}

/// Rows: LC-19.
#[test]
fn a_deleted_agent_leaves_its_keys_with_nothing() {
    for world in worlds(&[]) {
        let server = &world.server;
        assert_eq!(
            server.as_key(&world.all, "DELETE", &format!("/api/v1/agents/{}", world.agent), None).status,
            200
        );
        let gone = refused(404, "not_found");
        assert_eq!(answer(&server.as_widget(&world.pk, "GET", "/api/v1/widget/bootstrap", None)), gone);
        assert_eq!(answer(&server.as_widget(&world.pk, "POST", "/api/v1/chat/widget/sessions", None)), gone);
        let said = server.as_widget(
            &world.visitor,
            "POST",
            "/api/v1/chat/widget/messages",
            Some(&json!({"content": "x"})),
        );
        assert_eq!(answer(&said), gone);
        assert_eq!(
            answer(&server.as_key(
                &world.all,
                "GET",
                &format!("/api/v1/agents/{}/publishable-keys", world.agent),
                None
            )),
            gone
        );
    }
}

/// Rows: LC-24.
#[test]
fn a_key_works_while_its_use_can_not_be_written() {
    let world = World::new(&[]);
    let file = world.server.folder.join("flowyte.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(&file, flowyte::GUESTS).await.unwrap();
        let writer = store.security().await.unwrap(); // Nobody else writes while this is open.
        for _ in 0..20 {
            assert_eq!(world.server.as_key(&world.key, "GET", "/api/v1/whoami", None).status, 200);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(writer);
    });
}

/// Rows: TX-04 TX-06 TX-11 TX-17 TX-26.
#[test]
fn nothing_leads_into_another_organization() {
    for world in worlds(&[]) {
        let server = &world.server;
        let rollback = |version: &str| {
            let path = format!("/api/v1/agents/{}/rollback", world.agent);
            answer(&server.as_key(&world.all, "POST", &path, Some(&json!({"versionId": version}))))
        };
        assert_eq!(rollback(&world.other_version), refused(404, "not_found"));
        assert_eq!(rollback("ver_01938f2c5a007b3e8d41000000000fff"), refused(404, "not_found"));
        let key_in_path = format!("/api/v1/agents/{}/publishable-keys/{}", world.agent, world.other_pk_id);
        assert_eq!(
            answer(&server.as_key(&world.all, "DELETE", &key_in_path, None)),
            refused(404, "not_found")
        );
        let log_in = json!({"email": "ada@alpha.example", "password": PASSWORD, "organizationId": world.other_organization});
        assert_eq!(
            answer(&server.send("POST", "/api/v1/auth/login", &[], Some(&log_in))),
            refused(404, "not_found")
        );

        // One organization's use is not another's.
        for _ in 0..50 {
            server.as_key(&world.key, "GET", "/api/v1/agents", None).data();
        }
        let left =
            server.as_key(&world.other_all, "GET", "/api/v1/whoami", None).data()["rateLimit"]["remaining"]
                .as_u64()
                .unwrap();
        assert!(left > 59_990, "{left}");

        // A repeated request is known by who repeats it, not by the secret they repeat it with.
        let (id, first) = server.mint(&world.owner, json!({"name": "repeats", "scopes": ["agents:write"]}));
        let create = |secret: &str| {
            let headers =
                [format!("Authorization: Bearer {secret}"), "Idempotency-Key: the-same-one-twice".to_owned()];
            server
                .send("POST", "/api/v1/agents", &[&headers[0], &headers[1]], Some(&json!({"name": "Once"})))
                .data()
        };
        let once = create(&first);
        let rotated = server.as_member(
            &world.owner,
            "POST",
            &format!("/api/v1/api-keys/{id}/rotate"),
            Some(&json!({})),
        );
        assert_eq!(create(&text(&rotated.data()["secret"])), once);

        // Secondary surfaces and pages of a list.
        let audit =
            server.as_member(&world.owner, "GET", "/api/v1/audit-events?limit=100", None).data().to_string();
        for theirs in [&world.other_organization, &world.other_agent, &world.other_key_id, &world.other_pk_id]
        {
            assert!(!audit.contains(theirs.as_str()));
        }
        for n in 0..5 {
            server
                .as_key(&world.all, "POST", "/api/v1/agents", Some(&json!({"name": format!("a{n}")})))
                .data();
        }
        let page = server.as_key(&world.all, "GET", "/api/v1/agents?limit=2", None).json();
        let cursor = text(&page["pagination"]["nextCursor"]);
        server
            .as_key(&world.all, "DELETE", &format!("/api/v1/agents/{}", text(&page["data"][1]["id"])), None)
            .data();
        let next =
            server.as_key(&world.all, "GET", &format!("/api/v1/agents?limit=2&cursor={cursor}"), None).data();
        assert_eq!(next.as_array().unwrap().len(), 2);
        assert!(
            next.as_array().unwrap().iter().all(|it| it["organizationId"] == world.organization.as_str())
        );
        for (key, path) in [(&world.other_all, "agents?limit=2"), (&world.all, "numbers?limit=2")] {
            let foreign = server.as_key(key, "GET", &format!("/api/v1/{path}&cursor={cursor}"), None);
            assert_eq!(answer(&foreign), refused(400, "validation_error"), "{path}");
        }
    }
}

/// Rows: TX-20 TX-21 TX-23 TX-25 SE-17 SE-35 MI-06 MI-22.
#[test]
fn members_come_and_go() {
    for world in worlds(&[]) {
        let server = &world.server;
        let switch = |cookie: &str, to: &str| {
            server.as_member(
                cookie,
                "POST",
                "/api/v1/auth/session/organization",
                Some(&json!({"organizationId": to})),
            )
        };
        assert_eq!(answer(&switch(&world.owner, &world.other_organization)), refused(404, "not_found"));
        let second = server
            .as_member(&world.owner, "POST", "/api/v1/organizations", Some(&json!({"name": "Second"})))
            .data();
        let switched = switch(&world.owner, &text(&second["id"]));
        let there = switched.cookie();
        assert_eq!(switched.data()["organization"]["name"], "Second");
        let stale = server.as_member(&world.owner, "GET", "/api/v1/auth/session", None);
        assert_eq!(answer(&stale), refused(401, "credential_revoked"));
        let path = format!("/api/v1/agents/{}", world.agent);
        let saved = server.as_member(&there, "PATCH", &path, Some(&json!({"name": "stale tab"})));
        assert_eq!(answer(&saved), refused(404, "not_found"));
        let owner = switch(&there, &world.organization).cookie();

        // The last owner stays; only owners make owners.
        let members = server.as_member(&owner, "GET", "/api/v1/members", None).data();
        let member = |email: &str| {
            let found = members.as_array().unwrap().iter().find(|it| it["email"] == email);
            text(&found.unwrap_or_else(|| panic!("{email}"))["id"])
        };
        let set_role = |cookie: &str, who: &str, role: &str| {
            server.as_member(
                cookie,
                "PATCH",
                &format!("/api/v1/members/{}", member(who)),
                Some(&json!({"role": role})),
            )
        };
        assert_eq!(answer(&set_role(&owner, "ada@alpha.example", "admin")), refused(409, "conflict"));
        let remove = |cookie: &str, who: &str| {
            server.as_member(cookie, "DELETE", &format!("/api/v1/members/{}", member(who)), None)
        };
        assert_eq!(answer(&remove(&owner, "ada@alpha.example")), refused(409, "conflict"));
        for role in ["owner", "viewer"] {
            let who = if role == "owner" { "viewer@alpha.example" } else { "ada@alpha.example" };
            assert_eq!(answer(&set_role(&world.admin, who, role)), refused(403, "scope_not_grantable"));
        }
        let invite = |cookie: &str, role: &str| {
            server.as_member(
                cookie,
                "POST",
                "/api/v1/invites",
                Some(&json!({"email": "new@alpha.example", "role": role})),
            )
        };
        assert_eq!(answer(&invite(&world.admin, "owner")), refused(403, "scope_not_grantable"));

        // A lower role at the very next request; what was minted before stays and says by whom.
        let (key_id, key) =
            server.mint(&world.developer, json!({"name": "theirs", "scopes": ["agents:read"]}));
        set_role(&owner, "developer@alpha.example", "viewer").data();
        let body = json!({"name": "x", "scopes": ["agents:read"]});
        let demoted = server.as_member(&world.developer, "POST", "/api/v1/api-keys", Some(&body));
        assert_eq!(answer(&demoted), refused(403, "insufficient_scope"));
        remove(&owner, "developer@alpha.example").data();
        let removed = server.as_member(&world.developer, "GET", "/api/v1/auth/session", None);
        assert_eq!(answer(&removed), refused(401, "credential_revoked"));
        assert_eq!(server.as_key(&key, "GET", "/api/v1/whoami", None).status, 200);
        let listed = server.as_member(&owner, "GET", &format!("/api/v1/api-keys/{key_id}"), None).data();
        assert_eq!(listed["createdBy"]["name"], "Grace");

        // Invites: once, by the one who is meant, not after withdrawal.
        let accept = |body: Value| server.send("POST", "/api/v1/auth/invites/accept", &[], Some(&body));
        let invited = invite(&owner, "viewer").data();
        let body = json!({"token": invited["token"], "name": "New", "password": PASSWORD});
        assert_eq!(answer(&accept(json!({"token": invited["token"]}))), refused(400, "validation_error"));
        assert_eq!(accept(body.clone()).status, 201);
        assert_eq!(answer(&accept(body)), refused(404, "not_found"));
        let withdrawn = invite(&owner, "viewer");
        assert_eq!(answer(&withdrawn), refused(409, "conflict"), "a member already");
        let withdrawn = server
            .as_member(
                &owner,
                "POST",
                "/api/v1/invites",
                Some(&json!({"email": "late@alpha.example", "role": "viewer"})),
            )
            .data();
        server
            .as_member(&owner, "DELETE", &format!("/api/v1/invites/{}", text(&withdrawn["id"])), None)
            .data();
        let body = json!({"token": withdrawn["token"], "name": "Late", "password": PASSWORD});
        assert_eq!(answer(&accept(body)), refused(404, "not_found"));
        // Somebody who has an account proves it with their own password, wherever else they are a member.
        let known = server
            .as_member(
                &owner,
                "POST",
                "/api/v1/invites",
                Some(&json!({"email": "bob@beta.example", "role": "viewer"})),
            )
            .data();
        let with = |password: &str| accept(json!({"token": known["token"], "password": password}));
        assert_eq!(answer(&with("not-the-password-of-bob")), refused(401, "login_failed"));
        assert_eq!(with(PASSWORD).data()["organizations"].as_array().unwrap().len(), 2);
    }
}

/// Rows: SE-01 SE-02 SE-03 SE-13 SE-14 SE-18 SE-28 SE-29.
#[test]
fn sessions_begin_and_end() {
    for world in worlds(&[]) {
        let server = &world.server;
        let log_in = |cookie: &str, email: &str| {
            let body = json!({"email": email, "password": PASSWORD});
            server.send("POST", "/api/v1/auth/login", &[&format!("Cookie: {cookie}")], Some(&body))
        };
        let session = |cookie: &str| server.as_member(cookie, "GET", "/api/v1/auth/session", None);
        // What a cookie held before is not what it holds after, and whose it was is not changed.
        let fixed = log_in(&world.viewer, "ada@alpha.example");
        assert_ne!(fixed.cookie(), world.viewer);
        assert_eq!(session(&world.viewer).data()["user"]["email"], "viewer@alpha.example");
        assert_eq!(session(&fixed.cookie()).data()["user"]["email"], "ada@alpha.example");
        let attributes: Vec<&str> = fixed.header("set-cookie").unwrap().split("; ").skip(1).collect();
        assert_eq!(attributes, ["Max-Age=2592000", "Path=/", "HttpOnly", "SameSite=Strict"]);

        // Reading changes nothing.
        let head =
            || server.as_member(&world.owner, "GET", "/api/v1/audit-events/verify?full=true", None).data();
        let before = head();
        for path in [
            "auth/session",
            "auth/sessions",
            "api-keys",
            "agents",
            "members",
            "invites",
            "organization",
            "audit-events",
        ] {
            for method in ["GET", "HEAD"] {
                assert_eq!(
                    server.as_member(&world.owner, method, &format!("/api/v1/{path}"), None).status,
                    200,
                    "{path}"
                );
            }
        }
        assert_eq!(head(), before);

        // Signing out ends it here, whatever the browser keeps; pages are not cached.
        let out = server.as_member(&fixed.cookie(), "POST", "/api/v1/auth/logout", None);
        assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
        assert_eq!(answer(&session(&fixed.cookie())), refused(401, "credential_revoked"));
        assert_eq!(session(&world.owner).header("cache-control"), Some("no-store"));

        // A new password ends every other session.
        let change = |cookie: &str, new: &str| {
            let body = json!({"currentPassword": PASSWORD, "newPassword": new});
            server.as_member(cookie, "POST", "/api/v1/auth/password", Some(&body))
        };
        for weak in ["passwordpassword", "flowyteflowyte1", "viewer@alpha.example"] {
            assert_eq!(answer(&change(&world.viewer, weak)), refused(400, "validation_error"), "{weak}");
        }
        let elsewhere = log_in("", "viewer@alpha.example").cookie();
        let changed = change(&world.viewer, "copper-lantern-vivid-19");
        for ended in [&elsewhere, &world.viewer] {
            assert_eq!(answer(&session(ended)), refused(401, "credential_revoked"));
        }
        assert_eq!(session(&changed.cookie()).status, 200);

        // Whoever can't sign in gets one answer, whatever the reason.
        let bare = |got: Got| {
            let mut document = got.json();
            document["requestId"] = Value::Null;
            let headers: Vec<_> = got
                .headers
                .into_iter()
                .filter(|(name, _)| name != "x-request-id" && name != "date")
                .collect();
            (got.status, headers, document)
        };
        let unknown = bare(server.log_in("nobody@alpha.example", "mountain-kettle-orbit-72"));
        assert_eq!(unknown, bare(server.log_in("viewer@alpha.example", PASSWORD)), "wrong password");
        assert_eq!((unknown.0, unknown.2["code"].as_str()), (401, Some("login_failed")));
        // Nor does it tell that there were too many, known or not.
        for _ in 0..10 {
            server.log_in("admin@alpha.example", "mountain-kettle-orbit-72");
            server.log_in("nobody@alpha.example", "mountain-kettle-orbit-72");
        }
        for email in ["admin@alpha.example", "nobody@alpha.example"] {
            let throttled = server.log_in(email, PASSWORD);
            assert_eq!(answer(&throttled), refused(429, "rate_limited"), "{email}");
            let wait: u32 = throttled.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=90).contains(&wait), "{wait}");
        }
    }
}

/// Rows: SE-19.
#[test]
fn a_person_has_so_many_sessions_and_the_oldest_ends() {
    let server = Server::start(&[]);
    let first = server.set_up("ada@alpha.example");
    for _ in 0..50 {
        assert_eq!(server.log_in("ada@alpha.example", PASSWORD).status, 200);
    }
    let newest = server.log_in("ada@alpha.example", PASSWORD).cookie();
    let old = server.as_member(&first, "GET", "/api/v1/auth/session", None);
    assert_eq!(answer(&old), refused(401, "credential_revoked"));
    let open = server.as_member(&newest, "GET", "/api/v1/auth/sessions?limit=100", None).data();
    assert_eq!(open.as_array().unwrap().len(), 50);
    assert_eq!(open.as_array().unwrap().iter().filter(|it| it["current"] == true).count(), 1);
}

/// Rows: MI-02 MI-09 MI-10 MI-13 MI-16 MI-17.
#[test]
fn minting_in_every_wrong_way() {
    for world in worlds(&[("KEYS_PER_ORGANIZATION", "60")]) {
        let server = &world.server;
        let mint = |cookie: &str, key: Option<&str>, body: &Value| {
            let mut headers = vec![format!("Cookie: {cookie}"), "Sec-Fetch-Site: same-origin".to_owned()];
            headers.extend(key.map(|key| format!("Idempotency-Key: {key}")));
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            server.send("POST", "/api/v1/api-keys", &headers, Some(body))
        };
        // Nobody grants what they do not hold, on any path.
        let wide = json!({"name": "wide", "scopes": ["billing:write"]});
        assert_eq!(answer(&mint(&world.developer, None, &wide)), refused(403, "scope_not_grantable"));
        let patch = |cookie: &str, id: &str, body: Value| {
            server.as_member(cookie, "PATCH", &format!("/api/v1/api-keys/{id}"), Some(&body))
        };
        let widened =
            patch(&world.developer, &world.key_id, json!({"scopes": ["agents:read", "billing:write"]}));
        assert_eq!(answer(&widened), refused(403, "scope_not_grantable"));
        let rotated = server.as_member(
            &world.developer,
            "POST",
            &format!("/api/v1/api-keys/{}/rotate", world.all_id),
            Some(&json!({})),
        );
        assert_eq!(answer(&rotated), refused(403, "scope_not_grantable"));

        // One Idempotency-Key: one key, however many ask at once; another request under it is refused.
        let body = json!({"name": "once", "scopes": ["agents:read"]});
        let barrier = Barrier::new(32);
        let answers: Vec<Got> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..32)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        mint(&world.owner, Some("one-key-for-all-of-them"), &body)
                    })
                })
                .collect();
            all.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|it| it.status == 201 && it.body == answers[0].body), "{answers:?}");
        assert_eq!(answers[0].data()["secret"].as_str().map(str::len), Some(52));
        let other = json!({"name": "twice", "scopes": ["agents:read"]});
        assert_eq!(
            answer(&mint(&world.owner, Some("one-key-for-all-of-them"), &other)),
            refused(409, "idempotency_key_reused")
        );
        for wrong in ["short", &"x".repeat(256), "has a space in the middle"] {
            assert_eq!(answer(&mint(&world.owner, Some(wrong), &body)), refused(400, "validation_error"));
        }

        // Shown once: no other answer carries it.
        let secret = text(&answers[0].data()["secret"]);
        for path in [
            "api-keys?limit=100".to_owned(),
            format!("api-keys/{}", text(&answers[0].data()["id"])),
            "audit-events?limit=100".to_owned(),
        ] {
            let got = server.as_member(&world.owner, "GET", &format!("/api/v1/{path}"), None);
            assert!(got.status == 200 && !got.body.contains(&secret), "{path}");
        }

        // A client that goes away leaves a key or none, and no lock.
        let text = body.to_string();
        let request = format!(
            "POST /api/v1/api-keys HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {}\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            server.port,
            world.owner,
            text.len()
        );
        for _ in 0..5 {
            use std::io::Write;
            std::net::TcpStream::connect(("127.0.0.1", server.port))
                .unwrap()
                .write_all(request.as_bytes())
                .unwrap();
        }

        // So many keys and no more, whoever is first; and the chain of what happened has no gap and no fork.
        let results: Vec<u16> = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..64).map(|_| scope.spawn(|| mint(&world.owner, None, &body).status)).collect();
            all.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(results.iter().all(|status| matches!(status, 201 | 409)), "{results:?}");
        sleep(Duration::from_millis(300));
        let active = server.as_member(&world.owner, "GET", "/api/v1/api-keys?limit=100", None).data();
        assert_eq!(active.as_array().unwrap().len(), 60);
        assert_eq!(answer(&mint(&world.owner, None, &body)), refused(409, "conflict"));
        assert_eq!(
            server.as_member(&world.owner, "GET", "/api/v1/audit-events/verify", None).data()["intact"],
            true
        );
    }
}

/// Rows: PK-16 PK-17 PK-18 PK-19 PK-20 PK-25 PK-33.
#[test]
fn browsers_are_told_what_they_may_read() {
    for world in worlds(&[]) {
        let server = &world.server;
        let preflight = |path: &str, origin: &str, method: &str| {
            let origin = format!("Origin: {origin}");
            let method = format!("Access-Control-Request-Method: {method}");
            let headers = [
                &origin,
                &method,
                "Access-Control-Request-Headers: authorization",
                "Access-Control-Request-Private-Network: true",
            ];
            server.send("OPTIONS", path, &headers, None)
        };
        let allowed = preflight("/api/v1/chat/widget/messages", SHOP, "POST");
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, Some(SHOP)));
        assert_eq!(allowed.header("access-control-allow-methods"), Some("POST"));
        assert_eq!(allowed.header("access-control-max-age"), Some("600"));
        assert!(allowed.header("access-control-allow-headers").unwrap().contains("authorization"));
        assert_eq!(allowed.header("access-control-allow-private-network"), None);
        let bare = |got: Got| {
            let headers: Vec<_> = got
                .headers
                .into_iter()
                .filter(|(name, _)| name != "x-request-id" && name != "date")
                .collect();
            (got.status, headers)
        };
        let nothing = bare(preflight("/api/v1/chat/widget/messages", "https://evil.example", "POST"));
        assert!(nothing.1.iter().all(|(name, _)| !name.starts_with("access-control")), "{nothing:?}");
        for (path, origin, method) in [
            ("/api/v1/nothing", SHOP, "POST"),
            ("/api/v1/agents", SHOP, "GET"),
            ("/api/v1/chat/widget/messages", SHOP, "DELETE"),
            ("/api/v1/widget/bootstrap", "null", "GET"),
        ] {
            assert_eq!(bare(preflight(path, origin, method)), nothing, "{path} {origin} {method}");
        }

        // No answer on any route names a hostile origin, whoever asks.
        let api = flowyte_contract::compile_all(&[
            include_str!("../../../../contracts/plane.yaml"),
            include_str!("../../../../contracts/product.yaml"),
        ])
        .ok()
        .unwrap();
        let credentials = [
            String::new(),
            format!("Authorization: Bearer {}", world.all),
            format!("Cookie: {}", world.viewer),
            format!("Authorization: Bearer {}", world.pk),
        ];
        for operation in api.contract.operations() {
            let path = operation.template.replace(['{', '}'], "x");
            for credential in &credentials {
                let mut headers = vec!["Origin: https://evil.example"];
                headers.extend((!credential.is_empty()).then_some(credential.as_str()));
                let got = server.send(&operation.method, &path, &headers, None);
                got.check_invariants(&operation.id);
                assert_eq!(
                    got.header("access-control-allow-origin"),
                    None,
                    "{} {}",
                    operation.id,
                    got.status
                );
            }
        }

        // A page that may talk to us may also read why not; a forged origin outside a browser meets the limits.
        let wrong =
            server.as_widget(&world.pk, "POST", "/api/v1/chat/widget/sessions", Some(&json!({"nothing": 1})));
        assert_eq!((wrong.status, wrong.header("access-control-allow-origin")), (400, Some(SHOP)));
        let path = format!("/api/v1/agents/{}/publishable-keys/{}", world.agent, world.pk_id);
        let changed = server.as_key(&world.all, "PATCH", &path, Some(&json!({"rateLimitRpm": 3}))).data();
        let statuses: Vec<u16> = (0..5)
            .map(|_| server.as_widget(&world.pk, "GET", "/api/v1/widget/bootstrap", None).status)
            .collect();
        assert_eq!(statuses, [200, 200, 200, 429, 429]);
        let limited = server.as_widget(&world.pk, "GET", "/api/v1/widget/bootstrap", None);
        assert_eq!(limited.header("access-control-allow-origin"), Some(SHOP));
        assert!(limited.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
        assert_eq!(limited.header("ratelimit-policy"), Some("\"default\";q=3;w=60"));
        // Revoking it ends its visitors too.
        let revoked = server.as_key(&world.all, "DELETE", &path, None).data();
        assert_eq!((&revoked["id"], &revoked["status"]), (&json!(world.pk_id), &json!("revoked")));
        assert!(revoked["revision"].as_i64() > changed["revision"].as_i64(), "{changed} {revoked}");
        assert!([&changed, &revoked].iter().all(|it| it["effective"]["nodes"] == 1), "{changed} {revoked}");
        for credential in [&world.pk, &world.visitor] {
            let got = server.as_widget(credential, "GET", "/api/v1/chat/widget/messages", None);
            assert_eq!(answer(&got), refused(401, "credential_revoked"));
        }
    }
}

/// Rows: VI-01 VI-02 VI-04 VI-06.
#[test]
fn visitors_who_must_be_identified_are() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    for world in worlds(&[]) {
        let server = &world.server;
        let path = format!("/api/v1/agents/{}/publishable-keys", world.agent);
        let body = json!({"name": "known", "env": "live", "allowedOrigins": [SHOP], "requireIdentityVerification": true});
        let key = server.as_key(&world.all, "POST", &path, Some(&body)).data();
        let (pk, secret) = (text(&key["keyPublic"]), text(&key["identitySecret"]));
        let open = |pk: &str, body: Value| {
            answer(&server.as_widget(pk, "POST", "/api/v1/chat/widget/sessions", Some(&body)))
        };
        let now = jiff::Timestamp::now().as_second();
        let sign = |algorithm, claims: Value| {
            encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
        };
        let good = json!({"sub": "visitor", "aud": world.agent, "exp": now + 300});
        assert_eq!(open(&pk, json!({"identityToken": sign(Algorithm::HS256, good.clone())})).0, 201);
        // What a header says of keys chooses nothing: a good signature stays good, another's stays bad.
        let mut misled = Header::new(Algorithm::HS256);
        misled.kid = Some("../../etc/passwd' OR 1=1".into());
        misled.jku = Some("https://evil.example/keys".into());
        misled.x5u = Some("https://evil.example/cert".into());
        let token = |secret: &[u8]| encode(&misled, &good, &EncodingKey::from_secret(secret)).unwrap();
        assert_eq!(open(&pk, json!({"identityToken": token(secret.as_bytes())})).0, 201);
        assert_eq!(open(&pk, json!({"identityToken": token(b"another")})), refused(403, "identity_required"));
        let identity_required = refused(403, "identity_required");
        assert_eq!(open(&pk, json!({})), identity_required);
        assert_eq!(
            open(&pk, json!({"identityToken": sign(Algorithm::HS512, good.clone())})),
            identity_required
        );
        assert_eq!(
            open(
                &pk,
                json!({"identityToken": sign(Algorithm::HS256, json!({"sub": "visitor", "aud": world.other_agent, "exp": now + 300}))})
            ),
            identity_required
        );
        assert_eq!(
            open(
                &pk,
                json!({"identityToken": sign(Algorithm::HS256, json!({"sub": "visitor", "aud": world.agent, "exp": now + 3600}))})
            ),
            identity_required
        );
        assert_eq!(open(&pk, json!({"identityToken": world.visitor})), identity_required);
        // A key that asks for none ignores what it is sent.
        assert_eq!(open(&world.pk, json!({"identityToken": "nonsense"})).0, 201);
        let listed = server.as_key(&world.all, "GET", &path, None).data().to_string();
        assert!(!listed.contains(&secret));
    }
}

/// Rows: VI-10.
#[test]
fn an_address_has_one_form_before_it_is_compared() {
    let world = World::new(&[("TRUSTED_PROXIES", "127.0.0.1/32")]);
    let body = json!({"name": "fenced", "scopes": ["agents:read"], "allowedAddresses": ["10.0.0.0/8", "2001:db8::/32"]});
    let (_, key) = world.server.mint(&world.owner, body);
    let from = |address: &str| {
        let headers = [format!("Authorization: Bearer {key}"), format!("X-Forwarded-For: {address}")];
        answer(&world.server.send("GET", "/api/v1/whoami", &[&headers[0], &headers[1]], None))
    };
    for inside in [
        "10.1.2.3",
        "::ffff:10.1.2.3",
        "::ffff:0a01:0203",
        "2001:db8:0:0::1",
        "2001:0db8::1",
        "192.0.2.1, 10.1.2.3",
    ] {
        assert_eq!(from(inside), (200, String::new()), "{inside}");
    }
    for outside in [
        "11.0.0.1",
        "::ffff:11.0.0.1",
        "2001:db9::1",
        "10.1.2.3, 192.0.2.1",
        "010.1.2.3",
        "10.1.2.3%eth0",
        "nonsense",
    ] {
        assert_eq!(from(outside), refused(403, "address_not_allowed"), "{outside}");
    }
}

/// Rows: KF-12.
#[test]
fn keys_that_were_never_minted_cost_nothing() {
    use flowyte_core::{Brand, Environment};
    use std::io::{Read, Write};
    let world = World::new(&[("LOG_LEVEL", "error")]);
    let memory = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", world.server.id())).unwrap();
        let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", world.server.port)).unwrap();
    let mut ask = |n: u32| {
        let mut indices = [0; 30];
        for (index, byte) in indices.iter_mut().zip(n.to_be_bytes().iter().cycle()) {
            *index = byte % 62;
        }
        let key = Brand::default().format(CredentialKind::SecretKey, Environment::Live, &indices);
        let request = format!(
            "GET /api/v1/whoami HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: Bearer {}\r\n\r\n",
            world.server.port,
            key.expose()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut got = Vec::new();
        let mut chunk = [0; 4096];
        while !got.ends_with(b"}") {
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "closed");
            got.extend_from_slice(&chunk[..read]);
        }
        assert!(got.starts_with(b"HTTP/1.1 401 "), "{}", String::from_utf8_lossy(&got));
    };
    (0..2_000).for_each(&mut ask);
    let before = memory();
    (2_000..20_000).for_each(&mut ask);
    let grown = memory().saturating_sub(before);
    assert!(grown < 4_096, "{grown} KiB more");
}

#[test]
fn a_simulation_speaks_as_the_draft_or_as_what_is_served() {
    for world in worlds(&[]) {
        let server = &world.server;
        let made = json!({"name": "Tried", "greeting": "Good morning!"});
        let agent = server.as_member(&world.owner, "POST", "/api/v1/agents", Some(&made)).data();
        let agent = format!("/api/v1/agents/{}", agent["id"].as_str().unwrap());
        let ask = |body: Value| server.as_key(&world.all, "POST", &format!("{agent}/simulate"), Some(&body));
        let hello = |draft: bool| json!({"mode": "text", "draftMode": draft, "transcript": [{"role": "user", "text": "Hello"}]});
        assert_eq!(ask(hello(false)).code(), "no_published_version");
        server.as_member(&world.owner, "POST", &format!("{agent}/publish"), Some(&json!({}))).data();
        let evening = json!({"greeting": "Good evening!"});
        server.as_member(&world.owner, "PATCH", &agent, Some(&evening)).data();
        let names = |got: &Got| -> Vec<String> {
            got.body.lines().filter_map(|it| it.strip_prefix("event: ")).map(str::to_owned).collect()
        };
        let (draft, live) = (ask(hello(true)), ask(hello(false)));
        assert_eq!(names(&draft).first().map(String::as_str), Some("user_utterance"), "{}", draft.body);
        assert!(names(&draft).contains(&"agent_message".to_owned()), "{}", draft.body);
        assert_eq!(names(&draft).last().map(String::as_str), Some("done"), "{}", draft.body);
        assert!(
            draft.body.contains("Good evening!") && !draft.body.contains("Good morning!"),
            "{}",
            draft.body
        );
        assert!(live.body.contains("Good morning!") && !live.body.contains("Good evening!"), "{}", live.body);
        let silent = json!({"transcript": [{"role": "assistant", "text": "Hello"}]});
        assert_eq!((ask(silent.clone()).status, ask(silent).code().as_str()), (400, "validation_error"));
    }
}

#[test]
fn a_grace_says_who_still_uses_the_old_secret() {
    for world in worlds(&[("trusted_proxies", "127.0.0.1/32")]) {
        let server = &world.server;
        let (id, old) = server.mint(&world.owner, json!({"name": "rotated", "scopes": ["agents:read"]}));
        let usage = |calls| server.usage(&world.owner, &id, calls);
        let ask = |key: &str, path: &str, from: &str| {
            let fields = [format!("Authorization: Bearer {key}"), format!("X-Forwarded-For: {from}")];
            server.send("GET", path, &[&fields[0], &fields[1]], None).status
        };
        assert_eq!(ask(&old, "/api/v1/agents", "203.0.113.6"), 200);
        assert_eq!(usage(1)["oldSecret"], Value::Null, "nothing was rotated");
        let rotated = server
            .as_member(&world.owner, "POST", &format!("/api/v1/api-keys/{id}/rotate"), Some(&json!({})))
            .data();
        let new = rotated["secret"].as_str().unwrap();
        assert_eq!(rotated["secrets"][0]["lastCall"], Value::Null, "nobody has called with it");
        assert_eq!(usage(1)["oldSecret"]["calls"], 0, "what was before the rotation does not count");
        assert_eq!(ask(&old, "/api/v1/agents", "203.0.113.7"), 200);
        assert_eq!(ask(&old, "/api/v1/webhooks", "203.0.113.7"), 403);
        assert_eq!(ask(&old, "/api/v1/agents", "203.0.113.8"), 200);
        assert_eq!(ask(new, "/api/v1/agents", "203.0.113.9"), 200);
        let said = usage(5)["oldSecret"].clone();
        assert_eq!((&said["calls"], &said["addressCount"]), (&json!(3), &json!(2)), "{said}");
        let by = said["addresses"].as_array().unwrap();
        let of = |address: &str| by.iter().find(|it| it["address"] == address).map(|it| it["calls"].clone());
        assert_eq!(
            (of("203.0.113.7"), of("203.0.113.8"), of("203.0.113.9")),
            (Some(json!(2)), Some(json!(1)), None)
        );
        assert_eq!(said["last4"], old[old.len() - 4..]);
        // Each secret has its own last call, allowed or denied.
        let secrets = || {
            let key = server.as_member(&world.owner, "GET", &format!("/api/v1/api-keys/{id}"), None).data();
            let called = |index: usize| key["secrets"][index]["lastCall"].clone();
            (called(0), called(1))
        };
        let (newer, older) = secrets();
        assert_eq!((&newer["operationId"], &newer["outcome"]), (&json!("listAgents"), &json!("allowed")));
        assert_eq!((&older["operationId"], &older["outcome"]), (&json!("listAgents"), &json!("allowed")));
        assert!(older["at"].as_str() < newer["at"].as_str(), "{older} {newer}");
        assert_eq!(ask(&old, "/api/v1/webhooks", "203.0.113.7"), 403);
        usage(6);
        let (after, older) = secrets();
        assert_eq!(after, newer, "a call with the old secret is none with the new one");
        assert_eq!(
            (&older["operationId"], &older["outcome"]),
            (&json!("listWebhooks"), &json!("operation_reserved"))
        );
        server.as_member(&world.owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).data();
        assert_eq!(usage(6)["oldSecret"], Value::Null, "a revoked key has no grace");
    }
}

/// Rows: AU-06 PK-28.
#[test]
fn each_refusal_is_counted_once_for_the_keys_owner() {
    for world in worlds(&[]) {
        let server = &world.server;
        let (id, key) = server
            .mint(&world.owner, json!({"name": "counted", "scopes": ["agents:read"], "rateLimitRpm": 5}));
        let origin = format!("Authorization: Bearer {key}");
        server.send("GET", "/api/v1/agents", &[&origin, "Origin: https://shop.example"], None).data();
        // What a member tries on our own reference page is no accident, and is not told as one.
        let (_, tried) = server.mint(&world.owner, json!({"name": "tried", "scopes": ["agents:read"]}));
        let tried = format!("Authorization: Bearer {tried}");
        let home = format!("Origin: {}", server.url());
        for own in [&["Sec-Fetch-Site: same-origin"][..], &[&home], &["Sec-Fetch-Site: same-origin", &home]] {
            server.send("GET", "/api/v1/agents", &[&[tried.as_str()], own].concat(), None).data();
        }
        for (method, path, status) in [
            ("POST", "/api/v1/agents", 403),
            ("GET", "/api/v1/webhooks", 403),
            ("GET", "/api/v1/api-keys", 403),
            ("GET", "/api/v1/agents/agent_01938f2c5a007b3e8d41000000000fff", 404),
            ("GET", "/api/v1/agents", 200),
            ("GET", "/api/v1/agents", 200),
            ("GET", "/api/v1/agents", 200),
            ("GET", "/api/v1/agents", 429),
        ] {
            assert_eq!(server.as_key(&key, method, path, None).status, status, "{method} {path}");
        }
        let usage = server.usage(&world.owner, &id, 9);
        let operations = usage["days"][0]["operations"].as_array().unwrap();
        let of = |id: &str| {
            operations.iter().find(|it| it["operationId"] == id).unwrap_or_else(|| panic!("{id}: {usage}"))
        };
        assert_eq!(of("createAgent")["denied"], json!({"insufficient_scope": 1}));
        assert_eq!(of("listApiKeys")["denied"], json!({"credential_not_allowed": 1}));
        assert_eq!(of("getAgent")["denied"], json!({"not_found": 1}));
        assert_eq!(
            (&of("listAgents")["allowed"], &of("listAgents")["denied"]),
            (&json!(4), &json!({"rate_limited": 1}))
        );
        let advice = server
            .as_member(&world.owner, "GET", &format!("/api/v1/api-keys/{id}/scope-advice"), None)
            .data();
        assert_eq!((&advice["proposed"], &advice["unused"]), (&json!(["agents:read"]), &json!([])));
        // The key is seconds old, and so is what is known of it.
        let key = server.as_member(&world.owner, "GET", &format!("/api/v1/api-keys/{id}"), None).data();
        assert_eq!((&advice["observedSince"], &advice["recommended"]), (&key["createdAt"], &json!(false)));
        let seen = server
            .as_member(&world.owner, "GET", "/api/v1/audit-events?action=api_key.used_in_browser", None)
            .data();
        assert_eq!(seen.as_array().unwrap().len(), 1, "{seen}");
        let row = server.as_member(&world.owner, "GET", &format!("/api/v1/api-keys/{id}"), None).data();
        assert_eq!(
            (row["lastUsedOperation"].as_str(), row["lastUsedAddress"].as_str()),
            (Some("listAgents"), Some("127.0.0.1"))
        );
    }
}

/// Rows: SX-09 SX-15.
#[test]
fn log_lines_are_one_line_each_and_say_nothing_of_what_was_sent() {
    let world = World::new(&[("LOG_FORMAT", "json"), ("LOG_LEVEL", "trace")]);
    for agent in ["\u{1b}[31mred", "\u{202e}rtl", &"x".repeat(8_000), "a\tb"] {
        world.server.send(
            "GET",
            "/api/v1/agents",
            &[&format!("User-Agent: {agent}"), "Authorization: Bearer nonsense"],
            None,
        );
    }
    let secret = format!("/api/v1/api-keys/{}", world.key);
    world.server.as_member(&world.owner, "GET", &secret, None);
    raw(world.server.port, b"GET /\x1b[31m HTTP/1.1\r\n\r\n");
    let output = world.server.output.lock().unwrap();
    for line in output.lines().filter(|line| !line.starts_with("Set up at")) {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "not JSON: {line}");
        assert!(line.len() < 2_000 && !line.contains('\u{1b}') && !line.contains('\u{202e}'), "{line}");
        assert!(!line.contains(&world.key), "a key is in the log: {line}");
    }
}

/// Rows: LC-03.
#[test]
fn a_request_that_takes_its_time_is_decided_again() {
    use std::io::{Read, Write};
    let world = World::new(&[]);
    let (id, key) = world.server.mint(&world.owner, json!({"name": "slow", "scopes": ["agents:write"]}));
    let body = r#"{"name":"too late"}"#;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", world.server.port)).unwrap();
    let head = format!(
        "POST /api/v1/agents HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
        world.server.port,
        body.len(),
        &body[..5]
    );
    stream.write_all(head.as_bytes()).unwrap();
    sleep(Duration::from_millis(300)); // The head is read, and the credential found good.
    world.server.as_member(&world.owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).data();
    stream.write_all(&body.as_bytes()[5..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("credential_revoked"), "{answer}");
}

/// A request of these fields over HTTP/2, written by hand; the types and payloads of the frames that came back.
fn http2(port: u16, fields: &[(&[u8], &[u8])]) -> Vec<(u8, Vec<u8>)> {
    use std::io::{Read, Write};
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let mut block = Vec::new();
    for (name, value) in fields {
        // RFC 7541 §6.2.3: a literal that is never indexed, with a literal name.
        block.extend(
            [
                &[0x10, u8::try_from(name.len()).unwrap()],
                *name,
                &[u8::try_from(value.len()).unwrap()],
                *value,
            ]
            .concat(),
        );
    }
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let all =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(1, 5, 1, &block)].concat();
    stream.write_all(&all).unwrap();
    let mut frames = Vec::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return frames;
        }
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        frames.push((head[3], payload));
        // HEADERS, RST_STREAM and GOAWAY each settle it.
        if [1, 3, 7].contains(&head[3]) {
            return frames;
        }
    }
}

/// Rows: RT-16.
#[test]
fn malformed_http2_never_reaches_a_decision() {
    let world = World::new(&[]);
    let authority = format!("localhost:{}", world.server.port);
    let bearer = format!("Bearer {}", world.key);
    let good: Vec<(&[u8], &[u8])> = vec![
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", authority.as_bytes()),
        (b":path", b"/api/v1/agents"),
        (b"authorization", bearer.as_bytes()),
    ];
    let answered =
        |fields: &[(&[u8], &[u8])]| http2(world.server.port, fields).into_iter().find(|(kind, _)| *kind == 1);
    // 0x88 is `:status: 200` in HPACK's static table.
    assert!(answered(&good).is_some_and(|(_, block)| block.contains(&0x88)), "the good one is answered");
    let with = |at: usize, field: (&'static [u8], &'static [u8])| {
        let mut fields = good.clone();
        fields.insert(at, field);
        fields
    };
    for (what, fields) in [
        ("a second :path", with(4, (b":path", b"/docs"))),
        ("a late :path", with(5, (b":path", b"/docs"))),
        ("an upper-case name", with(5, (b"X-Upper", b"1"))),
        ("a field of the connection", with(5, (b"connection", b"close"))),
        ("transfer-encoding", with(5, (b"transfer-encoding", b"chunked"))),
        ("CR LF in a value", with(5, (b"x-split", b"a\r\nb: c"))),
        ("NUL in a value", with(5, (b"x-nul", b"a\0b"))),
        ("a length that is not there", with(5, (b"content-length", b"5"))),
        ("an unknown pseudo-header", with(0, (b":protocol-x", b"1"))),
    ] {
        let answer = answered(&fields);
        assert!(answer.as_ref().is_none_or(|(_, block)| !block.contains(&0x88)), "{what}: {answer:?}");
    }
    assert_eq!(world.server.as_key(&world.key, "GET", "/api/v1/whoami", None).status, 200);
}

/// Rows: SX-03 MI-20.
#[tokio::test]
async fn secrets_are_never_shown_twice_or_made_without_randomness() {
    use flowyte_core::{Brand, Environment, Pepper};
    use flowyte_http::problem::Problem;
    use flowyte_verifier::clock::{Entropy, NoEntropy, System};
    use std::sync::atomic::{AtomicBool, Ordering};
    static BROKEN: AtomicBool = AtomicBool::new(false);
    struct Breakable;
    impl Entropy for Breakable {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
            if BROKEN.load(Ordering::Relaxed) { Err(NoEntropy) } else { System.fill(bytes) }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("flowyte.db"), flowyte::GUESTS).await.unwrap();
    let api = flowyte::serve::contract().unwrap();
    let scopes = api.contract.scopes().clone();
    let now = flowyte_core::Timestamp::from_micros(1_790_000_000_000_000);
    let replica = flowyte_verifier::replica::Replica::load(store, scopes, 60_000, false, now).await.unwrap();
    let config = flowyte::config::Given::default().finish().ok().unwrap();
    let peppers = flowyte_verifier::pepper::Peppers::new(vec![[7; 32]]).unwrap();
    let services = crate::support::services(Box::new(flowyte_product::answerer::Embedded));
    let clock = Box::new(System);
    let parts =
        flowyte::server::Parts { api, replica, peppers, clock, entropy: Box::new(Breakable), services };
    let verifier = flowyte::server::Server::new(config, parts).ok().unwrap().verifier.clone();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50_000 {
        let (secret, _) = verifier.secret(CredentialKind::SecretKey, Environment::Live).unwrap();
        assert!(seen.insert(secret.expose().to_owned()), "the same key twice");
    }
    let (secret, stored) = verifier.secret(CredentialKind::SecretKey, Environment::Live).unwrap();
    let presented = Brand::default().parse(secret.expose()).unwrap();
    let shown = format!("{secret:?} {presented:?} {:?} {:?}", Pepper::new([7; 32]), stored.digest);
    assert!(!shown.contains(secret.body()) && !shown.contains("07"), "{shown}");
    BROKEN.store(true, Ordering::Relaxed);
    let failed = verifier.secret(CredentialKind::SecretKey, Environment::Live).map(|_| ()).unwrap_err();
    assert_eq!(Problem::from(failed).code().as_str(), "dependency_unavailable");
}

#[test]
fn every_kind_of_caller_has_a_limit_that_says_when_to_return() {
    let limited = |got: &Got| {
        let seconds: u32 = got.header("retry-after").and_then(|it| it.parse().ok()).unwrap_or(0);
        got.status == 429 && got.code() == "rate_limited" && seconds >= 1
    };
    // Somebody unknown: invalid credentials are counted, and nobody else at the address suffers for it.
    let world = World::new(&[("UNAUTHENTICATED_RPM", "5")]);
    let nonsense = || world.server.as_key("nonsense", "GET", "/api/v1/agents", None);
    assert!((0..5).all(|_| nonsense().status == 401));
    assert!(limited(&nonsense()));
    assert_eq!(world.server.as_key(&world.key, "GET", "/api/v1/agents", None).status, 200);

    // A key has its own limit, and its organization one that all of its credentials share.
    let (_, slow) = world
        .server
        .mint(&world.owner, json!({"name": "slow", "scopes": ["agents:read"], "rateLimitRpm": 2}));
    let ask = |server: &Server, key: &str| server.as_key(key, "GET", "/api/v1/agents", None);
    let first = ask(&world.server, &slow);
    assert_eq!(
        (first.header("ratelimit-policy"), first.header("ratelimit")),
        (Some("\"default\";q=2;w=60"), Some("\"default\";r=1;t=30"))
    );
    assert_eq!(ask(&world.server, &slow).status, 200);
    assert!(limited(&ask(&world.server, &slow)));
    assert_eq!(ask(&world.server, &world.key).status, 200);

    let server =
        Server::start(&[("ORGANIZATION_RPM", "40"), ("SIGNUP", "open"), ("LOGIN_FAILURES_PER_ADDRESS", "4")]);
    let owner = server.set_up("ada@alpha.example");
    let (_, key) = server.mint(&owner, json!({"name": "x", "scopes": ["agents:read"]}));
    let other = server.sign_up("Beta", "bob@beta.example");
    let answers: Vec<Got> = (0..50).map(|_| ask(&server, &key)).collect();
    assert!(answers.iter().any(limited), "the organization has no limit");
    assert!(limited(&server.as_member(&owner, "GET", "/api/v1/auth/session", None)));
    assert_eq!(server.as_member(&other, "GET", "/api/v1/auth/session", None).status, 200);

    // Whoever fails to sign in too often waits, and the address is told so. (The set-up and the sign-up took two of the four.)
    for _ in 0..2 {
        assert_eq!(server.log_in("nobody@alpha.example", "not-a-password-of-anybody").status, 401);
    }
    assert!(limited(&server.log_in("ada@alpha.example", PASSWORD)));
}

/// A change that is based on an older state is refused with the state as it is; without If-Match it is done.
#[test]
fn changes_name_the_state_that_they_are_based_on() {
    for world in worlds(&[]) {
        let server = &world.server;
        let get = |path: &str| server.as_member(&world.owner, "GET", path, None);
        let change = |path: &str, tag: &str, body: &Value| {
            let headers = [
                &format!("Cookie: {}", world.owner),
                "Sec-Fetch-Site: same-origin",
                &format!("If-Match: {tag}"),
            ];
            server.send("PATCH", path, &headers, Some(body))
        };
        let of_list = |path: &str| get(path).data()[0].clone();
        let member = of_list("/api/v1/members?limit=1");
        let publishable = of_list(&format!("/api/v1/agents/{}/publishable-keys", world.agent));
        let key = get(&format!("/api/v1/api-keys/{}", world.key_id));
        assert_eq!(key.header("etag"), Some(format!("\"{}\"", text(&key.data()["etag"])).as_str()));
        let things = [
            (format!("/api/v1/api-keys/{}", world.key_id), key.data(), json!({"name": "two"})),
            (
                format!("/api/v1/agents/{}/publishable-keys/{}", world.agent, text(&publishable["id"])),
                publishable,
                json!({"rateLimitRpm": 77}),
            ),
            ("/api/v1/organization".into(), get("/api/v1/organization").data(), json!({"name": "Two"})),
        ];
        for (path, seen, body) in &things {
            let tag = text(&seen["etag"]);
            let done = change(path, &format!("\"{tag}\""), body);
            let now = text(&done.data()["etag"]);
            assert_ne!(now, tag, "{path}");
            assert_eq!(done.header("etag"), Some(format!("\"{now}\"").as_str()), "{path}");
            let late = change(path, &tag, body);
            assert_eq!(answer(&late), refused(409, "stale_version"), "{path}");
            assert_eq!(late.json()["current"]["etag"], now.as_str(), "{path}");
            assert_eq!(answer(&change(path, "nonsense", body)), refused(400, "validation_error"), "{path}");
            let plain = server.as_member(&world.owner, "PATCH", path, Some(body));
            assert_eq!(plain.status, 200, "{path}");
        }
        // Use of a key is no change of it.
        let path = format!("/api/v1/api-keys/{}", world.key_id);
        let before = text(&get(&path).data()["etag"]);
        assert_eq!(server.as_key(&world.key, "GET", "/api/v1/agents", None).status, 200);
        assert_eq!(text(&get(&path).data()["etag"]), before);
        let path = format!("/api/v1/members/{}", text(&member["id"]));
        let late = change(&path, "0123456789abcdef", &json!({"role": "owner"}));
        assert_eq!(answer(&late), refused(409, "stale_version"));
        assert_eq!(late.json()["current"], member);
        let agent = get(&format!("/api/v1/agents/{}", world.agent));
        assert_eq!(agent.header("etag"), Some(format!("\"{}\"", agent.data()["version"]).as_str()));
    }
}

/// Rows: TX-14.
#[test]
fn keys_are_searched_and_their_pages_belong_to_the_search() {
    for world in worlds(&[]) {
        let server = &world.server;
        let list =
            |query: &str| server.as_member(&world.owner, "GET", &format!("/api/v1/api-keys?{query}"), None);
        for n in 0..5 {
            server.mint(
                &world.owner,
                json!({"name": format!("Needle {n}"), "scopes": ["numbers:read"], "env": "test"}),
            );
        }
        let names = |query: &str| -> Vec<String> {
            list(query).data().as_array().unwrap().iter().map(|it| text(&it["name"])).collect()
        };
        assert_eq!(names("search=needle&sort=createdAt&limit=2"), ["Needle 0", "Needle 1"]);
        assert_eq!(names("search=needle&env=live"), [""; 0]);
        assert_eq!(names("scope=numbers%3Aread&env=test&search=EEDLE%203"), ["Needle 3"]);
        assert_eq!(names("search=%25"), [""; 0]);
        let first = list("search=needle&limit=2").json();
        let cursor = text(&first["pagination"]["nextCursor"]);
        assert_eq!(
            names(&format!("search=needle&limit=3&cursor={cursor}")),
            ["Needle 2", "Needle 1", "Needle 0"]
        );
        for other in
            ["search=needl", "search=needle&sort=createdAt", "search=needle&status=active", "limit=2"]
        {
            let got = list(&format!("{other}&cursor={cursor}"));
            assert_eq!(answer(&got), refused(400, "validation_error"), "{other}");
        }
        for bad in
            ["status=gone", "sort=name", "createdBy=nobody", "unusedSince=yesterday", "env=prod", "search="]
        {
            assert_eq!(answer(&list(bad)), refused(400, "validation_error"), "{bad}");
        }
        let me =
            text(&server.as_member(&world.owner, "GET", "/api/v1/auth/session", None).data()["user"]["id"]);
        let other = server.as_member(&world.other_owner, "GET", "/api/v1/auth/session", None).data();
        assert_eq!(names(&format!("createdBy={me}&search=needle")).len(), 5);
        assert_eq!(names(&format!("createdBy={}", text(&other["user"]["id"]))), [""; 0]);
    }
}

/// Rows: TX-14.
#[test]
fn agents_publishable_keys_members_and_events_are_searched() {
    for world in worlds(&[]) {
        let server = &world.server;
        let post = |path: &str, body: Value| {
            let got = server.as_member(&world.owner, "POST", path, Some(&body));
            assert_eq!(got.status, 201, "{}", got.body);
            text(&got.data()["id"])
        };
        let desk = post("/api/v1/agents", json!({"name": "Needle 100%"}));
        let keys = format!("/api/v1/agents/{desk}/publishable-keys");
        for n in 0..3 {
            post("/api/v1/agents", json!({"name": format!("Needle {n}")}));
            post(
                &keys,
                json!({"name": format!("Needle {n}"), "env": "live", "allowedOrigins": ["https://shop.example"]}),
            );
        }
        let list = |path: &str| server.as_member(&world.owner, "GET", path, None);
        let names = |path: &str| -> Vec<String> {
            list(path).data().as_array().unwrap().iter().map(|it| text(&it["name"])).collect()
        };
        assert_eq!(
            names("/api/v1/agents?search=NEEDLE"),
            ["Needle 2", "Needle 1", "Needle 0", "Needle 100%"]
        );
        assert_eq!(names("/api/v1/agents?search=0%25"), ["Needle 100%"]);
        assert_eq!(names(&format!("/api/v1/agents?search={desk}")), ["Needle 100%"]);
        assert_eq!(names("/api/v1/agents?search=needle&status=published"), [""; 0]);
        assert_eq!(
            server.as_member(&world.owner, "POST", &format!("/api/v1/agents/{desk}/publish"), None).status,
            201
        );
        assert_eq!(names("/api/v1/agents?search=needle&status=published"), ["Needle 100%"]);
        assert_eq!(names(&format!("{keys}?search=needle%201")), ["Needle 1"]);
        assert_eq!(names(&format!("{keys}?env=test")), [""; 0]);
        let last = list(&format!("{keys}?limit=1")).data()[0].clone();
        let path = format!("{keys}/{}", text(&last["id"]));
        assert_eq!(server.as_member(&world.owner, "DELETE", &path, None).status, 200);
        assert_eq!(names(&format!("{keys}?status=revoked")), ["Needle 2"]);
        assert_eq!(names(&format!("{keys}?status=active&env=live")), ["Needle 1", "Needle 0"]);
        let me = server.as_member(&world.owner, "GET", "/api/v1/auth/session", None).data()["user"].clone();
        let (name, email) = (text(&me["name"]), text(&me["email"]).replace('@', "%40"));
        assert!(names("/api/v1/members?role=owner").contains(&name));
        assert!(names(&format!("/api/v1/members?search={email}")).contains(&name));
        assert!(!names("/api/v1/members?role=viewer").contains(&name));
        assert_eq!(names("/api/v1/members?search=%25"), [""; 0]);
        // In either order, and by who made it.
        assert_eq!(names("/api/v1/agents?search=needle&sort=createdAt&limit=2"), ["Needle 100%", "Needle 0"]);
        assert_eq!(names(&format!("{keys}?sort=createdAt&status=active")), ["Needle 0", "Needle 1"]);
        let mut joined = names("/api/v1/members?sort=joinedAt");
        joined.reverse();
        assert_eq!(joined, names("/api/v1/members"));
        let maker = text(&me["id"]);
        assert_eq!(names(&format!("/api/v1/agents?search=needle&createdBy={maker}")).len(), 4);
        assert_eq!(names("/api/v1/agents?search=needle&createdBy=somebody"), [""; 0]);
        let body = json!({"name": "By a key", "env": "live", "allowedOrigins": ["https://shop.example"]});
        let minted = server.as_key(&world.all, "POST", &keys, Some(&body)).data();
        assert_eq!(minted["createdBy"], json!({"id": world.all_id, "name": "all"}));
        assert_eq!(names(&format!("{keys}?createdBy={}", world.all_id)), ["By a key"]);
        assert_eq!(names(&format!("{keys}?status=active&createdBy={maker}")), ["Needle 1", "Needle 0"]);
        assert_eq!(names(&format!("{keys}?createdBy=somebody")), [""; 0]);
        let sources = format!("/api/v1/agents/{desk}/knowledge/sources");
        for label in ["Needle A", "Hay", "Needle B"] {
            post(&sources, json!({"kind": "text", "label": label, "text": "We open at nine."}));
        }
        let labels = |query: &str| -> Vec<String> {
            let got = list(&format!("{sources}?{query}")).data();
            got.as_array().unwrap().iter().map(|it| text(&it["label"])).collect()
        };
        assert_eq!(labels("search=needle"), ["Needle B", "Needle A"]);
        assert_eq!(labels("sort=createdAt&limit=2"), ["Needle A", "Hay"]);
        assert_eq!(labels("status=failed"), [""; 0]);
        // Pages belong to their search, and go through all of it.
        let first = list("/api/v1/agents?search=needle&limit=3").json();
        let cursor = text(&first["pagination"]["nextCursor"]);
        assert_eq!(names(&format!("/api/v1/agents?search=needle&limit=3&cursor={cursor}")), ["Needle 100%"]);
        assert_eq!(
            answer(&list(&format!("/api/v1/agents?search=need&cursor={cursor}"))),
            refused(400, "validation_error")
        );
        for bad in [
            "/api/v1/agents?status=gone",
            "/api/v1/members?role=king",
            "/api/v1/members?search=",
            "/api/v1/members?sort=name",
        ] {
            assert_eq!(answer(&list(bad)), refused(400, "validation_error"), "{bad}");
        }
        assert_eq!(answer(&list(&format!("{keys}?status=expired"))), refused(400, "validation_error"));
        // What was done to one thing, behind what was done to others since.
        let events = |query: &str| -> Vec<String> {
            let got = list(&format!("/api/v1/audit-events?target={desk}{query}")).data();
            got.as_array().unwrap().iter().map(|it| text(&it["action"])).collect()
        };
        assert_eq!(events(""), ["agent.published", "agent.created"]);
        assert_eq!(events("&action=agent.created"), ["agent.created"]);
        let others =
            server.as_member(&world.other_owner, "GET", &format!("/api/v1/audit-events?target={desk}"), None);
        assert_eq!(others.data(), json!([]));
    }
}

#[test]
fn an_agent_through_its_life() {
    for world in worlds(&[]) {
        let server = &world.server;
        let ask = |method: &str, path: &str, body: Option<Value>| {
            server.as_key(&world.all, method, &format!("/api/v1/agents{path}"), body.as_ref())
        };
        let made =
            ask("POST", "", Some(json!({"name": "Desk", "tone": "warm", "goals": ["Book appointments"]})))
                .data();
        assert_eq!(
            (made["version"].as_i64(), made["status"].as_str(), made["isActive"].as_bool()),
            (Some(1), Some("draft"), Some(false))
        );
        assert_eq!(made["createdBy"]["name"], "all");
        let id = text(&made["id"]);
        let report = ask("GET", &format!("/{id}/prepublish-report"), None).data();
        assert_eq!(
            (report["ready"].as_bool(), report["willAnswer"][1].as_str()),
            (Some(true), Some("Book appointments"))
        );
        let first = ask("POST", &format!("/{id}/publish"), Some(json!({"note": "first"}))).data();
        assert_eq!(first["compiledConfig"]["tone"], "warm");

        // If-Match: the version that was read, or the answer says how it is now.
        let patch = |version: &str, body: Value| {
            let headers = [format!("Authorization: Bearer {}", world.all), format!("If-Match: {version}")];
            server.send("PATCH", &format!("/api/v1/agents/{id}"), &[&headers[0], &headers[1]], Some(&body))
        };
        let changed = patch("1", json!({"tone": "brisk", "name": "Front desk"})).data();
        assert_eq!((changed["version"].as_i64(), changed["status"].as_str()), (Some(2), Some("published")));
        let stale = patch("\"1\"", json!({"tone": "lost"}));
        assert_eq!(answer(&stale), refused(409, "stale_version"));
        assert_eq!(stale.json()["current"]["tone"], "brisk");
        assert_eq!(answer(&patch("nonsense", json!({"tone": "x"}))), refused(400, "validation_error"));
        assert_eq!(patch("\"2\"", json!({"greeting": "Good day!"})).data()["version"], 3);

        let diff = ask("GET", &format!("/{id}/versions/{}/diff", text(&first["id"])), None).data();
        let fields: Vec<&str> =
            diff["changes"].as_array().unwrap().iter().map(|it| it["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["name", "tone", "greeting"]);
        let second = ask("POST", &format!("/{id}/publish"), None).data();
        assert_eq!(second["version"], 3);
        let versions = ask("GET", &format!("/{id}/versions"), None).data();
        assert_eq!(versions.as_array().unwrap().len(), 2);
        ask("POST", &format!("/{id}/rollback"), Some(json!({"versionId": first["id"]}))).data();
        assert_eq!(ask("GET", &format!("/{id}"), None).data()["publishedVersionId"], first["id"]);

        // Its widget, and the line that embeds it.
        let widget = json!({"theme": {"primaryColor": "#0b5fff"}, "copy": {"title": "Ask us"}, "behavior": {"openOnLoad": false}});
        assert_eq!(ask("GET", &format!("/{id}/widget"), None).data()["theme"], json!({}));
        assert_eq!(ask("PUT", &format!("/{id}/widget"), Some(widget.clone())).data()["copy"], widget["copy"]);
        assert_eq!(
            answer(&ask("GET", &format!("/{id}/widget/embed"), None)),
            refused(404, "not_found"),
            "no key yet"
        );
        let key = json!({"name": "site", "env": "test", "allowedOrigins": ["http://localhost:3000", SHOP]});
        let key = ask("POST", &format!("/{id}/publishable-keys"), Some(key)).data();
        let pk = text(&key["keyPublic"]);
        let embed = ask("GET", &format!("/{id}/widget/embed"), None).data();
        assert!(
            embed["scriptSnippet"].as_str().unwrap().contains(&format!("data-flowyte-key=\"{pk}\"")),
            "{embed}"
        );
        let bootstrap = server.as_widget(&pk, "GET", "/api/v1/widget/bootstrap", None).data();
        assert_eq!(
            (bootstrap["agentMeta"]["name"].as_str(), &bootstrap["theme"]),
            (Some("Desk"), &widget["theme"])
        );
        // The greeting is the published version's, which had none.
        assert_eq!(bootstrap["agentMeta"]["greeting"], "Hello, this is Desk.");

        // A publishable key turns: the old text lives through the grace, and what it opened goes on.
        let path = format!("/{id}/publishable-keys/{}", text(&key["id"]));
        let visitor =
            text(&server.as_widget(&pk, "POST", "/api/v1/chat/widget/sessions", None).data()["visitorToken"]);
        let newer = text(
            &ask("POST", &format!("{path}/rotate"), Some(json!({"graceSeconds": 0}))).data()["keyPublic"],
        );
        assert_eq!(
            server.as_widget(&pk, "GET", "/api/v1/widget/bootstrap", None).code(),
            "credential_expired"
        );
        assert_eq!(server.as_widget(&newer, "GET", "/api/v1/widget/bootstrap", None).status, 200);
        assert_eq!(server.as_widget(&visitor, "GET", "/api/v1/chat/widget/messages", None).status, 200);
        // An origin that is taken off the list takes its visitors with it.
        ask("PATCH", &path, Some(json!({"allowedOrigins": ["http://localhost:3000"]}))).data();
        assert_eq!(
            server.as_widget(&visitor, "GET", "/api/v1/chat/widget/messages", None).code(),
            "origin_not_allowed"
        );

        assert_eq!(ask("DELETE", &format!("/{id}"), None).data(), Value::Null);
        assert_eq!(answer(&ask("GET", &format!("/{id}"), None)), refused(404, "not_found"));
        let unpublished = text(&ask("POST", "", Some(json!({"name": "Never"}))).data()["id"]);
        let key = json!({"name": "site", "env": "live", "allowedOrigins": [SHOP]});
        let pk =
            text(&ask("POST", &format!("/{unpublished}/publishable-keys"), Some(key)).data()["keyPublic"]);
        let opened = server.as_widget(&pk, "POST", "/api/v1/chat/widget/sessions", None);
        assert_eq!(answer(&opened), refused(409, "no_published_version"));
        assert_eq!(
            server.as_widget(&pk, "GET", "/api/v1/widget/bootstrap", None).data()["agentMeta"]["greeting"],
            ""
        );
    }
}

#[test]
fn the_organizations_key_policy_is_kept() {
    let world = World::new(&[]);
    let server = &world.server;
    let policy = json!({"keyPolicy": {"maxTtlDays": 30, "requireExpiry": true}});
    let changed = server.as_member(&world.owner, "PATCH", "/api/v1/organization", Some(&policy)).data();
    assert_eq!(changed["keyPolicy"], policy["keyPolicy"]);
    let mint = |more: Value| {
        let mut body = json!({"name": "x", "scopes": ["agents:read"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.as_member(&world.owner, "POST", "/api/v1/api-keys", Some(&body))
    };
    assert_eq!(answer(&mint(json!({"expiresAt": null}))), refused(400, "validation_error"));
    let day = 86_400;
    let at = |days: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(days * day)).to_string();
    assert_eq!(answer(&mint(json!({"expiresAt": at(31)}))), refused(400, "validation_error"));
    assert_eq!(mint(json!({"expiresAt": at(29)})).status, 201);
    let expires: jiff::Timestamp = text(&mint(json!({})).data()["expiresAt"]).parse().unwrap();
    let days = (expires.as_second() - jiff::Timestamp::now().as_second()) / day;
    assert!((29..=30).contains(&days), "{days}");
    let lifted = json!({"keyPolicy": {"maxTtlDays": null, "requireExpiry": false}});
    server.as_member(&world.owner, "PATCH", "/api/v1/organization", Some(&lifted)).data();
    assert_eq!(mint(json!({"expiresAt": null})).data()["expiresAt"], Value::Null);
}

#[test]
fn sign_up_is_closed_unless_the_operator_opens_it() {
    let body =
        json!({"organizationName": "X", "name": "Eve", "email": "eve@x.example", "password": PASSWORD});
    let sign_up = |server: &Server| answer(&server.send("POST", "/api/v1/auth/signup", &[], Some(&body)));
    let closed = Server::start(&[]);
    assert_eq!(sign_up(&closed), refused(403, "signup_closed"));
    closed.set_up("ada@x.example");
    assert_eq!(sign_up(&closed), refused(403, "signup_closed"));
    let open = Server::start(&[("SIGNUP", "open")]);
    // Before the set-up whoever came first would own the installation.
    assert_eq!(sign_up(&open), refused(403, "signup_closed"));
    open.set_up("ada@x.example");
    assert_eq!(sign_up(&open).0, 201);
    // Whether an address is known shows nowhere: with its password it is the same account again, with another its own.
    assert_eq!(sign_up(&open).0, 201);
    // The set-up is over: neither the used token nor another opens it again.
    let token = json!({"token": "flowyte_it_000000000000000000000000000000000000", "organizationName": "X", "name": "Eve", "email": "e@x.example", "password": PASSWORD});
    let again = open.send("POST", "/api/v1/auth/setup", &[], Some(&token));
    assert_eq!(answer(&again), refused(401, "invalid_credential"));
}

/// Guesses sent at once are no more guesses than those sent one by one.
#[test]
fn a_burst_of_sign_ins_is_within_the_limit_too() {
    let server = Server::start(&[("LOGIN_FAILURES_PER_ADDRESS", "1000")]);
    server.set_up("ada@alpha.example");
    std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..40)
            .map(|_| scope.spawn(|| server.log_in("ada@alpha.example", "not-the-password-of-ada").status))
            .collect();
        // All of them wait for their turn by now; this one, though right, comes after ten failures.
        sleep(Duration::from_millis(150));
        let late = server.log_in("ada@alpha.example", PASSWORD);
        assert_eq!(answer(&late), refused(429, "rate_limited"));
        let statuses: Vec<u16> = guesses.into_iter().map(|it| it.join().unwrap()).collect();
        assert_eq!(statuses.iter().filter(|it| **it == 401).count(), 10, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|it| **it == 429).count(), 30, "{statuses:?}");
    });
}

/// A token is used once, however many use it at once.
#[test]
fn one_of_many_sets_up_and_one_of_many_accepts() {
    let server = Server::start(&[("LOGIN_FAILURES_PER_ADDRESS", "1000")]);
    let token = server.setup_token();
    let race = |path: &'static str, body: &(dyn Fn(usize) -> Value + Sync)| -> Vec<u16> {
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|n| {
                    let (server, barrier) = (&server, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        server.send("POST", path, &[], Some(&body(n))).status
                    })
                })
                .collect();
            all.into_iter().map(|it| it.join().unwrap()).collect()
        })
    };
    let founding = |n: usize| json!({"token": token, "organizationName": "Alpha", "name": "Ada", "email": format!("ada{n}@alpha.example"), "password": PASSWORD});
    let statuses = race("/api/v1/auth/setup", &founding);
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 7, "{statuses:?}");
    let winner = (0..8).find_map(|n| {
        let got = server.log_in(&format!("ada{n}@alpha.example"), PASSWORD);
        (got.status == 200).then(|| got.cookie())
    });
    let owner = winner.unwrap();
    let invite = json!({"email": "grace@alpha.example", "role": "viewer"});
    let invite = server.as_member(&owner, "POST", "/api/v1/invites", Some(&invite)).data();
    let joining = |_: usize| json!({"token": invite["token"], "name": "Grace", "password": PASSWORD});
    let statuses = race("/api/v1/auth/invites/accept", &joining);
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 401 | 404 | 409)), "{statuses:?}");
    let members = server.as_member(&owner, "GET", "/api/v1/members", None).data();
    assert_eq!(members.as_array().unwrap().len(), 2);
}
