//! A server in a process of its own, and connections that stay open to it.
#![allow(dead_code)] // Each benchmark uses some of it.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that ends when this is dropped.
pub struct Server {
    pub child: Child,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts `command`, which takes its settings from variables. Limits are out of the way.
    pub fn start(command: &mut Command, data: &Path) -> Self {
        let port = free_port();
        let child = command
            .env("FLOWYTE_DATA", data)
            .env("FLOWYTE_LISTEN", format!("127.0.0.1:{port}"))
            .env("FLOWYTE_OPS_LISTEN", format!("127.0.0.1:{}", free_port()))
            .env("FLOWYTE_ORGANIZATION_RPM", "60000000")
            .env("FLOWYTE_UNAUTHENTICATED_RPM", "60000000")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(600), "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }

    /// The binary, which says nothing but warnings.
    pub fn binary(data: &Path, more: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowyte"));
        command.arg("serve").env("FLOWYTE_LOG_LEVEL", "warn").envs(more.iter().copied());
        Self::start(&mut command, data)
    }

    /// Sets the installation up; fields that make a request the owner's.
    pub fn set_up(&self, data: &Path) -> String {
        let token = std::fs::read_to_string(data.join("setup-token")).unwrap();
        let body = json!({"token": token.trim(), "organizationName": "Example", "name": "Ada", "email": "ada@example.com",
            "password": "mountain-kettle-orbit-71"});
        let answer = Client::new(self.port).ask(&request("POST", "/api/v1/auth/setup", "", Some(&body)));
        let cookie = answer.cookie.unwrap_or_else(|| panic!("set-up answers {}", answer.status));
        format!("Cookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n")
    }
}

/// One open connection.
pub struct Client(BufReader<TcpStream>);

/// What came back.
pub struct Answer {
    pub status: u16,
    /// The session's, as `name=value`.
    pub cookie: Option<String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn data(&self) -> Value {
        let document: Value = serde_json::from_slice(&self.body).unwrap();
        document["data"].clone()
    }
}

impl Client {
    pub fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn ask(&mut self, request: &[u8]) -> Answer {
        self.0.get_mut().write_all(request).unwrap();
        let (mut line, mut length, mut answer) =
            (String::new(), Some(0), Answer { status: 0, cookie: None, body: vec![] });
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                None if line.trim_end().is_empty() => break,
                None => answer.status = line[9..12].parse().unwrap(),
                Some(("content-length", value)) => length = Some(value.parse().unwrap()),
                Some(("transfer-encoding", _)) => length = None,
                Some(("set-cookie", value)) if value.starts_with("flowyte_session=") => {
                    answer.cookie = value.split(';').next().map(str::to_owned);
                }
                Some(_) => {}
            }
        }
        match length {
            Some(length) => {
                answer.body.resize(length, 0);
                self.0.read_exact(&mut answer.body).unwrap();
            }
            None => self.chunks(&mut answer.body),
        }
        answer
    }

    fn chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let (length, at) = (usize::from_str_radix(line.trim_end(), 16).unwrap(), body.len());
            body.resize(at + length + 2, 0);
            self.0.read_exact(&mut body[at..]).unwrap();
            body.truncate(at + length);
            if length == 0 {
                return;
            }
        }
    }
}

/// A request in bytes. `fields`: header lines, each with its end.
pub fn request(method: &str, path: &str, fields: &str, body: Option<&Value>) -> Vec<u8> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let typed = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost:8080\r\n{fields}{typed}\r\n{body}").into_bytes()
}

/// The middle one.
pub fn median<T: Ord + Copy>(all: &mut [T]) -> T {
    all.sort_unstable();
    all[all.len() / 2]
}
