//! The wallet end to end: who may, what is booked, and what a payment service must prove.

use crate::crash::ask_with;
use crate::services::stripe::{self, Stripe};
use crate::support::{Got, World, text, worlds};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

fn balance(world: &World, key: &str) -> f64 {
    world.server.as_key(key, "GET", "/api/v1/billing/wallet", None).data()["balanceUsd"].as_f64().unwrap()
}

fn top_up(world: &World, key: &str, usd: f64, idempotency_key: &str) -> Got {
    let headers = [format!("Authorization: Bearer {key}"), format!("Idempotency-Key: {idempotency_key}")];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    world.server.send("POST", "/api/v1/billing/wallet/topup", &headers, Some(&json!({"amountUsd": usd})))
}

#[test]
fn a_wallet_through_its_life() {
    for world in worlds(&[]) {
        let server = &world.server;
        let all = world.all.as_str();
        let wallet = server.as_key(all, "GET", "/api/v1/billing/wallet", None).data();
        assert_eq!((&wallet["balanceUsd"], &wallet["planId"]), (&json!(0.0), &json!("free")));
        assert_eq!((&wallet["paymentProvider"], &wallet["env"]), (&json!("sandbox"), &json!("live")));

        let first = top_up(&world, all, 41.5, "a-key-of-sixteen");
        assert_eq!((first.status, first.data()["status"].as_str()), (201, Some("succeeded")), "{first:?}");
        assert_eq!(top_up(&world, all, 41.5, "a-key-of-sixteen").body, first.body);
        assert_eq!(top_up(&world, all, 42.0, "a-key-of-sixteen").code(), "idempotency_key_reused");
        assert_eq!(balance(&world, all), 41.5);
        for (usd, status) in [(0.5, 400), (12.345, 400), (10_000.01, 400), (0.29 * 100.0, 201)] {
            assert_eq!(top_up(&world, all, usd, &format!("a-key-for-{usd:016}")).status, status, "{usd}");
        }
        assert_eq!(balance(&world, all), 70.5);

        // A test key has a wallet of its own, from which nothing is ever taken.
        let scopes = json!(["billing:read", "billing:write"]);
        let (_, test) = server.mint(&world.owner, json!({"name": "test", "env": "test", "scopes": scopes}));
        assert_eq!(top_up(&world, &test, 5.0, "a-test-key-of-16").status, 201);
        let body = json!({"planId": "growth"});
        let changed = server.as_key(&test, "POST", "/api/v1/billing/subscription", Some(&body)).data();
        assert_eq!((&changed["planId"], &changed["balanceUsd"]), (&json!("growth"), &json!(5.0)));
        assert_eq!(balance(&world, all), 70.5);

        let change = |plan: &str| {
            server.as_member(
                &world.owner,
                "POST",
                "/api/v1/billing/subscription",
                Some(&json!({"planId": plan})),
            )
        };
        let short = change("growth");
        assert_eq!((short.status, short.code().as_str()), (402, "insufficient_balance"));
        assert!(short.json()["detail"].as_str().unwrap().contains("70.50 USD"), "{short:?}");
        assert_eq!(change("nothing").code(), "validation_error");
        assert_eq!(change("starter").data()["balanceUsd"], 41.5);
        assert_eq!(change("free").data()["nextPlanId"], "free");

        let usage = server.as_key(all, "GET", "/api/v1/billing/usage", None).data();
        assert_eq!(usage["totalUsd"], 29.0);
        assert_eq!(
            usage["days"][0]["channels"],
            json!([{"channel": "plan", "quantity": 1, "costUsd": 29.0}])
        );
        let impossible = server.as_key(all, "GET", "/api/v1/billing/usage?from=2026-02-31", None);
        assert_eq!(impossible.code(), "validation_error");
        let items = server.as_key(all, "GET", "/api/v1/billing/usage/items", None).data();
        assert_eq!((items.as_array().unwrap().len(), &items[0]["credits"]), (1, &json!(2_900)));
        assert_eq!(
            server.as_key(all, "GET", "/api/v1/billing/plans", None).data().as_array().unwrap().len(),
            3
        );

        // Another organization sees nothing of it, and who may only read pays nothing.
        assert_eq!(balance(&world, &world.other_all), 0.0);
        assert_eq!(
            server.as_key(&world.other_all, "GET", "/api/v1/billing/usage/items", None).data(),
            json!([])
        );
        for member in [&world.developer, &world.viewer] {
            assert_eq!(server.as_member(member, "GET", "/api/v1/billing/wallet", None).status, 200);
            let paid = server.as_member(
                member,
                "POST",
                "/api/v1/billing/wallet/topup",
                Some(&json!({"amountUsd": 5})),
            );
            assert_eq!(paid.code(), "insufficient_scope");
        }
        let events = server
            .as_member(&world.owner, "GET", "/api/v1/audit-events?action=wallet.topped_up", None)
            .data();
        assert_eq!(events.as_array().unwrap().len(), 3);

        // Auto-reload acts in the background; the sandbox has no payment service behind the hook.
        let reload =
            json!({"autoReloadEnabled": true, "autoReloadThresholdUsd": 50, "autoReloadAmountUsd": 10});
        server.as_key(all, "PUT", "/api/v1/billing/wallet/auto-reload", Some(&reload)).data();
        wait_until(|| balance(&world, all) == 51.5);
        assert_eq!(server.send("POST", "/hooks/payments", &[], Some(&json!({}))).status, 404);
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not happen");
        sleep(Duration::from_millis(50));
    }
}

