//! How an event becomes a line. Every request writes one, so it is written straight into the bytes that go out.

use flowyte_core::Timestamp;
use serde::{Serialize, Serializer};
use std::cell::Cell;
use std::error::Error;
use std::fmt::{Arguments, Debug, Result, Write};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::Event;
use tracing::field::{Field, Visit};

/// Longer than nearly every line.
const USUAL: usize = 512;
/// The field that says what happened. It comes first in a line.
const MESSAGE: &str = "message";

/// `2026-01-31T12:00:00.000000Z  INFO target: message name=value`
pub fn text(event: &Event<'_>) -> Vec<u8> {
    let about = event.metadata();
    let mut line = Text(Vec::with_capacity(USUAL));
    line.time();
    // Writing to memory does not fail, here and below.
    let _ = write!(line, " {:>5} {}:", about.level().as_str(), about.target());
    event.record(&mut line);
    line.0.push(b'\n');
    line.0
}

/// `{"timestamp":"…","level":"INFO","message":"…","name":"value","target":"…"}`
pub fn json(event: &Event<'_>) -> Vec<u8> {
    let about = event.metadata();
    let mut line = Text(Vec::with_capacity(USUAL));
    line.0.extend_from_slice(b"{\"timestamp\":\"");
    line.time();
    line.0.push(b'"');
    let mut line = Json(line.0);
    line.value("level", about.level().as_str());
    event.record(&mut line);
    line.value("target", about.target());
    line.0.extend_from_slice(b"}\n");
    line.0
}

/// Text in which nothing ends a line or steers a terminal.
struct Text(Vec<u8>);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> Result {
        let mut suspect = false;
        for byte in text.as_bytes() {
            // The first byte of the controls behind ASCII is also that of other characters.
            suspect |= *byte < b' ' || *byte == 0x7f || *byte == 0xc2;
        }
        if !suspect {
            self.0.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        for character in text.chars() {
            if character.is_control() {
                self.0.extend(character.escape_default().map(|it| it as u8));
            } else {
                self.0.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(())
    }
}

impl Text {
    /// Now, to the microsecond. All but that is made once a second.
    fn time(&mut self) {
        thread_local! {
            static SECOND: Cell<(u64, [u8; 20])> = const { Cell::new((u64::MAX, [0; 20])) };
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (mut second, mut shown) = SECOND.get();
        if second != since.as_secs() {
            second = since.as_secs();
            let whole = Timestamp::from_micros((second * 1_000_000) as i64).to_string();
            // `2026-01-31T12:00:00.000Z`
            shown.iter_mut().zip(whole.bytes()).for_each(|(to, from)| *to = from);
            SECOND.set((second, shown));
        }
        self.0.extend_from_slice(&shown);
        let _ = write!(self, "{:06}Z", since.subsec_micros());
    }

    fn value(&mut self, field: &Field, value: Arguments<'_>) {
        self.0.push(b' ');
        if field.name() != MESSAGE {
            self.0.extend_from_slice(field.name().as_bytes());
            self.0.push(b'=');
        }
        let _ = self.write_fmt(value);
    }
}

impl Visit for Text {
    /// As it is debugged: in quotes. Most values need nothing but those.
    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if field.name() != MESSAGE && value.as_bytes().iter().all(plain) {
            self.0.push(b' ');
            self.0.extend_from_slice(field.name().as_bytes());
            self.0.extend_from_slice(b"=\"");
            self.0.extend_from_slice(value.as_bytes());
            self.0.push(b'"');
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.value(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.value(field, format_args!("{value:?}"));
    }
}

struct Json(Vec<u8>);

impl Json {
    fn value(&mut self, name: &str, value: impl Serialize) {
        // Names are those of fields in the code.
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        let _ = serde_json::to_writer(&mut self.0, &value);
    }
}

impl Visit for Json {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.value(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.value(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.value(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.value(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.value(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.value(field.name(), Shown(format_args!("{value}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.value(field.name(), Shown(format_args!("{value:?}")));
    }
}

/// A JSON string of what is shown.
struct Shown<'a>(Arguments<'a>);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    #[derive(Clone, Default)]
    struct Both(Arc<Mutex<Vec<[String; 2]>>>);

    impl<S: tracing::Subscriber> Layer<S> for Both {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let lines = [text(event), json(event)].map(|it| String::from_utf8(it).unwrap());
            self.0.lock().unwrap().push(lines);
        }
    }

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let both = Both::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(both.clone()), || {
            let error = std::io::Error::other("first\nsecond \u{1b}[31m \u{9b} é");
            tracing::warn!(%error, name = "a \"b\"\n", count = 3, ratio = 0.5, done = true, none = None::<u8>, "it failed");
        });
        let [text, json] = both.0.lock().unwrap().pop().unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.len() == 27 && time.ends_with('Z'), "{text}");
        let wanted = " WARN flowyte::log::format::tests: it failed error=first\\nsecond \\u{1b}[31m \\u{9b} é \
                      name=\"a \\\"b\\\"\\n\" count=3 ratio=0.5 done=true\n";
        assert_eq!(rest, wanted);
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.matches('\n').count(), 1);
        let wanted = json!({"timestamp": read["timestamp"], "level": "WARN", "message": "it failed",
            "error": "first\nsecond \u{1b}[31m \u{9b} é", "name": "a \"b\"\n", "count": 3, "ratio": 0.5, "done": true,
            "target": "flowyte::log::format::tests"});
        assert_eq!(read.to_string(), wanted.to_string());
    }
}
