//! The last hundred events of the upstream with their reasons, for `/status`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::classes::Outcome;
use super::failover::{Hit, Tally};
use super::fleet::Decided;
use super::order::TargetId;
use super::witness::HandsetId;

/// The most events that are kept beside the rollovers.
pub const MAX_EVENTS: usize = 100;

/// The most rollovers that are kept: a name that goes on failing in DNS must not push the reason for last night's calls out.
pub const MAX_ROLLOVERS: usize = 100;

/// The most bytes that are kept of an untrusted peer's words.
pub const MAX_DETAIL: usize = 240;

/// A peer's words as they are kept: at most [`MAX_DETAIL`] bytes, control characters replaced. `None` for nothing.
#[must_use]
pub fn bounded(words: &[u8]) -> Option<Arc<str>> {
    let words = words.trim_ascii();
    let cut = &words[..words.len().min(MAX_DETAIL)];
    let text: String = String::from_utf8_lossy(cut)
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    (!text.is_empty()).then(|| Arc::from(text))
}

/// The reason why another target became active; its word is the metric label of `failovers_total{reason}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The active target used up its strikes.
    RegisterFailures,
    /// The active target was missing from two consecutive good answers.
    TargetRemoved,
    /// An operator asked for it.
    Manual,
    /// The fleet moved: another instance decided.
    Cluster,
}

impl Reason {
    /// All reasons, in the order metrics are registered.
    pub const ALL: [Reason; 4] = [Reason::RegisterFailures, Reason::TargetRemoved, Reason::Manual, Reason::Cluster];

    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::RegisterFailures => "register_failures",
            Reason::TargetRemoved => "target_removed",
            Reason::Manual => "manual",
            Reason::Cluster => "cluster",
        }
    }
}

/// A counted failure, as a rollover lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// The time between the failure and the rollover.
    pub age: Duration,
    /// The cause, or the response's status.
    pub outcome: Outcome,
    /// The hash of the handset.
    pub handset: HandsetId,
    /// The peer's or the transport's own words, as in [`Hit`].
    pub detail: Option<Arc<str>>,
}

impl Strike {
    pub(super) fn of(hit: &Hit, now: Instant) -> Strike {
        Strike {
            age: now.saturating_duration_since(hit.at),
            outcome: hit.outcome,
            handset: hit.witness.handset,
            detail: hit.detail.clone(),
        }
    }
}

/// A change of the active target (or the only target's becoming active once more).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollover {
    /// Label of the target that was left.
    pub from: TargetId,
    /// Label of the target that is active now.
    pub to: TargetId,
    /// The new activation's number.
    pub epoch: u64,
    /// The reason.
    pub reason: Reason,
    /// Consecutive strikes against `from`. For another reason than failures: what had been counted so far.
    pub count: u32,
    /// The last of these strikes, oldest first.
    pub strikes: Vec<Strike>,
    /// How many different handsets the strikes came from.
    pub handsets: usize,
    /// How many different handsets failed since the first of them. Strikes are serial: of a target that is silent to all, most
    /// handsets' failures are no strikes of their own.
    pub failed: usize,
    /// Who decided, where it was another instance.
    pub decided: Option<Decided>,
}

impl Rollover {
    pub(super) fn new(from: TargetId, to: TargetId, epoch: u64, reason: Reason, tally: &Tally, now: Instant) -> Self {
        let strikes = tally.hits.iter().map(|hit| Strike::of(hit, now)).collect();
        Rollover {
            from,
            to,
            epoch,
            reason,
            count: tally.count,
            strikes,
            handsets: tally.handsets,
            failed: tally.failed,
            decided: None,
        }
    }

    /// The failures in words: `timeout 8.0 s ago, 503 4.0 s ago, refused now`.
    #[must_use]
    pub fn failures(&self) -> String {
        in_words(&self.strikes)
    }
}