/// The settings of a server that pays through `stripe`; the secrets are in files of the folder.
pub fn settings(stripe: &Stripe, folder: &std::path::Path) -> Vec<(String, String)> {
    let file = |name: &str, secret: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("{secret}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    [
        ("PAYMENT", "stripe".to_owned()),
        ("PAYMENT_URL", stripe.url.clone()),
        ("PAYMENT_KEY_FILE", file("key", stripe::KEY)),
        ("PAYMENT_WEBHOOK_SECRET_FILE", file("webhook", stripe::WEBHOOK_SECRET)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn seconds() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
}

#[test]
fn a_payment_service_is_believed_by_its_signature_alone() {
    let stripe = Stripe::start();
    let folder = tempfile::tempdir().unwrap();
    let given = settings(&stripe, folder.path());
    let given: Vec<(&str, &str)> =
        given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut world = World::new(&given);
    let begun = top_up(&world, &world.all, 25.0, "a-key-of-sixteen").data();
    assert_eq!((&begun["status"], &begun["paymentProvider"]), (&json!("pending"), &json!("stripe")));
    assert_eq!(balance(&world, &world.all), 0.0);
    let intent = text(&begun["clientSecret"]).split("_secret").next().unwrap().to_owned();
    let (body, signature) = stripe.complete(&intent, seconds());
    let send = |world: &World, body: &str, headers: &[String]| {
        let head: String = headers.iter().map(|it| format!("{it}\r\n")).collect();
        let port = world.server.port;
        let request = format!(
            "POST /hooks/payments HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let got = world.server.raw(request.as_bytes()).unwrap();
        got.check_invariants("the hook");
        got.status
    };
    let signed = |signature: &str| vec![format!("Stripe-Signature: {signature}")];
    let refused: [(&str, Vec<String>); 6] = [
        (&body, vec![]),
        (&body, signed(&stripe::sign("whsec_other", &body, seconds()))),
        (&body, signed(&stripe::sign(stripe::WEBHOOK_SECRET, &body, seconds() - 301))),
        (&body, signed(&stripe::sign(stripe::WEBHOOK_SECRET, &body, seconds() + 400))),
        (&body.replace("2500", "2501"), signed(&signature)),
        (&body, [signed(&signature), signed(&signature)].concat()),
    ];
    for (body, headers) in refused {
        assert_eq!(send(&world, body, &headers), 400, "{headers:?}");
    }
    let bearer = vec![format!("Authorization: Bearer {}", world.all)];
    assert_eq!(send(&world, &body, &bearer), 400, "no credential of ours stands for a signature");
    assert_eq!(balance(&world, &world.all), 0.0);
    for _ in 0..3 {
        assert_eq!(send(&world, &body, &signed(&signature)), 200);
    }
    world.server.kill_and_restart();
    assert_eq!(send(&world, &body, &signed(&signature)), 200);
    assert_eq!(balance(&world, &world.all), 25.0);
    // What is signed and about something else is taken and changes nothing.
    let (other, signature) = stripe::notice("charge.refunded", &json!({"id": "ch_1"}), seconds());
    assert_eq!(send(&world, &other, &signed(&signature)), 200);
    let foreign = json!({"id": "pi_x", "amount_received": 99, "currency": "usd", "metadata": {}});
    let (other, signature) = stripe::notice("payment_intent.succeeded", &foreign, seconds());
    assert_eq!(send(&world, &other, &signed(&signature)), 200);
    assert_eq!(balance(&world, &world.all), 25.0);

    // What was paid with once pays by itself, and a test key reaches the sandbox beside it.
    let reload = json!({"autoReloadEnabled": true, "autoReloadThresholdUsd": 30, "autoReloadAmountUsd": 20});
    world.server.as_key(&world.all, "PUT", "/api/v1/billing/wallet/auto-reload", Some(&reload)).data();
    wait_until(|| balance(&world, &world.all) == 45.0);
    let (_, test) =
        world.server.mint(&world.owner, json!({"name": "test", "env": "test", "scopes": ["billing:write"]}));
    let made_up = top_up(&world, &test, 9.0, "a-test-key-of-16").data();
    assert_eq!((&made_up["status"], &made_up["paymentProvider"]), (&json!("succeeded"), &json!("sandbox")));
    assert_eq!(stripe.state.lock().unwrap().intents.len(), 2);
    let output = world.server.output.lock().unwrap().clone();
    for secret in [stripe::KEY, stripe::WEBHOOK_SECRET, "_secret_x"] {
        assert!(!output.contains(secret), "a secret is in the log");
    }

    // The provider is away: nothing is acknowledged, and the same request works later.
    stripe.mood(stripe::Mood::Away);
    let away = top_up(&world, &world.all, 7.0, "a-key-of-seventy");
    assert_eq!((away.status, away.code().as_str()), (503, "dependency_unavailable"));
    stripe.mood(stripe::Mood::Well);
    assert_eq!(top_up(&world, &world.all, 7.0, "a-key-of-seventy").status, 201);
}

#[test]
fn a_kill_loses_no_payment_and_books_none_twice() {
    const PAID: usize = 200;
    const KILLS: usize = 8;
    let mut world = World::new(&[("LOG_LEVEL", "error")]);
    let (done, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (port, key) = (world.server.port, world.all.clone());
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (done, acknowledged, key) = (&done, &acknowledged, key.as_str());
            scope.spawn(move || {
                for n in 0.. {
                    let fields = format!(
                        "Authorization: Bearer {key}\r\nIdempotency-Key: worker-{worker}-payment-{n:06}"
                    );
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    // The same request until it is acknowledged.
                    loop {
                        match ask_with(
                            port,
                            &fields,
                            "POST",
                            "/api/v1/billing/wallet/topup",
                            r#"{"amountUsd":1}"#,
                        ) {
                            Some(got) if got.status == 201 => break,
                            // A database that is overrun acknowledges nothing, as one that is gone.
                            Some(got) if got.code() != "dependency_unavailable" => panic!("{got:?}"),
                            Some(_) | None => sleep(Duration::from_millis(5)),
                        }
                    }
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for kill in 1..=KILLS {
            while acknowledged.load(Ordering::Relaxed) < PAID * kill / KILLS {
                sleep(Duration::from_millis(1));
            }
            world.server.kill_and_restart();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(balance(&world, &world.all), acknowledged.load(Ordering::Relaxed) as f64);
    let verified = world.server.as_member(&world.owner, "GET", "/api/v1/audit-events/verify", None).data();
    assert_eq!(verified["intact"], true);
}

/// Whatever a body says, it is answered as the contract declares.
#[test]
fn bodies_that_say_nothing_sensible_are_refused() {
    let world = World::new(&[]);
    let all = world.all.as_str();
    let cases: [(&str, &str, Value); 8] = [
        ("POST", "wallet/topup", json!({})),
        ("POST", "wallet/topup", json!({"amountUsd": "5"})),
        ("POST", "wallet/topup", json!({"amountUsd": -5})),
        ("POST", "wallet/topup", json!({"amountUsd": 1e300})),
        ("POST", "wallet/topup", json!({"amountUsd": 5, "credits": 5})),
        ("PUT", "wallet/auto-reload", json!({"autoReloadEnabled": true})),
        (
            "PUT",
            "wallet/auto-reload",
            json!({"autoReloadEnabled": true, "autoReloadThresholdUsd": 4.99, "autoReloadAmountUsd": 10}),
        ),
        ("POST", "subscription", json!({"planId": null})),
    ];
    for (method, path, body) in cases {
        let got = world.server.as_key(all, method, &format!("/api/v1/billing/{path}"), Some(&body));
        assert_eq!((got.status, got.code().as_str()), (400, "validation_error"), "{path} {body}");
    }
    assert_eq!(balance(&world, all), 0.0);
}
