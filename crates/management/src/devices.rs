//! Devices that an account signed in from before. Each holds a signed cookie, and its failed sign-ins are counted apart from those
//! of everybody else, so that strangers who guess lock nobody out of the devices they use.
//!
//! See "Slow Down Online Guessing Attacks with Device Cookies", OWASP. A cookie is one account's, and ends with its password.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use flowyte_core::Pepper;
use flowyte_core::id::{Id, UserId};
use flowyte_core::time::DAY;
use flowyte_store::accounts::UserRow;
use flowyte_verifier::Verifier;
use flowyte_verifier::clock::NoEntropy;
use flowyte_verifier::seal::keyed;

/// How long a device is known, in seconds; browsers keep no cookie longer.
pub const LIFE: i64 = 400 * DAY / flowyte_core::time::SECOND;
/// Device cookies of one request that are looked at.
const MOST: usize = 8;
/// What their signatures are for.
const PURPOSE: &str = "device-cookie";

/// What tells a device apart from others of the same account.
pub type Nonce = [u8; 16];

/// A device cookie as it was sent. Nothing about it is proved until the account is known.
#[derive(Clone)]
pub struct Device {
    user: UserId,
    nonce: Nonce,
    signature: Vec<u8>,
}

/// The name of an account's cookie.
pub fn cookie_name(verifier: &Verifier, user: UserId) -> String {
    format!("{}{}", prefix(verifier), hex::encode(user.as_bytes()))
}

fn prefix(verifier: &Verifier) -> &'static str {
    if verifier.is_https() { "__Host-flowyte_device_" } else { "flowyte_device_" }
}

/// The device cookies of a request.
pub fn sent<'c>(verifier: &Verifier, cookies: impl Iterator<Item = &'c str>) -> Vec<Device> {
    let pairs = cookies.flat_map(|it| it.split(';'));
    pairs.filter_map(|pair| read(pair.trim().strip_prefix(prefix(verifier))?)).take(MOST).collect()
}

/// Reads the value of a device cookie, `account=nonce.signature`, each part in hexadecimal digits; `None` where it is of another form.
fn read(text: &str) -> Option<Device> {
    let (user, rest) = text.split_once('=')?;
    let (nonce, signature) = rest.split_once('.')?;
    let bytes = |text: &str| hex::decode(text).ok()?.try_into().ok();
    Some(Device {
        user: UserId::from_bytes(bytes(user)?),
        nonce: bytes(nonce)?,
        signature: hex::decode(signature).ok()?,
    })
}

impl Device {
    /// The device's nonce, if it is one from which this account signed in with the password it has now.
    pub fn of(&self, verifier: &Verifier, user: &UserRow) -> Option<Nonce> {
        let signed = |pepper: &Pepper| {
            verify_slices_are_equal(&sign(pepper, user, &self.nonce), &self.signature).is_ok()
        };
        (self.user == user.id && verifier.peppers.iter().any(signed)).then_some(self.nonce)
    }

    /// The account it claims to be of.
    pub const fn user(&self) -> UserId {
        self.user
    }
}

/// What an account's cookie holds. A device that is known keeps its nonce.
pub fn value(verifier: &Verifier, user: &UserRow, known: &[Device]) -> Result<String, NoEntropy> {
    let nonce = match known.iter().find_map(|it| it.of(verifier, user)) {
        Some(nonce) => nonce,
        None => verifier.random()?,
    };
    let signature = sign(verifier.peppers.current(), user, &nonce);
    Ok(format!("{}.{}", hex::encode(nonce), hex::encode(signature)))
}

fn sign(pepper: &Pepper, user: &UserRow, nonce: &Nonce) -> [u8; 32] {
    keyed(pepper, PURPOSE, &[&nonce[..], user.id.as_bytes(), user.password_hash.as_bytes()].concat())
}
