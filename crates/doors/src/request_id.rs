//! What an answer and its lines in the log are called.

use flowyte_core::id::hex;
use flowyte_verifier::clock::Entropy;
use std::cell::RefCell;

const PREFIX: &str = "req_";
/// Random bytes that are asked for at once.
const AT_ONCE: usize = 4_096;

/// Random bytes for request ids, which are no secrets: asking the system for each would cost more than all else about them.
struct Pool {
    bytes: [u8; AT_ONCE],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; AT_ONCE], used: AT_ONCE }) };
}

/// The id of a request.
pub struct RequestId([u8; PREFIX.len() + 32]);

impl RequestId {
    /// A new id of 16 random bytes. Where the operating system gives none, it is still an id, but perhaps one that was there before.
    pub fn new(entropy: &dyn Entropy) -> Self {
        let random = POOL.with_borrow_mut(|pool| {
            if pool.used == AT_ONCE {
                // A request without an id of its own is still better than none.
                let _ = entropy.fill(&mut pool.bytes);
                pool.used = 0;
            }
            let mut random = [0; 16];
            random.copy_from_slice(&pool.bytes[pool.used..][..16]);
            pool.used += 16;
            random
        });
        let mut id = [0; PREFIX.len() + 32];
        id[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        id[PREFIX.len()..].copy_from_slice(hex(&random, &mut [0; 32]).as_bytes());
        Self(id)
    }

    /// The id as answers and the log show it: `req_` and 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_verifier::clock::System;
    use std::collections::HashSet;

    #[test]
    fn no_two_are_the_same() {
        let many = || (0..AT_ONCE).map(|_| RequestId::new(&System).as_str().to_owned()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(many)).collect();
        let all: HashSet<String> = threads.into_iter().flat_map(|it| it.join().unwrap()).collect();
        assert_eq!(all.len(), 4 * AT_ONCE);
        assert!(all.iter().all(|it| it.len() == 36 && it.starts_with("req_")));
    }
}
