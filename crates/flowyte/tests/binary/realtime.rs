//! Talk tokens and the WebSocket that one opens.

use crate::support::{SHOP, Server, World, text, worlds};
use flowyte_core::id::{Id, OrganizationId};
use flowyte_store::Sqlite;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, HandshakeError, Message, WebSocket, client};

type Socket = WebSocket<TcpStream>;

fn mint(server: &Server, key: &str, agent: &str, draft: bool) -> Value {
    let path = format!("/api/v1/agents/{agent}/talk-token");
    server.as_key(key, "POST", &path, Some(&json!({"draftMode": draft}))).data()
}

/// A handshake with these protocols from this page; the status of a refusal and its code.
fn connect(
    server: &Server,
    path: &str,
    protocols: &str,
    origin: Option<&str>,
) -> Result<Socket, (u16, String)> {
    let mut request = format!("ws://localhost:{}{path}", server.port).into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocols.parse().unwrap());
    if let Some(origin) = origin {
        request.headers_mut().insert("Origin", origin.parse().unwrap());
    }
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    match client(request, stream) {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["sec-websocket-protocol"], "flowyte.talk.v1");
            Ok(socket)
        }
        Err(HandshakeError::Failure(tokio_tungstenite::tungstenite::Error::Http(response))) => {
            let body: Value =
                serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap_or_default();
            Err((response.status().as_u16(), body["code"].as_str().unwrap_or_default().to_owned()))
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn talk(server: &Server, token: &Value) -> Socket {
    let protocols = format!("flowyte.talk.v1, {}", text(&token["token"]));
    connect(server, "/realtime", &protocols, None).unwrap_or_else(|why| panic!("{why:?}"))
}

fn say(socket: &mut Socket, words: &str) {
    let frame = json!({"type": "user_message", "text": words}).to_string();
    socket.send(Message::text(frame)).unwrap();
}

/// Every event up to the one of this name.
fn until(socket: &mut Socket, name: &str) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => events.push(serde_json::from_str::<Value>(&text).unwrap()),
            Message::Ping(_) => continue,
            other => panic!("{other:?} after {events:?}"),
        }
        if events.last().unwrap()["eventType"] == name {
            return events;
        }
    }
}

