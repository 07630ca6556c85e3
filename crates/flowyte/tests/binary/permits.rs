//! What was permitted ends with the permit: nothing is made after the call that took the right away was answered.

use crate::support::{Got, PASSWORD, Server, World, text, worlds};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A call that takes a right away.
type Take<'t> = Box<dyn FnOnce() -> Got + 't>;

/// Every id of a list, page by page.
fn ids(server: &Server, member: &str, path: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut cursor = String::new();
    for _ in 0..200 {
        let page = server.as_member(member, "GET", &format!("{path}?limit=100{cursor}"), None).json();
        all.extend(page["data"].as_array().unwrap().iter().map(|it| text(&it["id"])));
        match page["pagination"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
    panic!("the list has no end");
}

/// Sends `request` from so many clients at once, again and again until it is refused, and takes the right away meanwhile. Answers
/// what was there when `take` had been answered, what was there in the end, and the refusals.
fn race(
    clients: usize,
    request: impl Fn() -> Got + Sync,
    list: impl Fn() -> BTreeSet<String>,
    take: impl FnOnce() -> Got,
) -> (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>) {
    let (made, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let got = request();
                        if got.status != 201 {
                            // One that waited too long for its turn was told so, and nothing of it was done.
                            if got.status == 503 && !stop.load(Ordering::Relaxed) {
                                continue;
                            }
                            return got.code();
                        }
                        made.fetch_add(1, Ordering::Relaxed);
                        assert!(begun.elapsed() < Duration::from_secs(60), "it is never refused");
                    }
                })
            })
            .collect();
        while made.load(Ordering::Relaxed) < clients / 2 && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let taken = take();
        let at_return = list();
        assert!(taken.status < 300, "{taken:?}");
        stop.store(true, Ordering::Relaxed);
        let refusals = asking.into_iter().map(|it| it.join().unwrap()).collect();
        (at_return, list(), refusals)
    })
}

/// Item F1 for what makes credentials: 64 requests of one admin in flight while the admin is removed, lowered, or signed out.
#[test]
fn nothing_is_minted_after_the_call_that_took_the_right_away() {
    for world in worlds(&[]) {
        let server = &world.server;
        let owner = world.owner.as_str();
        let keys = || ids(server, owner, "/api/v1/api-keys");
        let member = |email: &str| {
            let members = server.as_member(owner, "GET", "/api/v1/members", None).data();
            let found = members.as_array().unwrap().iter().find(|it| it["email"] == email).cloned();
            format!("/api/v1/members/{}", text(&found.unwrap()["id"]))
        };
        let admins = [
            server.join(owner, "removed@alpha.example", "admin"),
            server.join(owner, "lowered@alpha.example", "admin"),
            server.join(owner, "out@alpha.example", "admin"),
        ];
        let other = server.log_in("out@alpha.example", PASSWORD).cookie();
        let first = server.as_member(&admins[2], "GET", "/api/v1/auth/sessions", None).data();
        let current = first.as_array().unwrap().iter().find(|it| it["current"] == true).cloned().unwrap();
        let ended = format!("/api/v1/auth/sessions/{}", text(&current["id"]));

        let takes: [(&str, Take<'_>); 3] = [
            (
                &admins[0],
                Box::new(|| server.as_member(owner, "DELETE", &member("removed@alpha.example"), None)),
            ),
            (
                &admins[1],
                Box::new(|| {
                    let body = json!({"role": "viewer"});
                    server.as_member(owner, "PATCH", &member("lowered@alpha.example"), Some(&body))
                }),
            ),
            (&admins[2], Box::new(|| server.as_member(&other, "DELETE", &ended, None))),
        ];
        for (admin, take) in takes {
            let mint = || {
                let body = json!({"name": "late", "scopes": ["agents:read"], "expiresAt": Value::Null});
                server.as_member(admin, "POST", "/api/v1/api-keys", Some(&body))
            };
            let (at_return, later, refusals) = race(64, mint, keys, take);
            let after: Vec<_> = later.difference(&at_return).collect();
            assert!(after.is_empty(), "{} keys appeared after the answer", after.len());
            // Each refusal says what became of the right; a request whose role changed on the way may be sent again.
            let said = ["credential_revoked", "insufficient_scope", "conflict"];
            assert!(refusals.iter().all(|it| said.contains(&it.as_str())), "{refusals:?}");
        }
    }
}

/// The same for what a key opens: 255 requests of one key in flight while it is revoked.
#[test]
fn nothing_is_made_after_the_key_was_revoked() {
    for world in worlds(&[]) {
        let server = &world.server;
        let (id, key) = server.mint(&world.owner, json!({"name": "late", "scopes": ["agents:write"]}));
        let create = || server.as_key(&key, "POST", "/api/v1/agents", Some(&json!({"name": "Late"})));
        let agents = || ids(server, &world.owner, "/api/v1/agents");
        let revoke = || server.as_member(&world.owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None);
        let (at_return, later, refusals) = race(255, create, agents, revoke);
        assert_eq!(later.difference(&at_return).count(), 0, "agents appeared after the answer");
        assert!(refusals.iter().all(|it| it == "credential_revoked"), "{refusals:?}");
    }
}

/// A role that changes while a request runs takes with it what the request was to grant.
#[test]
fn what_a_handler_looked_at_holds_when_it_is_written() {
    let world = World::new(&[]);
    let server = &world.server;
    let owner = world.owner.as_str();
    let members = server.as_member(owner, "GET", "/api/v1/members", None).data();
    let admin = members.as_array().unwrap().iter().find(|it| it["email"] == "admin@alpha.example").unwrap();
    let path = format!("/api/v1/members/{}", text(&admin["id"]));
    let mint = || {
        let body = json!({"name": "spender", "scopes": ["billing:write"]});
        server.as_member(&world.admin, "POST", "/api/v1/api-keys", Some(&body))
    };
    // A developer mints keys too, but holds no billing:write.
    let lower = || server.as_member(owner, "PATCH", &path, Some(&json!({"role": "developer"})));
    let keys = || ids(server, owner, "/api/v1/api-keys");
    let (at_return, later, refusals) = race(32, mint, keys, lower);
    assert_eq!(later.difference(&at_return).count(), 0);
    assert!(
        refusals.iter().all(|it| ["scope_not_grantable", "conflict"].contains(&it.as_str())),
        "{refusals:?}"
    );
}
