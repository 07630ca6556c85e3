//! Conversations end to end: chat for backends, completions, and what is seen of all of it afterwards.

use crate::crash::ask_with;
use crate::support::{Got, World, text, worlds};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

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
        // What clients send by default is taken, and so are fields of later versions.
        let usual = ask(
            &world.agent,
            json!({"temperature": 0.1, "top_p": 1, "n": 1, "store": false, "metadata": {}, "tools": [], "tool_choice": "auto",
            "response_format": {"type": "text"}, "some_later_field": {"x": 1}}),
        );
        assert_eq!(usual.status, 200, "{usual:?}");
        let usage = &usual.json()["usage"];
        assert_eq!(
            usage["total_tokens"],
            json!(usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap())
        );
        // What would not be done is refused by the field's name.
        for (field, value) in [
            ("n", json!(2)),
            ("tool_choice", json!("required")),
            ("response_format", json!({"type": "json_object"})),
            ("logprobs", json!(true)),
        ] {
            let got = ask(&world.agent, json!({field: value}));
            assert_eq!((got.status, got.code().as_str()), (400, "validation_error"), "{field}: {got:?}");
            assert!(
                got.json()["errors"][0]["field"].as_str().unwrap().starts_with(&format!("/{field}")),
                "{got:?}"
            );
            assert_eq!(got.json()["error"]["param"], got.json()["errors"][0]["field"], "{got:?}");
        }
        let models = server.as_key(key, "GET", "/api/v1/models", None).json();
        assert!(
            models["data"].as_array().unwrap().iter().any(|it| it["id"] == world.agent.as_str()),
            "{models}"
        );
        let one = server.as_key(key, "GET", &format!("/api/v1/models/{}", world.agent), None).json();
        assert_eq!((&one["object"], one["id"].as_str()), (&json!("model"), Some(world.agent.as_str())));
        let foreign = server.as_key(key, "GET", &format!("/api/v1/models/{}", world.other_agent), None);
        assert_eq!((foreign.status, foreign.json()["error"]["code"].as_str()), (404, Some("not_found")));
        assert_eq!(
            ask(&world.agent, json!({"messages": [{"role": "assistant", "content": "Hm"}]})).status,
            400
        );
        let nobody = server.send("POST", "/api/v1/chat/completions", &[], Some(&json!({})));
        assert_eq!(nobody.json()["error"]["code"], "missing_credential");
        // What was answered is charged, and kept never.
        let items = server.as_key(key, "GET", "/api/v1/billing/usage/items", None).json();
        assert_eq!(items["data"].as_array().map(Vec::len), Some(3), "{items}");
    }
}

/// Asks as a visitor, in a conversation of their own; its id.
fn visit(world: &World, words: &[&str]) -> String {
    let opened = world.server.as_widget(&world.pk, "POST", "/api/v1/chat/widget/sessions", None).data();
    for one in words {
        let body = json!({"content": one});
        let got = world.server.as_widget(
            &text(&opened["visitorToken"]),
            "POST",
            "/api/v1/chat/widget/messages",
            Some(&body),
        );
        said(&got, "done");
    }
    text(&opened["conversationId"])
}

/// Whether a question was answered is said in five places, which must say the same, in both environments.
#[test]
fn what_was_not_answered_is_the_same_everywhere() {
    for world in worlds(&[]) {
        let (server, key) = (&world.server, &world.all);
        teach(&world, &world.agent);
        let (_, test) = server
            .mint(&world.owner, json!({"name": "t", "env": "test", "scopes": ["chat:write", "chat:read"]}));
        let get = |path: &str| server.as_key(key, "GET", &format!("/api/v1{path}"), None).data();
        let ask = |key: &str, words: &[&str]| {
            let session = open(&world, key);
            for one in words {
                send(&world, key, &session, one);
            }
            session
        };
        // A text without a word gets the same answer and is no question.
        let live = ask(key, &["When do you open?", "Do you sell fish?", "???", "Do you repair bicycles?"]);
        let tried = ask(&test, &["Do you sell fish?"]);
        for (environment, session, questions, unanswered) in [("live", live, 4, 2), ("test", tried, 1, 1)] {
            let row = get(&format!("/conversations/{session}"));
            assert_eq!(
                (&row["userTurnCount"], &row["unansweredCount"]),
                (&json!(questions), &json!(unanswered)),
                "{row}"
            );
            let said = match unanswered {
                1 => "One question was not answered.",
                _ => "2 questions were not answered.",
            };
            assert!(text(&row["summary"]).contains(said), "{row}");
            let counted = |stats: &Value| {
                assert_eq!(
                    (&stats["questions"], &stats["unansweredQuestions"]),
                    (&json!(questions), &json!(unanswered)),
                    "{environment}: {stats}"
                );
            };
            counted(&get(&format!("/analytics/overview?environment={environment}"))["answerStats"]);
            counted(&get(&format!("/analytics/by-agent?environment={environment}"))[0]["answerStats"]);
            let days = get(&format!("/analytics/timeseries?environment={environment}"));
            counted(days["days"].as_array().unwrap().last().unwrap());
            let card = get(&format!("/agents/{}/analytics?environment={environment}", world.agent));
            counted(&card["answerStats"]);
            assert_eq!(
                card["knowledgeGapsSummary"],
                json!({"open": unanswered, "unansweredQuestions": unanswered}),
                "{environment}"
            );
            let found = get(&format!("/agents/{}/knowledge-gaps?environment={environment}", world.agent));
            let gaps = found["gaps"].as_array().unwrap();
            assert_eq!(gaps.iter().map(|it| it["count"].as_i64().unwrap()).sum::<i64>(), unanswered);
            assert_eq!(found["dataState"], "ready");
        }
    }
}

