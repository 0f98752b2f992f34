//! The upstream's part of `/status`. It has ages instead of clock times, because the core has no clock.

use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;

use super::events::{EventShown, StrikeShown, seconds};
use super::order::TargetId;
use super::{Source, Target, Upstream};

/// Everything about targets, counts and DNS at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The SRV name, or the static outbound proxy.
    pub source: String,
    /// `srv` or `static`.
    pub kind: &'static str,
    /// `udp`, `tcp`, `tls`.
    pub transport: &'static str,
    /// `highest-weight` or `weighted`.
    pub selection: &'static str,
    /// A set is there.
    pub ready: bool,
    /// Label of the active target.
    pub active: Option<TargetId>,
    /// For how long it has been active.
    pub active_seconds: Option<f64>,
    /// Number of its activation.
    pub epoch: u64,
    /// Consecutive failures counted against it.
    pub failures: u32,
    /// The number of handsets they came from.
    pub failing_handsets: usize,
    /// The counted failures, oldest first.
    pub strikes: Vec<StrikeShown>,
    /// Failures that make a rollover.
    pub failover_threshold: u32,
    /// Handsets they must come from.
    pub min_handsets: usize,
    /// Every target has used up its strikes since the last success anywhere.
    pub all_targets_failed: bool,
    /// In the order they are tried.
    pub targets: Vec<TargetShown>,
    /// The state of the lookups.
    pub dns: DnsShown,
    /// The last hundred events, oldest first.
    pub events: Vec<EventShown>,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetShown {
    /// `host:port`.
    pub target: TargetId,
    /// SRV priority.
    pub priority: u16,
    /// SRV weight.
    pub weight: u16,
    /// Addresses in the order they are used.
    pub addresses: Vec<IpAddr>,
    /// Whether it is the active target.
    pub active: bool,
    /// Consecutive failures counted against it. Only the active target has any.
    pub failures: u32,
    /// It used up its strikes, and no target has succeeded since.
    pub struck_out: bool,
    /// The last good answer lacked it; it is kept because it is active.
    pub missing_in_dns: bool,
}

/// The state of the lookups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DnsShown {
    /// The targets are not from the last lookup.
    pub stale: bool,
    /// Lifetime of the set, as clamped. None before the first answer and for an address literal.
    pub ttl_seconds: Option<f64>,
    /// Age of the last good answer.
    pub age_seconds: Option<f64>,
    /// Until the next lookup. None for an address literal.
    pub next_lookup_seconds: Option<f64>,
    /// Failed lookups since the last good answer.
    pub failures: u32,
    /// `ok`, `nxdomain`, `nodata`, `servfail`, `timeout`, `error`; None before the first lookup ended.
    pub outcome: Option<&'static str>,
    /// The last failure in words, if the last lookup failed.
    pub detail: Option<String>,
}

impl Upstream {
    /// What `/status` shows.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let settings = self.settings();
        Snapshot {
            source: settings.source.to_string(),
            kind: match settings.source {
                Source::Srv { .. } => "srv",
                Source::Static { .. } => "static",
            },
            transport: settings.transport.as_str(),
            selection: settings.selection.as_str(),
            ready: self.ready(),
            active: self.active_label(),
            active_seconds: self.active.as_ref().map(|a| seconds(now.saturating_duration_since(a.since))),
            epoch: self.failover.epoch(),
            failures: self.failover.count(),
            failing_handsets: self.failover.handsets(),
            strikes: self.failover.hits().map(|hit| StrikeShown::of(hit, now)).collect(),
            failover_threshold: self.failover.threshold(),
            min_handsets: self.failover.min_handsets(),
            all_targets_failed: self.all_failed(),
            targets: self.targets.iter().enumerate().map(|(index, target)| self.shown(index, target)).collect(),
            dns: self.dns_shown(now),
            events: self.events.shown(now),
        }
    }

    fn shown(&self, index: usize, target: &Target) -> TargetShown {
        let active = self.active.as_ref().filter(|a| a.index == index);
        TargetShown {
            target: target.label.clone(),
            priority: target.priority,
            weight: target.weight,
            addresses: target.addresses.clone(),
            active: active.is_some(),
            failures: if active.is_some() { self.failover.count() } else { 0 },
            struck_out: self.failed_this_round.contains(&target.label),
            missing_in_dns: active.is_some_and(|a| a.missing > 0),
        }
    }

    fn dns_shown(&self, now: Instant) -> DnsShown {
        let success = self.refresh.last_success();
        let failure = self.refresh.last_failure();
        DnsShown {
            stale: self.stale,
            ttl_seconds: success.map(|_| seconds(self.refresh.ttl())),
            age_seconds: success.map(|at| seconds(now.saturating_duration_since(at))),
            next_lookup_seconds: self.refresh.poll_timeout().map(|at| seconds(at.saturating_duration_since(now))),
            failures: self.refresh.failures(),
            outcome: failure.map_or(success.map(|_| "ok"), |f| Some(f.label())),
            detail: failure.map(ToString::to_string),
        }
    }
}
