//! Conversations end to end: chat for backends, completions, and what is seen of all of it afterwards.

use crate::support::{Got, World, text, worlds};
use serde_json::{Value, json};

/// The names of a stream's events.
fn names(got: &Got) -> Vec<&str> {
    got.body.lines().filter_map(|it| it.strip_prefix("event: ")).collect()
}

/// What the last event of this name says.
fn said(got: &Got, name: &str) -> Value {
    let event = format!("event: {name}");
    let lines: Vec<&str> = got.body.lines().collect();
    let at = lines.iter().rposition(|it| *it == event).unwrap_or_else(|| panic!("no {name}: {got:?}"));
    serde_json::from_str(lines[at + 1].strip_prefix("data: ").unwrap()).unwrap()
}

/// Teaches the agent of the world when it is open.
fn teach(world: &World, agent: &str) {
    let path = format!("/api/v1/agents/{agent}/knowledge/sources");
    let faq = "Q: When do you open?\nA: We open at nine.";
    let body = json!({"kind": "faq", "label": "Opening hours", "text": faq});
    let source = world.server.as_key(&world.all, "POST", &path, Some(&body)).data();
    crate::knowledge::read(&world.server, &world.all, agent, source["id"].as_str().unwrap());
}

fn open(world: &World, key: &str) -> String {
    let body = json!({"agentId": world.agent});
    text(&world.server.as_key(key, "POST", "/api/v1/chat/sessions", Some(&body)).data()["id"])
}

fn send(world: &World, key: &str, session: &str, words: &str) -> Got {
    let path = format!("/api/v1/chat/sessions/{session}/messages");
    world.server.as_key(key, "POST", &path, Some(&json!({"content": words})))
}

#[test]
fn a_session_is_opened_talked_in_and_ended() {
    for world in worlds(&[]) {
        let (server, key) = (&world.server, &world.all);
        teach(&world, &world.agent);
        let id = open(&world, key);
        let session = format!("/api/v1/chat/sessions/{id}");
        let got = server.as_key(key, "GET", &session, None).data();
        assert_eq!((&got["status"], &got["environment"]), (&json!("open"), &json!("live")));

        let answer = send(&world, key, &id, "When do you open?");
        assert_eq!(answer.status, 201);
        assert!(text(&answer.data()["text"]).contains("We open at nine."), "{answer:?}");
        assert_eq!(answer.data()["sources"][0]["label"], "Opening hours");
        let body = json!({"content": "Do you sell fish?", "stream": true});
        let streamed = server.as_key(key, "POST", &format!("{session}/messages"), Some(&body));
        assert_eq!((streamed.status, streamed.header("content-type")), (201, Some("text/event-stream")));
        assert_eq!(names(&streamed).first(), Some(&"message_delta"));
        assert!(text(&said(&streamed, "done")["text"]).contains("I don't know"), "{streamed:?}");

        let messages = server.as_key(key, "GET", &format!("{session}/messages"), None).data();
        let roles: Vec<&str> =
            messages.as_array().unwrap().iter().map(|it| it["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
        let page = server.as_key(key, "GET", &format!("{session}/messages?limit=3"), None).json();
        let cursor = text(&page["pagination"]["nextCursor"]);
        let rest =
            server.as_key(key, "GET", &format!("{session}/messages?limit=3&cursor={cursor}"), None).data();
        assert_eq!(rest.as_array().unwrap().len(), 1);

        for _ in 0..2 {
            let ended = server.as_key(key, "POST", &format!("{session}/end"), None).data();
            assert_eq!((&ended["status"], &ended["outcome"]), (&json!("ended"), &json!("completed")));
        }
        let late = send(&world, key, &id, "Hello?");
        assert_eq!((late.status, late.code().as_str()), (409, "conflict"));

        // A visitor's conversation is nobody else's to go on with.
        let visitor = server.as_widget(&world.pk, "POST", "/api/v1/chat/widget/sessions", None).data();
        let theirs = format!("/api/v1/chat/sessions/{}", text(&visitor["conversationId"]));
        assert_eq!(server.as_key(key, "GET", &theirs, None).status, 404);
        assert_eq!(send(&world, key, &text(&visitor["conversationId"]), "I am you").status, 404);
        assert_eq!(server.as_key(key, "POST", &format!("{theirs}/end"), None).status, 404);
        for agent in [&world.other_agent, "agent_01938f2c5a007b3e8d41000000000fff", "x"] {
            let got = server.as_key(key, "POST", "/api/v1/chat/sessions", Some(&json!({"agentId": agent})));
            assert_eq!((got.status, got.code().as_str()), (404, "not_found"), "{agent}");
        }
        // The same request by the same Idempotency-Key opens one session.
        let headers = [&format!("Authorization: Bearer {key}"), "Idempotency-Key: one-session-and-no-other"];
        let body = json!({"agentId": world.agent});
        let twice =
            [(); 2].map(|()| server.send("POST", "/api/v1/chat/sessions", &headers, Some(&body)).data());
        assert_eq!(twice[0], twice[1]);
    }
}

#[test]
fn a_completion_has_the_shape_that_clients_know() {
    for world in worlds(&[]) {
        let (server, key) = (&world.server, &world.all);
        teach(&world, &world.agent);
        let ask = |model: &str, more: Value| {
            let mut body = json!({"model": model, "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "assistant", "content": "Good day!"},
                {"role": "user", "content": [{"type": "text", "text": "When do "}, {"type": "text", "text": "you open?"}]},
            ]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            server.as_key(key, "POST", "/api/v1/chat/completions", Some(&body))
        };
        let whole = ask(&world.agent, json!({})).json();
        assert_eq!(whole["object"], "chat.completion");
        assert_eq!(whole["choices"][0]["message"]["content"], "We open at nine.");
        let streamed = ask(&world.agent, json!({"stream": true, "user": "u-1"}));
        let chunks: Vec<&str> = streamed.body.lines().filter_map(|it| it.strip_prefix("data: ")).collect();
        assert_eq!(chunks.last(), Some(&"[DONE]"));
        let parsed: Vec<Value> =
            chunks[..chunks.len() - 1].iter().map(|it| serde_json::from_str(it).unwrap()).collect();
        let content: String =
            parsed.iter().filter_map(|it| it["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(content, "We open at nine.");
        assert_eq!(parsed[0]["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(parsed.last().unwrap()["choices"][0]["finish_reason"], "stop");

        for model in [&world.other_agent, "agent_01938f2c5a007b3e8d41000000000fff", "gpt-4"] {
            let got = ask(model, json!({}));
            assert_eq!((got.status, got.code().as_str()), (404, "not_found"), "{model}");
            assert_eq!(got.json()["error"]["code"], "not_found");
        }
        assert_eq!(ask(&world.agent, json!({"temperature": 0})).status, 400);
        assert_eq!(
            ask(&world.agent, json!({"messages": [{"role": "assistant", "content": "Hm"}]})).status,
            400
        );
        let nobody = server.send("POST", "/api/v1/chat/completions", &[], Some(&json!({})));
        assert_eq!(nobody.json()["error"]["code"], "missing_credential");
        // Charged twice, kept never.
        let items = server.as_key(key, "GET", "/api/v1/billing/usage/items", None).json();
        assert_eq!(items["data"].as_array().map(Vec::len), Some(2), "{items}");
    }
}
