//! What one organization's flood does to another's mints and revocations: `make bench`.
//!
//! Floods may be chosen by a part of their name: `cargo bench --bench floods -- visitors`. The flood's clients are processes of their own that give way, as if they ran on another machine; whoever is measured is in a third process.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A benchmark says what went wrong by panicking, and prints.

#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;
mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use support::{Client, Server, request};

/// Says to the process that it is the flood, and how many clients it has.
const FLOOD: &str = "BENCH_FLOOD";
/// Mints, and revocations, beside each flood.
const ROUNDS: usize = 400;
const SHOP: &str = "Origin: https://shop.example\r\n";

fn main() {
    match std::env::var(FLOOD) {
        Ok(clients) => flood(clients.parse().unwrap()),
        Err(_) => measure(),
    }
}

/// Sends the requests that are files in the present folder, each client always the same one.
fn flood(clients: usize) {
    let requests: Vec<Vec<u8>> =
        std::fs::read_dir(".").unwrap().map(|it| std::fs::read(it.unwrap().path()).unwrap()).collect();
    let port = std::env::var("PORT").unwrap().parse().unwrap();
    rustix::process::setpriority_process(None, 19).unwrap();
    std::thread::scope(|scope| {
        for client in 0..clients {
            let request = &requests[client % requests.len()];
            scope.spawn(move || {
                let mut client = Client::new(port);
                loop {
                    let status = client.ask(request).status;
                    // Whoever has all their keys, or asks too often, is told so.
                    assert!([200, 201, 409, 429, 503].contains(&status), "{status}");
                }
            });
        }
    });
}

/// A flood, which ends when this is dropped.
struct Flood(Child);

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start(folder: &Path, port: u16, clients: usize, requests: &[Vec<u8>]) -> Flood {
    std::fs::create_dir(folder).unwrap();
    for (number, request) in requests.iter().enumerate() {
        std::fs::write(folder.join(number.to_string()), request).unwrap();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let child =
        command.env(FLOOD, clients.to_string()).env("PORT", port.to_string()).current_dir(folder).spawn();
    std::thread::sleep(Duration::from_millis(700));
    Flood(child.unwrap())
}

/// Microseconds that each mint took, and each revocation, in the order of their length.
fn mint_and_revoke(port: u16, owner: &str) -> [Vec<u128>; 2] {
    let mut client = Client::new(port);
    let body = json!({"name": "beside", "scopes": ["agents:read"]});
    let mint = request("POST", "/api/v1/api-keys", owner, Some(&body));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let minted = client.ask(&mint);
        times[0].push(begun.elapsed().as_micros());
        assert_eq!(minted.status, 201);
        let path = format!("/api/v1/api-keys/{}", minted.data()["id"].as_str().unwrap());
        let revoke = request("DELETE", &path, owner, None);
        let begun = Instant::now();
        assert_eq!(client.ask(&revoke).status, 200);
        times[1].push(begun.elapsed().as_micros());
    }
    times.iter_mut().for_each(|it| it.sort_unstable());
    times
}

