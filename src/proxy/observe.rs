//! What the core notes and tells: bindings a PBX granted, rollovers, target sets, gauges, the status.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bindings::{Binding, Reach};
use super::conns::Conn;
use super::contact::{self, Upward};
use super::context::Context;
use super::core::Core;
use super::spread::Spread;
use crate::flow::{Cause, Side, Transport};
use crate::message::{Edit, Message};
use crate::metrics::{FailoverReason, TargetLabels};
use crate::upstream::{Outcome, Reason, Rollover};

/// Strangers are told of once in this time: whoever scans the Internet must not fill the log.
const STRANGERS: Duration = Duration::from_secs(300);

impl Core {
    /// A REGISTER's 2xx: gives the handset its own Contacts back and keeps what the PBX granted.
    pub(super) fn registered(
        &mut self,
        context: &Context,
        response: &Message,
        edit: &mut Edit<'_>,
        upward: Option<Upward>,
        (reach, aor, target, over): (Reach, &Arc<str>, &Arc<str>, u64),
        now: Instant,
    ) {
        let cap = self.longest_grant(upward.as_ref(), now);
        let bindings = &self.bindings;
        let restored = contact::restore_register(response, edit, &self.key, upward.as_ref(), cap, |id| {
            bindings.get(id).map(|binding| &*binding.contact)
        });
        let Some(upward) = upward else { return };
        if upward.wildcard {
            self.bindings.remove_aor(aor);
        }
        let as_noted = context.tries.last().is_some_and(|newest| newest.target == *target);
        for bound in &upward.bound {
            let granted = restored.granted.iter().find(|(id, _)| *id == bound.id).map_or(0, |(_, granted)| *granted);
            if granted == 0 {
                self.bindings.remove(&bound.id);
                continue;
            }
            // Noted when the try went up: confirming it is all there is to do.
            if as_noted && self.bindings.confirm(&bound.id, granted, now) {
                self.bindings.note_answer(&bound.id, response.status(), over);
                continue;
            }
            let binding = Binding {
                id: bound.id,
                aor: aor.clone(),
                contact: bound.contact.clone(),
                reach,
                source: context.arrival.source,
                transport: context.arrival.transport,
                target: target.clone(),
                expires: now,
                confirmed: false,
                user_agent: super::bindings::user_agent(&context.request),
                last_status: Some(response.status()),
            };
            if self.bindings.upsert(binding, now).is_ok() {
                self.bindings.confirm(&bound.id, granted, now);
                self.bindings.note_answer(&bound.id, response.status(), over);
            } else {
                tracing::warn!(
                    call_id = %response.call_id_shown(),
                    limit = self.bindings.limit(),
                    "binding table full: a handset registered that cannot be called"
                );
            }
        }
    }

    /// The most seconds that a handset is granted now: `register_interval`, or less so that not all come back at once.
    fn longest_grant(&mut self, upward: Option<&Upward>, now: Instant) -> Option<u32> {
        let cap = self.settings.register_interval?.as_secs().min(u64::from(u32::MAX)) as u32;
        if !upward.is_some_and(|upward| upward.bound.iter().any(|bound| bound.expires != Some(0))) {
            return Some(cap);
        }
        if self.spread.as_ref().is_none_or(|spread| spread.cap() != cap) {
            self.spread = Some(Spread::new(cap, now));
        }
        self.spread.as_mut().map(|spread| spread.grant(now))
    }

    /// A new record set: its metrics, and the connections of targets that are gone may go when idle.
    pub(super) fn targets_changed(&mut self) {
        let transport = self.transport;
        let labels: Vec<TargetLabels<'_>> = self
            .upstream
            .targets()
            .iter()
            .map(|t| TargetLabels { label: &t.label, transport, priority: t.priority, weight: t.weight })
            .collect();
        self.metrics.set_targets(&labels);
        let targets = self.upstream.targets();
        self.address.retain(|label, _| targets.iter().any(|t| t.label == *label));
    }

    /// Another target is active (the upstream's machine has logged why): whoever only waited for his turn goes there now.
    pub(super) fn rolled_over(&mut self, rollover: &Rollover, now: Instant) {
        let reason = match rollover.reason {
            Reason::RegisterFailures => FailoverReason::RegisterFailures,
            Reason::TargetRemoved => FailoverReason::TargetRemoved,
            Reason::Manual => FailoverReason::Manual,
        };
        self.metrics.failovers(reason).inc();
        self.rollovers += 1;
        self.hurry_paced(now);
        self.tell_orphans_anew();
    }