/// Strikes in words, oldest first.
pub(super) fn in_words(strikes: &[Strike]) -> String {
    let words = |strike: &Strike| {
        let Strike { age, outcome, .. } = strike;
        if age.as_millis() == 0 {
            format!("{outcome} now")
        } else {
            format!("{outcome} {:.3} s ago", age.as_secs_f64())
        }
    };
    strikes.iter().map(words).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Rollover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} ({})", self.from, self.to, self.reason.as_str())?;
        if self.count > 0 {
            write!(
                f,
                " after {} consecutive failures from {} handsets: {}",
                self.count,
                self.handsets,
                self.failures()
            )?;
        }
        Ok(())
    }
}

/// The content of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Another target became active.
    RolledOver(Rollover),
    /// The target list changed (labels, in order).
    Targets { added: Vec<TargetId>, removed: Vec<TargetId> },
    /// Strikes by unserved handsets alone were void: the target answered when it was asked.
    Voided { target: TargetId, failures: u32 },
    /// Lookups began to fail, or failed in another way than before.
    DnsFailing { outcome: &'static str, detail: String },
    /// Lookups succeed again.
    DnsRecovered,
}

#[derive(Debug, Clone)]
struct Event {
    at: Instant,
    what: What,
}

/// The last [`MAX_ROLLOVERS`] rollovers and the last [`MAX_EVENTS`] other events, each oldest first.
#[derive(Debug, Default)]
pub(super) struct Events {
    rollovers: VecDeque<Event>,
    others: VecDeque<Event>,
}

impl Events {
    pub(super) fn push(&mut self, what: What, now: Instant) {
        let (ring, most) = match what {
            What::RolledOver(_) => (&mut self.rollovers, MAX_ROLLOVERS),
            What::Targets { .. } | What::DnsFailing { .. } | What::DnsRecovered | What::Voided { .. } => {
                (&mut self.others, MAX_EVENTS)
            }
        };
        if ring.len() == most {
            ring.pop_front();
        }
        ring.push_back(Event { at: now, what });
    }

    pub(super) fn shown(&self, now: Instant) -> Vec<EventShown> {
        let mut all: Vec<&Event> = self.others.iter().chain(&self.rollovers).collect();
        // Stable: of one moment, what DNS said comes before what followed from it.
        all.sort_by_key(|event| event.at);
        all.into_iter().map(|event| EventShown::of(event, now)).collect()
    }
}

/// One event in `/status`. Ages are seconds before the moment of the snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventShown {
    /// Another target became active.
    Rollover {
        /// Age in seconds.
        age_seconds: f64,
        /// The target left.
        from: TargetId,
        /// The target now active.
        to: TargetId,
        /// `register_failures`, `target_removed`, `manual`, `cluster`.
        reason: &'static str,
        /// The instance that decided, and its strikes in words, where it was another one.
        #[serde(skip_serializing_if = "Option::is_none")]
        decided_by: Option<Arc<str>>,
        /// See `decided_by`.
        #[serde(skip_serializing_if = "Option::is_none")]
        decided_for: Option<Arc<str>>,
        /// Number of the activation.
        epoch: u64,
        /// Consecutive failures counted.
        failures: u32,
        /// The number of handsets they came from.
        handsets: usize,
        /// How many handsets failed since the first of them.
        handsets_failed: usize,
        /// The failures that led to it, oldest first.
        strikes: Vec<StrikeShown>,
    },
    /// The target list changed.
    TargetsChanged {
        /// Age in seconds.
        age_seconds: f64,
        /// The labels that are new.
        added: Vec<TargetId>,
        /// The labels that are gone.
        removed: Vec<TargetId>,
    },
    /// Strikes by handsets that were never served were void: the target answered when it was asked.
    StrikesVoided {
        /// Age in seconds.
        age_seconds: f64,
        /// The target that stays active.
        target: TargetId,
        /// How many strikes were void.
        failures: u32,
    },
    /// Lookups began to fail, or fail in another way than before.
    DnsFailing {
        /// Age in seconds.
        age_seconds: f64,
        /// As in the metric: `nxdomain`, `nodata`, `servfail`, `timeout`, `error`.
        outcome: &'static str,
        /// The failure in words.
        detail: String,
    },
    /// Lookups succeed again.
    DnsRecovered {
        /// Age in seconds.
        age_seconds: f64,
    },
}

