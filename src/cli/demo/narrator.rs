//! Readable lines, with the time since the start and colours on a terminal.

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Instant;

use tokio::sync::Notify;

/// Writes the story to standard output.
pub(super) struct Narrator {
    start: Instant,
    colours: bool,
    unheard: Notify,
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
        Narrator {
            start: Instant::now(),
            colours: std::io::stdout().is_terminal() && !told_not_to && !dumb,
            unheard: Notify::new(),
        }
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

    /// What Holdline itself says.
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
