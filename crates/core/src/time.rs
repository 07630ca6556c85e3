//! Instants as integers: microseconds since the Unix epoch, UTC.

use std::fmt;
use std::str::FromStr;

/// Microseconds in one second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in one minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Microseconds in one hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds in one day.
pub const DAY: i64 = 24 * HOUR;

/// An instant, microseconds since 1970-01-01T00:00:00Z. Displays as RFC 3339 in UTC with milliseconds or better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Later than every instant we accept: "never".
    pub const NEVER: Self = Self(i64::MAX);

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, for identifiers.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// This instant moved by `micros`, held at the ends of the range instead of overflowing.
    pub const fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this instant; negative when `earlier` is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The UTC calendar day as `YYYY-MM-DD`.
    pub fn day(self) -> String {
        self.to_string().chars().take(10).collect()
    }

    /// `None` for [`Timestamp::NEVER`], the instant otherwise: how an expiry is shown and stored.
    pub fn unless_never(self) -> Option<Self> {
        (self != Self::NEVER).then_some(self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) if self.0 % 1_000 == 0 => write!(f, "{at:.3}"),
            Ok(at) => write!(f, "{at:.6}"),
            Err(_) => f.write_str("never"),
        }
    }
}

/// What is wrong with a text that should be an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTimestamp;

impl fmt::Display for InvalidTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 instant, like 2027-01-31T12:00:00Z")
    }
}

impl std::error::Error for InvalidTimestamp {}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// RFC 3339 §5.6 with an offset; anything finer than a microsecond is cut off.
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        if text.len() > 40 || !text.is_ascii() {
            return Err(InvalidTimestamp);
        }
        let at: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        Ok(Self(at.as_microsecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc_3339() {
        let at: Timestamp = "2026-11-24T05:00:00+01:00".parse().unwrap();
        assert_eq!(at.to_string(), "2026-11-24T04:00:00.000Z");
        assert_eq!(at.plus(1).to_string(), "2026-11-24T04:00:00.000001Z");
        assert_eq!(at.day(), "2026-11-24");
        for bad in ["", "tomorrow", "2026-11-24", "2026-13-01T00:00:00Z", "1e9", "9223372036854775807"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Timestamp::NEVER.plus(DAY), Timestamp::NEVER);
        assert_eq!(Timestamp::from_micros(i64::MIN).since(Timestamp::NEVER), i64::MIN);
    }
}
