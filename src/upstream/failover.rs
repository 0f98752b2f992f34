//! The three-strike rule, as a machine that knows nothing of targets: it counts, and says when it is enough.
//!
//! Two rules keep a fleet from being counted as one phone many times over:
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
use crate::flow::Cause;

/// So many strikes are kept to be told of. With a higher threshold the oldest are forgotten, though still counted.
pub const MAX_STRIKES: usize = 32;

/// So many handsets that have failed are told apart; more are told as so many.
pub const MAX_FAILED: usize = 1024;

/// One REGISTER attempt under way. Obtained from [`Upstream::begin_attempt`](super::Upstream::begin_attempt).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Label of the target it goes to.
    pub target: Arc<str>,
    /// The activation it was sent in.
    pub epoch: u64,
    /// Its place in the sequence of all attempts of this process.
    pub seq: u64,
    /// When it was sent.
    pub started: Instant,
}

/// A failure that counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// When the attempt ended.
    pub at: Instant,
    /// How.
    pub outcome: Outcome,
    /// Hash of the handset whose REGISTER it was.
    pub handset: u64,
    /// The peer's or the transport's own words, if it had any: a reason phrase, what is wrong with a certificate.
    pub detail: Option<Arc<str>>,
}

/// What one outcome did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The attempt was sent in an older epoch: nothing.
    Stale,
    /// Neutral, or a failure of an attempt sent before the last strike: nothing.
    Unmoved,
    /// A success: the count is zero.
    Cleared,
    /// One strike more, not enough yet.
    Counted,
    /// One strike more, and that is enough: the next target's turn. The count stands until [`Failover::activate`].
    Enough,
}

/// What had been counted when a target was left.
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

