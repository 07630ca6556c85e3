//! What `/metrics` shows. What other crates count stands beside what they count; the rest is asked for here.

use crate::log::DROPPED;
use crate::process;
use crate::server::Server;
use flowyte_core::time::SECOND;
use flowyte_store::{InLane, Lane, Store};
use flowyte_verifier::clock::{Clock, System};
use flowyte_verifier::usage::UNATTRIBUTED;
use prometheus::core::Collector;
use prometheus::{Counter, Gauge, Opts, Registry, TextEncoder};
use std::sync::LazyLock;
#[cfg(feature = "product")]
use std::time::Duration;
#[cfg(feature = "product")]
use tokio::time::timeout;

/// How long the product may take to say what waits for it.
#[cfg(feature = "product")]
const PATIENCE: Duration = Duration::from_secs(1);

/// Everything, as text. What is only known by asking (the database, the replica) is asked now, and left out where it does not answer.
pub async fn render(server: &Server) -> prometheus::Result<String> {
    // Shown before they first happen.
    for counter in [&UNATTRIBUTED, &DROPPED] {
        LazyLock::force(counter);
    }
    flowyte_store::measure::show();
    #[cfg(feature = "product")]
    flowyte_product::services::show();
    let asked = Asked(Registry::new());
    for (name, help, value) in process::gauges().into_iter().chain(at_hand(server)) {
        asked.put(Opts::new(name, help), value)?;
    }
    if let Some(seconds) = process::processor_seconds() {
        let used = Counter::new("process_cpu_seconds_total", "Processor time used, in seconds.")?;
        used.inc_by(seconds);
        asked.0.register(Box::new(used))?;
    }
    build(&asked)?;
    connections(&asked, server)?;
    backlog(&asked, server).await?;
    let mut families = prometheus::gather();
    families.extend(asked.0.gather());
    TextEncoder::new().encode_to_string(&families)
}

/// The metrics that are asked for anew at each request, apart from those that are counted as things happen.
struct Asked(Registry);

impl Asked {
    fn put(&self, options: Opts, value: f64) -> prometheus::Result<()> {
        let gauge = Gauge::with_opts(options)?;
        gauge.set(value);
        self.0.register(Box::new(gauge) as Box<dyn Collector>)
    }
}

fn build(asked: &Asked) -> prometheus::Result<()> {
    let build = Opts::new("flowyte_build_info", "Always 1; its labels say what runs.")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("commit", crate::COMMIT);
    asked.put(build, 1.0)
}

/// What the process knows without asking anybody: name, help and value.
fn at_hand(server: &Server) -> [(&'static str, &'static str, f64); 8] {
    let (verifier, replica) = (&server.verifier, &server.verifier.replica);
    [
        (
            "flowyte_time_seconds",
            "The clock that decisions go by, in seconds since 1970.",
            verifier.now().as_millis() as f64 / 1000.0,
        ),
        (
            "flowyte_clock_behind_seconds",
            "How far the machine's clock is behind flowyte_time_seconds; above zero after it was set back.",
            verifier.now().since(System.now()).max(0) as f64 / SECOND as f64,
        ),
        (
            "flowyte_draining",
            "1 while the server is stopping, otherwise 0.",
            f64::from(server.draining.load(std::sync::atomic::Ordering::Acquire)),
        ),
        (
            "flowyte_replica_secrets",
            "Secrets of keys and sessions that this node can verify.",
            replica.len() as f64,
        ),
        (
            "flowyte_replica_fresh",
            "1 while this node can prove that it has seen every change, and so verifies credentials.",
            f64::from(replica.is_fresh()),
        ),
        (
            "flowyte_replica_lease_seconds",
            "How long credentials may still be verified without reading the change log again; infinite where no other process can write.",
            replica.lease_seconds(),
        ),
        (
            "flowyte_replica_revision",
            "The revision up to which this node has applied every change.",
            replica.revision() as f64,
        ),
        (
            "flowyte_usage_waiting",
            "Counters of usage that wait to be written.",
            verifier.usage.waiting() as f64,
        ),
    ]
}

/// Connections to the database, by pool.
fn connections(asked: &Asked, server: &Server) -> prometheus::Result<()> {
    for pool in server.verifier.store.pools() {
        for (state, connections) in [("used", pool.open - pool.idle.min(pool.open)), ("idle", pool.idle)] {
            let help = "Open connections to the database.";
            let options = Opts::new("flowyte_database_connections", help)
                .const_label("pool", pool.name)
                .const_label("state", state);
            asked.put(options, connections as f64)?;
        }
        let help = "Connections to the database that may be open.";
        let options = Opts::new("flowyte_database_connections_max", help).const_label("pool", pool.name);
        asked.put(options, pool.most as f64)?;
    }
    Ok(())
}

/// What waits in the database.
async fn backlog(asked: &Asked, server: &Server) -> prometheus::Result<()> {
    let store: &dyn Store = &InLane(&*server.verifier.store, Lane::PROBE);
    if let Ok(head) = store.revision().await {
        let help = "Changes in the database that this node has not applied.";
        let behind = (head - server.verifier.replica.revision()).max(0);
        asked.put(Opts::new("flowyte_replica_lag_revisions", help), behind as f64)?;
    }
    #[cfg(feature = "product")]
    if let Ok(Ok(waiting)) = timeout(PATIENCE, server.product.sources_waiting()).await {
        let help = "Knowledge sources that wait to be read; 1000 stands for that many or more.";
        asked.put(Opts::new("flowyte_knowledge_sources_waiting", help), waiting as f64)?;
    }
    Ok(())
}
