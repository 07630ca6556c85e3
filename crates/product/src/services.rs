//! Calls to services of others, as `/metrics` shows them.

use prometheus::{HistogramOpts, HistogramVec, register_histogram_vec};
use std::sync::LazyLock;
use std::time::Instant;

static CALLS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "Calls to the model, the payment service and the carrier, and how long they took.";
    let options = HistogramOpts::new("flowyte_service_call_seconds", help)
        .buckets(vec![0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]);
    register_histogram_vec!(options, &["service", "outcome"]).expect("each metric is declared once")
});

/// Shows the services that were not called yet with the count 0, so that the first call is seen as an increase.
pub fn show() {
    for service in ["model", "payment", "carrier"] {
        for outcome in ["ok", "failed"] {
            CALLS.with_label_values(&[service, outcome]);
        }
    }
}

/// Makes a call and counts it.
pub(crate) async fn counted<T, E>(
    service: &'static str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let begun = Instant::now();
    let done = call.await;
    let outcome = if done.is_ok() { "ok" } else { "failed" };
    CALLS.with_label_values(&[service, outcome]).observe(begun.elapsed().as_secs_f64());
    done
}
