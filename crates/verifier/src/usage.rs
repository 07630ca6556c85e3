//! Counts what credentials are used for, off the path of the answer, and writes the counts in batches.

use flowyte_core::id::OrganizationId;
use flowyte_core::{CredentialKind, Digest, OperationIndex, Timestamp};
use flowyte_store::usage::UsageRow;
use flowyte_store::{Store, StoreError};
use prometheus::{IntCounter, register_int_counter};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use tokio::sync::Notify;

const SHARDS: usize = 16;
/// Counters that one transaction writes: others wait for it to end.
const AT_ONCE: usize = 500;
/// Different counters that one shard holds between two writes. Half as many wake the writer; calls that come above it are counted
/// together, without whose they were.
const MOST: usize = 20_000;

/// Calls that are counted in no key's usage, because too many different ones came at once.
pub static UNATTRIBUTED: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Calls that are missing from the usage of keys, because too many different ones came at once.";
    register_int_counter!("flowyte_usage_unattributed_total", help).expect("the metric is declared once")
});

/// A credential that a decision found, whatever it decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialRef {
    /// The organization that the credential belongs to.
    pub organization: OrganizationId,
    /// The kind of the credential, which decides the prefix of its id.
    pub kind: CredentialKind,
    /// Its id without the prefix.
    pub id: [u8; 16],
    /// The digest of the secret that was used, where it is one of a secret key, which may have two.
    pub secret: Option<Digest>,
    /// It was an older secret in its grace.
    pub superseded: bool,
}

/// A call that was permitted.
pub const ALLOWED: &str = "allowed";

/// The address is part of it for an older secret alone: whoever rotated wants to know who still uses that.
type Key = (CredentialRef, OperationIndex, &'static str, i64, Option<IpAddr>);

struct Count {
    calls: i64,
    last_at: Timestamp,
    address: IpAddr,
}

/// Counters since the last write.
#[derive(Default)]
pub struct Usage {
    shards: [Mutex<HashMap<Key, Count>>; SHARDS],
    /// Calls that found their shard full since the last write.
    unattributed: AtomicU64,
    filling: Notify,
}

impl Usage {
    /// Counts one call. `outcome`: [`ALLOWED`] or the code of the refusal.
    pub fn count(
        &self,
        credential: CredentialRef,
        operation: OperationIndex,
        outcome: &'static str,
        now: Timestamp,
        address: IpAddr,
    ) {
        let day = now.as_micros().div_euclid(flowyte_core::time::DAY);
        let shard = &self.shards[usize::from(credential.id[15]) % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let key = (credential, operation, outcome, day, credential.superseded.then_some(address));
        if shard.len() >= MOST && !shard.contains_key(&key) {
            UNATTRIBUTED.inc();
            self.unattributed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if shard.len() == MOST / 2 {
            self.filling.notify_one();
        }
        let count = shard.entry(key).or_insert(Count { calls: 0, last_at: now, address });
        count.calls += 1;
        if now >= count.last_at {
            (count.last_at, count.address) = (now, address);
        }
    }

    /// How many counters wait to be written.
    pub fn waiting(&self) -> usize {
        self.shards.iter().map(|it| it.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).len()).sum()
    }

    /// Returns when a write should not wait for its time.
    pub async fn filling(&self) {
        self.filling.notified().await;
    }

    /// Writes what was counted. What can't be written is kept for the next time.
    pub async fn flush(
        &self,
        store: &dyn Store,
        operation: impl Fn(OperationIndex) -> String,
    ) -> Result<(), StoreError> {
        let calls = self.unattributed.swap(0, Ordering::Relaxed);
        if calls > 0 {
            tracing::warn!(
                calls,
                "too many different credentials and operations were used at once; these calls are missing from the usage of keys"
            );
        }
        for shard in &self.shards {
            let taken: Vec<_> =
                shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).drain().collect();
            let rows: Vec<UsageRow> = taken
                .iter()
                .map(|((credential, index, outcome, ..), count)| UsageRow {
                    organization: credential.organization,
                    credential: credential.id,
                    kind: credential.kind,
                    secret: credential.secret,
                    superseded: credential.superseded,
                    day: count.last_at.day(),
                    operation: operation(*index),
                    outcome: (*outcome).to_owned(),
                    calls: count.calls,
                    last_at: count.last_at,
                    address: count.address.to_string(),
                })
                .collect();
            let mut written = 0;
            for part in rows.chunks(AT_ONCE) {
                if let Err(error) = store.add_usage(part).await {
                    let mut shard = shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    for (key, count) in taken.into_iter().skip(written) {
                        let newer = shard.entry(key).or_insert(Count { calls: 0, ..count });
                        newer.calls += count.calls;
                    }
                    return Err(error);
                }
                written += part.len();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_core::id::Id;

    #[tokio::test]
    async fn a_full_shard_wakes_its_writer_and_counts_what_it_can_no_longer_tell_apart() {
        let usage = Usage::default();
        let now = Timestamp::from_micros(1_790_000_000_000_000);
        let count = |number: usize| {
            let mut id = [0; 16]; // One shard: it goes by the last byte.
            id[..8].copy_from_slice(&number.to_be_bytes());
            let organization = OrganizationId::from_bytes([1; 16]);
            let kind = CredentialKind::SecretKey;
            let credential = CredentialRef { organization, kind, id, secret: None, superseded: false };
            usage.count(credential, 0, ALLOWED, now, "192.0.2.1".parse().unwrap());
        };
        (0..=MOST / 2).for_each(count);
        usage.filling().await; // Would wait for ever.
        (0..MOST + 250).for_each(count);
        assert_eq!(usage.unattributed.load(Ordering::Relaxed), 250);
        assert_eq!(usage.shards[0].lock().unwrap().len(), MOST);
    }
}
