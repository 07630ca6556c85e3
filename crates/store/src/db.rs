//! The seam between the two databases: connections, transactions, values. Every SQL text above this file is written once.

use crate::lanes::{Class, Lane, NoTurn, Queue, READS, Turn, WRITES};
use crate::measure::{Pool, waited};
use crate::{Entity, Revision, StoreError};
use async_trait::async_trait;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::{Environment, Timestamp};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection, Executor, Postgres as Pg, Row as _, Sqlite as Lite, Transaction};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The database that holds the truth. What the product asks of it is written once, as methods of `dyn Store` in this
/// crate's modules; an implementation only opens transactions.
///
/// Obligations: a write transaction is alone until it ends, sees every write committed before it began, and is durable
/// when `commit` returns; a read transaction sees one state throughout.
#[async_trait]
pub trait Store: Send + Sync {
    /// Opens a transaction of the server's own work.
    async fn begin(&self, mode: Mode) -> Result<Tx, StoreError> {
        self.begin_in(Lane::HOUSE, mode).await
    }

    /// Opens a transaction of whoever `lane` says, which waits for its turn there.
    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<Tx, StoreError>;

    /// Whoever must have seen a change before the call that made it returns.
    fn follower(&self) -> &OnceLock<Arc<dyn Follower>>;

    /// Proves that this process alone may serve from this database, or says who is in the way.
    async fn claim(&self) -> Result<(), StoreError>;

    /// Its connections, for whoever watches them; none of its own where it only leads to another.
    fn pools(&self) -> Vec<Pool> {
        Vec::new()
    }

    /// Waits until another process may have changed something; for ever where there is no other process.
    async fn woken(&self);

    /// Closes every connection.
    async fn close(&self);
}

/// A replica: told of each change after its commit and before the writing call returns.
#[async_trait]
pub trait Follower: Send + Sync {
    /// Returns when everything up to `revision` is applied.
    async fn reach(&self, revision: Revision);
}

/// A store whose transactions wait in one lane.
pub struct InLane<'s>(pub &'s dyn Store, pub Lane);

#[async_trait]
impl Store for InLane<'_> {
    async fn begin(&self, mode: Mode) -> Result<Tx, StoreError> {
        self.0.begin_in(self.1, mode).await
    }

    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<Tx, StoreError> {
        self.0.begin_in(lane, mode).await
    }

    fn follower(&self) -> &OnceLock<Arc<dyn Follower>> {
        self.0.follower()
    }

    async fn claim(&self) -> Result<(), StoreError> {
        self.0.claim().await
    }

    async fn woken(&self) {
        self.0.woken().await
    }

    async fn close(&self) {
        self.0.close().await
    }
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One consistent state, unchanged.
    Read,
    /// The same for replicas, over a connection that nobody else takes.
    Feed,
    /// The one writer. Begins by holding the revision counter.
    Write,
    /// Counters and last-used marks: no change log, no revision.
    Batch,
}

/// An argument of a statement.
#[derive(Clone)]
pub enum Value {
    /// BIGINT.
    Int(Option<i64>),
    /// TEXT.
    Text(Option<String>),
    /// BYTES.
    Bytes(Option<Vec<u8>>),
}

macro_rules! values {
    ($($from:ty => $variant:ident($it:ident) $make:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($it: $from) -> Self { Self::$variant(Some($make)) }
        }
        impl From<Option<$from>> for Value {
            fn from(it: Option<$from>) -> Self {
                match it { Some(it) => it.into(), None => Self::$variant(None) }
            }
        }
    )*};
}

values! {
    i64 => Int(it) it;
    u32 => Int(it) i64::from(it);
    bool => Int(it) i64::from(it);
    Timestamp => Int(it) it.as_micros();
    String => Text(it) it;
    &str => Text(it) it.to_owned();
    Vec<u8> => Bytes(it) it;
    [u8; 8] => Bytes(it) it.to_vec();
    [u8; 16] => Bytes(it) it.to_vec();
    [u8; 32] => Bytes(it) it.to_vec();
    flowyte_core::Digest => Bytes(it) it.as_bytes().to_vec();
}

/// The bytes of an id, as an argument.
pub fn id<I: Id>(id: I) -> Value {
    Value::Bytes(Some(id.as_bytes().to_vec()))
}

/// Arguments of a statement, in the order of `$1`, `$2`, …
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { vec![$($crate::db::Value::from($arg)),*] };
}

/// One row of an answer. Reading a column that is not there, or of another type, is a [`StoreError::Inconsistent`].
pub struct Row(Inner<SqliteRow, PgRow>);

enum Inner<L, P> {
    Lite(L),
    Pg(P),
}

