//! Ways of asking the verifier, one file each.

pub mod answers;
pub mod api;
mod request_id;
