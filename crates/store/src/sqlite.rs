//! The embedded database: one file, one process.

use crate::StoreError;
use crate::db::{Follower, Inner, Mode, Readers, SecurityTx, Store};
use crate::guest::{self, Guest, Step};
use crate::lanes::{Lane, Queue, WRITES};
use crate::measure::{Pool, waited};
use crate::syncs::Syncs;
use async_trait::async_trait;
use sqlx::Connection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The embedded database: one file, one process.
pub struct Sqlite {
    writer: SqlitePool,
    readers: Readers<sqlx::Sqlite>,
    queue: Arc<Queue>,
    syncs: Arc<Syncs>,
    guests: &'static [Guest],
    follower: OnceLock<Arc<dyn Follower>>,
}

impl Sqlite {
    /// Opens a file that is there and up to date, beside a server that may be running on it.
    pub async fn open_beside(path: &Path, guests: &'static [Guest]) -> Result<Arc<dyn Store>, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
        let mut connection = pool.acquire().await?;
        if !guest::pending(&applied(&mut connection).await?, guests)?.is_empty() {
            return Err(StoreError::Unusable(
                "the database was written by an earlier release; start the server once to bring it up to date".into(),
            ));
        }
        drop(connection);
        let readers = Readers::new(pool.clone(), pool.clone(), pool.clone());
        Ok(Arc::new(Self {
            writer: pool,
            readers,
            queue: Queue::new(1, WRITES),
            syncs: Syncs::new(log_of(path)),
            guests,
            follower: OnceLock::new(),
        }))
    }

    /// Opens or makes the file and brings its tables up to date.
    pub async fn open(path: &Path, guests: &'static [Guest]) -> Result<Arc<dyn Store>, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal) // Commits are synced together; see [`Syncs`].
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .test_before_acquire(false)
                .acquire_timeout(Duration::from_secs(10))
        };
        // When a disk is full SQLite ends the transaction by itself, and the connection would count it as open for ever
        // after; the pool opens another instead. The ping waits until a rollback that is under way is done.
        let writer = pool(1)
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options.clone())
            .await?;
        let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&writer).await?;
        if !wal_is_safe(&version) {
            return Err(StoreError::Unusable(format!(
                "SQLite {version} can lose data in WAL mode; 3.51.3 or later is needed"
            )));
        }
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(guest::TABLES).execute(&mut *tx).await?;
        for Step { guest, version, sql } in guest::pending(&applied(&mut tx).await?, guests)? {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.replace("BYTES", "BLOB"))).execute(&mut *tx).await?;
            let note = sqlx::query("INSERT INTO guest_migrations (guest, version) VALUES ($1, $2)");
            note.bind(guest).bind(version).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        let options = options.read_only(true);
        let readers = Readers::new(
            pool(1).connect_with(options.clone()).await?,
            pool(2).connect_with(options.clone()).await?,
            pool(4).connect_with(options).await?,
        );
        Ok(Arc::new(Self {
            writer,
            readers,
            queue: Queue::new(1, WRITES),
            syncs: Syncs::new(log_of(path)),
            guests,
            follower: OnceLock::new(),
        }))
    }
}

/// The write-ahead log of a database, where SQLite keeps it (<https://sqlite.org/walformat.html>).
fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// What was applied to this file.
async fn applied(connection: &mut SqliteConnection) -> Result<guest::Applied, StoreError> {
    let old = sqlx::query_scalar("SELECT version FROM migrations").fetch_all(&mut *connection).await?;
    let new = sqlx::query_as("SELECT guest, version FROM guest_migrations").fetch_all(connection).await?;
    Ok(guest::Applied::new(old, new))
}

fn wal_is_safe(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= (3, 51, 3)
}

#[async_trait]
impl Store for Sqlite {
    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<SecurityTx, StoreError> {
        let begin = async {
            Ok::<_, StoreError>(match mode {
                Mode::Read | Mode::Feed => {
                    let (pool, turn) = self.readers.enter(lane, mode).await?;
                    (pool.begin().await?, turn)
                }
                Mode::Write | Mode::Batch => {
                    let turn = self.queue.enter(lane).await?;
                    (self.writer.begin_with("BEGIN IMMEDIATE").await?, Some(turn))
                }
            })
        };
        let (inner, turn) = waited(mode, begin).await?;
        let inner = Inner::Lite(inner, self.syncs.clone());
        Ok(SecurityTx::new(inner, self.guests, self.follower.get().cloned(), turn))
    }

    fn guests(&self) -> &[Guest] {
        self.guests
    }

    fn follower(&self) -> &OnceLock<Arc<dyn Follower>> {
        &self.follower
    }

    async fn claim(&self) -> Result<(), StoreError> {
        Ok(()) // The data folder's lock file is the claim.
    }

    async fn broken(&self) -> String {
        self.syncs.failure().await
    }

    fn pools(&self) -> Vec<Pool> {
        [Pool::of("writers", &self.writer)].into_iter().chain(self.readers.pools()).collect()
    }

    async fn woken(&self) {
        std::future::pending().await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