impl Row {
    /// A column by name.
    pub fn get<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: for<'r> sqlx::Decode<'r, Lite> + sqlx::Type<Lite> + for<'r> sqlx::Decode<'r, Pg> + sqlx::Type<Pg>,
    {
        match &self.0 {
            Inner::Lite(row) => row.try_get(column),
            Inner::Pg(row) => row.try_get(column),
        }
        .map_err(|error| StoreError::Inconsistent(format!("column {column}: {error}")))
    }

    /// An id column.
    pub fn id<I: Id>(&self, column: &str) -> Result<I, StoreError> {
        Ok(I::from_bytes(self.bytes(column)?))
    }

    /// A column of exactly `N` bytes.
    pub fn bytes<const N: usize>(&self, column: &str) -> Result<[u8; N], StoreError> {
        let bytes: Vec<u8> = self.get(column)?;
        bytes.try_into().map_err(|_| StoreError::Inconsistent(format!("column {column} has a wrong length")))
    }

    /// An instant column.
    pub fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.get::<i64>(column).map(Timestamp::from_micros)
    }

    /// A column that says yes or no.
    pub fn flag(&self, column: &str) -> Result<bool, StoreError> {
        Ok(self.get::<i64>(column)? != 0)
    }

    /// An id column that may be empty.
    pub fn maybe_id<I: Id>(&self, column: &str) -> Result<Option<I>, StoreError> {
        match self.get::<Option<Vec<u8>>>(column)? {
            Some(_) => self.id(column).map(Some),
            None => Ok(None),
        }
    }

    /// The `environment` column.
    pub fn environment(&self) -> Result<Environment, StoreError> {
        let name: String = self.get("environment")?;
        Environment::parse(&name)
            .ok_or_else(|| StoreError::Inconsistent(format!("column environment: {name}")))
    }

    /// An instant column that may be empty.
    pub fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_micros))
    }

    /// A column of a JSON list of texts.
    pub fn list(&self, column: &str) -> Result<Vec<String>, StoreError> {
        serde_json::from_str(&self.get::<String>(column)?)
            .map_err(|error| StoreError::Inconsistent(format!("column {column}: {error}")))
    }
}

/// A transaction. Dropped without [`Tx::commit`], it never was.
pub struct Tx {
    inner: Inner<Transaction<'static, Lite>, Transaction<'static, Pg>>,
    follower: Option<Arc<dyn Follower>>,
    revision: Option<Revision>,
    /// Given back after the connection, since it is declared after it.
    turn: Option<Turn>,
}

impl Tx {
    /// Runs a statement; answers how many rows it touched.
    pub async fn exec(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64, StoreError> {
        match &mut self.inner {
            Inner::Lite(tx) => Ok(bind_lite(sql, args).execute(&mut **tx).await?.rows_affected()),
            Inner::Pg(tx) => Ok(bind_pg(sql, args).execute(&mut **tx).await?.rows_affected()),
        }
    }

    /// All rows of a query.
    pub async fn all(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        Ok(match &mut self.inner {
            Inner::Lite(tx) => {
                let rows = bind_lite(sql, args).fetch_all(&mut **tx).await?;
                rows.into_iter().map(|row| Row(Inner::Lite(row))).collect()
            }
            Inner::Pg(tx) => {
                let rows = bind_pg(sql, args).fetch_all(&mut **tx).await?;
                rows.into_iter().map(|row| Row(Inner::Pg(row))).collect()
            }
        })
    }

    /// The first row of a query, if there is one.
    pub async fn opt(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Option<Row>, StoreError> {
        Ok(self.all(sql, args).await?.into_iter().next())
    }

    /// The row that must be there: in this organization, or it is not found.
    pub async fn one(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Row, StoreError> {
        self.opt(sql, args).await?.ok_or(StoreError::NotFound)
    }

    /// Appends to the change log: the entity has a new state, which replicas read from its own tables.
    pub async fn change<I: Id>(
        &mut self,
        organization: OrganizationId,
        entity: Entity,
        entity_id: I,
        now: Timestamp,
    ) -> Result<Revision, StoreError> {
        let row = self
            .one(
                "UPDATE head SET revision = revision + 1, seen_at = CASE WHEN seen_at < $1 THEN $1 ELSE seen_at END \
                 WHERE id = 1 RETURNING revision",
                args![now],
            )
            .await?;
        let revision: Revision = row.get("revision")?;
        self.exec(
            "INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES ($1, $2, $3, $4, $5)",
            vec![revision.into(), id(organization), entity.as_str().into(), id(entity_id), now.into()],
        )
        .await?;
        self.revision = Some(revision);
        Ok(revision)
    }

    /// Makes it so; returns when it is durable and this process's replica has applied it.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if let (Some(revision), Inner::Pg(_)) = (self.revision, &self.inner) {
            self.all("SELECT pg_notify('flowyte_changes', CAST($1 AS TEXT))", args![revision]).await?;
        }
        match self.inner {
            Inner::Lite(tx) => tx.commit().await?,
            Inner::Pg(tx) => tx.commit().await?,
        }
        drop(self.turn);
        if let (Some(revision), Some(follower)) = (self.revision, self.follower) {
            follower.reach(revision).await;
        }
        Ok(())
    }
}

impl From<NoTurn> for StoreError {
    fn from(_: NoTurn) -> Self {
        Self::Busy
    }
}

fn bind_lite(
    sql: &'static str,
    args: Vec<Value>,
) -> sqlx::query::Query<'static, Lite, sqlx::sqlite::SqliteArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Value::Int(it) => query.bind(it),
        Value::Text(it) => query.bind(it),
        Value::Bytes(it) => query.bind(it),
    })
}

