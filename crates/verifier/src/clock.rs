//! Time and randomness enter here, and everything else gets them as arguments.

use flowyte_core::Timestamp;
use flowyte_core::time::{DAY, SECOND};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the machine started, sleep included.
pub fn boot_time() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// Where the time comes from, so that tests can set it.
pub trait Clock: Send + Sync {
    /// The present time in UTC. It may jump when the machine's clock is set; [`Steady`] keeps it from going backwards.
    fn now(&self) -> Timestamp;

    /// Microseconds by a clock that only runs forwards, sleep of the machine included.
    fn ticks(&self) -> i64 {
        boot_time() / 1_000
    }
}

/// Gives random bytes fit for secrets.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`, or says that it can't; there is no second-best source.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The operating system gives no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the operating system gives no randomness")]
pub struct NoEntropy;

/// The operating system's clock and randomness.
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(0))
    }
}

/// How far the clock may be behind before time is counted without it. By less, time stands still until the clock is there again.
const JITTER: i64 = SECOND;
/// How far the clock may be behind at a start. By more, one of the two is wrong, and only the operator knows which.
pub const MOST_BEHIND: i64 = DAY;

/// Time as decisions know it: the clock's, but never earlier than it was before, in an earlier run of the server too.
///
/// A clock that is set back would otherwise bring back to life what has expired, and close limits for as long. While the clock is
/// behind, time goes on by nine tenths, so that the two meet again.
pub struct Steady<C> {
    clock: C,
    /// The latest instant that was told, microseconds.
    latest: AtomicI64,
    /// Where time is counted from while the clock is behind: an instant and the ticks at it.
    counted: Mutex<(i64, i64)>,
}

/// The clock is further behind than [`MOST_BEHIND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock says {clock}, and the database has seen {seen}. Set the clock; or, if that time was wrong, stop every server of this \
     database and run: flowyte clock reset. It makes the clock's time count, so that what expired only by the wrong time works again"
)]
pub struct FarBehind {
    clock: Timestamp,
    seen: Timestamp,
}

impl<C: Clock> Steady<C> {
    /// Never earlier than `seen`, which an earlier run wrote down.
    pub fn new(clock: C, seen: Timestamp) -> Result<Self, FarBehind> {
        let now = clock.now();
        if seen.since(now) > MOST_BEHIND {
            return Err(FarBehind { clock: now, seen });
        }
        if seen > now {
            tracing::warn!(clock = %now, %seen, "the clock is behind what the database has seen; time goes on from there");
        }
        let counted = Mutex::new((seen.as_micros(), clock.ticks()));
        Ok(Self { clock, latest: AtomicI64::new(seen.as_micros()), counted })
    }

    /// Counts on from `latest`, without the clock.
    fn count(&self, latest: i64) -> i64 {
        let ticks = self.clock.ticks();
        // A panic can't have left the pair half-changed.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, at) = *counted;
        let now = from.saturating_add((ticks - at) / 10 * 9);
        if now < latest {
            // The clock has been right since it was counted last.
            *counted = (latest, ticks);
            tracing::warn!(latest = %Timestamp::from_micros(latest), "the clock was set back; time goes on from before");
        }
        now.max(latest)
    }
}

impl<C: Clock> Clock for Steady<C> {
    fn now(&self) -> Timestamp {
        let clock = self.clock.now().as_micros();
        let latest = self.latest.fetch_max(clock, Ordering::AcqRel);
        let now = match latest - clock {
            ..=0 => clock,
            1..=JITTER => latest,
            _ => self.count(latest),
        };
        Timestamp::from_micros(self.latest.fetch_max(now, Ordering::AcqRel).max(now))
    }

    fn ticks(&self) -> i64 {
        self.clock.ticks()
    }
}

