//! Copies the write-ahead log into the database while others read and write.
//!
//! SQLite does so by itself in the commit that finds the log long, and whoever writes next waits for it: some milliseconds for 16 MiB. A
//! PASSIVE checkpoint over another connection holds nobody up (<https://sqlite.org/pragma.html#pragma_wal_checkpoint>). It can't start the log
//! anew while others write, so that is left to the commit, which then finds little to copy.

use super::connection::Options;
use rusqlite::Connection;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

/// Pages that are copied together (4 MiB).
const PAGES: i64 = 1_000;
/// How often one looks, at most.
const PAUSE: Duration = Duration::from_millis(50);

/// A thread that copies; it ends when this is closed.
pub(crate) struct Checkpoints {
    written: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    /// Opens a connection for it.
    pub(crate) fn start(options: &Options) -> Result<Self, crate::StoreError> {
        let connection = options.open()?;
        let (written, look) = sync_channel(1);
        let run = move || run(&connection, &look);
        let thread = Builder::new().name("flowyte-checkpoints".into()).spawn(run);
        let thread = thread.map_err(|error| crate::StoreError::Unusable(format!("no thread: {error}")))?;
        Ok(Self { written, thread })
    }

    /// Says that the log has grown.
    pub(crate) fn written(&self) {
        // One that it has not heard of yet says as much as two.
        let _ = self.written.try_send(());
    }

    /// Ends it, and closes its connection.
    pub(crate) fn close(self) {
        drop(self.written);
        let _ = self.thread.join();
    }
}

fn run(connection: &Connection, written: &Receiver<()>) {
    let mut failing = false;
    for () in written {
        sleep(PAUSE);
        let copied = copy(connection);
        // What can't be copied now stays in the log, where everybody finds it, and is tried again. It is said once, until it works again.
        if let (Err(error), false) = (&copied, failing) {
            tracing::warn!(%error, "the write-ahead log can't be copied into the database, and grows; is the disk full?");
        }
        failing = copied.is_err();
    }
}

fn copy(connection: &Connection) -> rusqlite::Result<()> {
    // NOOP only tells how many pages the log has, and how many of them are in the database.
    let pages = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>("log")? - row.get::<_, i64>("checkpointed")?);
    if connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], pages)? >= PAGES {
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], pages)?;
    }
    Ok(())
}
