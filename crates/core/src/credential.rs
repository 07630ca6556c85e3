//! How credentials are written and where a request may carry them.
//!
//! `flowyte_<kind>_<env>_<30 base62><6 base62 of CRC-32>` for keys, the same without `env_` for session, visitor and
//! one-time tokens. The CRC-32 (IEEE) covers everything before it. A text that fails here costs no look-up.

use crate::facts::{Field, RequestFacts};
use crate::{Denial, Operation};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM: usize = 30;
const CHECKSUM: usize = 6;
/// Length of the random part with its checksum: what a digest covers.
pub const BODY: usize = RANDOM + CHECKSUM;

/// What kind of credential a text says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// `sk`: a backend's key.
    SecretKey,
    /// `pk`: a widget's key.
    PublishableKey,
    /// `st`: a browser session, in a cookie.
    Session,
    /// `vt`: a visitor's session.
    Visitor,
    /// `it`: a set-up or invite token, used once in a request body.
    OneTime,
}

impl CredentialKind {
    /// All five kinds, in the order of their declaration.
    pub const ALL: [Self; 5] =
        [Self::SecretKey, Self::PublishableKey, Self::Session, Self::Visitor, Self::OneTime];

    /// The kind's two letters in a credential.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::SecretKey => "sk",
            Self::PublishableKey => "pk",
            Self::Session => "st",
            Self::Visitor => "vt",
            Self::OneTime => "it",
        }
    }

    /// The kind's name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecretKey => "secret_key",
            Self::PublishableKey => "publishable_key",
            Self::Session => "session",
            Self::Visitor => "visitor",
            Self::OneTime => "one_time_token",
        }
    }

    /// Whether credentials of this kind say their environment.
    pub const fn has_environment(self) -> bool {
        matches!(self, Self::SecretKey | Self::PublishableKey)
    }

    /// This kind as a one-element set.
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Which world a credential acts in. `test` never reaches a real carrier, payment provider or paid model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Environment {
    /// Reaches the carrier, the payment provider and the model that the operator chose.
    Live,
    /// Never reaches a real carrier, payment provider or paid model; sandboxes take their places.
    Test,
}

impl Environment {
    /// The name in credentials and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// The environment with exactly this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Live, Self::Test].into_iter().find(|env| env.as_str() == name)
    }
}

/// The first word of every credential: `flowyte`, or what an operator who guards their own API chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brand(String);

impl Default for Brand {
    fn default() -> Self {
        Self("flowyte".into())
    }
}

impl Brand {
    /// 2 to 16 lower-case letters and digits, beginning with a letter; otherwise `None`.
    pub fn new(word: &str) -> Option<Self> {
        let fits = (2..=16).contains(&word.len())
            && word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        fits.then(|| Self(word.into()))
    }

    /// The word that stands before the first `_` of a credential.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the credential begins with, up to its random part: `flowyte_sk_live_`.
    pub fn prefix(&self, kind: CredentialKind, environment: Environment) -> String {
        let tag = kind.tag();
        match kind.has_environment() {
            true => format!("{}_{tag}_{}_", self.0, environment.as_str()),
            false => format!("{}_{tag}_", self.0),
        }
    }

    /// Writes a credential from 30 alphabet indices (each 0 to 61).
    pub fn format(&self, kind: CredentialKind, environment: Environment, random: &[u8; RANDOM]) -> Secret {
        let mut text = self.prefix(kind, environment);
        text.extend(random.iter().map(|index| char::from(ALPHABET[usize::from(index % 62)])));
        let check = checksum(text.as_bytes());
        text.extend(check.iter().map(|b| char::from(*b)));
        Secret(text)
    }

    /// Reads a credential: brand, kind, environment, length, alphabet, checksum. Byte-exact; nothing is trimmed or folded.
    pub fn parse<'a>(&self, text: &'a str) -> Option<Presented<'a>> {
        let bytes = text.as_bytes();
        let rest = bytes.strip_prefix(self.0.as_bytes())?.strip_prefix(b"_")?;
        let kind = CredentialKind::ALL.into_iter().find(|kind| rest.starts_with(kind.tag().as_bytes()))?;
        let rest = rest[2..].strip_prefix(b"_")?;
        let (environment, body) = match kind.has_environment() {
            false => (Environment::Live, rest),
            true => match (rest.strip_prefix(b"live_"), rest.strip_prefix(b"test_")) {
                (Some(body), _) => (Environment::Live, body),
                (_, Some(body)) => (Environment::Test, body),
                _ => return None,
            },
        };
        if body.len() != BODY || !body.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let covered = bytes.len() - CHECKSUM;
        (checksum(&bytes[..covered]) == bytes[covered..]).then(|| Presented {
            kind,
            environment,
            body: &text[text.len() - BODY..],
        })
    }
}

/// CRC-32 (IEEE 802.3) as six base62 digits, zero-padded.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut rest = crc32fast::hash(bytes);
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// Turns random bytes into alphabet indices without bias: bytes above 247 are skipped. `None` when too few are left.
pub fn random_indices(random: &[u8]) -> Option<[u8; RANDOM]> {
    let mut indices = [0; RANDOM];
    let mut fair = random.iter().filter(|byte| **byte < 248).map(|byte| byte % 62);
    for index in &mut indices {
        *index = fair.next()?;
    }
    Some(indices)
}

/// A credential in full, shown once. Wiped on drop; never printed by `Debug`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one answer or cookie that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The part a digest covers.
    pub fn body(&self) -> &str {
        &self.0[self.0.len() - BODY..]
    }

    /// The last four characters, which tables show.
    pub fn last4(&self) -> &str {
        &self.0[self.0.len() - 4..]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A well-formed credential as a request carried it; borrowed, not yet known to be anybody's.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    kind: CredentialKind,
    environment: Environment,
    body: &'a str,
}