fn measure() {
    println!("database\tbeside\tmint p50, p99 (ms)\tthan alone\trevocation p50, p99 (ms)\tthan alone");
    beside_floods("SQLite", &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (url, _server) = runtime.block_on(postgres::database_on_disk(&[]));
    beside_floods("PostgreSQL", &[("FLOWYTE_DATABASE", Path::new(&url))]);
}

fn beside_floods(database: &str, settings: &[(&str, &Path)]) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::binary(&data, &[&[("FLOWYTE_SIGNUP", Path::new("open"))], settings].concat());
    let (port, owner) = (server.port, server.set_up(&data));
    let other = sign_up(port);
    let visits = visits(port, &owner);
    let keys: Vec<Vec<u8>> = (0..64)
        .map(|n| {
            let body = json!({"name": format!("flood {n}"), "scopes": ["agents:read"]});
            request("POST", "/api/v1/api-keys", &owner, Some(&body))
        })
        .collect();
    let kept = Client::new(port).ask(&keys[0]).data();
    let path = format!("/api/v1/api-keys/{}", kept["id"].as_str().unwrap());
    let change = |n| request("PATCH", &path, &owner, Some(&json!({"name": format!("flood {n}")})));
    let changes: Vec<Vec<u8>> = (0..64).map(change).collect();
    let search = [request("GET", "/api/v1/api-keys?search=nowhere&limit=100", &owner, None)];
    let floods: [(&str, usize, &[Vec<u8>]); 5] = [
        ("alone", 0, &[]),
        ("64 clients who mint", 64, &keys),
        ("64 clients who change a key", 64, &changes),
        ("64 clients who search keys", 64, &search),
        ("200 messages of visitors at once", 200, &visits),
    ];
    let chosen: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let floods = floods.into_iter().filter(|(name, clients, _)| {
        *clients == 0 || chosen.is_empty() || chosen.iter().any(|it| name.contains(it.as_str()))
    });
    let mut alone = None;
    for (name, clients, requests) in floods {
        let _flood = (clients > 0).then(|| start(&folder.path().join(name), port, clients, requests));
        let times = mint_and_revoke(port, &other);
        let shown = times.map(|all| (all[ROUNDS / 2], all[ROUNDS * 99 / 100]));
        let before = *alone.get_or_insert(shown);
        print!("{database}\t{name}");
        for ((p50, p99), (_, alone)) in shown.into_iter().zip(before) {
            print!("\t{:.1}, {:.1}\t{:.1}", p50 as f64 / 1e3, p99 as f64 / 1e3, p99 as f64 / alone as f64);
        }
        println!();
    }
}

/// Another organization; fields that make a request its owner's.
fn sign_up(port: u16) -> String {
    let body = json!({"organizationName": "Other", "name": "Bob", "email": "bob@example.com",
        "password": "lantern-copper-meadow-38"});
    let answer = Client::new(port).ask(&request("POST", "/api/v1/auth/signup", "", Some(&body)));
    format!("Cookie: {}\r\nSec-Fetch-Site: same-origin\r\n", answer.cookie.unwrap())
}

/// Messages of twenty visitors, whose agent knows something.
fn visits(port: u16, owner: &str) -> Vec<Vec<u8>> {
    let mut client = Client::new(port);
    let mut ask = |method: &str, path: &str, fields: &str, body: Option<Value>| {
        let answer = client.ask(&request(method, path, fields, body.as_ref()));
        assert!(answer.status < 300, "{path}: {}", answer.status);
        answer.data()
    };
    let agent = ask("POST", "/api/v1/agents", owner, Some(json!({"name": "Front desk"})));
    let agent = format!("/api/v1/agents/{}", agent["id"].as_str().unwrap());
    let text = "We are open from nine to five, Monday to Friday.";
    let source = json!({"kind": "text", "label": "Opening hours", "text": text});
    ask("POST", &format!("{agent}/knowledge/sources"), owner, Some(source));
    ask("POST", &format!("{agent}/publish"), owner, Some(json!({})));
    let key = json!({"name": "site", "env": "test", "allowedOrigins": ["https://shop.example"]});
    let key = ask("POST", &format!("{agent}/publishable-keys"), owner, Some(key));
    let of = |credential: &Value| format!("Authorization: Bearer {}\r\n{SHOP}", credential.as_str().unwrap());
    (0..20)
        .map(|_| {
            let open = ask("POST", "/api/v1/chat/widget/sessions", &of(&key["keyPublic"]), Some(json!({})));
            let body =
                json!({"content": "Where is the parcel that I sent you a week ago, and when do you open?"});
            request("POST", "/api/v1/chat/widget/messages", &of(&open["visitorToken"]), Some(&body))
        })
        .collect()
}
