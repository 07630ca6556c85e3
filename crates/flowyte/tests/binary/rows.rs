//! The rows of `tests/attacks/rows.yaml`: read, sent byte by byte and over HTTP/2, and their answers checked.

use crate::support::{Got, raw};
use base64::Engine;
use flowyte_core::credential::random_indices;
use flowyte_core::{Brand, CredentialKind, Environment};
use serde_json::Value;
use std::collections::BTreeMap;

const ROWS: &str = include_str!("../../../../tests/attacks/rows.yaml");

pub fn rows() -> Vec<Value> {
    serde_saphyr::from_str(ROWS).unwrap()
}

/// The key's random part under another kind or environment, with a checksum that holds.
fn reformat(credential: &str, kind: CredentialKind, environment: Environment, change: bool) -> String {
    let body = &credential[credential.len() - 36..credential.len() - 6];
    let digit = |c: u8| match c {
        b'0'..=b'9' => c - b'0',
        b'A'..=b'Z' => c - b'A' + 10,
        _ => c - b'a' + 36,
    };
    let mut indices = random_indices(&[0; 30]).unwrap();
    for (index, c) in indices.iter_mut().zip(body.bytes()) {
        *index = digit(c);
    }
    if change {
        indices[7] = (indices[7] + 1) % 62;
    }
    Brand::default().format(kind, environment, &indices).expose().to_owned()
}

