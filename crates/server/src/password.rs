//! Passwords: judged by zxcvbn and hashed with Argon2id, a few at a time and in turns of addresses, so that a flood of
//! sign-ins can't take the machine.

use crate::clock::{Entropy, NoEntropy};
use crate::meter::neighbourhood;
use crate::problem::{Code, Outcome, Problem};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use flowyte_store::labour::{self, Bounds, Turns, labour};
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
    turns: Turns<IpAddr>,
    /// A hash of nobody's password, checked where there is no user, so that both take as long.
    nobody: String,
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(19_456, 2, 1, None).expect("the parameters are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &[u8], salt: &[u8; 16]) -> Result<String, argon2::password_hash::Error> {
    hasher().hash_password_with_salt(password, salt).map(|hash| hash.to_string())
}

impl Passwords {
    /// Prepares the hash of nobody's password.
    pub fn new(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let (mut password, mut salt) = (Zeroizing::new([0; 32]), [0; 16]);
        entropy.fill(&mut *password)?;
        entropy.fill(&mut salt)?;
        let nobody = hash(&*password, &salt).map_err(|_| NoEntropy)?;
        Ok(Self { turns: Turns::new(BOUNDS), nobody })
    }

    /// Waits for a turn of this address. What a turn decides and counts, nobody else from there decides and counts meanwhile.
    pub async fn turn(&self, address: IpAddr) -> Outcome<Turn<'_>> {
        let turn = self.turns.take(neighbourhood(address)).await.map_err(|_| {
            let detail = "Too many sign-ins are being checked right now; try again shortly.";
            Problem::new(Code::RateLimited, detail).retry_after(2)
        })?;
        Ok(Turn { passwords: self, _turn: turn })
    }
}

/// Leave to judge and to hash one password.
pub struct Turn<'p> {
    passwords: &'p Passwords,
    _turn: labour::Turn<IpAddr>,
}

impl Turn<'_> {
    /// Refuses a password that is easily guessed, given what else is known of the person. `pointer`: where it stood in the body.
    pub async fn judge(&self, pointer: &str, password: &Zeroizing<String>, known: &[&str]) -> Outcome<()> {
        let password = password.clone();
        let known: Vec<String> = known.iter().map(|it| (*it).to_owned()).collect();
        let weakness = run(move || weakness(&password, &known)).await?;
        weakness.map_or(Ok(()), |why| Err(Problem::body(pointer, why)))
    }

    /// The hash to store.
    pub async fn hash(&self, password: Zeroizing<String>, entropy: &dyn Entropy) -> Outcome<String> {
        let mut salt = [0; 16];
        entropy.fill(&mut salt)?;
        run(move || hash(password.as_bytes(), &salt)).await?.map_err(|error| {
            tracing::error!(%error, "hashing a password failed");
            Problem::new(Code::InternalError, "The password could not be stored.")
        })
    }

    /// Whether the password is the one that `stored` was made of. Without a stored hash it takes as long and is not.
    pub async fn verify(&self, password: Zeroizing<String>, stored: Option<String>) -> Outcome<bool> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.passwords.nobody.clone());
        let fits = run(move || {
            let parsed = PasswordHash::new(&stored).ok();
            parsed.is_some_and(|it| hasher().verify_password(password.as_bytes(), &it).is_ok())
        })
        .await?;
        Ok(known && fits)
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
    use crate::clock::System;

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
    async fn verifies_what_it_hashed_and_nothing_for_nobody() {
        let passwords = Passwords::new(&System).unwrap();
        let text = |it: &str| Zeroizing::new(it.to_owned());
        let turn = passwords.turn(IpAddr::from([192, 0, 2, 1])).await.unwrap();
        let stored = turn.hash(text("right"), &System).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(turn.verify(text("right"), Some(stored.clone())).await.unwrap());
        assert!(!turn.verify(text("wrong"), Some(stored)).await.unwrap());
        assert!(!turn.verify(text("right"), None).await.unwrap());
    }
}