/// The count, for one instance of Holdline and all its handsets.
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
    /// Handsets of the counted strikes. Never larger than the greater of `threshold` and `min_handsets`: by then it is enough.
    handsets: BTreeSet<u64>,
    /// Handsets that have failed since the first strike, counted or not, at most [`MAX_FAILED`].
    failed: BTreeSet<u64>,
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
            failed: BTreeSet::new(),
        }
    }

    /// Other thresholds from now on. What has been counted stands; it is compared with them at the next strike, because a
    /// change of settings is no failure of a target.
    pub fn set_thresholds(&mut self, threshold: u32, min_handsets: u32) {
        self.threshold = threshold.max(1);
        self.min_handsets = min_handsets.max(1) as usize;
    }

    /// Numbers an attempt that is being sent now.
    pub fn begin(&mut self, target: Arc<str>, now: Instant) -> Attempt {
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
                    self.note_failed(hit.handset);
                }
                Step::Unmoved
            }
            Class::Failure => self.strike(attempt.seq, hit),
        }
    }

    fn note_failed(&mut self, handset: u64) {
        if self.failed.len() < MAX_FAILED {
            self.failed.insert(handset);
        }
    }

    fn strike(&mut self, seq: u64, hit: Hit) -> Step {
        self.note_failed(hit.handset);
        self.fence = self.next_seq;
        self.count = self.count.saturating_add(1);
        if self.hits.len() == MAX_STRIKES {
            self.hits.pop_front();
        }
        self.handsets.insert(hit.handset);
        self.hits.push_back((seq, hit));
        if self.count >= self.threshold && self.handsets.len() >= self.min_handsets {
            Step::Enough
        } else {
            Step::Counted
        }
    }

    /// An attempt that was counted as silent was answered after all: its strike was none. True if there was one.
    pub fn retract(&mut self, attempt: &Attempt) -> bool {
        let silent = |(seq, hit): &(u64, Hit)| *seq == attempt.seq && hit.outcome == Outcome::Failed(Cause::Timeout);
        if attempt.epoch != self.epoch {
            return false;
        }
        let Some(place) = self.hits.iter().position(silent) else { return false };
        let handset = self.hits.remove(place).map(|(_, hit)| hit.handset);
        self.count = self.count.saturating_sub(1);
        if let Some(handset) = handset
            && !self.hits.iter().any(|(_, hit)| hit.handset == handset)
        {
            self.handsets.remove(&handset);
            self.failed.remove(&handset);
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

    /// The count to zero. The fence stays: what was sent before the last strike is still no new event.
    fn clear(&mut self) {
        self.count = 0;
        self.hits.clear();
        self.handsets.clear();
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
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::flow::Cause;

    fn hit(at: Instant, handset: u64) -> Hit {
        Hit { at, outcome: Outcome::Failed(Cause::Timeout), handset, detail: None }
    }

    fn machine(threshold: u32, min_handsets: u32) -> (Failover, Instant) {
        let mut machine = Failover::new(threshold, min_handsets);
        machine.activate();
        (machine, base())
    }

    /// Any instant will do: only differences matter.
    #[allow(clippy::disallowed_methods)]
    fn base() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_fence_survives_a_success() {
        let (mut machine, now) = machine(3, 1);
        let early = machine.begin("a:1".into(), now);
        let first = machine.begin("a:1".into(), now);
        assert_eq!(machine.finish(&first, Class::Failure, hit(now, 1)), Step::Counted);
        let second = machine.begin("a:1".into(), now);
        assert_eq!(machine.finish(&second, Class::Success, hit(now, 1)), Step::Cleared);
        assert_eq!(machine.finish(&early, Class::Failure, hit(now, 2)), Step::Unmoved);
        assert_eq!(machine.count(), 0);
    }

    /// Of a black hole every handset's time-out is the same event: one handset is counted, and all have failed.
    #[test]
    fn handsets_that_failed_are_told_though_strikes_are_serial() {
        let (mut machine, now) = machine(3, 1);
        for round in 0..3 {
            let attempts: Vec<_> = (0..200).map(|n| (n, machine.begin("a:1".into(), now))).collect();
            let counted = if round == 2 { Step::Enough } else { Step::Counted };
            for (n, attempt) in attempts {
                let step = machine.finish(&attempt, Class::Failure, hit(now, n));
                assert_eq!(step, if n == 0 { counted } else { Step::Unmoved });
                if step == Step::Enough {
                    let tally = machine.activate();
                    assert_eq!((tally.handsets, tally.failed), (1, 200));
                    break;
                }
            }
        }
        assert_eq!(machine.activate().failed, 0, "a new activation begins anew");
        // One handset that the PBX refuses to serve, while others succeed, stays one.
        let refused = machine.begin("b:1".into(), now);
        machine.finish(&refused, Class::Failure, hit(now, 1));
        let fine = machine.begin("b:1".into(), now);
        machine.finish(&fine, Class::Success, hit(now, 2));
        let refused = machine.begin("b:1".into(), now);
        machine.finish(&refused, Class::Failure, hit(now, 1));
        assert_eq!(machine.activate().failed, 1);
    }

    #[test]
    fn strikes_kept_are_bounded_while_the_count_goes_on() {
        let (mut machine, now) = machine(1000, 1);
        for n in 1..1000 {
            let attempt = machine.begin("a:1".into(), now);
            assert_eq!(machine.finish(&attempt, Class::Failure, hit(now, n)), Step::Counted);
        }
        assert_eq!(machine.count(), 999);
        let attempt = machine.begin("a:1".into(), now);
        assert_eq!(machine.finish(&attempt, Class::Failure, hit(now, 5000)), Step::Enough);
        let tally = machine.activate();
        assert_eq!((tally.count, tally.hits.len(), tally.handsets), (1000, MAX_STRIKES, 1000));
        assert_eq!(tally.hits.last().map(|h| h.handset), Some(5000));
    }

    /// What can happen to the machine, for the model below.
    #[derive(Debug, Clone, Copy)]
    enum Op {
        Begin,
        /// The outcome of the n-th attempt still open (modulo their number).
        Finish(usize, Class, u64),
        /// Something else than strikes makes another target active.
        Move,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let class = prop_oneof![2 => Just(Class::Failure), 1 => Just(Class::Neutral), 1 => Just(Class::Success)];
        let op = prop_oneof![
            8 => Just(Op::Begin),
            8 => (any::<usize>(), class, 0..4u64).prop_map(|(n, class, handset)| Op::Finish(n, class, handset)),
            1 => Just(Op::Move),
        ];
        prop::collection::vec(op, 0..200)
    }

    /// A line in the model's history. The model keeps the whole history and counts it afresh each time.
    #[derive(Debug, Clone, Copy)]
    enum Line {
        Sent(usize),
        Ended(usize, Class, u64),
        Activated,
    }

    /// The rule as one would tell it: walk through the history since the last activation; note who was sent before what.
    fn naive_count(history: &[Line]) -> (u32, BTreeSet<u64>) {
        let start = history.iter().rposition(|l| matches!(l, Line::Activated)).map_or(0, |i| i + 1);
        let sent_at = |id: usize| history.iter().position(|l| matches!(l, Line::Sent(s) if *s == id));
        let mut last_strike_at = None;
        let (mut count, mut handsets) = (0, BTreeSet::new());
        for (line_number, line) in history.iter().enumerate().skip(start) {
            let Line::Ended(id, class, handset) = *line else { continue };
            let sent = sent_at(id).expect("sent before it ended");
            if sent < start {
                continue;
            }
            if class == Class::Success {
                (count, handsets) = (0, BTreeSet::new());
            } else if class == Class::Failure && last_strike_at.is_none_or(|strike| sent > strike) {
                count += 1;
                handsets.insert(handset);
                last_strike_at = Some(line_number);
            }
        }
        (count, handsets)
    }

    proptest! {
        #[test]
        fn the_machine_agrees_with_a_naive_model(ops in ops(), threshold in 1u32..5, min_handsets in 1u32..4) {
            let (mut machine, now) = machine(threshold, min_handsets);
            let mut history = vec![Line::Activated];
            let mut open: Vec<(usize, Attempt)> = Vec::new();
            let mut sent = 0;
            for (tick, op) in ops.into_iter().enumerate() {
                let now = now + Duration::from_millis(tick as u64);
                match op {
                    Op::Begin => {
                        open.push((sent, machine.begin("a:1".into(), now)));
                        history.push(Line::Sent(sent));
                        sent += 1;
                    }
                    Op::Move => {
                        machine.activate();
                        history.push(Line::Activated);
                    }
                    Op::Finish(..) if open.is_empty() => {}
                    Op::Finish(n, class, handset) => {
                        let (id, attempt) = open.remove(n % open.len());
                        let before = naive_count(&history);
                        let step = machine.finish(&attempt, class, hit(now, handset));
                        history.push(Line::Ended(id, class, handset));
                        let after = naive_count(&history);
                        let enough = after.0 >= threshold
                            && after.1.len() >= min_handsets as usize
                            && after.0 > before.0;
                        prop_assert_eq!(step == Step::Enough, enough);
                        prop_assert_eq!(matches!(step, Step::Counted | Step::Enough), after.0 > before.0);
                        if enough {
                            let tally = machine.activate();
                            prop_assert_eq!((tally.count, tally.handsets), (after.0, after.1.len()));
                            history.push(Line::Activated);
                        }
                    }
                }
                let (count, handsets) = naive_count(&history);
                prop_assert_eq!(machine.count(), count);
                prop_assert_eq!(machine.handsets(), handsets.len());
            }
        }
    }
}
