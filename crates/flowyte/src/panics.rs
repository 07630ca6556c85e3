//! What is said of a panic: where it was, and nothing of its message, which may hold anything that was being worked on.

use std::panic::PanicHookInfo;

/// The hook: one line of the log, whether or not backtraces are asked for.
pub fn tell(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "a task panicked");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Rows: SX-04.
    #[test]
    fn a_panic_is_a_line_that_says_where_and_not_what() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(tell));
        let secret = "flowyte_sk_live_canary".to_owned();
        tracing::subscriber::with_default(log, || {
            let header: Vec<Result<(), String>> = vec![Err(secret.clone())];
            assert!(std::panic::catch_unwind(|| panic!("Authorization: Bearer {secret}")).is_err());
            assert!(std::panic::catch_unwind(|| header[0].clone().unwrap()).is_err());
            assert!(std::panic::catch_unwind(|| secret[..1000].len()).is_err());
        });
        std::panic::set_hook(before);
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said.matches("a task panicked").count(), 3, "{said}");
        assert!(said.contains("panics.rs:"), "{said}");
        assert!(!said.contains("canary") && !said.contains("Bearer"), "{said}");
        assert_eq!(said.lines().count(), 3, "{said}");
    }
}
