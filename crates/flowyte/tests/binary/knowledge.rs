//! Knowledge end to end: what is added is read in the background, found by those it belongs to and by nobody else, and
//! answered from in the widget.

use crate::support::{self, Got, Server, World, text, worlds};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Waits until a source is read or given up.
pub fn read(server: &Server, key: &str, agent: &str, source: &str) -> Value {
    let path = format!("/api/v1/agents/{agent}/knowledge/sources/{source}");
    let begun = Instant::now();
    loop {
        let source = server.as_key(key, "GET", &path, None).data();
        if matches!(source["status"].as_str(), Some("indexed" | "failed")) {
            return source;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{source}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Adds a source and waits for it.
fn add(server: &Server, key: &str, agent: &str, body: Value) -> Value {
    let path = format!("/api/v1/agents/{agent}/knowledge/sources");
    let added = server.as_key(key, "POST", &path, Some(&body)).data();
    assert_eq!((added["status"].as_str(), added["chunkCount"].as_i64()), (Some("pending"), Some(0)));
    read(server, key, agent, added["id"].as_str().unwrap())
}

fn preview(server: &Server, key: &str, agent: &str, body: Value) -> Value {
    let path = format!("/api/v1/agents/{agent}/knowledge/preview");
    server.as_key(key, "POST", &path, Some(&body)).data()
}

/// Asks as a visitor; the text and the sources that the answer names.
fn chat(world: &World, words: &str) -> (String, Value) {
    let body = json!({"content": words});
    let got = world.server.as_widget(&world.visitor, "POST", "/api/v1/chat/widget/messages", Some(&body));
    let done =
        got.body.lines().skip_while(|it| *it != "event: done").nth(1).unwrap_or_else(|| panic!("{got:?}"));
    let done: Value = serde_json::from_str(done.strip_prefix("data: ").unwrap()).unwrap();
    (text(&done["text"]), done["sources"].clone())
}

const HOURS: &str = "# Opening hours\n\nWe are open from Tuesday to Sunday, nine to five.\n\n# Parking\n\nThe car park behind the \
    house has forty places and costs two euros an hour.";
const FAQ: &str = "Q: Can I bring my dog?\nA: Dogs are welcome on a lead.\n\nQ: Do you rent bicycles?\nA: No, but the shop next door does.";

#[test]
fn what_was_added_is_found_answered_from_and_forgotten() {
    for world in worlds(&[]) {
        let (server, key, agent) = (&world.server, &world.all, &world.agent);
        let report = format!("/api/v1/agents/{agent}/prepublish-report");
        assert!(server.as_key(key, "GET", &report, None).body.contains("no knowledge yet"));
        assert!(chat(&world, "When are you open?").0.contains("I don't know"));

        let hours = add(server, key, agent, json!({"kind": "text", "label": "House rules", "text": HOURS}));
        assert_eq!(
            (hours["status"].as_str(), hours["chunkCount"].as_i64()),
            (Some("indexed"), Some(2)),
            "{hours}"
        );
        assert_eq!(hours["progress"], json!({"current": 2, "total": 2}));
        assert_eq!(hours["textContent"], HOURS);
        let faq = add(server, key, agent, json!({"kind": "faq", "label": "Questions", "text": FAQ}));
        assert_eq!(faq["chunkCount"], 2);

        let found = preview(server, key, agent, json!({"query": "On which days are you open?"}));
        assert!(text(&found["chunks"][0]["answer"]).contains("Tuesday"), "{found}");
        assert_eq!(found["topScore"], found["chunks"][0]["similarity"]);
        let found =
            preview(server, key, agent, json!({"query": "Are dogs allowed?", "sourceIds": [faq["id"]]}));
        assert_eq!(found["chunks"][0]["question"], "Can I bring my dog?");
        let found =
            preview(server, key, agent, json!({"query": "Are dogs allowed?", "sourceIds": [hours["id"]]}));
        assert!(
            found["chunks"].as_array().unwrap().iter().all(|it| it["sourceId"] == hours["id"]),
            "{found}"
        );
        let found = preview(server, key, agent, json!({"query": "Kubernetes"}));
        assert_eq!(found, json!({"chunks": [], "topScore": 0.0}));

        let (said, sources) = chat(&world, "When are you open?");
        assert!(said.contains("Tuesday to Sunday"), "{said}");
        assert_eq!(sources, json!([{"id": hours["id"], "label": "House rules", "url": null}]));
        let (said, sources) = chat(&world, "Who won the world cup in 1954?");
        assert!(said.contains("I don't know") && sources == json!([]), "{said} {sources}");
        let (said, _) = chat(&world, "Is my dog welcome?");
        assert!(said.contains("on a lead"), "{said}");
        assert!(server.as_key(key, "GET", &report, None).body.contains("4 passages from 2 sources"));

        // The other organization finds nothing of it, with its own agent or with this one.
        let found =
            preview(server, &world.other_all, &world.other_agent, json!({"query": "When are you open?"}));
        assert_eq!(found, json!({"chunks": [], "topScore": 0.0}));
        let path = format!("/api/v1/agents/{}/knowledge/preview", world.other_agent);
        let body = json!({"query": "When are you open?", "sourceIds": [hours["id"]]});
        assert_eq!(server.as_key(&world.other_all, "POST", &path, Some(&body)).code(), "not_found");

        let gone = format!("/api/v1/agents/{agent}/knowledge/sources/{}", text(&hours["id"]));
        assert_eq!(server.as_key(key, "DELETE", &gone, None).data(), Value::Null);
        assert_eq!(server.as_key(key, "GET", &gone, None).code(), "not_found");
        let found = preview(server, key, agent, json!({"query": "When are you open?"}));
        assert!(!found.to_string().contains("Tuesday"), "{found}");
        assert_eq!(server.as_key(key, "DELETE", &format!("/api/v1/agents/{agent}"), None).status, 200);
        let path = format!("/api/v1/agents/{agent}/knowledge/preview");
        assert_eq!(server.as_key(key, "POST", &path, Some(&json!({"query": "dog"}))).code(), "not_found");
    }
}

#[test]
fn two_organizations_with_the_same_words_find_their_own() {
    for world in worlds(&[]) {
        let server = &world.server;
        for (key, agent, word) in
            [(&world.all, &world.agent, "lighthouse"), (&world.other_all, &world.other_agent, "windmill")]
        {
            for n in 0..3 {
                let body = json!({"kind": "text", "label": format!("Note {n}"), "text": format!("The secret code word of house {n} is {word}.")});
                assert_eq!(add(server, key, agent, body)["status"], "indexed");
            }
        }
        for (key, agent, own, other) in [
            (&world.all, &world.agent, "lighthouse", "windmill"),
            (&world.other_all, &world.other_agent, "windmill", "lighthouse"),
        ] {
            for query in ["What is the secret code word?", own, other, "house lighthouse windmill"] {
                let found = preview(server, key, agent, json!({"query": query})).to_string();
                assert!(!found.contains(other), "{query}: {found}");
                assert_eq!(found.contains(own), query != other, "{query}: {found}");
            }
        }
    }
}

#[test]
fn what_is_no_source_is_refused_and_says_why() {
    let world = World::new(&[]);
    let path = format!("/api/v1/agents/{}/knowledge/sources", world.agent);
    for (body, field) in [
        (json!({"kind": "faq", "label": "x", "text": "No question here."}), "text"),
        (json!({"kind": "text", "label": "x"}), "text"),
        (json!({"kind": "text", "label": " ", "text": "y"}), "label"),
        (json!({"kind": "image", "label": "x", "text": "y"}), "kind"),
        (json!({"kind": "text", "label": "x", "text": "y", "embeddingModel": "z"}), "embeddingModel"),
    ] {
        let got = world.server.as_key(&world.all, "POST", &path, Some(&body));
        assert_eq!((got.status, got.code().as_str()), (400, "validation_error"), "{body}: {got:?}");
        assert!(got.body.contains(field), "{body}: {got:?}");
    }
    let source = add(
        &world.server,
        &world.all,
        &world.agent,
        json!({"kind": "text", "label": "x", "text": "…\n\n---"}),
    );
    assert_eq!(
        (source["status"].as_str(), source["errorMessage"].as_str()),
        (Some("failed"), Some("There is no text in it."))
    );
    let one = format!("{path}/{}", text(&source["id"]));
    let patch = |body: Value| world.server.as_key(&world.all, "PATCH", &one, Some(&body));
    assert_eq!(patch(json!({"refreshIntervalS": 86400})).data()["refreshIntervalS"], 86400);
    assert_eq!(patch(json!({"refreshIntervalS": 86399})).code(), "validation_error");
    assert_eq!(patch(json!({"refreshEnabled": true})).code(), "conflict");
    // A repeated request is one source.
    let once = |n: u32| {
        let body = json!({"kind": "text", "label": "once", "text": format!("Only once {n}.")});
        world.server.send(
            "POST",
            &path,
            &[&format!("Authorization: Bearer {}", world.all), "Idempotency-Key: 0123456789abcdef-knowledge"],
            Some(&body),
        )
    };
    assert_eq!(once(1).data()["id"], once(1).data()["id"]);
    assert_eq!(once(2).code(), "idempotency_key_reused");
}

/// Uploads a file as a browser does.
fn upload(server: &Server, key: &str, name: &str, content_type: &str, content: &[u8]) -> Got {
    let mut body = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {content_type}\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--edge--\r\n");
    multipart(server, key, "multipart/form-data; boundary=edge", &body)
}

fn multipart(server: &Server, key: &str, content_type: &str, body: &[u8]) -> Got {
    let mut request = format!(
        "POST /api/v1/uploads HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\nAuthorization: Bearer {key}\r\nContent-Type: \
         {content_type}\r\nContent-Length: {}\r\n\r\n",
        server.port,
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    server.raw(&request).unwrap()
}

#[test]
fn a_file_is_uploaded_taken_by_one_source_and_read() {
    for world in worlds(&[]) {
        let (server, key, agent) = (&world.server, &world.all, &world.agent);
        let sources = format!("/api/v1/agents/{agent}/knowledge/sources");
        let html = "<html><title>Garden</title><body><nav>Home</nav><main><h1>The garden</h1><p>Roses bloom in June.</p></main>";
        let kept = upload(server, key, "C:\\docs\\garden.html", "text/html", html.as_bytes());
        assert_eq!(kept.status, 201, "{kept:?}");
        let file = kept.data();
        assert_eq!(
            (file["filename"].as_str(), file["contentType"].as_str()),
            (Some("garden.html"), Some("text/html"))
        );
        assert_eq!(file["sizeBytes"].as_u64(), Some(html.len() as u64));

        let body = json!({"kind": "file", "label": "Garden", "file_id": file["fileId"]});
        // A file of another organization is nowhere.
        let theirs = format!("/api/v1/agents/{}/knowledge/sources", world.other_agent);
        assert_eq!(server.as_key(&world.other_all, "POST", &theirs, Some(&body)).code(), "not_found");
        let source = add(server, key, agent, body.clone());
        assert_eq!(
            (source["status"].as_str(), source["chunkCount"].as_i64()),
            (Some("indexed"), Some(1)),
            "{source}"
        );
        let found = preview(server, key, agent, json!({"query": "When do the roses bloom?"}));
        assert_eq!(found["chunks"][0]["answer"], "Roses bloom in June.");
        assert_eq!(
            server.as_key(key, "POST", &sources, Some(&body)).code(),
            "not_found",
            "read and forgotten"
        );

        let csv = upload(
            server,
            key,
            "faq.csv",
            "text/csv",
            b"question,answer\nIs there a cafe?,\"Yes, by the gate.\"\n",
        )
        .data();
        let source =
            add(server, key, agent, json!({"kind": "file", "label": "FAQ", "file_id": csv["fileId"]}));
        assert_eq!(source["chunkCount"], 1, "{source}");
        let found = preview(server, key, agent, json!({"query": "Do you have a cafe?"}));
        assert_eq!(found["chunks"][0]["question"], "Is there a cafe?");

        // A broken file fails with a reason, and whoever reads it takes nothing with it.
        let broken =
            upload(server, key, "x.pdf", "application/pdf", b"%PDF-1.7\n1 0 obj << /Type /Catalog").data();
        let source =
            add(server, key, agent, json!({"kind": "file", "label": "Broken", "file_id": broken["fileId"]}));
        assert_eq!(source["status"], "failed");
        assert!(text(&source["errorMessage"]).contains("PDF"), "{source}");
        assert_eq!(source["progress"], json!({"current": 0, "total": 0}));
    }
}

#[test]
fn what_is_no_upload_is_refused() {
    let world = World::new(&[]);
    let (server, key) = (&world.server, &world.all);
    for (name, content_type, content, said) in [
        ("x.png", "image/png", &b"\x89PNG\r\n\x1a\n"[..], "must be PDF, DOCX"),
        ("x.pdf", "application/pdf", b"hello", "is not what its name or its type says"),
        ("x.txt", "text/plain", b"%PDF-1.4", "is not what its name or its type says"),
        ("x.txt", "text/plain", b"", "is empty"),
        ("", "text/plain", b"hello", "file name"),
        ("x.exe", "application/octet-stream", b"MZ\x00\x00", "must be PDF, DOCX"),
    ] {
        let got = upload(server, key, name, content_type, content);
        assert_eq!(got.code(), "validation_error", "{name}: {got:?}");
        assert!(got.body.contains(said), "{name}: {got:?}");
    }
    for (content_type, body, code) in [
        (
            "multipart/form-data; boundary=edge",
            &b"--edge\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n--edge--\r\n"[..],
            "validation_error",
        ),
        ("multipart/form-data; boundary=edge", b"--edge--\r\n", "validation_error"),
        ("multipart/form-data; boundary=edge", b"no parts at all", "malformed_request"),
        ("multipart/form-data; boundary=edge", b"", "malformed_request"),
        ("multipart/form-data", b"--edge--\r\n", "unsupported_media_type"),
        ("application/json", b"{}", "unsupported_media_type"),
        ("application/pdf", b"%PDF-1.4", "unsupported_media_type"),
    ] {
        let got = multipart(server, key, content_type, body);
        assert_eq!(got.code(), code, "{content_type} {}: {got:?}", String::from_utf8_lossy(body));
    }
    let large = vec![b'x'; 25 << 20];
    assert_eq!(
        upload(server, key, "large.txt", "text/plain", &large).data()["sizeBytes"].as_u64(),
        Some(25 << 20)
    );
    let larger = vec![b'x'; (25 << 20) + 1];
    assert_eq!(upload(server, key, "larger.txt", "text/plain", &larger).code(), "payload_too_large");
    // One that announces more than any upload is refused before it is sent.
    let head = format!(
        "POST /api/v1/uploads HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\nAuthorization: Bearer {key}\r\nContent-Type: \
         multipart/form-data; boundary=edge\r\nContent-Length: 99999999\r\n\r\n",
        server.port
    );
    assert_eq!(server.raw(head.as_bytes()).unwrap().code(), "payload_too_large");
}

/// A site with one page, whose text and status can be changed.
struct Site {
    port: u16,
    page: Arc<Mutex<(u16, String)>>,
}

impl Site {
    fn open(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let page = Arc::new(Mutex::new((200, text.to_owned())));
        let shown = page.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let (status, text) = shown.lock().unwrap().clone();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                    text.len()
                );
            }
        });
        Self { port, page }
    }

    fn show(&self, status: u16, text: &str) {
        *self.page.lock().unwrap() = (status, text.to_owned());
    }
}

