//! Address lists: CIDR blocks a secret key may be used from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses in CIDR notation (RFC 4632, RFC 4291 §2.3). Host bits must be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressBlock {
    network: u128,
    prefix: u8,
    v4: bool,
}

/// What is wrong with a text that should be an address block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidAddressBlock {
    /// What stands before the slash is neither IPv4 nor IPv6.
    Address,
    /// Not a number from 0 to 32 (IPv4) or 128 (IPv6).
    Prefix,
    /// Bits after the prefix are set: another block was meant.
    HostBits,
}

impl fmt::Display for InvalidAddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not an IPv4 or IPv6 address",
            Self::Prefix => "the prefix length is not 0 to 32 (IPv4) or 0 to 128 (IPv6)",
            Self::HostBits => "the address has bits set after the prefix; clear them or lengthen the prefix",
        })
    }
}

impl std::error::Error for InvalidAddressBlock {}

/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is the IPv4 address: one canonical form before anything is compared.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl AddressBlock {
    /// Whether the canonical form of `address` is in this block.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, v4) = bits(canonical(address));
        v4 == self.v4 && mask(bits, self.prefix, self.v4) == self.network
    }

    /// Whether every address of `other` is in this block.
    pub fn holds(&self, other: &Self) -> bool {
        other.v4 == self.v4
            && other.prefix >= self.prefix
            && mask(other.network, self.prefix, self.v4) == self.network
    }

    /// The first address and the last.
    fn span(&self) -> (u128, u128) {
        let host = if self.v4 { 32 } else { 128 } - u32::from(self.prefix);
        let hosts = u128::MAX.checked_shr(128 - host).unwrap_or(0);
        (self.network, self.network | hosts)
    }
}

/// Addresses from a list of blocks, whatever the blocks' order and overlaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    /// First and last addresses of each run, IPv4 and IPv6 apart; in order, and neither overlapping nor adjoining.
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSet {
    /// A list that no address is in, so nobody is let in.
    pub const NOWHERE: Self = Self { v4: Vec::new(), v6: Vec::new() };

    /// What the address list of a key admits: an empty list admits every address.
    pub fn admitted(list: &[AddressBlock]) -> Self {
        if list.is_empty() {
            return Self { v4: vec![(0, u32::MAX.into())], v6: vec![(0, u128::MAX)] };
        }
        let of = |v4| runs(list.iter().filter(|block| block.v4 == v4).map(AddressBlock::span).collect());
        Self { v4: of(true), v6: of(false) }
    }

    /// Whether every address of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        // Runs do not adjoin, so what is covered at all lies within one of them.
        let within =
            |all: &[(u128, u128)], it: &(u128, u128)| all.iter().any(|run| run.0 <= it.0 && it.1 <= run.1);
        other.v4.iter().all(|it| within(&self.v4, it)) && other.v6.iter().all(|it| within(&self.v6, it))
    }
}

/// Spans in order, with those that overlap or adjoin made one.
fn runs(mut spans: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    spans.sort_unstable();
    let mut runs: Vec<(u128, u128)> = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match runs.last_mut() {
            Some(run) if first <= run.1.saturating_add(1) => run.1 = run.1.max(last),
            _ => runs.push((first, last)),
        }
    }
    runs
}

fn bits(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), true),
        IpAddr::V6(v6) => (u128::from(v6), false),
    }
}

fn mask(bits: u128, prefix: u8, v4: bool) -> u128 {
    let width: u32 = if v4 { 32 } else { 128 };
    let host = width - u32::from(prefix);
    if host == 128 { 0 } else { bits >> host << host }
}

impl FromStr for AddressBlock {
    type Err = InvalidAddressBlock;

