//! Accepts connections, lets hyper serve them behind the guard, and closes them so that the peer gets the last answer.

use crate::shares::{Holder, Shares};
use crate::wire::{ConnectionState, Guard, HeadRefusal, Limits, MAX_HEAD_BYTES, Seat};
use bytes::Bytes;
use futures_util::TryFutureExt;
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

/// Makes the answer to a refused head: status, headers and a problem document. Length and `Connection` are set here.
pub type Refuse = Arc<dyn Fn(HeadRefusal, SocketAddr) -> Response<Bytes> + Send + Sync>;

/// Comes with each request that asks for another protocol: whoever takes its connection over ends it when the server does.
#[derive(Clone)]
pub struct Draining(watch::Receiver<()>);

impl Draining {
    /// Returns when the server drains.
    pub async fn begun(&mut self) {
        // The sender is dropped then; nothing is ever sent.
        let _ = self.0.changed().await;
    }
}

/// How long to leave the listener alone after an error of its own, such as no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted: room for a thousand clients that come at once. The kernel takes fewer where
/// `net.core.somaxconn` says so.
pub const BACKLOG: u32 = 4_096;

/// Serves `listener` until `shutdown` completes, then drains: no new connection, no new request on an open one, and
/// `limits.drain` for the answers under way. Returns when the last connection is closed.
///
/// `service_for` makes the service of one connection from its peer's address. hyper reads its requests' bodies as the
/// service asks for them; [`read_body`](crate::wire::read_body) bounds that. A peer that only finished sending still
/// gets its answers, so a request is not dropped because its sender seems gone.
pub async fn serve<M, S, B>(
    listener: TcpListener,
    limits: Limits,
    refuse: Refuse,
    service_for: M,
    shutdown: impl Future<Output = ()>,
) where
    M: Fn(SocketAddr) -> S,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let http = http(&limits);
    let limits = Arc::new(limits);
    let seats = Arc::new(Semaphore::new(limits.max_connections));
    let shares = Shares::new(limits.max_connections, limits.connections_per_address);
    let (call, called) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            let seat = Arc::clone(&seats).acquire_owned().await.expect("the semaphore is never closed");
            (seat, listener.accept().await)
        };
        let (seat, accepted) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(seat) = seat_of(peer, seat, &shares, &limits) else {
                    turn_away(&stream, &refuse(HeadRefusal::Crowded, peer));
                    continue;
                };
                let line = ConnectionState::new(stream, seat);
                let (service, counter, draining) = (service_for(peer), Arc::clone(&line), called.clone());
                let counted = service_fn(move |mut request: Request<Incoming>| {
                    counter.requests.fetch_add(1, Ordering::Relaxed);
                    if request.headers().contains_key(header::UPGRADE) {
                        request.extensions_mut().insert(Draining(draining.clone()));
                    }
                    let line = Arc::clone(&counter);
                    service.call(request).inspect_ok(move |response| {
                        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                            line.tunnel.store(true, Ordering::Release);
                        }
                    })
                });
                let guard = Guard::new(Arc::clone(&line), Arc::clone(&limits));
                let connection = http.serve_connection_with_upgrades(guard, counted).into_owned();
                let (limits, refuse, drain) = (Arc::clone(&limits), Arc::clone(&refuse), called.clone());
                tokio::spawn(async move { attend(connection, line, peer, &limits, refuse, drain).await });
            }
            // The peer left the queue before its turn.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "accepting connections fails");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(call);
    let everyone = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
    let _all = seats.acquire_many(everyone).await.expect("the semaphore is never closed");
}

/// The place of a connection, where its address may have one more.
fn seat_of(
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    shares: &Arc<Shares>,
    limits: &Limits,
) -> Option<Seat> {
    let mut share = shares.open(Holder::address(peer.ip()));
    // Where the share is all there is, it is none.
    let exempt = limits.connections_per_address >= limits.max_connections
        || limits.proxies.iter().any(|block| block.contains(peer.ip()));
    match exempt {
        true => share.grow_beyond(1),
        false => share.grow(1).ok()?,
    }
    Some(Seat { _place: place, _share: share })
}

/// Says why, as far as that costs nothing: the answer fits what the kernel takes at once.
fn turn_away(stream: &TcpStream, answer: &Response<Bytes>) {
    let _ = stream.try_write(&encode(answer));
}

/// hyper's own settings. The guard does HTTP/1 limits and time; what concerns HTTP/2 is here.
fn http(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().half_close(true).header_read_timeout(None).max_buf_size(4 * MAX_HEAD_BYTES);
    http.http2()
        .timer(TokioTimer::new())
        // More than the service lets pass, so that it can answer 431 itself; beyond this the library does.
        .max_header_list_size(64 * 1024)
        .max_concurrent_streams(100)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        // A peer that reads nothing can't answer a ping either.
        .keep_alive_interval(limits.write_stall * 2 / 3)
        .keep_alive_timeout(limits.write_stall / 3);
    http
}

type HttpConnection<S> = auto::UpgradeableConnection<'static, Guard, S, TokioExecutor>;

/// One connection, from its first byte to its close, or until another protocol takes it over.
async fn attend<S, B>(
    connection: HttpConnection<S>,
    line: Arc<ConnectionState>,
    peer: SocketAddr,
    limits: &Limits,
    refuse: Refuse,
    drain: watch::Receiver<()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // Answers are written whole; waiting to fill a packet would only delay them. Failing costs time, nothing else.
    let _ = line.stream.set_nodelay(true);
    let ended = converse(connection, &line, limits, drain).await;
    let (Some(ended), Some(ConnectionState { mut stream, refusal, seat: _seat, .. })) =
        (ended, Arc::into_inner(line))
    else {
        return;
    };
    // After an error hyper may have stopped within an answer, which another one must not be mixed into.
    if let (End::InOrder, Some(refusal)) = (ended, refusal.into_inner()) {
        let answer = encode(&refuse(refusal, peer));
        if !matches!(timeout(limits.write_stall, stream.write_all(&answer)).await, Ok(Ok(()))) {
            return;
        }
    }
    if stream.shutdown().await.is_ok() {
        let _ = timeout(limits.linger, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await;
    }
}

/// How hyper was done with a connection.
enum End {
    InOrder,
    Failed,
}

/// Lets hyper serve the requests of one connection. `None`: the drain time ran out.
async fn converse<S, B>(
    connection: HttpConnection<S>,
    line: &ConnectionState,
    limits: &Limits,
    mut drain: watch::Receiver<()>,
) -> Option<End>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    let mut timer = pin!(sleep(limits.idle));
    let mut requests_before = 0;
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return Some(if ended.is_ok() { End::InOrder } else { End::Failed }),
            // The sender is dropped when the drain begins; nothing is ever sent.
            _ = drain.changed(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
                timer.as_mut().reset(Instant::now() + limits.drain);
            }
            () = timer.as_mut() => {
                if draining {
                    return None;
                }
                // The guard sees HTTP/1 idle. An HTTP/2 connection without a new request is told to go; streams
                // that are open on it go on.
                let requests_now = line.requests.load(Ordering::Relaxed);
                if line.http2.load(Ordering::Relaxed) && requests_now == requests_before {
                    connection.as_mut().graceful_shutdown();
                }
                requests_before = requests_now;
                timer.as_mut().reset(Instant::now() + limits.idle);
            }
        }
    }
}

/// The last response of an HTTP/1.1 connection, in bytes.
fn encode(response: &Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in response.headers() {
        if name != header::CONTENT_LENGTH && name != header::CONNECTION {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
    }
    let body = response.body();
    bytes
        .extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}
