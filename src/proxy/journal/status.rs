//! The core's part of `/status`. No AORs, no addresses of handsets.

use std::time::Instant;

use serde_json::{Value, json};

use super::Journal;
use crate::fleet::Fleet;
use crate::flow::{Side, Transport};
use crate::proxy::flows::Flows;
use crate::proxy::registrar::Registrar;
use crate::proxy::site::Site;
use crate::transaction::Transactions;
use crate::upstream::Upstream;

/// What is there now, for the gauges.
#[derive(Debug)]
pub struct Levels<'c> {
    /// The targets, which is active, and what is counted against it.
    pub upstream: &'c Upstream,
    /// This instance's part in its fleet, if it is in one.
    pub fleet: Option<&'c Fleet>,
    /// What the upstream side speaks.
    pub transport: Transport,
    /// Live and completed transactions.
    pub transactions: usize,
    /// Bytes of messages kept.
    pub bytes: usize,
    /// Bindings that a PBX confirmed.
    pub bindings: usize,
    /// Those that the PBX reaches only after their next REGISTER.
    pub bindings_orphaned: usize,
    /// No new dialogs are taken.
    pub draining: bool,
    /// Connections by side and transport.
    pub connections: [[usize; Transport::ALL.len()]; Side::ALL.len()],
}

/// What can be shown of a core, now.
#[derive(Debug)]
pub(in crate::proxy) struct View<'c> {
    pub site: &'c Site,
    pub upstream: &'c Upstream,
    pub transactions: &'c Transactions,
    pub registrar: &'c Registrar,
    pub flows: &'c Flows,
    pub journal: &'c Journal,
    pub fleet: Option<&'c Fleet>,
    pub draining: bool,
    pub now: Instant,
}

impl View<'_> {
    /// What `/status` shows of the upstream, of flows and of tables; see `docs/status.md`.
    pub(in crate::proxy) fn status(&self) -> Value {
        let flows: Vec<Value> = Side::ALL
            .into_iter()
            .flat_map(|side| Transport::ALL.map(|transport| (side, transport)))
            .map(|(side, transport)| {
                json!({
                    "side": side.as_str(),
                    "transport": transport.as_str(),
                    "connections": self.flows.count(side, transport),
                })
            })
            .collect();
        let bindings = self.registrar.bindings();
        json!({
            "upstream": self.upstream.snapshot(self.now),
            "flows": flows,
            "bindings": {
                "count": bindings.confirmed_len(),
                "orphaned": self.flows.orphans(self.site, self.upstream, self.registrar),
                "limit": bindings.limit(),
            },
            "transactions": { "count": self.transactions.len(), "limit": self.site.settings.max_transactions },
            "registrations": {
                "in_trouble": self.journal.in_trouble(self.now),
                "last_hour": self.journal.minutes.hour(self.now),
                "latency_last_hour": self.journal.minutes.latency(self.now),
                "since_start": self.journal.minutes.totals(),
            },
            "cluster": self.fleet.map(|fleet| fleet.shown(self.now)),
            "draining": self.draining,
        })
    }

    /// As [`View::status`], with what the status page draws: the last hour by minutes.
    pub(in crate::proxy) fn status_with_history(&self) -> Value {
        let mut status = self.status();
        status["history"] = json!(self.journal.minutes.shown(self.now));
        status
    }
}
