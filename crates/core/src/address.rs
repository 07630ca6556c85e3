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
    /// Not an address.
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

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<AddressBlock>();
        }
    }
}