/// One failure in an [`EventShown::Rollover`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StrikeShown {
    /// Age in seconds.
    pub age_seconds: f64,
    /// `timeout`, `refused`, `reset`, `tls`, `unreachable`, `unresolved`, or `response`.
    pub cause: &'static str,
    /// The status code of a `response`.
    pub code: Option<u16>,
    /// The peer's own words, or what is wrong with its certificate. Untrusted text: never to be shown raw.
    pub detail: Option<Arc<str>>,
}

impl StrikeShown {
    pub(super) fn of(hit: &Hit, now: Instant) -> Self {
        StrikeShown {
            age_seconds: seconds(now.saturating_duration_since(hit.at)),
            cause: hit.outcome.reason(),
            code: hit.outcome.code(),
            detail: hit.detail.clone(),
        }
    }
}

impl EventShown {
    fn of(event: &Event, now: Instant) -> Self {
        let age = now.saturating_duration_since(event.at);
        let age_seconds = seconds(age);
        match &event.what {
            What::RolledOver(r) => EventShown::Rollover {
                age_seconds,
                from: r.from.clone(),
                to: r.to.clone(),
                reason: r.reason.as_str(),
                decided_by: r.decided.as_ref().map(|decided| decided.by.clone()),
                decided_for: r.decided.as_ref().map(|decided| decided.strikes.clone()),
                epoch: r.epoch,
                failures: r.count,
                handsets: r.handsets,
                handsets_failed: r.failed,
                strikes: r
                    .strikes
                    .iter()
                    .map(|s| StrikeShown {
                        age_seconds: seconds(s.age + age),
                        cause: s.outcome.reason(),
                        code: s.outcome.code(),
                        detail: s.detail.clone(),
                    })
                    .collect(),
            },
            What::Voided { target, failures } => {
                EventShown::StrikesVoided { age_seconds, target: target.clone(), failures: *failures }
            }
            What::Targets { added, removed } => {
                EventShown::TargetsChanged { age_seconds, added: added.clone(), removed: removed.clone() }
            }
            What::DnsFailing { outcome, detail } => {
                EventShown::DnsFailing { age_seconds, outcome, detail: detail.clone() }
            }
            What::DnsRecovered => EventShown::DnsRecovered { age_seconds },
        }
    }
}

/// Seconds to the millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
    fn lookups_push_no_rollover_out() {
        let start = Instant::now();
        let label = |text: &str| TargetId::from(text);
        let mut events = Events::default();
        let tally = Tally::default();
        let rollover = Rollover::new(label("a"), label("b"), 2, Reason::Manual, &tally, start);
        events.push(What::RolledOver(rollover), start);
        for n in 1..=500 {
            events.push(What::DnsRecovered, start + Duration::from_secs(n));
        }
        let shown = events.shown(start + Duration::from_secs(501));
        assert_eq!(shown.len(), MAX_EVENTS + 1);
        assert!(matches!(&shown[0], EventShown::Rollover { to, .. } if &**to == "b"), "{:?}", shown[0]);
        for n in 0..2 * MAX_ROLLOVERS as u64 {
            let rollover = Rollover::new(label("a"), label("b"), n, Reason::Manual, &tally, start);
            events.push(What::RolledOver(rollover), start + Duration::from_secs(600 + n));
        }
        let shown = events.shown(start + Duration::from_secs(900));
        assert_eq!(shown.len(), MAX_EVENTS + MAX_ROLLOVERS, "they are bounded, too");
    }
}
