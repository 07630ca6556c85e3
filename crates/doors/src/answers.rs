//! Counts answers, for `/metrics`. Labels come from closed lists (operations, statuses, codes), never from a caller.

use flowyte_core::OperationIndex;
use flowyte_http::problem::Code;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, register_histogram_vec,
    register_int_counter_vec,
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

    /// Counts an answer under its operation, or under `none` where it belongs to none; under `code` where it is a refusal; and the time it took.
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
