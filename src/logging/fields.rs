//! An event's message and fields, taken apart for the two forms of a line.

use std::fmt::{self, Debug, Write as _};

use serde_json::Value;
use tracing::Event;
use tracing::field::{Field, Visit};

/// Bytes of one value. A packet at `trace` is the longest, and bounded by what a message may be.
const MOST: usize = 96 * 1024;

/// The content of an event.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) message: String,
    /// In the order in which the code names them.
    pub(super) rest: Vec<(&'static str, Shown)>,
}

/// A field's value.
pub(super) enum Shown {
    /// Text that the code holds as such.
    Text(String),
    /// Something printed.
    Printed(String),
    /// A number, or true or false.
    Plain(Value),
}

impl Fields {
    pub(super) fn of(event: &Event<'_>) -> Fields {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields
    }

    fn put(&mut self, field: &Field, value: Shown) {
        match (field.name(), value) {
            ("message", Shown::Text(text) | Shown::Printed(text)) => self.message = text,
            // What a bridge adds to events of the `log` crate.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.rest.push((name.strip_prefix("r#").unwrap_or(name), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = Bounded(String::new());
        // What does not fit is left out.
        let _ = write!(text, "{value:?}");
        self.put(field, Shown::Printed(text.0));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Bounded(String::new());
        let _ = text.write_str(value);
        self.put(field, Shown::Text(text.0));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Shown::Plain(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Shown::Plain(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Shown::Plain(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Shown::Plain(value.into()));
    }
}

/// A text that stops growing.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() <= MOST {
            self.0.push_str(text);
            return Ok(());
        }
        let mut end = MOST.saturating_sub(self.0.len()).min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push_str(&text[..end]);
        self.0.push('…');
        Err(fmt::Error)
    }
}
