//! Between the socket and hyper: only strictly valid HTTP/1 heads and bodies come through.
//!
//! hyper answers what it can't parse with an empty body or with nothing, drops a fragment from the target, and prefers
//! Transfer-Encoding where Content-Length came along. Here every refusal is ours, and two readers of one stream can't
//! disagree, since what they could read differently never passes. HTTP/2 passes untouched after its first frame: its
//! framing leaves no such room, and its head limits are checked where the request is.

mod body;
mod framing;
mod head;

pub use body::{BodyRefusal, Within, read_body};
pub use framing::{Fault, Framing, Step};

use crate::shares::Share;
use bytes::{Buf, BytesMut};
use flowyte_core::address::AddressBlock;
use framing::Phase;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

/// The longest request head in bytes, from the method to the empty line.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The most fields in a request head.
pub const MAX_FIELDS: usize = 100;
/// The longest request target in bytes.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Room that one read from the socket may fill.
const READ_BYTES: usize = 8 * 1024;
/// The same where a head is awaited: most are shorter, and a small buffer costs less to get and to give back.
const READ_HEAD_BYTES: usize = 2 * 1024;

/// Why a request head was refused. The connection closes after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRefusal {
    /// Not a strictly valid head: 400.
    Malformed {
        /// What is wrong, in words that hold nothing of the request.
        detail: &'static str,
    },
    /// A tunnel was asked for (`CONNECT`): 405.
    MethodNotAllowed,
    /// More than [`MAX_HEAD_BYTES`] or [`MAX_FIELDS`]: 431.
    TooLarge,
    /// Begun but not complete in time: 408.
    Timeout,
    /// Not even read: its address has as many connections as it may: 429.
    Crowded,
}

/// How long a connection may keep its peer waiting for it, and how many there may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The only authority (`host[:port]`, default port left out) that a target in absolute form may name.
    pub authority: String,
    /// Connections open at once. Above it the next ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Of them, one address's (of IPv6, one /64's). Above it the next ones are refused.
    pub connections_per_address: usize,
    /// Addresses without such a share: behind a proxy's are many.
    pub proxies: Vec<AddressBlock>,
    /// From the first byte of a head to its end; also from a connection's start to its first byte. For HTTP/2, the
    /// preface and the first settings.
    pub head_deadline: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// Without one byte of a request body that is being read (HTTP/1).
    pub body_stall: Duration,
    /// With bytes to send and a peer that takes none.
    pub write_stall: Duration,
    /// After our last byte, for the peer to read it: closing with bytes unread would make its kernel discard the answer.
    pub linger: Duration,
    /// From the call for shutdown until connections still busy are dropped.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            authority: "localhost".to_owned(),
            max_connections: 10_000,
            connections_per_address: 2_500,
            proxies: Vec::new(),
            head_deadline: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            body_stall: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            drain: Duration::from_secs(10),
        }
    }
}

/// What the guard, the service and the accept loop share of one connection. hyper keeps its I/O object to itself, yet
/// the loop has to know how the guard ended and to have the last word on the socket.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    pub(crate) stream: TcpStream,
    /// The answer still owed to the peer.
    pub(crate) refusal: OnceLock<HeadRefusal>,
    pub(crate) http2: AtomicBool,
    /// How many requests have been read from the connection; two readings tell whether an HTTP/2 connection was idle in between.
    pub(crate) requests: AtomicU64,
    /// It speaks another protocol now: bytes pass untouched, and whoever took it over watches its time.
    pub(crate) tunnel: AtomicBool,
    /// Its place among the connections that there may be.
    pub(crate) seat: Seat,
}

/// A place among the connections that there may be, and in the share of its address.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) _place: OwnedSemaphorePermit,
    pub(crate) _share: Share,
}

impl ConnectionState {
    /// A line that nothing was read from yet.
    pub(crate) fn new(stream: TcpStream, seat: Seat) -> Arc<ConnectionState> {
        let (http2, requests, tunnel) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(ConnectionState { stream, refusal: OnceLock::new(), http2, requests, tunnel, seat })
    }
}

