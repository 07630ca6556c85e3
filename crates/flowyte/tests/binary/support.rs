//! Starts servers, speaks HTTP/1.1 byte by byte, and sets up two organizations with every kind of caller.

use flowyte_contract::{Api, Validator};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// A password that the server takes.
pub const PASSWORD: &str = "mountain-kettle-orbit-71";
/// An origin that the publishable keys of [`World`] list.
pub const SHOP: &str = "https://shop.example";

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running `flowyte serve`. Killed when dropped.
pub struct Server {
    child: Child,
    pub folder: PathBuf,
    temporary: Option<tempfile::TempDir>,
    pub port: u16,
    pub ops_port: u16,
    settings: Vec<(String, String)>,
    /// Everything it printed: standard output and standard error.
    pub output: Arc<Mutex<String>>,
}

/// What a request got.
#[derive(Clone, Debug)]
pub struct Got {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn data(&self) -> Value {
        assert!(self.status < 300, "{self:?}");
        self.json()["data"].clone()
    }

    pub fn code(&self) -> String {
        match serde_json::from_str::<Value>(&self.body) {
            Ok(document) => document["code"].as_str().unwrap_or("").to_owned(),
            Err(_) => String::new(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn cookie(&self) -> String {
        let set = self.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {self:?}"));
        set.split(';').next().unwrap().to_owned()
    }

    /// What every answer has, and what every refusal has besides.
    ///
    /// Rows: SX-02 SX-11.
    pub fn check_invariants(&self, what: &str) {
        assert!(
            self.header("x-request-id").is_some_and(|it| it.len() > 20),
            "{what}: no request id: {self:?}"
        );
        let varies = self.header("vary").is_some_and(|it| it.split(", ").any(|field| field == "Origin"));
        assert!(varies, "{what}: {self:?}");
        assert!(self.header("access-control-allow-credentials").is_none(), "{what}");
        assert!(self.header("server").is_none() && self.header("x-powered-by").is_none(), "{what}");
        if self.status >= 400 {
            assert_eq!(self.header("content-type"), Some("application/problem+json"), "{what}: {self:?}");
            assert_eq!(self.header("cache-control"), Some("no-store"), "{what}: {self:?}");
            assert_eq!(
                self.status == 401,
                self.header("www-authenticate").is_some_and(|it| !it.contains("insufficient")),
                "{what}: {self:?}"
            );
            // What went wrong inside stays inside.
            for inner in ["SELECT ", "INSERT ", "sqlx", "sqlite", ".rs:", "panicked", "/tmp/", "Error {"] {
                assert!(!self.body.contains(inner), "{what}: {self:?}");
            }
            if !self.body.is_empty() {
                let document = self.json();
                assert_eq!(document["status"], self.status, "{what}");
                assert_eq!(document["requestId"].as_str(), self.header("x-request-id"), "{what}");
                assert!(
                    document["type"].as_str().unwrap().ends_with(&format!("/errors/{}", self.code())),
                    "{what}"
                );
            }
        }
    }
}

/// How long a start may take: ten million keys are not read in half a minute.
fn patience() -> Duration {
    let full = std::env::var("FLOWYTE_ISOLATION").is_ok_and(|it| it == "full");
    Duration::from_secs(if full { 1_200 } else { 30 })
}

impl Server {
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("data");
        Self::start_in(&folder, Some(temporary), settings)
    }

    pub fn start_in(folder: &Path, temporary: Option<tempfile::TempDir>, settings: &[(&str, &str)]) -> Self {
        let settings: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // Another process may take a port between the look and the start.
        for _ in 0..5 {
            let (port, ops_port) = (free_port(), free_port());
            if let Ok(mut server) = Self::launch(folder, port, ops_port, &settings) {
                server.temporary = temporary;
                return server;
            }
        }
        panic!("the server does not start");
    }

    pub fn command(folder: &Path, port: u16, ops_port: u16, settings: &[(String, String)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowyte"));
        command
            .arg("serve")
            .arg("--data")
            .arg(folder)
            .args([
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--ops-listen",
                &format!("127.0.0.1:{ops_port}"),
            ])
            .env("FLOWYTE_DRAIN_DELAY", "0")
            // Said to the tests, and no settings of a server.
            .env_remove("FLOWYTE_TORTURE_SECONDS")
            .env_remove("FLOWYTE_ISOLATION")
            .envs(settings.iter().map(|(name, value)| match name.strip_prefix("env:") {
                Some(variable) => (variable.to_owned(), value.clone()),
                None => (format!("FLOWYTE_{name}"), value.clone()),
            }))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn launch(
        folder: &Path,
        port: u16,
        ops_port: u16,
        settings: &[(String, String)],
    ) -> Result<Self, String> {
        let mut child = Self::command(folder, port, ops_port, settings).spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let output = output.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { return };
                    output.lock().unwrap().push_str(&(line + "\n"));
                }
            });
        }
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                std::thread::sleep(Duration::from_millis(50));
                return Err(format!("{status}: {}", output.lock().unwrap()));
            }
            let ready = format!(
                "GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1:{ops_port}\r\nConnection: close\r\n\r\n"
            );
            if TcpStream::connect(("127.0.0.1", ops_port)).is_ok()
                && raw(ops_port, ready.as_bytes()).is_some_and(|got| got.status == 200)
                && TcpStream::connect(("127.0.0.1", port)).is_ok()
            {
                break;
            }
            if begun.elapsed() > patience() {
                child.kill().unwrap();
                panic!("not ready: {}", output.lock().unwrap());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let settings = settings.to_vec();
        Ok(Self { child, folder: folder.to_owned(), temporary: None, port, ops_port, settings, output })
    }

