//! The parts of the binary.

pub mod accept;
pub mod replica;
pub mod wire;
