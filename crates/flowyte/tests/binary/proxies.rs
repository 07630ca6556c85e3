//! The proxies of docs/guides/operating.md in front of the binary, configured as it is printed there, with TLS: an API call, a stream, a
//! WebSocket, and the caller's address.

use crate::services::openai::{self, OpenAi, Reply};
use crate::support::{SHOP, World, free_port, text};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, client};

const GUIDE: &str = include_str!("../../../../docs/guides/operating.md");
/// Where the guide says that the binary is, and what it is called from outside.
const BINARY: &str = "127.0.0.1:8080";
const HOST: &str = "flowyte.example";
/// Where the caller comes from, which is no trusted proxy.
const CALLER: &str = "127.0.0.9";

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the guide prints for a proxy, with places of this test instead of its own.
fn printed(language: &str, changes: &[(&str, &str)]) -> String {
    let begin = format!("```{language}\n");
    let rest =
        &GUIDE[GUIDE.find(&begin).unwrap_or_else(|| panic!("no {language} in the guide")) + begin.len()..];
    let mut config = rest[..rest.find("```").unwrap()].to_owned();
    for (from, to) in changes {
        assert!(config.contains(from), "{from} is not in\n{config}");
        config = config.replace(from, to);
    }
    config
}

fn start(program: &str, arguments: &[&str], port: u16) -> Running {
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let child =
        Running(child.unwrap_or_else(|error| panic!("{program} is needed (make test installs it): {error}")));
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{program} does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// A certificate that nobody trusts, for as long as the test runs: the files of chain, key, and both in one.
fn certificate(folder: &Path) -> [String; 3] {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (chain, key, both) = (path("chain.pem"), path("key.pem"), path("both.pem"));
    let subject = format!("/CN={HOST}");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", &subject, "-keyout", &key, "-out", &chain])
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let text = |file: &str| std::fs::read_to_string(file).unwrap();
    std::fs::write(&both, text(&chain) + &text(&key)).unwrap();
    [chain, key, both]
}

/// A request of the caller through the proxy, with an address that it makes up.
fn curl(port: u16, path: &str, credential: &str, more: &[&str]) -> Running {
    let child = Command::new("curl")
        .args(["-sSkN", "--max-time", "60", "--interface", CALLER])
        .args(["--connect-to", &format!("{HOST}:443:127.0.0.1:{port}")])
        .args(["-H", "X-Forwarded-For: 203.0.113.7", "-H", &format!("Authorization: Bearer {credential}")])
        .args(more)
        .arg(format!("https://{HOST}{path}"))
        .stdout(Stdio::piped())
        .spawn();
    Running(child.unwrap())
}

/// A TLS connection through the proxy.
struct Tunnel {
    _process: Running,
    to: ChildStdin,
    from: ChildStdout,
}

impl Tunnel {
    fn open(port: u16) -> Self {
        let mut child = Command::new("timeout")
            .args(["60", "openssl", "s_client", "-quiet", "-servername", HOST, "-connect"])
            .arg(format!("127.0.0.1:{port}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _process: Running(child), to, from }
    }
}

impl Read for Tunnel {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.from.read(into)
    }
}

impl Write for Tunnel {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// An API call arrives, under the caller's own address.
fn calls(world: &World, port: u16) {
    let (id, key) = world.server.mint(&world.owner, json!({"name": "proxied", "scopes": ["agents:read"]}));
    let mut answer = String::new();
    curl(port, "/api/v1/whoami", &key, &[]).0.stdout.as_mut().unwrap().read_to_string(&mut answer).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    assert_eq!(answer["data"]["keyId"], id, "{answer}");
    let begun = Instant::now();
    loop {
        let row = world.server.as_member(&world.owner, "GET", &format!("/api/v1/api-keys/{id}"), None).data();
        if let Some(address) = row["lastUsedAddress"].as_str() {
            assert_eq!(address, CALLER);
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{row}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The first event is there while the model has yet to say the rest.
fn streams(world: &World, port: u16, at: &OpenAi) {
    let (go_on, held) = mpsc::channel();
    at.script([Reply::Halves(
        "The first half ".into(),
        Arc::new(Mutex::new(held)),
        "and the second.".into(),
    )]);
    let visitor = world.server.as_widget(&world.pk, "POST", "/api/v1/chat/widget/sessions", None).data();
    let origin = format!("Origin: {SHOP}");
    let more = ["-H", &origin, "-H", "Content-Type: application/json", "-d", r#"{"content": "Hello"}"#];
    let mut curl = curl(port, "/api/v1/chat/widget/messages", &text(&visitor["visitorToken"]), &more);
    let mut lines = BufReader::new(curl.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = |name: &str| lines.find(|it| *it == format!("event: {name}"));
    assert!(next("message_delta").is_some(), "the first half is held back until the second is there");
    go_on.send(()).unwrap();
    assert!(next("done").is_some());
}

/// A conversation over a WebSocket.
fn talks(world: &World, port: u16, at: &OpenAi) {
    at.script([Reply::Say("Yes.".into())]);
    let path = format!("/api/v1/agents/{}/talk-token", world.agent);
    let token = world.server.as_key(&world.all, "POST", &path, None).data();
    assert_eq!(token["realtimeUrl"], format!("wss://{HOST}/realtime"));
    let mut request = text(&token["realtimeUrl"]).into_client_request().unwrap();
    let protocols = format!("flowyte.talk.v1, {}", text(&token["token"]));
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocols.parse().unwrap());
    let (mut socket, _) = client(request, Tunnel::open(port)).unwrap();
    socket.send(Message::text(r#"{"type": "user_message", "text": "Are you there?"}"#)).unwrap();
    loop {
        let message = socket.read().unwrap();
        if message.to_text().is_ok_and(|it| it.contains(r#""eventType":"done""#)) {
            return;
        }
    }
}

#[test]
fn proxies_of_the_guide_pass_calls_streams_sockets_and_addresses() {
    let at = OpenAi::start();
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    let key_file = openai::key_file(folder.path());
    let public_url = format!("https://{HOST}");
    let world = World::new(&[
        ("PUBLIC_URL", &public_url),
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("MODEL_URL", &at.url),
        ("MODEL_NAME", openai::NAME),
        ("MODEL_KEY_FILE", &key_file),
    ]);
    let [chain, key, both] = certificate(folder.path());
    let binary = format!("127.0.0.1:{}", world.server.port);
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ports = [free_port(), free_port(), free_port()];
    let listen = ports.map(|port| format!("127.0.0.1:{port}"));

    let site = printed(
        "nginx",
        &[
            (BINARY, &binary),
            ("listen 443 ssl", &format!("listen {} ssl", listen[0])),
            ("/etc/nginx/flowyte.pem", &chain),
            ("/etc/nginx/flowyte.key", &key),
        ],
    );
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|it| format!("{it}_temp_path {home}/{it};\n"))
        .concat();
    let nginx = file(
        "nginx.conf",
        &format!(
            "daemon off; master_process off; pid {home}/nginx.pid; events {{}}\nhttp {{ access_log off;\n{temporary}{site}}}"
        ),
    );
    let caddy = printed(
        "caddy",
        &[
            (BINARY, &binary),
            (HOST, &format!("https://{HOST}:{}", ports[1])),
            ("reverse_proxy", &format!("bind 127.0.0.1\n\ttls {chain} {key}\n\treverse_proxy")),
        ],
    );
    let caddy = file("Caddyfile", &format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{caddy}"));
    let haproxy = printed(
        "haproxy",
        &[
            (BINARY, &binary),
            ("bind :443", &format!("bind {}", listen[2])),
            ("/etc/haproxy/flowyte.pem", &both),
        ],
    );
    let haproxy = file("haproxy.cfg", &haproxy);

    let proxies = [
        start("/usr/sbin/nginx", &["-e", "stderr", "-c", &nginx], ports[0]),
        start("/usr/bin/caddy", &["run", "--adapter", "caddyfile", "--config", &caddy], ports[1]),
        start("/usr/sbin/haproxy", &["-db", "-f", &haproxy], ports[2]),
    ];
    for port in ports {
        calls(&world, port);
        streams(&world, port, &at);
        talks(&world, port, &at);
    }
    drop(proxies);
}
