//! Connections to PostgreSQL. Statements go out together and their answers are waited for once: on a connection each is done in order, so
//! a transaction waits about as often as it needs an answer to go on.

use super::address::Address;
use crate::DatabaseError;
use crate::db::{Statement, Value};
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Metrics, Object, PoolError, RecyclingMethod,
    Runtime, Timeouts,
};
use futures_util::future::maybe_done;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Row};

/// How long one waits for a connection.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// A connection that nobody has used for so long is asked whether it still works, and for how long it may think about that.
const UNUSED: Duration = Duration::from_secs(1);
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// How long an answer may take that the server ends by itself after 10 s, as it does statements, where it can be reached.
pub(crate) const ANSWER: Duration = Duration::from_secs(12);
/// How long a transaction that is given up may take to end. After that, so does its connection.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Connections, opened when they are needed.
pub(crate) struct Pool(deadpool_postgres::Pool);

impl Pool {
    pub(crate) fn new(address: &Address, most: usize) -> Result<Self, DatabaseError> {
        let recycling_method = RecyclingMethod::Fast;
        let config = ManagerConfig { recycling_method };
        let manager = Manager::from_config(address.config.clone(), address.tls.clone(), config);
        let [wait, create, recycle] = [Some(PATIENCE); 3];
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(most)
            .timeouts(Timeouts { wait, create, recycle })
            .pre_recycle(Hook::async_fn(|client: &mut ClientWrapper, used: &Metrics| {
                let unused = used.last_used();
                Box::pin(async move {
                    if unused < UNUSED {
                        return Ok(());
                    }
                    match timeout(SIGN_OF_LIFE, client.batch_execute("")).await {
                        Ok(done) => done.map_err(HookError::Backend),
                        Err(_) => Err(HookError::message("it does not answer")),
                    }
                })
            }))
            .runtime(Runtime::Tokio1)
            .build();
        pool.map(Self).map_err(|_| DatabaseError::Away)
    }

    pub(crate) async fn get(&self) -> Result<Object, DatabaseError> {
        Ok(self.0.get().await?)
    }

    /// A transaction that begins with its first statement. `begin`: how; `None` where it has one statement, which is a transaction of its
    /// own.
    pub(crate) async fn begin(&self, begin: Option<&'static str>) -> Result<Transaction, DatabaseError> {
        let state = begin.map_or(State::Single, State::New);
        Ok(Transaction { connection: Some(self.get().await?), state, queued: Vec::new(), failed: false })
    }

    pub(crate) fn most(&self) -> usize {
        self.0.status().max_size
    }

    pub(crate) fn open(&self) -> usize {
        self.0.status().size
    }

    pub(crate) fn idle(&self) -> usize {
        self.0.status().available
    }

    pub(crate) fn close(&self) {
        self.0.close();
    }
}

impl From<PoolError> for DatabaseError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(_) => Self::NoConnection,
            PoolError::Backend(error) => Self::Postgres(error),
            _ => Self::Away,
        }
    }
}

/// A transaction on one connection. Dropped without a commit, it never was.
pub(crate) struct Transaction {
    /// There until it is dropped.
    connection: Option<Object>,
    state: State,
    /// Statements whose answers nobody waits for. They go out with the next that has one.
    queued: Vec<Statement>,
    /// Something of it failed, or its answer was not waited for. PostgreSQL would take a commit for a rollback, and say that it is done.
    failed: bool,
}

/// How far a transaction is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It begins with its first statement, in this way.
    New(&'static str),
    Begun,
    /// It has one statement, which is still to come.
    Single,
    /// It has ended, or its one statement is done; another one is an error.
    Over,
}

/// What is said to the server.
enum Say {
    /// A statement without arguments, which needs no preparation.
    Plain(&'static str),
    Run(tokio_postgres::Statement, Vec<Value>),
    Ask(tokio_postgres::Statement, Vec<Value>),
}

/// What the server answers to a [`Say`].
enum Told {
    Done,
    Touched(u64),
    Rows(Vec<Row>),
}

impl Say {
    async fn to(self, client: &tokio_postgres::Client) -> Result<Told, Error> {
        match self {
            Self::Plain(text) => client.batch_execute(text).await.map(|()| Told::Done),
            Self::Run(statement, args) => {
                client.execute(&statement, &references(&args)).await.map(Told::Touched)
            }
            Self::Ask(statement, args) => client.query(&statement, &references(&args)).await.map(Told::Rows),
        }
    }
}

fn references(args: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    args.iter().map(|arg| arg as _).collect()
}

impl Transaction {
    pub(crate) async fn all(
        &mut self,
        sql: &'static str,
        args: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        Ok(self.each(vec![(sql, args)]).await?.pop().unwrap_or_default())
    }

