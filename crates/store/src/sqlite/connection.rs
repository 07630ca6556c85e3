//! A connection to SQLite, on a thread of its own: whoever asks waits for the answer, and no thread that answers requests waits for the
//! disk. What is asked is done in order, so only what has an answer needs to be waited for.

use crate::DatabaseError;
use crate::db::{Statement, Value};
use rusqlite::types::{ToSql, ToSqlOutput, Value as Cell, ValueRef};
use rusqlite::{CachedStatement, Connection as Raw, OpenFlags, ffi};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// How long one waits for a connection, and a statement for another process that holds the file.
const PATIENCE: Duration = Duration::from_secs(10);
const BUSY: Duration = Duration::from_secs(5);
/// Statements that a connection keeps parsed: about all there are.
const STATEMENTS: usize = 512;

/// An error that SQLite reported, or that kept it from being asked; it is shown as its message.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SqliteError {
    /// The extended result code (<https://sqlite.org/rescode.html>); 0 where it was not SQLite that failed.
    code: i32,
    message: String,
}

impl SqliteError {
    /// Somebody else holds the file.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.code & 0xff, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED)
    }

    /// A unique constraint refused the write.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self.code, ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY)
    }

    /// Some constraint refused the write.
    pub(crate) fn is_refusal(&self) -> bool {
        self.code & 0xff == ffi::SQLITE_CONSTRAINT
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map_or(0, |it| it.extended_code);
        Self { code, message: error.to_string() }
    }
}

impl From<SqliteError> for DatabaseError {
    fn from(error: SqliteError) -> Self {
        Self::Sqlite(error)
    }
}

/// How a file is opened.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) file: PathBuf,
    pub(crate) flags: OpenFlags,
    /// What is said once to each connection.
    pub(crate) pragmas: &'static str,
}

impl Options {
    /// A connection for use on this thread.
    pub(crate) fn open(&self) -> rusqlite::Result<Raw> {
        let raw = Raw::open_with_flags(&self.file, self.flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        raw.busy_timeout(BUSY)?;
        raw.execute_batch(self.pragmas)?;
        raw.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(raw)
    }
}

/// One row of an answer.
pub(crate) struct Row {
    columns: Arc<[Box<str>]>,
    cells: Vec<Cell>,
}

impl Row {
    /// A column by name; or why it can't be read.
    pub(crate) fn get<T: FromCell>(&self, column: &str) -> Result<T, &'static str> {
        let at = self.columns.iter().position(|it| **it == *column).ok_or("there is none")?;
        T::from_cell(&self.cells[at]).ok_or("it has another type")
    }
}

/// What a column may be read as.
pub trait FromCell: Sized {
    /// `None` where the cell has another type.
    fn from_cell(cell: &Cell) -> Option<Self>;
}

impl FromCell for i64 {
    fn from_cell(cell: &Cell) -> Option<Self> {
        if let Cell::Integer(it) = cell { Some(*it) } else { None }
    }
}

