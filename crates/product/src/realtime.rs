//! A conversation over a WebSocket (RFC 6455), opened with a talk token.
//!
//! The token comes in `Sec-WebSocket-Protocol`, beside the name of the protocol that is answered: browsers can send no other field,
//! and a URL ends up in logs. It is used up by the connection that it opens, which ends with the credential that asked for it.

use crate::Product;
use crate::agents::Agents;
use crate::conversations::{Speaker, Utterance};
use crate::handlers::chat::{run, trial};
use crate::live;
use crate::talks::{NotTaken, Talk, Talks};
use crate::turn::{Begun, Event, Keep, Turn};
use async_trait::async_trait;
use bytes::Bytes;
use flowyte_core::{CredentialKind, Denial, Digest};
use flowyte_http::accept::Draining;
use flowyte_http::answer::Answer;
use flowyte_http::problem::or_internal;
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_http::route::{Extension, Unauthorized};
use flowyte_store::{Class, InLane, Lane};
use flowyte_verifier::warrant::{Asked, Warrant};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

/// Where conversations are opened. No operation: an OpenAPI document can't describe what follows the first answer.
pub const PATH: &str = "/realtime";
/// The name of the subprotocol that the server speaks (RFC 6455 §1.9).
const PROTOCOL: &str = "flowyte.talk.v1";
/// The longest message, and so the longest frame, in bytes.
const MOST_BYTES: usize = 32 * 1024;
/// The longest question, in characters, as in every chat.
const MOST_CHARS: usize = 4_000;
/// How often the credential is asked for.
const WATCH: Duration = Duration::from_secs(1);
/// Frames of a peer between two looks at its credential, pings too.
const MOST_FRAMES: u32 = 50;
/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// The longest that a conversation may last.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// How often a peer is asked whether it is there. Proxies end what is silent for a minute, some after half of one.
const PING: Duration = Duration::from_secs(20);
/// Without a frame of a peer, answers to pings among them, it is taken to be gone.
const GONE: Duration = Duration::from_secs(45);
/// For one frame to be taken; what a peer does not read by then it is not sent after its credential ended.
const SEND: Duration = Duration::from_secs(1);
/// For a peer to take the last frame, and then to go.
const FAREWELL: Duration = Duration::from_millis(400);
/// Lines that a conversation with a draft remembers.
const REMEMBERED: usize = 20;

/// The address of [`PATH`] at a public URL.
pub fn url(public_url: &str) -> String {
    format!("ws{}{PATH}", public_url.strip_prefix("http").unwrap_or(public_url))
}

/// Says of a header field that it is missing or wrong, and what it must be.
fn wrong(headers: &HeaderMap, name: &str, must: &str) -> Problem {
    let state = if headers.contains_key(name) { "wrong" } else { "missing" };
    Problem::new(Code::MalformedRequest, format!("The header {name} is {state}: {must}."))
}

/// The comma-separated words of every field of this name.
fn words<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let fields = headers.get_all(name).iter().filter_map(|it| it.to_str().ok());
    fields.flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty())
}

