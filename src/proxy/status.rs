//! The core's part of `/status`. No AORs, no addresses of handsets.

use std::time::Instant;

use serde_json::{Value, json};

use super::core::Core;
use crate::flow::{Side, Transport};
use crate::store::StoredBinding;

impl Core {
    /// What `/status` shows of the upstream, of flows and of tables; see `docs/status.md`.
    #[must_use]
    pub fn status(&self, now: Instant) -> Value {
        let flows: Vec<Value> = Side::ALL
            .into_iter()
            .flat_map(|side| Transport::ALL.map(|transport| (side, transport)))
            .map(|(side, transport)| {
                json!({
                    "side": side.as_str(),
                    "transport": transport.as_str(),
                    "connections": self.conns.count(side, transport),
                })
            })
            .collect();
        json!({
            "upstream": self.upstream.snapshot(now),
            "flows": flows,
            "bindings": { "count": self.bindings.confirmed_len(), "orphaned": self.orphans(), "limit": self.bindings.limit() },
            "transactions": { "count": self.transactions.len(), "limit": self.settings.max_transactions },
            "registrations": {
                "last_hour": self.history.hour(now),
                "latency_last_hour": self.history.latency(now),
                "since_start": self.history.totals(),
            },
            "draining": self.draining,
        })
    }

    /// As [`Core::status`], with what the status page draws: the last hour by minutes.
    #[must_use]
    pub fn status_with_history(&self, now: Instant) -> Value {
        let mut status = self.status(now);
        status["history"] = json!(self.history.shown(now));
        status
    }

    /// Takes a binding over from before a restart, if a listener still has its address. False if it is left out.
    pub fn restore_binding(&mut self, stored: &StoredBinding, now: Instant, unix: u64) -> bool {
        let socket = self.sockets.iter().find(|s| {
            let same_ip = s.local.ip() == stored.local.ip() || s.local.ip().is_unspecified();
            s.side == Side::Phone && s.transport == Transport::Udp && same_ip && s.local.port() == stored.local.port()
        });
        let socket = socket.map(|s| s.id);
        self.bindings.import(stored, &self.key, socket, now, unix)
    }

    /// Changes nobody stores.
    pub fn forget_changes(&mut self) {
        while self.bindings.poll_change().is_some() {}
    }
}
