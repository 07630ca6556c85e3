//! PostgreSQL, or what speaks its protocol.

mod address;
mod connection;
mod syncs;

use crate::db::{Follower, Inner, Mode, Readers, SecurityTx, Store};
use crate::growth::Grown;
use crate::guest::{self, Guest, Step};
use crate::lanes::{Lane, Queue, WRITES};
use crate::measure::{self, Connections, waited};
use crate::{DatabaseError, StoreError, args};
use address::Address;
use async_trait::async_trait;
pub(crate) use connection::{Pool, Transaction};
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
pub(crate) use syncs::{Era, Syncs};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, GenericClient};

/// PostgreSQL, or what speaks its protocol.
pub struct Postgres {
    writers: Pool,
    readers: Readers<Pool>,
    guests: &'static [Guest],
    /// Those that hold the revision counter would only wait for one another over connections.
    changes: Arc<Queue>,
    batches: Arc<Queue>,
    syncs: Arc<Syncs>,
    address: Address,
    follower: OnceLock<Arc<dyn Follower>>,
    grown: Arc<Grown>,
    sole: tokio::sync::Mutex<Option<Client>>,
    listener: tokio::sync::Mutex<Option<Listener>>,
}

/// Transactions that write without the revision counter at once.
const BATCHES: usize = 4;

/// One process serves from one database for now; this number is the advisory lock that says so.
const SOLE_NODE: i64 = 0x0066_6c6f_7779_7465;

/// Of each connection: a stalled writer may not hold up a revocation.
const SETTINGS: [(&str, &str); 3] = [
    ("lock_timeout", "3000"),
    ("idle_in_transaction_session_timeout", "5000"),
    ("statement_timeout", "10000"),
];

/// A read sees one state throughout.
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Commits are made durable together, see [`Syncs`]. Whoever holds the revision counter is alone.
const WRITE: &str =
    "BEGIN; SET LOCAL synchronous_commit = off; SELECT revision FROM head WHERE id = 1 FOR UPDATE";
const BATCH: &str = "BEGIN; SET LOCAL synchronous_commit = off";

impl Postgres {
    /// Connects and brings the tables up to date.
    pub async fn connect(url: &str, guests: &'static [Guest]) -> Result<Arc<dyn Store>, StoreError> {
        let address = Address::parse(url, &SETTINGS).map_err(StoreError::Unusable)?;
        bring_up_to_date(&mut address.connect().await?, guests).await?;
        let pool = |size| Pool::new(&address, size);
        Ok(Arc::new(Self {
            writers: pool(BATCHES + 1)?,
            readers: Readers::new(pool(2)?, pool(2)?, pool(2)?, pool(4)?),
            guests,
            changes: Queue::new(1, WRITES),
            batches: Queue::new(BATCHES, WRITES),
            syncs: Syncs::new(address.clone()),
            address,
            follower: OnceLock::new(),
            grown: Arc::default(),
            sole: tokio::sync::Mutex::new(None),
            listener: tokio::sync::Mutex::new(None),
        }))
    }
}

async fn bring_up_to_date(client: &mut Client, guests: &'static [Guest]) -> Result<(), StoreError> {
    let tx = client.transaction().await?;
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&(SOLE_NODE + 1)]).await?;
    tx.batch_execute(guest::TABLES).await?;
    for Step { guest, version, sql } in pending(&tx, guests).await? {
        tx.batch_execute(&sql.replace("BYTES", "BYTEA")).await?;
        let note = "INSERT INTO guest_migrations (guest, version) VALUES ($1, $2)";
        tx.execute(note, &[&guest, &version]).await?;
    }
    Ok(tx.commit().await?)
}

/// The changes of the tables that are not made yet.
async fn pending(client: &impl GenericClient, guests: &'static [Guest]) -> Result<Vec<Step>, StoreError> {
    let old = client.query("SELECT version FROM migrations", &[]).await?;
    let old = old.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let new = client.query("SELECT guest, version FROM guest_migrations", &[]).await?;
    let new = new.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let new = new.collect::<Result<_, tokio_postgres::Error>>()?;
    guest::pending(&guest::Applied::new(old, new), guests)
}

/// A database that an installation is moved to, which nobody else uses meanwhile.
pub(crate) struct Target(Client);

