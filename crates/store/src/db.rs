//! The seam between the two databases: connections, transactions, values. Every SQL text above this file is written once.

use crate::growth::{Grown, Growth};
use crate::guest::Guest;
use crate::lanes::{Class, Lane, NoSlot, Queue, READS, Slot};
use crate::measure::{Connections, Pool};
#[cfg(feature = "postgres")]
use crate::postgres;
use crate::sqlite::{self, FromCell, NotDurable, Syncs};
use crate::{DatabaseError, Entity, Revision, StoreError};
use async_trait::async_trait;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::{Environment, Timestamp};
use futures_util::future::try_join;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

/// The database that holds the truth. What the product asks of it is written once, as methods of `dyn Store` in this
/// crate's modules; an implementation only opens transactions.
///
/// Obligations: a write transaction is alone until it ends, sees every write committed before it began, and is durable
/// when `commit` returns; a read transaction sees one state throughout.
#[async_trait]
pub trait Store: Send + Sync {
    /// Opens a transaction of the server's own work. What it may do is said by its type: see [`ReadTx`].
    async fn begin(&self, mode: Mode) -> Result<SecurityTx, StoreError> {
        self.begin_in(Lane::HOUSE, mode).await
    }

    /// Opens a transaction of whoever `lane` says, which waits for its turn there.
    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<SecurityTx, StoreError>;

    /// Whoever else keeps tables in this database.
    fn guests(&self) -> &[Guest] {
        &[]
    }

    /// Whoever must have seen a change before the call that made it returns.
    fn follower(&self) -> &OnceLock<Arc<dyn Follower>>;

    /// The audit chains that this process has appended to.
    fn grown(&self) -> &Grown;

    /// Returns when everything that can be read here is durable: what is written down of it elsewhere is then true after a power failure too.
    async fn settled(&self) -> Result<(), StoreError>;

    /// Proves that this process alone may serve from this database, or says who is in the way.
    async fn claim(&self) -> Result<(), StoreError>;

    /// Its connections, for whoever watches them; none of its own where it only leads to another.
    fn pools(&self) -> Vec<Pool> {
        Vec::new()
    }

    /// Returns, with the reason, when what was written can't be made durable any more, so that whoever serves from it must stop.
    async fn broken(&self) -> String {
        std::future::pending().await
    }

    /// Waits until another process may have changed something; for ever where there is no other process.
    async fn woken(&self);

    /// Closes every connection; nothing can be asked of it after that.
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
    async fn begin(&self, mode: Mode) -> Result<SecurityTx, StoreError> {
        self.0.begin_in(self.1, mode).await
    }

    async fn begin_in(&self, lane: Lane, mode: Mode) -> Result<SecurityTx, StoreError> {
        self.0.begin_in(lane, mode).await
    }

    fn guests(&self) -> &[Guest] {
        self.0.guests()
    }

    fn follower(&self) -> &OnceLock<Arc<dyn Follower>> {
        self.0.follower()
    }

    fn grown(&self) -> &Grown {
        self.0.grown()
    }

    async fn settled(&self) -> Result<(), StoreError> {
        self.0.settled().await
    }

    async fn claim(&self) -> Result<(), StoreError> {
        self.0.claim().await
    }

    async fn broken(&self) -> String {
        self.0.broken().await
    }

    async fn woken(&self) {
        self.0.woken().await
    }

    async fn close(&self) {
        self.0.close().await
    }
}

impl dyn Store + '_ {
    /// Begins a transaction that changes nothing and sees one consistent state.
    pub async fn read(&self) -> Result<ReadTx, StoreError> {
        Ok(self.begin(Mode::Read).await?.0.0.0)
    }

    /// The same for one statement that finds what it looks for by an index. It costs half as much, and a look-up of credentials does not wait
    /// for a list of them. A second statement fails.
    pub async fn glance(&self) -> Result<ReadTx, StoreError> {
        Ok(self.begin(Mode::Glance).await?.0.0.0)
    }

    /// The same as a read, for replicas, over a connection that nobody else takes.
    pub async fn feed(&self) -> Result<ReadTx, StoreError> {
        Ok(self.begin(Mode::Feed).await?.0.0.0)
    }

    /// Counters and last-used marks, and whatever nobody has to read in an audit trail.
    pub async fn batch(&self) -> Result<BatchTx, StoreError> {
        Ok(self.begin(Mode::Batch).await?.0.0)
    }

    /// What a guest changes and the audit trail tells of.
    pub async fn product(&self) -> Result<ProductTx, StoreError> {
        Ok(self.begin(Mode::Write).await?.0)
    }

    /// What changes credentials, people or organizations.
    pub async fn security(&self) -> Result<SecurityTx, StoreError> {
        self.begin(Mode::Write).await
    }
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reads that see one consistent state and change nothing.
    Read,
    /// The same of one short statement.
    Glance,
    /// The same as a read, for replicas, over a connection that nobody else takes.
    Feed,
    /// The one writer. Begins by holding the revision counter.
    Write,
    /// Counters and last-used marks: no change log, no revision.
    Batch,
}

