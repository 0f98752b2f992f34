//! The three-strike rule, as a machine that knows nothing of targets: it counts strikes, and says when the threshold is met.
//!
//! Two rules keep one event that many handsets meet from being counted many times:
//! - *epochs*: each activation of a target has a number, an attempt carries the one it was sent in, and outcomes of an
//!   older epoch never count;
//! - *serial strikes*: a failure counts only if its attempt was sent after the previous counted strike, so that one event
//!   (a reset of the connection that two hundred REGISTERs share) is one strike.
//!
//! No clock and no timer decides anything here: three failures in three milliseconds and in three hours are the same.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::classes::{Class, Outcome};
use super::order::TargetId;
use super::witness::{HandsetId, SourceId, Standing, Witness};

/// The most strikes that are kept for the report of a rollover. With a higher threshold the oldest are forgotten, though still
/// counted.
pub const MAX_STRIKES: usize = 32;

/// The most handsets and sources that are told apart, whatever the thresholds are: one source may invent names without end.
pub const MAX_HANDSETS: usize = 1024;

/// One REGISTER attempt under way, as obtained from [`Upstream::begin_attempt`](super::Upstream::begin_attempt).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Label of the target it goes to.
    pub target: TargetId,
    /// The activation it was sent in.
    pub epoch: u64,
    /// Its place in the sequence of all attempts of this process.
    pub seq: u64,
    /// The time at which it was sent.
    pub started: Instant,
}

/// A failure that was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The time at which the attempt ended.
    pub at: Instant,
    /// The attempt's outcome.
    pub outcome: Outcome,
    /// Whose REGISTER it was.
    pub witness: Witness,
    /// The peer's or the transport's own words, if it had any: a reason phrase, what is wrong with a certificate.
    pub detail: Option<Arc<str>>,
}

/// The effect of one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// No effect: the attempt was sent in an older epoch.
    Stale,
    /// No effect: the outcome was neutral, or the attempt was sent before the last strike.
    Unmoved,
    /// A success: the count is zero.
    Cleared,
    /// One strike more, below the threshold.
    Counted,
    /// One strike more, which meets the threshold: the next target's turn. The count stands until [`Failover::activate`].
    Enough,
    /// One strike more, and that would be enough, but all are the word of unserved handsets while others are served.
    Doubtful,
}

/// The count as it was when a target was left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Consecutive strikes.
    pub count: u32,
    /// The last of them, oldest first, at most [`MAX_STRIKES`].
    pub hits: Vec<Hit>,
    /// How many different handsets they came from.
    pub handsets: usize,
    /// How many different handsets have failed since the first of them, those included whose failure was the same event.
    pub failed: usize,
}

/// The count of strikes, for one instance of Holdline and all its handsets.
#[derive(Debug)]
pub struct Failover {
    /// Strikes that make a rollover. At least 1.
    threshold: u32,
    /// Different handsets the strikes must come from. At least 1.
    min_handsets: usize,
    epoch: u64,
    next_seq: u64,
    /// Only failures of attempts from this number on count.
    fence: u64,
    count: u32,
    /// Each with its attempt's number.
    hits: VecDeque<(u64, Hit)>,
    /// Handsets of the counted strikes, at most [`MAX_HANDSETS`].
    handsets: BTreeSet<HandsetId>,
    /// Those of them that are served, and the sources of all: likewise.
    served: BTreeSet<HandsetId>,
    sources: BTreeSet<SourceId>,
    /// A strike came from a handset whose word counts by itself.
    vouched: bool,
    /// Handsets that have failed since the first strike, counted or not, at most [`MAX_HANDSETS`].
    failed: BTreeSet<HandsetId>,
}

impl Failover {
    /// A machine with no activation yet (epoch 0).
    #[must_use]
    pub fn new(threshold: u32, min_handsets: u32) -> Self {
        Failover {
            threshold: threshold.max(1),
            min_handsets: min_handsets.max(1) as usize,
            epoch: 0,
            next_seq: 0,
            fence: 0,
            count: 0,
            hits: VecDeque::new(),
            handsets: BTreeSet::new(),
            served: BTreeSet::new(),
            sources: BTreeSet::new(),
            vouched: false,
            failed: BTreeSet::new(),
        }
    }

    /// Sets other thresholds. What has been counted stands; it is compared with them at the next strike, because a
    /// change of settings is no failure of a target.
    pub fn set_thresholds(&mut self, threshold: u32, min_handsets: u32) {
        self.threshold = threshold.max(1);
        self.min_handsets = min_handsets.max(1) as usize;
    }

    /// Numbers an attempt that is being sent now.
    pub fn begin(&mut self, target: TargetId, now: Instant) -> Attempt {
        let seq = self.next_seq;
        self.next_seq += 1;
        Attempt { target, epoch: self.epoch, seq, started: now }
    }

