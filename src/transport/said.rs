//! What the log has said about connections, so that one break of many connections is one line.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::summaries::{QUIET, Summaries};

/// Shared by all connections.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<Summaries>>);

impl Said {
    pub(super) fn due(&self, key: &str) -> Option<u64> {
        self.due_in(key, QUIET)
    }

    pub(super) fn due_in(&self, key: &str, quiet: Duration) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).due_in(key, quiet, Instant::now().into_std())
    }
}
