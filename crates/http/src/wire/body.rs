//! Reading a request body within bounds.

use crate::shares::Share;
use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRefusal {
    /// The body is longer than it may be; the answer has the status 413.
    TooLarge,
    /// Not complete in time: 408.
    Stalled,
    /// Cut short, or its framing is broken: 400. The connection closes after the answer.
    Broken,
    /// The memory for bodies has no room for it: 503.
    NoRoom,
}

/// What a body is read within.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    /// Its longest length in bytes.
    pub bytes: usize,
    /// The longest that it may take altogether.
    pub deadline: Duration,
    /// The longest without one byte more.
    pub stall: Duration,
}

/// The first piece of memory that a body gets.
const FIRST: usize = 2 * 1024;

/// Reads a whole body. One that announces too much is refused unread, so a client that sent `Expect: 100-continue` never
/// sends it. `room` is charged as the bytes come, not for what was announced, and holds them for as long as it lives.
pub async fn read_body<B>(body: B, within: Within, room: &mut Share) -> Result<Bytes, BodyRefusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.size_hint().lower() > within.bytes as u64 {
        return Err(BodyRefusal::TooLarge);
    }
    timeout(within.deadline, gather(body, within, room)).await.unwrap_or(Err(BodyRefusal::Stalled))
}

/// Copies each piece to the end of one block: a piece of one byte may keep alive all that was read from the socket with it.
async fn gather<B>(body: B, within: Within, room: &mut Share) -> Result<Bytes, BodyRefusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let announced = body.size_hint().exact().map_or(within.bytes, |it| it as usize);
    let mut body = pin!(body);
    let mut whole: Vec<u8> = Vec::new();
    loop {
        let piece = match timeout(within.stall, body.frame()).await {
            Err(_) => return Err(BodyRefusal::Stalled),
            Ok(None) => return Ok(whole.into()),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(error))) => return Err(broken(error.into().as_ref())),
        };
        let length = whole.len() + piece.len();
        if length > within.bytes {
            return Err(BodyRefusal::TooLarge);
        }
        if length > whole.capacity() {
            let wanted = (2 * whole.capacity()).max(FIRST).min(announced).max(length);
            room.grow(wanted - whole.capacity()).map_err(|_| BodyRefusal::NoRoom)?;
            whole.reserve_exact(wanted - whole.len());
        }
        whole.extend_from_slice(&piece);
    }
}

fn broken(error: &(dyn Error + 'static)) -> BodyRefusal {
    if timed_out(error) { BodyRefusal::Stalled } else { BodyRefusal::Broken }
}

/// Whether the guard gave up on the body first.
fn timed_out(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) || error.source().is_some_and(timed_out)
}
