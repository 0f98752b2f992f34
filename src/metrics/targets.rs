//! What is counted for each SRV target. Targets come and go with DNS; their series come and go with them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::durations::Durations;
use super::family::{Families, detached_counter, detached_gauge};
use crate::flow::Transport;
use crate::proxy::{AttemptOutcome, FailureReason, TargetFacts};

/// At most so many targets have series of their own; a record set beyond that is counted without them.
pub const MAX_TARGETS: usize = 64;

/// Handles of one target's series. Cheap to keep; still valid, but no longer shown, once the target has vanished.
#[derive(Debug)]
pub struct TargetMetrics {
    /// 1 while this target is the active one, else 0.
    pub active: IntGauge,
    /// Strikes counted in a row.
    pub consecutive_failures: IntGauge,
    attempts: Vec<IntCounter>,
    failures: Vec<IntCounter>,
}

impl TargetMetrics {
    /// `register_attempts_total` of this target.
    pub fn attempts(&self, outcome: AttemptOutcome) -> &IntCounter {
        &self.attempts[outcome as usize]
    }

    /// `register_failures_total` of this target.
    pub fn failures(&self, reason: FailureReason) -> &IntCounter {
        &self.failures[reason as usize]
    }
}

/// One target as `target_info` shows it.
#[derive(Debug, Clone, Copy)]
pub struct TargetLabels<'a> {
    /// SRV `host:port`.
    pub label: &'a str,
    /// How it is reached.
    pub transport: Transport,
    /// SRV priority.
    pub priority: u16,
    /// SRV weight.
    pub weight: u16,
}

/// The labels of `target_info` as they were registered, to take them back.
type Info = [String; 4];

pub(super) struct Targets {
    info: IntGaugeVec,
    priority: IntGaugeVec,
    active: IntGaugeVec,
    consecutive_failures: IntGaugeVec,
    attempts: IntCounterVec,
    failures: IntCounterVec,
    duration: Durations,
    count: IntGauge,
    listed: RwLock<HashMap<String, (Info, Arc<TargetMetrics>)>>,
    unlisted: Arc<TargetMetrics>,
}

impl Targets {
    pub(super) fn new(f: &mut Families) -> Self {
        Self {
            count: f.gauge("targets", "Targets in the current set."),
            info: f.gauges(
                "target_info",
                &["target", "transport", "priority", "weight"],
                "Always 1: the SRV record behind each target.",
            ),
            priority: f.gauges("target_priority", &["target"], "SRV priority of each target: lower is better."),
            active: f.gauges("target_active", &["target"], "1 for the target that requests go to, 0 for the others."),
            consecutive_failures: f.gauges(
                "target_consecutive_register_failures",
                &["target"],
                "Strikes in a row; at failover_threshold the next target becomes active.",
            ),
            attempts: f.counters(
                "register_attempts_total",
                &["target", "outcome"],
                "REGISTER attempts that ended, by outcome.",
            ),
            failures: f.counters(
                "register_failures_total",
                &["target", "reason"],
                "REGISTER attempts that failed, by what they met.",
            ),
            duration: f.durations(
                "register_duration_seconds",
                &["target"],
                "From sending a REGISTER attempt to its final answer or failure.",
            ),
            listed: RwLock::default(),
            unlisted: Arc::new(TargetMetrics {
                active: detached_gauge(),
                consecutive_failures: detached_gauge(),
                attempts: AttemptOutcome::ALL.iter().map(|_| detached_counter()).collect(),
                failures: FailureReason::ALL.iter().map(|_| detached_counter()).collect(),
            }),
        }
    }

    /// Returns those that have vanished.
    pub(super) fn set(&self, targets: &[TargetLabels<'_>]) -> Vec<String> {
        self.count.set(targets.len().try_into().unwrap_or(i64::MAX));
        let mut gone = Vec::new();
        let mut listed = self.listed.write().unwrap_or_else(PoisonError::into_inner);
        listed.retain(|label, (info, _)| {
            let stays = targets.iter().any(|t| t.label == label);
            if !stays {
                self.remove(label, info);
                gone.push(label.clone());
            }
            stays
        });
        for target in targets {
            let info = info_of(target);
            if let Some((old, _)) = listed.get_mut(target.label) {
                if *old != info {
                    // Ours to remove: it was registered with exactly these labels.
                    let _ = self.info.remove_label_values(&refs(old));
                    self.info.with_label_values(&refs(&info)).set(1);
                    *old = info;
                }
            } else if listed.len() < MAX_TARGETS {
                self.info.with_label_values(&refs(&info)).set(1);
                listed.insert(target.label.to_owned(), (info, Arc::new(self.register(target.label))));
            }
            if listed.contains_key(target.label) {
                self.priority.with_label_values(&[target.label]).set(target.priority.into());
            }
        }
        gone
    }

    pub(super) fn is_listed(&self, label: &str) -> bool {
        self.listed.read().unwrap_or_else(PoisonError::into_inner).contains_key(label)
    }

    pub(super) fn get(&self, label: &str) -> Arc<TargetMetrics> {
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        listed.get(label).map_or_else(|| Arc::clone(&self.unlisted), |(_, handles)| Arc::clone(handles))
    }

    /// How long this target's attempts took; nothing where it is not announced.
    pub(super) fn set_durations(&self, label: &str, facts: &TargetFacts) {
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        if listed.contains_key(label) {
            self.duration.set(label, facts.clone());
        }
    }

    fn register(&self, label: &str) -> TargetMetrics {
        self.duration.set(label, TargetFacts::default());
        TargetMetrics {
            active: self.active.with_label_values(&[label]),
            consecutive_failures: self.consecutive_failures.with_label_values(&[label]),
            attempts: AttemptOutcome::ALL
                .iter()
                .map(|o| self.attempts.with_label_values(&[label, o.as_str()]))
                .collect(),
            failures: FailureReason::ALL
                .iter()
                .map(|r| self.failures.with_label_values(&[label, r.as_str()]))
                .collect(),
        }
    }

    fn remove(&self, label: &str, info: &Info) {
        // A series that is not there any more is what was asked for: the results say nothing new.
        let _ = self.info.remove_label_values(&refs(info));
        let _ = self.priority.remove_label_values(&[label]);
        let _ = self.active.remove_label_values(&[label]);
        let _ = self.consecutive_failures.remove_label_values(&[label]);
        self.duration.remove(label);
        for outcome in AttemptOutcome::ALL {
            let _ = self.attempts.remove_label_values(&[label, outcome.as_str()]);
        }
        for reason in FailureReason::ALL {
            let _ = self.failures.remove_label_values(&[label, reason.as_str()]);
        }
    }
}

fn info_of(target: &TargetLabels<'_>) -> Info {
    [
        target.label.to_owned(),
        target.transport.as_str().to_owned(),
        target.priority.to_string(),
        target.weight.to_string(),
    ]
}

fn refs(info: &Info) -> [&str; 4] {
    info.each_ref().map(String::as_str)
}