fn bind_pg(
    sql: &'static str,
    args: Vec<Value>,
) -> sqlx::query::Query<'static, Pg, sqlx::postgres::PgArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Value::Int(it) => query.bind(it),
        Value::Text(it) => query.bind(it),
        Value::Bytes(it) => query.bind(it),
    })
}

const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_credentials.sql"),
    include_str!("../migrations/0002_platform.sql"),
    include_str!("../migrations/0003_superseded_usage.sql"),
    include_str!("../migrations/0004_billing.sql"),
    include_str!("../migrations/0005_knowledge.sql"),
    include_str!("../migrations/0006_numbers.sql"),
    include_str!("../migrations/0007_conversations.sql"),
    include_str!("../migrations/0008_skills.sql"),
    include_str!("../migrations/0009_bounds.sql"),
    include_str!("../migrations/0010_last_calls.sql"),
    include_str!("../migrations/0011_asked.sql"),
    include_str!("../migrations/0012_unanswered.sql"),
    include_str!("../migrations/0013_visitors_by_use.sql"),
    include_str!("../migrations/0014_flat.sql"),
    include_str!("../migrations/0015_time.sql"),
    include_str!("../migrations/0016_sorted_keys.sql"),
    include_str!("../migrations/0017_inviters.sql"),
    include_str!("../migrations/0018_verified_visitors.sql"),
    include_str!("../migrations/0019_accounts.sql"),
    include_str!("../migrations/0020_audit_targets.sql"),
    include_str!("../migrations/0021_upload_parts.sql"),
];

/// The embedded database: one file, one process.
pub struct Sqlite {
    writer: SqlitePool,
    readers: Readers<Lite>,
    queue: Arc<Queue>,
    follower: OnceLock<Arc<dyn Follower>>,
}

/// Connections that read. Reports and chats can't take those that credentials and replicas need, and lanes take turns at them
/// as they do at writing: one organization's searches can't keep another's keys waiting.
struct Readers<D: sqlx::Database> {
    feed: sqlx::Pool<D>,
    credentials: (sqlx::Pool<D>, Arc<Queue>),
    product: (sqlx::Pool<D>, Arc<Queue>),
}

impl<D: sqlx::Database> Readers<D> {
    fn new(feed: sqlx::Pool<D>, credentials: sqlx::Pool<D>, product: sqlx::Pool<D>) -> Self {
        let in_turns = |pool: sqlx::Pool<D>| {
            let turns = Queue::new(pool.options().get_max_connections() as usize, READS);
            (pool, turns)
        };
        Self { feed, credentials: in_turns(credentials), product: in_turns(product) }
    }

    /// The connections for a read of this lane, and leave to take one.
    async fn enter(&self, lane: Lane, mode: Mode) -> Result<(&sqlx::Pool<D>, Option<Turn>), NoTurn> {
        let (pool, turns) = match (mode, lane.class) {
            (Mode::Feed, _) => return Ok((&self.feed, None)),
            (_, Class::Narrowing | Class::Credentials) => &self.credentials,
            (_, Class::Product) => &self.product,
        };
        Ok((pool, Some(turns.enter(lane).await?)))
    }

    fn pools(&self) -> [Pool; 3] {
        [("feed", &self.feed), ("credentials", &self.credentials.0), ("product", &self.product.0)]
            .map(|(name, pool)| Pool::of(name, pool))
    }

    async fn close(&self) {
        self.feed.close().await;
        self.credentials.0.close().await;
        self.product.0.close().await;
    }
}

impl Sqlite {
    /// Opens a file that is there and up to date, beside a server that may be running on it.
    pub async fn open_beside(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
        let have: i64 =
            sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM migrations").fetch_one(&pool).await?;
        if pending(have)?.next().is_some() {
            return Err(StoreError::Unusable(
                "the database was written by an earlier release; start the server once to bring it up to date".into(),
            ));
        }
        let readers = Readers::new(pool.clone(), pool.clone(), pool.clone());
        Ok(Arc::new(Self { writer: pool, readers, queue: Queue::new(1, WRITES), follower: OnceLock::new() }))
    }

