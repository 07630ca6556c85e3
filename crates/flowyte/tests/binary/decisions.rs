//! The decision cases that core is held against, asked over HTTP: one clock, the same callers, the same answers.

use crate::callers::{Fixed, PINNED, WIDGET, by, callers, every_case_is_answered, serve};
use crate::support::{raw, services};
use flowyte_core::id::{Id, OrganizationId, PublishableKeyId};
use flowyte_product::answerer::{Answerer, Piece, Question};
use flowyte_product::id::AgentId;
use flowyte_store::publishable::{IdentitySecret, PublishableKeyChange};
use flowyte_store::{Sqlite, Store};
use futures_util::future::BoxFuture;
use std::sync::atomic::Ordering;

#[test]
fn http_answers_what_core_decides() {
    assert!(every_case_is_answered("agents:read", Some) > 60);
}

/// Answers a word every tenth of a second, for a minute.
struct Slow;

impl Answerer for Slow {
    fn answer(&self, _: &Question<'_>) -> futures_util::stream::BoxStream<'static, Piece> {
        use futures_util::StreamExt;
        let word = |n| async move {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            Piece::Text(format!("word{n} "))
        };
        futures_util::stream::iter(0..600).then(word).boxed()
    }
}

/// What ends a visitor's stream: an act on the key that opened the session.
type Ends = fn(&dyn Store, OrganizationId, AgentId, PublishableKeyId) -> BoxFuture<'_, bool>;

#[test]
fn an_open_stream_ends_within_two_seconds_of_the_revocation() {
    stream_ends(|store, of, agent, key| {
        Box::pin(async move { store.revoke_publishable_key(of, agent, key, &by()).await.is_ok() })
    });
}

#[test]
fn the_stream_of_a_visitor_who_proved_nothing_ends_when_the_key_asks_for_an_identity() {
    stream_ends(|store, of, agent, key| {
        Box::pin(async move {
            let identity = Some(Some(IdentitySecret { sealed: vec![1], pepper: [1; 8] }));
            let change = PublishableKeyChange { identity, ..Default::default() };
            store.change_publishable_key(of, agent, key, &change, &by()).await.is_ok()
        })
    });
}

fn stream_ends(ends: Ends) {
    use std::io::{Read, Write};
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flowyte.db");
    let (widget, port, app) = runtime.block_on(async {
        let store = Sqlite::open(&file, flowyte::GUESTS).await.unwrap();
        let mut callers = callers(&*store, "agents:read", vec![]).await;
        store.close().await;
        let (port, app) = serve(Fixed::default(), &file, false, services(Box::new(Slow))).await;
        (callers.remove("widget").unwrap(), port, app)
    });
    let ask = |credential: &str, path: &str, body: &str| {
        format!(
            "POST /api/v1/chat/widget/{path} HTTP/1.1\r\nHost: flowyte.example\r\nConnection: close\r\nAuthorization: Bearer {credential}\r\n\
             Origin: https://shop.example\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let opened = raw(port, ask(widget.expose(), "sessions", "{}").as_bytes()).unwrap().data();
    let visitor = opened["visitorToken"].as_str().unwrap();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(ask(visitor, "messages", r#"{"content":"go on"}"#).as_bytes()).unwrap();
    let mut said = String::new();
    let mut chunk = [0; 4096];
    while !said.contains("word3") {
        let read = stream.read(&mut chunk).unwrap();
        said.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    let (agent, key) = (AgentId::from_bytes(PINNED), PublishableKeyId::from_bytes(WIDGET));
    let organizations = runtime.block_on(app.verifier.store.organizations()).unwrap();
    let acted =
        organizations.iter().filter(|of| runtime.block_on(ends(&*app.verifier.store, **of, agent, key)));
    assert_eq!(acted.count(), 1);
    let revoked = std::time::Instant::now();
    stream.read_to_string(&mut said).unwrap();
    assert!(revoked.elapsed() < std::time::Duration::from_secs(2), "{:?}", revoked.elapsed());
    assert!(
        said.contains("event: error") && said.contains("credential_revoked") && !said.contains("event: done"),
        "{said}"
    );
}

/// Panics instead of answering.
struct Broken;

impl Answerer for Broken {
    fn answer(&self, _: &Question<'_>) -> futures_util::stream::BoxStream<'static, Piece> {
        panic!("nobody answers")
    }
}

/// In the gate, and in a task that answers a visitor: the caller is told, with a request id, and the connection goes on.
#[test]
fn a_panic_answers_500() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flowyte.db");
    let clock = Fixed::default();
    let (widget, port, _app) = runtime.block_on(async {
        let store = Sqlite::open(&file, flowyte::GUESTS).await.unwrap();
        let mut callers = callers(&*store, "agents:read", vec![]).await;
        store.close().await;
        let (port, app) = serve(clock.clone(), &file, false, services(Box::new(Broken))).await;
        (callers.remove("widget").unwrap(), port, app)
    });
    let ask = |credential: &str, path: &str, body: &str| {
        let request = format!(
            "POST /api/v1/chat/widget/{path} HTTP/1.1\r\nHost: flowyte.example\r\nConnection: close\r\nAuthorization: Bearer {credential}\r\n\
             Origin: https://shop.example\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        raw(port, request.as_bytes()).unwrap_or_else(|| panic!("no answer to {path}"))
    };
    let visitor = ask(widget.expose(), "sessions", "{}").data();
    let visitor = visitor["visitorToken"].as_str().unwrap();
    let said = ask(visitor, "messages", r#"{"content":"go on"}"#).body;
    assert!(said.contains("event: error") && said.contains("internal_error"), "{said}");
    assert!(!said.contains("panic") && !said.contains("nobody answers"), "{said}");

    clock.0.store(true, Ordering::Relaxed);
    let got = ask(widget.expose(), "sessions", "{}");
    got.check_invariants("a panic in the gate");
    assert_eq!((got.status, got.code().as_str()), (500, "internal_error"));
    clock.0.store(false, Ordering::Relaxed);
    assert_eq!(ask(widget.expose(), "sessions", "{}").status, 201);
}
