//! What holds a secret key back, and whether a change loosens it. Whoever loosens a key grants what it can do from then on, as
//! whoever mints one does.

use crate::address::AddressSet;
use crate::{ScopeSet, Timestamp};

/// Everything that holds a secret key back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restraints {
    /// Scopes that it grants; fewer is tighter.
    pub scopes: ScopeSet,
    /// Where it may be used from.
    pub addresses: AddressSet,
    /// Calls a minute; `None`: no limit of its own.
    pub rate_limit_rpm: Option<u32>,
    /// First instant at which it no longer works.
    pub expires_at: Timestamp,
}

impl Restraints {
    /// Whether `new` lets through anything that this does not: a scope, an address, one more call, a later instant.
    pub fn loosened_by(&self, new: &Self) -> bool {
        let within = |most: Option<u32>, asked: Option<u32>| match (most, asked) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(most), Some(asked)) => asked <= most,
        };
        !(self.scopes.covers(new.scopes)
            && self.addresses.covers(&new.addresses)
            && within(self.rate_limit_rpm, new.rate_limit_rpm)
            && new.expires_at <= self.expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::AddressBlock;
    use proptest::prelude::*;

    const NOW: i64 = 1_790_000_000_000_000;

    fn some() -> impl Strategy<Value = Restraints> {
        let blocks = vec!["10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25", "2001:db8::/32", "0.0.0.0/0"];
        let lists = proptest::collection::vec(proptest::sample::select(blocks), 0..3);
        let expiry = prop_oneof![
            (0i64..4).prop_map(|days| Timestamp::from_micros(NOW + days)),
            Just(Timestamp::NEVER)
        ];
        (0u128..8, lists, proptest::option::of(1u32..4), expiry).prop_map(
            |(bits, list, rate_limit_rpm, expires_at)| {
                let list: Vec<AddressBlock> = list.iter().filter_map(|it| it.parse().ok()).collect();
                let (scopes, addresses) = (ScopeSet::from_bits(bits), AddressSet::admitted(&list));
                Restraints { scopes, addresses, rate_limit_rpm, expires_at }
            },
        )
    }

    /// Whether it lets a call through: with this scope, from this address, as the nth of a minute, at this instant.
    fn lets(it: &Restraints, bit: u32, from: &AddressSet, nth: u32, at: Timestamp) -> bool {
        it.scopes.covers(ScopeSet::from_bits(1 << bit))
            && it.addresses.covers(from)
            && it.rate_limit_rpm.is_none_or(|most| nth <= most)
            && at < it.expires_at
    }

    proptest! {
        #[test]
        fn a_change_that_does_not_loosen_lets_nothing_new_through(old in some(), new in some()) {
            let from: Vec<AddressSet> = ["10.0.0.1", "10.0.0.200", "10.0.1.1", "2001:db8::1", "2001:db9::1"]
                .iter().map(|it| AddressSet::admitted(&[it.parse().unwrap()])).collect();
            let loosens = old.loosened_by(&new);
            for bit in 0..3 { for from in &from { for nth in 1..5 { for at in -1..5 {
                let at = Timestamp::from_micros(NOW + at);
                prop_assert!(loosens || !lets(&new, bit, from, nth, at) || lets(&old, bit, from, nth, at));
            } } } }
        }

        #[test]
        fn it_is_an_order(a in some(), b in some(), c in some()) {
            prop_assert!(!a.loosened_by(&a));
            prop_assert!(a.loosened_by(&b) || b.loosened_by(&c) || !a.loosened_by(&c));
        }

        /// Each of the four alone is enough.
        #[test]
        fn each_restraint_counts(old in some()) {
            let looser = [
                Restraints { scopes: old.scopes.union(ScopeSet::from_bits(8)), ..old.clone() },
                Restraints { expires_at: old.expires_at.plus(1), ..old.clone() },
                Restraints { rate_limit_rpm: None, ..old.clone() },
                Restraints { rate_limit_rpm: old.rate_limit_rpm.map(|it| it + 1), ..old.clone() },
                Restraints { addresses: AddressSet::admitted(&[]), ..old.clone() },
            ];
            for new in looser {
                prop_assert_eq!(old.loosened_by(&new), new != old, "{:?}", new);
            }
        }
    }
}
