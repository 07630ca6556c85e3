//! A quantity that many hold parts of, such as memory or connections: nobody can take all of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowyte_core::id::OrganizationId;
use flowyte_verifier::meter::rate_limit_prefix;

/// Who may hold a part: what one of them takes is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Somebody whom nothing but an address tells from others.
    Address(IpAddr),
    /// An organization, whatever credential or address its requests have.
    Organization(OrganizationId),
}

impl Holder {
    /// The holder behind an address: it, or the /64 that it is in.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(rate_limit_prefix(address))
    }
}

/// The quantity. Each may hold as much as is still free, and `each` at most: one alone gets a half at most, two get a third
/// each, and somebody new always finds something.
pub struct Shares<H = Holder> {
    total: usize,
    each: usize,
    held: Mutex<Held<H>>,
}

struct Held<H> {
    all: usize,
    by: HashMap<H, usize>,
}

/// It would be more than this holder's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl<H: Copy + Eq + Hash> Shares<H> {
    /// A quantity of which nobody holds anything.
    pub fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { total, each, held: Mutex::new(Held { all: 0, by: HashMap::new() }) })
    }

    /// A part for `holder`, of nothing so far.
    pub fn open(self: &Arc<Self>, holder: H) -> Share<H> {
        Share { shares: self.clone(), holder, amount: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Held<H>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held in all.
    pub fn held(&self) -> usize {
        self.lock().all
    }
}

/// A part, given back when it is dropped.
pub struct Share<H: Copy + Eq + Hash = Holder> {
    shares: Arc<Shares<H>>,
    holder: H,
    amount: usize,
}

impl<H: Copy + Eq + Hash> Share<H> {
    /// Takes more, within the holder's share.
    pub fn grow(&mut self, more: usize) -> Result<(), Exhausted> {
        let mut held = self.shares.lock();
        let own = held.by.get(&self.holder).copied().unwrap_or(0).saturating_add(more);
        if own > self.shares.each || own > self.shares.total.saturating_sub(held.all) {
            return Err(Exhausted);
        }
        held.add(self.holder, more);
        self.amount += more;
        Ok(())
    }

    /// Takes more, whatever the holder has already.
    pub fn grow_beyond(&mut self, more: usize) {
        self.shares.lock().add(self.holder, more);
        self.amount += more;
    }
}

impl<H: Copy + Eq + Hash> Held<H> {
    fn add(&mut self, holder: H, more: usize) {
        if more > 0 {
            self.all += more;
            *self.by.entry(holder).or_default() += more;
        }
    }
}

impl<H: Copy + Eq + Hash> Drop for Share<H> {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut held = self.shares.lock();
        held.all -= self.amount;
        if let Some(own) = held.by.get_mut(&self.holder) {
            *own -= self.amount;
            if *own == 0 {
                held.by.remove(&self.holder);
            }
        }
    }
}

impl<H: Copy + Eq + Hash> std::fmt::Debug for Share<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share({})", self.amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes ones for as long as there are some.
    fn fill(shares: &Arc<Shares<u8>>, holder: u8) -> Share<u8> {
        let mut share = shares.open(holder);
        while share.grow(1).is_ok() {}
        share
    }

    #[test]
    fn one_gets_a_half_two_a_third_each_and_a_newcomer_something() {
        let shares = Shares::new(1_200, usize::MAX);
        let alone = fill(&shares, 1);
        assert!((600..=601).contains(&alone.amount), "{alone:?}");
        let second = fill(&shares, 2);
        assert!((300..=301).contains(&second.amount), "{second:?}");
        let more: Vec<Share<u8>> = (3..8).map(|it| fill(&shares, it)).collect();
        assert!(more.iter().all(|it| it.amount > 0), "{more:?}");
        drop((alone, second, more));
        assert_eq!(shares.held(), 0);
        assert!(shares.lock().by.is_empty());
    }

    #[test]
    fn nobody_gets_more_than_each_but_who_is_exempt() {
        let shares = Shares::new(100, 10);
        let (first, again) = (fill(&shares, 1), fill(&shares, 1));
        assert_eq!((first.amount, again.amount), (10, 0));
        let mut proxy = shares.open(2);
        proxy.grow_beyond(85);
        assert_eq!(fill(&shares, 3).amount, 3, "of the five that are left");
        assert!(shares.open(3).grow(usize::MAX).is_err());
    }
}
