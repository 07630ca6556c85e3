//! The binary with a model behind it, and skills that run: what a visitor reads, what the owner sees, what is charged.

use crate::services::openai::{self, OpenAi, Reply};
use crate::services::serve;
use crate::support::{Got, World, text, worlds};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Worlds whose live conversations a model answers.
fn with_model(at: &OpenAi) -> impl Iterator<Item = World> {
    waiting_for(at, "1")
}

/// The same, where the model may say nothing for so long.
fn waiting_for(at: &OpenAi, seconds: &'static str) -> impl Iterator<Item = World> {
    let folder = tempfile::tempdir().unwrap().keep();
    let file = openai::key_file(&folder);
    let kept = |text: &str| -> &'static str { text.to_owned().leak() };
    let settings = vec![
        ("MODEL_URL", kept(&at.url)),
        ("MODEL_NAME", openai::NAME),
        ("MODEL_KEY_FILE", kept(&file)),
        ("MODEL_IDLE_SECONDS", seconds),
        ("OUTBOUND_ALLOW", "127.0.0.1"),
    ];
    worlds(settings.leak())
}

/// What each event of this name says.
fn said(got: &Got, name: &str) -> Vec<Value> {
    let lines: Vec<&str> = got.body.lines().collect();
    let of_name = lines.windows(2).filter(|it| it[0] == format!("event: {name}"));
    of_name.map(|it| serde_json::from_str(it[1].strip_prefix("data: ").unwrap()).unwrap()).collect()
}

/// A visitor's new conversation: its id and its token.
fn visit(world: &World, pk: &str) -> (String, String) {
    let opened = world.server.as_widget(pk, "POST", "/api/v1/chat/widget/sessions", None).data();
    (text(&opened["conversationId"]), text(&opened["visitorToken"]))
}

fn chat(world: &World, visitor: &str, words: &str) -> Got {
    let body = json!({"content": words});
    world.server.as_widget(visitor, "POST", "/api/v1/chat/widget/messages", Some(&body))
}

fn receipt(world: &World, conversation: &str) -> Vec<Value> {
    let path = format!("/api/v1/conversations/{conversation}/receipt?limit=100");
    world.server.as_key(&world.all, "GET", &path, None).data().as_array().unwrap().clone()
}

fn of_kind<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|it| it["eventType"] == kind).map(|it| &it["data"]).collect()
}

fn outcome(world: &World, conversation: &str) -> Value {
    let path = format!("/api/v1/conversations/{conversation}");
    world.server.as_key(&world.all, "GET", &path, None).data()["outcome"].clone()
}

fn give(world: &World, body: &Value) -> Value {
    let path = format!("/api/v1/agents/{}/skills", world.agent);
    world.server.as_key(&world.all, "POST", &path, Some(body)).data()
}

fn builtin(name: &str, action: &str) -> Value {
    json!({"name": name, "description": name, "skillType": "builtin", "executionConfig": {"action": action}})
}

