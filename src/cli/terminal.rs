//! What the operator's commands print. Much of it was written by untrusted peers (names, User-Agents, reason phrases): nothing that
//! a terminal takes for a command, or that turns the direction of writing, gets there raw.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write as _};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::Failure;

/// Text of an untrusted peer, one line: what does not print is shown as an escape.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            // Writing to memory cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// JSON with what does not print as `\u` escapes. It parses to the same value.
pub(super) fn json(value: &Value, pretty: bool) -> String {
    let text = if pretty { format!("{value:#}\n") } else { format!("{value}\n") };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // Outside of strings JSON has none of these but the line breaks of its layout.
        if c != '\n' && is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Controls (C0, DEL, C1), and what is invisible or turns the direction of writing.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether standard output takes colours: it is a terminal, and nobody has said that it shall not.
pub(super) fn colours() -> bool {
    let told_not_to = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    io::stdout().is_terminal() && !told_not_to && !dumb
}

/// Writes to standard output. A reader that has gone (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Other(error.into())),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Shows what `look` brings, again and again, until the program is ended. On a terminal it stays in place.
pub(super) fn watch(every: Duration, look: impl Fn() -> Result<String, Failure>) -> Result<(), Failure> {
    let in_place = io::stdout().is_terminal();
    loop {
        let text = match look() {
            Ok(text) => text,
            // It may come back, and that is worth seeing.
            Err(failure @ Failure::Unavailable(_)) => format!("holdline: {failure}\n"),
            Err(failure) => return Err(failure),
        };
        let mut out = io::stdout().lock();
        let clear = if in_place { "\x1b[H\x1b[2J" } else { "" };
        let written = out.write_all(clear.as_bytes()).and_then(|()| out.write_all(text.as_bytes()));
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("standard output")?,
        }
        drop(out);
        std::thread::sleep(every);
    }
}

/// Columns as wide as their widest cell, parted by two spaces. The last one is not filled up.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `12 s`, `5 min 12 s`, `3 h 5 min`, `2 d 4 h`.
pub(super) fn span(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) as u64 } else { 0 };
    let (major, unit, minor, small) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3600 => (seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => (seconds / 3600, "h", seconds % 3600 / 60, "min"),
        86_400.. => (seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    };
    if minor == 0 { format!("{major} {unit}") } else { format!("{major} {unit} {minor} {small}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_an_escape() {
        for (text, shown) in [
            ("Yealink T46S", "Yealink T46S"),
            ("\x1b]0;owned\x07", "\\u{1b}]0;owned\\u{7}"),
            ("a\nb\r\tc", "a\\u{a}b\\u{d}\\u{9}c"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("gro\u{df} \u{202e}txet", "gro\u{df} \\u{202e}txet"),
        ] {
            assert_eq!(visible(text), shown);
            let value = Value::String(text.to_owned());
            for pretty in [true, false] {
                let written = json(&value, pretty);
                assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
                assert!(!written.trim_end().chars().any(is_hidden), "{written:?}");
            }
        }
    }

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, text) in [
            (0.4, "0 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (312.4, "5 min 12 s"),
            (11_100.0, "3 h 5 min"),
            (190_000.0, "2 d 4 h"),
            (-3.0, "0 s"),
            (f64::NAN, "0 s"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_needed() {
        let rows =
            [vec!["a".to_owned(), "long one".to_owned(), "x".to_owned()], vec!["bcd".to_owned(), "b".to_owned()]];
        assert_eq!(table(&rows), "a    long one  x\nbcd  b\n");
    }
}
