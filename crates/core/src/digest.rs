//! What is stored instead of a secret: HMAC-SHA-256 (RFC 2104) of its 36-character body under a server pepper.

use crate::credential::Presented;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// The stored form of a secret. Proves nothing when presented.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// From storage.
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
    prepared: Hmac<Sha256>,
    key: Zeroizing<[u8; 32]>,
}

impl Pepper {
    /// Prepares a pepper; the two key blocks are hashed once, here.
    pub fn new(key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        let mut pepper = Self { id: [0; 8], prepared: keyed(&*key), key };
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
        Digest(finish(self.prepared.clone(), body.as_bytes()))
    }

    /// A 32-byte key for another purpose (HKDF-Expand, RFC 5869 §2.3, with one block): sealing, signing.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut mac = keyed(&*self.key);
        mac.update(purpose.as_bytes());
        Zeroizing::new(finish(mac, &[1]))
    }
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