/// Carriers and payments are in numbers.rs and billing.rs.
///
/// Rows: TX-24.
#[test]
fn a_model_answers_live_conversations_and_no_test() {
    let at = OpenAi::start();
    for world in with_model(&at) {
        at.script([Reply::Say("Welcome! What can I do for you?".into())]);
        let (conversation, visitor) = visit(&world, &world.pk);
        let got = chat(&world, &visitor, "Hello");
        assert_eq!(said(&got, "done")[0]["text"], "Welcome! What can I do for you?", "{got:?}");
        assert!(said(&got, "message_delta").len() > 3, "it streams: {got:?}");
        let events = receipt(&world, &conversation);
        let done = of_kind(&events, "done")[0];
        assert_eq!(
            (&done["model"], &done["promptTokens"], &done["completionTokens"]),
            (&json!(openai::NAME), &json!(100), &json!(20))
        );
        // What was said before is known.
        at.script([Reply::Say("Yes.".into())]);
        chat(&world, &visitor, "And now?");
        let asked = at.asked()[0]["messages"].clone();
        assert!(
            asked.to_string().contains("What can I do for you?") && asked[4]["content"] == "And now?",
            "{asked}"
        );

        // A test credential, by whatever door, never asks a model.
        at.script([]);
        let scopes = json!(["agents:write", "chat:write"]);
        let (_, test) =
            world.server.mint(&world.owner, json!({"name": "t", "env": "test", "scopes": scopes}));
        let simulate = format!("/api/v1/agents/{}/simulate", world.agent);
        let transcript = json!({"transcript": [{"role": "user", "text": "Hello"}]});
        let got = world.server.as_key(&test, "POST", &simulate, Some(&transcript));
        assert!(text(&said(&got, "agent_message")[0]["text"]).contains("Good day!"), "{got:?}");
        let completion = json!({"model": world.agent, "messages": [{"role": "user", "content": "Hello"}]});
        assert_eq!(
            world.server.as_key(&test, "POST", "/api/v1/chat/completions", Some(&completion)).status,
            200
        );
        let body = json!({"name": "t", "env": "test", "allowedOrigins": [crate::support::SHOP]});
        let keys = format!("/api/v1/agents/{}/publishable-keys", world.agent);
        let pk = text(&world.server.as_key(&world.all, "POST", &keys, Some(&body)).data()["keyPublic"]);
        let (_, visitor) = visit(&world, &pk);
        let got = chat(&world, &visitor, "Hello");
        assert_eq!(
            said(&got, "done")[0]["text"],
            "What would you like to know?",
            "its page has greeted: {got:?}"
        );
        assert!(at.asked().is_empty(), "{:?}", at.asked());

        // A live one does.
        at.script([Reply::Say("From the model.".into()), Reply::Say("From the model.".into())]);
        let got = world.server.as_key(&world.all, "POST", &simulate, Some(&transcript));
        assert_eq!(said(&got, "agent_message")[0]["text"], "From the model.");
        let got =
            world.server.as_key(&world.all, "POST", "/api/v1/chat/completions", Some(&completion)).json();
        assert_eq!(got["choices"][0]["message"]["content"], "From the model.");
        let output = world.server.output.lock().unwrap().clone();
        assert!(!output.contains(openai::KEY) && !output.contains("From the model"), "{output}");
    }
}

/// Trying an agent out asks the same model and costs the same: a thousand simulations are no free conversation.
#[test]
fn trying_an_agent_out_is_charged_where_a_model_answers() {
    let at = OpenAi::start();
    for world in with_model(&at) {
        let used = |key: &str| {
            let items = world.server.as_key(key, "GET", "/api/v1/billing/usage/items?limit=100", None).data();
            items.as_array().unwrap().iter().map(|it| it["quantity"].as_i64().unwrap()).sum::<i64>()
        };
        let simulate = |key: &str| {
            let path = format!("/api/v1/agents/{}/simulate", world.agent);
            let body = json!({"transcript": [{"role": "user", "text": "Hello"}]});
            world.server.as_key(key, "POST", &path, Some(&body))
        };
        let before = used(&world.all);
        at.script([Reply::Say("Welcome.".into()), Reply::Say("Welcome.".into())]);
        for _ in 0..2 {
            assert_eq!(said(&simulate(&world.all), "agent_message")[0]["text"], "Welcome.");
        }
        assert_eq!(used(&world.all), before + 2);
        // What failed costs nothing, and what no model answers neither.
        at.script([Reply::Status(401, None)]);
        assert_eq!(said(&simulate(&world.all), "error").len(), 1);
        let scopes = json!(["agents:write", "billing:read"]);
        let (_, test) =
            world.server.mint(&world.owner, json!({"name": "t", "env": "test", "scopes": scopes}));
        assert_eq!(simulate(&test).status, 200);
        assert_eq!((used(&world.all), used(&test)), (before + 2, 0));
    }
    for world in worlds(&[]) {
        let path = format!("/api/v1/agents/{}/simulate", world.agent);
        let body = json!({"transcript": [{"role": "user", "text": "Hello"}]});
        assert_eq!(world.server.as_key(&world.all, "POST", &path, Some(&body)).status, 200);
        let items = world.server.as_key(&world.all, "GET", "/api/v1/billing/usage/items", None).data();
        assert_eq!(items, json!([]));
    }
}

