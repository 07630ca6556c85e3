//! Typed identifiers: a prefix that names the type, `_`, and a UUIDv7 (RFC 9562 §5.7) as 32 lower-case hex digits.
//!
//! There is one spelling of each id: upper case, braces, hyphens and padding are other texts, which name nothing.

use std::fmt;

/// What every typed id can do; lets storage and rendering treat them alike.
pub trait Id: Copy + Eq + std::hash::Hash + fmt::Display {
    /// The word before the underscore.
    const PREFIX: &'static str;
    /// The sixteen bytes of the UUID.
    fn as_bytes(&self) -> &[u8; 16];
    /// From the sixteen bytes of a UUID.
    fn from_bytes(bytes: [u8; 16]) -> Self;

    /// A new id from the instant of creation and ten random bytes.
    fn generate(now: crate::Timestamp, random: [u8; 10]) -> Self {
        Self::from_bytes(uuid_v7(now, random))
    }

    /// Reads the one canonical spelling; everything else is `None`.
    fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(Self::PREFIX)?.strip_prefix('_')?;
        parse_hex(hex).map(Self::from_bytes)
    }
}

fn uuid_v7(now: crate::Timestamp, random: [u8; 10]) -> [u8; 16] {
    let millis = now.as_millis().to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis[2..]);
    bytes[6..].copy_from_slice(&random);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    bytes
}

fn parse_hex(hex: &str) -> Option<[u8; 16]> {
    let digits = hex.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Sixteen bytes as lower-case hexadecimal digits, written into `digits`: ids stand in every answer and every line of the log.
pub fn hex<'d>(bytes: &[u8; 16], digits: &'d mut [u8; 32]) -> &'d str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0x0f)];
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

/// Declares types of ids: `/// What it names.` and `Name = "prefix";` for each.
#[macro_export]
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $crate::id::Id for $name {
            const PREFIX: &'static str = $prefix;
            fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
            fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                f.write_str($crate::id::hex(&self.0, &mut [0; 32]))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    )*};
}

ids! {
    /// An organization: the isolation boundary.
    OrganizationId = "org";
    /// A person who signs in.
    UserId = "user";
    /// A user's membership of one organization.
    MemberId = "mem";
    /// An open invitation to an organization.
    InviteId = "inv";
    /// A secret key; it stays the same when the key's secret is rotated.
    SecretKeyId = "key";
    /// A publishable key; it stays the same when the key is rotated.
    PublishableKeyId = "pubkey";
    /// A signed-in session of a person's browser.
    SessionId = "sess";
    /// A visitor's session behind a widget.
    VisitorId = "visit";
    /// An entry of an organization's audit log.
    AuditEventId = "evt";
    /// The resource that a publishable key is pinned to. In this API that is an agent, which the prefix says.
    ResourceId = "agent";
    /// What a replica keeps of any credential, whatever its kind.
    CredentialId = "cred";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use proptest::prelude::*;

    #[test]
    fn ids_order_by_creation_and_are_version_7() {
        let first = SecretKeyId::generate(Timestamp::from_micros(1_000_000), [0xff; 10]);
        let second = SecretKeyId::generate(Timestamp::from_micros(1_001_000), [0; 10]);
        assert!(first < second);
        assert_eq!(first.as_bytes()[6] >> 4, 7);
        assert_eq!(first.as_bytes()[8] >> 6, 2);
    }

    proptest! {
        #[test]
        fn parse_inverts_display(bytes: [u8; 16]) {
            let id = SecretKeyId::from_bytes(bytes);
            prop_assert_eq!(SecretKeyId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn one_spelling_only(text in "\\PC{0,48}") {
            if let Some(id) = SecretKeyId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn other_spellings_name_nothing() {
        let id = SecretKeyId::from_bytes([0xab; 16]).to_string();
        for other in [
            id.to_uppercase(),
            format!(" {id}"),
            format!("{id} "),
            id.replace("key", "agent"),
            id.replacen("ab", "AB", 1),
        ] {
            assert_eq!(SecretKeyId::parse(&other), None, "{other}");
        }
    }
}
