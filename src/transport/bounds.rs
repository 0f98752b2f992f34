//! What the transports may take, while they run.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;

use super::{Transports, descriptors};

impl Transports {
    /// Other bounds from now on: what a connection may take to open, how many are accepted on each side, and from whom on the phone
    /// side. Connections that are open stay.
    pub fn set_bounds(&mut self, connect_timeout: Duration, connections: usize, allow: &[IpNet]) {
        self.settings.connect_timeout = connect_timeout;
        if self.connections.swap(connections, Ordering::Relaxed) != connections {
            self.settings.limits.connections = connections;
            self.warn_of_descriptors();
        }
        self.allowed.set(allow);
    }

    /// Bytes of half-read messages and of what waits to be written, on all connections together.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.ledger.total()
    }

    /// How many of those bytes there may be.
    #[must_use]
    pub fn memory_limit(&self) -> usize {
        self.settings.limits.held_bytes
    }

    /// How many connections each side accepts: as configured, or fewer where descriptors are short.
    #[must_use]
    pub fn connection_limit(&self) -> usize {
        self.settings.limits.connections.min(self.room)
    }

    pub(super) fn warn_of_descriptors(&self) {
        let (wanted, room) = (self.settings.limits.connections, self.room);
        if wanted > room {
            tracing::warn!(
                limit_connections = wanted,
                descriptors = descriptors::limit(),
                "the limit on descriptors allows only {room} connections: raise it (LimitNOFILE, ulimit -Hn), or lower limit_connections"
            );
        }
    }
}