    /// The rows of each statement, for one wait.
    pub(crate) async fn each(&mut self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, DatabaseError> {
        let told = self.say(statements, Say::Ask, None).await?;
        let rows = |told| if let Told::Rows(rows) = told { Some(rows) } else { None };
        Ok(told.into_iter().filter_map(rows).collect())
    }

    pub(crate) async fn exec(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64, DatabaseError> {
        match self.say(vec![(sql, args)], Say::Run, None).await?.pop() {
            Some(Told::Touched(rows)) => Ok(rows),
            _ => Err(DatabaseError::Over),
        }
    }

    /// Runs a statement without waiting for it. Where it fails, so do those that follow, and the commit.
    pub(crate) fn queue(&mut self, sql: &'static str, args: Vec<Value>) -> Result<(), DatabaseError> {
        match self.state {
            State::New(_) | State::Begun => {
                self.queued.push((sql, args));
                Ok(())
            }
            State::Single | State::Over => Err(DatabaseError::Over),
        }
    }

    /// `last`: a statement that goes out with the commit.
    pub(crate) async fn commit(mut self, last: Option<Statement>) -> Result<(), DatabaseError> {
        if self.failed {
            return Err(DatabaseError::Over);
        }
        if let (State::New(_), true, None) = (self.state, self.queued.is_empty(), &last) {
            return Ok(());
        }
        match self.say(last.into_iter().collect(), Say::Ask, Some("COMMIT")).await {
            Ok(_) => Ok(()),
            Err(DatabaseError::Postgres(error)) if error.as_db_error().is_some() => Err(error.into()),
            // Without an answer it may have been done.
            Err(DatabaseError::Postgres(_) | DatabaseError::Away) => Err(DatabaseError::NotDurable),
            Err(error) => Err(error),
        }
    }

    /// Says what begins the transaction where that was not said yet, what is queued, the statements, and what ends it; then waits. Answers
    /// what the server says to everything.
    async fn say(
        &mut self,
        statements: Vec<Statement>,
        as_what: fn(tokio_postgres::Statement, Vec<Value>) -> Say,
        end: Option<&'static str>,
    ) -> Result<Vec<Told>, DatabaseError> {
        let (begin, next) = match self.state {
            State::New(begin) => (Some(begin), State::Begun),
            State::Begun => (None, State::Begun),
            State::Single if statements.len() == 1 && end.is_none() => (None, State::Over),
            State::Single | State::Over => return Err(DatabaseError::Over),
        };
        if std::mem::replace(&mut self.failed, true) {
            return Err(DatabaseError::Over);
        }
        let connection = self.connection.as_ref().ok_or(DatabaseError::Away)?;
        let mut said: Vec<Say> = begin.into_iter().map(Say::Plain).collect();
        for (sql, args) in self.queued.drain(..) {
            said.push(Say::Run(prepared(connection, sql, &args).await?, args));
        }
        for (sql, args) in statements {
            said.push(as_what(prepared(connection, sql, &args).await?, args));
        }
        said.extend(end.map(Say::Plain));
        // From here on the server has heard it, whether or not anybody still waits for the answer.
        self.state = if end.is_some() { State::Over } else { next };
        let Ok(told) = timeout(ANSWER, together(said.into_iter().map(|it| it.to(connection)))).await else {
            // What it says later is nobody's answer.
            drop(self.connection.take().map(Object::take));
            return Err(DatabaseError::Away);
        };
        let told = told?;
        self.failed = false;
        Ok(told)
    }
}

/// A statement that the connection knows. Its arguments have the types that they have, and not those that PostgreSQL would find.
async fn prepared(
    connection: &Object,
    sql: &'static str,
    args: &[Value],
) -> Result<tokio_postgres::Statement, Error> {
    let types: Vec<Type> = args.iter().map(Value::postgres_type).collect();
    connection.prepare_typed_cached(sql, &types).await
}

/// Begins each before any is waited for, in order: the first poll of each sends what it has to say. The first failure is the answer.
async fn together(
    all: impl Iterator<Item = impl Future<Output = Result<Told, Error>>>,
) -> Result<Vec<Told>, Error> {
    let mut begun: Vec<_> = all.map(|it| Box::pin(maybe_done(it))).collect();
    poll_fn(|context| {
        for it in &mut begun {
            let _ = it.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
    let mut told = Vec::with_capacity(begun.len());
    for it in &mut begun {
        it.as_mut().await;
        told.extend(it.as_mut().take_output().transpose()?);
    }
    Ok(told)
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.state != State::Begun {
            return;
        }
        let end = async move {
            let ended = timeout(LAST_WORDS, connection.batch_execute("ROLLBACK")).await;
            if !matches!(ended, Ok(Ok(()))) {
                drop(Object::take(connection)); // Nobody else is to have it.
            }
        };
        // Without a runtime the connection is closed with the process, and the transaction with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(end));
        }
    }
}

impl Value {
    fn postgres_type(&self) -> Type {
        match self {
            Self::Int(_) => Type::INT8,
            Self::Text(_) => Type::TEXT,
            Self::Bytes(_) => Type::BYTEA,
        }
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Int(it) => it.to_sql(ty, out),
            Self::Text(it) => it.to_sql(ty, out),
            Self::Bytes(it) => it.to_sql(ty, out),
        }
    }

    /// Each is sent as what it is: see [`prepared`].
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl std::fmt::Debug for Value {
    /// Without the value, which may be a secret's digest.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.postgres_type())
    }
}