impl FromCell for String {
    fn from_cell(cell: &Cell) -> Option<Self> {
        if let Cell::Text(it) = cell { Some(it.clone()) } else { None }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: &Cell) -> Option<Self> {
        if let Cell::Blob(it) = cell { Some(it.clone()) } else { None }
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: &Cell) -> Option<Self> {
        if *cell == Cell::Null { Some(None) } else { T::from_cell(cell).map(Some) }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Int(it) => it.map_or(ValueRef::Null, ValueRef::Integer),
            Self::Text(it) => it.as_deref().map_or(ValueRef::Null, |it| ValueRef::Text(it.as_bytes())),
            Self::Bytes(it) => it.as_deref().map_or(ValueRef::Null, ValueRef::Blob),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

type Reply<T> = oneshot::Sender<Result<T, SqliteError>>;

/// Something to do, after the transaction has begun where it says how.
struct Command(Option<&'static str>, Work);

enum Work {
    /// Runs a statement, and answers its rows.
    All(&'static str, Vec<Value>, Reply<Vec<Row>>),
    /// Runs statements one after the other, and answers the rows of each.
    Each(Vec<Statement>, Reply<Vec<Vec<Row>>>),
    /// Runs a statement, and answers how many rows it touched.
    Exec(&'static str, Vec<Value>, Reply<u64>),
    /// Runs a statement. Where it fails, so does everything else in the transaction.
    Queue(&'static str, Vec<Value>),
    Commit(Reply<()>),
    Rollback,
}

/// A connection's thread, as others see it. It ends when this is dropped.
struct Connection {
    commands: Sender<Command>,
    thread: JoinHandle<()>,
}

impl Connection {
    fn open(options: Options) -> Result<Self, SqliteError> {
        let raw = options.open()?;
        let (commands, received) = channel();
        let run = move || Session { raw, begun: false, failure: None }.run(&received);
        let thread = Builder::new().name("flowyte-sqlite".into()).spawn(run);
        let thread = thread.map_err(|error| SqliteError { code: 0, message: error.to_string() })?;
        Ok(Self { commands, thread })
    }
}

/// What happens on a connection's thread.
struct Session {
    raw: Raw,
    /// A transaction was begun, and has not ended by a command.
    begun: bool,
    /// Why the transaction can't go on.
    failure: Option<SqliteError>,
}

impl Session {
    fn run(mut self, commands: &Receiver<Command>) {
        // An answer that nobody waits for any more is dropped.
        for Command(begin, work) in commands {
            if let Some(begin) = begin {
                self.begun = true;
                self.failure = exec(&self.raw, begin, &[]).err().map(SqliteError::from);
            }
            match work {
                Work::All(sql, args, reply) => drop(reply.send(self.act(|raw| all(raw, sql, &args)))),
                Work::Each(statements, reply) => drop(reply.send(self.each(&statements))),
                Work::Exec(sql, args, reply) => drop(reply.send(self.act(|raw| exec(raw, sql, &args)))),
                Work::Queue(sql, args) => {
                    if let Err(error) = self.act(|raw| exec(raw, sql, &args)) {
                        self.failure = Some(error);
                    }
                }
                Work::Commit(reply) => drop(reply.send(self.commit())),
                Work::Rollback => self.rollback(),
            }
        }
    }

    fn act<T>(&mut self, act: impl FnOnce(&Raw) -> rusqlite::Result<T>) -> Result<T, SqliteError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        act(&self.raw).map_err(|error| {
            let error = SqliteError::from(error);
            if self.begun && self.raw.is_autocommit() {
                // SQLite has ended the transaction by itself, as it does when a disk is full. What follows may not be done without it.
                self.failure = Some(error.clone());
            }
            error
        })
    }

    fn each(&mut self, statements: &[Statement]) -> Result<Vec<Vec<Row>>, SqliteError> {
        statements.iter().map(|(sql, args)| self.act(|raw| all(raw, sql, args))).collect()
    }

    fn commit(&mut self) -> Result<(), SqliteError> {
        let done = self.act(|raw| exec(raw, "COMMIT", &[]).map(drop));
        self.rollback();
        done
    }

    /// Ends what there is of a transaction.
    fn rollback(&mut self) {
        (self.begun, self.failure) = (false, None);
        if !self.raw.is_autocommit() {
            // Where it fails, the next transaction can't begin, and says so.
            let _ = exec(&self.raw, "ROLLBACK", &[]);
        }
    }
}

/// A statement with its arguments. `$3` is the third one, wherever it stands.
fn bound<'c>(raw: &'c Raw, sql: &str, args: &[Value]) -> rusqlite::Result<CachedStatement<'c>> {
    let mut statement = raw.prepare_cached(sql)?;
    for index in 1..=statement.parameter_count() {
        let number =
            statement.parameter_name(index).and_then(|it| it.strip_prefix('$')?.parse::<usize>().ok());
        let arg = number.and_then(|it| args.get(it.checked_sub(1)?));
        let arg = arg.ok_or(rusqlite::Error::InvalidParameterCount(args.len(), index))?;
        statement.raw_bind_parameter(index, arg)?;
    }
    Ok(statement)
}

fn all(raw: &Raw, sql: &str, args: &[Value]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = bound(raw, sql, args)?;
    let columns: Arc<[Box<str>]> = statement.column_names().into_iter().map(Box::from).collect();
    let (mut found, mut rows) = (Vec::new(), statement.raw_query());
    while let Some(row) = rows.next()? {
        let cells = (0..columns.len()).map(|at| row.get_ref(at).map(cell)).collect::<Result<_, _>>()?;
        found.push(Row { columns: columns.clone(), cells });
    }
    Ok(found)
}

fn exec(raw: &Raw, sql: &str, args: &[Value]) -> rusqlite::Result<u64> {
    Ok(bound(raw, sql, args)?.raw_execute()? as u64)
}

/// Text that is not UTF-8 is a damaged row, which whoever reads it is to find out, and not the reading of the others.
fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Text(bytes) => {
            String::from_utf8(bytes.to_vec()).map_or_else(|error| Cell::Blob(error.into_bytes()), Cell::Text)
        }
        other => other.try_into().unwrap_or(Cell::Null),
    }
}

/// Connections to one file, opened when they are needed.
pub(crate) struct Pool {
    options: Options,
    most: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
    open: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(options: Options, most: usize) -> Arc<Self> {
        let (idle, open) = Default::default();
        Arc::new(Self { options, most, permits: Arc::new(Semaphore::new(most)), idle, open })
    }