#[test]
fn what_was_said_is_seen_searched_and_counted() {
    for world in worlds(&[]) {
        let (server, key) = (&world.server, &world.all);
        teach(&world, &world.agent);
        let get = |path: &str| server.as_key(key, "GET", &format!("/api/v1{path}"), None);
        let ids = |path: &str| -> Vec<String> {
            get(path).data().as_array().unwrap().iter().map(|it| text(&it["id"])).collect()
        };
        let gaps = format!("/agents/{}/knowledge-gaps", world.agent);
        assert_eq!(get(&gaps).data()["dataState"], "collecting");

        let hours = visit(&world, &["When do you open?", "Thanks, that was helpful!"]);
        let fish =
            visit(&world, &["Do you sell FISH?", "do you sell fish", "This is ridiculous, I am angry!!"]);
        let session = open(&world, key);
        send(&world, key, &session, "Könnten Sie ein Café empfehlen?");
        server.as_key(key, "POST", &format!("/api/v1/chat/sessions/{session}/end"), None);
        let (_, test) = server
            .mint(&world.owner, json!({"name": "t", "env": "test", "scopes": ["chat:write", "chat:read"]}));
        let tried = open(&world, &test);
        send(&world, &test, &tried, "Do you sell fish?");

        // One by one.
        let row = get(&format!("/conversations/{hours}")).data();
        assert_eq!(
            (&row["userTurnCount"], &row["outcome"], &row["channel"]),
            (&json!(2), &Value::Null, &json!("chat"))
        );
        assert_eq!(
            (&row["primaryTopic"], &row["sentimentLabel"]),
            (&json!("Opening hours"), &json!("positive"))
        );
        assert!(text(&row["summary"]).contains("“When do you open?”"), "{row}");
        assert!(row["sentimentScore"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(get(&format!("/conversations/{fish}")).data()["sentimentLabel"], "frustrated");
        let row = get(&format!("/conversations/{tried}")).data();
        assert_eq!((&row["environment"], row.get("goalCompleted")), (&json!("test"), None));
        let turns = get(&format!("/conversations/{hours}/transcript")).data();
        assert_eq!((&turns[0]["role"], &turns[0]["text"]), (&json!("user"), &json!("When do you open?")));
        assert_eq!(turns.as_array().unwrap().len(), 4);
        let page = get(&format!("/conversations/{hours}/receipt?limit=4")).json();
        let mut events = page["data"].as_array().unwrap().clone();
        let cursor = text(&page["pagination"]["nextCursor"]);
        events.extend(
            get(&format!("/conversations/{hours}/receipt?limit=4&cursor={cursor}"))
                .data()
                .as_array()
                .unwrap()
                .clone(),
        );
        let kinds: Vec<&str> = events.iter().map(|it| it["eventType"].as_str().unwrap()).collect();
        let turn = ["user_utterance", "kb_retrieval", "agent_message", "done"];
        assert_eq!(kinds, [turn, turn].concat());
        assert!(events.iter().enumerate().all(|(at, it)| it["sequence"] == at + 1), "{events:?}");
        assert!(events[1]["data"]["topScore"].as_f64().unwrap() > 0.5, "{events:?}");

        // Searched.
        assert_eq!(ids("/conversations"), [tried.clone(), session.clone(), fish.clone(), hours.clone()]);
        assert_eq!(ids("/conversations?q=fish&environment=live"), [fish.as_str()]);
        assert_eq!(ids("/conversations?q=OPEN%20helpful"), [hours.as_str()]);
        assert_eq!(ids("/conversations?q=cafe%20konnten"), [session.as_str()]);
        assert_eq!(ids("/conversations?q=open%20fish"), [""; 0]);
        assert_eq!(ids("/conversations?q=%3F%3F"), [""; 0]);
        assert_eq!(ids("/conversations?outcome=completed"), [session.as_str()]);
        assert_eq!(ids("/conversations?channel=voice"), [""; 0]);
        assert_eq!(ids(&format!("/conversations?agentId={}", world.other_agent)), [""; 0]);
        assert_eq!(ids("/conversations?to=2020-01-01T00:00:00Z"), [""; 0]);
        assert_eq!(ids("/conversations?from=2020-01-01T00:00:00Z").len(), 4);
        assert_eq!(ids("/conversations?limit=1&page=3"), [fish.as_str()]);
        let first = get("/conversations?limit=3").json();
        let cursor = text(&first["pagination"]["nextCursor"]);
        assert_eq!(ids(&format!("/conversations?limit=3&cursor={cursor}")), [hours.as_str()]);
        assert_eq!(get(&format!("/conversations?page=2&limit=3&cursor={cursor}")).status, 400);
        let others = |path: &str| server.as_key(&world.other_all, "GET", &format!("/api/v1{path}"), None);
        assert_eq!(others("/conversations").data(), json!([]));
        for path in ["", "/transcript", "/receipt"] {
            assert_eq!(others(&format!("/conversations/{hours}{path}")).status, 404);
        }

        // Counted.
        let card = get(&format!("/agents/{}/analytics", world.agent)).data();
        let stats = &card["answerStats"];
        assert_eq!((&stats["totalCalls"], &stats["answeredCalls"]), (&json!(3), &json!(3)), "{card}");
        assert_eq!((&stats["completedCalls"], &card["containment"]), (&json!(1), &json!(1.0)), "{card}");
        assert_eq!(
            card["sentimentTriage"],
            json!({"positive": 1, "neutral": 1, "negative": 0, "frustrated": 1}),
            "{card}"
        );
        assert_eq!(card["topTopics"][0]["count"], 1);
        assert!(card["p50ByLang"]["en"].is_i64(), "{card}");
        assert_eq!(card["byChannel"]["chat"]["totalCalls"], 3);
        assert_eq!(card["costBreakdown"]["totalUsd"], 0.0, "included in the plan: {card}");
        let only_tests = get(&format!("/agents/{}/analytics?environment=test", world.agent)).data();
        assert_eq!(only_tests["answerStats"]["totalCalls"], 1);
        assert_eq!(only_tests.get("containment"), None, "nothing is over: {only_tests}");
        let days = get("/analytics/timeseries").data();
        let last = days["days"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["calls"], &last["answeredCalls"]), (&json!(3), &json!(3)), "{days}");
        assert!((30..=31).contains(&days["days"].as_array().unwrap().len()), "{days}");
        let own = get(&format!("/agents/{}/analytics/timeseries", world.agent)).data();
        assert_eq!(own["days"].as_array().unwrap().last(), Some(&last));
        assert_eq!(get("/analytics/overview").data()["answerStats"]["totalCalls"], 3);
        let agents = get("/analytics/by-agent").data();
        assert_eq!(
            (&agents[0]["name"], &agents[0]["answerStats"]["totalCalls"]),
            (&json!("Front desk"), &json!(3))
        );
        let theirs = others("/analytics/overview").data();
        assert_eq!(
            (&theirs["answerStats"]["totalCalls"], theirs["answerStats"].get("answerRate")),
            (&json!(0), None)
        );
        assert_eq!(get("/analytics/overview?from=2020-01-01T00:00:00Z").status, 400);
        assert_eq!(get("/analytics/overview?from=2020-01-02T00:00:00Z&to=2020-01-01T00:00:00Z").status, 400);

        // What was not known, and what becomes of it.
        let found = get(&gaps).data();
        assert_eq!(found["dataState"], "ready");
        let gap = found["gaps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["queryText"] == "Do you sell FISH?")
            .unwrap()
            .clone();
        assert_eq!(
            (&gap["count"], &gap["distinctCalls"], &gap["status"]),
            (&json!(2), &json!(1), &json!("open")),
            "{gap}"
        );
        let path = format!("/api/v1{gaps}/{}", text(&gap["gapId"]));
        for status in ["in_progress", "dismissed", "covered"] {
            let got = server.as_key(key, "PATCH", &path, Some(&json!({"status": status}))).data();
            assert_eq!(got["status"], status);
        }
        assert_eq!(get(&format!("{gaps}?status=covered")).data()["gaps"].as_array().unwrap().len(), 1);
        visit(&world, &["Do you sell fish?"]);
        let again = get(&format!("{gaps}?status=open&limit=1")).data();
        assert_eq!(
            (&again["gaps"][0]["count"], &again["gaps"][0]["distinctCalls"]),
            (&json!(3), &json!(2)),
            "{again}"
        );
        let own_path = format!("/api/v1/agents/{}/knowledge-gaps/{}", world.other_agent, text(&gap["gapId"]));
        let got = server.as_key(&world.other_all, "PATCH", &own_path, Some(&json!({"status": "open"})));
        assert_eq!(got.status, 404);
    }
}

#[test]
fn a_session_belongs_to_the_environment_that_opened_it() {
    for world in worlds(&[]) {
        let grant = json!({"name": "test", "env": "test", "scopes": ["chat:read", "chat:write"]});
        let (_, test) = world.server.mint(&world.owner, grant);
        let keys = [world.all.as_str(), test.as_str()];
        let sessions = keys.map(|key| open(&world, key));
        for (own, other) in [(0, 1), (1, 0)] {
            let path = format!("/api/v1/chat/sessions/{}", sessions[own]);
            let elsewhere = [
                send(&world, keys[other], &sessions[own], "Hello"),
                world.server.as_key(keys[other], "GET", &path, None),
                world.server.as_key(keys[other], "GET", &format!("{path}/messages"), None),
                world.server.as_key(keys[other], "POST", &format!("{path}/end"), None),
            ];
            for got in elsewhere {
                assert_eq!((got.status, got.code().as_str()), (404, "not_found"), "{got:?}");
            }
            assert_eq!(send(&world, keys[own], &sessions[own], "Hello").status, 201);
        }
        let items = world.server.as_key(&world.all, "GET", "/api/v1/billing/usage/items", None).data();
        assert_eq!(items.as_array().unwrap().len(), 1, "the live message alone is metered: {items}");
    }
}

#[test]
fn a_kill_charges_each_message_that_was_heard_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = runtime.block_on(crate::postgres::empty_database());
    for database in [None, Some(url)] {
        let mut given = vec![("LOG_LEVEL", "error")];
        given.extend(database.as_deref().map(|url| ("DATABASE", url)));
        talk_through_kills(World::new(&given));
    }
}

fn talk_through_kills(mut world: World) {
    const KILLS: u64 = 8;
    let sessions: Vec<String> = (0..3).map(|_| open(&world, &world.all)).collect();
    let (port, key) = (world.server.port, world.all.clone());
    let over = AtomicBool::new(false);
    let answered: Vec<BTreeSet<String>> = std::thread::scope(|scope| {
        let talkers: Vec<_> = sessions
            .iter()
            .map(|session| {
                let (over, key) = (&over, key.as_str());
                scope.spawn(move || {
                    let path = format!("/api/v1/chat/sessions/{session}/messages");
                    let fields = format!("Authorization: Bearer {key}");
                    let mut answered = BTreeSet::new();
                    for n in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let words = format!("Is this number {n}?");
                        let body = json!({"content": words}).to_string();
                        match ask_with(port, &fields, "POST", &path, &body) {
                            Some(got) if got.status == 201 => drop(answered.insert(words)),
                            // A database that is overrun acknowledges nothing, as one that is gone.
                            Some(got) if got.code() != "dependency_unavailable" => panic!("{got:?}"),
                            Some(_) | None => sleep(Duration::from_millis(3)),
                        }
                    }
                    answered
                })
            })
            .collect();
        for kill in 0..KILLS {
            sleep(Duration::from_millis(61 + 17 * kill));
            world.server.kill_and_restart();
        }
        over.store(true, Ordering::Relaxed);
        talkers.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let all = |path: &str| -> Vec<Value> {
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let got = world.server.as_key(&key, "GET", &format!("{path}?limit=100{cursor}"), None).json();
            rows.extend(got["data"].as_array().unwrap().clone());
            match got["pagination"]["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    };
    let mut heard = 0;
    for (session, answered) in sessions.iter().zip(&answered) {
        let said = all(&format!("/api/v1/chat/sessions/{session}/messages"));
        let asked: Vec<String> =
            said.iter().filter(|it| it["role"] == "user").map(|it| text(&it["text"])).collect();
        let once: BTreeSet<String> = asked.iter().cloned().collect();
        assert_eq!(once.len(), asked.len(), "a message was heard twice");
        assert!(answered.is_subset(&once), "what was answered was heard");
        heard += asked.len();
    }
    let charges = all("/api/v1/billing/usage/items");
    let charged: i64 = charges
        .iter()
        .filter(|it| it["type"] == "chat_message")
        .map(|it| it["quantity"].as_i64().unwrap())
        .sum();
    assert_eq!(charged, heard as i64);
    assert!(answered.iter().all(|it| !it.is_empty()));
}
