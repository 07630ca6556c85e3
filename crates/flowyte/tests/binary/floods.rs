//! One tenant's flood of writes is its own: another tenant's work is answered beside it.

use crate::support::{SHOP, World, text, worlds};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Mints and revokes, one after the other; how long each took, in milliseconds.
fn mint_and_revoke(world: &World, rounds: usize) -> (Vec<u128>, Vec<u128>) {
    let (mut mints, mut revocations) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        let body = json!({"name": "beside", "scopes": ["agents:read"]});
        let minted = world.server.as_member(&world.other_owner, "POST", "/api/v1/api-keys", Some(&body));
        assert_eq!(minted.status, 201, "{minted:?}");
        mints.push(begun.elapsed().as_millis());
        let begun = Instant::now();
        let path = format!("/api/v1/api-keys/{}", text(&minted.data()["id"]));
        let revoked = world.server.as_member(&world.other_owner, "DELETE", &path, None);
        assert_eq!(revoked.status, 200, "{revoked:?}");
        revocations.push(begun.elapsed().as_millis());
    }
    (mints, revocations)
}

fn percentiles(mut all: Vec<u128>) -> String {
    all.sort_unstable();
    format!("p50 {} ms, p99 {} ms", all[all.len() / 2], all[all.len() * 99 / 100])
}

/// Runs `flood` from so many threads while another tenant mints and revokes; every call of that tenant is answered.
fn beside(world: &World, what: &str, threads: usize, flood: impl Fn(usize) -> u16 + Sync) {
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (flood, stop, answered) = (&flood, &stop, &answered);
            scope.spawn(move || {
                // The clients of the flood are to take what the server leaves of the processor, as if they ran elsewhere.
                rustix::process::setpriority_process(None, 19).unwrap();
                while !stop.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(120) {
                    let status = flood(thread);
                    // Whoever overfills their own queue is told so.
                    assert!([200, 201, 429, 503].contains(&status), "{status}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let (mints, revocations) = mint_and_revoke(world, 30);
        stop.store(true, Ordering::Relaxed);
        println!("{what}: mints {}; revocations {}", percentiles(mints), percentiles(revocations));
    });
    assert!(answered.load(Ordering::Relaxed) >= threads, "there was no flood");
}

#[test]
fn one_tenants_flood_leaves_anothers_calls_answered() {
    for world in worlds(&[]) {
        let server = &world.server;
        let (mints, revocations) = mint_and_revoke(&world, 30);
        println!("alone: mints {}; revocations {}", percentiles(mints), percentiles(revocations));
        beside(&world, "beside 64 clients who mint", 64, |_| {
            let body = json!({"name": "flood", "scopes": ["agents:read"]});
            server.as_member(&world.owner, "POST", "/api/v1/api-keys", Some(&body)).status
        });
        // What narrows rights goes first, but not for ever.
        let (kept, _) = server.mint(&world.owner, json!({"name": "kept", "scopes": ["agents:read"]}));
        beside(&world, "beside 64 clients who change a key", 64, |thread| {
            let body = json!({"name": format!("flood {thread}")});
            server.as_member(&world.owner, "PATCH", &format!("/api/v1/api-keys/{kept}"), Some(&body)).status
        });
        beside(&world, "beside 64 clients who search keys", 64, |_| {
            let path = "/api/v1/api-keys?search=nowhere&limit=100";
            server.as_member(&world.owner, "GET", path, None).status
        });
        // Twenty visitors in conversations that have been going on for a while.
        let visitors: Vec<String> = (0..20)
            .map(|_| {
                let open = server.as_widget(&world.pk, "POST", "/api/v1/chat/widget/sessions", None);
                text(&open.data()["visitorToken"])
            })
            .collect();
        beside(&world, "beside 200 messages of visitors at once", 200, |thread| {
            let headers = [
                format!("Authorization: Bearer {}", visitors[thread % visitors.len()]),
                format!("Origin: {SHOP}"),
            ];
            let body =
                json!({"content": "Where is the parcel that I sent you a week ago, and when do you open?"});
            let path = "/api/v1/chat/widget/messages";
            server.send("POST", path, &[&headers[0], &headers[1]], Some(&body)).status
        });
    }
}
