//! PostgreSQL, or what speaks its protocol.

use crate::StoreError;
use crate::db::{Follower, Inner, Mode, Readers, SecurityTx, Store};
use crate::growth::Grown;
use crate::guest::{self, Guest, Step};
use crate::lanes::{Lane, Queue, WRITES};
use crate::measure::{Connections, Pool, waited};
use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// PostgreSQL, or what speaks its protocol.
pub struct Postgres {
    writers: PgPool,
    readers: Readers<PgPool>,
    guests: &'static [Guest],
    /// Those that hold the revision counter would only wait for one another over connections.
    changes: Arc<Queue>,
    batches: Arc<Queue>,
    options: PgConnectOptions,
    follower: OnceLock<Arc<dyn Follower>>,
    grown: Arc<Grown>,
    sole: tokio::sync::Mutex<Option<sqlx::PgConnection>>,
    listener: tokio::sync::Mutex<Option<sqlx::postgres::PgListener>>,
}

/// Transactions that write without the revision counter at once.
const BATCHES: usize = 4;

/// One process serves from one database for now; this number is the advisory lock that says so.
const SOLE_NODE: i64 = 0x0066_6c6f_7779_7465;

impl Postgres {
    /// Connects and brings the tables up to date.
    pub async fn connect(url: &str, guests: &'static [Guest]) -> Result<Arc<dyn Store>, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| {
                StoreError::Unusable("the database URL is not postgres://user:password@host/name".into())
            })?
            // A stalled writer may not hold up a revocation.
            .options([
                ("lock_timeout", "3000"),
                ("idle_in_transaction_session_timeout", "5000"),
                ("statement_timeout", "10000"),
            ]);
        let pool = |size| PgPoolOptions::new().max_connections(size).acquire_timeout(Duration::from_secs(3));
        let writers = pool(BATCHES as u32 + 1).connect_with(options.clone()).await?;
        let mut tx = writers.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(SOLE_NODE + 1).execute(&mut *tx).await?;
        sqlx::raw_sql(guest::TABLES).execute(&mut *tx).await?;
        for Step { guest, version, sql } in guest::pending(&applied(&mut tx).await?, guests)? {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.replace("BYTES", "BYTEA"))).execute(&mut *tx).await?;
            let note = sqlx::query("INSERT INTO guest_migrations (guest, version) VALUES ($1, $2)");
            note.bind(guest).bind(version).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        let readers = Readers::new(
            pool(2).connect_lazy_with(options.clone()), // One to read, one to listen.
            pool(2).connect_lazy_with(options.clone()),
            pool(2).connect_lazy_with(options.clone()),
            pool(5).connect_lazy_with(options.clone()),
        );
        Ok(Arc::new(Self {
            writers,
            readers,
            guests,
            changes: Queue::new(1, WRITES),
            batches: Queue::new(BATCHES, WRITES),
            options,
            follower: OnceLock::new(),
            grown: Arc::default(),
            sole: tokio::sync::Mutex::new(None),
            listener: tokio::sync::Mutex::new(None),
        }))
    }
}

/// What was applied to this database.
async fn applied(connection: &mut PgConnection) -> Result<guest::Applied, StoreError> {
    let old = sqlx::query_scalar("SELECT version FROM migrations").fetch_all(&mut *connection).await?;
    let new = sqlx::query_as("SELECT guest, version FROM guest_migrations").fetch_all(connection).await?;
    Ok(guest::Applied::new(old, new))
}

#[async_trait]
impl Store for Postgres {
    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<SecurityTx, StoreError> {
        let begin = async {
            let (inner, turn) = match mode {
                Mode::Read | Mode::Feed | Mode::Glance => {
                    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                    let (pool, turn) = self.readers.enter(lane, mode).await?;
                    (pool.begin_with(begin).await?, turn)
                }
                Mode::Write => {
                    let turn = self.changes.enter(lane).await?;
                    (self.writers.begin().await?, Some(turn))
                }
                Mode::Batch => {
                    let turn = self.batches.enter(lane).await?;
                    (self.writers.begin().await?, Some(turn))
                }
            };
            let follower = self.follower.get().cloned();
            let grown = self.grown.clone();
            let mut tx = SecurityTx::new(Inner::Pg(inner), self.guests, follower, grown, turn);
            if mode == Mode::Write {
                tx.exec("SELECT revision FROM head WHERE id = 1 FOR UPDATE", vec![]).await?;
            }
            Ok::<_, StoreError>(tx)
        };
        waited(mode, begin).await
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
        Ok(()) // It shows a commit to nobody before that is durable.
    }

    async fn claim(&self) -> Result<(), StoreError> {
        let mut sole = self.sole.lock().await;
        if let Some(connection) = sole.as_mut() {
            if sqlx::query("SELECT 1").execute(connection).await.is_ok() {
                return Ok(());
            }
            *sole = None;
        }
        // The database may take a moment to notice that the process before this one was killed.
        let patient = self.options.clone().options([("lock_timeout", "1500")]);
        let mut connection = sqlx::ConnectOptions::connect(&patient).await?;
        let claimed =
            sqlx::query("SELECT pg_advisory_lock($1)").bind(SOLE_NODE).execute(&mut connection).await;
        match claimed {
            // lock_not_available
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => {
                return Err(StoreError::Unusable(
                    "another flowyte serves from this database; stop it first".into(),
                ));
            }
            done => done?,
        };
        *sole = Some(connection);
        Ok(())
    }

    fn pools(&self) -> Vec<Pool> {
        [self.writers.shown("writers")].into_iter().chain(self.readers.pools()).collect()
    }

    async fn woken(&self) {
        let mut slot = self.listener.lock().await;
        if slot.is_none()
            && let Ok(mut listener) = sqlx::postgres::PgListener::connect_with(&self.readers.feed).await
            && listener.listen("flowyte_changes").await.is_ok()
        {
            *slot = Some(listener);
        }
        match slot.as_mut() {
            Some(listener) => {
                if listener.recv().await.is_err() {
                    *slot = None;
                }
            }
            None => std::future::pending().await, // The poll is the truth; a notification only shortens it.
        }
    }

    async fn close(&self) {
        // It holds a connection for as long as it is there, and a pool closes when it has all of its own back.
        drop(self.listener.lock().await.take());
        for pool in self.readers.each() {
            pool.close().await;
        }
        self.writers.close().await;
    }
}