    /// Takes one attempt's outcome.
    pub fn finish(&mut self, attempt: &Attempt, class: Class, hit: Hit) -> Step {
        if attempt.epoch != self.epoch {
            return Step::Stale;
        }
        match class {
            Class::Neutral => Step::Unmoved,
            Class::Success => {
                self.clear();
                Step::Cleared
            }
            Class::Failure if attempt.seq < self.fence => {
                if self.count > 0 {
                    self.note_failed(hit.witness.handset);
                }
                Step::Unmoved
            }
            Class::Failure => self.strike(attempt.seq, hit),
        }
    }

    fn note_failed(&mut self, handset: HandsetId) {
        if self.failed.len() < MAX_HANDSETS {
            self.failed.insert(handset);
        }
    }

    fn strike(&mut self, seq: u64, hit: Hit) -> Step {
        self.note_failed(hit.witness.handset);
        self.fence = self.next_seq;
        self.count = self.count.saturating_add(1);
        if self.hits.len() == MAX_STRIKES {
            self.hits.pop_front();
        }
        self.witnessed(hit.witness);
        self.hits.push_back((seq, hit));
        if !self.is_enough() {
            Step::Counted
        } else if self.vouched {
            Step::Enough
        } else {
            Step::Doubtful
        }
    }

    fn witnessed(&mut self, witness: Witness) {
        let Witness { handset, source, standing } = witness;
        if self.handsets.len() < MAX_HANDSETS {
            self.handsets.insert(handset);
            self.sources.insert(source);
        }
        if standing == Standing::Served && self.served.len() < MAX_HANDSETS {
            self.served.insert(handset);
        }
        self.vouched |= standing != Standing::Unserved;
    }

    /// Different witnesses: served handsets; where none of them is served, sources, because names are invented easily.
    fn witnesses(&self) -> usize {
        if self.served.is_empty() { self.sources.len() } else { self.served.len() }
    }

    /// The strikes are as many as it takes, by as many witnesses.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.count >= self.threshold && self.witnesses() >= self.min_handsets
    }

    /// The strikes are void: the target answered when it was asked. How many they were.
    pub fn void(&mut self) -> u32 {
        let count = self.count;
        self.clear();
        count
    }

    /// An attempt that was counted as silent was answered after all: its strike was none. True if there was one.
    pub fn retract(&mut self, attempt: &Attempt) -> bool {
        let silent = |(seq, hit): &(u64, Hit)| *seq == attempt.seq && matches!(hit.outcome, Outcome::Failed(_));
        if attempt.epoch != self.epoch {
            return false;
        }
        let Some(place) = self.hits.iter().position(silent) else { return false };
        let Some((_, removed)) = self.hits.remove(place) else { return false };
        self.count = self.count.saturating_sub(1);
        if !self.hits.iter().any(|(_, hit)| hit.witness.handset == removed.witness.handset) {
            self.failed.remove(&removed.witness.handset);
        }
        self.handsets.clear();
        self.served.clear();
        self.sources.clear();
        self.vouched = false;
        let left: Vec<Witness> = self.hits.iter().map(|(_, hit)| hit.witness).collect();
        for witness in left {
            self.witnessed(witness);
        }
        true
    }

    /// A new activation, of whichever target: a new epoch, the count at zero. Returns what had been counted.
    pub fn activate(&mut self) -> Tally {
        self.epoch += 1;
        let tally = Tally {
            count: self.count,
            hits: self.hits.iter().map(|(_, hit)| hit.clone()).collect(),
            handsets: self.handsets.len(),
            failed: self.failed.len(),
        };
        self.clear();
        tally
    }

    /// No attempt was sent yet, at any target.
    #[must_use]
    pub fn is_untried(&self) -> bool {
        self.next_seq == 0
    }

    /// The count to zero. The fence stays: what was sent before the last strike is still no new event.
    fn clear(&mut self) {
        self.count = 0;
        self.hits.clear();
        self.handsets.clear();
        self.served.clear();
        self.sources.clear();
        self.vouched = false;
        self.failed.clear();
    }

    /// Number of the current activation; 0 before the first.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Consecutive strikes against the active target.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The last of the counted strikes, oldest first, at most [`MAX_STRIKES`].
    pub fn hits(&self) -> impl Iterator<Item = &Hit> {
        self.hits.iter().map(|(_, hit)| hit)
    }

    /// How many different handsets the counted strikes come from.
    #[must_use]
    pub fn handsets(&self) -> usize {
        self.handsets.len()
    }

    /// Strikes that make a rollover.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Different handsets they must come from.
    #[must_use]
    pub fn min_handsets(&self) -> usize {
        self.min_handsets
    }
}

#[cfg(test)]
mod tests;