/// What hyper reads and writes instead of the socket.
///
/// On a refused head it notes the refusal on its [`ConnectionState`] and plays a peer that finished sending, so hyper completes the
/// answers it owes. That needs hyper's `half_close`; and since hyper then reads a head only when no answer is due, the
/// time spent waiting for one is the peer's alone.
#[derive(Debug)]
pub(crate) struct Guard {
    line: Arc<ConnectionState>,
    limits: Arc<Limits>,
    framing: Framing,
    /// What came from the socket and hyper has not taken.
    inbox: BytesMut,
    /// How many bytes at the front of `inbox` are in order.
    verified: usize,
    /// Nothing more is passed on.
    ended: bool,
    read_timer: Pin<Box<Sleep>>,
    /// What `read_timer` runs for. `None`: it is to be set anew.
    timed: Option<Phase>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl Guard {
    /// A guard for a new connection.
    pub(crate) fn new(line: Arc<ConnectionState>, limits: Arc<Limits>) -> Guard {
        Guard {
            framing: Framing::new(limits.authority.clone()),
            read_timer: Box::pin(sleep(limits.head_deadline)),
            line,
            limits,
            inbox: BytesMut::new(),
            verified: 0,
            ended: false,
            timed: None,
            write_timer: None,
        }
    }

    /// Ends the reading side, with the refusal that the peer is to get.
    fn refuse(&mut self, refusal: HeadRefusal) {
        self.ended = true;
        if !self.framing.is_http2() {
            // It can't have been set: nothing is judged after the end.
            let _ = self.line.refusal.set(refusal);
        }
    }

    /// Judges what is at hand. Answers whether something may be passed on.
    fn verify(&mut self) -> io::Result<bool> {
        if self.line.tunnel.load(Ordering::Acquire) {
            self.verified = self.inbox.len();
            return Ok(self.verified > 0);
        }
        match self.framing.step(&self.inbox) {
            Ok(Step::More) => Ok(false),
            Ok(Step::Pass(count)) => {
                self.verified = count;
                self.timed = None;
                self.line.http2.store(self.framing.is_http2(), Ordering::Relaxed);
                Ok(true)
            }
            Err(Fault::Head(refusal)) => {
                self.refuse(refusal);
                Ok(false)
            }
            Err(Fault::Body(detail)) => {
                self.ended = true;
                Err(io::Error::new(io::ErrorKind::InvalidData, detail))
            }
        }
    }

    /// Reads what the socket has. `Ok(0)` is its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = match self.framing.phase(!self.inbox.is_empty()) {
            Phase::First | Phase::Idle => READ_HEAD_BYTES,
            Phase::Head | Phase::Body | Phase::Http2 => READ_BYTES,
        };
        loop {
            ready!(self.line.stream.poll_read_ready(cx))?;
            // Only now, so that a silent connection holds no buffer.
            self.inbox.reserve(room);
            let (stream, inbox, mut read) = (&self.line.stream, &mut self.inbox, None);
            let outcome = stream.try_io(Interest::READABLE, || {
                let count = stream.try_read_buf(inbox)?;
                read = Some(count);
                // Where there was less than there is room for, that was all: the socket need not be asked again to know that it has
                // nothing more. Saying so inside takes nothing away that comes meanwhile.
                let all = count > 0 && inbox.len() < inbox.capacity();
                if all { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, outcome) {
                (Some(count), _) => return Poll::Ready(Ok(count)),
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }

    /// Waits for bytes within the time that the phase allows; past it, ends the reading side.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.tunnel.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let phase = self.framing.phase(!self.inbox.is_empty());
        let allowed = match phase {
            Phase::First | Phase::Head => self.limits.head_deadline,
            Phase::Idle => self.limits.idle,
            Phase::Body => self.limits.body_stall,
            Phase::Http2 => return Poll::Pending,
        };
        if self.timed != Some(phase) {
            self.timed = Some(phase);
            self.read_timer.as_mut().reset(Instant::now() + allowed);
        }
        ready!(self.read_timer.as_mut().poll(cx));
        match phase {
            Phase::Head => self.refuse(HeadRefusal::Timeout),
            Phase::Body => {
                self.ended = true;
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request body stalled")));
            }
            Phase::First | Phase::Idle | Phase::Http2 => self.ended = true,
        }
        Poll::Ready(Ok(()))
    }

    /// One write by `attempt`, given up when the peer takes nothing for too long.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while let Poll::Ready(ready) = self.line.stream.poll_write_ready(cx) {
            ready?;
            match attempt(&self.line.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.write_timer = None;
                    return Poll::Ready(result);
                }
            }
        }
        let stall = self.limits.write_stall;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl Read for Guard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.verified > 0 {
                let count = this.verified.min(out.remaining());
                out.put_slice(&this.inbox[..count]);
                this.inbox.advance(count);
                this.verified -= count;
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            if this.verify()? || this.ended {
                continue;
            }
            match this.poll_fill(cx)? {
                Poll::Ready(0)
                    if this.framing.phase(!this.inbox.is_empty()) == Phase::Head
                        && !this.line.tunnel.load(Ordering::Acquire) =>
                {
                    this.refuse(HeadRefusal::Malformed { detail: "the head is cut short" });
                }
                Poll::Ready(0) => this.ended = true,
                Poll::Ready(_) => {}
                Poll::Pending => {
                    if this.inbox.is_empty() {
                        this.inbox = BytesMut::new();
                    }
                    ready!(this.poll_deadline(cx))?;
                }
            }
        }
    }
}

impl Write for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Leaves the socket open: a refusal may still be written to it. The accept loop closes it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
