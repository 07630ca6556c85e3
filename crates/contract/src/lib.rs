//! Compiles an OpenAPI 3.1 document into core's [`Contract`] and the checks of its requests.
//!
//! The document is hostile input: it is read within budgets, nothing outside it is ever fetched, patterns run on an engine
//! that is linear in its input, and whatever has two meanings is refused with the place and the reason.

mod compile;
mod json;
mod request;

pub use compile::{Api, compile};
pub use request::{BodyError, Checks, FieldError, Query};

use flowyte_core::Contract;
use std::fmt;

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where: an operation like `GET /agents`, or a part of the document.
    pub place: String,
    /// What, and what would be right.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl Api {
    /// The compiled contract.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }
}
