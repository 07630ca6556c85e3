//! What `/metrics` shows. A metric has its help text where it is declared, and its labels come from closed lists (operations, statuses,
//! codes), never from a caller. What other crates count stands beside what they count.

use crate::app::App;
use crate::clock::{Clock, System};
use crate::problem::Code;
use flowyte_core::OperationIndex;
use flowyte_core::time::SECOND;
use flowyte_platform::knowledge::Knowledge;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
    register_histogram_vec, register_int_counter, register_int_counter_vec,
};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

/// A declaration fails where a name is taken; each stands once.
const ONCE: &str = "each metric is declared once";

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let options = HistogramOpts::new(
        "flowyte_request_seconds",
        "Time from the head of a request to the head of its answer; a stream's events come after that.",
    )
    .buckets(vec![
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ]);
    register_histogram_vec!(options, &["operation"]).expect(ONCE)
});

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Answers by operation and status; pages and unknown paths have no operation.";
    register_int_counter_vec!("flowyte_requests_total", help, &["operation", "status"]).expect(ONCE)
});

static REFUSALS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Refusals by the code of their problem document.";
    register_int_counter_vec!("flowyte_refusals_total", help, &["code"]).expect(ONCE)
});

/// Calls that are counted in no key's usage, because too many different ones came at once.
pub static UNATTRIBUTED: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Calls that are missing from the usage of keys, because too many different ones came at once.";
    register_int_counter!("flowyte_usage_unattributed_total", help).expect(ONCE)
});

/// Statuses that answers have. Another one is counted as `other`.
const STATUSES: [u16; 22] = [
    101, 200, 201, 202, 204, 206, 303, 304, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 429, 431, 500,
    503,
];
const OTHER: usize = STATUSES.len();

/// Counts answers. What an operation needs is found by its index, so that nothing is looked up by name, and made when it is first
/// needed, so that only operations that are called are shown.
pub struct Answers {
    names: Vec<String>,
    of: Vec<OnceLock<OfOperation>>,
    refusals: Vec<IntCounter>,
}

struct OfOperation {
    seconds: Histogram,
    by_status: [OnceLock<IntCounter>; OTHER + 1],
}

impl Answers {
    /// For these operations, in their order.
    pub fn new(operations: impl Iterator<Item = String>) -> Self {
        // What belongs to no operation comes last.
        let names: Vec<String> = operations.chain(["none".to_owned()]).collect();
        let of = names.iter().map(|_| OnceLock::new()).collect();
        // Each from the beginning, so that a first refusal is seen as an increase.
        let refusals = Code::ALL.iter().map(|code| REFUSALS.with_label_values(&[code.as_str()])).collect();
        Self { names, of, refusals }
    }

    /// Counts one answer.
    pub fn count(&self, operation: Option<OperationIndex>, status: u16, code: Option<Code>, took: Duration) {
        let at = operation.unwrap_or(self.names.len() - 1);
        let name = self.names[at].as_str();
        let of = self.of[at].get_or_init(|| OfOperation {
            seconds: SECONDS.with_label_values(&[name]),
            by_status: std::array::from_fn(|_| OnceLock::new()),
        });
        of.seconds.observe(took.as_secs_f64());
        let status_at = STATUSES.iter().position(|it| *it == status).unwrap_or(OTHER);
        let counter = of.by_status[status_at].get_or_init(|| {
            let status = if status_at == OTHER { "other".to_owned() } else { status.to_string() };
            REQUESTS.with_label_values(&[name, &status])
        });
        counter.inc();
        if let Some(code) = code {
            self.refusals[code as usize].inc();
        }
    }
}

/// Everything, as text. What is only known by asking (the database, the replica) is asked now, and left out where it does not answer.
pub async fn render(app: &App) -> prometheus::Result<String> {
    // Shown before they first happen.
    LazyLock::force(&UNATTRIBUTED);
    flowyte_store::measure::show();
    flowyte_platform::services::show();
    let asked = Registry::new();
    let put = |options: Opts, value: f64| {
        let gauge = Gauge::with_opts(options)?;
        gauge.set(value);
        asked.register(Box::new(gauge) as Box<dyn Collector>)
    };
    let build = Opts::new("flowyte_build_info", "Always 1; its labels say what runs.")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("commit", crate::COMMIT);
    put(build, 1.0)?;
    for (name, help, value) in [
        (
            "flowyte_time_seconds",
            "The clock that decisions go by, in seconds since 1970.",
            app.now().as_millis() as f64 / 1000.0,
        ),
        (
            "flowyte_clock_behind_seconds",
            "How far the machine's clock is behind flowyte_time_seconds; above zero after it was set back.",
            app.now().since(System.now()).max(0) as f64 / SECOND as f64,
        ),
        (
            "flowyte_draining",
            "1 while the server is stopping, otherwise 0.",
            f64::from(app.draining.load(std::sync::atomic::Ordering::Acquire)),
        ),
        (
            "flowyte_replica_secrets",
            "Secrets of keys and sessions that this node can verify.",
            app.replica.len() as f64,
        ),
        (
            "flowyte_replica_fresh",
            "1 while this node can prove that it has seen every change, and so verifies credentials.",
            f64::from(app.replica.is_fresh()),
        ),
        (
            "flowyte_replica_lease_seconds",
            "How long credentials may still be verified without reading the change log again; infinite where no other process can write.",
            app.replica.lease_seconds(),
        ),
        (
            "flowyte_replica_revision",
            "The revision up to which this node has applied every change.",
            app.replica.revision() as f64,
        ),
        ("flowyte_usage_waiting", "Counters of usage that wait to be written.", app.usage.waiting() as f64),
    ] {
        put(Opts::new(name, help), value)?;
    }
    for pool in app.store.pools() {
        for (state, connections) in [("used", pool.open - pool.idle.min(pool.open)), ("idle", pool.idle)] {
            let help = "Open connections to the database.";
            let options = Opts::new("flowyte_database_connections", help)
                .const_label("pool", pool.name)
                .const_label("state", state);
            put(options, connections as f64)?;
        }
        let help = "Connections to the database that may be open.";
        put(
            Opts::new("flowyte_database_connections_max", help).const_label("pool", pool.name),
            pool.most as f64,
        )?;
    }
    if let Ok(head) = app.store.revision().await {
        let help = "Changes in the database that this node has not applied.";
        put(Opts::new("flowyte_replica_lag_revisions", help), (head - app.replica.revision()).max(0) as f64)?;
    }
    if let Ok(waiting) = Knowledge(&*app.store).waiting(app.now()).await {
        let help = "Knowledge sources that wait to be read; 1000 stands for that many or more.";
        put(Opts::new("flowyte_knowledge_sources_waiting", help), waiting as f64)?;
    }
    let mut families = prometheus::gather();
    families.extend(asked.gather());
    TextEncoder::new().encode_to_string(&families)
}
