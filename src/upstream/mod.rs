//! Upstream: which target is active, and why (RFC 2782, RFC 3263).
//!
//! One machine, [`Upstream`]. It is fed lookup results, attempt outcomes and time, and queues actions:
//!
//! ```text
//! name     the configured SRV name: cleaning, transport from its labels
//! settings what is configured, what survives a restart
//! refresh  when to ask DNS
//! records  what DNS said, validated  →  order    sorted into the order targets are tried in
//!                                    →  install  in the place of the set before
//! classes  what an outcome means     →  failover the three-strike count  →  events  the last hundred and their why
//! witness  whose word a strike is      →  doubt    strikes that are no evidence by themselves
//! moves    another target is active      →  fleet    what several instances decide together
//! actions  what the driver must do      snapshot what /status shows
//! ```
//!
//! Call order: after any `handle_*`, [`Upstream::begin_attempt`], [`Upstream::finish_because`], [`Upstream::late_success`] or
//! [`Upstream::roll`], drain [`Upstream::poll_action`] and look at [`Upstream::poll_timeout`] again. It logs what an operator
//! must see (rollovers, DNS failing and recovering, a state that does not fit); its driver need not log them again.

mod actions;
pub mod classes;
mod doubt;
pub mod events;
pub mod failover;
mod fleet;
mod install;
mod moves;
pub mod name;
pub mod order;
pub mod records;
mod refresh;
mod settings;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

pub use actions::{RollError, UpstreamAction, Verdict};
pub use classes::{Class, FAILURE_CODES, Outcome};
use events::{Events, What};
pub use events::{MAX_DETAIL, Reason, Rollover, Strike, bounded};
pub use failover::Attempt;
use failover::{Failover, Hit, Step};
use fleet::Member;
pub use fleet::{Decided, Followed, Plan};
pub use install::{MAX_ADDRESSES, MAX_PAST_TARGETS};
pub use name::{NameError, SrvName};
pub use order::{Selection, Target, TargetId};
pub use records::{LookupFailure, Record, RecordSet};
use refresh::Refresh;
pub use refresh::{MAX_TTL, MIN_TTL};
pub use settings::{Persisted, Settings, Source};
pub use snapshot::Snapshot;
pub use witness::{HandsetId, SourceId, Standing, Witness};

use crate::summaries::Summaries;

#[derive(Debug)]
struct Active {
    /// Its place in `targets`.
    index: usize,
    since: Instant,
    /// Good answers in a row without it.
    missing: u8,
}

/// Targets, the active one among them, and the count against it.
#[derive(Debug)]
pub struct Upstream {
    settings: Settings,
    seed: u64,
    refresh: Refresh,
    /// In the order they are tried. Contains the active one, also while DNS does not.
    targets: Vec<Target>,
    /// Targets of earlier sets, oldest first.
    past: VecDeque<Target>,
    active: Option<Active>,
    /// The targets do not come from the last lookup.
    stale: bool,
    failover: Failover,
    /// Targets that used up their strikes since the last success anywhere.
    failed_this_round: BTreeSet<TargetId>,
    /// The failure of every target was logged, and none has succeeded since.
    all_failed_logged: bool,
    /// The activation whose target is being asked whether it lives.
    doubted: Option<u64>,
    /// Strikes that were void, since the start.
    voided: u64,
    /// The active target has answered a REGISTER since it became active.
    answered: bool,
    rejected: Vec<String>,
    /// What it takes to be one of several instances; `None` for one that is alone.
    member: Option<Member>,
    summaries: Summaries,
    events: Events,
    actions: VecDeque<UpstreamAction>,
}

impl Upstream {
    /// Starts with the stored state, if there is one that fits, and with a lookup. `seed` draws the weighted order.
    ///
    /// A static outbound proxy given as an address literal is ready at once and never looked up.
    #[must_use]
    pub fn new(settings: Settings, restored: Option<Persisted>, seed: u64, now: Instant) -> Self {
        let mut upstream = Upstream {
            failover: Failover::new(settings.failures, settings.min_handsets),
            settings,
            seed,
            refresh: Refresh::never(),
            targets: Vec::new(),
            past: VecDeque::new(),
            active: None,
            stale: true,
            failed_this_round: BTreeSet::new(),
            all_failed_logged: false,
            doubted: None,
            voided: 0,
            answered: false,
            rejected: Vec::new(),
            member: None,
            summaries: Summaries::default(),
            events: Events::default(),
            actions: VecDeque::new(),
        };
        if let Source::Static { host, .. } = &upstream.settings.source
            && let Ok(address) = host.parse::<IpAddr>()
        {
            let record = Record { host: address.to_string(), addresses: vec![address], ..Record::default() };
            upstream.stale = false;
            upstream.install(vec![upstream.with_default_port(record)], &[], None, now);
            return upstream;
        }
        if let Some(restored) = restored {
            upstream.restore(restored, now);
        }
        upstream.refresh = Refresh::started(now);
        upstream.actions.push_back(UpstreamAction::Lookup);
        upstream
    }

