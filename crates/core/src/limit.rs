//! Rate limits as GCRA (ITU-T I.371) on one atomic word: the theoretical arrival time of the next request.

use crate::Timestamp;
use crate::time::MINUTE;
use std::sync::atomic::{AtomicI64, Ordering};

/// `per_minute` requests a minute, all of which may come at once. Clock passed in; no lock, no allocation.
#[derive(Debug)]
pub struct RateLimit {
    per_minute: u32,
    arrival: AtomicI64,
}

/// What is left of a limit, for the `RateLimit` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The limit itself, in requests a minute.
    pub limit: u32,
    /// Requests that may come now.
    pub remaining: u32,
    /// Seconds until the whole limit is there again, rounded up.
    pub reset_seconds: u32,
}

/// The request came too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The limit that was hit.
    pub quota: Quota,
    /// Seconds after which one request may come, rounded up, at least 1.
    pub retry_after_seconds: u32,
}

impl RateLimit {
    /// The highest limit: one request a microsecond, which is as fine as the clock.
    pub const MOST: u32 = MINUTE as u32;

    /// A limit that has not been used. Zero is read as one, and what is above [`Self::MOST`] as that.
    pub const fn per_minute(per_minute: u32) -> Self {
        let per_minute = match per_minute {
            0 => 1,
            Self::MOST.. => Self::MOST,
            within => within,
        };
        Self { per_minute, arrival: AtomicI64::new(i64::MIN) }
    }

    /// Requests a minute, as they were configured, at least one.
    pub const fn limit(&self) -> u32 {
        self.per_minute
    }

    /// Takes one request at `now`, or says when to come back.
    pub fn take(&self, now: Timestamp) -> Result<Quota, Limited> {
        let now = now.as_micros();
        let mut arrival = self.arrival.load(Ordering::Relaxed);
        loop {
            let next = arrival.max(now) + self.interval();
            if next - now > MINUTE {
                let wait = next - now - MINUTE;
                return Err(Limited {
                    quota: self.quota(arrival, now),
                    retry_after_seconds: seconds(wait).max(1),
                });
            }
            match self.arrival.compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(self.quota(next, now)),
                Err(seen) => arrival = seen,
            }
        }
    }

    /// Takes one request from both limits or from neither; answers the tighter of the two.
    pub fn take_both(&self, other: &Self, now: Timestamp) -> Result<Quota, Limited> {
        let mine = self.take(now)?;
        let theirs = other.take(now).inspect_err(|_| self.give_back())?;
        Ok(if mine.remaining <= theirs.remaining { mine } else { theirs })
    }

    /// Undoes a [`take`](Self::take), whatever else was taken meanwhile.
    fn give_back(&self) {
        self.arrival.fetch_sub(self.interval(), Ordering::Relaxed);
    }

    /// What is left at `now`, without taking anything.
    pub fn peek(&self, now: Timestamp) -> Quota {
        self.quota(self.arrival.load(Ordering::Relaxed), now.as_micros())
    }

    fn interval(&self) -> i64 {
        MINUTE / i64::from(self.per_minute)
    }

    fn quota(&self, arrival: i64, now: i64) -> Quota {
        let used = arrival.max(now) - now;
        Quota {
            limit: self.per_minute,
            remaining: ((MINUTE - used).max(0) / self.interval()).min(i64::from(self.per_minute)) as u32,
            reset_seconds: seconds(used),
        }
    }
}

fn seconds(micros: i64) -> u32 {
    (micros + 999_999).div_euclid(1_000_000).clamp(0, i64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_the_whole_minute_then_one_by_one() {
        let limit = RateLimit::per_minute(60);
        let start = Timestamp::from_micros(1_700_000_000_000_000);
        for left in (0..60).rev() {
            assert_eq!(limit.take(start).unwrap().remaining, left);
        }
        let refused = limit.take(start).unwrap_err();
        assert_eq!((refused.retry_after_seconds, refused.quota.remaining), (1, 0));
        assert!(limit.take(start.plus(999_999)).is_err());
        assert!(limit.take(start.plus(1_000_000)).is_ok());
        assert!(limit.take(start.plus(1_000_000)).is_err());
        assert_eq!(limit.peek(start.plus(2 * MINUTE)).remaining, 60);
    }

    #[test]
    fn never_more_than_the_limit_from_many_threads() {
        let limit = RateLimit::per_minute(1_000);
        let now = Timestamp::from_micros(5);
        let taken: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| limit.take(now).is_ok()).count()))
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }

    #[test]
    fn what_one_limit_refuses_the_other_does_not_lose() {
        let (key, organization) = (RateLimit::per_minute(10), RateLimit::per_minute(3));
        let now = Timestamp::from_micros(10 * MINUTE);
        for left in (0..3).rev() {
            assert_eq!(key.take_both(&organization, now).unwrap().remaining, left);
        }
        for _ in 0..100 {
            assert_eq!(key.take_both(&organization, now).unwrap_err().quota.limit, 3);
        }
        assert_eq!((key.peek(now).remaining, organization.peek(now).remaining), (7, 0));
        // The other way round.
        for _ in 0..100 {
            assert_eq!(organization.take_both(&key, now).unwrap_err().quota.limit, 3);
        }
        assert_eq!(key.peek(now).remaining, 7);
    }

    #[test]
    fn the_highest_limit_is_as_fine_as_the_clock() {
        for asked in [RateLimit::MOST, RateLimit::MOST + 1, u32::MAX] {
            let limit = RateLimit::per_minute(asked);
            assert_eq!(limit.take(Timestamp::from_micros(5)).unwrap().remaining, RateLimit::MOST - 1);
        }
    }

    #[test]
    fn a_clock_that_goes_back_does_not_open_the_limit() {
        let limit = RateLimit::per_minute(1);
        let now = Timestamp::from_micros(10 * MINUTE);
        assert!(limit.take(now).is_ok());
        assert!(limit.take(now.plus(-MINUTE)).is_err());
    }
}
