//! Streams of events that end with the credential they are for.

use crate::turn::Event;
use bytes::Bytes;
use flowyte_core::{Denial, OperationIndex};
use flowyte_http::answer::Answer;
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_verifier::{Verifier, Warrant};
use futures_util::stream::{self, StreamExt};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval};

/// How often a stream asks whether its credential still stands.
const WATCH: Duration = Duration::from_secs(1);
/// Ticks of [`WATCH`] without an event after which a comment keeps the connection open.
const QUIET_TICKS: u32 = 15;

/// How a channel says what happens.
pub trait Speech: Send + 'static {
    /// What happened, framed; `None`: nothing that this channel says.
    fn event(&mut self, verifier: &Verifier, event: Event) -> Option<Bytes>;

    /// Why there will be nothing more, framed.
    fn failure(&self, verifier: &Verifier, problem: &Problem) -> Bytes {
        failure(verifier, problem)
    }
}

/// An answer that is a stream of events. It ends within two seconds of the moment its caller may no longer be answered,
/// whoever makes the events; what was waiting to be sent then is not sent.
pub fn answer(warrant: Arc<Warrant>, events: Receiver<Event>, speech: impl Speech) -> Answer {
    let mut ticks = interval(WATCH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let next = stream::unfold(Some((warrant, events, ticks, 0, speech)), move |state| async move {
        let (warrant, mut events, mut ticks, mut quiet, mut speech) = state?;
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    if let Err(problem) = check(&warrant) {
                        return Some((speech.failure(warrant.verifier(), &problem), None));
                    }
                    quiet += 1;
                    if quiet % QUIET_TICKS == 0 {
                        let comment = Bytes::from_static(b": still there\n\n");
                        return Some((comment, Some((warrant, events, ticks, quiet, speech))));
                    }
                }
                event = events.recv() => {
                    if let Some(said) = speech.event(warrant.verifier(), event?) {
                        return Some((said, Some((warrant, events, ticks, 0, speech))));
                    }
                }
            }
        }
    });
    Answer::events(next.boxed())
}

/// Whether what a permit opened may go on, or what its caller is told.
pub fn check(warrant: &Warrant) -> Outcome<()> {
    warrant
        .check()
        .map(drop)
        .map_err(|denial| refused(warrant.verifier(), warrant.permit().operation(), &denial))
}

/// What is said of a permit that no longer holds.
pub fn refused(verifier: &Verifier, operation: OperationIndex, denial: &Denial) -> Problem {
    let contract = &verifier.contract;
    match denial {
        Denial::InvalidCredential => ended(), // Forgotten since.
        denial => Problem::denied(denial, contract, contract.operations().get(operation)),
    }
}

/// Says that the credential of what is under way has ended.
pub fn ended() -> Problem {
    Problem::new(Code::CredentialRevoked, "The credential of this stream was revoked or has expired.")
}

/// One event (HTML Living Standard §9.2). JSON has no line break of its own.
pub fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// The event that says why there will be no other.
pub fn failure(verifier: &Verifier, problem: &Problem) -> Bytes {
    event("error", &document(verifier, problem))
}

/// The problem document of a refusal as JSON, to be sent inside a stream.
pub fn document(verifier: &Verifier, problem: &Problem) -> Value {
    let document = problem.response(&verifier.public_url, "").into_body();
    serde_json::from_slice(&document).unwrap_or_default()
}
