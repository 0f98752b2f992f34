//! The count, by itself and against a model.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::flow::Cause;

fn witness(handset: u64) -> Witness {
    Witness { handset: HandsetId(handset), source: SourceId(handset), standing: Standing::Alike }
}

fn hit(at: Instant, handset: u64) -> Hit {
    Hit { at, outcome: Outcome::Failed(Cause::Timeout), witness: witness(handset), detail: None }
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
fn handsets_that_failed_are_reported_though_strikes_are_serial() {
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
    assert_eq!(tally.hits.last().map(|h| h.witness), Some(witness(5000)));
}

fn by(handset: u64, source: u64, standing: Standing, now: Instant) -> Hit {
    Hit { witness: Witness { handset: HandsetId(handset), source: SourceId(source), standing }, ..hit(now, 0) }
}

/// What the strikes of these witnesses (handset, source, standing) come to, one after the other.
fn steps(min_handsets: u32, witnesses: &[(u64, u64, Standing)]) -> Vec<Step> {
    let (mut machine, now) = machine(3, min_handsets);
    let mut step = |(handset, source, standing): &(u64, u64, Standing)| {
        let attempt = machine.begin("a:1".into(), now);
        machine.finish(&attempt, Class::Failure, by(*handset, *source, *standing, now))
    };
    witnesses.iter().map(&mut step).collect()
}

#[test]
fn the_word_of_unserved_handsets_alone_is_doubtful() {
    use Standing::{Alike, Served, Unserved};
    use Step::{Counted, Doubtful, Enough};
    assert_eq!(steps(1, &[(1, 1, Unserved); 4]), [Counted, Counted, Doubtful, Doubtful]);
    assert_eq!(steps(1, &[(1, 1, Served); 3]), [Counted, Counted, Enough]);
    assert_eq!(steps(1, &[(1, 1, Alike); 3]), [Counted, Counted, Enough], "nobody is known to be served");
    let mixed = [(1, 1, Unserved), (2, 2, Served), (1, 1, Unserved)];
    assert_eq!(steps(1, &mixed), [Counted, Counted, Enough], "a served handset vouches for it");
    let late = [(1, 1, Unserved), (1, 1, Unserved), (1, 1, Unserved), (2, 2, Served)];
    assert_eq!(steps(1, &late), [Counted, Counted, Doubtful, Enough]);
}

#[test]
fn one_source_that_invents_names_is_one_witness() {
    use Standing::{Alike, Served};
    use Step::{Counted, Enough};
    let invented: Vec<_> = (0..50).map(|name| (name, 7, Alike)).collect();
    assert!(steps(2, &invented).iter().all(|step| *step == Counted));
    assert_eq!(steps(2, &[(1, 7, Alike), (2, 8, Alike), (3, 8, Alike)]), [Counted, Counted, Enough]);
    // Behind one address, served handsets are told apart.
    assert_eq!(steps(2, &[(1, 7, Served), (2, 7, Served), (1, 7, Served)]), [Counted, Counted, Enough]);
    assert_eq!(steps(2, &[(1, 7, Served), (1, 7, Served), (1, 7, Served)]), [Counted, Counted, Counted]);
}

#[test]
fn what_is_void_is_gone_and_the_fence_stays() {
    let (mut machine, now) = machine(3, 1);
    let early = machine.begin("a:1".into(), now);
    for _ in 0..3 {
        let attempt = machine.begin("a:1".into(), now);
        machine.finish(&attempt, Class::Failure, by(1, 1, Standing::Unserved, now));
    }
    assert_eq!((machine.void(), machine.count(), machine.handsets()), (3, 0, 0));
    assert_eq!(machine.finish(&early, Class::Failure, hit(now, 2)), Step::Unmoved);
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

/// The rule in its plainest form: walk through the history since the last activation and note which attempt was sent before
/// which strike.
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
                    prop_assert_eq!(matches!(step, Step::Counted | Step::Enough | Step::Doubtful), after.0 > before.0);
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

/// What was sent before a success that ended the count says nothing about the next one.
#[test]
fn a_late_failure_after_a_success_is_not_among_those_that_failed() {
    let (mut machine, now) = machine(3, 1);
    let early = machine.begin("a:1".into(), now);
    let first = machine.begin("a:1".into(), now);
    machine.finish(&first, Class::Failure, hit(now, 1));
    let second = machine.begin("a:1".into(), now);
    machine.finish(&second, Class::Success, hit(now, 1));
    machine.finish(&early, Class::Failure, hit(now, 2));
    let third = machine.begin("a:1".into(), now);
    machine.finish(&third, Class::Failure, hit(now, 3));
    let tally = machine.activate();
    assert_eq!((tally.count, tally.handsets, tally.failed), (1, 1, 1));
}

#[test]
fn witnesses_are_kept_up_to_the_bound_and_not_one_more() {
    let (mut machine, now) = machine(u32::MAX, 1);
    for handset in 0..MAX_HANDSETS as u64 + 10 {
        let attempt = machine.begin("a:1".into(), now);
        machine.finish(&attempt, Class::Failure, by(handset, handset, Standing::Served, now));
        // And one that is no strike of its own: sent before it.
        let beside = Attempt { seq: attempt.seq, ..attempt };
        machine.finish(&beside, Class::Failure, by(1_000_000 + handset, 0, Standing::Served, now));
    }
    assert_eq!(
        (machine.handsets(), machine.served.len(), machine.sources.len()),
        (MAX_HANDSETS, MAX_HANDSETS, MAX_HANDSETS)
    );
    assert_eq!(machine.activate().failed, MAX_HANDSETS);
}

/// A late answer takes back the strike of its own attempt, if that was one of silence, and with it whatever it alone bore witness to.
#[test]
fn a_strike_is_taken_back_with_its_witness_and_no_other() {
    let (mut machine, now) = machine(5, 2);
    let strike = |machine: &mut Failover, handset: u64, outcome: Outcome| {
        let attempt = machine.begin("a:1".into(), now);
        let hit = Hit { outcome, ..by(handset, handset, Standing::Served, now) };
        machine.finish(&attempt, Class::Failure, hit);
        attempt
    };
    let silence = Outcome::Failed(Cause::Timeout);
    let first = strike(&mut machine, 1, silence);
    let again = strike(&mut machine, 1, silence);
    let other = strike(&mut machine, 2, silence);
    let answered = strike(&mut machine, 3, Outcome::Response(503));
    assert!(!machine.retract(&answered), "an answer is no silence");
    assert!(!machine.retract(&Attempt { epoch: other.epoch + 1, ..other.clone() }), "of another activation");
    assert!(machine.retract(&first));
    assert_eq!(
        (machine.count(), machine.handsets(), machine.failed.len()),
        (3, 3, 3),
        "its handset has another strike"
    );
    assert!(!machine.retract(&first), "it was taken back already");
    assert!(machine.retract(&again));
    assert_eq!((machine.count(), machine.handsets(), machine.failed.len()), (2, 2, 2));
    assert!(machine.retract(&other));
    let tally = machine.activate();
    assert_eq!((tally.count, tally.handsets, tally.failed, tally.hits.len()), (1, 1, 1, 1));
}