/// What answers a handshake in good order, and the token that it carries.
fn handshake(parts: &Parts) -> Outcome<(String, &str)> {
    if parts.method != Method::GET {
        let problem = Problem::new(Code::MethodNotAllowed, "This path takes GET.");
        return Err(problem.allow("GET".into()));
    }
    if parts.version != Version::HTTP_11 {
        let detail = format!(
            "A WebSocket is opened over HTTP/1.1, and this request came over {:?}. A proxy in between must use HTTP/1.1.",
            parts.version
        );
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    if parts.uri.query().is_some() {
        let detail = "This path takes no query parameters. Send the token in Sec-WebSocket-Protocol.";
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    let headers = &parts.headers;
    let has = |name: &HeaderName, word: &str| words(headers, name).any(|it| it.eq_ignore_ascii_case(word));
    if !has(&UPGRADE, "websocket") {
        return Err(wrong(headers, "Upgrade", "send websocket; proxies in between must pass it on"));
    }
    if !has(&CONNECTION, "upgrade") {
        return Err(wrong(headers, "Connection", "send Upgrade; proxies in between must pass it on"));
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if key.len() == 24 => key.as_bytes(),
        _ => return Err(wrong(headers, "Sec-WebSocket-Key", "send 16 random bytes in base64, once")),
    };
    if words(headers, &SEC_WEBSOCKET_VERSION).ne(["13"]) {
        return Err(wrong(headers, "Sec-WebSocket-Version", "send 13"));
    }
    let mut offered = words(headers, &SEC_WEBSOCKET_PROTOCOL).filter(|it| *it != PROTOCOL);
    let speaks = words(headers, &SEC_WEBSOCKET_PROTOCOL).any(|it| it == PROTOCOL);
    match (speaks, offered.next(), offered.next()) {
        (true, Some(token), None) => Ok((derive_accept_key(key), token)),
        _ => Err(wrong(headers, "Sec-WebSocket-Protocol", "send flowyte.talk.v1 and the talk token")),
    }
}

/// The page that a handshake comes from; nothing where it comes from none, or from our own.
fn foreign_origin<'h>(product: &Product, headers: &'h HeaderMap) -> Outcome<Option<&'h str>> {
    let mut fields = headers.get_all(ORIGIN).iter();
    match (fields.next().map(HeaderValue::to_str), fields.next()) {
        (None, _) => Ok(None),
        (Some(Ok(origin)), None) => Ok(Some(origin).filter(|it| *it != product.verifier.public_url)),
        _ => Err(not_from_there()),
    }
}

fn not_from_there() -> Problem {
    Problem::new(Code::OriginNotAllowed, "No publishable key of the agent lists the origin of this request.")
}

/// The path on which conversations over a WebSocket are opened.
pub struct Realtime(pub Arc<Product>);

#[async_trait]
impl Extension for Realtime {
    fn path(&self) -> &'static str {
        PATH
    }

    async fn answer(&self, request: Unauthorized<'_>) -> Outcome<Answer> {
        open(&self.0, request).await
    }
}

/// Answers a handshake, and talks from then on.
async fn open(product: &Arc<Product>, request: Unauthorized<'_>) -> Outcome<Answer> {
    let Unauthorized { parts, upgrade, address, credential, .. } = request;
    let (accept, token) = handshake(parts)?;
    let origin = foreign_origin(product, &parts.headers)?;
    let unknown = || {
        let problem = Problem::new(
            Code::InvalidCredential,
            "The talk token is unknown, was already used, or is older than 60 seconds.",
        );
        let charged = product.verifier.charge_unauthenticated(address);
        charged.map_or_else(|denial| Problem::denied(&denial, &product.verifier.contract, None), |()| problem)
    };
    let presented = product.verifier.brand.parse(token).filter(|it| it.kind() == CredentialKind::OneTime);
    let presented = presented.ok_or_else(unknown)?;
    if !product.verifier.replica.is_fresh() {
        return Err(Problem::denied(&Denial::VerificationUnavailable, &product.verifier.contract, None));
    }
    let digests: Vec<Digest> = product.verifier.peppers.digests(presented.body()).collect();
    let store = &*product.verifier.store;
    let unknown_callers = InLane(store, Lane { class: Class::Product, organization: None });
    let owner = Talks(&unknown_callers).organization_of(&digests, product.verifier.now()).await?;
    let own = InLane(store, Lane::product(owner.ok_or_else(unknown)?));
    let talk = match Talks(&own).take(&digests, origin, product.verifier.now()).await {
        Ok(talk) => talk,
        Err(NotTaken::Unknown) => return Err(unknown()),
        Err(NotTaken::Origin) => return Err(not_from_there()),
        Err(NotTaken::Store(error)) => return Err(error.into()),
    };
    *credential = product.verifier.credential(&talk.minted_by);
    let draining = parts.extensions.get::<Draining>().cloned();
    let asked =
        or_internal(Asked::from_text(&talk.asked), "what a talk token was permitted by can't be read")?;
    let room = Room {
        product: product.clone(),
        keep: keep(product, &talk),
        warrant: Arc::new(resume(product, asked, &talk)?),
        page: origin.map(str::to_owned),
        talk,
        history: Vec::new(),
        since: Instant::now(),
    };
    room.stands()?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => room.talk(connection, draining).await,
            Err(error) => tracing::debug!(%error, "a peer left within its handshake"),
        }
    });
    let mut answer = Answer::no_content()
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(CONNECTION, HeaderValue::from_static("upgrade"))
        .header(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        answer = answer.header(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer.status = Some(StatusCode::SWITCHING_PROTOCOLS);
    Ok(answer)
}

/// The permit of whoever asked for the token, decided anew.
fn resume(product: &Product, asked: Asked, talk: &Talk) -> Outcome<Warrant> {
    let verifier = &product.verifier;
    let operation = verifier.contract.operations().iter().position(|it| it.id == "createTalkToken");
    let warrant = Warrant::resumed(verifier.clone(), Class::Product, asked, talk.minted_by);
    warrant.map_err(|denial| live::refused(verifier, operation.unwrap_or(usize::MAX), &denial))
}

/// What is said to a draft is not kept.
fn keep(product: &Product, talk: &Talk) -> Keep {
    if talk.draft { trial(product, talk.environment) } else { Keep::Conversation(talk.conversation) }
}

/// One conversation while its connection lasts.
struct Room {
    product: Arc<Product>,
    talk: Talk,
    keep: Keep,
    /// The permit of whoever asked for the token.
    warrant: Arc<Warrant>,
    /// The page that the connection comes from, where it is another's.
    page: Option<String>,
    history: Vec<Utterance>,
    since: Instant,
}

/// What a peer may send.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Said {
    UserMessage { text: String },
}

