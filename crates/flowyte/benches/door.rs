//! What a request costs the server beside what a bare hyper answers for in the same process: `make bench`.
//!
//! The server and a bare hyper listener run in one process, on one runtime. Connections that stay open ask each of them in turns, and the
//! time that the process was on a processor is divided by the requests. So neither the clients' share of the machine nor a busy
//! neighbour is in the figures, and a ratio of two of them says what our part is.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A benchmark says what went wrong by panicking, and prints.

use bytes::Bytes;
use flowyte::config::Given;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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

struct Server {
    child: Child,
    port: u16,
    bare: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Server {
    fn start(folder: &Path) -> Self {
        let [port, ops, bare] =
            std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .env(BARE, bare.to_string())
            .env("FLOWYTE_DATA", folder.join("data"))
            .env("FLOWYTE_LISTEN", format!("127.0.0.1:{port}"))
            .env("FLOWYTE_OPS_LISTEN", format!("127.0.0.1:{ops}"))
            .env("FLOWYTE_ORGANIZATION_RPM", "60000000")
            .env("FLOWYTE_UNAUTHENTICATED_RPM", "60000000")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, bare }
    }

    /// Nanoseconds on a processor so far, of all threads (proc(5), schedstat).
    fn on_processor(&self) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads
            .filter_map(|it| std::fs::read_to_string(it.ok()?.path().join("schedstat")).ok())
            .filter_map(|it| it.split(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

/// One open connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a request; its status and its body.
    fn ask(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        self.0.get_mut().write_all(request).unwrap();
        let (mut line, mut status, mut length) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            self.0.read_until(b'\n', &mut line).unwrap();
            let text = line.trim_ascii_end();
            match text {
                [] => break,
                _ if status == 0 => status = std::str::from_utf8(&text[9..12]).unwrap().parse().unwrap(),
                _ if text.len() > 15 && text[..15].eq_ignore_ascii_case(b"content-length:") => {
                    length = std::str::from_utf8(text[15..].trim_ascii()).unwrap().parse().unwrap();
                }
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, body)
    }
}

fn request(method: &str, path: &str, fields: &str, body: Option<&Value>) -> Vec<u8> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let typed = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost:8080\r\n{fields}{typed}\r\n{body}").into_bytes()
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
                        assert_eq!(client.ask(&case.request).0, case.status, "{}", case.name);
                    }
                });
            }
        });
    };
    ask(&mut clients, REQUESTS / 10);
    let before = server.on_processor();
    ask(&mut clients, REQUESTS);
    (server.on_processor() - before) / (CONNECTIONS * REQUESTS) as u64
}

fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let port = server.port;
    let mut client = Client::new(port);
    let token = std::fs::read_to_string(folder.path().join("data/setup-token")).unwrap();
    let body = json!({"token": token.trim(), "organizationName": "Example", "name": "Ada", "email": "ada@example.com",
        "password": "mountain-kettle-orbit-71"});
    assert_eq!(client.ask(&request("POST", "/api/v1/auth/setup", "", Some(&body))).0, 201);
    let body = json!({"email": "ada@example.com", "password": "mountain-kettle-orbit-71"});
    client.0.get_mut().write_all(&request("POST", "/api/v1/auth/login", "", Some(&body))).unwrap();
    let cookie = loop {
        let mut line = String::new();
        client.0.read_line(&mut line).unwrap();
        if let Some(cookie) = line.strip_prefix("set-cookie: flowyte_session=") {
            break cookie.split(';').next().unwrap().to_owned();
        }
    };
    let mut client = Client::new(port);
    let fields = format!("Cookie: flowyte_session={cookie}\r\nSec-Fetch-Site: same-origin\r\n");
    let body = json!({"name": "bench", "scopes": ["agents:read"]});
    let (status, minted) = client.ask(&request("POST", "/api/v1/api-keys", &fields, Some(&body)));
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&minted));
    let minted: Value = serde_json::from_slice(&minted).unwrap();
    let key = minted["data"]["secret"].as_str().unwrap();
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
            port: server.bare,
            request: request("GET", "/", &bearer(key), None),
            status: 200,
        },
        get("whoami", "/api/v1/whoami", key, 200),
        get("401, wrong checksum", "/api/v1/whoami", &wrong, 401),
        get("403, missing scope", "/api/v1/billing/wallet", key, 403),
        get("404, one row read", &none, key, 404),
        get("list of no agents", "/api/v1/agents", key, 200),
    ];
    // In turns, so that a change of the machine's speed meets all of them; the median of each.
    let mut costs = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for (case, costs) in cases.iter().zip(&mut costs) {
            costs.push(cost(&server, case));
        }
    }
    println!("request\tmicroseconds on a processor\tbeside bare hyper");
    let median = |costs: &mut Vec<u64>| {
        costs.sort_unstable();
        costs[costs.len() / 2]
    };
    let costs: Vec<u64> = costs.iter_mut().map(median).collect();
    for (case, cost) in cases.iter().zip(&costs) {
        println!("{}\t{:.2}\t{:.2}", case.name, *cost as f64 / 1e3, *cost as f64 / costs[0] as f64);
    }
}
