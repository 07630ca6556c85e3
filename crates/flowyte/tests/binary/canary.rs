//! Searches everything the server leaves behind for the secrets that went through it.

use crate::support::{PASSWORD, SHOP, Server, World, text};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

/// The forms in which a secret might be found. Base64 has three, by where in the text it begins.
fn forms(secret: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let url: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    let mut all = vec![
        ("raw".into(), bytes.to_vec()),
        ("hex".into(), hex.clone().into_bytes()),
        ("HEX".into(), hex.to_uppercase().into_bytes()),
        ("url".into(), url.into_bytes()),
        ("reversed".into(), bytes.iter().rev().copied().collect()),
        ("utf-16".into(), secret.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ];
    for shift in 0..3 {
        let shifted = [&vec![b'x'; shift][..], bytes].concat();
        for (name, text) in
            [("base64", STANDARD_NO_PAD.encode(&shifted)), ("base64url", URL_SAFE_NO_PAD.encode(&shifted))]
        {
            // The ends depend on the neighbours.
            all.push((format!("{name}+{shift}"), text.as_bytes()[4..text.len() - 4].to_vec()));
        }
    }
    all
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push((path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
    all
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Rows: SX-01 SX-10 MI-14.
#[test]
fn no_secret_is_left_anywhere() {
    let setup = Server::start(&[("LOG_LEVEL", "trace")]);
    let setup_token = setup.setup_token();
    setup.set_up("ada@example.com");
    let mut world = World::new(&[("LOG_LEVEL", "trace")]);
    let server = &world.server;
    let mut secrets: Vec<(&str, String)> = vec![
        ("key", world.key.clone()),
        ("every scope", world.all.clone()),
        ("the other organization's key", world.other_all.clone()),
        ("visitor", world.visitor.clone()),
        ("owner's session", world.owner.split_once('=').unwrap().1.to_owned()),
        ("password", PASSWORD.to_owned()),
    ];
    // Everything that makes a secret, idempotent answers among it, and requests that carry one where none belongs.
    let headers = [
        format!("Cookie: {}", world.owner),
        "Sec-Fetch-Site: same-origin".into(),
        "Idempotency-Key: canary-canary-canary".into(),
    ];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let body = json!({"name": "once", "scopes": ["agents:read"]});
    let minted = server.send("POST", "/api/v1/api-keys", &headers, Some(&body)).data();
    secrets.push(("idempotent answer", text(&minted["secret"])));
    secrets.push(("idempotency key", "canary-canary-canary".into()));
    let path = format!("/api/v1/api-keys/{}/rotate", world.key_id);
    secrets.push((
        "rotated",
        text(&server.as_member(&world.owner, "POST", &path, Some(&json!({}))).data()["secret"]),
    ));
    let invite = json!({"email": "late@alpha.example", "role": "viewer"});
    let invite = server.as_member(&world.owner, "POST", "/api/v1/invites", Some(&invite)).data();
    secrets.push(("invite", text(&invite["token"])));
    let identity =
        json!({"name": "i", "env": "live", "allowedOrigins": [SHOP], "requireIdentityVerification": true});
    let path = format!("/api/v1/agents/{}/publishable-keys", world.agent);
    let identity = server.as_key(&world.all, "POST", &path, Some(&identity)).data();
    secrets.push(("identity secret", text(&identity["identitySecret"])));
    let changed = "copper-lantern-vivid-19";
    let change = json!({"currentPassword": PASSWORD, "newPassword": changed});
    server.as_member(&world.viewer, "POST", "/api/v1/auth/password", Some(&change));
    secrets.push(("new password", changed.into()));
    let mut answers = String::new();
    for path in [
        "/api/v1/api-keys?limit=100",
        "/api/v1/audit-events?limit=100",
        "/api/v1/auth/sessions",
        "/api/v1/invites",
        "/api/v1/openapi.json",
        "/docs",
        "/docs/swagger-ui-bundle.js",
        "/llms.txt",
        "/errors",
    ] {
        answers += &server.as_member(&world.owner, "GET", path, None).body;
    }
    answers += &server.ops("/metrics").body;
    for path in [
        format!("/{}", world.key),
        format!("/api/v1/api-keys/{}", world.key),
        format!("/api/v1/agents?key={}", world.key),
        format!("/api/v1/agents/{}", world.visitor),
    ] {
        answers += &server.as_key(&world.all, "GET", &path, None).body;
        answers += &server.send("POST", &path, &[], Some(&json!({"token": world.key}))).body;
    }
    answers += &server.log_in(&world.key.clone(), &world.all.clone()).body;
    assert!(world.server.terminate().success()); // Which writes the counters.

    let mut places = files(&world.server.folder);
    places.push(("log".into(), world.server.output.lock().unwrap().clone().into_bytes()));
    places.push(("answers".into(), answers.into_bytes()));
    for (what, secret) in &secrets {
        for (form, needle) in forms(secret) {
            for (place, content) in &places {
                assert!(!holds(content, &needle), "{what} is in {place} as {form}");
            }
        }
    }
    // The set-up token is printed for whoever starts the server, and is nowhere else once it was used.
    for (place, content) in files(&setup.folder) {
        assert!(!holds(&content, setup_token.as_bytes()), "the set-up token is in {place}");
    }
    let printed = setup.output.lock().unwrap();
    assert_eq!(printed.matches(&setup_token).count(), 1);
    assert!(printed.lines().find(|line| line.contains(&setup_token)).unwrap().starts_with("Set up at "));
    // The search finds what is there.
    let haystack = format!("x{}", STANDARD.encode(format!("ab{}", world.key)));
    assert!(forms(&world.key).iter().any(|(_, needle)| holds(haystack.as_bytes(), needle)));
}

/// The tests that use most of the server, where there is no way out: the kernel counts whatever was sent to somewhere without a
/// route, look-ups of names included.
///
/// Rows: SX-12.
#[test]
fn nothing_is_sent_anywhere() {
    let alone = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-c", script]);
        command
    };
    if !alone("true").stderr(Stdio::null()).status().is_ok_and(|it| it.success()) {
        println!("no network can be taken away here, so nothing is said of what is sent");
        return;
    }
    // Counted before it is relied upon: something that is sent somewhere.
    let counted = |script: &str| {
        let script = format!(
            "ip link set lo up && {script}; status=$?; grep -h -A1 OutNoRoutes /proc/net/snmp; cat /proc/net/snmp6; exit $status"
        );
        let output = alone(&script).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), without_a_route(&said), said)
    };
    let probe = "{ python3 -c 'import socket; socket.socket().connect_ex((\"192.0.2.1\", 80))'; }";
    assert_eq!(counted(probe).1, 1, "the kernel does not count");
    let tests = ["canary::no_secret_is_left_anywhere", "attacks::hostile_requests_get_their_one_answer"];
    let binary = std::env::current_exe().unwrap();
    let (passed, sent, said) = counted(&format!("{} --exact {}", binary.display(), tests.join(" ")));
    assert!(passed && said.contains("2 passed"), "{said}");
    assert_eq!(sent, 0, "{said}");
}

/// What the kernel counted of both families.
fn without_a_route(said: &str) -> u64 {
    let lines: Vec<&str> = said.lines().collect();
    let v4 = lines.windows(2).find_map(|pair| {
        let at = pair[0].split(' ').position(|it| it == "OutNoRoutes")?;
        pair[1].split(' ').nth(at)?.parse::<u64>().ok()
    });
    let v6 = lines.iter().find_map(|line| line.strip_prefix("Ip6OutNoRoutes")?.trim().parse::<u64>().ok());
    v4.expect("no counter") + v6.unwrap_or(0)
}
