//! Lines that wait to be written. Whoever adds one never waits for whoever reads them.

use prometheus::{IntCounter, register_int_counter};
use std::io::{ErrorKind, Write};
use std::mem::{swap, take};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that wait at most, some ten thousand lines. As many again may be on their way out.
const ROOM: usize = 2 << 20;
/// Memory that is kept when nothing waits.
const KEPT: usize = 64 << 10;
/// Lines that come within this time are written together.
const GATHER: Duration = Duration::from_millis(5);

/// Lines that nobody will ever read.
pub static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let help =
        "Lines of the log that were dropped, because standard error took them too slowly or not at all.";
    register_int_counter!("flowyte_log_lines_dropped_total", help).expect("the metric is declared once")
});

/// Lines on their way to where they are written.
pub struct Lines {
    queue: Mutex<Buffer>,
    /// A first line waits, or somebody waits for the last.
    come: Condvar,
    /// Lines have been written or given up, so that whoever waits for the last one looks again.
    gone: Condvar,
}

struct Buffer {
    waiting: Vec<u8>,
    /// Lines that found no room, and that the log has not told of.
    dropped: u64,
    /// Bytes that ever found room.
    taken: u64,
    /// Bytes of them that are done with.
    written: u64,
    /// Somebody waits for what is here: it is written at once.
    hurried: bool,
}

impl Lines {
    /// An empty queue, whose lines are written only once [`Lines::write_out`] runs.
    pub const fn new() -> Self {
        let queue = Buffer { waiting: Vec::new(), dropped: 0, taken: 0, written: 0, hurried: false };
        Self { queue: Mutex::new(queue), come: Condvar::new(), gone: Condvar::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Buffer> {
        // A panic while it was held can't have left it half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or drops it where there is no room. Waits for nobody.
    pub fn add(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.waiting.len() + line.len() > ROOM {
            queue.dropped += 1;
            drop(queue);
            DROPPED.inc();
            return;
        }
        let first = queue.waiting.is_empty();
        queue.waiting.extend_from_slice(line);
        queue.taken += line.len() as u64;
        drop(queue);
        if first {
            self.come.notify_one();
        }
    }

    /// Writes what comes, for as long as the process runs.
    pub fn write_out(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        let mut healthy = true;
        loop {
            let queue = self.come.wait_while(self.queue(), |it| it.waiting.is_empty());
            let queue = queue.unwrap_or_else(PoisonError::into_inner);
            let gathered = self.come.wait_timeout_while(queue, GATHER, |it| !it.hurried);
            let (mut queue, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            swap(&mut queue.waiting, &mut lines);
            queue.hurried = false;
            // Where nothing can be written, this line could not be either, and would only be one more.
            let dropped = if healthy { take(&mut queue.dropped) } else { 0 };
            drop(queue);
            if dropped > 0 {
                // There is room for it now, behind the lines that came before those that are missing.
                tracing::error!(dropped, "lines are missing here: standard error took them too slowly");
            }
            let lost = write(&mut out, &lines);
            healthy = lost == 0;
            DROPPED.inc_by(lost);
            let mut queue = self.queue();
            queue.dropped += lost;
            queue.written += lines.len() as u64;
            drop(queue);
            self.gone.notify_all();
            lines.clear();
            lines.shrink_to(KEPT);
        }
    }

    /// Returns when all that came before has been written, or when that takes too long.
    pub fn flush(&self, patience: Duration) {
        let mut queue = self.queue();
        let all = queue.taken;
        queue.hurried = true;
        self.come.notify_one();
        let _ = self.gone.wait_timeout_while(queue, patience, |it| it.written < all);
    }
}

/// Writes lines, however long it takes. How many could not be written.
fn write(out: &mut impl Write, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(0) => break,
            Ok(count) => lines = &lines[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process has made the pipe one that does not wait.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(GATHER),
            Err(_) => break,
        }
    }
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, Result};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Takes what is written, but only while it is not broken.
    #[derive(Clone, Default)]
    struct Sink(Arc<(AtomicBool, Mutex<Vec<u8>>)>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            if self.0.0.load(Ordering::SeqCst) {
                return Err(Error::other("broken"));
            }
            // A few at a time, as a pipe may.
            self.0.1.lock().unwrap().write(&bytes[..bytes.len().min(7)])
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn started() -> (&'static Lines, Sink) {
        let (lines, sink): (&Lines, _) = (Box::leak(Box::new(Lines::new())), Sink::default());
        let out = sink.clone();
        std::thread::spawn(move || lines.write_out(out));
        (lines, sink)
    }

    #[test]
    fn all_that_was_added_is_written_in_order() {
        let (lines, sink) = started();
        let text: String = (0..1_000).map(|number| format!("line {number}\n")).collect();
        text.split_inclusive('\n').for_each(|line| lines.add(line.as_bytes()));
        lines.flush(Duration::from_secs(10));
        assert_eq!(String::from_utf8_lossy(&sink.0.1.lock().unwrap()), text);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let lines = Lines::new();
        let line = [b'x'; ROOM / 4];
        (0..7).for_each(|_| lines.add(&line));
        let kept = |it: &Buffer| (it.waiting.len(), it.dropped);
        assert_eq!(kept(&lines.queue()), (ROOM, 3));
        // Nobody writes them, and nobody waits for ever.
        lines.flush(Duration::from_millis(1));
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_what_comes_later_is_written() {
        let (lines, sink) = started();
        sink.0.0.store(true, Ordering::SeqCst);
        lines.add(b"lost\n");
        lines.flush(Duration::from_secs(10));
        assert_eq!(lines.queue().dropped, 1);
        sink.0.0.store(false, Ordering::SeqCst);
        lines.add(b"kept\n");
        lines.flush(Duration::from_secs(10));
        assert_eq!(*sink.0.1.lock().unwrap(), b"kept\n");
    }
}