#[test]
fn a_page_is_fetched_where_the_operator_allows_it_and_nowhere_else_inside() {
    let site = Site::open("<html><body><main><h1>Tides</h1><p>High water is at noon.</p></main>");
    let allowed = format!("127.0.0.1:{}", site.port);
    let world = World::new(&[("OUTBOUND_ALLOW", &allowed)]);
    let (server, key, agent) = (&world.server, &world.all, &world.agent);
    let url = format!("http://{allowed}/tides");
    let source = add(server, key, agent, json!({"kind": "url", "label": "Tides", "url": url}));
    assert_eq!(
        (source["status"].as_str(), source["sourceUrl"].as_str()),
        (Some("indexed"), Some(url.as_str())),
        "{source}"
    );
    let found = preview(server, key, agent, json!({"query": "When is high water?"}));
    assert_eq!(
        (found["chunks"][0]["answer"].as_str(), found["chunks"][0]["sourceUrl"].as_str()),
        (Some("High water is at noon."), Some(url.as_str()))
    );

    let sources = format!("/api/v1/agents/{agent}/knowledge/sources");
    let ops = server.ops_port;
    for url in [
        format!("http://127.0.0.1:{ops}/metrics"),
        format!("http://localhost:{ops}/metrics"),
        format!("http://[::1]:{ops}/"),
        format!("http://2130706433:{ops}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://user:secret@example.com/".to_owned(),
    ] {
        let body = json!({"kind": "url", "label": "x", "url": url});
        let got = server.as_key(key, "POST", &sources, Some(&body));
        if url.contains("localhost") {
            // A name is looked up when it is fetched.
            let source = read(server, key, agent, got.data()["id"].as_str().unwrap());
            assert_eq!(source["errorMessage"], "The host has no public address.", "{source}");
        } else {
            assert_eq!(got.code(), "validation_error", "{url}: {got:?}");
        }
    }
    // A page that redirects inside is not followed there.
    site.show(302, "");
    let source = add(server, key, agent, json!({"kind": "url", "label": "y", "url": url}));
    assert_eq!(
        (source["status"].as_str(), source["errorMessage"].as_str()),
        (Some("failed"), Some("The host answers 302.")),
        "{source}"
    );

    let one = format!("{sources}/{}", text(&found["chunks"][0]["sourceId"]));
    let refresh = json!({"refreshEnabled": true, "refreshIntervalS": 86400});
    let source = server.as_key(key, "PATCH", &one, Some(&refresh)).data();
    let at = |field: &str| source[field].as_str().unwrap().parse::<flowyte_core::Timestamp>().unwrap();
    assert_eq!(at("nextRefreshAt").since(at("lastCheckedAt")), flowyte_core::time::DAY);
    let source = server.as_key(key, "PATCH", &one, Some(&json!({"refreshEnabled": false}))).data();
    assert_eq!(source["nextRefreshAt"], Value::Null);
    for body in [
        json!({"kind": "url", "label": "x"}),
        json!({"kind": "url", "label": "x", "url": url, "text": "y"}),
        json!({"kind": "file", "label": "x", "url": url}),
        json!({"kind": "text", "label": "x", "text": "y", "file_id": "file_1"}),
    ] {
        assert_eq!(server.as_key(key, "POST", &sources, Some(&body)).code(), "validation_error", "{body}");
    }
}

#[test]
fn a_kill_at_any_point_leaves_each_source_read_exactly_once() {
    let mut world = World::new(&[("LOG_LEVEL", "error")]);
    let (key, agent) = (world.all.clone(), world.agent.clone());
    let sources = format!("/api/v1/agents/{agent}/knowledge/sources");
    // Each makes some hundred passages, so that kills meet it half-way.
    const SOURCES: usize = 12;
    const PASSAGES: usize = 350;
    let mut ids = Vec::new();
    for n in 0..SOURCES {
        let text: String =
            (0..PASSAGES).map(|it| format!("# Part {it}\nThe word of source {n} is zebra{n}.\n\n")).collect();
        let body = json!({"kind": "text", "label": format!("Source {n}"), "text": text});
        ids.push(support::text(&world.server.as_key(&key, "POST", &sources, Some(&body)).data()["id"]));
        if n % 3 == 2 {
            std::thread::sleep(Duration::from_millis(40 * n as u64));
            world.server.kill_and_restart();
        }
    }
    for delay in [10, 60, 150, 300] {
        std::thread::sleep(Duration::from_millis(delay));
        world.server.kill_and_restart();
    }
    for id in &ids {
        let source = read(&world.server, &key, &agent, id);
        assert_eq!(
            (source["status"].as_str(), source["chunkCount"].as_u64()),
            (Some("indexed"), Some(PASSAGES as u64)),
            "{source}"
        );
    }
    let file = world.server.folder.join("flowyte.db");
    world.server.terminate();
    let count = |sql: &str| {
        let database = rusqlite::Connection::open(&file).unwrap();
        database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count("SELECT COUNT(*) FROM passages"), (SOURCES * PASSAGES) as i64);
    assert_eq!(
        count("SELECT COUNT(*) FROM (SELECT DISTINCT source_id, position FROM passages)"),
        (SOURCES * PASSAGES) as i64
    );
    // The generation has moved once for each source: none was served twice.
    assert_eq!(count("SELECT MAX(knowledge_generation) FROM agents"), SOURCES as i64);
}