    fn from_str(text: &str) -> Result<Self, InvalidAddressBlock> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| InvalidAddressBlock::Address)?;
        let mapped = written != canonical(written);
        let (bits, v4) = bits(canonical(written));
        let longest: u8 = if v4 { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            // A prefix on a mapped address counts from the IPv6 side; refuse it rather than guess.
            Some(_) if mapped => return Err(InvalidAddressBlock::Prefix),
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|n| *n <= longest).ok_or(InvalidAddressBlock::Prefix)?
            }
            Some(_) => return Err(InvalidAddressBlock::Prefix),
        };
        let network = mask(bits, prefix, v4);
        if network != bits {
            return Err(InvalidAddressBlock::HostBits);
        }
        Ok(Self { network, prefix, v4 })
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match self.v4 {
            true => IpAddr::V4((self.network as u32).into()),
            false => IpAddr::V6(Ipv6Addr::from(self.network)),
        };
        write!(f, "{address}/{}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks() {
        let block: AddressBlock = "10.0.0.0/8".parse().unwrap();
        assert!(block.contains("10.255.0.1".parse().unwrap()));
        assert!(block.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!block.contains("11.0.0.1".parse().unwrap()));
        assert!(!block.contains("::a00:1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<AddressBlock>().unwrap().contains("192.0.2.1".parse().unwrap()));
        assert!(!"0.0.0.0/0".parse::<AddressBlock>().unwrap().contains("2001:db8::1".parse().unwrap()));
        for bad in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/08x",
            "010.0.0.1",
            "10.1",
            "fe80::1%eth0",
            "::ffff:10.0.0.0/104",
            "2001:db8::/129",
            "localhost",
        ] {
            assert!(bad.parse::<AddressBlock>().is_err(), "{bad}");
        }
    }

    /// Blocks of 10.0.0.0/28 and 2001:db8::/124, and now and then everything of a family.
    fn corner() -> impl Strategy<Value = AddressBlock> {
        let block = |v4: bool, low: u128, prefix: u8| {
            let (network, width) = if v4 { (0x0a00_0000, 28) } else { (0x2001_0db8 << 96, 124) };
            let prefix = width + prefix;
            AddressBlock { network: mask(network | low, prefix, v4), prefix, v4 }
        };
        let family = |v4| AddressBlock { network: 0, prefix: 0, v4 };
        prop_oneof![
            12 => (any::<bool>(), 0u128..16, 0u8..=4).prop_map(move |(v4, low, prefix)| block(v4, low, prefix)),
            1 => any::<bool>().prop_map(family),
        ]
    }

    /// Every address of the corner, and one of each family outside of it, where blocks that reach there have all addresses alike.
    fn every() -> impl Iterator<Item = IpAddr> {
        let v6 = (0..16u128).map(|low| IpAddr::V6(Ipv6Addr::from(0x2001_0db8 << 96 | low)));
        let outside = ["192.0.2.1", "2001:db9::1"].into_iter().filter_map(|it| it.parse().ok());
        (0..16u32).map(|low| IpAddr::V4((0x0a00_0000 | low).into())).chain(v6).chain(outside)
    }

    #[test]
    fn two_halves_are_the_whole() {
        let set = |list: &[&str]| {
            AddressSet::admitted(&list.iter().map(|it| it.parse().unwrap()).collect::<Vec<_>>())
        };
        assert!(set(&["10.0.0.128/25", "10.0.0.0/25"]).covers(&set(&["10.0.0.0/24"])));
        assert!(!set(&["10.0.0.0/25"]).covers(&set(&["10.0.0.0/24"])));
        assert!(set(&["0.0.0.0/1", "128.0.0.0/1", "::/0"]).covers(&set(&[])));
        assert!(!set(&["0.0.0.0/0"]).covers(&set(&[])) && !set(&["0.0.0.0/0"]).covers(&set(&["::/0"])));
    }

    proptest! {
        #[test]
        fn display_inverts_parse(bits: u128, v4: bool, prefix in 0u8..=128) {
            let prefix = if v4 { prefix.min(32) } else { prefix };
            let bits = if v4 { u128::from(bits as u32) } else { bits };
            let block = AddressBlock { network: mask(bits, prefix, v4), prefix, v4 };
            // Mapped addresses canonicalise to IPv4, so they are not written as IPv6 blocks.
            prop_assume!(v4 || block.network >> 32 != 0xffff);
            prop_assert_eq!(block.to_string().parse::<AddressBlock>(), Ok(block));
        }

        /// In a corner of both families that is small enough to look at every address of it.
        #[test]
        fn a_set_covers_another_just_where_it_has_every_address_of_it(
            old in proptest::collection::vec(corner(), 0..6), new in proptest::collection::vec(corner(), 0..6),
        ) {
            let has = |list: &[AddressBlock], address| list.is_empty() || list.iter().any(|it| it.contains(address));
            let all = every().all(|address| has(&old, address) || !has(&new, address));
            prop_assert_eq!(AddressSet::admitted(&old).covers(&AddressSet::admitted(&new)), all);
        }

        #[test]
        fn any_set_covers_itself_its_parts_and_nowhere(list in proptest::collection::vec(corner(), 1..6), one in 0usize..6) {
            let set = AddressSet::admitted(&list);
            let part = AddressSet::admitted(&list[one % list.len()..]);
            prop_assert!(set.covers(&set) && set.covers(&part) && set.covers(&AddressSet::NOWHERE));
            prop_assert!(AddressSet::admitted(&[]).covers(&set) && !AddressSet::NOWHERE.covers(&set));
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<AddressBlock>();
        }
    }
}
