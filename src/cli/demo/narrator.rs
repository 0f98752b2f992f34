//! Readable lines, with the time since the start and colours on a terminal.

use std::io::{ErrorKind, Write};
use std::time::Instant;

use tokio::sync::Notify;

use crate::cli::terminal::colours;

/// Writes the story to standard output.
pub(super) struct Narrator {
    start: Instant,
    colours: bool,
    unheard: Notify,
}

/// Columns of a line; a word that is longer stands out.
const WIDTH: usize = 80;

/// Columns that the time takes.
const MARGIN: usize = 9;

const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";
const DIM: &str = "2";

impl Narrator {
    /// The time starts now. No colours where standard output is no terminal or `NO_COLOR` is set.
    pub(super) fn new() -> Narrator {
        Narrator { start: Instant::now(), colours: colours(), unheard: Notify::new() }
    }

    /// Resolves once nobody listens any more (`| head`).
    pub(super) async fn unheard(&self) {
        self.unheard.notified().await;
    }

    /// A new part of the story.
    pub(super) fn chapter(&self, title: &str) {
        self.write("", "");
        self.line(BOLD, title);
    }

    /// What happens.
    pub(super) fn tell(&self, text: &str) {
        self.line("", &format!("  {text}"));
    }

    /// What was promised and came true.
    pub(super) fn good(&self, text: &str) {
        self.line(GREEN, &format!("✓ {text}"));
    }

    /// What was promised and did not.
    pub(super) fn bad(&self, text: &str) {
        self.line(RED, &format!("✗ {text}"));
    }

    /// A line of Holdline's own log.
    pub(super) fn quote(&self, text: &str) {
        self.line(DIM, &format!("    holdline: {text}"));
    }

    /// The last line.
    pub(super) fn end(&self, text: &str) {
        self.write("", "");
        self.write("", text);
    }

    fn line(&self, colour: &str, text: &str) {
        let text = format!("{:5.1} s  {text}", self.start.elapsed().as_secs_f64());
        for line in wrapped(&text) {
            self.write(colour, &line);
        }
    }

    fn write(&self, colour: &str, text: &str) {
        let mut out = std::io::stdout().lock();
        let written = if self.colours && !colour.is_empty() {
            writeln!(out, "\x1b[{colour}m{text}\x1b[0m")
        } else {
            writeln!(out, "{text}")
        };
        // Anything else that keeps a line from being written is no reason to stop.
        if written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            self.unheard.notify_one();
        }
    }
}

/// The line in pieces of at most [`WIDTH`] columns; the second and later ones are indented as the first one's text is, and a bit more.
fn wrapped(line: &str) -> Vec<String> {
    let text = line.chars().skip(MARGIN);
    let start = MARGIN + text.take_while(|c| !c.is_alphanumeric()).count();
    let indent = start + 2;
    let (mut lines, mut rest) = (Vec::new(), line.to_owned());
    // From here on a line may be broken: not within its indent.
    let mut from = start;
    while rest.chars().count() > WIDTH {
        let spaces = || rest.char_indices().enumerate().filter(|(column, (_, c))| *c == ' ' && *column >= from);
        let Some((_, (at, _))) = spaces().take_while(|(column, _)| *column <= WIDTH).last().or_else(|| spaces().next())
        else {
            break;
        };
        let next = format!("{:indent$}{}", "", rest[at..].trim_start());
        rest.truncate(at);
        lines.push(rest.trim_end().to_owned());
        rest = next;
        from = indent + 1;
    }
    lines.push(rest);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_eighty_columns_between_words() {
        let short = "  0.1 s    short";
        assert_eq!(wrapped(short), [short]);
        let long = format!("  0.1 s      holdline: {}", "word ".repeat(40));
        let lines = wrapped(long.trim_end());
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        assert!(lines[1..].iter().all(|line| line.starts_with("               word")), "{lines:#?}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&lines.join(" ")), words(&long));
    }

    #[test]
    fn a_word_that_is_too_long_stands_out_and_nothing_is_lost() {
        let word = "x".repeat(100);
        let lines = wrapped(&format!("  0.1 s    a {word} ✓ b"));
        assert_eq!(lines, ["  0.1 s    a".to_owned(), format!("             {word}"), "             ✓ b".to_owned()]);
        assert_eq!(wrapped(&word), [word]);
    }
}
