//! Limits for callers who have no record to hang one on: by address or by account, in bounded memory.

use flowyte_core::Timestamp;
use flowyte_core::limit::{Limited, Quota};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::Mutex;

const SHARDS: usize = 16;
/// Callers remembered in one shard. When it is full, those who are idle longest are forgotten first.
const MOST: usize = 8_192;

/// `allowed` events in `window` microseconds for each key, all of which may come at once (GCRA, as ITU-T I.371 has it).
///
/// Only failures are metered here, so that the lock is never on the path of a request that succeeds.
pub struct Meter {
    allowed: u32,
    window: i64,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, i64>>; SHARDS],
}

impl Meter {
    /// A meter that nobody has used. At most one event a microsecond, which is as fine as the clock.
    pub fn new(allowed: u32, window: i64) -> Self {
        let allowed = allowed.clamp(1, u32::try_from(window).unwrap_or(u32::MAX).max(1));
        Self { allowed, window, hasher: RandomState::new(), shards: Default::default() }
    }

    /// Counts one event of `key`, or says when the next may come.
    pub fn take(&self, key: impl Hash, now: Timestamp) -> Result<(), Limited> {
        let key = self.hasher.hash_one(key);
        let now = now.as_micros();
        // A panic while it was held can't have left the map half-changed.
        let mut shard = self.shard(key).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if shard.len() >= MOST && !shard.contains_key(&key) {
            shard.retain(|_, arrival| *arrival > now);
            if shard.len() >= MOST {
                let mut arrivals: Vec<i64> = shard.values().copied().collect();
                let (_, middle, _) = arrivals.select_nth_unstable(MOST / 2);
                let middle = *middle;
                shard.retain(|_, arrival| *arrival > middle);
            }
        }
        let arrival = shard.entry(key).or_insert(now);
        let next = (*arrival).max(now) + self.interval();
        if next - now > self.window {
            return Err(self.limited(next - now - self.window));
        }
        *arrival = next;
        Ok(())
    }

    /// Whether `key` has an event left, without counting one.
    pub fn peek(&self, key: impl Hash, now: Timestamp) -> Result<(), Limited> {
        let key = self.hasher.hash_one(key);
        let now = now.as_micros();
        let shard = self.shard(key).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let next = shard.get(&key).map_or(now, |arrival| (*arrival).max(now)) + self.interval();
        if next - now > self.window { Err(self.limited(next - now - self.window)) } else { Ok(()) }
    }

    /// Forgets the events of `key`.
    pub fn forgive(&self, key: impl Hash) {
        let key = self.hasher.hash_one(key);
        self.shard(key).lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&key);
    }

    fn shard(&self, key: u64) -> &Mutex<HashMap<u64, i64>> {
        &self.shards[key as usize % SHARDS]
    }

    fn interval(&self) -> i64 {
        self.window / i64::from(self.allowed)
    }

    fn limited(&self, wait: i64) -> Limited {
        let seconds = u32::try_from((wait + 999_999) / 1_000_000).unwrap_or(u32::MAX).max(1);
        let quota = Quota { limit: self.allowed, remaining: 0, reset_seconds: seconds };
        Limited { quota, retry_after_seconds: seconds }
    }
}

/// What counts as one caller: an IPv4 address, or the /64 that one IPv6 subscriber usually has.
pub fn rate_limit_prefix(address: IpAddr) -> IpAddr {
    match flowyte_core::address::canonical(address) {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_core::time::MINUTE;

    const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

    #[test]
    fn allows_so_many_in_a_window_for_each_key() {
        let meter = Meter::new(10, 15 * MINUTE);
        assert!((0..10).all(|_| meter.take("a", NOW).is_ok()));
        assert_eq!(meter.take("a", NOW).unwrap_err().retry_after_seconds, 90);
        assert!(meter.peek("a", NOW).is_err() && meter.peek("b", NOW).is_ok());
        assert!(meter.take("a", NOW.plus(90 * 1_000_000)).is_ok());
        meter.forgive("a");
        assert!(meter.peek("a", NOW).is_ok());
    }

    #[test]
    fn memory_is_bounded_whoever_comes() {
        let meter = Meter::new(10, MINUTE);
        for caller in 0..(SHARDS * MOST * 2) {
            let _ = meter.take(caller, NOW);
        }
        let kept: usize = meter.shards.iter().map(|it| it.lock().unwrap().len()).sum();
        assert!(kept <= SHARDS * MOST, "{kept}");
    }

    #[test]
    fn a_subscriber_is_one_caller() {
        let same =
            |a: &str, b: &str| rate_limit_prefix(a.parse().unwrap()) == rate_limit_prefix(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
    }
}
