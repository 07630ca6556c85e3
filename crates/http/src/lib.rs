//! HTTP as the server speaks it: connections and their guard, bodies, and what a handler takes and gives.
//!
//! A request's path: `accept.rs` → `wire.rs` → a door → a handler, which gets a [`call::Call`] → `answer.rs`; and where it is
//! refused, `problem.rs`.

pub mod accept;
pub mod answer;
pub mod bodies;
pub mod call;
pub mod cursor;
pub mod problem;
pub mod route;
pub mod settings;
pub mod shares;
pub mod wire;