/// An argument of a statement.
#[derive(Clone)]
pub enum Value {
    /// A BIGINT; `None` is NULL. A flag is 0 or 1, and an instant is in microseconds since the Unix epoch.
    Int(Option<i64>),
    /// A TEXT; `None` is NULL.
    Text(Option<String>),
    /// Bytes (BLOB in SQLite, BYTEA in PostgreSQL); `None` is NULL.
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

/// A statement with its arguments.
pub type Statement = (&'static str, Vec<Value>);

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
pub struct Row(RowOf);

enum RowOf {
    Lite(sqlite::Row),
    #[cfg(feature = "postgres")]
    Pg(tokio_postgres::Row),
}

/// What a column may be read as.
#[cfg(feature = "postgres")]
pub trait Column: FromCell + for<'r> tokio_postgres::types::FromSql<'r> {}
#[cfg(feature = "postgres")]
impl<T> Column for T where T: FromCell + for<'r> tokio_postgres::types::FromSql<'r> {}

/// What a column may be read as.
#[cfg(not(feature = "postgres"))]
pub trait Column: FromCell {}
#[cfg(not(feature = "postgres"))]
impl<T: FromCell> Column for T {}

impl Row {
    /// The value of the column with this name; [`StoreError::Inconsistent`] where there is none, or one of another type.
    pub fn get<T: Column>(&self, column: &str) -> Result<T, StoreError> {
        match &self.0 {
            RowOf::Lite(row) => row.get(column).map_err(str::to_owned),
            #[cfg(feature = "postgres")]
            RowOf::Pg(row) => row.try_get(column).map_err(|error| postgres::told(&error)),
        }
        .map_err(|error| StoreError::Inconsistent(format!("column {column}: {error}")))
    }

    /// A column with the bytes of an id.
    pub fn id<I: Id>(&self, column: &str) -> Result<I, StoreError> {
        Ok(I::from_bytes(self.bytes(column)?))
    }

    /// A column of exactly `N` bytes.
    pub fn bytes<const N: usize>(&self, column: &str) -> Result<[u8; N], StoreError> {
        let bytes: Vec<u8> = self.get(column)?;
        bytes.try_into().map_err(|_| StoreError::Inconsistent(format!("column {column} has a wrong length")))
    }

    /// A column with an instant, in microseconds since 1970.
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

    /// The column `environment`, `live` or `test`.
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

/// What a transaction may do is said by its type: a [`ReadTx`] reads, a [`BatchTx`] writes too, a [`ProductTx`] tells the audit trail of
/// it, and a [`SecurityTx`] alone changes credentials, people and organizations, which goes into the change log. Each can do what the
/// ones before it can. Dropped without a commit, none of them ever was.
pub struct ReadTx {
    inner: Inner,
    guests: &'static [Guest],
    follower: Option<Arc<dyn Follower>>,
    revision: Option<Revision>,
    /// Whom a commit tells of the audit chains that it appended to, and those.
    grown: Arc<Grown>,
    growth: Vec<(OrganizationId, Growth)>,
    /// Given back after the connection, since it is declared after it.
    turn: Option<Slot>,
}

/// A transaction that writes what no audit trail tells of and no replica reads.
pub struct BatchTx(ReadTx);

/// A transaction that writes what the audit trail tells of. It excludes every other one of its kind, so that no chain can fork.
pub struct ProductTx(BatchTx);

/// A transaction that changes what decisions read.
pub struct SecurityTx(ProductTx);

macro_rules! can_what_the_one_before_can {
    ($($tx:ident: $before:ident;)*) => {$(
        impl Deref for $tx {
            type Target = $before;

            fn deref(&self) -> &$before {
                &self.0
            }
        }

        impl DerefMut for $tx {
            fn deref_mut(&mut self) -> &mut $before {
                &mut self.0
            }
        }
    )*};
}

can_what_the_one_before_can! {
    BatchTx: ReadTx;
    ProductTx: BatchTx;
    SecurityTx: ProductTx;
}

pub(crate) enum Inner {
    /// What makes it durable once it is committed comes with it.
    Lite(sqlite::Transaction, Arc<Syncs>),
    /// The same where it writes.
    #[cfg(feature = "postgres")]
    Pg(Box<postgres::Transaction>, Option<(Arc<postgres::Syncs>, postgres::Era)>),
}

/// The statement that adds one to the revision and answers it; whoever runs it holds the counter until the transaction ends.
pub(crate) fn next_revision(now: Timestamp) -> Statement {
    (
        "UPDATE head SET revision = revision + 1, seen_at = CASE WHEN seen_at < $1 THEN $1 ELSE seen_at END \
         WHERE id = 1 RETURNING revision",
        args![now],
    )
}

impl SecurityTx {
    /// A transaction that has begun.
    pub(crate) fn new(
        inner: Inner,
        guests: &'static [Guest],
        follower: Option<Arc<dyn Follower>>,
        grown: Arc<Grown>,
        turn: Option<Slot>,
    ) -> Self {
        let (revision, growth) = (None, Vec::new());
        Self(ProductTx(BatchTx(ReadTx { inner, guests, follower, revision, grown, growth, turn })))
    }

    /// Appends to the change log: the entity has a new state, which replicas read from its own tables.
    pub async fn change<I: Id>(
        &mut self,
        organization: OrganizationId,
        entity: Entity,
        entity_id: I,
        now: Timestamp,
    ) -> Result<Revision, StoreError> {
        let (sql, args) = next_revision(now);
        let next = self.all(sql, args).await?;
        self.change_at(&next, organization, entity, entity_id, now).await
    }

    /// The same where [`next_revision`] has been asked in this transaction already, and answered `next`.
    pub(crate) async fn change_at<I: Id>(
        &mut self,
        next: &[Row],
        organization: OrganizationId,
        entity: Entity,
        entity_id: I,
        now: Timestamp,
    ) -> Result<Revision, StoreError> {
        let revision: Revision = next.first().ok_or(StoreError::NotFound)?.get("revision")?;
        self.queue(
            "INSERT INTO changes (revision, organization_id, entity, entity_id, at) VALUES ($1, $2, $3, $4, $5)",
            vec![revision.into(), id(organization), entity.as_str().into(), id(entity_id), now.into()],
        )
        .await?;
        self.revision = Some(revision);
        Ok(revision)
    }

    /// Makes it so; returns when it is durable and this process's replica has applied it.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.0.commit().await
    }
}

impl ProductTx {
    /// Once this is committed, the chain has grown so far.
    pub(crate) fn grows(&mut self, organization: OrganizationId, growth: Growth) {
        self.growth.push((organization, growth));
    }

    /// Makes it so; returns when it is durable.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.0.commit().await
    }
}

impl BatchTx {
    /// Runs a statement; answers how many rows it touched.
    pub async fn exec(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64, StoreError> {
        match &mut self.inner {
            Inner::Lite(tx, _) => Ok(tx.exec(sql, args).await?),
            #[cfg(feature = "postgres")]
            Inner::Pg(tx, _) => Ok(tx.exec(sql, args).await?),
        }
    }

    /// Runs a statement whose answer nobody needs. Where it fails, that may show in a later statement, and at the latest in the commit.
    pub async fn queue(&mut self, sql: &'static str, args: Vec<Value>) -> Result<(), StoreError> {
        match &mut self.inner {
            Inner::Lite(tx, _) => Ok(tx.queue(sql, args)?),
            #[cfg(feature = "postgres")]
            Inner::Pg(tx, _) => Ok(tx.queue(sql, args)?),
        }
    }

    /// Makes it so; returns when it is durable.
    pub async fn commit(self) -> Result<(), StoreError> {
        let ReadTx { inner, revision, follower, grown, growth, turn, .. } = self.0;
        // Whoever is next writes while this one waits for the disk, whose sync it shares with others, and for the replica, which reads what
        // was written at the same time.
        let reached = async {
            if let (Some(revision), Some(follower)) = (revision, follower) {
                follower.reach(revision).await;
            }
            Ok(())
        };
        match inner {
            Inner::Lite(tx, syncs) => {
                tx.commit().await?;
                drop(turn);
                try_join(async { Ok::<_, StoreError>(syncs.durable().await?) }, reached).await?;
            }
            #[cfg(feature = "postgres")]
            Inner::Pg(tx, syncs) => {
                tx.commit(revision.map(postgres::notice)).await?;
                drop(turn);
                let durable = async {
                    match syncs {
                        Some((syncs, era)) => Ok::<_, StoreError>(syncs.durable(era).await?),
                        None => Ok(()),
                    }
                };
                try_join(durable, reached).await?;
            }
        }
        if !growth.is_empty() {
            grown.note(growth);
        }
        Ok(())
    }
}

impl ReadTx {
    /// All rows of a query.
    pub async fn all(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        Ok(match &mut self.inner {
            Inner::Lite(tx, _) => {
                let rows = tx.all(sql, args).await?;
                rows.into_iter().map(|row| Row(RowOf::Lite(row))).collect()
            }
            #[cfg(feature = "postgres")]
            Inner::Pg(tx, _) => {
                let rows = tx.all(sql, args).await?;
                rows.into_iter().map(|row| Row(RowOf::Pg(row))).collect()
            }
        })
    }

