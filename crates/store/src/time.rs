//! How late it has been, so that time never goes back behind it.

use crate::db::Store;
use crate::{StoreError, args};
use flowyte_core::Timestamp;

impl dyn Store + '_ {
    /// The latest instant that was written down.
    pub async fn seen_at(&self) -> Result<Timestamp, StoreError> {
        self.feed().await?.one("SELECT seen_at FROM head WHERE id = 1", vec![]).await?.time("seen_at")
    }

    /// Writes down how late it is. An earlier instant changes nothing.
    pub async fn note_time(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.security().await?;
        tx.queue("UPDATE head SET seen_at = $1 WHERE id = 1 AND seen_at < $1", args![now]).await?;
        tx.commit().await
    }

    /// Forgets a later instant: the operator says that it was wrong.
    pub async fn reset_time(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.security().await?;
        tx.queue("UPDATE head SET seen_at = $1 WHERE id = 1", args![now]).await?;
        tx.commit().await
    }
}
