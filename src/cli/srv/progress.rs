//! A line on standard error that says how far it is; only where that is a terminal.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::probe::Progress;

/// Shorter looks need no progress.
const EVERY: Duration = Duration::from_millis(150);

/// Shows progress until it is dropped, and then takes the line away.
pub(super) struct Line(Option<JoinHandle<()>>);

impl Line {
    /// Begins, where standard error is a terminal.
    pub(super) fn show(progress: &Arc<Progress>) -> Line {
        if !std::io::stderr().is_terminal() {
            return Line(None);
        }
        let progress = Arc::clone(progress);
        Line(Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let (begun, ended) = (progress.begun.load(Ordering::Relaxed), progress.ended.load(Ordering::Relaxed));
                erase();
                // A terminal that went away is the reader's business.
                let _ = write!(std::io::stderr(), "looking: {ended} of {begun} questions and probes done");
            }
        })))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            erase();
        }
    }
}

/// Back to the first column, and the line empty.
fn erase() {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(b"\r\x1b[K").and_then(|()| stderr.flush());
}
