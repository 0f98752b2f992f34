//! The settings of a look, and its progress.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};

use super::dial::Probe;
use super::report::{AddressLook, Enter};
use crate::flow::Transport;
use crate::transport::tls::Inspector;
use crate::transport::{TlsSettings, Verify};
use crate::upstream::SrvName;

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
    /// The files of authorities and of our own certificate, for whoever runs with what was found.
    pub tls: TlsSettings,
    /// Authorities and our own certificate; `None` where nothing is to be measured.
    pub inspector: Option<Inspector>,
    /// For one address: connection, handshake and answer together. `None`: nothing is measured.
    pub limit: Option<Duration>,
    /// From [`places`], shared by all looks of a process.
    pub places: Arc<Semaphore>,
    /// Shared by the looks of one round.
    pub measured: Measured,
}

impl Settings {
    /// Whatever else was given for this look, and is needed to run with what was found.
    pub(super) fn beside(&self, enter: &mut Enter) {
        let said = enter.srv.as_deref().and_then(|name| SrvName::parse(Some(name), None).ok().flatten());
        let over_tls = match &enter.transport {
            Some(transport) => transport == Transport::Tls.as_str(),
            None => said.is_some_and(|name| name.transport == Transport::Tls),
        };
        if over_tls {
            let path = |path: &Option<PathBuf>| path.as_deref().map(|path| path.display().to_string());
            enter.upstream_ca = path(&self.tls.ca);
            enter.upstream_ca_only = path(&self.tls.ca_only);
            enter.upstream_cert = path(&self.tls.client_cert);
            enter.upstream_key = path(&self.tls.client_key);
        }
        enter.nameserver = self.nameservers.iter().map(ToString::to_string).collect();
    }
}

/// What was measured so far. Two NAMEs that lead to one target measure it once.
#[derive(Debug, Clone, Default)]
pub struct Measured(Arc<Mutex<HashMap<MeasuredBy, Arc<OnceCell<AddressLook>>>>>);

/// All that a measurement depends on: the address, the names that are asked for there, and what judges the certificate.
type MeasuredBy = (SocketAddr, String, Option<String>, Transport, &'static str);

impl Measured {
    pub(super) fn cell(&self, probe: &Probe) -> Arc<OnceCell<AddressLook>> {
        let key = (probe.addr, probe.host.clone(), probe.domain.clone(), probe.transport, probe.verify.as_str());
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }
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
