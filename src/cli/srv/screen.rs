//! Output that is safe for a terminal: known colours, known widths, and no control character of an untrusted peer.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use crate::probe::plain::commands;

/// Where there is no terminal, paragraphs are this wide.
const WIDTH: usize = 100;
/// Wider lines are hard to read.
const WIDEST: usize = 120;
const NARROWEST: usize = 40;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    colours: bool,
    /// Columns for paragraphs.
    pub width: usize,
    /// Columns for tables; none where lines may be as long as they like.
    pub table: Option<usize>,
}

/// The few styles in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// As it is.
    Plain,
    /// Headings.
    Bold,
    /// What matters less.
    Dim,
    /// Good.
    Green,
    /// Look here.
    Yellow,
    /// Bad.
    Red,
}

impl Screen {
    /// Of standard output. `NO_COLOR` (any value but an empty one) and `TERM=dumb` are respected.
    #[must_use]
    pub(super) fn of_stdout() -> Screen {
        let terminal = io::stdout().is_terminal();
        let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let colours = terminal && given("NO_COLOR").is_none() && given("TERM").is_some_and(|term| term != "dumb");
        let columns = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
        let table = columns.filter(|columns| *columns >= NARROWEST);
        Screen { colours, width: table.unwrap_or(WIDTH).min(WIDEST), table }
    }

    /// The text in this ink, with nothing in it that could command a terminal.
    #[must_use]
    pub(super) fn ink(&self, ink: Ink, text: &str) -> String {
        let text = tame(text);
        let code = match ink {
            Ink::Plain => return text,
            _ if !self.colours || text.is_empty() => return text,
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Red => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Words in lines of at most the width, the first behind `first`, the others indented by as much.
    #[must_use]
    pub(super) fn paragraph(&self, (ink, first): (Ink, &str), text: &str) -> String {
        let indent = first.chars().count();
        let room = self.width.saturating_sub(indent).max(20);
        let mut out = self.ink(ink, first);
        let mut used = 0;
        for word in tame(text).split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            if used > 0 && used + 1 + length > room {
                let _ = write!(out, "\n{:indent$}", "");
                used = 0;
            }
            if used > 0 {
                out.push(' ');
                used += 1;
            }
            out.push_str(word);
            used += length;
        }
        out.push('\n');
        out
    }
}

/// Control characters written as escapes. Text was made plain where it came in; this is the last line.
fn tame(text: &str) -> String {
    if !text.chars().any(commands) {
        return text.to_owned();
    }
    text.chars().map(|c| if commands(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// JSON whose strings hold no raw control character: serde escapes those below a space, a terminal obeys others too.
#[must_use]
pub(super) fn tame_json(json: &str) -> String {
    let mut tamed = String::with_capacity(json.len());
    for c in json.chars() {
        if commands(c) && c != '\n' {
            // Outside of strings JSON has no such character, so that this is inside of one.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(tamed, "\\u{unit:04x}");
            }
        } else {
            tamed.push(c);
        }
    }
    tamed
}

/// To standard output. A reader that went away (`| head`) is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// One line on standard error.
pub(super) fn complain(text: &str) {
    // A failure here cannot be reported any more.
    let _ = writeln!(io::stderr(), "holdline: {}", tame(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Screen = Screen { colours: true, width: 40, table: Some(40) };

    #[test]
    fn only_our_own_escapes_pass() {
        assert_eq!(SCREEN.ink(Ink::Red, "a\u{1b}[2J\u{9b}b"), "\u{1b}[31ma\\u{1b}[2J\\u{9b}b\u{1b}[0m");
        let piped = Screen { colours: false, ..SCREEN };
        assert_eq!(piped.ink(Ink::Red, "a"), "a");
        let json = serde_json::to_string(&["a\u{9b}\u{7f}\u{202e}\u{e0041}\u{1b}"]).unwrap();
        let tamed = tame_json(&json);
        assert_eq!(tamed, "[\"a\\u009b\\u007f\\u202e\\udb40\\udc41\\u001b\"]");
        let back: Vec<String> = serde_json::from_str(&tamed).unwrap();
        assert_eq!(back, ["a\u{9b}\u{7f}\u{202e}\u{e0041}\u{1b}"], "still the same JSON");
    }

    #[test]
    fn paragraphs_keep_to_the_width_and_their_indent() {
        let text = SCREEN.paragraph((Ink::Plain, "note     "), "one two three four five six seven eight nine ten");
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("         ") && !line.ends_with(' ')), "{text}");
    }
}
