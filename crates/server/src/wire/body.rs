//! Reading a request body within bounds.

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::error::Error;
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRefusal {
    /// Longer than allowed: 413.
    TooLarge,
    /// Not complete in time: 408.
    Stalled,
    /// Cut short, or its framing is broken: 400. The connection closes after the answer.
    Broken,
}

/// Reads a whole body of at most `max_bytes` within `deadline`. One that announces more is refused unread, so a client
/// that sent `Expect: 100-continue` never sends it.
pub async fn read_body<B>(body: B, max_bytes: usize, deadline: Duration) -> Result<Bytes, BodyRefusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(BodyRefusal::TooLarge);
    }
    match timeout(deadline, Limited::new(body, max_bytes).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyRefusal::TooLarge),
        Ok(Err(error)) if timed_out(error.as_ref()) => Err(BodyRefusal::Stalled),
        Ok(Err(_)) => Err(BodyRefusal::Broken),
        Err(_) => Err(BodyRefusal::Stalled),
    }
}

/// Whether the guard gave up on the body first.
fn timed_out(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) || error.source().is_some_and(timed_out)
}
