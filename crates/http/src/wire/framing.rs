//! Where messages begin and end in the bytes of one connection. Pure: no I/O, no clock.

use super::HeadRefusal;
use super::head::{BodyLength, HeadReader};

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HTTP2_FRAME_HEAD_BYTES: usize = 9;
const HTTP2_SETTINGS: u8 = 4;
/// The largest frame that a client may send before it has seen our settings.
const HTTP2_MAX_FRAME_BYTES: usize = 16_384;

/// Follows the messages of one connection and says which bytes may be passed on.
#[derive(Debug)]
pub struct Framing {
    authority: String,
    state: State,
    /// No message has begun: only here HTTP/2 may announce itself.
    fresh: bool,
}

#[derive(Debug)]
enum State {
    Head(HeadReader),
    Exact(u64),
    Chunked(Chunk),
    Http2Start,
    Http2,
}

/// What [`Framing::step`] says about the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This many bytes (never 0) at the front are in order. Take them away before the next step.
    Pass(usize),
    /// Nothing can be said without more bytes.
    More,
}

/// Why a connection can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A request head is not acceptable.
    Head(HeadRefusal),
    /// The chunked coding of a body is broken.
    Body(&'static str),
}

/// What the connection waits for, which decides how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first byte of the first message.
    First,
    /// The first byte of a later message.
    Idle,
    /// The rest of a head, HTTP/1 or HTTP/2.
    Head,
    /// More of a body, which may pause for a while only.
    Body,
    /// Anything: hyper watches HTTP/2 connections itself.
    Http2,
}

impl Framing {
    /// A new connection. `authority` (`host[:port]`) is the only one that a target in absolute form may name.
    pub fn new(authority: impl Into<String>) -> Framing {
        Framing { authority: authority.into(), state: State::Head(HeadReader::default()), fresh: true }
    }

    /// Judges `bytes`: all that came and was not passed on yet. A head is passed as a whole; a step never goes past
    /// the end of a message.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        if bytes.is_empty() {
            return Ok(Step::More);
        }
        if self.fresh {
            let seen = bytes.len().min(HTTP2_PREFACE.len());
            if bytes[..seen] == HTTP2_PREFACE[..seen] {
                if seen < HTTP2_PREFACE.len() {
                    return Ok(Step::More);
                }
                self.state = State::Http2Start;
            }
            self.fresh = false;
        }
        match &mut self.state {
            State::Head(head) => match head.read(bytes, &self.authority).map_err(Fault::Head)? {
                None => Ok(Step::More),
                Some((length, body)) => {
                    self.state = match body {
                        BodyLength::Exact(0) => State::Head(HeadReader::default()),
                        BodyLength::Exact(left) => State::Exact(left),
                        BodyLength::Chunked => State::Chunked(Chunk::FIRST),
                    };
                    Ok(Step::Pass(length))
                }
            },
            State::Exact(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::Head(HeadReader::default());
                }
                Ok(Step::Pass(taken))
            }
            State::Chunked(chunk) => {
                let (taken, ended) = chunk.read(bytes).map_err(Fault::Body)?;
                if ended {
                    self.state = State::Head(HeadReader::default());
                }
                Ok(Step::Pass(taken))
            }
            State::Http2Start if http2_settings_incomplete(&bytes[HTTP2_PREFACE.len()..]) => Ok(Step::More),
            State::Http2Start | State::Http2 => {
                self.state = State::Http2;
                Ok(Step::Pass(bytes.len()))
            }
        }
    }

    /// What the connection waits for, given whether bytes that were not passed on are at hand.
    pub(super) fn phase(&self, bytes_at_hand: bool) -> Phase {
        match self.state {
            State::Head(_) if bytes_at_hand => Phase::Head,
            State::Head(_) if self.fresh => Phase::First,
            State::Head(_) => Phase::Idle,
            State::Exact(_) | State::Chunked(_) => Phase::Body,
            State::Http2Start => Phase::Head,
            State::Http2 => Phase::Http2,
        }
    }

    /// Whether the connection announced HTTP/2, so that an HTTP/1 answer would not be understood.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.state, State::Http2Start | State::Http2)
    }
}

/// Whether `bytes`, from after the preface, hold less than the settings frame that must come first. Any other frame
/// counts as complete: it is for the HTTP/2 library to refuse.
fn http2_settings_incomplete(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk::<HTTP2_FRAME_HEAD_BYTES>() else { return true };
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    head[3] == HTTP2_SETTINGS
        && length <= HTTP2_MAX_FRAME_BYTES
        && bytes.len() < HTTP2_FRAME_HEAD_BYTES + length
}

/// The place in a chunked body. Stricter than RFC 9112 §7.1: no extensions and no trailers, since nothing here reads
/// them and both have carried smuggled requests.
#[derive(Debug)]
enum Chunk {
    Size { digits: u8, size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    EndCr,
    EndLf,
}

impl Chunk {
    const FIRST: Chunk = Chunk::Size { digits: 0, size: 0 };
    /// Fewer than would overflow, here or in a reader that counts in signed numbers.
    const MAX_SIZE_DIGITS: u8 = 15;

    /// How many of `bytes` belong to the body, and whether they end it.
    fn read(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        let mut at = 0;
        while at < bytes.len() {
            if let Chunk::Data { left } = self {
                let taken = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                at += taken;
                if *left == 0 {
                    *self = Chunk::DataCr;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            *self = match (&*self, byte) {
                (Chunk::Size { digits, size }, b'\r') if *digits > 0 => Chunk::SizeLf { size: *size },
                (Chunk::Size { digits, size }, _) => match char::from(byte).to_digit(16) {
                    Some(digit) if *digits < Chunk::MAX_SIZE_DIGITS => {
                        Chunk::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
                    }
                    _ => return Err("a chunk size is not plain hexadecimal"),
                },
                (Chunk::SizeLf { size: 0 }, b'\n') => Chunk::EndCr,
                (Chunk::SizeLf { size }, b'\n') => Chunk::Data { left: *size },
                (Chunk::DataCr, b'\r') => Chunk::DataLf,
                (Chunk::DataLf, b'\n') => Chunk::FIRST,
                (Chunk::EndCr, b'\r') => Chunk::EndLf,
                (Chunk::EndLf, b'\n') => return Ok((at, true)),
                (Chunk::EndCr, _) => return Err("a chunked body has trailers"),
                _ => return Err("a chunk does not end where it says"),
            };
        }
        Ok((at, false))
    }
}
