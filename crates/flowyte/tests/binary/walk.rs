//! What a new user does in the first minutes, and that a crash changes none of it.

use crate::support::{SHOP, Server, text};
use serde_json::json;

#[test]
fn from_the_printed_link_to_a_chat_and_through_a_kill() {
    let mut server = Server::start(&[]);
    let token = server.setup_token();
    let line = format!("{}/setup#token={token}", server.url());
    // Whoever gathers the output may be behind the server, which is ready already.
    let printed = || server.output.lock().unwrap().clone();
    let mut patience = 100;
    while !printed().contains(&line) && patience > 0 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        patience -= 1;
    }
    assert!(printed().contains(&line), "{}", printed());
    let owner = server.set_up("ada@example.com");
    assert!(!server.folder.join("setup-token").exists());

    let (id, key) = server.mint(&owner, json!({"name": "first", "scopes": ["agents:read"]}));
    assert_eq!(server.as_key(&key, "GET", "/api/v1/agents", None).data(), json!([]));
    assert_eq!(server.as_key(&key, "GET", "/api/v1/whoami", None).data()["keyId"], id.as_str());
    let refused = server.as_key(&key, "POST", "/api/v1/agents", Some(&json!({"name": "x"})));
    assert_eq!((refused.status, refused.code().as_str()), (403, "insufficient_scope"));
    assert_eq!(refused.json()["missingScopes"], json!(["agents:write"]));
    assert_eq!(server.as_key(&key, "GET", "/api/v1/webhooks", None).code(), "operation_reserved");

    let path = format!("/api/v1/api-keys/{id}");
    let rotated = server
        .as_member(&owner, "POST", &format!("{path}/rotate"), Some(&json!({"graceSeconds": 600})))
        .data();
    let newer = text(&rotated["secret"]);
    for secret in [&key, &newer] {
        assert_eq!(server.as_key(secret, "GET", "/api/v1/whoami", None).status, 200);
    }

    let agent = text(
        &server
            .as_member(
                &owner,
                "POST",
                "/api/v1/agents",
                Some(&json!({"name": "Desk", "greeting": "Good day!"})),
            )
            .data()["id"],
    );
    server.as_member(&owner, "POST", &format!("/api/v1/agents/{agent}/publish"), None).data();
    let body = json!({"name": "site", "env": "live", "allowedOrigins": [SHOP]});
    let pk = text(
        &server
            .as_member(&owner, "POST", &format!("/api/v1/agents/{agent}/publishable-keys"), Some(&body))
            .data()["keyPublic"],
    );
    let visitor =
        text(&server.as_widget(&pk, "POST", "/api/v1/chat/widget/sessions", None).data()["visitorToken"]);
    let answer = server.as_widget(
        &visitor,
        "POST",
        "/api/v1/chat/widget/messages",
        Some(&json!({"content": "When do you open?"})),
    );
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert!(
        answer.body.contains("event: message_delta\n") && answer.body.contains("event: done\n"),
        "{answer:?}"
    );
    assert!(answer.body.contains("I don't know that"), "{answer:?}");

    let check = |server: &Server| {
        assert_eq!(server.as_key(&newer, "GET", "/api/v1/whoami", None).status, 200);
        assert_eq!(server.as_key(&key, "GET", "/api/v1/whoami", None).status, 200);
        assert_eq!(server.as_member(&owner, "GET", "/api/v1/auth/session", None).data()["role"], "owner");
        assert_eq!(
            server.as_widget(&pk, "GET", "/api/v1/widget/bootstrap", None).data()["agentMeta"]["greeting"],
            "Good day!"
        );
        let elsewhere = server.send(
            "GET",
            "/api/v1/widget/bootstrap",
            &[&format!("Authorization: Bearer {pk}"), "Origin: https://evil.example"],
            None,
        );
        assert_eq!(elsewhere.code(), "origin_not_allowed");
        let said = server.as_widget(&visitor, "GET", "/api/v1/chat/widget/messages", None).data();
        assert_eq!(said.as_array().unwrap().len(), 2, "{said}");
        assert_eq!(
            server.as_member(&owner, "GET", "/api/v1/audit-events/verify", None).data()["intact"],
            true
        );
    };
    check(&server);
    server.kill_and_restart();
    check(&server);

    let revoked = server.as_member(&owner, "DELETE", &path, None).data();
    assert_eq!(
        (revoked["status"].as_str(), revoked["effective"]["nodes"].as_u64()),
        (Some("revoked"), Some(1))
    );
    for round in 0..2 {
        for secret in [&key, &newer] {
            let refused = server.as_key(secret, "GET", "/api/v1/whoami", None);
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (401, "credential_revoked"),
                "round {round}"
            );
        }
        server.kill_and_restart();
    }
    assert!(server.terminate().success());
}