#[test]
fn a_model_that_fails_is_an_error_and_costs_nothing() {
    let at = OpenAi::start();
    for world in with_model(&at) {
        let key = |method: &str, path: &str, body: &Value| {
            let body = (!body.is_null()).then_some(body);
            world.server.as_key(&world.all, method, &format!("/api/v1{path}"), body)
        };
        let used = || {
            let items = key("GET", "/billing/usage/items?limit=100", &Value::Null).data();
            items.as_array().unwrap().iter().map(|it| it["quantity"].as_i64().unwrap()).sum::<i64>()
        };
        let mut answered = 0;
        for (script, words) in [
            (vec![Reply::Status(401, None)], ""),
            (vec![Reply::Status(503, None); 3], ""),
            (vec![Reply::Hang(Duration::from_secs(4))], ""),
            (vec![Reply::Cut("Half an ans".into())], "Half"),
        ] {
            at.script(script.clone());
            let (conversation, visitor) = visit(&world, &world.pk);
            let got = chat(&world, &visitor, "Hello");
            assert_eq!(said(&got, "error")[0]["code"], "dependency_unavailable", "{script:?}: {got:?}");
            assert!(said(&got, "done").is_empty());
            let begun: String = said(&got, "message_delta").iter().map(|it| text(&it["text"])).collect();
            assert!(begun.starts_with(words), "{got:?}");
            let events = receipt(&world, &conversation);
            assert_eq!(of_kind(&events, "error").len(), 1, "{events:?}");
            assert_eq!(used(), answered, "{script:?}");
            // It goes on as if nothing had been.
            at.script([Reply::Say("Here I am.".into())]);
            assert_eq!(said(&chat(&world, &visitor, "Hello?"), "done")[0]["text"], "Here I am.");
            answered += 1;
            assert_eq!(used(), answered, "{script:?}");
        }
        let session = text(&key("POST", "/chat/sessions", &json!({"agentId": world.agent})).data()["id"]);
        let completion = json!({"model": world.agent, "messages": [{"role": "user", "content": "Hello"}]});
        for (path, body) in [
            (format!("/chat/sessions/{session}/messages"), json!({"content": "Hello"})),
            ("/chat/completions".to_owned(), completion),
        ] {
            at.script([Reply::Status(401, None)]);
            let got = key("POST", &path, &body);
            assert_eq!((got.status, got.code().as_str()), (503, "dependency_unavailable"), "{got:?}");
            assert_eq!(used(), answered);
        }
        assert_eq!(key("GET", "/billing/wallet", &Value::Null).data()["balanceUsd"], 0.0);
    }
}

