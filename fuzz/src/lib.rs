//! Fuzz targets of every parser that reads what a stranger sends. `make fuzz` runs each; the tests run each on seeds.

pub mod targets;
