//! The log: lines to standard error.

use crate::config::Config;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Log lines go to standard error, and panics become some of them.
pub fn start(config: &Config) {
    // Libraries log what they are given, so they say nothing below a warning whatever level is chosen.
    let ours = Targets::new().with_target("flowyte", config.log_level).with_default(LevelFilter::WARN);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines = match config.log_json {
        true => lines.json().flatten_event(true).boxed(),
        false => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(ours)).init();
    std::panic::set_hook(Box::new(crate::panics::tell));
}
