//! Makes commits durable together: those that wait at once share one sync of the disk.
//!
//! SQLite syncs its write-ahead log at each commit when `synchronous` is FULL, one commit after the other. Here it is NORMAL: a commit
//! only writes, and is then made durable by a sync of the log (`fdatasync`) that every commit before it shares. What NORMAL syncs
//! by itself, the log before it is copied into the database and the database after that, keeps the file whole
//! (<https://sqlite.org/pragma.html#pragma_synchronous>).

use super::checkpoints::Checkpoints;
use crate::syncs::Waiters;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Syncs of one write-ahead log.
pub(crate) struct Syncs {
    log: PathBuf,
    state: Mutex<State>,
    /// The inode of the log whose name is on the disk.
    named: AtomicU64,
    /// Rung when a sync fails.
    failed: Notify,
    /// Copies what was synced into the database, until it is closed; nothing where another process does.
    checkpoints: Mutex<Option<Checkpoints>>,
}

#[derive(Default)]
struct State {
    waiters: Waiters,
    /// Why a sync failed. From then on nobody knows what the disk has, so nothing is durable any more.
    failure: Option<String>,
}

/// A commit may be lost when the machine stops: the disk could not be synced.
#[derive(Debug)]
pub(crate) struct NotDurable;

impl Syncs {
    pub(crate) fn new(log: PathBuf, checkpoints: Option<Checkpoints>) -> Arc<Self> {
        let (state, named, failed) = Default::default();
        Arc::new(Self { log, state, named, failed, checkpoints: Mutex::new(checkpoints) })
    }

    /// Returns when the log is no longer copied into the database from here.
    pub(crate) async fn close(&self) {
        let checkpoints = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(checkpoints) = checkpoints {
            let _ = tokio::task::spawn_blocking(|| checkpoints.close()).await;
        }
    }

    /// Returns when everything that was written to the log before the call is on the disk.
    pub(crate) async fn durable(self: &Arc<Self>) -> Result<(), NotDurable> {
        let (wait, first) = {
            let mut state = self.lock();
            if state.failure.is_some() {
                return Err(NotDurable);
            }
            state.waiters.stand()
        };
        if first {
            let syncs = Arc::clone(self);
            tokio::task::spawn_blocking(move || syncs.run());
        }
        wait.await.map_err(|_| NotDurable)
    }

    /// Returns, with the reason, when a sync has failed.
    pub(crate) async fn failure(&self) -> String {
        loop {
            let rung = self.failed.notified();
            if let Some(failure) = &self.lock().failure {
                return failure.clone();
            }
            rung.await;
        }
    }

    /// Syncs the log once after the other until no commit waits for it, or until it fails once, after which nothing is made durable any more.
    fn run(&self) {
        loop {
            let Some(batch) = self.lock().waiters.next() else { return };
            if let Err(error) = self.sync() {
                // A second attempt could succeed without the first one's data (fsync(2) reports an error once), so there is none.
                let mut state = self.lock();
                state.failure = Some(error.to_string());
                state.waiters.give_up();
                self.failed.notify_one();
                return;
            }
            batch.done();
            if let Some(checkpoints) = &*self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner) {
                checkpoints.written();
            }
        }
    }

    /// The log is opened for each sync, since SQLite may have removed it: it does when it has copied everything into the database and
    /// synced that, and no connection is left. Of a new log the name must be on the disk as well (fsync(2)).
    fn sync(&self) -> io::Result<()> {
        let log = match File::open(&self.log) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        log.sync_data()?;
        let number = log.metadata()?.ino();
        if self.named.load(Ordering::Relaxed) != number {
            let folder = self.log.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()?;
            self.named.store(number, Ordering::Relaxed);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
