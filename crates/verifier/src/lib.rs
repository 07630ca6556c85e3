//! Between the facts of a request and a decision: everything that [`Verifier::authorize`] needs, and nothing else.
//!
//! A door collects [`RequestFacts`](flowyte_core::RequestFacts) and asks; it need not know how a credential is looked up, which
//! limits it is charged to, or who counts it.
//!
//! | Question | File |
//! |---|---|
//! | Where is a request authorized? | `authorize.rs` |
//! | Where is a credential looked up? | `table.rs`; `replica.rs` keeps it current |
//! | Where is a decision made again? | `warrant.rs` |
//! | Under what are secrets stored? | `pepper.rs`, `seal.rs` |
//! | Which limits have callers without a record? | `meter.rs` |
//! | Who counts what credentials are used for? | `usage.rs` |
//! | What time is it? | `clock.rs` |
//! | What may the operator choose? | `settings.rs` |

pub mod authorize;
pub mod clock;
pub mod meter;
pub mod pepper;
pub mod replica;
pub mod seal;
pub mod settings;
pub mod table;
pub mod usage;
pub mod warrant;

pub use authorize::{Authorization, Verifier, new_secret};
pub use settings::Settings;
pub use warrant::Warrant;