impl<'a> Presented<'a> {
    /// The kind it says it is.
    pub const fn kind(&self) -> CredentialKind {
        self.kind
    }

    /// The environment it says it is for; `Live` for kinds that do not say.
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// The part a digest covers.
    pub const fn body(&self) -> &'a str {
        self.body
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presented({}, ..)", self.kind.as_str())
    }
}

/// Finds the one credential of a request, or none. Carriers: `Authorization: Bearer`, the session cookie, and the query
/// only where the operation says so. A header that can't be read is invalid, never absent.
pub fn present<'a>(
    brand: &Brand,
    operation: &Operation,
    facts: &RequestFacts<'a>,
) -> Result<Option<Presented<'a>>, Denial> {
    let in_query = facts.query.and_then(|query| query_credential(brand, operation, query));
    match (facts.authorization, in_query) {
        (Field::Many, _) | (Field::One(_), Some(_)) => Err(Denial::MalformedRequest(
            "The request carries more than one credential; send one, in one Authorization header.",
        )),
        (Field::One(header), None) => bearer(header)
            .and_then(|token| brand.parse(token))
            .filter(|it| !matches!(it.kind, CredentialKind::Session | CredentialKind::OneTime))
            .map(Some)
            .ok_or(Denial::InvalidCredential),
        (Field::None, Some(InQuery::Accepted(text))) => brand
            .parse(text)
            .filter(|it| it.kind == CredentialKind::PublishableKey)
            .map(Some)
            .ok_or(Denial::InvalidCredential),
        (Field::None, _) if operation.is_public() => match in_query {
            Some(_) => Err(Denial::MalformedRequest("A credential must not be sent in the query string.")),
            None => Ok(None),
        },
        (Field::None, Some(InQuery::Refused)) => Err(Denial::MissingCredential),
        (Field::None, None) => match facts.session_cookie {
            Field::None => Err(Denial::MissingCredential),
            Field::Many => Err(Denial::MalformedRequest("The request carries more than one session cookie.")),
            Field::One(cookie) => brand
                .parse(cookie)
                .filter(|it| it.kind == CredentialKind::Session)
                .map(Some)
                .ok_or(Denial::InvalidCredential),
        },
    }
}

#[derive(Clone, Copy)]
enum InQuery<'a> {
    Accepted(&'a str),
    Refused,
}

fn query_credential<'a>(brand: &Brand, operation: &Operation, query: &'a str) -> Option<InQuery<'a>> {
    let mut found = None;
    for (name, value) in query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        if operation.query_credential.as_deref() == Some(name) {
            found = match found {
                None => Some(InQuery::Accepted(value)),
                Some(_) => Some(InQuery::Refused),
            };
        } else if brand.parse(value).is_some() {
            return Some(InQuery::Refused);
        }
    }
    found
}

/// RFC 6750 §2.1 with RFC 9110 §11.1: the scheme in any case, one or more spaces, the token.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case("bearer") || !rest.starts_with(' ') {
        return None;
    }
    Some(rest.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = CredentialKind> {
        prop::sample::select(CredentialKind::ALL.to_vec())
    }

    fn environments() -> impl Strategy<Value = Environment> {
        prop::sample::select(vec![Environment::Live, Environment::Test])
    }

    proptest! {
        #[test]
        fn parse_inverts_format(kind in kinds(), env in environments(), random: [u8; RANDOM]) {
            let secret = Brand::default().format(kind, env, &random);
            let read = Brand::default().parse(secret.expose()).unwrap();
            prop_assert_eq!(read.kind(), kind);
            prop_assert_eq!(read.body(), secret.body());
            if kind.has_environment() {
                prop_assert_eq!(read.environment(), env);
                prop_assert_eq!(secret.expose().len(), 52);
            }
        }

        #[test]
        fn one_changed_byte_is_refused(kind in kinds(), random: [u8; RANDOM], at: prop::sample::Index, byte in 0u8..128) {
            let secret = Brand::default().format(kind, Environment::Live, &random);
            let mut bytes = secret.expose().as_bytes().to_vec();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            prop_assert!(Brand::default().parse(std::str::from_utf8(&bytes).unwrap()).is_none());
        }

        #[test]
        fn never_panics(text in "(flowyte_)?\\PC{0,60}") {
            let _ = Brand::default().parse(&text);
            let _ = bearer(&text);
        }
    }

    #[test]
    fn a_golden_key_stays_valid() {
        let golden = Brand::default().format(CredentialKind::SecretKey, Environment::Live, &[7; RANDOM]);
        assert_eq!(golden.expose(), concat!("flowyte_sk_live_", "777777777777777777777777777777", "2vpx3s"));
    }

    #[test]
    fn secrets_show_nothing() {
        let secret = Brand::default().format(CredentialKind::SecretKey, Environment::Live, &[1; RANDOM]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let presented = Brand::default().parse(secret.expose()).unwrap();
        assert_eq!(format!("{presented:?}"), "Presented(secret_key, ..)");
    }

    #[test]
    fn random_indices_are_fair_or_nothing() {
        assert_eq!(random_indices(&[255; 64]), None);
        assert_eq!(random_indices(&[61; 30]), Some([61; 30]));
    }

    #[test]
    fn bearer_schemes() {
        for (header, token) in [
            ("Bearer x", Some("x")),
            ("bearer x", Some("x")),
            ("BEARER  x", Some("x")),
            ("Bearer\tx", None),
            ("Bearer", None),
            ("Bearer ", Some("")),
            ("Basic x", None),
            ("Bearer=x", None),
            ("x", None),
            ("Béarer x", None),
        ] {
            assert_eq!(bearer(header), token, "{header}");
        }
    }
}
