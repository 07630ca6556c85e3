//! Knowledge end to end: what is added is read in the background, found by those it belongs to and by nobody else, and
//! answered from in the widget.

use crate::support::{Server, World, text, worlds};
use serde_json::{Value, json};
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
