//! What the core counted and what is there now, taken over into the metrics: once a second, and before each scrape.

use std::sync::PoisonError;

use prometheus::IntCounter;

use super::{Metrics, TargetLabels};
use crate::flow::{Side, Transport};
use crate::message::Method;
use crate::proxy::{AttemptOutcome, Direction, Facts, FailureReason, Levels, Origin, TargetFacts};
use crate::upstream::Reason;

impl Metrics {
    /// Takes over what a core counted since the last time, and the levels it has now.
    pub fn gather(&self, facts: &Facts, levels: &Levels<'_>) {
        self.levels(levels);
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let before = &*gathered;
        for side in Side::ALL {
            for method in Method::ALL {
                for transport in Transport::ALL {
                    let count = |facts: &Facts| facts.requests(side, method, transport);
                    rise(self.requests(side, method, transport), count(before), count(facts));
                }
                for class in 1..=6 {
                    for origin in Origin::ALL {
                        let count = |facts: &Facts| facts.responses(side, method, class, *origin);
                        rise(self.responses(side, method, class * 100, *origin), count(before), count(facts));
                    }
                }
            }
            rise(self.retransmissions(side), before.retransmissions(side), facts.retransmissions(side));
            for direction in Direction::ALL {
                let count = |facts: &Facts| facts.large_datagrams(side, *direction);
                rise(self.large_datagrams(side, *direction), count(before), count(facts));
            }
        }
        for (side, reason, count) in facts.dropped() {
            let known = before.dropped().find(|(at, why, _)| *at == side && *why == reason);
            rise(self.dropped(side, reason), known.map_or(0, |(_, _, count)| count), count);
        }
        for reason in Reason::ALL {
            rise(self.failovers(reason), before.rollovers(reason), facts.rollovers(reason));
        }
        rise(&self.register_retries, before.register_retries, facts.register_retries);
        rise(&self.register_exhausted, before.register_exhausted, facts.register_exhausted);
        let nothing = TargetFacts::default();
        for (label, target) in facts.targets() {
            let known = before.targets().find(|(known, _)| *known == label).map_or(&nothing, |(_, known)| known);
            let series = self.target(label);
            for outcome in AttemptOutcome::ALL {
                let place = *outcome as usize;
                rise(series.attempts(*outcome), known.attempts[place], target.attempts[place]);
            }
            for reason in FailureReason::ALL {
                let place = *reason as usize;
                rise(series.failures(*reason), known.failures[place], target.failures[place]);
            }
            self.targets.set_durations(label, target);
        }
        gathered.clone_from(facts);
    }

    fn levels(&self, levels: &Levels<'_>) {
        let upstream = levels.upstream;
        let transport = levels.transport;
        let targets: Vec<TargetLabels<'_>> = upstream
            .targets()
            .iter()
            .map(|t| TargetLabels { label: &t.label, transport, priority: t.priority, weight: t.weight })
            .collect();
        self.set_targets(&targets);
        let active = upstream.active().map(|(target, _)| &*target.label);
        for target in upstream.targets() {
            let is_active = Some(&*target.label) == active;
            let series = self.target(&target.label);
            series.active.set(i64::from(is_active));
            series.consecutive_failures.set(if is_active { i64::from(upstream.consecutive_failures()) } else { 0 });
        }
        if let Some(fleet) = levels.fleet {
            self.fleet(fleet);
        }
        rise(&self.strikes_voided, self.strikes_voided.get(), upstream.voided());
        self.transactions.set(levels.transactions as i64);
        self.bindings.set(levels.bindings as i64);
        self.bindings_orphaned.set(levels.bindings_orphaned as i64);
        self.all_targets_failed.set(i64::from(upstream.all_failed()));
        self.draining.set(i64::from(levels.draining));
        self.dns_stale.set(i64::from(upstream.stale()));
        for (side, connections) in Side::ALL.into_iter().zip(levels.connections) {
            for (transport, count) in Transport::ALL.into_iter().zip(connections) {
                self.connections(side, transport).set(count as i64);
            }
        }
    }
}

/// A counter goes up by what is new. A count that is lower than before began anew (a target that went and came back).
fn rise(counter: &IntCounter, before: u64, now: u64) {
    let new = if now < before { now } else { now - before };
    if new > 0 {
        counter.inc_by(new);
    }
}
