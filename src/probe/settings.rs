//! The settings of a look, and its progress.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::flow::Transport;
use crate::transport::Verify;
use crate::transport::tls::Inspector;

/// Probes under way at once, over all NAMEs: more wait, so that they do not run out of sockets.
const MAX_PROBES: usize = 256;

/// The settings of a look, the same for every NAME.
#[derive(Clone)]
pub struct Settings {
    /// Name servers to ask; empty: the system's. Several are compared.
    pub nameservers: Vec<SocketAddr>,
    /// `--transport`.
    pub transport: Option<Transport>,
    /// `--upstream-verify`, where it was given.
    pub verify: Option<Verify>,
    /// Authorities and our own certificate; `None` where nothing is to be measured.
    pub inspector: Option<Inspector>,
    /// For one address: connection, handshake and answer together. `None`: nothing is measured.
    pub limit: Option<Duration>,
    /// From [`places`], shared by all looks of a process.
    pub places: Arc<Semaphore>,
}

/// The progress of the looks, for display.
#[derive(Debug, Default)]
pub struct Progress {
    /// Questions and probes begun.
    pub begun: AtomicUsize,
    /// Questions and probes ended.
    pub ended: AtomicUsize,
}

/// The places for as many probes as run at once, for [`Settings::places`].
#[must_use]
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_PROBES))
}

impl Progress {
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}