    /// All rows of each query, one query after the other. They are waited for once, which is what a short statement costs most.
    pub async fn each(&mut self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, StoreError> {
        match &mut self.inner {
            Inner::Lite(tx, _) => {
                let answers = tx.each(statements).await?;
                let rows = |rows: Vec<_>| rows.into_iter().map(|row| Row(RowOf::Lite(row))).collect();
                Ok(answers.into_iter().map(rows).collect())
            }
            #[cfg(feature = "postgres")]
            Inner::Pg(tx, _) => {
                let answers = tx.each(statements).await?;
                let rows = |rows: Vec<_>| rows.into_iter().map(|row| Row(RowOf::Pg(row))).collect();
                Ok(answers.into_iter().map(rows).collect())
            }
        }
    }

    /// The same of as many queries as are written down.
    pub async fn each_of<const N: usize>(
        &mut self,
        statements: [Statement; N],
    ) -> Result<[Vec<Row>; N], StoreError> {
        let answers = self.each(statements.into()).await?;
        answers.try_into().map_err(|_| StoreError::Inconsistent("a query has no answer".into()))
    }

    /// The first row of a query, if there is one.
    pub async fn opt(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Option<Row>, StoreError> {
        Ok(self.all(sql, args).await?.into_iter().next())
    }

    /// The row that must be there: in this organization, or it is not found.
    pub async fn one(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Row, StoreError> {
        self.opt(sql, args).await?.ok_or(StoreError::NotFound)
    }

    /// Whoever else keeps tables in this database.
    pub(crate) fn guests(&self) -> &'static [Guest] {
        self.guests
    }
}

impl From<NotDurable> for StoreError {
    fn from(_: NotDurable) -> Self {
        DatabaseError::NotDurable.into()
    }
}

impl From<NoSlot> for StoreError {
    fn from(_: NoSlot) -> Self {
        Self::Busy
    }
}

/// Connections that read. Reports and chats can't take those that credentials and replicas need, nor can lists of credentials take those
/// that look one thing up; and lanes take turns at them as they do at writing: one organization's searches can't keep another's keys waiting.
pub(crate) struct Readers<P> {
    pub(crate) feed: P,
    lookups: (P, Arc<Queue>),
    credentials: (P, Arc<Queue>),
    product: (P, Arc<Queue>),
}

impl<P: Connections> Readers<P> {
    pub(crate) fn new(feed: P, lookups: P, credentials: P, product: P) -> Self {
        let in_turns = |pool: P| {
            let turns = Queue::new(pool.most(), READS);
            (pool, turns)
        };
        Self {
            feed,
            lookups: in_turns(lookups),
            credentials: in_turns(credentials),
            product: in_turns(product),
        }
    }

    /// The connections for a read of this lane, and leave to take one.
    pub(crate) async fn enter(&self, lane: Lane, mode: Mode) -> Result<(&P, Option<Slot>), NoSlot> {
        let (pool, turns) = match (mode, lane.class) {
            (Mode::Feed, _) => return Ok((&self.feed, None)),
            (Mode::Glance, Class::Narrowing | Class::Credentials) => &self.lookups,
            (_, Class::Narrowing | Class::Credentials) => &self.credentials,
            (_, Class::Product | Class::Reports) => &self.product,
        };
        Ok((pool, Some(turns.enter(lane).await?)))
    }

    /// Every pool, in the order in which they are shown.
    pub(crate) fn each(&self) -> [&P; 4] {
        [&self.feed, &self.lookups.0, &self.credentials.0, &self.product.0]
    }

    pub(crate) fn pools(&self) -> [Pool; 4] {
        let [feed, lookups, credentials, product] = self.each();
        [
            feed.shown("feed"),
            lookups.shown("lookups"),
            credentials.shown("credentials"),
            product.shown("product"),
        ]
    }
}