type Sink = SplitSink<WebSocketStream<TokioIo<Upgraded>>, Message>;
type Stream = SplitStream<WebSocketStream<TokioIo<Upgraded>>>;

/// When a peer was heard last, and when it was asked for a sign of life.
struct Pulse {
    heard: Instant,
    asked: Option<Instant>,
}

/// What the time asks for.
#[derive(Debug, PartialEq, Eq)]
enum Beat {
    Rest,
    Ping,
    Gone,
}

impl Pulse {
    fn beat(&mut self, now: Instant) -> Beat {
        if now.duration_since(self.heard) >= GONE {
            return Beat::Gone;
        }
        if self.asked.is_some_and(|at| now.duration_since(at) < PING) {
            return Beat::Rest;
        }
        self.asked = Some(now);
        Beat::Ping
    }
}

/// Why a conversation ends: the code and what goes with it; `None` where the peer is gone, or takes nothing any more.
type End = Option<(CloseCode, &'static str)>;

/// How a connection is doing.
struct Socket {
    sink: Sink,
    /// Frames since the last look at the clock.
    frames: u32,
    /// When something was last said.
    said: Instant,
    pulse: Pulse,
    /// Of the answer on its way.
    events: Option<Receiver<Event>>,
}

impl Socket {
    fn new(sink: Sink) -> Self {
        let now = Instant::now();
        Self { sink, frames: 0, said: now, pulse: Pulse { heard: now, asked: None }, events: None }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        if send(&mut self.sink, message).await { Ok(()) } else { Err(None) }
    }
}

impl Room {
    async fn talk(mut self, connection: Upgraded, draining: Option<Draining>) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MOST_BYTES))
            .max_frame_size(Some(MOST_BYTES))
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0);
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await;
        let (sink, mut stream) = socket.split();
        let mut line = Socket::new(sink);
        let end = self.converse(&mut line, &mut stream, draining).await;
        part(line.sink, stream, end).await;
    }

    /// Goes on until something ends it.
    async fn converse(&mut self, line: &mut Socket, stream: &mut Stream, draining: Option<Draining>) -> End {
        let mut ticks = interval(WATCH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drained = std::pin::pin!(async {
            match draining {
                Some(mut draining) => draining.begun().await,
                None => std::future::pending().await,
            }
        });
        loop {
            let done = tokio::select! {
                biased;
                _ = ticks.tick() => self.look(line).await,
                () = &mut drained => Err(Some((CloseCode::Away, "the server is stopping"))),
                event = next(&mut line.events) => self.pass_on(line, event).await,
                message = stream.next() => self.take(line, message).await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Looks whether it may go on and whether the peer is still there.
    async fn look(&self, line: &mut Socket) -> Result<(), End> {
        line.frames = 0;
        self.stands().map_err(|problem| Some((CloseCode::Policy, problem.code().as_str())))?;
        if line.said.elapsed() > IDLE || self.since.elapsed() > LONGEST {
            return Err(Some((CloseCode::Normal, "nothing was said for too long")));
        }
        match line.pulse.beat(Instant::now()) {
            Beat::Rest => Ok(()),
            Beat::Ping => line.send(Message::Ping(Bytes::new())).await,
            Beat::Gone => Err(Some((CloseCode::Away, "no answer to a ping"))),
        }
    }

    /// Tells the peer what happened on the way to its answer; `None`: the answer is over.
    async fn pass_on(&mut self, line: &mut Socket, event: Option<Event>) -> Result<(), End> {
        let Some(event) = event else {
            line.events = None;
            return Ok(());
        };
        match self.frame(event) {
            Some(frame) => line.send(text(&frame)).await,
            None => Ok(()),
        }
    }

    /// Takes what the peer sent.
    async fn take(&mut self, line: &mut Socket, message: Option<Result<Message, Error>>) -> Result<(), End> {
        line.frames += 1;
        line.pulse.heard = Instant::now();
        let said = match message {
            _ if line.frames > MOST_FRAMES => return Err(Some((CloseCode::Policy, "too many frames"))),
            Some(Ok(Message::Text(said))) => said,
            Some(Ok(Message::Binary(_))) => return Err(Some((CloseCode::Unsupported, "text only"))),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(()),
            Some(Err(error)) => return Err(fault(&error)),
            Some(Ok(Message::Close(_))) | None => return Err(None),
        };
        line.said = Instant::now();
        let begun = match line.events {
            Some(_) => Err(Problem::new(Code::Conflict, "Wait for the answer; one question at a time.")),
            None => self.hear(&said).await,
        };
        match begun {
            Ok(begun) => line.events = Some(run(self.product.clone(), self.warrant.clone(), begun)),
            Err(problem) => line.send(text(&self.failure(&problem))).await?,
        }
        Ok(())
    }

    /// A question, as a turn that was heard.
    async fn hear(&mut self, text: &str) -> Outcome<Begun> {
        let Ok(Said::UserMessage { text }) = serde_json::from_str(text) else {
            return Err(Problem::body("/type", "must be user_message, with a text"));
        };
        if text.trim().is_empty() || text.chars().count() > MOST_CHARS {
            return Err(Problem::body("/text", format!("must have 1 to {MOST_CHARS} characters")));
        }
        let (product, talk) = (&self.product, &self.talk);
        let now = product.verifier.now();
        self.stands()?;
        let charged = product.verifier.charge(&talk.minted_by);
        charged
            .map_err(|denial| live::refused(&product.verifier, self.warrant.permit().operation(), &denial))?;
        let (agent, published) = Agents(&*self.warrant).live(talk.organization, talk.agent).await?;
        let config = match talk.draft {
            true => agent.config(),
            false => published.map(|it| it.config).ok_or_else(|| {
                Problem::new(Code::NoPublishedVersion, "The agent was never published; publish it first.")
            })?,
        };
        let turn = Turn {
            organization: talk.organization,
            agent: talk.agent,
            environment: talk.environment,
            config,
            keep: self.keep,
            history: self.history.clone(),
            text,
            wishes: Map::new(),
            message: product.verifier.id(now)?,
            random: product.verifier.random()?,
            at: now,
        };
        Ok(turn.begin(&*self.warrant).await?)
    }

    /// Whether the conversation may go on: whoever asked for it may still do so, and the page may still talk to the agent.
    fn stands(&self) -> Outcome<()> {
        live::check(&self.warrant)?;
        let listed = |page: &str| self.product.verifier.replica.resource_lists(self.talk.agent, page);
        if self.page.as_deref().is_none_or(listed) { Ok(()) } else { Err(not_from_there()) }
    }

    /// What happened, as it is said here; nothing where it is not.
    fn frame(&mut self, event: Event) -> Option<Value> {
        match event {
            Event::Delta(text) => Some(json!({"eventType": "message_delta", "data": {"text": text}})),
            Event::Failed(error) => Some(self.failure(&error.into())),
            _ => {
                match &event {
                    Event::UserUtterance(text) => self.remember(Speaker::User, text),
                    Event::AgentMessage(text, _) => self.remember(Speaker::Assistant, text),
                    _ => {}
                }
                event.audit().map(|(name, data)| json!({"eventType": name, "data": data}))
            }
        }
    }

    /// A kept conversation remembers by itself.
    fn remember(&mut self, speaker: Speaker, text: &str) {
        if self.talk.draft {
            self.history.push(Utterance { speaker, text: text.to_owned() });
            let forgotten = self.history.len().saturating_sub(REMEMBERED);
            self.history.drain(..forgotten);
        }
    }

    fn failure(&self, problem: &Problem) -> Value {
        json!({"eventType": "error", "data": live::document(&self.product.verifier, problem)})
    }
}

/// What a peer is told that broke the rules (RFC 6455 §7.4.1); nothing, where it is gone.
fn fault(error: &Error) -> End {
    match error {
        Error::Capacity(_) => Some((CloseCode::Size, "a message may have at most 32 KiB")),
        Error::Utf8(_) => Some((CloseCode::Invalid, "text must be UTF-8")),
        // Not even that it is over.
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some((CloseCode::Protocol, "a frame breaks RFC 6455")),
        _ => None,
    }
}

/// The next event of a turn that runs; never, where none does.
/// Says why it ends, and closes the connection once the peer has read it.
async fn part(mut sink: Sink, stream: Stream, end: End) {
    let farewell = async {
        match end {
            Some((code, reason)) => {
                sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await
            }
            None => sink.flush().await, // What answers the peer's own.
        }
    };
    let told = matches!(timeout(FAREWELL, farewell).await, Ok(Ok(())));
    let Ok(mut socket) = sink.reunite(stream) else { return };
    if told {
        // A connection that closes while something of the peer is unread takes back what was sent last.
        let connection = socket.get_mut();
        let _ = timeout(FAREWELL, async {
            connection.shutdown().await?;
            tokio::io::copy(connection, &mut tokio::io::sink()).await
        })
        .await;
    }
}

async fn next(events: &mut Option<Receiver<Event>>) -> Option<Event> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

fn text(frame: &Value) -> Message {
    Message::text(frame.to_string())
}

/// Whether a peer took it.
async fn send(sink: &mut Sink, message: Message) -> bool {
    matches!(timeout(SEND, sink.send(message)).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_asked_before_half_a_minute_is_over_and_dropped_when_it_does_not_answer() {
        assert!(PING < Duration::from_secs(30) && PING * 2 < GONE);
        let begun = Instant::now();
        let beats = |answers: bool| {
            let mut pulse = Pulse { heard: begun, asked: None };
            let mut beats = Vec::new();
            for second in 0..=60 {
                let now = begun + WATCH * second;
                match pulse.beat(now) {
                    Beat::Rest => {}
                    Beat::Gone => {
                        beats.push((second, Beat::Gone));
                        break;
                    }
                    Beat::Ping => {
                        beats.push((second, Beat::Ping));
                        pulse.heard = if answers { now } else { pulse.heard };
                    }
                }
            }
            beats
        };
        let pings = |seconds: &[u32]| seconds.iter().map(|it| (*it, Beat::Ping)).collect::<Vec<_>>();
        assert_eq!(beats(true), pings(&[0, 20, 40, 60]));
        let mut silent = pings(&[0, 20, 40]);
        silent.push((45, Beat::Gone));
        assert_eq!(beats(false), silent);
    }
}
