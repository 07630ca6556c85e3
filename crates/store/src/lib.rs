//! The truth: organizations, people, credentials, the audit trail and the change log, in SQLite or PostgreSQL.
//!
//! [`Store`] is what the two databases do differently; everything else is written once, as methods of `dyn Store`: one
//! method is one transaction and takes the organization first. A method that finds nothing in the organization it was
//! given answers [`StoreError::NotFound`], whether the thing is elsewhere or nowhere.

pub mod accounts;
pub mod audit;
pub mod db;
pub mod entry;
pub mod feed;
pub mod growth;
pub mod guest;
pub mod idempotency;
pub mod keys;
pub mod labour;
pub mod lanes;
pub mod measure;
#[cfg(feature = "postgres")]
pub mod moving;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod publishable;
pub mod restore;
pub mod sqlite;
pub mod sweep;
mod syncs;
pub mod time;
pub mod usage;
pub mod walk;

pub use audit::{Actor, AuditContext, AuditEvent};
pub use db::{BatchTx, Follower, InLane, Mode, ProductTx, ReadTx, Row, SecurityTx, Store, Value};
pub use feed::{Entity, Seen, State};
pub use growth::{Grown, Growth, Link};
pub use guest::Guest;
pub use idempotency::{Claim, Once};
pub use lanes::{Class, Lane};
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
pub use sqlite::{Sqlite, SqliteError};

use flowyte_core::Denial;

use sha2::{Digest as _, Sha256};

/// A position in the change log: gapless, in commit order.
pub type Revision = i64;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was asked for does not exist in this organization; whether it exists in another one is not said.
    #[error("not found")]
    NotFound,
    /// The state does not allow it; the text is for the caller.
    #[error("{0}")]
    Conflict(&'static str),
    /// Only an owner makes or unmakes owners.
    #[error("only an owner makes or unmakes owners")]
    OwnersOnly,
    /// Nobody grants what they do not hold; the text is for the caller.
    #[error("{0}")]
    NotHeld(String),
    /// If-Match names an older version.
    #[error("stale version")]
    Stale,
    /// A guest refused the change by a rule of its own; [`Refusal::code`] is what its problem document says.
    #[error("{0}")]
    Refused(Box<dyn Refusal>),
    /// Too much of a dear thing is under way or waits; the text is for the caller.
    #[error("{0}")]
    Crowded(&'static str),
    /// The Idempotency-Key was used for another request.
    #[error("idempotency key reused")]
    IdempotencyKeyReused,
    /// Whoever asked may not do it any more.
    #[error("the permit no longer holds: {}", .0.code())]
    Denied(Denial),
    /// Too many transactions of the same lane wait already, or one waited too long for its turn.
    #[error("too many writes wait")]
    Busy,
    /// A row does not mean anything; never the caller's fault.
    #[error("inconsistent row: {0}")]
    Inconsistent(String),
    /// Changes that were not applied here are forgotten, or some that were are not in the log. Only a start, which reads everything, helps.
    #[error(
        "the change log does not go on from what was read of it: it was cut, or the database went back to an earlier state"
    )]
    Forgotten,
    /// This database can't be served from; the text is for the operator.
    #[error("{0}")]
    Unusable(String),
    /// The database is away, full or read-only.
    #[error("{0}")]
    Database(DatabaseError),
}

/// What a guest refuses in a transaction. Its text is for the caller.
pub trait Refusal: std::error::Error + Send + Sync + 'static {
    /// The code of its problem document.
    fn code(&self) -> &'static str;
}

/// What a database refused or failed to do.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// An error that SQLite reported, or that kept it from being asked.
    #[error("SQLite: {0}")]
    Sqlite(SqliteError),
    /// PostgreSQL said so, or nothing.
    #[cfg(feature = "postgres")]
    #[error("PostgreSQL: {}", postgres::told(.0))]
    Postgres(tokio_postgres::Error),
    /// None was free in time.
    #[error("no connection was free in time")]
    NoConnection,
    /// The connection is closed, and nothing more can be asked of it.
    #[error("it does not answer, or the connection is closed")]
    Away,
    /// What is one statement had a second one: a fault of ours.
    #[error("the transaction is over")]
    Over,
    /// What was written may not be on the disk.
    #[error("it is not known whether the disk has what was written")]
    NotDurable,
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        measure::failed(&error);
        Self::Database(error)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        DatabaseError::Sqlite(error.into()).into()
    }
}

#[cfg(feature = "postgres")]
impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        DatabaseError::Postgres(error).into()
    }
}

impl StoreError {
    /// Whether a unique constraint refused the write.
    pub fn is_duplicate(&self) -> bool {
        match self {
            Self::Database(DatabaseError::Sqlite(error)) => error.is_duplicate(),
            #[cfg(feature = "postgres")]
            Self::Database(DatabaseError::Postgres(error)) => {
                error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
            }
            _ => false,
        }
    }
}

/// A page of a list, newest first: at most `limit` rows older than `before`.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Rows wanted; one more is read to know whether there is a next page.
    pub limit: u32,
    /// The id of the last row of the page before.
    pub before: Option<[u8; 16]>,
}

impl Page {
    /// Arguments for `WHERE id < $n ORDER BY id DESC LIMIT $m`: ids are time-ordered, so the newest come first.
    pub fn before_bytes(&self) -> Value {
        Value::Bytes(Some(self.before.map_or_else(|| vec![0xff; 17], |id| id.to_vec())))
    }

    /// One more than the page, to see whether another follows.
    pub fn probe(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

/// Which state something that can be changed is in, for `ETag` and `If-Match`: equal tags, equal state.
pub fn tag(state: &serde_json::Value) -> String {
    let digest = Sha256::digest(state.to_string());
    hex::encode(&digest[..8])
}

/// What a change is based on is still there. `expected`: the tag that the caller saw, if they say so.
pub(crate) fn unchanged(expected: Option<&str>, tag: &str) -> Result<(), StoreError> {
    match expected {
        Some(seen) if seen != tag => Err(StoreError::Stale),
        _ => Ok(()),
    }
}

/// Texts as a JSON list, as they are stored.
pub(crate) fn list(texts: &[String]) -> Value {
    Value::Text(Some(serde_json::Value::from(texts).to_string()))
}
