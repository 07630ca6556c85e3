//! Moves an installation from SQLite to PostgreSQL: every table, in one transaction, which is committed only when each table reads there as it
//! does here.

use crate::guest::Guest;
use crate::postgres::Target;
use crate::{DatabaseError, StoreError, sqlite};
use futures_util::StreamExt;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

/// Rows on their way from one database to the other.
const ROWS: usize = 1_000;
/// Tables that say which changes of the tables were made: both databases have their own.
const OWN: [&str; 2] = ["migrations", "guest_migrations"];

/// What a move did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Each table with its number of rows, in the order in which they were copied.
    pub tables: Vec<(String, u64)>,
    /// Everything was there already, and nothing was written.
    pub before: bool,
}

/// Copies the SQLite database at `file` into an empty PostgreSQL database, and compares number and digests of all rows there. A target that
/// has the very same rows is left as it is; one with others is refused. Nobody else may use either of them.
pub async fn move_to_postgres(
    file: &Path,
    url: &str,
    guests: &'static [Guest],
    progress: &(dyn Fn(&str, u64) + Send + Sync),
) -> Result<Moved, StoreError> {
    let (source, tables) = sqlite::open_to_move(file, guests, tables).await?;
    let mut target = Target::connect(url, guests).await?;
    let tx = target.transaction().await?;
    let before = is_used(&tx).await?;
    if !before {
        // What bringing up to date puts into a new database.
        for table in tables.iter().rev() {
            tx.execute(&format!("DELETE FROM {}", table.name()), &[]).await.map_err(DatabaseError::from)?;
        }
    }
    let mut moved = Moved { tables: Vec::new(), before };
    for table in &tables {
        let here = match before {
            true => table.read_here(source.clone()).await?,
            false => table.copy(source.clone(), &tx).await?,
        };
        let there = table.read_there(&tx).await?;
        if here != there {
            return Err(StoreError::Unusable(match before {
                true => format!(
                    "the PostgreSQL database is in use, and differs in the table {}; name an empty one",
                    table.name
                ),
                false => format!(
                    "the table {} does not read in PostgreSQL as it does here; nothing was written",
                    table.name
                ),
            }));
        }
        progress(&table.name, here.rows);
        moved.tables.push((table.name.clone(), here.rows));
    }
    tx.commit().await.map_err(DatabaseError::from)?;
    if !before {
        target.analyze().await?;
    }
    Ok(moved)
}

/// Whether somebody has an account there: then it is no new database.
async fn is_used(tx: &Transaction<'_>) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM organizations)";
    Ok(tx.query_one(sql, &[]).await.map_err(DatabaseError::from)?.get(0))
}

/// One table, the same in both.
#[derive(Clone, Debug)]
struct Table {
    name: String,
    columns: Vec<(String, Type)>,
}

/// What a table has: how many rows, and a sum of their hashes, which is the same in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Contents {
    rows: u64,
    sum: [u64; 4],
}

impl Contents {
    fn add(&mut self, row: &[Cell]) {
        let mut hash = Sha256::new();
        for cell in row {
            let (kind, bytes) = match cell {
                Cell::Null => (0, Vec::new()),
                Cell::Int(it) => (1, it.to_be_bytes().to_vec()),
                Cell::Text(it) => (2, it.as_bytes().to_vec()),
                Cell::Bytes(it) => (3, it.clone()),
            };
            hash.update([kind]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        self.rows += 1;
        for (sum, word) in self.sum.iter_mut().zip(hash.finalize().chunks_exact(8)) {
            let word = word.try_into().map(u64::from_be_bytes).unwrap_or_default();
            *sum = sum.wrapping_add(word);
        }
    }
}

/// One value of a row.
#[derive(Clone, Debug)]
enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    /// What PostgreSQL takes for it.
    fn argument(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Null => &None::<i64>,
            Self::Int(it) => it,
            Self::Text(it) => it,
            Self::Bytes(it) => it,
        }
    }
}

/// The tables of a SQLite database, each after those that it refers to.
fn tables(source: &Connection) -> Result<Vec<Table>, StoreError> {
    let list = |sql: &str, column: &str| -> rusqlite::Result<Vec<String>> {
        source.prepare(sql)?.query_map([], |row| row.get(column))?.collect()
    };
    let names = list(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
        "name",
    )
    .map_err(damaged)?;
    let mut waiting: Vec<(String, Vec<String>)> = Vec::new();
    for name in names.into_iter().filter(|it| !OWN.contains(&it.as_str())) {
        let mut needs = list(&format!("PRAGMA foreign_key_list(\"{name}\")"), "table").map_err(damaged)?;
        needs.retain(|it| *it != name);
        waiting.push((name, needs));
    }
    let (mut tables, mut placed) = (Vec::new(), BTreeSet::new());
    while let Some(next) = waiting.iter().position(|(_, needs)| needs.iter().all(|it| placed.contains(it))) {
        let (name, _) = waiting.remove(next);
        tables.push(Table { columns: columns(source, &name)?, name: name.clone() });
        placed.insert(name);
    }
    match waiting.first() {
        None => Ok(tables),
        Some((name, _)) => {
            Err(StoreError::Inconsistent(format!("tables refer to each other in a circle: {name}")))
        }
    }
}

fn columns(source: &Connection, table: &str) -> Result<Vec<(String, Type)>, StoreError> {
    let mut info = source.prepare(&format!("PRAGMA table_info(\"{table}\")")).map_err(damaged)?;
    let rows =
        info.query_map([], |row| Ok((row.get("name")?, row.get::<_, String>("type")?))).map_err(damaged)?;
    rows.map(|row| {
        let (name, kind): (String, String) = row.map_err(damaged)?;
        let kind = match kind.as_str() {
            "BIGINT" | "INTEGER" => Type::INT8,
            "TEXT" => Type::TEXT,
            "BLOB" => Type::BYTEA,
            other => return Err(StoreError::Inconsistent(format!("{table}.{name} has the type {other}"))),
        };
        Ok((name, kind))
    })
    .collect()
}