/// What the names in braces stand for.
pub struct Names(BTreeMap<&'static str, String>);

impl Names {
    /// Those that are given, and what is made from the key among them, which holds one scope, and from the publishable key.
    pub fn new(scope: &str, given: &[(&'static str, &str)]) -> Self {
        let all: BTreeMap<&'static str, String> =
            given.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let (key, pk) = (all["key"].as_str(), all["pk"].as_str());
        let changed = |text: &str| {
            let at = text.len() - 20;
            let other = if text.as_bytes()[at] == b'x' { "y" } else { "x" };
            format!("{}{other}{}", &text[..at], &text[at + 1..])
        };
        let made = [
            ("agent_upper", all["agent"].to_uppercase()),
            ("basic", base64::engine::general_purpose::STANDARD.encode(format!("{key}:"))),
            ("one_changed", changed(key)),
            ("one_changed_resummed", reformat(key, CredentialKind::SecretKey, Environment::Live, true)),
            ("key_as_pk", reformat(key, CredentialKind::PublishableKey, Environment::Live, false)),
            ("key_as_test", reformat(key, CredentialKind::SecretKey, Environment::Test, false)),
            ("pk_as_key", reformat(pk, CredentialKind::SecretKey, Environment::Live, false)),
            ("upper", key.to_uppercase()),
            ("lower", key.to_lowercase()),
            ("tail", key["flowyte".len()..].to_owned()),
            ("last4", key[key.len() - 4..].to_owned()),
            ("long", "x".repeat(257)),
            ("deep", "[".repeat(10_000)),
            ("many", vec![format!("\"{scope}\""); 10_000].join(",")),
        ];
        Self(all.into_iter().chain(made).collect())
    }

    fn fill(&self, text: &str, it: &str) -> String {
        let sized = ["{big}", "{segments}", "{fields}"].iter().any(|name| text.contains(name));
        let size: usize = if sized { it.parse().unwrap() } else { 0 };
        let mut text = text
            .replace("{big}", &"x".repeat(size))
            .replace("{segments}", &"/a".repeat(size))
            .replace("{fields}", &(0..size).map(|n| format!("X-{n}: 1")).collect::<Vec<_>>().join("\r\n"))
            .replace("{it}", it);
        for (name, value) in &self.0 {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }
}

/// One request of a row.
pub struct Case {
    name: String,
    /// The request line, and the header fields.
    pub lines: Vec<String>,
    body: Option<String>,
    /// The row it is from, and what stands for {it} there.
    pub row: Value,
    pub it: String,
}

fn cases(rows: &[Value], names: &Names) -> Vec<Case> {
    let mut cases = Vec::new();
    for row in rows {
        let texts = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned))
                .collect()
        };
        let mut each = texts(&row["each"]);
        if each.is_empty() {
            each.push(String::new());
        }
        for (index, it) in each.iter().enumerate() {
            cases.push(Case {
                name: format!("{} [{index}]", row["id"].as_str().unwrap()),
                lines: texts(&row["send"]).iter().map(|line| names.fill(line, it)).collect(),
                body: row["body"].as_str().map(|body| names.fill(body, it)),
                row: row.clone(),
                it: it.clone(),
            });
        }
    }
    cases
}

fn check(case: &Case, got: &Got, names: &Names, http2: bool) {
    let name = format!("{}{}", case.name, if http2 { " over HTTP/2" } else { "" });
    let row = &case.row;
    let wanted: Vec<u64> = match &row["status"] {
        Value::Array(all) => all.iter().filter_map(Value::as_u64).collect(),
        one => vec![one.as_u64().unwrap()],
    };
    assert!(wanted.contains(&got.status.into()), "{name}: wanted {wanted:?}, got {got:?}");
    got.check_invariants(&name);
    if let Some(code) = row["code"].as_str() {
        assert_eq!(got.code(), code, "{name}: {got:?}");
    }
    let challenge = got.header("www-authenticate");
    match row["challenge"].as_str() {
        None => {}
        Some("plain") => assert_eq!(challenge, Some("Bearer realm=\"flowyte\""), "{name}"),
        Some("token") => {
            assert_eq!(challenge, Some("Bearer realm=\"flowyte\", error=\"invalid_token\""), "{name}")
        }
        Some("scope") => {
            assert!(challenge.unwrap().contains("error=\"insufficient_scope\", scope=\""), "{name}")
        }
        Some(other) => panic!("{name}: unknown challenge {other}"),
    }
    if let Some(allow) = row["allow"].as_str() {
        assert_eq!(got.header("allow"), Some(allow), "{name}");
    }
    let cors = got.header("access-control-allow-origin");
    match row["cors"].as_str() {
        Some("none") => assert_eq!(cors, None, "{name}"),
        Some(origin) => assert_eq!(cors, Some(names.fill(origin, &case.it).as_str()), "{name}"),
        None if got.status >= 400 => {
            assert!(cors.is_none_or(|it| it == crate::support::SHOP), "{name}: {cors:?}")
        }
        None => {}
    }
    for (member, present) in [("contains", true), ("lacks", false)] {
        if let Some(text) = row[member].as_str() {
            assert_eq!(got.body.contains(&names.fill(text, &case.it)), present, "{name}: {got:?}");
        }
    }
}

fn encode(case: &Case, port: u16) -> Vec<u8> {
    let mut text = String::new();
    if case.row["raw"] == true {
        text += &(case.lines.join("\r\n") + "\r\n\r\n");
    } else {
        text += &format!("{} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n", case.lines[0]);
        for line in &case.lines[1..] {
            text += &format!("{line}\r\n");
        }
        let bytes = |text: &str| if case.row["latin1"] == true { text.chars().count() } else { text.len() };
        if let Some(body) = &case.body {
            text += &format!("Content-Length: {}\r\n\r\n{body}", bytes(body));
        } else {
            text += "\r\n";
        }
    }
    match case.row["latin1"] == true {
        true => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(),
        false => text.into_bytes(),
    }
}

/// Sends what the rows say, but for what is not to be asked, and checks each answer: first those that are refused, which leave `state` as it was.
/// Answers how many requests there were.
pub fn every_row_is_answered(
    port: u16,
    rows: &[Value],
    names: &Names,
    asked: impl Fn(&Case) -> bool,
    state: impl Fn() -> String,
) -> usize {
    let cases: Vec<Case> = cases(rows, names).into_iter().filter(asked).collect();
    let refused = |case: &&Case| case.row["status"].as_u64().is_none_or(|status| status >= 400);
    let before = state();
    for case in cases.iter().filter(refused) {
        let got = raw(port, &encode(case, port));
        check(case, &got.unwrap_or_else(|| panic!("{}: no answer", case.name)), names, false);
    }
    over_http2(port, cases.iter().filter(refused), names);
    assert_eq!(state(), before, "a refused request changed something");
    let granted = || cases.iter().filter(|case| !refused(case));
    for case in granted() {
        check(case, &raw(port, &encode(case, port)).unwrap(), names, false);
    }
    over_http2(port, granted(), names);
    cases.len()
}

/// The same requests over HTTP/2, those that it can carry.
fn over_http2<'c>(port: u16, cases: impl Iterator<Item = &'c Case>, names: &Names) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut sent = 0;
        for case in cases.filter(|case| case.row["h1"] != true && case.row["raw"] != true) {
            let (method, target) = case.lines[0].split_once(' ').unwrap();
            let mut request =
                http::Request::builder().method(method).uri(format!("http://localhost:{port}{target}"));
            for line in case.lines[1..].iter().flat_map(|line| line.split("\r\n")) {
                let (name, value) = line.split_once(':').unwrap();
                let bytes: Vec<u8> = match case.row["latin1"] == true {
                    true => value.chars().map(|c| c as u8).collect(),
                    false => value.as_bytes().to_vec(),
                };
                request = request.header(name, bytes.trim_ascii_start());
            }
            let request = request.body(()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            client = client.ready().await.unwrap();
            let (response, mut body) = client.send_request(request, case.body.is_none()).unwrap();
            if let Some(text) = &case.body {
                let bytes: Vec<u8> = match case.row["latin1"] == true {
                    true => text.chars().map(|c| c as u8).collect(),
                    false => text.clone().into_bytes(),
                };
                // A refusal may come before the body is taken.
                let _ = body.send_data(bytes.into(), true);
            }
            let response = response.await.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let headers = response
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            let status = response.status().as_u16();
            let mut stream = response.into_body();
            let mut body = Vec::new();
            while let Some(Ok(chunk)) = stream.data().await {
                let _ = stream.flow_control().release_capacity(chunk.len());
                body.extend_from_slice(&chunk);
            }
            check(case, &Got { status, headers, body: String::from_utf8(body).unwrap() }, names, true);
            sent += 1;
        }
        assert!(sent > 0);
    });
}