    /// Takes the result of a lookup.
    pub fn handle_lookup(&mut self, result: Result<RecordSet, LookupFailure>, now: Instant) {
        let good = result.and_then(|set| {
            let records = set.records.into_iter().map(|record| self.with_default_port(record)).collect();
            records::validate(records).map(|valid| (valid, set.unresolved, set.ttl))
        });
        match good {
            Ok((valid, unresolved, ttl)) => {
                self.log_rejected(valid.rejected);
                if self.refresh.last_failure().is_some() {
                    info!(source = %self.settings.source, "DNS answers again");
                    self.events.push(What::DnsRecovered, now);
                }
                self.refresh.succeeded(ttl, now);
                self.stale = false;
                self.install(valid.records, &unresolved, None, now);
            }
            Err(failure) => {
                self.log_failure(&failure, now);
                self.stale = true;
                self.refresh.failed(failure, self.ready(), now);
            }
        }
    }

    /// Logs once for each change of what is wrong with the record set, not at each refresh.
    fn log_rejected(&mut self, rejected: Vec<String>) {
        if rejected != self.rejected {
            for why in &rejected {
                warn!(source = %self.settings.source, "DNS record not used: {why}");
            }
            self.rejected = rejected;
        }
    }

    /// Logs once for each change of how lookups fail, not at each retry.
    fn log_failure(&mut self, failure: &LookupFailure, now: Instant) {
        if self.refresh.last_failure() == Some(failure) {
            return;
        }
        let source = &self.settings.source;
        if self.ready() {
            warn!(%source, outcome = failure.label(), "DNS lookup failed, going on with the last good set: {failure}");
        } else {
            warn!(%source, outcome = failure.label(), "DNS lookup failed, no target yet, trying on: {failure}");
        }
        self.events.push(What::DnsFailing { outcome: failure.label(), detail: failure.to_string() }, now);
    }

    /// Gives a static outbound proxy that has no port the transport's default.
    fn with_default_port(&self, mut record: Record) -> Record {
        if let Source::Static { port, .. } = &self.settings.source {
            record.port = port.unwrap_or(self.settings.transport.default_port());
        }
        record
    }

    fn persist(&mut self) {
        let Some(active) = self.active_label() else { return };
        self.actions.push_back(UpstreamAction::Persist(Persisted {
            source: self.settings.state_key(),
            active: active.to_string(),
            records: self.targets.iter().map(Record::from).collect(),
            seed: self.seed,
        }));
    }

    /// Takes over what of these settings may change while it runs: thresholds and failure codes. The source, its transport and
    /// the order of targets stay as they were at the start.
    pub fn reconfigure(&mut self, settings: Settings) {
        let Settings { source: _, transport: _, selection: _, failures, failure_codes, min_handsets } = settings;
        self.failover.set_thresholds(failures, min_handsets);
        self.settings = Settings { failures, failure_codes, min_handsets, ..self.settings.clone() };
    }

    /// Numbers a REGISTER attempt that is being sent to the active target now. `None` before there is one: hold the
    /// request; that is no strike.
    pub fn begin_attempt(&mut self, now: Instant) -> Option<Attempt> {
        let label = self.active_label()?;
        Some(self.failover.begin(label, now))
    }

    /// Takes the outcome of an attempt, once per attempt. `witness`: whose REGISTER it was. `detail`: the peer's or the transport's own words for it (see [`bounded`]), which are shown with the
    /// rollover.
    pub fn finish_because(
        &mut self,
        attempt: &Attempt,
        witness: Witness,
        outcome: Outcome,
        detail: Option<Arc<str>>,
        now: Instant,
    ) -> Verdict {
        let class = classes::classify(outcome, &self.settings.failure_codes);
        self.answered |= attempt.epoch == self.failover.epoch() && matches!(outcome, Outcome::Response(_));
        let step = self.failover.finish(attempt, class, Hit { at: now, outcome, witness, detail });
        match step {
            Step::Stale | Step::Unmoved => {}
            Step::Cleared => self.served(now),
            Step::Doubtful => {
                self.doubt();
                return Verdict { class, counted: true, rolled_over: false };
            }
            Step::Counted => return Verdict { class, counted: true, rolled_over: false },
            Step::Enough => {
                let rolled_over = self.enough(now);
                return Verdict { class, counted: true, rolled_over };
            }
        }
        Verdict { class, counted: false, rolled_over: false }
    }