impl Target {
    /// Connects, and brings the tables up to date. No statement of it has to be done soon.
    pub(crate) async fn connect(url: &str, guests: &'static [Guest]) -> Result<Self, StoreError> {
        let address = Address::parse(url, &[]).map_err(StoreError::Unusable)?;
        let mut client = address.connect().await?;
        let alone = client.query_one("SELECT pg_try_advisory_lock($1)", &[&SOLE_NODE]).await?;
        if !alone.get::<_, bool>(0) {
            return Err(StoreError::Unusable(
                "another flowyte uses the PostgreSQL database; stop it first".into(),
            ));
        }
        // Somebody's own database is not to be changed for having been named by mistake.
        let there = client.query_one("SELECT to_regclass('guest_migrations') IS NOT NULL", &[]).await?;
        if there.get(0) && !pending(&client, guests).await?.is_empty() {
            return Err(StoreError::Unusable(
                "the PostgreSQL database was used by another release; name an empty one".into(),
            ));
        }
        bring_up_to_date(&mut client, guests).await?;
        Ok(Self(client))
    }

    pub(crate) async fn transaction(&mut self) -> Result<tokio_postgres::Transaction<'_>, StoreError> {
        Ok(self.0.transaction().await?)
    }

    /// Lets PostgreSQL look at what there is now, before it plans by that.
    pub(crate) async fn analyze(&self) -> Result<(), StoreError> {
        Ok(self.0.batch_execute("ANALYZE").await?)
    }
}

/// A connection over which others say that they have changed something.
struct Listener {
    /// It listens for as long as this is there.
    _client: Client,
    news: mpsc::Receiver<()>,
}

impl Listener {
    async fn connect(address: &Address) -> Result<Self, tokio_postgres::Error> {
        let (client, mut connection) = address.config.connect(address.tls.clone()).await?;
        // One that nobody has taken yet says as much as many.
        let (tell, news) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(_) = message {
                    let _ = tell.try_send(());
                }
            }
        });
        client.batch_execute("LISTEN flowyte_changes").await?;
        Ok(Self { _client: client, news })
    }
}

#[async_trait]
impl Store for Postgres {
    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<SecurityTx, StoreError> {
        let begin = async {
            let (pool, turn, begin) = match mode {
                Mode::Read | Mode::Feed | Mode::Glance => {
                    let (pool, turn) = self.readers.enter(lane, mode).await?;
                    (pool, turn, (mode != Mode::Glance).then_some(READ))
                }
                Mode::Write => (&self.writers, Some(self.changes.enter(lane).await?), Some(WRITE)),
                Mode::Batch => (&self.writers, Some(self.batches.enter(lane).await?), Some(BATCH)),
            };
            let syncs = match mode {
                Mode::Write | Mode::Batch => Some((self.syncs.clone(), self.syncs.era().await?)),
                Mode::Read | Mode::Feed | Mode::Glance => None,
            };
            Ok::<_, StoreError>((Inner::Pg(Box::new(pool.begin(begin).await?), syncs), turn))
        };
        let (inner, turn) = waited(mode, begin).await?;
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
        Ok(self.syncs.durable(self.syncs.era().await?).await?)
    }

    async fn claim(&self) -> Result<(), StoreError> {
        let mut sole = self.sole.lock().await;
        if let Some(client) = sole.as_ref() {
            if client.batch_execute("SELECT 1").await.is_ok() {
                return Ok(());
            }
            *sole = None;
        }
        let client = self.address.connect().await?;
        // The database may take a moment to notice that the process before this one was killed.
        client.batch_execute("SET lock_timeout = 1500").await?;
        match client.execute("SELECT pg_advisory_lock($1)", &[&SOLE_NODE]).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                return Err(StoreError::Unusable(
                    "another flowyte serves from this database; stop it first".into(),
                ));
            }
            done => done?,
        };
        *sole = Some(client);
        Ok(())
    }

    fn pools(&self) -> Vec<measure::Pool> {
        [self.writers.shown("writers")].into_iter().chain(self.readers.pools()).collect()
    }

    async fn woken(&self) {
        let mut slot = self.listener.lock().await;
        if slot.is_none() {
            *slot = Listener::connect(&self.address).await.ok();
        }
        match slot.as_mut() {
            Some(listener) => {
                if listener.news.recv().await.is_none() {
                    *slot = None;
                }
            }
            None => std::future::pending().await, // The poll is the truth; a notification only shortens it.
        }
    }

    async fn close(&self) {
        drop(self.listener.lock().await.take());
        for pool in self.readers.each() {
            pool.close();
        }
        self.writers.close();
    }
}

/// Tells of a change, once it is committed.
pub(crate) fn notice(revision: crate::Revision) -> crate::db::Statement {
    ("SELECT pg_notify('flowyte_changes', CAST($1 AS TEXT))", args![revision])
}

/// What PostgreSQL says of an error, and where it says nothing, what the connection does.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(error), _) => format!("{} ({})", error.message(), error.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}
