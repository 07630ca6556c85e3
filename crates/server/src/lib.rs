//! The parts of the binary.

pub mod replica;
