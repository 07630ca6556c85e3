//! Work that goes over many rows: in transactions of a few, so that whoever wants to write waits for a few only.

use crate::StoreError;
use std::time::Duration;

/// How long a sweep leaves the database to others after each transaction.
const PAUSE: Duration = Duration::from_millis(20);

/// Some at a time, so that nobody waits long to write, until none is left. `part` does `size` of them, or those that are left.
pub async fn in_parts<F>(what: &str, size: u32, part: impl Fn() -> F)
where
    F: Future<Output = Result<u64, StoreError>>,
{
    loop {
        match part().await {
            Ok(done) if done == u64::from(size) => tokio::time::sleep(PAUSE).await,
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "{what}; the next sweep tries again");
                return;
            }
        }
    }
}
