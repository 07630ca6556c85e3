//! Telephone numbers end to end: in the sandbox, at a carrier, and through kills between the two.

use crate::crash::ask_with;
use crate::services::twilio::{self, Mood, Twilio};
use crate::support::{Got, Server, World, text, worlds};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn ask(server: &Server, key: &str, method: &str, path: &str, body: Value) -> Got {
    let body = (!body.is_null()).then_some(body);
    server.as_key(key, method, &format!("/api/v1/numbers{path}"), body.as_ref())
}

fn fill(server: &Server, key: &str, usd: u32) {
    server.as_key(key, "POST", "/api/v1/billing/wallet/topup", Some(&json!({"amountUsd": usd}))).data();
}

fn balance(server: &Server, key: &str) -> f64 {
    server.as_key(key, "GET", "/api/v1/billing/wallet", None).data()["balanceUsd"].as_f64().unwrap()
}

#[test]
fn a_number_in_the_sandbox_through_its_life() {
    for world in worlds(&[]) {
        let (server, all, other) = (&world.server, world.all.as_str(), world.other_all.as_str());
        let found =
            ask(server, all, "GET", "/search?areaCode=415&endsWith=42&features=voice,sms", Value::Null);
        assert_eq!(found.data().as_array().unwrap().len(), 1);
        assert_eq!(
            (&found.data()[0]["e164"], &found.data()[0]["monthlyCost"]),
            (&json!("+14155550142"), &json!(1.5))
        );
        let london =
            ask(server, all, "GET", "/search?country=GB&locality=london&limit=3", Value::Null).json();
        assert_eq!(
            (london["data"].as_array().unwrap().len(), &london["pagination"]["limit"]),
            (3, &json!(3))
        );
        for wrong in ["country=FR", "areaCode=4x5", "features=fly", "contains=1", "locality="] {
            assert_eq!(
                ask(server, all, "GET", &format!("/search?{wrong}"), Value::Null).code(),
                "validation_error"
            );
        }
        let number = json!({"e164": "+14155550142"});
        let available = |key: &str| ask(server, key, "GET", "/available/+14155550142", Value::Null).status;
        assert_eq!((available(all), available(other)), (200, 200));
        for nothing in ["/available/+14155551142", "/available/nonsense", "/available/+4930123456"] {
            assert_eq!(ask(server, all, "GET", nothing, Value::Null).status, 404);
        }

        let hold = ask(server, all, "POST", "/reserve", number.clone()).data();
        assert_eq!(ask(server, other, "POST", "/reserve", number.clone()).code(), "conflict");
        assert_eq!(ask(server, other, "POST", "/purchase", number.clone()).code(), "conflict");
        let let_go = format!("/reserve/{}", text(&hold["id"]));
        assert_eq!(ask(server, other, "DELETE", &let_go, Value::Null).status, 404);
        assert_eq!(ask(server, all, "DELETE", &let_go, Value::Null).status, 200);
        assert_eq!(ask(server, all, "DELETE", &let_go, Value::Null).status, 404);

        let short = ask(server, all, "POST", "/purchase", number.clone());
        assert_eq!((short.status, short.code().as_str()), (402, "insufficient_balance"));
        fill(server, all, 10);
        let fields =
            [format!("Authorization: Bearer {all}"), "Idempotency-Key: a-purchase-of-one".to_owned()];
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let buy = || server.send("POST", "/api/v1/numbers/purchase", &fields, Some(&number));
        let bought = buy();
        assert_eq!((bought.status, bought.body.clone()), (201, buy().body));
        assert_eq!(balance(server, all), 7.5);
        let id = text(&bought.data()["id"]);
        assert_eq!(
            (&bought.data()["status"], &bought.data()["provider"]),
            (&json!("available"), &json!("sandbox"))
        );
        assert_eq!((available(all), available(other)), (404, 404));

        let assign = json!({"agentId": world.agent});
        let assigned = ask(server, all, "POST", &format!("/{id}/assign"), assign.clone()).data();
        assert_eq!(
            (&assigned["status"], &assigned["defaultAgentId"]),
            (&json!("assigned"), &assign["agentId"])
        );
        for agent in [world.other_agent.as_str(), "agent_x"] {
            let refused = ask(server, all, "POST", &format!("/{id}/assign"), json!({"agentId": agent}));
            assert_eq!(refused.code(), "not_found");
        }
        assert_eq!(ask(server, other, "DELETE", &format!("/{id}/assign"), Value::Null).status, 404);
        let free = ask(server, all, "DELETE", &format!("/{id}/assign"), Value::Null).data();
        assert_eq!(free["status"], "available");

        // A test key has fictional numbers of its own and sees no others.
        let scopes = json!(["numbers:read", "numbers:write", "billing:read"]);
        let (_, test) = server.mint(&world.owner, json!({"name": "test", "env": "test", "scopes": scopes}));
        assert_eq!(available(&test), 200);
        assert_eq!(ask(server, &test, "DELETE", &format!("/{id}"), Value::Null).status, 404);
        let made_up = ask(server, &test, "POST", "/purchase", number.clone()).data();
        assert_eq!(
            (&made_up["env"], balance(server, &test), balance(server, all)),
            (&json!("test"), 0.0, 7.5)
        );

        assert_eq!(ask(server, all, "DELETE", &format!("/{id}"), Value::Null).status, 200);
        assert_eq!(ask(server, all, "DELETE", &format!("/{id}"), Value::Null).status, 404);
        assert_eq!(ask(server, all, "GET", "", Value::Null).data(), json!([]));
        assert_eq!(ask(server, &test, "GET", "", Value::Null).data().as_array().unwrap().len(), 1);
        let brought = ask(server, other, "POST", "/import", number.clone()).data();
        assert_eq!((&brought["imported"], &brought["monthlyCost"]), (&json!(true), &json!(0.0)));
        assert_eq!(balance(server, all), 7.5);
        let usage = server.as_key(all, "GET", "/api/v1/billing/usage", None).data();
        assert_eq!(
            usage["days"][0]["channels"],
            json!([{"channel": "number", "quantity": 1, "costUsd": 2.5}])
        );

        // Reading finds and buys nothing.
        let (_, reader) = server.mint(&world.owner, json!({"name": "reader", "scopes": ["numbers:read"]}));
        assert_eq!(available(&reader), 404);
        assert_eq!(ask(server, &reader, "POST", "/purchase", number).code(), "insufficient_scope");
        let (_, writer) = server.mint(&world.owner, json!({"name": "writer", "scopes": ["numbers:write"]}));
        assert_eq!(ask(server, &writer, "GET", "/search", Value::Null).status, 200);
        assert_eq!(ask(server, &writer, "GET", "", Value::Null).code(), "insufficient_scope");
    }
}

