//! A new record set takes the place of the old one, and a healthy fleet does not notice.

use std::net::IpAddr;
use std::time::Instant;

use tracing::{info, warn};

use super::events::{Reason, What};
use super::order::TargetId;
use super::order::{Target, arrange};
use super::records::{self, Record};
use super::{Active, Persisted, Upstream, UpstreamAction};

/// The most targets of earlier sets that are remembered: dialogs and old registrations may still use them.
pub const MAX_PAST_TARGETS: usize = 64;
/// The most addresses of one target that are used.
pub const MAX_ADDRESSES: usize = 32;
/// Good answers in a row that must lack the active target before it is left.
const MISSING_ANSWERS: u8 = 2;

impl Upstream {
    pub(super) fn restore(&mut self, restored: Persisted, now: Instant) {
        let key = self.settings.state_key();
        if restored.source != key {
            warn!(stored = restored.source, configured = key, "the stored state is of another upstream: not used");
            return;
        }
        let Ok(valid) = records::validate(restored.records) else {
            warn!(source = key, "the stored state has no usable target: not used");
            return;
        };
        self.seed = restored.seed;
        self.install(valid.records, &[], Some(&restored.active), now);
        let active = self.active_label();
        if active.as_deref() == Some(&*restored.active) {
            info!(active = restored.active, targets = self.targets.len(), "restored the active target");
        } else {
            warn!(
                stored = restored.active,
                active = active.as_deref(),
                "the stored active target is not in the stored set"
            );
        }
    }

    /// Makes a validated record set the current one. `wanted`: the label to make active if nothing is yet.
    pub(super) fn install(&mut self, records: Vec<Record>, unresolved: &[String], wanted: Option<&str>, now: Instant) {
        let mut fresh: Vec<Target> = records.into_iter().map(Target::from).collect();
        for target in &mut fresh {
            let known = self.targets.iter().find(|t| t.label == target.label);
            target.addresses = settle_addresses(target, known, unresolved);
        }
        let mut removed = None;
        if let Some(active) = &mut self.active {
            let current = &self.targets[active.index];
            if fresh.iter().any(|t| t.label == current.label) {
                active.missing = 0;
            } else {
                active.missing += 1;
                if active.missing < MISSING_ANSWERS {
                    fresh.push(current.clone());
                } else {
                    removed = Some(current.label.clone());
                }
            }
        }
        arrange(&mut fresh, self.settings.selection, self.seed);
        self.replace_targets(fresh, removed, wanted, now);
    }

    fn replace_targets(&mut self, fresh: Vec<Target>, removed: Option<TargetId>, wanted: Option<&str>, now: Instant) {
        let changed = fresh != self.targets;
        let active_label = self.active_label();
        let previous = std::mem::replace(&mut self.targets, fresh);
        if changed {
            self.remember_and_tell(previous, now);
            self.actions.push_back(UpstreamAction::SetChanged);
        }
        self.failed_this_round.retain(|label| self.targets.iter().any(|t| t.label == *label));
        match (active_label, removed) {
            (_, Some(from)) => {
                self.activate(0, from, Reason::TargetRemoved, now);
                return;
            }
            (Some(label), None) => {
                let index = self.index_of(&label).unwrap_or(0);
                if let Some(active) = &mut self.active {
                    active.index = index;
                }
            }
            (None, None) => {
                let preferred = self.member.as_mut().and_then(|member| member.preferred.take());
                let wanted = preferred.as_deref().or(wanted);
                let index = wanted.and_then(|label| self.index_of(label)).unwrap_or(0);
                self.failover.activate();
                self.active = Some(Active { index, since: now, missing: 0 });
            }
        }
        if changed {
            self.persist();
        }
    }

    /// Keeps targets that left the set, and logs what came and went.
    fn remember_and_tell(&mut self, previous: Vec<Target>, now: Instant) {
        let is_in = |set: &[Target], label: &str| set.iter().any(|t| &*t.label == label);
        let added: Vec<_> =
            self.targets.iter().filter(|t| !is_in(&previous, &t.label)).map(|t| t.label.clone()).collect();
        let mut gone = Vec::new();
        for old in previous {
            let still = self.targets.iter().find(|t| t.label == old.label);
            if still.is_none() {
                gone.push(old.label.clone());
            }
            // A target that merely changed its address is kept as well: requests may still come from the old address.
            if still.is_none_or(|t| old.addresses.iter().any(|a| !t.addresses.contains(a))) {
                self.past.retain(|p| p.label != old.label || p.addresses != old.addresses);
                if self.past.len() == MAX_PAST_TARGETS {
                    self.past.pop_front();
                }
                self.past.push_back(old);
            }
        }
        if !added.is_empty() || !gone.is_empty() {
            let order: Vec<&str> = self.targets.iter().map(|t| &*t.label).collect();
            info!(source = %self.settings.source, order = order.join(", "), "targets");
            self.events.push(What::Targets { added, removed: gone }, now);
        }
    }
}

/// Addresses in a lasting order. DNS rotates them from answer to answer; a healthy fleet must not follow, so known ones
/// keep their places and new ones come behind, IPv4 before IPv6. Where this lookup could not ask, the known ones hold.
fn settle_addresses(target: &Target, known: Option<&Target>, unresolved: &[String]) -> Vec<IpAddr> {
    let Some(known) = known else { return target.addresses.iter().take(MAX_ADDRESSES).copied().collect() };
    let all_hold = unresolved.iter().any(|host| host.as_str() == &*target.host);
    let mut settled: Vec<IpAddr> =
        known.addresses.iter().filter(|a| all_hold || target.addresses.contains(a)).copied().collect();
    settled.extend(target.addresses.iter().filter(|a| !known.addresses.contains(a)));
    settled.sort_by_key(IpAddr::is_ipv6);
    settled.truncate(MAX_ADDRESSES);
    settled
}
