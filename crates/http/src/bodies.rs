//! The memory that bodies of requests and of answers take, and places for long ones: bounded in all, and shared fairly.

use crate::problem::{Code, Outcome, Problem};
use crate::shares::{Holder, Share, Shares};
use crate::wire::{BodyRefusal, Within, read_body};
use bytes::Bytes;
use flowyte_core::id::OrganizationId;
use flowyte_core::{CredentialKind, Principal};
use flowyte_store::labour::{Bounds, Crowded, Slot, Slots};
use flowyte_verifier::meter::rate_limit_prefix;
use http::HeaderMap;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The longest body of an operation that anybody may call, where the contract does not say more.
pub const PUBLIC_BYTES: usize = 16 << 10;
/// How long a body may take altogether: of a stranger, of somebody who is known, and a long one.
const STRANGERS: Duration = Duration::from_secs(20);
const USUAL: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(300);
/// The longest without a byte more.
const STALL: Duration = Duration::from_secs(30);
/// What a request takes besides its head and its body while it waits for the rest of it, about.
const OVERHEAD: usize = 4 << 10;

/// An answer up to so many bytes is not counted.
const SHORT_ANSWER: usize = 1 << 10;
/// Up to so many, the answer to something that was done is given in any case: it may say what is never said again.
const DONE: usize = 16 << 10;

/// Long bodies at once: each is in memory while it is read and kept, some of the time twice.
const LONG_ONES: Bounds =
    Bounds { at_once: 8, each: 2, waiting: 64, waiting_each: 8, patience: Duration::from_secs(20) };
/// The same of one address, which may have several organizations.
const LONG_ONES_OF_AN_ADDRESS: Bounds = Bounds { at_once: 8, each: 4, ..LONG_ONES };

/// The memory for bodies of requests and answers.
pub struct Bodies {
    /// A quarter, for whoever nothing but an address tells from others.
    strangers: Arc<Shares>,
    /// The rest, for those whose organization answers for them.
    known: Arc<Shares>,
    by_organization: Slots<OrganizationId>,
    by_address: Slots<IpAddr>,
}

/// Bytes with the share that they are a part of.
struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a body holds until its request is done.
pub struct Room {
    share: Share,
    _turns: Option<(Slot<OrganizationId>, Slot<IpAddr>)>,
}

impl Bodies {
    /// Nothing is held yet of so many bytes.
    pub fn new(bytes: usize) -> Self {
        let strangers = bytes / 4;
        Self {
            strangers: Shares::new(strangers, usize::MAX),
            known: Shares::new(bytes - strangers, usize::MAX),
            by_organization: Slots::new("uploads", LONG_ONES),
            by_address: Slots::new("uploads", LONG_ONES_OF_AN_ADDRESS),
        }
    }

    /// How many bytes of bodies and answers are in memory now.
    pub fn held(&self) -> usize {
        self.strangers.held() + self.known.held()
    }

    /// A part of what a caller may hold. A visitor's key is public, so a visitor is a stranger here.
    fn open(&self, caller: Option<(CredentialKind, OrganizationId)>, address: IpAddr) -> Share {
        match caller {
            Some((CredentialKind::SecretKey | CredentialKind::Session, organization)) => {
                self.known.open(Holder::Organization(organization))
            }
            _ => self.strangers.open(Holder::address(address)),
        }
    }

    /// Counts an answer until the last of it is sent: a peer that reads slowly, or not at all, keeps it in memory. `done`:
    /// something was done for it that can't be done again.
    pub fn hold(
        &self,
        answer: &mut Bytes,
        caller: Option<(CredentialKind, OrganizationId)>,
        address: IpAddr,
        done: bool,
    ) -> Outcome<()> {
        if answer.len() <= SHORT_ANSWER {
            return Ok(());
        }
        let mut share = self.open(caller, address);
        if done && answer.len() <= DONE {
            share.grow_beyond(answer.len());
        } else if share.grow(answer.len()).is_err() {
            let detail = "Your share of the memory for answers is used up; read those that are on their way, and try again.";
            return Err(Problem::new(Code::DependencyUnavailable, detail).retry_after(2));
        }
        *answer = Bytes::from_owner(Held { bytes: std::mem::take(answer), _share: share });
        Ok(())
    }

    /// Room for the body of a request with such a head.
    pub fn room(&self, caller: Option<&Principal>, address: IpAddr, head: &HeaderMap) -> Outcome<Room> {
        let mut share = self.open(caller.map(|it| (it.kind(), it.organization())), address);
        let head: usize = head.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        share.grow(OVERHEAD + head).map_err(|_| full())?;
        Ok(Room { share, _turns: None })
    }

    /// Waits for a place for a long body.
    pub async fn long(&self, room: &mut Room, caller: &Principal, address: IpAddr) -> Outcome<()> {
        let crowded = |Crowded| {
            let detail = "Too many large uploads are on their way at once; try again shortly.";
            Problem::new(Code::DependencyUnavailable, detail).retry_after(5)
        };
        // In this order: who waits for their own organization holds nothing of their address.
        let own = self.by_organization.take(caller.organization()).await.map_err(crowded)?;
        let near = self.by_address.take(rate_limit_prefix(address)).await.map_err(crowded)?;
        room._turns = Some((own, near));
        Ok(())
    }
}

impl Room {
    /// Reads a body of at most so many bytes.
    pub async fn read(&mut self, body: Incoming, bytes: usize) -> Outcome<Bytes> {
        let deadline = match (bytes <= PUBLIC_BYTES, &self._turns) {
            (true, _) => STRANGERS,
            (false, None) => USUAL,
            (false, Some(_)) => LONG,
        };
        let within = Within { bytes, deadline, stall: STALL };
        read_body(body, within, &mut self.share).await.map_err(|refusal| match refusal {
            BodyRefusal::TooLarge => {
                Problem::new(Code::PayloadTooLarge, format!("The body may have at most {bytes} bytes."))
            }
            BodyRefusal::Stalled => Problem::new(Code::RequestTimeout, "The body was not complete in time."),
            BodyRefusal::Broken => {
                Problem::new(Code::MalformedRequest, "The body was cut short or its framing is broken.")
            }
            BodyRefusal::NoRoom => full(),
        })
    }

    /// Charges what is made of the body.
    pub fn grow(&mut self, bytes: usize) -> Outcome<()> {
        self.share.grow(bytes).map_err(|_| full())
    }
}

fn full() -> Problem {
    Problem::new(
        Code::DependencyUnavailable,
        "Your share of the memory for request bodies is used up; try again shortly.",
    )
    .retry_after(2)
}
