//! The embedded database: one file, one process.

mod checkpoints;
mod connection;
mod syncs;

use crate::StoreError;
use crate::db::{Follower, Inner, Mode, Readers, SecurityTx, Store};
use crate::growth::Grown;
use crate::guest::{self, Guest, Step};
use crate::lanes::{Lane, Queue, WRITES};
use crate::measure::{self, Connections, waited};
use async_trait::async_trait;
use checkpoints::Checkpoints;
use connection::Options;
pub use connection::{FromCell, SqliteError};
pub(crate) use connection::{Pool, Row, Transaction};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
pub(crate) use syncs::{NotDurable, Syncs};

/// Of a file that others may use at the same time.
const BESIDE: &str = "";
/// Of the one connection that writes. Commits are synced together, see [`Syncs`]; what is left to sync keeps the file whole. The log is copied
/// into the database beside it, see [`Checkpoints`]; where it has so many pages all the same (32 MiB), the commit copies what is left, so that
/// the log is begun anew.
const WRITING: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 8000; PRAGMA foreign_keys = ON";
const COPYING: &str = "PRAGMA synchronous = NORMAL";
const READING: &str = "PRAGMA foreign_keys = ON";

/// The embedded database: one file, one process.
pub struct Sqlite {
    writer: Arc<Pool>,
    readers: Readers<Arc<Pool>>,
    queue: Arc<Queue>,
    syncs: Arc<Syncs>,
    guests: &'static [Guest],
    follower: OnceLock<Arc<dyn Follower>>,
    grown: Arc<Grown>,
}

impl Sqlite {
    /// Opens a file that is there and up to date, beside a server that may be running on it.
    pub async fn open_beside(path: &Path, guests: &'static [Guest]) -> Result<Arc<dyn Store>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let options = Options { file: path.to_owned(), flags, pragmas: BESIDE };
        let opening = options.clone();
        let pending = aside(move || guest::pending(&applied(&opening.open()?)?, guests)).await?;
        if !pending.is_empty() {
            return Err(StoreError::Unusable(
                "the database was written by an earlier release; start the server once to bring it up to date".into(),
            ));
        }
        let pool = Pool::new(options, 2);
        let readers = Readers::new(pool.clone(), pool.clone(), pool.clone(), pool.clone());
        Ok(Self::of(path, pool, readers, None, guests))
    }

    /// Opens or makes the file and brings its tables up to date.
    pub async fn open(path: &Path, guests: &'static [Guest]) -> Result<Arc<dyn Store>, StoreError> {
        let options = |flags, pragmas| Options { file: path.to_owned(), flags, pragmas };
        let writing = options(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE, WRITING);
        let opening = writing.clone();
        let copying = options(OpenFlags::SQLITE_OPEN_READ_WRITE, COPYING);
        let checkpoints = aside(move || {
            bring_up_to_date(&mut opening.open()?, guests)?;
            Checkpoints::start(&copying)
        });
        let checkpoints = checkpoints.await?;
        let readers = |most| Pool::new(options(OpenFlags::SQLITE_OPEN_READ_ONLY, READING), most);
        let readers = Readers::new(readers(1), readers(2), readers(2), readers(4));
        Ok(Self::of(path, Pool::new(writing, 1), readers, Some(checkpoints), guests))
    }

    /// Writes a copy of the file at `from` to `into`, which may not be there yet. A server that runs is not disturbed.
    pub async fn backup(from: &Path, into: &Path) -> Result<(), StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let options = Options { file: from.to_owned(), flags, pragmas: BESIDE };
        let into = into
            .to_str()
            .ok_or_else(|| StoreError::Unusable("the backup's path is not UTF-8".into()))?
            .to_owned();
        aside(move || Ok(options.open()?.execute("VACUUM INTO ?1", [into]).map(drop)?)).await
    }

    fn of(
        path: &Path,
        writer: Arc<Pool>,
        readers: Readers<Arc<Pool>>,
        checkpoints: Option<Checkpoints>,
        guests: &'static [Guest],
    ) -> Arc<dyn Store> {
        let (queue, syncs) = (Queue::new(1, WRITES), Syncs::new(log_of(path), checkpoints));
        let (follower, grown) = Default::default();
        Arc::new(Self { writer, readers, queue, syncs, guests, follower, grown })
    }
}