#[test]
fn skills_run_and_the_owner_sees_it() {
    let at = OpenAi::start();
    let asked: Arc<Mutex<Vec<crate::services::Request>>> = Arc::default();
    let log = asked.clone();
    let shop = serve(move |request| {
        log.lock().unwrap().push(request.clone());
        (200, json!({"message": "Order AB12 is on its way."}).to_string())
    });
    for world in with_model(&at) {
        asked.lock().unwrap().clear();
        give(
            &world,
            &json!({
                "name": "Order status", "description": "Where an order is.", "skillType": "http_webhook",
                "parametersSchema": {"properties": {"order": {"type": "string"}}}, "requiredParams": ["order"],
                "executionConfig": {"url": format!("{shop}/orders"), "headers": {"X-Api-Key": "opened-again"}},
            }),
        );
        let refund = json!({
            "name": "Refund", "description": "Gives money back.", "skillType": "http_webhook", "requiresConfirmation": true,
            "parametersSchema": {"properties": {"order": {"type": "string"}}}, "requiredParams": ["order"],
            "executionConfig": {"url": format!("{shop}/refunds")},
        });
        give(&world, &refund);
        give(&world, &builtin("Goodbye", "end_call"));
        give(&world, &builtin("Note", "take_message"));
        give(
            &world,
            &json!({"name": "People", "description": "To people.", "skillType": "transfer", "executionConfig": {"destination": "the desk"}}),
        );
        let off = give(&world, &builtin("Off", "repeat"));
        let path = format!("/api/v1/agents/{}/skills/{}", world.agent, text(&off["id"]));
        world.server.as_key(&world.all, "PATCH", &path, Some(&json!({"isEnabled": false}))).data();

        // By a model.
        at.script([
            Reply::Call(vec![("order_status".into(), r#"{"order":"AB12"}"#.into())]),
            Reply::Say("It is on its way.".into()),
        ]);
        let (conversation, visitor) = visit(&world, &world.pk);
        let got = chat(&world, &visitor, "Where is AB12?");
        assert_eq!(said(&got, "done")[0]["text"], "It is on its way.");
        assert!(
            !got.body.contains("tool_call") && !got.body.contains("AB12 is"),
            "a visitor sees no results: {got:?}"
        );
        let names: Vec<Value> = at.asked()[0]["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["function"]["name"].clone())
            .collect();
        assert_eq!(names, ["order_status", "refund", "goodbye", "note", "people"]);
        let events = receipt(&world, &conversation);
        let call = of_kind(&events, "tool_call")[0];
        assert_eq!(
            (&call["name"], &call["status"], &call["arguments"]),
            (&json!("order_status"), &json!("succeeded"), &json!({"order": "AB12"}))
        );
        assert_eq!(asked.lock().unwrap()[0].header("x-api-key"), "opened-again");
        assert!(!format!("{events:?}").contains("opened-again"));

        // Only after a yes.
        at.script([Reply::Call(vec![("refund".into(), r#"{"order":"AB12"}"#.into())])]);
        let got = chat(&world, &visitor, "I want my money back");
        assert!(text(&said(&got, "done")[0]["text"]).contains("Please answer yes or no."), "{got:?}");
        assert_eq!(asked.lock().unwrap().len(), 1);
        at.script([Reply::Say("Done.".into())]);
        chat(&world, &visitor, "Yes");
        assert_eq!(asked.lock().unwrap()[1].path, "/refunds");

        // A message for the owner, then the end.
        at.script([
            Reply::Call(vec![("note".into(), r#"{"message":"Call me back","contact":"555 0100"}"#.into())]),
            Reply::Say("Noted.".into()),
        ]);
        chat(&world, &visitor, "Have somebody call me");
        let events = receipt(&world, &conversation);
        let note = of_kind(&events, "tool_call").into_iter().find(|it| it["name"] == "note").unwrap();
        assert_eq!(note["arguments"], json!({"message": "Call me back", "contact": "555 0100"}));
        assert_eq!(outcome(&world, &conversation), Value::Null);
        at.script([Reply::Call(vec![("goodbye".into(), String::new())]), Reply::Say("Bye!".into())]);
        assert_eq!(said(&chat(&world, &visitor, "That is all"), "done")[0]["text"], "Bye!");
        assert_eq!(outcome(&world, &conversation), "completed");
        assert_eq!(chat(&world, &visitor, "Hello?").code(), "conflict");

        // By a trigger, without a model.
        let scopes = json!(["agents:write", "chat:write", "chat:read"]);
        let (_, test) =
            world.server.mint(&world.owner, json!({"name": "t", "env": "test", "scopes": scopes}));
        let body = json!({"agentId": world.agent});
        let session =
            text(&world.server.as_key(&test, "POST", "/api/v1/chat/sessions", Some(&body)).data()["id"]);
        let send = |words: &str| {
            let path = format!("/api/v1/chat/sessions/{session}/messages");
            world.server.as_key(&test, "POST", &path, Some(&json!({"content": words})))
        };
        at.script([]);
        assert_eq!(send("/order_status AB12").data()["text"], "Order AB12 is on its way.");
        assert!(
            text(&send("/refund {\"order\": \"X\"}").data()["text"]).contains("Please answer yes or no.")
        );
        assert_eq!(send("no").data()["text"], "All right, I won't.");
        assert!(text(&send("/off").data()["text"]).contains("I don't know"));
        assert!(text(&send("/order_status {}").data()["text"]).contains("do not fit"));
        assert_eq!(send("/people").data()["text"], "I'm handing you over to the desk.");
        assert_eq!(outcome(&world, &session), "transferred");
        assert_eq!(send("Hello?").code(), "conflict");
        assert!(at.asked().is_empty());
        assert_eq!(asked.lock().unwrap().len(), 3);

        // Trying it out shows the call.
        let simulate = format!("/api/v1/agents/{}/simulate", world.agent);
        let transcript = json!({"transcript": [
            {"role": "user", "text": "/refund Y"},
            {"role": "assistant", "text": "Shall I run refund with {\"order\":\"Y\"}? Please answer yes or no."},
            {"role": "user", "text": "yes"},
        ]});
        let got = world.server.as_key(&test, "POST", &simulate, Some(&transcript));
        assert_eq!(said(&got, "tool_call")[0]["status"], "succeeded", "{got:?}");
        assert_eq!(asked.lock().unwrap().len(), 4);
    }
}

/// Item F4 for streams of events: what is narrowed while an answer is made ends it within two seconds, and says what was taken away.
#[test]
fn every_narrowing_ends_a_stream() {
    let at = OpenAi::start();
    for world in waiting_for(&at, "20") {
        let server = &world.server;
        let owner = |method: &str, path: &str, body: Value| {
            server.as_member(&world.owner, method, &format!("/api/v1{path}"), Some(&body)).data()
        };
        let ends = |code: &str, ask: &(dyn Fn() -> Got + Sync), take: &dyn Fn()| {
            at.script([Reply::Hang(Duration::from_secs(15))]);
            std::thread::scope(|scope| {
                let answer = scope.spawn(ask);
                while at.asked().is_empty() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                take();
                let begun = std::time::Instant::now();
                let got = answer.join().unwrap();
                assert!(begun.elapsed() < Duration::from_secs(2), "{code}: {:?}", begun.elapsed());
                assert_eq!(said(&got, "error")[0]["code"], code, "{got:?}");
                assert!(said(&got, "done").is_empty(), "{got:?}");
            });
        };
        let transcript = json!({"draftMode": true, "transcript": [{"role": "user", "text": "Hello"}]});
        let simulate = format!("/api/v1/agents/{}/simulate", world.agent);
        let scopes = json!(["agents:read", "agents:write"]);
        let key = |name: &str| server.mint(&world.owner, json!({"name": name, "scopes": scopes}));

        let (id, narrowed) = key("narrowed");
        ends(
            "insufficient_scope",
            &|| server.as_key(&narrowed, "POST", &simulate, Some(&transcript)),
            &|| {
                owner("PATCH", &format!("/api-keys/{id}"), json!({"scopes": ["agents:read"]}));
            },
        );
        let (id, fenced) = key("fenced");
        ends(
            "address_not_allowed",
            &|| server.as_key(&fenced, "POST", &simulate, Some(&transcript)),
            &|| {
                owner("PATCH", &format!("/api-keys/{id}"), json!({"allowedAddresses": ["192.0.2.0/24"]}));
            },
        );
        let members = server.as_member(&world.owner, "GET", "/api/v1/members", None).data();
        let admin =
            members.as_array().unwrap().iter().find(|it| it["email"] == "admin@alpha.example").unwrap();
        let path = format!("/members/{}", text(&admin["id"]));
        ends(
            "insufficient_scope",
            &|| server.as_member(&world.admin, "POST", &simulate, Some(&transcript)),
            &|| {
                owner("PATCH", &path, json!({"role": "viewer"}));
            },
        );
        let (_, visitor) = visit(&world, &world.pk);
        ends("origin_not_allowed", &|| chat(&world, &visitor, "Hello"), &|| {
            let path = format!("/agents/{}/publishable-keys/{}", world.agent, world.pk_id);
            owner("PATCH", &path, json!({"allowedOrigins": ["https://app.shop.example:8443"]}));
        });
    }
}