    /// A target has accepted a registration.
    fn served(&mut self, now: Instant) {
        self.doubted = None;
        self.report_served(now);
        self.failed_this_round.clear();
        if std::mem::take(&mut self.all_failed_logged) && self.summaries.due("served again", now).is_some() {
            info!(active = self.active_label().as_deref(), "registrations succeed again");
        }
    }

    /// A 2xx on a branch whose attempt was classed already: the target is alive after all. Clears the count if the attempt's
    /// epoch is still the current one.
    pub fn late_success(&mut self, attempt: &Attempt, now: Instant) {
        let witness = Witness { handset: HandsetId(0), source: SourceId(0), standing: Standing::Served };
        let hit = Hit { at: now, outcome: Outcome::Response(200), witness, detail: None };
        if self.failover.finish(attempt, Class::Success, hit) == Step::Cleared {
            self.served(now);
        }
    }

    /// A neutral answer (a challenge) on a branch whose attempt was counted as silent: the target is slow, not dead, and the
    /// strike is taken back. The count stays otherwise.
    pub fn late_answer(&mut self, attempt: &Attempt) -> bool {
        self.failover.retract(attempt)
    }

    /// Starts a lookup if one is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.refresh.start_if_due(now) {
            self.actions.push_back(UpstreamAction::Lookup);
        }
    }

    /// The time at which [`Upstream::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.refresh.poll_timeout()
    }

    /// The next action, in order.
    pub fn poll_action(&mut self) -> Option<UpstreamAction> {
        self.actions.pop_front()
    }

    /// True once a set is there: from DNS, from the store, or a static address.
    pub fn ready(&self) -> bool {
        self.active.is_some()
    }

    /// True if the targets in use are not from the last lookup (the gauge `dns_stale`).
    pub fn stale(&self) -> bool {
        self.stale
    }

    /// The active target and the number of its activation.
    pub fn active(&self) -> Option<(&Target, u64)> {
        self.active.as_ref().map(|active| (&self.targets[active.index], self.failover.epoch()))
    }

    fn active_label(&self) -> Option<TargetId> {
        self.active().map(|(target, _)| target.label.clone())
    }

    fn index_of(&self, label: &str) -> Option<usize> {
        self.targets.iter().position(|t| &*t.label == label)
    }

    /// All targets in the order they are tried.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The target with this label, also one of an earlier set: a dialog stays with its target.
    pub fn target(&self, label: &str) -> Option<&Target> {
        self.targets.iter().find(|t| &*t.label == label).or_else(|| self.past.iter().rev().find(|t| &*t.label == label))
    }

    /// The target with this [`Target::number`], also one of an earlier set.
    pub fn target_numbered(&self, number: u32) -> Option<&Target> {
        self.targets.iter().chain(self.past.iter().rev()).find(|t| t.number() == number)
    }

    /// The target that sends from this address: preferably one with this port too, and one of the current set rather than one of
    /// an earlier set.
    pub fn target_at(&self, source: SocketAddr) -> Option<&Target> {
        let ip = source.ip().to_canonical();
        let there = || self.targets.iter().chain(self.past.iter().rev()).filter(|t| t.addresses.contains(&ip));
        there().find(|t| t.port == source.port()).or_else(|| there().next())
    }

    /// The target that a connection was opened to, also one of an earlier set.
    pub fn target_named(&self, host: &str, port: u16) -> Option<&Target> {
        self.targets.iter().chain(self.past.iter().rev()).find(|t| &*t.host == host && t.port == port)
    }

    /// The target after the one with this label, the first one after the last; the same one if there is no other. For a label
    /// that is not in the set: the first.
    pub fn next_after(&self, label: &str) -> Option<&Target> {
        let next = self.index_of(label).map_or(0, |index| (index + 1) % self.targets.len());
        self.targets.get(next)
    }

    /// True for an address of a current target or of a remembered past one.
    pub fn is_upstream_address(&self, ip: IpAddr) -> bool {
        self.targets.iter().chain(&self.past).any(|t| t.addresses.contains(&ip))
    }

    /// Consecutive failures counted against the active target.
    pub fn consecutive_failures(&self) -> u32 {
        self.failover.count()
    }

    /// True while every target has used up its strikes since the last success anywhere.
    pub fn all_failed(&self) -> bool {
        !self.targets.is_empty() && self.targets.iter().all(|t| self.failed_this_round.contains(&t.label))
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