fn damaged(error: rusqlite::Error) -> StoreError {
    StoreError::Unusable(format!("the SQLite database can't be read: {error}"))
}

/// A connection that threads take in turns.
pub(crate) type Source = std::sync::Arc<std::sync::Mutex<Connection>>;

impl Table {
    fn name(&self) -> String {
        format!("\"{}\"", self.name)
    }

    fn listed(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        columns.join(", ")
    }

    /// Reads all rows on another thread.
    fn rows(&self, source: Source) -> Receiver<Result<Vec<Vec<Cell>>, StoreError>> {
        let (send, rows) = channel(2);
        let sql = format!("SELECT {} FROM {}", self.listed(), self.name());
        let width = self.columns.len();
        tokio::task::spawn_blocking(move || {
            let source = source.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Err(error) = send_rows(&source, &sql, width, &send) {
                let _ = send.blocking_send(Err(error));
            }
        });
        rows
    }

    async fn read_here(&self, source: Source) -> Result<Contents, StoreError> {
        let (mut rows, mut contents) = (self.rows(source), Contents::default());
        while let Some(some) = rows.recv().await {
            some?.iter().for_each(|row| contents.add(row));
        }
        Ok(contents)
    }

    async fn copy(&self, source: Source, tx: &Transaction<'_>) -> Result<Contents, StoreError> {
        let sql = format!("COPY {} ({}) FROM STDIN BINARY", self.name(), self.listed());
        let types: Vec<Type> = self.columns.iter().map(|(_, kind)| kind.clone()).collect();
        let sink = tx.copy_in(&sql).await.map_err(|error| self.refused(error))?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
        let (mut rows, mut contents) = (self.rows(source), Contents::default());
        while let Some(some) = rows.recv().await {
            for row in some? {
                let arguments: Vec<&(dyn ToSql + Sync)> = row
                    .iter()
                    .zip(&types)
                    .map(|(it, kind)| match it {
                        Cell::Null if *kind == Type::TEXT => &None::<&str> as &(dyn ToSql + Sync),
                        Cell::Null if *kind == Type::BYTEA => &None::<&[u8]>,
                        it => it.argument(),
                    })
                    .collect();
                writer.as_mut().write(&arguments).await.map_err(|error| self.refused(error))?;
                contents.add(&row);
            }
        }
        writer.finish().await.map_err(|error| self.refused(error))?;
        Ok(contents)
    }

    /// Says which table has a value that PostgreSQL does not take, such as a text with a NUL.
    fn refused(&self, error: tokio_postgres::Error) -> StoreError {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        StoreError::Unusable(format!("PostgreSQL does not take the table {}: {why}", self.name))
    }

    async fn read_there(&self, tx: &Transaction<'_>) -> Result<Contents, StoreError> {
        let sql = format!("SELECT {} FROM {}", self.listed(), self.name());
        let rows = tx.query_raw(&sql, Vec::<i64>::new()).await.map_err(DatabaseError::from)?;
        let (mut rows, mut contents) = (pin!(rows), Contents::default());
        while let Some(row) = rows.next().await {
            let row = row.map_err(DatabaseError::from)?;
            let cells = self.columns.iter().enumerate().map(|(at, (_, kind))| {
                Ok(match *kind {
                    Type::INT8 => row.try_get::<_, Option<i64>>(at)?.map_or(Cell::Null, Cell::Int),
                    Type::TEXT => row.try_get::<_, Option<String>>(at)?.map_or(Cell::Null, Cell::Text),
                    _ => row.try_get::<_, Option<Vec<u8>>>(at)?.map_or(Cell::Null, Cell::Bytes),
                })
            });
            let cells: Result<Vec<Cell>, tokio_postgres::Error> = cells.collect();
            contents.add(&cells.map_err(DatabaseError::from)?);
        }
        Ok(contents)
    }
}

/// Sends the rows of a query, many at a time; ends where nobody takes them any more.
fn send_rows(
    source: &Connection,
    sql: &str,
    width: usize,
    to: &Sender<Result<Vec<Vec<Cell>>, StoreError>>,
) -> Result<(), StoreError> {
    let mut statement = source.prepare(sql).map_err(damaged)?;
    let mut rows = statement.query([]).map_err(damaged)?;
    let mut some = Vec::with_capacity(ROWS);
    while let Some(row) = rows.next().map_err(damaged)? {
        let cells = (0..width).map(|at| match row.get_ref(at).map_err(damaged)? {
            ValueRef::Null => Ok(Cell::Null),
            ValueRef::Integer(it) => Ok(Cell::Int(it)),
            ValueRef::Blob(it) => Ok(Cell::Bytes(it.to_vec())),
            ValueRef::Text(it) => String::from_utf8(it.to_vec())
                .map(Cell::Text)
                .map_err(|_| StoreError::Unusable("a text in the SQLite database is not UTF-8".into())),
            ValueRef::Real(_) => {
                Err(StoreError::Unusable("the SQLite database has a number that is not whole".into()))
            }
        });
        some.push(cells.collect::<Result<_, _>>()?);
        if some.len() == ROWS && to.blocking_send(Ok(std::mem::take(&mut some))).is_err() {
            return Ok(());
        }
    }
    let _ = to.blocking_send(Ok(some));
    Ok(())
}
