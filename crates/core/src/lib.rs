//! Decides who is calling and whether they may.
//!
//! Pure: no I/O, clock, randomness or async. A door builds [`RequestFacts`], finds the [`Operation`] in the [`Contract`],
//! reads the credential with [`credential::present`], looks its [`Digest`] up in a replica and asks [`decide()`], which
//! answers a [`Permit`] or a [`Denial`] and allocates nothing for a permit.
//!
//! | Question | File |
//! |---|---|
//! | What does a credential look like? | `credential.rs` |
//! | Where is a key verified? | `verify.rs` |
//! | Where is a scope checked? | `authorize.rs` |
//! | How do they combine? | `decide.rs` |
//! | Which operation is this URL? | `contract.rs`, `path.rs` |

pub mod address;
pub mod authorize;
pub mod contract;
pub mod credential;
pub mod decide;
pub mod denial;
pub mod digest;
pub mod facts;
pub mod id;
pub mod limit;
pub mod origin;
pub mod path;
pub mod principal;
pub mod record;
pub mod restraint;
pub mod role;
pub mod scope;
pub mod time;
pub mod verify;

pub use contract::{Contract, Operation, OperationIndex, Requirement};
pub use credential::{Brand, CredentialKind, Environment, Presented};
pub use decide::{Lookup, Permit, decide, decide_again};
pub use denial::Denial;
pub use digest::{Digest, Pepper};
pub use facts::RequestFacts;
pub use origin::Origin;
pub use principal::{Principal, credential_id};
pub use record::{Organization, Record, Restrictions};
pub use restraint::Restraints;
pub use role::Role;
pub use scope::{Scope, ScopeSet, ScopeTable};
pub use time::Timestamp;