impl Entropy for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        getrandom::fill(bytes).map_err(|_| NoEntropy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_core::time::{HOUR, MINUTE};
    use std::sync::Arc;

    const NOON: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

    /// A clock that tests set, beside one that only runs.
    #[derive(Clone)]
    struct Set(Arc<(AtomicI64, AtomicI64)>);

    impl Set {
        fn at(now: Timestamp) -> Self {
            Self(Arc::new((AtomicI64::new(now.as_micros()), AtomicI64::new(7 * SECOND))))
        }

        fn step(&self, by: i64) {
            self.0.0.fetch_add(by, Ordering::SeqCst);
        }

        fn pass(&self, micros: i64) {
            self.step(micros);
            self.0.1.fetch_add(micros, Ordering::SeqCst);
        }
    }

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.0.load(Ordering::SeqCst))
        }

        fn ticks(&self) -> i64 {
            self.0.1.load(Ordering::SeqCst)
        }
    }

    /// Rows: ST-23.
    #[test]
    fn a_clock_set_back_sets_no_time_back() {
        for back in [1, SECOND, 5 * MINUTE, HOUR, DAY, 400 * DAY] {
            let clock = Set::at(NOON);
            let time = Steady::new(clock.clone(), Timestamp::from_micros(0)).unwrap();
            assert_eq!(time.now(), NOON);
            clock.step(-back);
            let mut last = time.now();
            assert!(last >= NOON, "{back}");
            // It goes on meanwhile, and never backwards, until the clock is there again.
            for _ in 0..600 {
                clock.pass(SECOND);
                let now = time.now();
                assert!(now >= last, "{back}");
                last = now;
            }
            let gone = last.since(NOON);
            assert!((540 * SECOND..=600 * SECOND).contains(&gone), "{back}: {gone}");
            if back <= MINUTE {
                assert_eq!(last, clock.now());
            }
        }
    }

    #[test]
    fn an_hour_is_made_up_for_in_ten() {
        let clock = Set::at(NOON);
        let time = Steady::new(clock.clone(), Timestamp::from_micros(0)).unwrap();
        time.now();
        clock.step(-HOUR);
        for _ in 0..(10 * 60 + 2) {
            time.now();
            clock.pass(MINUTE);
        }
        assert_eq!(time.now(), clock.now());
        // And a second time as the first.
        clock.step(-HOUR);
        let now = time.now();
        clock.pass(10 * MINUTE);
        assert_eq!(time.now(), now.plus(9 * MINUTE));
    }

    /// Rows: LC-21. What the clock said in between counts, forwards at once.
    #[test]
    fn a_clock_set_ahead_is_followed_and_its_correction_is_not() {
        let clock = Set::at(NOON);
        let time = Steady::new(clock.clone(), Timestamp::from_micros(0)).unwrap();
        time.now();
        clock.step(DAY);
        assert_eq!(time.now(), NOON.plus(DAY));
        clock.step(-DAY);
        clock.pass(MINUTE);
        assert!(time.now() >= NOON.plus(DAY));
    }

    #[test]
    fn what_an_earlier_run_has_seen_is_not_forgotten() {
        let clock = Set::at(NOON);
        let time = Steady::new(clock.clone(), NOON.plus(HOUR)).unwrap();
        assert!(time.now() >= NOON.plus(HOUR));
        // A clock that was years ahead for a moment does not decide for ever: the operator says which of the two is wrong.
        let refused = Steady::new(clock.clone(), NOON.plus(DAY + 1)).err().unwrap();
        assert!(refused.to_string().contains("flowyte clock reset"), "{refused}");
        assert!(Steady::new(clock, NOON.plus(DAY)).is_ok());
    }

    #[test]
    fn time_runs_forwards_for_every_thread() {
        let clock = Set::at(NOON);
        let time = Steady::new(clock.clone(), Timestamp::from_micros(0)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut last = time.now();
                    for _ in 0..5_000 {
                        let now = time.now();
                        assert!(now >= last);
                        last = now;
                    }
                });
            }
            for step in 0..500 {
                clock.pass(SECOND);
                clock.step(if step % 2 == 0 { -2 * MINUTE } else { 2 * MINUTE });
            }
        });
    }
}
