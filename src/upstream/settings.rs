//! The upstream's settings, and the state that survives a restart.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::classes::FAILURE_CODES;
use super::order::Selection;
use super::records::Record;
use crate::flow::Transport;

/// The source of the targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An SRV record.
    Srv {
        /// The name to look up: absolute, cleaned by [`SrvName::parse`](super::SrvName::parse), no trailing dot.
        name: String,
    },
    /// A static outbound proxy.
    Static {
        /// Name or address literal (IPv6 without brackets).
        host: String,
        /// Port, if one was configured; else the transport's default.
        port: Option<u16>,
    },
}

impl Source {
    /// The record type that is asked for first: the metric label `record`.
    #[must_use]
    pub fn record(&self) -> &'static str {
        match self {
            Source::Srv { .. } => "srv",
            Source::Static { .. } => "a",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Srv { name } => f.write_str(name),
            Source::Static { host, port: Some(port) } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Source::Static { host, port: Some(port) } => write!(f, "{host}:{port}"),
            Source::Static { host, port: None } => f.write_str(host),
        }
    }
}

/// The upstream's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The source of the targets.
    pub source: Source,
    /// The transport they are reached over.
    pub transport: Transport,
    /// The order of targets within one priority.
    pub selection: Selection,
    /// Consecutive failures that make a rollover. At least 1; three by default.
    pub failures: u32,
    /// Status codes that are failures ([`FAILURE_CODES`] by default).
    pub failure_codes: Vec<u16>,
    /// Different handsets the failures must come from. At least 1, the default.
    pub min_handsets: u32,
}

impl Settings {
    /// The defaults for a source and a transport.
    #[must_use]
    pub fn new(source: Source, transport: Transport) -> Self {
        Settings {
            source,
            transport,
            selection: Selection::default(),
            failures: 3,
            failure_codes: FAILURE_CODES.to_vec(),
            min_handsets: 1,
        }
    }

    /// What a stored state must have been written for to be used.
    pub(super) fn state_key(&self) -> String {
        match &self.source {
            Source::Srv { name } => format!("srv:{}", name.to_ascii_lowercase()),
            Source::Static { host, port } => {
                format!("static:{}:{}", host.to_ascii_lowercase(), port.unwrap_or(self.transport.default_port()))
            }
        }
    }
}

/// The state that survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persisted {
    /// What it was looked up from: `srv:name` or `static:host:port`, lower case. A state of another source is not used.
    pub source: String,
    /// Label of the active target.
    pub active: String,
    /// The last good set.
    pub records: Vec<Record>,
    /// The seed of the weighted order, so that a restart does not draw anew.
    pub seed: u64,
}
