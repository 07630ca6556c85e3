//! Devices that an account signed in from before. Each holds a signed cookie, and its failed sign-ins are counted apart from those
//! of everybody else, so that strangers who guess lock nobody out of the devices they use.
//!
//! See "Slow Down Online Guessing Attacks with Device Cookies", OWASP. A cookie is one account's, and ends with its password.

use crate::app::App;
use crate::clock::NoEntropy;
use crate::seal::keyed;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use flowyte_core::Pepper;
use flowyte_core::id::{Id, UserId};
use flowyte_core::time::DAY;
use flowyte_store::accounts::UserRow;
use http::HeaderMap;
use http::header::COOKIE;

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
pub fn cookie_name(app: &App, user: UserId) -> String {
    format!("{}{}", prefix(app), hex::encode(user.as_bytes()))
}

fn prefix(app: &App) -> &'static str {
    if app.config.is_https() { "__Host-flowyte_device_" } else { "flowyte_device_" }
}

/// The device cookies of a request.
pub fn sent(app: &App, headers: &HeaderMap) -> Vec<Device> {
    let pairs =
        headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok()).flat_map(|it| it.split(';'));
    pairs.filter_map(|pair| read(pair.trim().strip_prefix(prefix(app))?)).take(MOST).collect()
}

/// `account=nonce.signature`, each in hexadecimal.
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
    pub fn of(&self, app: &App, user: &UserRow) -> Option<Nonce> {
        let signed = |pepper: &Pepper| {
            verify_slices_are_equal(&sign(pepper, user, &self.nonce), &self.signature).is_ok()
        };
        (self.user == user.id && app.peppers.iter().any(signed)).then_some(self.nonce)
    }

    /// Whose it says it is.
    pub const fn user(&self) -> UserId {
        self.user
    }
}

/// What an account's cookie holds. A device that is known keeps its nonce.
pub fn value(app: &App, user: &UserRow, known: &[Device]) -> Result<String, NoEntropy> {
    let nonce = match known.iter().find_map(|it| it.of(app, user)) {
        Some(nonce) => nonce,
        None => app.random()?,
    };
    let signature = sign(app.peppers.current(), user, &nonce);
    Ok(format!("{}.{}", hex::encode(nonce), hex::encode(signature)))
}

fn sign(pepper: &Pepper, user: &UserRow, nonce: &Nonce) -> [u8; 32] {
    keyed(pepper, PURPOSE, &[&nonce[..], user.id.as_bytes(), user.password_hash.as_bytes()].concat())
}
