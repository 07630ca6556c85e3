//! Lists that are searched: a page walks an index in the list's order, holds what it passes against the filter, and stops after a
//! bounded number of rows. So no filter needs an index of its own, and no search costs more than its share, however long the list is;
//! a page may then have fewer rows than asked for, even none, and still a next one.

use crate::db::{ReadTx, Value};
use crate::{StoreError, args};
use flowyte_core::id::{Id, OrganizationId};

/// Rows that one page passes at most.
const MOST_PASSED: u32 = 20_000;

/// Which page of a list that is searched.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The page begins after this position; `None`: at the beginning of the list.
    pub after: Option<Position>,
    /// How many rows are wanted.
    pub limit: u32,
    /// Rows that are passed at most.
    pub most: u32,
}

impl Window {
    /// As the API asks.
    pub fn new(after: Option<Position>, limit: u32) -> Self {
        Self { after, limit, most: MOST_PASSED }
    }

    /// Of a list with the newest first: the id that its rows are below.
    pub fn below(&self) -> [u8; 16] {
        self.after.map_or([0xff; 16], |it| it.id)
    }

    /// Rows to ask for: one more than wanted shows whether there is a next page.
    pub fn probe(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

impl ReadTx {
    /// Where a page of a list with the newest first ends early. `sql` answers the `id` of the row at offset `$3` among those of
    /// organization `$1` below `$2`. Where nothing is `searched` for, as many rows are passed as are wanted.
    pub async fn floor(
        &mut self,
        organization: OrganizationId,
        window: &Window,
        searched: bool,
        sql: &'static str,
        mut more: Vec<Value>,
    ) -> Result<Option<Position>, StoreError> {
        if !searched {
            return Ok(None);
        }
        let mut args = args![*organization.as_bytes(), window.below(), i64::from(window.most) - 1];
        args.append(&mut more);
        self.opt(sql, args).await?.map(|row| Ok(Position::of(row.bytes("id")?))).transpose()
    }
}

/// A part of a name to look for, or a whole id.
#[derive(Clone, Debug, Default)]
pub struct Search(Option<String>);

impl Search {
    /// For this text; nothing fits always.
    pub fn new(text: Option<&str>) -> Self {
        Self(text.map(str::to_owned))
    }

    /// Whether it is for anything.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// For `(CAST($n AS TEXT) IS NULL OR id = $n+1 OR LOWER(name) LIKE $n ESCAPE '\' OR name LIKE $n+2 ESCAPE '\')`: the text in small
    /// letters (of ASCII, which both databases know), the id, the text as it is.
    pub fn args<I: Id>(&self) -> Vec<Value> {
        let text = self.0.as_deref();
        let id = text.and_then(I::parse).map_or([0; 16], |it| *it.as_bytes());
        args![text.map(|it| containing(&it.to_lowercase())), id, text.map(containing)]
    }
}

/// Where a page begins: after the row with this sort value and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// What the list is sorted by; zero where it is sorted by id.
    pub value: i64,
    /// The bytes of the row's id, where times are the same.
    pub id: [u8; 16],
}

impl Position {
    /// In a list that is sorted by id.
    pub fn of(id: [u8; 16]) -> Self {
        Self { value: 0, id }
    }

    /// As it stands in a cursor.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.id);
        bytes[16..].copy_from_slice(&self.value.to_be_bytes());
        bytes
    }

    /// As [`Self::to_bytes`] wrote it into a cursor.
    pub fn from_bytes(bytes: [u8; 24]) -> Self {
        let (mut id, mut value) = ([0; 16], [0; 8]);
        id.copy_from_slice(&bytes[..16]);
        value.copy_from_slice(&bytes[16..]);
        Self { value: i64::from_be_bytes(value), id }
    }
}

/// A page of a list that is searched.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// What fits, at most as many as asked for.
    pub rows: Vec<T>,
    /// Where the next page begins; nothing after the last.
    pub next: Option<Position>,
}

impl<T> Found<T> {
    /// Of `rows`, of which there may be one more than wanted, read down to `floor`, where the walk ended early.
    pub fn new(
        mut rows: Vec<T>,
        limit: u32,
        floor: Option<Position>,
        position: impl Fn(&T) -> Position,
    ) -> Self {
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = if more { rows.last().map(position) } else { floor };
        Self { rows, next }
    }
}

/// A text to look for inside others: what LIKE takes, with its wildcards as literals.
pub fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
