//! US dollars between credits, which are whole cents, and the decimals that people and clients write. A binary fraction never stands
//! for money here: most cents have none.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;

/// Credits as dollars: in words for people `-12.50`, in JSON the number `-12.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usd(pub i64);

/// Why a number in JSON is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAmount {
    /// Not a number, or not as JSON writes one.
    #[error("must be a number")]
    NoNumber,
    /// Written with an exponent, such as `5e1`.
    #[error("must be written without an exponent")]
    Exponent,
    /// With a fraction of a cent, such as `5.001`.
    #[error("must have at most two decimals")]
    Decimals,
    /// More than a ledger holds.
    #[error("is too large")]
    TooLarge,
}

impl Usd {
    /// Reads an amount as it was sent. Clients that compute in doubles send 28.999999999999996 for 29, so what is off by less than
    /// [`NOISE`] is taken for the cent beside it.
    pub fn read(sent: &RawValue) -> Result<Self, NoAmount> {
        let text = sent.get();
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        if !digits.starts_with(|it: char| it.is_ascii_digit()) {
            return Err(NoAmount::NoNumber);
        }
        if digits.contains(['e', 'E']) {
            return Err(NoAmount::Exponent);
        }
        let (dollars, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let fraction: i64 = format!("{decimals:0<10.10}").parse().map_err(|_| NoAmount::NoNumber)?;
        let (cents, off) = (fraction / CENT, fraction % CENT);
        let cents = match off {
            0..NOISE => cents,
            _ if CENT - off < NOISE => cents + 1,
            _ => return Err(NoAmount::Decimals),
        };
        let dollars: i64 = dollars.parse().map_err(|_| NoAmount::TooLarge)?;
        let all = dollars.checked_mul(100).and_then(|it| it.checked_add(cents)).ok_or(NoAmount::TooLarge)?;
        Ok(Self(if negative { -all } else { all }))
    }
}

/// A cent, in the tenth decimal of a dollar.
const CENT: i64 = 100_000_000;
/// A hundred millionth of a dollar, in the same.
const NOISE: i64 = 100;

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:02}", self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100)
    }
}

/// With one decimal at least, as clients know it: `5.0`, `2.5`, `0.05`.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        let text = text.strip_suffix('0').unwrap_or(&text);
        RawValue::from_string(text.to_owned()).map_err(serde::ser::Error::custom)?.serialize(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<i64, NoAmount> {
        Usd::read(serde_json::from_str(text).unwrap()).map(|it| it.0)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(cents in prop_oneof![any::<i64>(), -20_000i64..20_000]) {
            prop_assume!(cents != i64::MIN);
            let written = serde_json::to_string(&Usd(cents)).unwrap();
            prop_assert_eq!(read(&written), Ok(cents), "{}", written);
            prop_assert_eq!(read(&Usd(cents).to_string()), Ok(cents));
            prop_assert_eq!(read(&format!("{}000", Usd(cents))), Ok(cents));
        }

        /// Amounts are written as they were while a double stood between, as far as that one was exact.
        #[test]
        fn what_clients_see_stays(cents in -1_000_000_000_000i64..1_000_000_000_000) {
            prop_assert_eq!(
                serde_json::to_string(&Usd(cents)).unwrap(),
                serde_json::to_string(&(cents as f64 / 100.0)).unwrap()
            );
        }

        #[test]
        fn a_third_decimal_is_refused(dollars in 0u32..20_000, decimals in "[0-9]{2}[1-8][0-9]{0,30}") {
            prop_assert_eq!(read(&format!("{dollars}.{decimals}")), Err(NoAmount::Decimals));
        }

        #[test]
        fn what_doubles_make_of_cents_is_the_cents(cents in 1u32..1_000_000, factor in 1u32..100) {
            let computed = f64::from(cents) / 100.0 / f64::from(factor) * f64::from(factor);
            prop_assert_eq!(read(&serde_json::to_string(&computed).unwrap()), Ok(cents.into()));
        }

        #[test]
        fn nothing_panics(text in "-?[0-9]{0,25}\\.?[0-9]{0,25}([eE][+-]?[0-9]{1,3})?") {
            if let Ok(sent) = serde_json::from_str::<Box<RawValue>>(&text) {
                let _ = Usd::read(&sent);
            }
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for (text, why) in [
            ("5e1", NoAmount::Exponent),
            ("5.00E0", NoAmount::Exponent),
            ("1e300", NoAmount::Exponent),
            ("0.001", NoAmount::Decimals),
            ("0.07000001", NoAmount::Decimals),
            ("0.06999999", NoAmount::Decimals),
            ("92233720368547758.08", NoAmount::TooLarge),
            ("99999999999999999999999999", NoAmount::TooLarge),
            ("\"5\"", NoAmount::NoNumber),
            ("null", NoAmount::NoNumber),
            ("[5]", NoAmount::NoNumber),
        ] {
            assert_eq!(read(text), Err(why), "{text}");
        }
        for (text, cents) in [
            ("5", 500),
            ("5.0", 500),
            ("0.07", 7),
            ("4.10", 410),
            ("-0", 0),
            ("1.500000", 150),
            ("28.999999999999996", 2_900),
            ("0.070000009", 7),
        ] {
            assert_eq!(read(text), Ok(cents), "{text}");
        }
        for text in ["NaN", "Infinity", "+5", "05", ".5", "5.", "0x5", "5,00"] {
            assert!(serde_json::from_str::<&RawValue>(text).is_err(), "{text}");
        }
    }
}
