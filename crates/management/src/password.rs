//! Passwords: judged by zxcvbn and hashed with Argon2id, a few at a time and in turns of addresses, so that a flood of
//! sign-ins can't take the machine.

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_store::labour::{self, Bounds, Slots, labour};
use flowyte_verifier::clock::Entropy;
use flowyte_verifier::meter::rate_limit_prefix;
use std::net::IpAddr;
use std::time::Duration;
use zeroize::Zeroizing;

/// Each hash takes 19 MiB and some 40 ms of one core. Addresses take turns: a flood from one delays another by one hash.
const BOUNDS: Bounds =
    Bounds { at_once: 2, each: 2, waiting: 1_024, waiting_each: 64, patience: Duration::from_secs(10) };
/// Of zxcvbn's 0 to 4: safely unguessable online, and costly offline.
const LEAST_STRENGTH: u8 = 3;
/// Characters that are judged: the time grows with the square of their number and more.
const JUDGED: usize = 64;

/// The one place that judges and hashes passwords.
pub struct Passwords {
    turns: Slots<IpAddr>,
}

/// A PHC string. `like`: a stored one, whose parameters and salt are taken; else the present parameters and `salt`.
fn hash(
    password: &[u8],
    like: Option<&str>,
    salt: &[u8; 16],
) -> Result<String, argon2::password_hash::Error> {
    let like = like.map(PasswordHash::new).transpose()?;
    let params = match &like {
        Some(like) => Params::try_from(like)?,
        None => Params::new(19_456, 2, 1, None).expect("the parameters are within Argon2's bounds"),
    };
    let salt = like.as_ref().and_then(|it| it.salt.as_ref()).map_or(&salt[..], |it| it);
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    hasher.hash_password_with_salt(password, salt).map(|hash| hash.to_string())
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Slots::new("passwords", BOUNDS) }
    }
}

impl Passwords {
    /// Waits for a turn of this address. What a turn decides and counts, nobody else from there decides and counts meanwhile.
    pub async fn turn(&self, address: IpAddr) -> Outcome<HashingSlot> {
        let turn = self.turns.take(rate_limit_prefix(address)).await.map_err(|_| {
            let detail = "Too many sign-ins are being checked right now; try again shortly.";
            Problem::new(Code::RateLimited, detail).retry_after(2)
        })?;
        Ok(HashingSlot { _turn: turn })
    }
}

/// Leave to judge and to hash one password.
pub struct HashingSlot {
    _turn: labour::Slot<IpAddr>,
}

impl HashingSlot {
    /// Refuses a password that is easily guessed, given what else is known of the person. `pointer`: where it stood in the body.
    pub async fn judge(&self, pointer: &str, password: &Zeroizing<String>, known: &[&str]) -> Outcome<()> {
        let password = password.clone();
        let known: Vec<String> = known.iter().map(|it| (*it).to_owned()).collect();
        let weakness = run(move || weakness(&password, &known)).await?;
        weakness.map_or(Ok(()), |why| Err(Problem::body(pointer, why)))
    }

    /// The hash to store or to compare, as a PHC string. `like`: what is stored of the same address, whose salt is taken; it
    /// takes as long with a new one.
    pub async fn hash(
        &self,
        password: Zeroizing<String>,
        like: Option<String>,
        entropy: &dyn Entropy,
    ) -> Outcome<String> {
        let mut salt = [0; 16];
        entropy.fill(&mut salt)?;
        run(move || hash(password.as_bytes(), like.as_deref(), &salt)).await?.map_err(|error| {
            tracing::error!(%error, "hashing a password failed");
            Problem::new(Code::InternalError, "The password could not be checked or stored.")
        })
    }
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    labour(work).await.map_err(|error| {
        tracing::error!(%error, "the password task failed");
        Problem::new(Code::InternalError, "The password could not be checked.")
    })
}

/// Why a password is easily guessed; nothing where it is not.
fn weakness(password: &str, known: &[String]) -> Option<String> {
    let known: Vec<&str> = known
        .iter()
        .flat_map(|it| [it.as_str(), it.split('@').next().unwrap_or(it)])
        .chain(["flowyte"])
        .collect();
    // What is longer can't be weak by its beginning alone.
    let beginning: Zeroizing<String> = Zeroizing::new(password.chars().take(JUDGED).collect());
    let estimate = zxcvbn::zxcvbn(&beginning, &known);
    if u8::from(estimate.score()) >= LEAST_STRENGTH {
        return None;
    }
    let warning = estimate.feedback().and_then(zxcvbn::feedback::Feedback::warning);
    let why =
        warning.map_or_else(|| "is too easy to guess".to_owned(), |it| format!("is too easy to guess: {it}"));
    Some(format!("{why} Use several unrelated words, or let a password manager make one."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_verifier::clock::System;

    #[test]
    fn weak_ones_are_refused_whatever_their_length() {
        let known = ["ada@example.com".to_owned(), "Ada".to_owned()];
        for weak in [
            "passwordpassword",
            "flowyteflowyteflowyte",
            "ada@example.comada",
            "aaaaaaaaaaaaaaaaaaa",
            "123456789012345678",
        ] {
            assert!(weakness(weak, &known).is_some(), "{weak}");
        }
        for fine in ["correct horse battery staple", "mountain-kettle-orbit-71", "kX9#fQ2$wL7&pZ4!"] {
            assert_eq!(weakness(fine, &known), None, "{fine}");
        }
    }

    #[tokio::test]
    async fn the_same_password_under_the_same_salt_is_the_same_hash() {
        let passwords = Passwords::default();
        let turn = passwords.turn(IpAddr::from([192, 0, 2, 1])).await.unwrap();
        let hash = async |text: &str, like: Option<&str>| {
            turn.hash(Zeroizing::new(text.to_owned()), like.map(str::to_owned), &System).await.unwrap()
        };
        let stored = hash("right", None).await;
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_eq!(hash("right", Some(&stored)).await, stored);
        assert_ne!(hash("wrong", Some(&stored)).await, stored);
        assert_ne!(hash("right", None).await, stored);
        // Parameters of an earlier release are kept with the salt.
        let older = stored.replace("m=19456", "m=9216");
        assert!(hash("right", Some(&older)).await.starts_with("$argon2id$v=19$m=9216,t=2,p=1$"));
    }
}
