//! What the operator may choose of connections and bodies.

use clap::Args;
use flowyte_core::address::AddressBlock;
use flowyte_verifier::settings::{list, number};

/// What the operator may choose of it.
#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Connections and bodies")]
pub struct Settings {
    /// Addresses of proxies whose X-Forwarded-For is trusted. Default: none.
    // Written out, or clap would take it for a flag that is given several times.
    #[arg(long, value_name = "CIDR,…", default_value = "", hide_default_value = true, value_parser = blocks())]
    pub trusted_proxies: std::vec::Vec<AddressBlock>,
    /// Longest request body in bytes, where the contract does not say otherwise.
    #[arg(long, value_name = "NUMBER", default_value_t = 1 << 20, value_parser = number::<usize>(1_024, 1 << 30))]
    pub max_body_bytes: usize,
    /// Connections open at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = number::<usize>(1, 1_000_000))]
    pub max_connections: usize,
    /// Connections open at once from one address; trusted proxies are not limited. Default: a quarter of max_connections.
    #[arg(long, value_name = "NUMBER", value_parser = number::<usize>(1, 1_000_000))]
    pub max_connections_per_address: Option<usize>,
    /// Memory for the bodies of requests and answers, shared fairly; at least 134217728.
    // A half of three quarters is an organization's, and an upload must fit.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, value_parser = number::<usize>(128 << 20, u32::MAX))]
    pub body_memory: usize,
    /// How long a stop waits for answers in progress.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = number::<u32>(0, 3_600))]
    pub drain_seconds: u32,
}

fn blocks() -> impl Fn(&str) -> Result<Vec<AddressBlock>, String> + Clone {
    list("addresses or CIDR blocks", |it| it.parse().ok())
}
