//! Makes commits durable together: those that wait at once share one sync of the server's log.
//!
//! A commit with `synchronous_commit` off is seen by everybody at once, and is on the disk as soon as a later one is that waits for it: there is
//! one log, and it is written in order. Where the server has synchronous standbys, they have it then, too
//! (<https://www.postgresql.org/docs/current/wal-async-commit.html>).

use super::address::Address;
use super::connection::ANSWER;
use crate::DatabaseError;
use crate::syncs::Waiters;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::timeout;
use tokio_postgres::Client;

/// Writes something into the log, so that there is a commit to wait for.
const SYNC: &str = "SELECT pg_logical_emit_message(true, 'flowyte', '')";

/// Syncs of one server's log.
pub(crate) struct Syncs {
    address: Address,
    /// Over which syncs are asked for. Where the server stops, this is lost, and what was not synced with it.
    connection: tokio::sync::Mutex<Option<Client>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiters: Waiters,
    /// The present connection; `None` while there is none.
    era: Option<Era>,
    /// How many connections there have been, which is the number of the newest era.
    eras: u64,
}

/// The life of one connection, in which the server did not stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Era(u64);

impl Syncs {
    pub(crate) fn new(address: Address) -> Arc<Self> {
        let (connection, state) = Default::default();
        Arc::new(Self { address, connection, state })
    }

    /// The present era, to be asked before a transaction begins whose commit is to be made durable.
    pub(crate) async fn era(&self) -> Result<Era, DatabaseError> {
        if let Some(era) = self.lock().era {
            return Ok(era);
        }
        let mut connection = self.connection.lock().await;
        if let Some(era) = self.lock().era {
            return Ok(era);
        }
        *connection = Some(self.address.connect().await?);
        let mut state = self.lock();
        state.eras += 1;
        let era = Era(state.eras);
        state.era = Some(era);
        Ok(era)
    }

    /// Returns when everything is durable that was committed in this era before the call.
    pub(crate) async fn durable(self: &Arc<Self>, era: Era) -> Result<(), DatabaseError> {
        let (wait, first) = {
            let mut state = self.lock();
            if state.era != Some(era) {
                return Err(DatabaseError::NotDurable);
            }
            state.waiters.stand()
        };
        if first {
            tokio::spawn(Arc::clone(self).run());
        }
        wait.await.map_err(|_| DatabaseError::NotDurable)
    }

    /// Asks the server for one sync after the other until no commit waits for one.
    async fn run(self: Arc<Self>) {
        let mut connection = self.connection.lock().await;
        loop {
            let Some(batch) = self.lock().waiters.next() else { return };
            let synced = match connection.as_ref() {
                Some(client) => match timeout(ANSWER, client.batch_execute(SYNC)).await {
                    Ok(done) => done.map_err(DatabaseError::Postgres),
                    Err(_) => Err(DatabaseError::Away),
                },
                None => Err(DatabaseError::Away),
            };
            if let Err(error) = synced {
                tracing::error!(%error, "it is not known whether the last commits are durable; their callers are told so");
                *connection = None;
                let mut state = self.lock();
                state.era = None;
                state.waiters.give_up();
                continue;
            }
            batch.done();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
