//! The two forms of a line. An event is one line, whatever its fields hold: names, reasons and certificates of untrusted peers
//! are in them.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, Shown};

/// `2026-01-31T12:00:00.000000Z  WARN rolled over from="a:5060" to="b:5060"`
pub(super) struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let colours = out.has_ansi_escapes();
        let Fields { message, rest } = Fields::of(event);
        if colours {
            out.write_str("\x1b[2m")?;
        }
        SystemTime.format_time(&mut out)?;
        let level = *event.metadata().level();
        if colours {
            write!(out, "\x1b[0m \x1b[{}m{level:>5}\x1b[0m ", colour(level))?;
        } else {
            write!(out, " {level:>5} ")?;
        }
        escaped(&mut out, &message, false)?;
        for (name, value) in rest {
            write!(out, " {name}=")?;
            match value {
                Shown::Plain(value) => write!(out, "{value}")?,
                Shown::Text(text) => quoted(&mut out, &text)?,
                Shown::Printed(text) if text.is_empty() || text.contains([' ', '"', '=']) => quoted(&mut out, &text)?,
                Shown::Printed(text) => escaped(&mut out, &text, false)?,
            }
        }
        out.write_char('\n')
    }
}

/// One JSON object a line: `timestamp`, `level`, `message`, the event's fields, `module`.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let Fields { message, rest } = Fields::of(event);
        let metadata = event.metadata();
        write!(out, "{{\"timestamp\":{},\"level\":\"{}\",\"message\":{}", json(time), metadata.level(), json(message))?;
        for (name, value) in rest {
            let value = match value {
                Shown::Plain(value) => value,
                Shown::Text(text) | Shown::Printed(text) => Value::String(text),
            };
            write!(out, ",\"{name}\":{value}")?;
        }
        writeln!(out, ",\"module\":\"{}\"}}", metadata.target())
    }
}

fn json(text: String) -> Value {
    Value::String(text)
}

fn quoted(out: &mut dyn Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    escaped(out, text, true)?;
    out.write_char('"')
}

/// Control characters, and what turns the direction of writing, never reach a terminal or begin a line of their own.
fn escaped(out: &mut dyn Write, text: &str, quotes: bool) -> fmt::Result {
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns || (quotes && matches!(c, '"' | '\\')) {
            write!(out, "{}", c.escape_default())?;
        } else {
            out.write_char(c)?;
        }
    }
    Ok(())
}

fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}
