//! Seals what must be read again but may not be read by whoever steals the database: AES-256-GCM under keys derived from
//! the pepper.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use flowyte_core::Pepper;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The length of the nonces that [`Seal`] takes, in bytes: 12, as AES-256-GCM asks for.
pub const NONCE_BYTES: usize = NONCE_LEN;

/// A key for one purpose.
pub struct Seal(LessSafeKey);

impl Seal {
    /// The key of `pepper` for `purpose`.
    pub fn new(pepper: &Pepper, purpose: &str) -> Self {
        Self::from_key(&pepper.derive(purpose))
    }

    /// The key that only somebody who has both the pepper and `word` can rebuild.
    pub fn with_word(pepper: &Pepper, purpose: &str, word: &str) -> Self {
        Self::from_key(&Zeroizing::new(keyed(pepper, purpose, word.as_bytes())))
    }

    fn from_key(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("the key has the length of the algorithm");
        Self(LessSafeKey::new(key))
    }

    /// Nonce, ciphertext, tag. `nonce` is random and used once; `context` must be given again to open it.
    pub fn seal(&self, plain: &[u8], context: &[u8], nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
        let mut text = plain.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut text)
            .expect("only a text of more than 64 GiB is refused");
        [&nonce[..], &text].concat()
    }

    /// What was sealed, if it was with this key and context and is unchanged.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let mut text = text.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.0.open_in_place(nonce, Aad::from(context), &mut text).ok()?.len();
        text.truncate(plain);
        Some(text)
    }
}

/// HMAC-SHA-256 of `message` under the pepper's key for `purpose`.
pub fn keyed(pepper: &Pepper, purpose: &str, message: &[u8]) -> [u8; 32] {
    let key = pepper.derive(purpose);
    let mut mac = Hmac::<Sha256>::new_from_slice(&*key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn opens_only_with_the_same_pepper_purpose_word_and_context() {
        let (a, b) = (Pepper::new([1; 32]), Pepper::new([2; 32]));
        let sealed = Seal::with_word(&a, "answer", "word").seal(b"secret", b"here", [7; NONCE_BYTES]);
        assert!(!sealed.windows(6).any(|it| it == b"secret"));
        let open = |pepper, purpose, word, context: &str| {
            Seal::with_word(pepper, purpose, word).open(&sealed, context.as_bytes())
        };
        assert_eq!(open(&a, "answer", "word", "here").as_deref(), Some(&b"secret"[..]));
        assert_eq!(open(&b, "answer", "word", "here"), None);
        assert_eq!(open(&a, "other", "word", "here"), None);
        assert_eq!(open(&a, "answer", "words", "here"), None);
        assert_eq!(open(&a, "answer", "word", "there"), None);
        assert_eq!(Seal::new(&a, "x").open(b"short", b""), None);
    }
}