/// Opens a file that nobody else uses, brings it up to date, and looks at it before it is moved elsewhere.
#[cfg(feature = "postgres")]
pub(crate) async fn open_to_move<T: Send + 'static>(
    path: &Path,
    guests: &'static [Guest],
    look: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<(crate::moving::Source, T), StoreError> {
    let options =
        Options { file: path.to_owned(), flags: OpenFlags::SQLITE_OPEN_READ_WRITE, pragmas: WRITING };
    aside(move || {
        let mut connection = options.open()?;
        bring_up_to_date(&mut connection, guests)?;
        let found = look(&connection)?;
        Ok((Arc::new(std::sync::Mutex::new(connection)), found))
    })
    .await
}

/// Does something with a file on another thread.
async fn aside<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|_| StoreError::Inconsistent("opening it panicked".into()))?
}

fn bring_up_to_date(connection: &mut Connection, guests: &'static [Guest]) -> Result<(), StoreError> {
    let version = rusqlite::version();
    if !wal_is_safe(version) {
        return Err(StoreError::Unusable(format!(
            "SQLite {version} can lose data in WAL mode; 3.51.3 or later is needed"
        )));
    }
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute_batch(guest::TABLES)?;
    for Step { guest, version, sql } in guest::pending(&applied(&tx)?, guests)? {
        tx.execute_batch(&sql.replace("BYTES", "BLOB"))?;
        tx.execute("INSERT INTO guest_migrations (guest, version) VALUES (?1, ?2)", (guest, version))?;
    }
    Ok(tx.commit()?)
}

/// The write-ahead log of a database, where SQLite keeps it (<https://sqlite.org/walformat.html>).
fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// What was applied to this file.
fn applied(connection: &Connection) -> Result<guest::Applied, StoreError> {
    let mut old = connection.prepare("SELECT version FROM migrations")?;
    let old = old.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut new = connection.prepare("SELECT guest, version FROM guest_migrations")?;
    let new = new.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
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
                Mode::Read | Mode::Feed | Mode::Glance => {
                    let (pool, turn) = self.readers.enter(lane, mode).await?;
                    let begin = (mode != Mode::Glance).then_some("BEGIN");
                    (pool.begin(begin).await?, turn)
                }
                Mode::Write | Mode::Batch => {
                    let turn = self.queue.enter(lane).await?;
                    (self.writer.begin(Some("BEGIN IMMEDIATE")).await?, Some(turn))
                }
            })
        };
        let (tx, turn) = waited(mode, begin).await?;
        let inner = Inner::Lite(tx, self.syncs.clone());
        let (follower, grown) = (self.follower.get().cloned(), self.grown.clone());
        Ok(SecurityTx::new(inner, self.guests, follower, grown, turn))
    }

    fn guests(&self) -> &[Guest] {
        self.guests
    }

    fn follower(&self) -> &OnceLock<Arc<dyn Follower>> {
        &self.follower
    }

    fn grown(&self) -> &Grown {
        &self.grown
    }

    async fn settled(&self) -> Result<(), StoreError> {
        Ok(self.syncs.durable().await?)
    }

    async fn claim(&self) -> Result<(), StoreError> {
        Ok(()) // The data folder's lock file is the claim.
    }

    async fn broken(&self) -> String {
        self.syncs.failure().await
    }

    fn pools(&self) -> Vec<measure::Pool> {
        [self.writer.shown("writers")].into_iter().chain(self.readers.pools()).collect()
    }

    async fn woken(&self) {
        std::future::pending().await
    }

    async fn close(&self) {
        for pool in self.readers.each() {
            pool.close().await;
        }
        self.writer.close().await;
        self.syncs.close().await;
    }
}
