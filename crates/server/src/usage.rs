//! Counts what credentials are used for, off the path of the answer, and writes the counts in batches.

use flowyte_core::id::OrganizationId;
use flowyte_core::{CredentialKind, Digest, OperationIndex, Timestamp};
use flowyte_store::usage::UsageRow;
use flowyte_store::{Store, StoreError};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

const SHARDS: usize = 16;
/// Different counters that one shard holds between two writes; what comes above it is not counted.
const MOST: usize = 20_000;

/// A credential that a decision found, whatever it decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Whose {
    /// Its organization.
    pub organization: OrganizationId,
    /// Its kind.
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
type Key = (Whose, OperationIndex, &'static str, i64, Option<IpAddr>);

struct Count {
    calls: i64,
    last_at: Timestamp,
    address: IpAddr,
}

/// Counters since the last write.
#[derive(Default)]
pub struct Usage {
    shards: [Mutex<HashMap<Key, Count>>; SHARDS],
}

impl Usage {
    /// Counts one call. `outcome`: [`ALLOWED`] or the code of the refusal.
    pub fn count(
        &self,
        whose: Whose,
        operation: OperationIndex,
        outcome: &'static str,
        now: Timestamp,
        address: IpAddr,
    ) {
        let day = now.as_micros().div_euclid(flowyte_core::time::DAY);
        let shard = &self.shards[usize::from(whose.id[15]) % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let key = (whose, operation, outcome, day, whose.superseded.then_some(address));
        if shard.len() >= MOST && !shard.contains_key(&key) {
            metrics::counter!("flowyte_usage_dropped_total").increment(1);
            return;
        }
        let count = shard.entry(key).or_insert(Count { calls: 0, last_at: now, address });
        count.calls += 1;
        if now >= count.last_at {
            (count.last_at, count.address) = (now, address);
        }
    }

    /// Writes what was counted. What can't be written is kept for the next time.
    pub async fn flush(
        &self,
        store: &dyn Store,
        operation: impl Fn(OperationIndex) -> String,
    ) -> Result<(), StoreError> {
        for shard in &self.shards {
            let taken = std::mem::take(&mut *shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            if taken.is_empty() {
                continue;
            }
            let rows: Vec<UsageRow> = taken
                .iter()
                .map(|((whose, index, outcome, ..), count)| UsageRow {
                    organization: whose.organization,
                    credential: whose.id,
                    kind: whose.kind,
                    secret: whose.secret,
                    superseded: whose.superseded,
                    day: count.last_at.day(),
                    operation: operation(*index),
                    outcome: (*outcome).to_owned(),
                    calls: count.calls,
                    last_at: count.last_at,
                    address: count.address.to_string(),
                })
                .collect();
            if let Err(error) = store.add_usage(&rows).await {
                let mut shard = shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                for (key, count) in taken {
                    let newer = shard.entry(key).or_insert(Count { calls: 0, ..count });
                    newer.calls += count.calls;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}