    /// Opens or makes the file and brings its tables up to date.
    pub async fn open(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
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
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY)")
            .execute(&mut *tx)
            .await?;
        let have: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM migrations")
            .fetch_one(&mut *tx)
            .await?;
        for (version, sql) in pending(have)? {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.replace("BYTES", "BLOB"))).execute(&mut *tx).await?;
            sqlx::query("INSERT INTO migrations (version) VALUES ($1)")
                .bind(version)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        let options = options.read_only(true);
        let readers = Readers::new(
            pool(1).connect_with(options.clone()).await?,
            pool(2).connect_with(options.clone()).await?,
            pool(4).connect_with(options).await?,
        );
        Ok(Arc::new(Self { writer, readers, queue: Queue::new(1, WRITES), follower: OnceLock::new() }))
    }
}

fn wal_is_safe(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= (3, 51, 3)
}

/// The migrations after `have`; a database from a later release is refused.
fn pending(have: i64) -> Result<impl Iterator<Item = (i64, &'static str)>, StoreError> {
    let newest = MIGRATIONS.len() as i64;
    if have > newest {
        return Err(StoreError::Unusable(format!(
            "the database was written by a later release (schema {have}, this one knows {newest}); run that release"
        )));
    }
    Ok((1..).zip(MIGRATIONS.iter().copied()).filter(move |(version, _)| *version > have))
}

#[async_trait]
impl Store for Sqlite {
    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<Tx, StoreError> {
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
        Ok(Tx { inner: Inner::Lite(inner), follower: self.follower.get().cloned(), revision: None, turn })
    }

    fn follower(&self) -> &OnceLock<Arc<dyn Follower>> {
        &self.follower
    }

    async fn claim(&self) -> Result<(), StoreError> {
        Ok(()) // The data folder's lock file is the claim.
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

/// PostgreSQL, or what speaks its protocol.
pub struct Postgres {
    writers: PgPool,
    readers: Readers<Pg>,
    /// Those that hold the revision counter would only wait for one another over connections.
    changes: Arc<Queue>,
    batches: Arc<Queue>,
    options: PgConnectOptions,
    follower: OnceLock<Arc<dyn Follower>>,
    sole: tokio::sync::Mutex<Option<sqlx::PgConnection>>,
    listener: tokio::sync::Mutex<Option<sqlx::postgres::PgListener>>,
}

/// Transactions that write without the revision counter at once.
const BATCHES: usize = 4;

/// One process serves from one database for now; this number is the advisory lock that says so.
const SOLE_NODE: i64 = 0x0066_6c6f_7779_7465;

impl Postgres {
    /// Connects and brings the tables up to date.
    pub async fn connect(url: &str) -> Result<Arc<dyn Store>, StoreError> {
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
        tx.execute("CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY)").await?;
        let have: i64 =
            sqlx::query_scalar("SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM migrations")
                .fetch_one(&mut *tx)
                .await?;
        for (version, sql) in pending(have)? {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.replace("BYTES", "BYTEA"))).execute(&mut *tx).await?;
            sqlx::query("INSERT INTO migrations (version) VALUES ($1)")
                .bind(version)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        let readers = Readers::new(
            pool(2).connect_lazy_with(options.clone()), // One to read, one to listen.
            pool(2).connect_lazy_with(options.clone()),
            pool(5).connect_lazy_with(options.clone()),
        );
        Ok(Arc::new(Self {
            writers,
            readers,
            changes: Queue::new(1, WRITES),
            batches: Queue::new(BATCHES, WRITES),
            options,
            follower: OnceLock::new(),
            sole: tokio::sync::Mutex::new(None),
            listener: tokio::sync::Mutex::new(None),
        }))
    }
}

#[async_trait]
impl Store for Postgres {
    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<Tx, StoreError> {
        let begin = async {
            let (inner, turn) = match mode {
                Mode::Read | Mode::Feed => {
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
            let mut tx = Tx { inner: Inner::Pg(inner), follower, revision: None, turn };
            if mode == Mode::Write {
                tx.exec("SELECT revision FROM head WHERE id = 1 FOR UPDATE", vec![]).await?;
            }
            Ok::<_, StoreError>(tx)
        };
        waited(mode, begin).await
    }

    fn follower(&self) -> &OnceLock<Arc<dyn Follower>> {
        &self.follower
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
        [Pool::of("writers", &self.writers)].into_iter().chain(self.readers.pools()).collect()
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
        self.readers.close().await;
        self.writers.close().await;
    }
}
