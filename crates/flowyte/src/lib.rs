//! The parts of the binary: configuration, wiring, supervision, pages, command line. What a request meets is in the crates that it is
//! made of: `http`, `doors`, `verifier`, `management`, `product`.

pub mod config;
pub mod log;
mod metrics;
mod ops;
pub mod panics;
mod process;
pub mod serve;
pub mod server;
mod site;
mod supervisor;
pub mod trail;
pub mod upkeep;

#[cfg(feature = "product")]
pub use flowyte_product::reading;

use flowyte_store::Guest;

/// Release and commit, as `flowyte --version` says them.
pub const VERSION: &str = env!("BUILD_VERSION");

/// The commit that this was built from; `unknown` where there was none.
pub const COMMIT: &str = env!("BUILD_COMMIT");

/// Whoever keeps tables beside those of the plane.
pub const GUESTS: &[Guest] = &[
    #[cfg(feature = "product")]
    flowyte_product::GUEST,
];