    /// Ends it without warning and starts it again on the same folder and ports.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        let again = Self::launch(&self.folder, self.port, self.ops_port, &self.settings).unwrap();
        let temporary = self.temporary.take();
        *self = again;
        self.temporary = temporary;
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap(); // SIGKILL
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
        self.child.wait().unwrap()
    }

    /// What a key was used for, when so many calls are written down: they are once a second.
    pub fn usage(&self, owner: &str, key: &str, calls: usize) -> Value {
        let begun = Instant::now();
        loop {
            let path = format!("/api/v1/api-keys/{key}/usage");
            let usage = self.as_member(owner, "GET", &path, None).data();
            if usage["total"] == calls {
                return usage;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{calls} calls were expected: {usage}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How it ends by itself.
    pub fn ended(&mut self, patience: Duration) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < patience, "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, if it has.
    pub fn try_ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Whether it says that it is ready.
    pub fn ready(&self) -> bool {
        raw(self.ops_port, b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .is_some_and(|got| got.status == 200)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Sends bytes as they are and reads until the server closes or the answer is complete.
    pub fn raw(&self, bytes: &[u8]) -> Option<Got> {
        raw(self.port, bytes)
    }

    /// A request in good order. `headers`: `name: value`. The answer must be one that the contract declares.
    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> Got {
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n", self.port);
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        let body = body.map(Value::to_string);
        if let Some(body) = &body {
            text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body.as_deref().unwrap_or(""));
        let got = self.raw(text.as_bytes()).unwrap_or_else(|| panic!("no answer to {method} {path}"));
        conforms(method, path, &got);
        got
    }

    pub fn as_key(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Got {
        self.send(method, path, &[&format!("Authorization: Bearer {key}")], body)
    }

    /// From our own page, with a session cookie.
    pub fn as_member(&self, cookie: &str, method: &str, path: &str, body: Option<&Value>) -> Got {
        self.send(method, path, &[&format!("Cookie: {cookie}"), "Sec-Fetch-Site: same-origin"], body)
    }

    /// From a page that embeds the widget.
    pub fn as_widget(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Got {
        self.send(method, path, &[&format!("Authorization: Bearer {key}"), &format!("Origin: {SHOP}")], body)
    }

    pub fn setup_token(&self) -> String {
        std::fs::read_to_string(self.folder.join("setup-token")).unwrap().trim().to_owned()
    }

    /// Sets up the first organization; the owner's cookie.
    pub fn set_up(&self, email: &str) -> String {
        let body = json!({"token": self.setup_token(), "organizationName": "Alpha", "name": "Ada", "email": email, "password": PASSWORD});
        self.send("POST", "/api/v1/auth/setup", &[], Some(&body)).cookie()
    }

    pub fn sign_up(&self, organization: &str, email: &str) -> String {
        let body =
            json!({"organizationName": organization, "name": "Bob", "email": email, "password": PASSWORD});
        self.send("POST", "/api/v1/auth/signup", &[], Some(&body)).cookie()
    }

    pub fn log_in(&self, email: &str, password: &str) -> Got {
        self.send("POST", "/api/v1/auth/login", &[], Some(&json!({"email": email, "password": password})))
    }

    /// Invites somebody and accepts for them; their cookie.
    pub fn join(&self, owner: &str, email: &str, role: &str) -> String {
        let invite = self
            .as_member(owner, "POST", "/api/v1/invites", Some(&json!({"email": email, "role": role})))
            .data();
        let body = json!({"token": invite["token"], "name": "Grace", "password": PASSWORD});
        self.send("POST", "/api/v1/auth/invites/accept", &[], Some(&body)).cookie()
    }

    /// Mints a key; its id and its secret.
    pub fn mint(&self, member: &str, body: Value) -> (String, String) {
        let key = self.as_member(member, "POST", "/api/v1/api-keys", Some(&body)).data();
        (text(&key["id"]), text(&key["secret"]))
    }

    /// Runs another command of the binary on this server's data: whether it succeeded, and everything it said.
    pub fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_flowyte"))
            .args(arguments)
            .args(["--data", self.folder.to_str().unwrap(), "--public-url", &self.url()])
            .envs(self.settings.iter().map(|(name, value)| (format!("FLOWYTE_{name}"), value.clone())))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    pub fn ops(&self, path: &str) -> Got {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n", self.ops_port);
        raw(self.ops_port, request.as_bytes()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The contract, compiled and as a document.
pub fn contract() -> &'static Api {
    static API: LazyLock<Api> = LazyLock::new(|| flowyte::serve::contract().unwrap());
    &API
}

/// Checks an answer against the contract's schema for its operation and status.
fn conforms(method: &str, path: &str, got: &Got) {
    static SCHEMAS: LazyLock<Mutex<BTreeMap<String, Validator>>> = LazyLock::new(Mutex::default);
    let path = path.split('?').next().unwrap();
    let Ok(matched) = contract().contract.find(method, path) else { return };
    let json = got.header("content-type").is_some_and(|it| it.ends_with("json"));
    if !json || got.body.is_empty() {
        return;
    }
    let schema = match got.status {
        400.. => json!({"$ref": "#/components/schemas/Problem"}),
        status => {
            let template = matched.operation.template.strip_prefix("/api/v1").unwrap();
            let operation = &contract().document["paths"][template][method.to_ascii_lowercase()];
            let response = &operation["responses"][status.to_string()];
            assert!(!response.is_null(), "{method} {path} answers {status}, which it does not declare");
            response["content"]["application/json"]["schema"].clone()
        }
    };
    let mut whole = schema.clone();
    whole["components"] = contract().document["components"].clone();
    let compile = || Validator::new(&whole).unwrap();
    let validator = SCHEMAS.lock().unwrap().entry(schema.to_string()).or_insert_with(compile).clone();
    let wrong = validator.check(&got.json());
    assert!(wrong.is_ok(), "{method} {path} answers what its schema does not allow: {wrong:?}\n{}", got.body);
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// One answer. `None`: the server closed without one.
pub fn raw(port: u16, bytes: &[u8]) -> Option<Got> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A server that refuses a head may close before it has read everything.
    let _ = stream.write_all(bytes);
    let head_only = bytes.starts_with(b"HEAD ");
    let mut all = Vec::new();
    let mut chunk = [0; 16_384];
    loop {
        if let Some(got) = complete(&all, head_only) {
            return Some(got);
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(read) => all.extend_from_slice(&chunk[..read]),
        }
    }
    parse(&all, true)
}

fn complete(all: &[u8], head_only: bool) -> Option<Got> {
    let got = parse(all, false)?;
    if head_only {
        return Some(Got { body: String::new(), ..got });
    }
    match got.header("content-length").map(|it| it.parse::<usize>().unwrap()) {
        Some(length) if got.body.len() >= length => Some(got),
        None if got.status == 204 || got.status == 304 => Some(got),
        None if got.header("transfer-encoding").is_some() && all.ends_with(b"0\r\n\r\n") => parse(all, true),
        _ => None,
    }
}

fn parse(all: &[u8], whole: bool) -> Option<Got> {
    let end = all.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&all[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = all[end + 4..].to_vec();
    if whole && headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
        body = dechunk(&body);
    }
    Some(Got { status, headers, body: String::from_utf8(body).unwrap_or_default() })
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|it| it == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 || rest.len() < line + 2 + size {
            break;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
    body
}

/// The same world on SQLite and on PostgreSQL. Neither is ever left out.
#[cfg(feature = "product")]
pub fn worlds(settings: &'static [(&'static str, &'static str)]) -> impl Iterator<Item = World> {
    [false, true].into_iter().map(move |postgres| match postgres {
        false => World::new(settings),
        true => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let url = runtime.block_on(crate::postgres::empty_database());
            World::new(&[settings, &[("DATABASE", &url)]].concat())
        }
    })
}

/// Two organizations with every kind of caller.
#[cfg(feature = "product")]
pub struct World {
    pub server: Server,
    /// Sessions of the first organization.
    pub owner: String,
    pub admin: String,
    pub developer: String,
    pub viewer: String,
    /// The owner's session of the second one.
    pub other_owner: String,
    pub organization: String,
    pub other_organization: String,
    /// agents:read and nothing else.
    pub key: String,
    pub key_id: String,
    /// Every scope that a key may hold.
    pub all: String,
    pub all_id: String,
    /// The same in the second organization.
    pub other_all: String,
    pub other_key_id: String,
    /// A published agent, its key and a visitor of it.
    pub agent: String,
    pub pk: String,
    pub pk_id: String,
    pub visitor: String,
    pub other_agent: String,
    pub other_version: String,
    pub other_pk_id: String,
}

#[cfg(feature = "product")]
impl World {
    pub fn new(settings: &[(&str, &str)]) -> Self {
        let mut given = vec![
            ("SIGNUP", "open"),
            ("UNAUTHENTICATED_RPM", "1000000"),
            ("LOGIN_FAILURES_PER_ADDRESS", "100000"),
            ("SIGNUPS_PER_ADDRESS", "100000"),
            ("LOG_LEVEL", "debug"),
        ];
        given.retain(|(name, _)| settings.iter().all(|(other, _)| other != name));
        given.extend_from_slice(settings);
        let server = Server::start(&given);
        let owner = server.set_up("ada@alpha.example");
        let admin = server.join(&owner, "admin@alpha.example", "admin");
        let developer = server.join(&owner, "developer@alpha.example", "developer");
        let viewer = server.join(&owner, "viewer@alpha.example", "viewer");
        let other_owner = server.sign_up("Beta", "bob@beta.example");
        let organization = text(&server.as_member(&owner, "GET", "/api/v1/organization", None).data()["id"]);
        let other_organization =
            text(&server.as_member(&other_owner, "GET", "/api/v1/organization", None).data()["id"]);
        let every: Vec<Value> = server
            .send("GET", "/api/v1/scopes", &[], None)
            .data()
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["holders"].as_array().unwrap().contains(&json!("secret_key")))
            .map(|it| it["scope"].clone())
            .collect();
        let (key_id, key) = server.mint(&owner, json!({"name": "reader", "scopes": ["agents:read"]}));
        let (all_id, all) = server.mint(&owner, json!({"name": "all", "scopes": every}));
        let (other_key_id, other_all) = server.mint(&other_owner, json!({"name": "all", "scopes": every}));
        let (agent, _, pk, pk_id) = agent_with_key(&server, &all);
        let (other_agent, other_version, _, other_pk_id) = agent_with_key(&server, &other_all);
        let visitor =
            text(&server.as_widget(&pk, "POST", "/api/v1/chat/widget/sessions", None).data()["visitorToken"]);
        Self {
            server,
            owner,
            admin,
            developer,
            viewer,
            other_owner,
            organization,
            other_organization,
            key,
            key_id,
            all,
            all_id,
            other_all,
            other_key_id,
            agent,
            pk,
            pk_id,
            visitor,
            other_agent,
            other_version,
            other_pk_id,
        }
    }
}

#[cfg(feature = "product")]
fn agent_with_key(server: &Server, key: &str) -> (String, String, String, String) {
    let agent = text(
        &server
            .as_key(
                key,
                "POST",
                "/api/v1/agents",
                Some(&json!({"name": "Front desk", "greeting": "Good day!"})),
            )
            .data()["id"],
    );
    let version =
        text(&server.as_key(key, "POST", &format!("/api/v1/agents/{agent}/publish"), None).data()["id"]);
    let body =
        json!({"name": "site", "env": "live", "allowedOrigins": [SHOP, "https://app.shop.example:8443"]});
    let pk =
        server.as_key(key, "POST", &format!("/api/v1/agents/{agent}/publishable-keys"), Some(&body)).data();
    (agent, version, text(&pk["keyPublic"]), text(&pk["id"]))
}

/// What a server in this process has done outside: nothing, but for the answers.
#[cfg(feature = "product")]
pub fn services(answerer: Box<dyn flowyte_product::answerer::Answerer>) -> flowyte_product::Services {
    flowyte_product::Services {
        answerers: flowyte_product::answerer::Answerers::new(answerer),
        payments: flowyte_product::payment::Payments::new(Box::new(flowyte_product::payment::Sandbox)),
        carriers: flowyte_product::carrier::Carriers::new(Box::new(flowyte_product::carrier::Sandbox)),
        outbound_allow: Vec::new(),
        charges_trials: false,
    }
}