/// How the server closed, if it said so before it went.
fn closed(socket: &mut Socket) -> Option<CloseCode> {
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => return frame.map(|it| it.code),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// As of every other request, the log says whose a conversation is.
#[test]
fn the_log_line_of_a_handshake_names_who_asked_for_the_token() {
    let world = World::new(&[("LOG_FORMAT", "json")]);
    let server = &world.server;
    let _socket = talk(server, &mint(server, &world.all, &world.agent, false));
    let begun = Instant::now();
    let line = loop {
        let all = server.output.lock().unwrap().clone();
        if let Some(line) = all.lines().find(|it| it.contains("\"status\":101")) {
            break serde_json::from_str::<Value>(line).unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{all}");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(line["organization"], world.organization.as_str());
    assert_eq!(line["credential"], world.all_id.as_str());
}

#[test]
fn a_token_opens_one_conversation_that_is_kept_unless_it_is_a_drafts() {
    for world in worlds(&[]) {
        let (server, key) = (&world.server, &world.all);
        let token = mint(server, key, &world.agent, false);
        assert_eq!(token["realtimeUrl"], format!("ws://localhost:{}/realtime", server.port));
        let mut socket = talk(server, &token);
        // A sign of life is asked for at once, and from then on before a proxy takes the connection for dead.
        assert_eq!(socket.read().unwrap(), Message::Ping(Bytes::new()));
        say(&mut socket, "Do you sell fish?");
        let events = until(&mut socket, "done");
        let kinds: Vec<&str> = events
            .iter()
            .map(|it| it["eventType"].as_str().unwrap())
            .filter(|it| *it != "message_delta")
            .collect();
        assert_eq!(kinds, ["user_utterance", "kb_retrieval", "agent_message", "done"]);
        assert!(events.iter().any(|it| it["eventType"] == "message_delta"), "{events:?}");
        say(&mut socket, "Hello?");
        until(&mut socket, "done");
        for wrong in [
            "{}",
            "no json",
            r#"{"type":"user_message","text":""}"#,
            r#"{"type":"user_message","text":"x","more":1}"#,
        ] {
            socket.send(Message::text(wrong)).unwrap();
            assert_eq!(until(&mut socket, "error")[0]["data"]["code"], "validation_error", "{wrong}");
        }
        socket.close(None).unwrap();
        let path = format!("/api/v1/conversations/{}", text(&token["room"]));
        assert_eq!(server.as_key(key, "GET", &path, None).data()["userTurnCount"], 2);

        // A draft says what the draft says, and nothing is kept.
        let evening = json!({"greeting": "Good evening!"});
        server.as_key(key, "PATCH", &format!("/api/v1/agents/{}", world.agent), Some(&evening)).data();
        let token = mint(server, key, &world.agent, true);
        let mut socket = talk(server, &token);
        say(&mut socket, "What is it?");
        let said = until(&mut socket, "done");
        assert!(
            said.iter()
                .any(|it| it["data"]["text"].as_str().is_some_and(|it| it.starts_with("Good evening!"))),
            "{said:?}"
        );
        say(&mut socket, "And what is that?");
        let said = until(&mut socket, "agent_message");
        assert!(!said.last().unwrap().to_string().contains("Good evening!"), "it remembers: {said:?}");
        let path = format!("/api/v1/conversations/{}", text(&token["room"]));
        assert_eq!(server.as_key(key, "GET", &path, None).status, 404);

        let draft = server.as_key(key, "POST", "/api/v1/agents", Some(&json!({"name": "New"}))).data();
        let path = format!("/api/v1/agents/{}/talk-token", text(&draft["id"]));
        assert_eq!(server.as_key(key, "POST", &path, None).code(), "no_published_version");
    }
}

#[test]
fn a_token_is_good_once_and_from_where_it_may_be_used() {
    for world in worlds(&[]) {
        let (server, key) = (&world.server, &world.all);
        let token = text(&mint(server, key, &world.agent, false)["token"]);
        let offer = format!("flowyte.talk.v1, {token}");
        let status = |path: &str, protocols: &str, origin: Option<&str>| {
            connect(server, path, protocols, origin).map(drop).unwrap_err()
        };
        let invalid = (401, "invalid_credential".to_owned());
        let malformed = (400, "malformed_request".to_owned());
        // None of these uses it up.
        assert_eq!(
            status("/realtime", &offer, Some("https://elsewhere.example")),
            (403, "origin_not_allowed".into())
        );
        assert_eq!(status("/realtime", &offer, Some("null")), (403, "origin_not_allowed".into()));
        assert_eq!(status(&format!("/realtime?token={token}"), &offer, None), malformed);
        assert_eq!(status("/realtime", "flowyte.talk.v1", None), malformed);
        assert_eq!(status("/realtime", &token, None), malformed);
        assert_eq!(status("/realtime", &format!("flowyte.talk.v1, {}", world.all), None), invalid);
        assert_eq!(status("/realtime", &format!("flowyte.talk.v1, {token}x"), None), invalid);
        let bearer = format!("Authorization: Bearer {token}");
        assert_eq!(server.send("GET", "/api/v1/whoami", &[&bearer], None).status, 401);
        // A refusal names the header field that is missing or wrong.
        let good = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Protocol", offer.as_str()),
        ];
        for (at, (name, _)) in good.iter().enumerate() {
            for (value, state) in [(None, "missing"), (Some("8"), "wrong")] {
                let lines: Vec<String> = std::iter::once(format!("Host: localhost:{}", server.port))
                    .chain(good.iter().enumerate().filter_map(|(other, (name, good))| {
                        let value = if other == at { value? } else { good };
                        Some(format!("{name}: {value}"))
                    }))
                    .collect();
                let request = format!("GET /realtime HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
                let got = server.raw(request.as_bytes()).unwrap();
                assert_eq!((got.status, got.code().as_str()), (400, "malformed_request"), "{got:?}");
                let detail = text(&got.json()["detail"]);
                assert!(detail.starts_with(&format!("The header {name} is {state}: send ")), "{detail}");
            }
        }
        let old = format!("GET /realtime HTTP/1.0\r\nHost: localhost:{}\r\n\r\n", server.port);
        let got = server.raw(old.as_bytes()).unwrap();
        assert!(text(&got.json()["detail"]).contains("came over HTTP/1.0"), "{got:?}");
        assert_eq!(server.send("GET", "/realtime", &[], None).status, 400);
        assert_eq!(server.send("POST", "/realtime", &[], None).status, 405);
        // Of many at once one gets it.
        let winners: usize = std::thread::scope(|scope| {
            let race: Vec<_> =
                (0..8).map(|_| scope.spawn(|| connect(server, "/realtime", &offer, Some(SHOP)))).collect();
            race.into_iter().map(|it| it.join().unwrap()).filter(Result::is_ok).count()
        });
        assert_eq!(winners, 1);
        assert_eq!(status("/realtime", &offer, None), invalid);
    }
}

/// Anybody may send what looks like a token, as often as they like; none of that waits for a turn to write, or takes one.
#[test]
fn a_token_that_is_unknown_costs_no_turn_to_write() {
    let world = World::new(&[]);
    let server = &world.server;
    let batches = || -> u64 {
        let metrics = server.ops("/metrics").body;
        let name = "flowyte_database_wait_seconds_count{mode=\"batch\"} ";
        metrics.lines().find_map(|it| it.strip_prefix(name)).map_or(0, |it| it.parse().unwrap())
    };
    let used = mint(server, &world.all, &world.agent, false);
    let offer = format!("flowyte.talk.v1, {}", text(&used["token"]));
    let mut first = connect(server, "/realtime", &offer, None).unwrap();
    let before = batches();
    for _ in 0..300 {
        let refused = connect(server, "/realtime", &offer, None).unwrap_err();
        assert_eq!(refused, (401, "invalid_credential".into()));
    }
    assert!(batches() < before + 150, "from {before} to {}", batches());
    say(&mut first, "Still there?");
    until(&mut first, "done");
}

/// Takes something away and says how: each is a way in which the one who asked for a token may no longer talk.
type Narrowing = (&'static str, Narrow);
type Narrow = Box<dyn Fn(&World, &str)>;

/// Item F4 for open streams: whatever is narrowed ends the connection within two seconds.
#[test]
fn every_narrowing_ends_a_conversation() {
    let patch = |body: Value| -> Narrow {
        Box::new(move |world, id| {
            let path = format!("/api/v1/api-keys/{id}");
            world.server.as_member(&world.owner, "PATCH", &path, Some(&body)).data();
        })
    };
    let ends = |what: &str, mut socket: Socket, take: &dyn Fn()| {
        say(&mut socket, "Still there?");
        until(&mut socket, "done");
        take();
        let begun = Instant::now();
        assert_eq!(closed(&mut socket), Some(CloseCode::Policy), "{what}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{what}: {:?}", begun.elapsed());
    };
    for world in worlds(&[]) {
        let server = &world.server;
        // What is done to a key, which is met by both of its secrets.
        let keys: [Narrowing; 4] = [
            ("scopes", patch(json!({"scopes": ["agents:read"]}))),
            ("addresses", patch(json!({"allowedAddresses": ["192.0.2.0/24"]}))),
            ("grace", patch(json!({"graceEndsAt": "2020-01-01T00:00:00Z"}))),
            (
                "revocation",
                Box::new(|world, id| {
                    let path = format!("/api/v1/api-keys/{id}");
                    world.server.as_member(&world.owner, "DELETE", &path, None).data();
                }),
            ),
        ];
        for (what, take) in keys {
            let body = json!({"name": what, "scopes": ["agents:read", "agents:write"]});
            let (id, key) = server.mint(&world.owner, body);
            let socket = talk(server, &mint(server, &key, &world.agent, false));
            let path = format!("/api/v1/api-keys/{id}/rotate");
            server.as_member(&world.owner, "POST", &path, Some(&json!({"graceSeconds": 3600}))).data();
            ends(what, socket, &|| take(&world, &id));
        }
        // What is done to a member.
        let open = |cookie: &str| {
            let path = format!("/api/v1/agents/{}/talk-token", world.agent);
            talk(server, &server.as_member(cookie, "POST", &path, Some(&json!({}))).data())
        };
        let members = server.as_member(&world.owner, "GET", "/api/v1/members", None).data();
        let member = |email: &str| {
            let found = members.as_array().unwrap().iter().find(|it| it["email"] == email).unwrap();
            format!("/api/v1/members/{}", text(&found["id"]))
        };
        let lowered = member("admin@alpha.example");
        ends("role", open(&world.admin), &|| {
            server.as_member(&world.owner, "PATCH", &lowered, Some(&json!({"role": "viewer"}))).data();
        });
        let removed = member("developer@alpha.example");
        ends("removal", open(&world.developer), &|| {
            server.as_member(&world.owner, "DELETE", &removed, None).data();
        });
        let out = server.log_in("ada@alpha.example", crate::support::PASSWORD).cookie();
        ends("sign-out", open(&out), &|| {
            server.as_member(&out, "POST", "/api/v1/auth/logout", None);
        });
        // What is done to the page that the connection comes from.
        let offer =
            format!("flowyte.talk.v1, {}", text(&mint(server, &world.all, &world.agent, false)["token"]));
        let socket = connect(server, "/realtime", &offer, Some(SHOP)).unwrap();
        ends("origin", socket, &|| {
            let path = format!("/api/v1/agents/{}/publishable-keys/{}", world.agent, world.pk_id);
            let body = json!({"allowedOrigins": ["https://elsewhere.example"]});
            server.as_member(&world.owner, "PATCH", &path, Some(&body)).data();
        });
    }
}

/// An operator who suspends an organization ends what it has open, as soon as the server hears of it.
#[test]
fn a_suspended_organization_talks_no_more() {
    let world = World::new(&[]);
    let mut socket = talk(&world.server, &mint(&world.server, &world.all, &world.agent, true));
    let organization = OrganizationId::parse(&world.organization).unwrap();
    let file = world.server.folder.join("flowyte.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(&file, flowyte::GUESTS).await.unwrap();
        let mut tx = store.security().await.unwrap();
        tx.exec(
            "UPDATE organizations SET suspended = 1 WHERE id = $1",
            vec![flowyte_store::db::id(organization)],
        )
        .await
        .unwrap();
        let now = flowyte_core::Timestamp::from_micros(0);
        tx.change(organization, flowyte_store::Entity::Organization, organization, now).await.unwrap();
        tx.commit().await.unwrap();
    });
    // Another organization's change makes the server read what changed.
    let (_, _) = world.server.mint(&world.other_owner, json!({"name": "x", "scopes": ["agents:read"]}));
    let begun = Instant::now();
    assert_eq!(closed(&mut socket), Some(CloseCode::Policy));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// A question over a WebSocket costs what a request costs.
#[test]
fn each_question_is_charged_to_the_keys_limit() {
    let world = World::new(&[]);
    let server = &world.server;
    let body = json!({"name": "slow", "scopes": ["agents:write"], "rateLimitRpm": 3});
    let (_, key) = server.mint(&world.owner, body);
    let mut socket = talk(server, &mint(server, &key, &world.agent, true));
    for _ in 0..2 {
        say(&mut socket, "Hello?");
        until(&mut socket, "done");
    }
    say(&mut socket, "And now?");
    let events = until(&mut socket, "error");
    assert_eq!(events.last().unwrap()["data"]["code"], "rate_limited", "{events:?}");
}

#[test]
fn a_conversation_ends_with_its_credential_its_limits_and_its_server() {
    let mut world = World::new(&[]);
    let server = &world.server;
    let (id, key) = server.mint(&world.owner, json!({"name": "talks", "scopes": ["agents:write"]}));
    let mut socket = talk(server, &mint(server, &key, &world.agent, false));
    let unused = mint(server, &key, &world.agent, false);
    server.as_member(&world.owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).data();
    let begun = Instant::now();
    assert_eq!(closed(&mut socket), Some(CloseCode::Policy));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let offer = format!("flowyte.talk.v1, {}", text(&unused["token"]));
    assert_eq!(connect(server, "/realtime", &offer, None).unwrap_err(), (401, "credential_revoked".into()));

    let open = || talk(server, &mint(server, &world.all, &world.agent, true));
    let mut long = open();
    let _ = long.send(Message::text("x".repeat(40 * 1024)));
    assert_eq!(closed(&mut long), Some(CloseCode::Size));
    // Masked with noughts: text that is no UTF-8, a reserved bit, no mask at all, and a farewell, which gets its answer.
    for (frame, code) in [
        (&b"\x81\x82\0\0\0\0\xff\xfe"[..], CloseCode::Invalid),
        (b"\xf1\x80\0\0\0\0", CloseCode::Protocol),
        (b"\x81\x02{}", CloseCode::Protocol),
        (b"\x88\x82\0\0\0\0\x03\xe8", CloseCode::Normal),
    ] {
        let mut bare = open();
        bare.get_mut().write_all(frame).unwrap();
        assert_eq!(closed(&mut bare), Some(code), "{frame:?}");
    }
    let mut binary = open();
    binary.send(Message::binary(vec![0])).unwrap();
    assert_eq!(closed(&mut binary), Some(CloseCode::Unsupported));
    let mut flood = open();
    for _ in 0..200 {
        if flood.send(Message::Ping(Bytes::new())).is_err() {
            break;
        }
    }
    assert_eq!(closed(&mut flood), Some(CloseCode::Policy));
    let mut last = open();
    say(&mut last, "Still there?");
    until(&mut last, "done");
    let begun = Instant::now();
    let waiting = std::thread::spawn(move || closed(&mut last));
    assert!(world.server.terminate().success());
    assert_eq!(waiting.join().unwrap(), Some(CloseCode::Away));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
