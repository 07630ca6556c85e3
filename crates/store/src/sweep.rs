//! Work that goes over many rows: in transactions of a few, so that whoever wants to write waits for a few only.

use crate::accounts::SESSION_LIFE;
use crate::db::{Store, Value};
use crate::{StoreError, measure};
use flowyte_core::Timestamp;
use flowyte_core::id::{Id, SessionId};
use flowyte_core::time::DAY;
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

/// What is forgotten some time after it is over. Audit events never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// Entries of the change log after a week. A replica is never that late.
    Changes,
    /// Sessions 30 days after the last one of their time has ended.
    Sessions,
    /// Secrets 30 days after a newer one of their key has replaced them.
    Secrets,
    /// What keys were used for, after 400 days.
    Usage,
}

impl Old {
    /// Everything that is forgotten in time.
    pub const ALL: [Self; 4] = [Self::Changes, Self::Sessions, Self::Secrets, Self::Usage];

    /// Its table, for the log and the metrics.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Sessions => "sessions",
            Self::Secrets => "secrets",
            Self::Usage => "usage",
        }
    }

    /// Deletes rows that are older than something: the first argument. The second is how many at most.
    fn deletion(self, now: Timestamp) -> (&'static str, Value) {
        match self {
            // The log is in the order of time, so its oldest rows are its first.
            Self::Changes => (
                "DELETE FROM changes WHERE at < $1 AND revision IN (SELECT revision FROM changes ORDER BY revision LIMIT $2)",
                now.plus(-7 * DAY).into(),
            ),
            // Ids begin with the time of their making, so the oldest rows come first.
            Self::Sessions => (
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE id < $1 ORDER BY id LIMIT $2)",
                SessionId::generate(now.plus(-SESSION_LIFE - 30 * DAY), [0; 10]).as_bytes().to_vec().into(),
            ),
            Self::Secrets => (
                "DELETE FROM secrets WHERE digest IN (SELECT old.digest FROM secrets old WHERE old.expires_at < $1 \
                 AND old.expires_at < 9223372036854775807 AND EXISTS (SELECT 1 FROM secrets newer \
                 WHERE newer.key_id = old.key_id AND newer.sequence > old.sequence) ORDER BY old.expires_at LIMIT $2)",
                now.plus(-30 * DAY).into(),
            ),
            Self::Usage => (
                "DELETE FROM usage WHERE (organization_id, key_id, day, operation_id, outcome) IN (SELECT organization_id, \
                 key_id, day, operation_id, outcome FROM usage WHERE day < $1 ORDER BY day LIMIT $2)",
                now.plus(-400 * DAY).day().into(),
            ),
        }
    }
}

impl dyn Store + '_ {
    /// Forgets some of what is old, in one transaction; answers how many rows that were.
    pub async fn forget(&self, old: Old, now: Timestamp, most: u32) -> Result<u64, StoreError> {
        let mut tx = self.batch().await?;
        let (sql, before) = old.deletion(now);
        if old == Old::Changes {
            tx.queue(
                "UPDATE head SET forgotten = COALESCE((SELECT MAX(revision) FROM (SELECT revision, at FROM changes \
                 ORDER BY revision LIMIT $2) oldest WHERE at < $1), forgotten) WHERE id = 1",
                vec![before.clone(), most.into()],
            )
            .await?;
        }
        let done = tx.exec(sql, vec![before, most.into()]).await?;
        tx.commit().await?;
        measure::forgotten(old.table(), done);
        Ok(done)
    }
}
