//! What is stored instead of a secret: HMAC-SHA-256 (RFC 2104) of its 36-character body under a server pepper.

use crate::credential::Presented;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sha2::block_api::compress256;
use std::fmt;
use zeroize::Zeroizing;

/// The stored form of a secret. Proves nothing when presented.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// As it was stored; nothing is computed.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, for storage.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 128 bits: enough to find a record, since nobody without the pepper can steer them.
    pub fn key(&self) -> u128 {
        self.0.iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// A server secret that digests depend on, so that a stolen database can't be searched offline.
#[derive(Clone)]
pub struct Pepper {
    id: [u8; 8],
    /// The hash states after the two key blocks, so that a digest costs two compressions.
    inner: [u32; 8],
    outer: [u32; 8],
    key: Zeroizing<[u8; 32]>,
}

impl Pepper {
    /// Prepares a pepper; the two key blocks are hashed once, here.
    pub fn new(key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        let state = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            block.iter_mut().zip(key.iter()).for_each(|(byte, key)| *byte ^= key);
            let mut state = INITIAL;
            compress256(&mut state, &[*block]);
            state
        };
        let mut pepper = Self { id: [0; 8], inner: state(0x36), outer: state(0x5c), key };
        let id = pepper.derive("pepper-id");
        pepper.id.copy_from_slice(&id[..8]);
        pepper
    }

    /// Names this pepper in storage without telling anything about it.
    pub const fn id(&self) -> [u8; 8] {
        self.id
    }

    /// The digest of a presented credential.
    pub fn digest(&self, presented: &Presented<'_>) -> Digest {
        self.digest_body(presented.body())
    }

    /// The digest of a credential's 36-character body.
    pub fn digest_body(&self, body: &str) -> Digest {
        if body.len() > ONE_BLOCK {
            return Digest(finish(keyed(&*self.key), body.as_bytes()));
        }
        let inner = last_block(self.inner, body.as_bytes());
        Digest(last_block(self.outer, &inner))
    }

    /// A 32-byte key for another purpose (HKDF-Expand, RFC 5869 §2.3, with one block): sealing, signing.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut mac = keyed(&*self.key);
        mac.update(purpose.as_bytes());
        Zeroizing::new(finish(mac, &[1]))
    }
}

const BLOCK: usize = 64;
/// The longest message that fits in a block with its padding.
const ONE_BLOCK: usize = BLOCK - 9;
/// FIPS 180-4 §5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// SHA-256 of one key block, which made `state`, and at most [`ONE_BLOCK`] bytes behind it (FIPS 180-4 §5.1.1).
fn last_block(mut state: [u32; 8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    block[..message.len()].copy_from_slice(message);
    block[message.len()] = 0x80;
    block[BLOCK - 8..].copy_from_slice(&(8 * (BLOCK + message.len()) as u64).to_be_bytes());
    compress256(&mut state, &[block]);
    let mut hash = [0; 32];
    hash.chunks_exact_mut(4).zip(state).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_be_bytes()));
    hash
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn finish(mut mac: Hmac<Sha256>, message: &[u8]) -> [u8; 32] {
    mac.update(message);
    mac.finalize().into_bytes().into()
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_compressions_are_the_whole_hmac() {
        let key = std::array::from_fn(|at| at as u8 * 7);
        let pepper = Pepper::new(key);
        for length in 0..200 {
            let body = "k".repeat(length);
            assert_eq!(
                *pepper.digest_body(&body).as_bytes(),
                finish(keyed(&key), body.as_bytes()),
                "{length}"
            );
        }
    }

    /// RFC 4231 test case 2, through the same construction.
    #[test]
    fn is_hmac_sha_256() {
        let tag = finish(keyed(b"Jefe"), b"what do ya want for nothing?");
        let hex: String = tag.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn peppers_differ_in_everything_and_show_nothing() {
        let (a, b) = (Pepper::new([1; 32]), Pepper::new([2; 32]));
        assert_ne!(a.id(), b.id());
        assert_ne!(a.digest_body("x"), b.digest_body("x"));
        assert_ne!(*a.derive("seal"), *a.derive("sign"));
        assert_eq!(format!("{a:?} {:?}", a.digest_body("x")), "Pepper(..) Digest(..)");
    }
}
