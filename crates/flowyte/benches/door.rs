//! What a request costs the server beside what a bare hyper answers for in the same process: `make bench`.
//!
//! The server and a bare hyper listener run in one process, on one runtime. Connections that stay open ask each of them in turns, and the
//! time that the process was on a processor is divided by the requests. So neither the clients' share of the machine nor a busy
//! neighbour is in the figures, and a ratio of two of them says what our part is.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A benchmark says what went wrong by panicking, and prints.

mod support;

use bytes::Bytes;
use flowyte::config::Given;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use std::path::Path;
use std::process::Command;
use support::{Client, Server, free_port, median, request};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Says to the process that it is the server, and where the bare listener is to be.
const BARE: &str = "BENCH_BARE";
const CONNECTIONS: usize = 8;
const REQUESTS: usize = 4_000;
const ROUNDS: usize = 7;
/// About as long as the answer of `whoami`.
const BARE_BODY: &[u8] = &[b'x'; 400];

fn main() {
    match std::env::var(BARE) {
        Ok(port) => serve(port.parse().unwrap()),
        Err(_) => measure(),
    }
}

/// The server, with a bare listener beside it.
fn serve(port: u16) {
    let mut given = Given::default();
    given.variables(std::env::vars_os().filter(|(name, _)| name != BARE));
    let config = given.finish().unwrap();
    let _log = flowyte::log::start(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bare = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = bare.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let answer = service_fn(|_| async {
                    Ok::<_, Infallible>(hyper::Response::new(Full::new(Bytes::from_static(BARE_BODY))))
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
                );
            }
        });
        flowyte::serve::run(config).await.unwrap();
    });
}

/// This program again as the server, with its bare listener's port. Its log goes where it costs what a file costs.
fn start(folder: &Path) -> (Server, u16) {
    let bare = free_port();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(BARE, bare.to_string()).stderr(log);
    (Server::start(&mut command, &folder.join("data")), bare)
}

/// Nanoseconds on a processor so far, of all threads (proc(5), schedstat).
fn on_processor(server: &Server) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    threads
        .filter_map(|it| std::fs::read_to_string(it.ok()?.path().join("schedstat")).ok())
        .filter_map(|it| it.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// What is asked for, and what the answer is.
struct Case {
    name: &'static str,
    port: u16,
    request: Vec<u8>,
    status: u16,
}

/// Nanoseconds on a processor for each request.
fn cost(server: &Server, case: &Case) -> u64 {
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::new(case.port)).collect();
    let ask = |clients: &mut Vec<Client>, times: usize| {
        std::thread::scope(|scope| {
            for client in clients {
                scope.spawn(move || {
                    for _ in 0..times {
                        assert_eq!(client.ask(&case.request).status, case.status, "{}", case.name);
                    }
                });
            }
        });
    };
    ask(&mut clients, REQUESTS / 10);
    let before = on_processor(server);
    ask(&mut clients, REQUESTS);
    (on_processor(server) - before) / (CONNECTIONS * REQUESTS) as u64
}

fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let (server, bare) = start(folder.path());
    let owner = server.set_up(&folder.path().join("data"));
    let port = server.port;
    let body = json!({"name": "bench", "scopes": ["agents:read"]});
    let minted = Client::new(port).ask(&request("POST", "/api/v1/api-keys", &owner, Some(&body))).data();
    let key = minted["secret"].as_str().unwrap();
    let bearer = |key: &str| format!("Authorization: Bearer {key}\r\n");
    let wrong = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    let none = format!("/api/v1/agents/agent_{:032x}", 1);
    let get = |name, path: &str, key: &str, status| Case {
        name,
        port,
        request: request("GET", path, &bearer(key), None),
        status,
    };
    let cases = [
        Case {
            name: "bare hyper",
            port: bare,
            request: request("GET", "/", &bearer(key), None),
            status: 200,
        },
        get("whoami", "/api/v1/whoami", key, 200),
        get("401, wrong checksum", "/api/v1/whoami", &wrong, 401),
        get("403, missing scope", "/api/v1/billing/wallet", key, 403),
        get("404, one row read", &none, key, 404),
        get("list of no agents", "/api/v1/agents", key, 200),
    ];
    // Some of them, where their names begin with an argument.
    let asked: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let cases: Vec<Case> = cases
        .into_iter()
        .filter(|case| asked.is_empty() || asked.iter().any(|it| case.name.starts_with(it.as_str())))
        .collect();
    // In turns, so that a change of the machine's speed meets all of them; the median of each.
    let mut costs = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for (case, costs) in cases.iter().zip(&mut costs) {
            costs.push(cost(&server, case));
        }
    }
    println!("request\tmicroseconds on a processor\tbeside bare hyper");
    let costs: Vec<u64> = costs.iter_mut().map(|costs| median(costs)).collect();
    for (case, cost) in cases.iter().zip(&costs) {
        println!("{}\t{:.2}\t{:.2}", case.name, *cost as f64 / 1e3, *cost as f64 / costs[0] as f64);
    }
}
