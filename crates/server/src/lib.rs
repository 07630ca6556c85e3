//! The parts of the binary. A request's path: `accept.rs` → `wire.rs` → `gate.rs` → `handlers/` → `answer.rs`, and where
//! it is refused, `problem.rs`.

pub mod accept;
pub mod answer;
pub mod app;
pub mod bodies;
pub mod call;
pub mod clock;
pub mod config;
pub mod cursor;
pub mod devices;
pub mod gate;
pub mod handlers;
pub mod hooks;
pub mod identity_token;
pub mod live;
pub mod meter;
pub mod metrics;
pub mod ops;
pub mod panics;
pub mod password;
pub mod pepper;
pub mod problem;
pub mod reading;
pub mod realtime;
pub mod replica;
pub mod seal;
pub mod serve;
pub mod shares;
pub mod site;
pub mod table;
pub mod upkeep;
pub mod usage;
pub mod warrant;
pub mod wire;

/// Release and commit, as `flowyte --version` says them.
pub const VERSION: &str = env!("BUILD_VERSION");

/// The commit that this was built from; `unknown` where there was none.
pub const COMMIT: &str = env!("BUILD_COMMIT");