#[test]
fn health_and_metrics_stand_on_their_own_listener() {
    let server = Server::start(&[]);
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(server.ops(path).status, 200, "{path}");
        assert_eq!(server.send("GET", path, &[], None).status, 404, "{path}");
    }
    assert!(server.ops("/metrics").body.contains("flowyte_replica_secrets"));
}

#[test]
fn public_documents_need_no_credential_and_run_nothing_foreign() {
    let server = Server::start(&[]);
    let document = server.send("GET", "/api/v1/openapi.json", &[], None);
    assert_eq!(document.json()["openapi"], "3.1.0");
    // Served on plain HTTP, so that is the cookie's name here.
    assert_eq!(document.json()["components"]["securitySchemes"]["session"]["name"], "flowyte_session");
    for path in ["/", "/setup", "/invite", "/docs", "/errors", "/errors/insufficient_scope"] {
        let page = server.send("GET", path, &[], None);
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(!page.body.contains("src=\"http"), "{path} loads from another host");
    }
    for path in ["/docs/page.css", "/docs/init.js", "/style.css", "/llms.txt"] {
        assert_eq!(server.send("GET", path, &[], None).status, 200, "{path}");
    }
    // The reference page is built with Node. Without it the page says so; with it everything is there that it needs, and its licences.
    let built = server.send("GET", "/docs", &[], None).body.contains("/docs/swagger-ui-bundle.js");
    for name in
        ["swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css", "LICENSE", "NOTICE"]
    {
        let got = server.send("GET", &format!("/docs/{name}"), &[], None);
        assert_eq!(got.status, if built { 200 } else { 404 }, "{name}");
    }
    if built {
        // It is carried compressed, and whoever does not take that gets it as it was.
        let bundle = server.send("GET", "/docs/swagger-ui-bundle.js", &[], None);
        assert!(bundle.header("content-encoding").is_none() && bundle.body.contains("SwaggerUIBundle"));
        let packed = server.send("GET", "/docs/swagger-ui-bundle.js", &["Accept-Encoding: gzip"], None);
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
    } else {
        assert!(server.send("GET", "/docs", &[], None).body.contains("compiled without the reference page"));
    }
    let refused = server.send("POST", "/docs", &[], None);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    // A browser gets a page with 404 where the dashboard is built in, and everything else the problem.
    assert_eq!(server.send("GET", "/errors/nothing", &[], None).code(), "not_found");
    for path in ["/errors/nothing", "/nothing", "/nothing/at/all"] {
        let page = server.send("GET", path, &["Accept: text/html,application/xhtml+xml;q=0.9"], None);
        let built = server.send("GET", "/developer", &[], None).status == 200;
        let wanted = if built { "text/html; charset=utf-8" } else { "application/problem+json" };
        assert_eq!((page.status, page.header("content-type")), (404, Some(wanted)), "{path}");
    }
    let api = server.send("GET", "/api/v1/nothing", &["Accept: text/html"], None);
    assert_eq!(api.code(), "not_found");
}

/// The README's first five minutes, as they stand there.
#[test]
fn the_first_five_minutes_are_true() {
    let readme = include_str!("../../../../README.md");
    let script = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let server = Server::start(&[]);
    let script = script
        .replace("http://localhost:8080", &server.url())
        .replace("flowyte-data", server.folder.to_str().unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let ran = std::process::Command::new("bash")
        .args(["-euc", &script])
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    let expected = [
        r#""role":"owner""#,
        r#""data":[]"#,
        r#""kind":"secret_key""#,
        r#""missingScopes":["agents:write"]"#,
        "operation_reserved",
        r#""status":"revoked""#,
        "credential_revoked",
        "nine to five",
        "event: done",
        r#""label":"Opening hours""#,
        r#""primaryTopic":"Opening hours""#,
        "origin_not_allowed",
    ];
    let mut rest = &said[..];
    for part in expected {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part} is missing or out of order: {said}"));
        rest = &rest[at..];
    }
}

#[test]
fn a_stop_loses_no_count_and_leaves_nothing_readable() {
    use std::os::unix::fs::PermissionsExt;
    let mut server = Server::start(&[]);
    let owner = server.set_up("ada@example.com");
    let (id, key) = server.mint(&owner, json!({"name": "x", "scopes": ["agents:read"]}));
    for _ in 0..25 {
        server.as_key(&key, "GET", "/api/v1/agents", None).data();
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let core: Vec<&str> =
        limits.lines().find(|it| it.starts_with("Max core file size")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{core:?}");
    assert!(server.terminate().success());
    for entry in std::fs::read_dir(&server.folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
    assert_eq!(server.folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    server.kill_and_restart();
    let usage = server.as_member(&owner, "GET", &format!("/api/v1/api-keys/{id}/usage"), None).data();
    assert_eq!(usage["total"], 25, "{usage}");
}
