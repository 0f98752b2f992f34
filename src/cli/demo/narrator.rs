//! Readable lines, with the time since the start and colours on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Writes the story to standard output.
pub(super) struct Narrator {
    start: Instant,
    colours: bool,
}

const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";
const DIM: &str = "2";

impl Narrator {
    /// The time starts now. No colours where standard output is no terminal or `NO_COLOR` is set.
    pub(super) fn new() -> Narrator {
        let told_not_to = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Narrator { start: Instant::now(), colours: std::io::stdout().is_terminal() && !told_not_to && !dumb }
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
        self.write(colour, &format!("{:5.1} s  {text}", self.start.elapsed().as_secs_f64()));
    }

    fn write(&self, colour: &str, text: &str) {
        // The reader may have gone (`| head`): the story goes on all the same, for its exit code.
        let mut out = std::io::stdout().lock();
        let _ = if self.colours && !colour.is_empty() {
            writeln!(out, "\x1b[{colour}m{text}\x1b[0m")
        } else {
            writeln!(out, "{text}")
        };
    }
}
