//! What `/metrics` shows of the database.

use crate::db::Mode;
#[cfg(feature = "postgres")]
use crate::postgres;
use crate::sweep::Old;
use crate::{DatabaseError, sqlite};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, register_histogram_vec,
    register_int_counter_vec, register_int_gauge_vec,
};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

/// A declaration fails where a name is taken; each stands once.
const ONCE: &str = "each metric is declared once";

static ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Errors of the database: busy, away (no connection), refused (a constraint), other (a full disk among them).";
    register_int_counter_vec!("flowyte_database_errors_total", help, &["kind"]).expect(ONCE)
});

static WAITS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "How long transactions waited until they could begin.";
    let options = HistogramOpts::new("flowyte_database_wait_seconds", help)
        .buckets(vec![0.0001, 0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0]);
    register_histogram_vec!(options, &["mode"]).expect(ONCE)
});

static WAITING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "Transactions that wait until they can begin.";
    register_int_gauge_vec!("flowyte_database_waiting", help, &["mode"]).expect(ONCE)
});

static FORGOTTEN: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Rows that were deleted because they were over for long enough.";
    register_int_counter_vec!("flowyte_forgotten_rows_total", help, &["table"]).expect(ONCE)
});

static TURNS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "Requests that wait for a turn at slow work: passwords, reports, uploads, and indexes of and searches in knowledge.";
    register_int_gauge_vec!("flowyte_work_waiting", help, &["work"]).expect(ONCE)
});

static READ: LazyLock<QueueMetrics> = LazyLock::new(|| QueueMetrics::new("read"));
static FEED: LazyLock<QueueMetrics> = LazyLock::new(|| QueueMetrics::new("feed"));
static WRITE: LazyLock<QueueMetrics> = LazyLock::new(|| QueueMetrics::new("write"));
static BATCH: LazyLock<QueueMetrics> = LazyLock::new(|| QueueMetrics::new("batch"));

/// How many wait for a turn at this work.
pub(crate) fn turns_waiting(work: &str) -> IntGauge {
    TURNS.with_label_values(&[work])
}

/// Counts rows that were deleted from a table.
pub(crate) fn forgotten(table: &str, rows: u64) {
    FORGOTTEN.with_label_values(&[table]).inc_by(rows);
}

/// Shows what has not happened yet with the count 0, so that its first occurrence is seen as an increase.
pub fn show() {
    for kind in ["busy", "away", "refused", "other"] {
        ERRORS.with_label_values(&[kind]);
    }
    for old in Old::ALL {
        forgotten(old.table(), 0);
    }
    for queue in [&READ, &FEED, &WRITE, &BATCH] {
        LazyLock::force(queue);
    }
}

struct QueueMetrics {
    waits: Histogram,
    waiting: IntGauge,
}

impl QueueMetrics {
    fn new(mode: &str) -> Self {
        Self { waits: WAITS.with_label_values(&[mode]), waiting: WAITING.with_label_values(&[mode]) }
    }
}

/// Leaves the queue however the wait ends.
struct Place(&'static QueueMetrics, Instant);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.dec();
        self.0.waits.observe(self.1.elapsed().as_secs_f64());
    }
}

/// Waits for the beginning of a transaction, and counts that.
pub(crate) async fn waited<T>(mode: Mode, begin: impl Future<Output = T>) -> T {
    let queue = match mode {
        Mode::Read | Mode::Glance => &READ,
        Mode::Feed => &FEED,
        Mode::Write => &WRITE,
        Mode::Batch => &BATCH,
    };
    queue.waiting.inc();
    let _place = Place(queue, Instant::now());
    begin.await
}

/// Counts an error of the database by its kind, for `/metrics`.
pub(crate) fn failed(error: &DatabaseError) {
    let kind = match error {
        DatabaseError::NoConnection => "busy",
        DatabaseError::Away => "away",
        DatabaseError::NotDurable | DatabaseError::Over => "other",
        DatabaseError::Sqlite(error) if error.is_busy() => "busy",
        DatabaseError::Sqlite(error) if error.is_refusal() => "refused",
        DatabaseError::Sqlite(_) => "other",
        #[cfg(feature = "postgres")]
        DatabaseError::Postgres(error) => kind(error),
    };
    ERRORS.with_label_values(&[kind]).inc();
}

#[cfg(feature = "postgres")]
fn kind(error: &tokio_postgres::Error) -> &'static str {
    use tokio_postgres::error::SqlState as State;
    match error.code() {
        Some(code) if [State::LOCK_NOT_AVAILABLE, State::QUERY_CANCELED].contains(code) => "busy",
        Some(code) if [State::UNIQUE_VIOLATION, State::FOREIGN_KEY_VIOLATION].contains(code) => "refused",
        // The server stops, or has just started.
        Some(code) if code.code().starts_with("57P") => "away",
        Some(_) => "other",
        None => "away",
    }
}

/// The connections of one pool.
pub struct Pool {
    /// What its connections are for, as `/metrics` names it: `writers`, `feed`, `lookups`, `credentials` or `product`.
    pub name: &'static str,
    /// Connections that are open now.
    pub open: usize,
    /// Connections that are open and not in use.
    pub idle: usize,
    /// Connections that may be open at the same time.
    pub most: usize,
}

/// Connections that may be shown.
pub(crate) trait Connections {
    /// How many connections may be open at the same time.
    fn most(&self) -> usize;

    /// How many there are. `name`: what they are for.
    fn shown(&self, name: &'static str) -> Pool;
}

impl Connections for Arc<sqlite::Pool> {
    fn most(&self) -> usize {
        sqlite::Pool::most(self)
    }

    fn shown(&self, name: &'static str) -> Pool {
        Pool { name, open: self.open(), idle: self.idle(), most: self.most() }
    }
}

#[cfg(feature = "postgres")]
impl Connections for postgres::Pool {
    fn most(&self) -> usize {
        postgres::Pool::most(self)
    }

    fn shown(&self, name: &'static str) -> Pool {
        Pool { name, open: self.open(), idle: self.idle(), most: self.most() }
    }
}
