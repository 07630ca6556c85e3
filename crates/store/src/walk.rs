//! Lists that are searched: a page walks an index in the list's order, holds what it passes against the filter, and stops after a
//! bounded number of rows. So no filter needs an index of its own, and no search costs more than its share, however long the list is;
//! a page may then have fewer rows than asked for, even none, and still a next one.

use crate::db::{ReadTx, Row, Value};
use crate::{StoreError, args};
use flowyte_core::id::{Id, OrganizationId};

/// Rows that one page passes at most.
const MOST_PASSED: u32 = 20_000;

/// In which order a list is whose rows are sorted by when they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By the id, the newest row first.
    #[default]
    Newest,
    /// By the id, the oldest row first.
    Oldest,
}

/// Which page of a list that is searched.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The list's order, where it is sorted by when its rows were made.
    pub order: Order,
    /// The page begins after this position; `None`: at the beginning of the list.
    pub after: Option<Position>,
    /// How many rows are wanted.
    pub limit: u32,
    /// Rows that are passed at most.
    pub most: u32,
}

impl Window {
    /// The first page of a list with the newest first, or one after it.
    pub fn new(after: Option<Position>, limit: u32) -> Self {
        Self { order: Order::Newest, after, limit, most: MOST_PASSED }
    }

    /// Of a list in this window's order: the id that its rows come after.
    pub fn begin(&self) -> [u8; 16] {
        let first = if self.order == Order::Newest { [0xff; 16] } else { [0; 16] };
        self.after.map_or(first, |it| it.id)
    }

    /// The id that they end with.
    pub fn end(&self, floor: Option<Position>) -> [u8; 16] {
        let last = if self.order == Order::Newest { [0; 16] } else { [0xff; 16] };
        floor.map_or(last, |it| it.id)
    }

    /// Rows to ask for: one more than wanted shows whether there is a next page.
    pub fn probe(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

/// The statements of a list that is sorted by id, in either order.
pub struct WalkSql {
    /// Answers the `id` of the row where a page ends early. `$1`: the organization, `$2`: the id to begin after, `$3`: rows to pass; from
    /// `$5` on, what the list is of.
    pub floor: &'static str,
    /// Answers a page. `$1`: the organization, `$2`: the id to begin after, `$3`: the one to end with, `$4`: how many; from `$5` on, what the
    /// list is of, and then the filter's.
    pub page: &'static str,
}

/// The [`WalkSql`] of a list: where its ids are, its rows, what they must fit, and the name of the id among them.
#[macro_export]
macro_rules! walk_sql {
    ($order:expr, from $from:literal, select $select:literal, id $id:literal, filter $filter:literal) => {
        match $order {
            $crate::walk::Order::Newest => $crate::walk::WalkSql {
                floor: concat!("SELECT id FROM ", $from, " AND id < $2 ORDER BY id DESC LIMIT 1 OFFSET $3"),
                page: concat!(
                    $select,
                    " AND ",
                    $id,
                    " < $2 AND ",
                    $id,
                    " >= $3 ",
                    $filter,
                    " ORDER BY ",
                    $id,
                    " DESC LIMIT $4"
                ),
            },
            $crate::walk::Order::Oldest => $crate::walk::WalkSql {
                floor: concat!("SELECT id FROM ", $from, " AND id > $2 ORDER BY id LIMIT 1 OFFSET $3"),
                page: concat!(
                    $select,
                    " AND ",
                    $id,
                    " > $2 AND ",
                    $id,
                    " <= $3 ",
                    $filter,
                    " ORDER BY ",
                    $id,
                    " LIMIT $4"
                ),
            },
        }
    };
}

/// A list that is sorted by id, and what is looked for in it.
pub struct Walk {
    /// The statements of the list, which `walk_sql!` makes.
    pub sql: WalkSql,
    /// The arguments of the list's own.
    pub list: Vec<Value>,
    /// Those of the filter, after them.
    pub filter: Vec<Value>,
    /// Whether something is looked for. Where nothing is, as many rows are passed as are wanted.
    pub searched: bool,
}

impl ReadTx {
    /// A page of a list.
    pub async fn walk<T>(
        &mut self,
        organization: OrganizationId,
        window: &Window,
        Walk { sql, list, filter, searched }: Walk,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Found<T>, StoreError> {
        let floor = match searched {
            false => None,
            true => {
                // Numbered as in the page.
                let passed = i64::from(window.most) - 1;
                let mut args = args![*organization.as_bytes(), window.begin(), passed, window.probe()];
                args.extend(list.clone());
                self.opt(sql.floor, args)
                    .await?
                    .map(|row| Ok::<_, StoreError>(Position::of(row.bytes("id")?)))
                    .transpose()?
            }
        };
        let mut args = args![*organization.as_bytes(), window.begin(), window.end(floor), window.probe()];
        args.extend(list);
        args.extend(filter);
        let rows = self.all(sql.page, args).await?;
        let rows = rows.iter().map(|row| Ok((Position::of(row.bytes("id")?), read(row)?)));
        let found = Found::new(
            rows.collect::<Result<_, StoreError>>()?,
            window.limit,
            floor,
            |it: &(Position, T)| it.0,
        );
        Ok(Found { rows: found.rows.into_iter().map(|it| it.1).collect(), next: found.next })
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