    /// A transaction that begins with its first statement. `begin`: how; `None` where it has one statement, which is a transaction of its
    /// own.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        begin: Option<&'static str>,
    ) -> Result<Transaction, DatabaseError> {
        let permit = timeout(PATIENCE, self.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| DatabaseError::NoConnection)?.map_err(|_| DatabaseError::Away)?;
        let idle = self.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let options = self.options.clone();
                let opened = tokio::task::spawn_blocking(move || Connection::open(options)).await;
                let opened = opened.map_err(|_| DatabaseError::Away)??;
                self.open.fetch_add(1, Ordering::Relaxed);
                opened
            }
        };
        let state = begin.map_or(State::Single, State::New);
        Ok(Transaction { connection: Some(connection), state, pool: self.clone(), _permit: permit })
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn idle(&self) -> usize {
        self.lock().len()
    }

    /// Returns when every connection is closed that is not in use; no other is opened any more.
    pub(crate) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.lock());
        let close = move || {
            for Connection { commands, thread } in idle {
                drop(commands);
                let _ = thread.join();
            }
        };
        let _ = tokio::task::spawn_blocking(close).await;
    }

    /// Takes a connection back, unless its thread is gone.
    fn put_back(&self, connection: Connection) {
        if connection.thread.is_finished() || self.permits.is_closed() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.lock().push(connection);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Nothing in here panics half-way through a change.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction on one connection. Dropped without a commit, it never was.
pub(crate) struct Transaction {
    /// There until it is dropped.
    connection: Option<Connection>,
    state: State,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
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

impl Transaction {
    pub(crate) async fn all(
        &mut self,
        sql: &'static str,
        args: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        self.ask(|reply| Work::All(sql, args, reply)).await
    }

    /// The rows of each statement, for one wait.
    pub(crate) async fn each(&mut self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, DatabaseError> {
        self.ask(|reply| Work::Each(statements, reply)).await
    }

    pub(crate) async fn exec(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64, DatabaseError> {
        self.ask(|reply| Work::Exec(sql, args, reply)).await
    }

    /// Runs a statement without waiting for it. Where it fails, so do those that follow, and the commit.
    pub(crate) fn queue(&mut self, sql: &'static str, args: Vec<Value>) -> Result<(), DatabaseError> {
        self.send(Work::Queue(sql, args))
    }

    pub(crate) async fn commit(mut self) -> Result<(), DatabaseError> {
        if let State::New(_) = self.state {
            return Ok(());
        }
        let done = self.ask(Work::Commit).await;
        self.state = State::Over;
        done
    }

    fn send(&mut self, work: Work) -> Result<(), DatabaseError> {
        let (begin, next) = match self.state {
            State::New(begin) => (Some(begin), State::Begun),
            State::Begun => (None, State::Begun),
            State::Single => (None, State::Over),
            State::Over => return Err(DatabaseError::Over),
        };
        self.state = next;
        let connection = self.connection.as_ref().ok_or(DatabaseError::Away)?;
        connection.commands.send(Command(begin, work)).map_err(|_| DatabaseError::Away)
    }

    async fn ask<T>(&mut self, work: impl FnOnce(Reply<T>) -> Work) -> Result<T, DatabaseError> {
        let (reply, answer) = oneshot::channel();
        self.send(work(reply))?;
        Ok(answer.await.map_err(|_| DatabaseError::Away)??)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.state == State::Begun {
            // It is done before whatever the next transaction sends.
            let _ = self.send(Work::Rollback);
        }
        if let Some(connection) = self.connection.take() {
            self.pool.put_back(connection);
        }
    }
}
