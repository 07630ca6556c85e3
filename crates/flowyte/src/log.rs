//! The log: lines to standard error, each written as it is made, without a tree of values, and none waited for.

mod format;
mod lines;

pub use lines::DROPPED;

use crate::config::Config;
use lines::Lines;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::util::SubscriberInitExt;

/// How long the end of the process waits for standard error.
const AT_END: Duration = Duration::from_secs(2);
/// The same for a panic, which may be the end of the process, and mostly is not.
const AT_PANIC: Duration = Duration::from_millis(200);

static LINES: Lines = Lines::new();

/// The log of this process. When it is dropped, what was said until then has been written.
#[must_use]
pub struct Log(());

impl Drop for Log {
    fn drop(&mut self) {
        LINES.flush(AT_END);
        // What was written last may have been the first to find out that lines were dropped.
        LINES.flush(AT_END);
    }
}

/// Log lines go to standard error, and panics become some of them.
pub fn start(config: &Config) -> std::io::Result<Log> {
    std::thread::Builder::new().name("log".into()).spawn(|| LINES.write_out(std::io::stderr()))?;
    Listener { level: config.log_level, json: config.log_json }.init();
    std::panic::set_hook(Box::new(|panic| {
        crate::panics::tell(panic);
        LINES.flush(AT_PANIC);
    }));
    Ok(Log(()))
}

/// Makes lines of events. Nothing here has spans.
struct Listener {
    level: Level,
    json: bool,
}

impl Subscriber for Listener {
    /// Libraries log what they are given, so they say nothing below a warning whatever level is chosen.
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        let most = if about.target().starts_with("flowyte") { self.level } else { Level::WARN };
        about.is_event() && *about.level() <= most
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level.max(Level::WARN)))
    }

    fn event(&self, event: &Event<'_>) {
        LINES.add(&if self.json { format::json(event) } else { format::text(event) });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
