//! Other settings while it runs.
//!
//! What is under way keeps the deadlines it began with; whatever begins later has the new ones.

use std::time::Instant;

use super::core::{Core, names};
use super::settings::Settings;
use crate::flow::{Cause, NetCommand};
use crate::upstream;

/// New settings for a running core. What cannot change while it runs is ignored in them.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The proxy's.
    pub proxy: Settings,
    /// Thresholds and failure codes.
    pub upstream: upstream::Settings,
}

impl Core {
    /// Takes over what may change. Contacts, names in From and To and what peers are told to call stay as they were at the
    /// start: dialogs and registrations were made with them.
    pub(super) fn take_settings(&mut self, fresh: Fresh, now: Instant) {
        self.upstream.reconfigure(fresh.upstream);
        // Each field is named, so that a new one has to be decided on.
        let Settings {
            aliases,
            domain: _,
            domain_in_aor: _,
            contact: _,
            upstream_advertise: _,
            register_interval,
            retry,
            attempt_timeout,
            retry_deadline,
            exhausted,
            invite_alternate,
            allow,
            upstream_allow,
            upstream_keepalive,
            idle_timeout: _,
            max_transactions,
            max_bindings,
            max_upstream_connections: _,
        } = fresh.proxy;
        self.settings = Settings {
            aliases,
            register_interval,
            retry,
            attempt_timeout,
            retry_deadline,
            exhausted,
            invite_alternate,
            allow,
            upstream_allow,
            upstream_keepalive,
            max_transactions,
            max_bindings,
            ..self.settings.clone()
        };
        self.names = names(&self.sockets, &self.settings);
        self.transactions.set_limit(max_transactions);
        self.bindings.set_limit(max_bindings);
        self.show_out(now);
    }

    /// Closes connections of those who may not talk to us any more. A datagram is looked at when it comes.
    fn show_out(&mut self, now: Instant) {
        for (conn, side, remote) in self.conns.accepted_from() {
            if !self.admits(side, remote) {
                self.closed(conn, Cause::Reset, now);
                self.act(NetCommand::Close { conn });
            }
        }
    }
}