    /// A handset was told of another proxy, too: its Route is dropped, at most one line in ten seconds.
    pub(super) fn note_foreign_route(&mut self, request: &Message, source: SocketAddr, now: Instant) {
        if let Some(held) = self.summaries.due("foreign route", now) {
            tracing::warn!(
                call_id = %request.call_id_shown(),
                handset = %source,
                more_like_it = held,
                "dropped a Route that names somebody else: set this Holdline as the handset's only outbound proxy"
            );
        }
    }

    /// Somebody who may not talk to a side was not answered: at most one line in five minutes for each side. A phone or an SBC
    /// that nobody thought of would else be met with silence on both ends.
    pub(super) fn note_stranger(&mut self, side: Side, source: SocketAddr, now: Instant) {
        let (key, says) = match side {
            Side::Phone => {
                ("stranger: phones", "not answered, it is not in `allow`; if it is a handset, add its network there")
            }
            Side::Upstream => (
                "stranger: upstream",
                "not answered, it is no target's address; if the PBX sends from there, add it to `upstream_allow`",
            ),
        };
        if let Some(held) = self.summaries.due_in(key, STRANGERS, now) {
            tracing::warn!(side = side.as_str(), source = %source.ip(), more_like_it = held, "{says}");
        }
    }

    /// A REGISTER attempt failed. Where connections fail, that line says more, and stands for both.
    pub(super) fn note_failed_attempt(&mut self, target: &Arc<str>, outcome: Outcome, now: Instant) {
        let host = target.rsplit_once(':').map_or(&**target, |(host, _)| host.trim_matches(['[', ']']));
        if let Some(held) = self.summaries.due(host, now) {
            tracing::warn!(
                target = &**target,
                outcome = %outcome,
                strikes = self.upstream.consecutive_failures(),
                more_like_it = held,
                "REGISTER attempts fail"
            );
        }
    }

    /// A connection to a target failed: at most one line in ten seconds for each target.
    pub(super) fn note_connection_failure(&mut self, conn: &Conn, cause: Cause, detail: &str, now: Instant) {
        let Some(hop) = &conn.hop else { return };
        if let Some(held) = self.summaries.due(&hop.target, now) {
            tracing::warn!(
                target_host = %hop.target,
                address = %hop.addr,
                transport = %hop.transport,
                cause = %cause,
                detail,
                more_like_it = held,
                "cannot connect to upstream"
            );
        }
    }

    /// The size of every table that what is in flight makes grow. Sixty-four times T1 after the last message all are 0 but
    /// those whose entries have a life of their own: bindings, connections, and the place of each target's address.
    #[must_use]
    pub fn tables(&self) -> Vec<(&'static str, usize)> {
        let [contexts, by_client, by_server, waiting] = self.contexts.sizes();
        vec![
            ("contexts", contexts),
            ("contexts by client transaction", by_client),
            ("contexts by server transaction", by_server),
            ("tries that wait for a connection", waiting),
            ("calls", self.calls.len()),
            ("timers", self.timers.len()),
            ("transactions", self.transactions.len()),
            ("bindings", self.bindings.len()),
            ("connections", self.conns.len()),
            ("addresses", self.address.len()),
            ("summaries", self.summaries.len()),
            ("targets waited for", self.reopening.len()),
        ]
    }

    /// Brings the gauges up to date. Called by the driver before a scrape and once a second.
    pub fn refresh_gauges(&mut self) {
        let metrics = &self.metrics;
        metrics.transactions.set(self.transactions.len() as i64);
        metrics.bindings.set(self.bindings.confirmed_len() as i64);
        let active = self.upstream.active().map(|(target, _)| target.label.clone());
        metrics.bindings_orphaned.set(self.orphans() as i64);
        metrics.all_targets_failed.set(i64::from(self.upstream.all_failed()));
        metrics.draining.set(i64::from(self.draining));
        for side in Side::ALL {
            for transport in Transport::ALL {
                metrics.connections(side, transport).set(self.conns.count(side, transport) as i64);
            }
        }
        for target in self.upstream.targets() {
            let is_active = Some(&target.label) == active.as_ref();
            let failures = if is_active { self.upstream.consecutive_failures() } else { 0 };
            let series = metrics.target(&target.label);
            series.active.set(i64::from(is_active));
            series.consecutive_failures.set(i64::from(failures));
        }
        metrics.dns_stale.set(i64::from(self.upstream.stale()));
    }
}
