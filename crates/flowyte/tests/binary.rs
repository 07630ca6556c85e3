//! The binary itself, end to end: started as an operator starts it, spoken to over raw sockets.
#![cfg(feature = "product")]
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test says what went wrong by panicking.

#[path = "binary/callers.rs"]
mod callers;
#[path = "../../../tests/decisions/case.rs"]
mod case;
#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;
#[path = "binary/rows.rs"]
mod rows;
#[path = "../../product/tests/services/mod.rs"]
mod services;
#[path = "binary/support.rs"]
mod support;

#[path = "binary/accounts.rs"]
mod accounts;
#[path = "binary/attacks.rs"]
mod attacks;
#[path = "binary/billing.rs"]
mod billing;
#[path = "binary/canary.rs"]
mod canary;
#[path = "binary/clock.rs"]
mod clock;
#[path = "binary/conversations.rs"]
mod conversations;
#[path = "binary/crash.rs"]
mod crash;
#[path = "binary/decisions.rs"]
mod decisions;
#[path = "binary/floods.rs"]
mod floods;
#[path = "binary/heads.rs"]
mod heads;
#[path = "binary/isolation.rs"]
mod isolation;
#[path = "binary/knowledge.rs"]
mod knowledge;
#[path = "binary/model.rs"]
mod model;
#[path = "binary/numbers.rs"]
mod numbers;
#[path = "binary/operations.rs"]
mod operations;
#[path = "binary/permits.rs"]
mod permits;
#[path = "binary/process.rs"]
mod process;
#[path = "binary/proxies.rs"]
mod proxies;
#[path = "binary/realtime.rs"]
mod realtime;
#[path = "binary/resources.rs"]
mod resources;
#[path = "binary/scenarios.rs"]
mod scenarios;
#[path = "binary/skills.rs"]
mod skills;
#[path = "binary/storage.rs"]
mod storage;
#[path = "binary/upgrade.rs"]
mod upgrade;
#[path = "binary/upkeep.rs"]
mod upkeep;
#[path = "binary/walk.rs"]
mod walk;
