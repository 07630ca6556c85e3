//! A model behind OpenAI's chat completions, streaming: it says and calls what the test wrote down, and remembers what it was asked.

use super::{Request, serve_streams};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

pub const KEY: &str = "sk-of-the-tests";
pub const NAME: &str = "test-model-1";

/// A file with [`KEY`], as the configuration wants it.
pub fn key_file(folder: &Path) -> String {
    let file = folder.join("model-key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What it does for one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Says this, in fragments, and counts.
    Say(String),
    /// Calls these tools, in fragments: name and arguments.
    Call(Vec<(String, String)>),
    /// Answers this status, with what `Retry-After` says.
    Status(u16, Option<&'static str>),
    /// Says this and closes the connection in the middle.
    Cut(String),
    /// Begins an answer and says nothing for so long.
    Hang(Duration),
    /// Says this, then that something went wrong.
    BreakOff(String),
    /// Says the first, waits until it is told to go on, and says the second.
    Halves(String, Arc<Mutex<mpsc::Receiver<()>>>, String),
    /// Says this, finishes, and neither counts nor says `[DONE]`.
    Bare(String),
}

#[derive(Default)]
pub struct State {
    pub script: VecDeque<Reply>,
    /// The bodies that were sent.
    pub asked: Vec<Value>,
}

pub struct OpenAi {
    pub url: String,
    pub state: Arc<Mutex<State>>,
}

impl OpenAi {
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let inner = state.clone();
        let url = serve_streams(move |request, out| answer(&inner, request, out));
        Self { url: format!("{url}/v1"), state }
    }

    /// What it does next, in this order.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        let mut state = self.state.lock().unwrap();
        state.script = replies.into_iter().collect();
        state.asked.clear();
    }

    pub fn asked(&self) -> Vec<Value> {
        self.state.lock().unwrap().asked.clone()
    }
}

fn plain(out: &mut TcpStream, status: u16, more: &str, body: &Value) -> bool {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n",
        body.len()
    );
    out.write_all(format!("{head}{body}").as_bytes()).is_ok()
}

/// Whether the connection can take another request.
fn answer(state: &Mutex<State>, request: &Request, out: &mut TcpStream) -> bool {
    if request.header("authorization") != format!("Bearer {KEY}") {
        return plain(out, 401, "", &json!({"error": {"code": "invalid_api_key"}}));
    }
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(request.header("content-type"), "application/json");
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!((&body["model"], &body["stream"]), (&json!(NAME), &json!(true)));
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
    check_order(body["messages"].as_array().unwrap());
    let reply = {
        let mut state = state.lock().unwrap();
        state.asked.push(body);
        state.script.pop_front().unwrap_or(Reply::Say("I have nothing more to say.".into()))
    };
    if let Reply::Status(status, wait) = reply {
        let wait = wait.map(|it| format!("Retry-After: {it}\r\n")).unwrap_or_default();
        return plain(out, status, &wait, &json!({"error": {"message": "no"}}));
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    if out.write_all(head.as_bytes()).is_err() {
        return false;
    }
    let mut events = vec![event(&json!({"role": "assistant", "content": ""}), None)];
    let fragments = |text: &str| -> Vec<String> {
        let all: Vec<char> = text.chars().collect();
        all.chunks(3).map(|it| it.iter().collect()).collect()
    };
    let said = |text: &str| fragments(text).into_iter().map(|it| event(&json!({"content": it}), None));
    match &reply {
        Reply::Say(text) | Reply::Bare(text) => {
            events.extend(said(text));
            events.push(event(&json!({}), Some("stop")));
        }
        Reply::Cut(text) => events.extend(said(text)),
        Reply::Halves(first, ..) => events.extend(said(first)),
        Reply::BreakOff(text) => {
            events.extend(said(text));
            events.push(format!("data: {}\n\n", json!({"error": {"message": "overloaded"}})));
        }
        Reply::Call(calls) => {
            for (index, (name, arguments)) in calls.iter().enumerate() {
                let function = json!({"name": name, "arguments": ""});
                let begin = json!({"index": index, "id": format!("call_{index}"), "type": "function", "function": function});
                events.push(event(&json!({"tool_calls": [begin]}), None));
                for piece in fragments(arguments) {
                    let delta = json!({"index": index, "function": {"arguments": piece}});
                    events.push(event(&json!({"tool_calls": [delta]}), None));
                }
            }
            events.push(event(&json!({}), Some("tool_calls")));
        }
        Reply::Status(..) | Reply::Hang(_) => {}
    }
    if matches!(reply, Reply::Say(_) | Reply::Call(_)) {
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120});
        events.push(format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage})));
    }
    if !pieces(out, &events) {
        return false;
    }
    if let Reply::Halves(_, gate, second) = &reply {
        let told = gate.lock().unwrap().recv();
        let rest: Vec<String> = said(second).chain([event(&json!({}), Some("stop"))]).collect();
        if told.is_err() || !pieces(out, &rest) {
            return false;
        }
    }
    match reply {
        Reply::Cut(_) => false,
        Reply::Hang(time) => {
            std::thread::sleep(time);
            false
        }
        _ => out.write_all(b"0\r\n\r\n").is_ok(),
    }
}

/// Writes events, cut wherever it comes: in the middle of a line, of a character.
fn pieces(out: &mut TcpStream, events: &[String]) -> bool {
    events.concat().as_bytes().chunks(11).all(|piece| {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        out.write_all(&chunk).is_ok()
    })
}

fn event(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    let chunk =
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": NAME, "choices": [choice]});
    format!(": a comment\ndata: {chunk}\r\n\r\n")
}

/// As the real one does: results of tools follow the message that called them, each call gets one.
fn check_order(messages: &[Value]) {
    let mut open: Vec<String> = Vec::new();
    for message in messages {
        match message["role"].as_str().unwrap() {
            "tool" => {
                let id = message["tool_call_id"].as_str().unwrap();
                let at = open.iter().position(|it| it == id).unwrap_or_else(|| panic!("{message}"));
                open.remove(at);
                assert!(message["content"].is_string());
            }
            _ => {
                assert!(open.is_empty(), "{open:?} have no result before {message}");
                let calls = message["tool_calls"].as_array().into_iter().flatten();
                open.extend(calls.map(|it| it["id"].as_str().unwrap().to_owned()));
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