fn settings(twilio: &Twilio, folder: &std::path::Path) -> Vec<(String, String)> {
    let token = folder.join("token");
    std::fs::write(&token, format!("{}\n", twilio::TOKEN)).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    [
        ("CARRIER", "twilio".to_owned()),
        ("CARRIER_URL", twilio.url.clone()),
        ("CARRIER_ACCOUNT", twilio::ACCOUNT.to_owned()),
        ("CARRIER_TOKEN_FILE", token.display().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn numbers_of_a_carrier_are_searched_bought_and_given_back() {
    let twilio = Twilio::start();
    let folder = tempfile::tempdir().unwrap();
    let given = settings(&twilio, folder.path());
    let world = World::new(&borrowed(&given));
    let (server, all) = (&world.server, world.all.as_str());
    let output = || server.output.lock().unwrap().clone();
    assert!(output().contains("paid with invented money"), "{}", output());
    let found = ask(server, all, "GET", "/search?areaCode=510", Value::Null).data();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["region"]), (20, &json!("CA")));
    fill(server, all, 10);
    let number = json!({"e164": "+15105550100"});
    let id = text(&ask(server, all, "POST", "/purchase", number.clone()).data()["id"]);
    assert_eq!(
        ask(server, all, "GET", "/search?areaCode=510", Value::Null).data()[0]["e164"],
        "+15105550101"
    );
    // A test key never reaches it.
    let scopes = json!(["numbers:read", "numbers:write"]);
    let (_, test) = server.mint(&world.owner, json!({"name": "test", "env": "test", "scopes": scopes}));
    assert_eq!(ask(server, &test, "POST", "/purchase", number).data()["provider"], "sandbox");
    assert_eq!(twilio.state.lock().unwrap().sold, ["+15105550100"]);

    twilio.mood(Mood::Away);
    for (method, path, body) in [
        ("GET", "/search", Value::Null),
        ("GET", "/available/+15105550101", Value::Null),
        ("POST", "/reserve", json!({"e164": "+15105550101"})),
        ("POST", "/purchase", json!({"e164": "+15105550101"})),
        ("POST", "/import", json!({"e164": "+15105550101"})),
    ] {
        let away = ask(server, all, method, path, body);
        assert_eq!((away.status, away.code().as_str()), (503, "dependency_unavailable"), "{path}");
        assert!(away.header("retry-after").is_some());
    }
    assert_eq!(ask(server, all, "DELETE", &format!("/{id}"), Value::Null).status, 200);
    assert_eq!((balance(server, all), twilio.state.lock().unwrap().deleted), (7.5, 0));
    assert!(!output().contains(twilio::TOKEN), "the token is in the log");
}

#[test]
fn a_secret_that_others_may_read_stops_the_start() {
    let twilio = Twilio::start();
    let folder = tempfile::tempdir().unwrap();
    let given = settings(&twilio, folder.path());
    std::fs::set_permissions(folder.path().join("token"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (port, ops) = (crate::support::free_port(), crate::support::free_port());
    let output = Server::command(&folder.path().join("data"), port, ops, &given).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("chmod 600") && !said.contains(twilio::TOKEN),
        "{said}"
    );
}

/// Kills at every point of a purchase: before the carrier is asked, while it sells, before its answer is written.
#[test]
fn a_kill_buys_each_number_once_and_takes_its_price_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = runtime.block_on(crate::postgres::empty_database());
    for database in [None, Some(url)] {
        buy_through_kills(database);
    }
}

fn buy_through_kills(database: Option<String>) {
    const NUMBERS: usize = 40;
    const KILLS: usize = 12;
    let twilio = Twilio::start();
    twilio.state.lock().unwrap().pace = Duration::from_millis(15);
    let folder = tempfile::tempdir().unwrap();
    let mut given = settings(&twilio, folder.path());
    given.push(("LOG_LEVEL".into(), "error".into()));
    given.extend(database.map(|url| ("DATABASE".into(), url)));
    let mut world = World::new(&borrowed(&given));
    fill(&world.server, &world.all, 1_000);
    let (next, bought) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (port, key) = (world.server.port, world.all.clone());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (next, bought, key) = (&next, &bought, key.as_str());
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= NUMBERS {
                        return;
                    }
                    let fields =
                        format!("Authorization: Bearer {key}\r\nIdempotency-Key: purchase-of-{n:06}");
                    let body = json!({"e164": format!("+15105550{}", 100 + n)}).to_string();
                    // The same request until it is acknowledged; every third client gives up after its first try.
                    let begun = Instant::now();
                    loop {
                        // A server that is never there again is a failure, not something to wait for.
                        assert!(begun.elapsed() < Duration::from_secs(60), "nobody answers");
                        match ask_with(port, &fields, "POST", "/api/v1/numbers/purchase", &body) {
                            Some(got) if got.status == 201 => {
                                bought.fetch_add(1, Ordering::Relaxed);
                                break;
                            }
                            // A database that is overrun acknowledges nothing, as one that is gone.
                            Some(got) if got.code() != "dependency_unavailable" => panic!("{got:?}"),
                            Some(_) | None if n % 3 == 0 => break,
                            Some(_) | None => sleep(Duration::from_millis(3)),
                        }
                    }
                }
            });
        }
        for kill in 0..KILLS {
            let begun = Instant::now();
            // A little later in the work each time, wherever that is.
            sleep(Duration::from_millis(37 + 11 * kill as u64));
            world.server.kill_and_restart();
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
    });
    // What clients left is finished by the server itself.
    let (server, all) = (&world.server, world.all.as_str());
    let begun = Instant::now();
    let rows = loop {
        let rows = server.as_key(all, "GET", "/api/v1/numbers?limit=100", None).data();
        if rows.as_array().unwrap().iter().all(|it| it["status"] != "pending") {
            break rows;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{rows}");
        sleep(Duration::from_millis(100));
    };
    let owned: Vec<String> = rows.as_array().unwrap().iter().map(|it| text(&it["e164"])).collect();
    let state = twilio.state.lock().unwrap();
    let once: BTreeSet<&String> = state.sold.iter().collect();
    assert_eq!(once.len(), state.sold.len(), "a number was bought twice: {:?}", state.sold);
    assert_eq!(once, owned.iter().collect(), "what the carrier sold is what the organization has");
    assert!(owned.len() >= bought.load(Ordering::Relaxed) && owned.len() > NUMBERS / 2, "{}", owned.len());
    assert_eq!(balance(server, all), 1_000.0 - 2.5 * owned.len() as f64);
    let items = server.as_key(all, "GET", "/api/v1/billing/usage/items?limit=100", None).data();
    assert_eq!(items.as_array().unwrap().len(), owned.len());
    let verified = server.as_member(&world.owner, "GET", "/api/v1/audit-events/verify", None).data();
    assert_eq!(verified["intact"], true);
}
