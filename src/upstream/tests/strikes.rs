//! The failover table: the rows that roll over, and those that do not.

use super::*;

#[test]
fn three_strikes_roll_over_and_two_do_not_whatever_the_cause() {
    for failure in every_failure() {
        let mut bench = Bench::with("ab");
        for strike in 1..=2 {
            let verdict = bench.attempt(failure);
            assert_eq!(verdict, Verdict { class: Class::Failure, counted: true, rolled_over: false }, "{failure}");
            assert_eq!((bench.count(), bench.active()), (strike, 'a'), "{failure}");
        }
        let verdict = bench.attempt(failure);
        assert_eq!(verdict, Verdict { class: Class::Failure, counted: true, rolled_over: true }, "{failure}");
        assert_eq!((bench.count(), bench.active()), (0, 'b'), "{failure}");
        let rollovers = bench.rollovers();
        assert_eq!(rollovers.len(), 1);
        assert_eq!((rollovers[0].reason, rollovers[0].count), (Reason::RegisterFailures, 3));
        assert_eq!((&*rollovers[0].from, &*rollovers[0].to), ("a.example.com:5060", "b.example.com:5060"));
        assert!(rollovers[0].strikes.iter().all(|s| s.outcome == failure));
        assert_eq!(bench.persisted().last().unwrap().active, "b.example.com:5060");
    }
}

#[test]
fn what_this_machine_lacks_is_never_a_strike() {
    let mut bench = Bench::with("ab");
    for _ in 0..10 {
        let verdict = bench.attempt(Outcome::Failed(Cause::Local));
        assert_eq!(verdict, Verdict { class: Class::Neutral, counted: false, rolled_over: false });
    }
    assert_eq!((bench.count(), bench.active()), (0, 'a'));
    bench.attempts(&[TIMEOUT, TIMEOUT, Outcome::Failed(Cause::Local), TIMEOUT]);
    assert_eq!(bench.active(), 'b', "nor does it clear any");
}

#[test]
fn different_causes_add_up() {
    let mut bench = Bench::with("ab");
    bench.attempts(&[TIMEOUT, code(503), REFUSED]);
    assert_eq!(bench.active(), 'b');
    let text = bench.rollovers()[0].to_string();
    assert!(text.contains("3 consecutive failures from 1 handsets: timeout now, 503 now, refused now"), "{text}");
}

#[test]
fn a_2xx_in_between_starts_the_count_afresh() {
    for success in [200, 202, 299] {
        let mut bench = Bench::with("ab");
        bench.attempts(&[TIMEOUT, TIMEOUT, code(success), TIMEOUT, TIMEOUT]);
        assert_eq!((bench.count(), bench.active()), (2, 'a'));
        bench.attempt(TIMEOUT);
        assert_eq!(bench.active(), 'b');
    }
}

#[test]
fn neutral_answers_in_between_change_nothing() {
    for neutral in [301, 302, 400, 401, 403, 404, 407, 423, 480, 482, 600, 603, 606] {
        let mut bench = Bench::with("ab");
        bench.attempts(&[TIMEOUT, code(neutral), TIMEOUT, code(neutral), code(neutral)]);
        assert_eq!((bench.count(), bench.active()), (2, 'a'), "{neutral}");
        let verdict = bench.attempt(code(neutral));
        assert_eq!(verdict, Verdict { class: Class::Neutral, counted: false, rolled_over: false });
        bench.attempt(TIMEOUT);
        assert_eq!(bench.active(), 'b', "{neutral}");
    }
}

#[test]
fn a_registrar_that_challenges_and_then_answers_503_is_left_after_three() {
    let mut bench = Bench::with("ab");
    bench.attempts(&[CHALLENGE, code(503), CHALLENGE, code(503), CHALLENGE]);
    assert_eq!(bench.active(), 'a');
    bench.attempt(code(503));
    assert_eq!(bench.active(), 'b');
}

#[test]
fn three_milliseconds_and_three_hours_are_alike() {
    for pause in [Duration::from_millis(1), Duration::from_secs(3600)] {
        let mut bench = Bench::with("ab");
        for strike in 1..=3 {
            assert_eq!(bench.active(), 'a', "before strike {strike}");
            bench.attempt(TIMEOUT);
            bench.pass(pause);
        }
        assert_eq!(bench.active(), 'b');
    }
}

#[test]
fn after_the_last_target_comes_the_first_again() {
    let mut bench = Bench::with("abc");
    let mut visited = String::new();
    for _ in 0..7 {
        visited.push(bench.active());
        bench.attempts(&[TIMEOUT; 3]);
    }
    assert_eq!(visited, "abcabca");
}

#[test]
fn the_same_rule_holds_on_every_target() {
    let mut bench = Bench::with("ab");
    bench.attempts(&[TIMEOUT; 3]);
    bench.attempts(&[code(503), CHALLENGE, TIMEOUT]);
    assert_eq!((bench.active(), bench.count()), ('b', 2));
    bench.attempt(OK);
    bench.attempts(&[TIMEOUT; 2]);
    assert_eq!(bench.active(), 'b');
    bench.attempt(TIMEOUT);
    assert_eq!(bench.active(), 'a');
}

#[test]
fn a_single_target_wraps_to_itself_without_spinning() {
    let mut bench = Bench::with("a");
    let (_, epoch) = bench.upstream.active().unwrap();
    bench.attempts(&[TIMEOUT; 3]);
    let rollovers = bench.rollovers();
    assert_eq!(rollovers.len(), 1, "one rollover, not a chain of them");
    assert_eq!(rollovers[0].from, rollovers[0].to);
    let (target, next_epoch) = bench.upstream.active().unwrap();
    assert_eq!((&*target.label, next_epoch), ("a.example.com:5060", epoch + 1));
    assert_eq!(bench.count(), 0);
    bench.attempts(&[TIMEOUT; 2]);
    assert!(bench.rollovers().is_empty(), "three new strikes are needed");
    bench.attempt(OK);
    assert_eq!(bench.count(), 0, "and it is never given up");
}

#[test]
fn two_hundred_registers_on_one_connection_that_resets_are_one_strike() {
    let mut bench = Bench::with("ab");
    for strike in 1..=3u32 {
        let in_flight: Vec<Attempt> = (0..200).map(|_| bench.begin()).collect();
        let mut counted = 0;
        for (attempt, handset) in in_flight.iter().zip(0..) {
            counted += u32::from(bench.finish(attempt, handset, Outcome::Failed(Cause::Reset)).counted);
        }
        assert_eq!(counted, 1, "burst {strike}");
        assert_eq!(bench.active(), if strike < 3 { 'a' } else { 'b' });
    }
    assert_eq!(bench.rollovers().len(), 1);
    assert_eq!(bench.count(), 0, "the rest of the third burst does not count against the new target");
}

/// One handset's attempts follow one another, so that its strikes are serial.
#[test]
fn attempts_that_overlap_count_once_and_attempts_in_a_row_each() {
    let mut bench = Bench::with("ab");
    let (first, second) = (bench.begin(), bench.begin());
    bench.finish(&first, 1, TIMEOUT);
    bench.finish(&second, 2, TIMEOUT);
    assert_eq!(bench.count(), 1, "the second was sent before the first one's strike");
    let third = bench.begin();
    bench.finish(&third, 1, TIMEOUT);
    assert_eq!(bench.count(), 2);
}

#[test]
fn late_failures_of_the_old_target_do_not_count_against_the_new_one() {
    let mut bench = Bench::with("abc");
    let in_flight: Vec<Attempt> = (0..200).map(|_| bench.begin()).collect();
    bench.attempts(&[TIMEOUT; 3]);
    assert_eq!(bench.active(), 'b');
    for attempt in &in_flight {
        let verdict = bench.finish(attempt, 5, TIMEOUT);
        assert_eq!(verdict, Verdict { class: Class::Failure, counted: false, rolled_over: false });
    }
    assert_eq!((bench.active(), bench.count()), ('b', 0));
}

#[test]
fn a_late_200_of_the_old_target_does_not_clear_the_new_ones_count() {
    let mut bench = Bench::with("ab");
    let old = bench.begin();
    bench.attempts(&[TIMEOUT; 3]);
    bench.attempts(&[TIMEOUT; 2]);
    assert_eq!(bench.finish(&old, 1, OK).class, Class::Success);
    bench.upstream.late_success(&old, bench.now);
    assert_eq!((bench.active(), bench.count()), ('b', 2));
}

#[test]
fn epochs_distinguish_two_activations_of_the_same_target() {
    let mut bench = Bench::with("ab");
    let first_time = bench.begin();
    bench.attempts(&[TIMEOUT; 6]);
    assert_eq!(bench.active(), 'a');
    bench.attempt(TIMEOUT);
    bench.finish(&first_time, 1, OK);
    assert_eq!(bench.count(), 1, "that 200 is from before");
}

/// Of the late answer only what this layer sees.
#[test]
fn a_primary_that_answers_after_nine_seconds_is_never_left() {
    let mut bench = Bench::with("ab");
    for _ in 0..100 {
        let slow = bench.begin();
        bench.pass(Duration::from_secs(4));
        bench.finish(&slow, 1, TIMEOUT);
        let again = bench.begin();
        bench.pass(Duration::from_secs(4));
        bench.finish(&again, 1, TIMEOUT);
        assert_eq!(bench.count(), 2);
        bench.pass(Duration::from_secs(1));
        bench.upstream.late_success(&slow, bench.now);
        assert_eq!(bench.count(), 0);
        bench.pass(Duration::from_secs(300));
    }
    assert_eq!(bench.active(), 'a');
}

#[test]
fn nobody_goes_back_to_a_primary_that_has_recovered() {
    let mut bench = Bench::with("ab");
    bench.attempts(&[TIMEOUT; 3]);
    for _ in 0..2000 {
        bench.attempt(OK);
        bench.refresh(Ok(set("ab")));
    }
    assert_eq!(bench.active(), 'b');
    assert_eq!(bench.rollovers().len(), 1);
}

#[test]
fn min_handsets_keeps_one_poison_phone_from_moving_a_fleet() {
    let mut bench = Bench::with_settings("ab", Settings { min_handsets: 2, ..settings() });
    for _ in 0..50 {
        let poison = bench.begin();
        bench.finish(&poison, 666, code(500));
    }
    assert_eq!((bench.active(), bench.count()), ('a', 50));
    let healthy = bench.begin();
    bench.finish(&healthy, 1, OK);
    assert_eq!(bench.count(), 0, "the others are fine");
    for (handset, active) in [(666, 'a'), (666, 'a'), (666, 'a'), (2, 'b')] {
        let attempt = bench.begin();
        bench.finish(&attempt, handset, code(500));
        assert_eq!(bench.active(), active);
    }
    assert_eq!(bench.rollovers()[0].handsets, 2);
}

#[test]
fn the_rollover_says_from_how_many_handsets_the_strikes_came() {
    let mut bench = Bench::with("ab");
    for handset in [1, 2, 1] {
        let attempt = bench.begin();
        bench.pass(Duration::from_secs(4));
        bench.finish(&attempt, handset, TIMEOUT);
    }
    let rollover = &bench.rollovers()[0];
    assert_eq!((rollover.handsets, rollover.strikes.len()), (2, 3));
    let ages: Vec<u64> = rollover.strikes.iter().map(|s| s.age.as_secs()).collect();
    assert_eq!(ages, [8, 4, 0]);
}

#[test]
fn the_threshold_is_configurable_and_one_is_enough_if_so_configured() {
    for failures in [1, 2, 5, 1000] {
        let mut bench = Bench::with_settings("ab", Settings { failures, ..settings() });
        for _ in 1..failures {
            assert!(!bench.attempt(TIMEOUT).rolled_over);
        }
        assert!(bench.attempt(TIMEOUT).rolled_over);
    }
}

#[test]
fn failure_codes_are_configurable() {
    let mut bench = Bench::with_settings("ab", Settings { failure_codes: vec![403], ..settings() });
    bench.attempts(&[code(503); 5]);
    assert_eq!(bench.count(), 0);
    bench.attempts(&[code(403); 3]);
    assert_eq!(bench.active(), 'b');
}

#[test]
fn all_have_failed_after_a_whole_lap_without_a_success() {
    let mut bench = Bench::with("ab");
    bench.attempts(&[TIMEOUT; 3]);
    assert!(!bench.upstream.all_failed());
    bench.attempts(&[TIMEOUT; 3]);
    assert!(bench.upstream.all_failed());
    bench.attempt(CHALLENGE);
    assert!(bench.upstream.all_failed(), "a challenge is no success");
    bench.attempt(OK);
    assert!(!bench.upstream.all_failed());
    let mut single = Bench::with("a");
    single.attempts(&[TIMEOUT; 3]);
    assert!(single.upstream.all_failed());
    let pending = single.begin();
    single.upstream.late_success(&pending, single.now);
    assert!(!single.upstream.all_failed());
}

#[test]
fn an_operator_rolls_to_the_next_or_to_the_one_named() {
    let mut bench = Bench::with("abc");
    bench.attempts(&[TIMEOUT; 2]);
    let before = bench.begin();
    let rollover = bench.upstream.roll(None, bench.now).unwrap();
    bench.drain();
    assert_eq!((rollover.reason, rollover.count), (Reason::Manual, 2));
    assert_eq!((bench.active(), bench.count()), ('b', 0));
    assert!(!bench.finish(&before, 1, TIMEOUT).counted);
    bench.upstream.roll(Some("A.example.com:5060"), bench.now).unwrap();
    assert_eq!(bench.active(), 'a');
    bench.upstream.roll(Some("c.example.com."), bench.now).unwrap();
    assert_eq!(bench.active(), 'c');
    bench.upstream.roll(None, bench.now).unwrap();
    assert_eq!(bench.active(), 'a');
    let again = bench.upstream.roll(Some("a.example.com"), bench.now);
    assert_eq!(again, Err(RollError::AlreadyActive("a.example.com:5060".to_owned())));
    let unknown = bench.upstream.roll(Some("d.example.com"), bench.now).unwrap_err();
    assert!(unknown.to_string().contains("a.example.com:5060, b.example.com:5060, c.example.com:5060"), "{unknown}");
    let mut empty = Bench::new(settings(), None);
    assert_eq!(empty.upstream.roll(None, empty.now), Err(RollError::NotReady));
}

#[test]
fn status_tells_why() {
    let mut bench = Bench::with("ab");
    for outcome in [TIMEOUT, code(503), REFUSED] {
        bench.attempt(outcome);
        bench.pass(Duration::from_secs(2));
    }
    bench.pass(Duration::from_secs(8));
    bench.attempt(TIMEOUT);
    let status = serde_json::to_value(bench.upstream.snapshot(bench.now)).unwrap();
    assert_eq!(status["active"], "b.example.com:5060");
    assert_eq!(status["active_seconds"], 10.0);
    assert_eq!((&status["epoch"], &status["failures"]), (&2.into(), &1.into()));
    assert_eq!(status["targets"][1]["failures"], 1);
    assert_eq!(status["targets"][0]["struck_out"], true);
    assert_eq!(status["dns"]["ttl_seconds"], 60.0);
    assert_eq!(status["dns"]["age_seconds"], 14.0);
    let event = &status["events"][1];
    assert_eq!((&event["event"], &event["reason"]), (&"rollover".into(), &"register_failures".into()));
    assert_eq!((&event["age_seconds"], &event["handsets"]), (&10.0.into(), &1.into()));
    assert_eq!(
        event["strikes"][0],
        serde_json::json!({"age_seconds": 14.0, "cause": "timeout", "code": null, "detail": null})
    );
    assert_eq!(
        event["strikes"][1],
        serde_json::json!({"age_seconds": 12.0, "cause": "response", "code": 503, "detail": null})
    );
}

#[test]
fn the_peers_own_words_stand_beside_a_strike_bounded_and_without_control_characters() {
    let mut bench = Bench::with("ab");
    let attempt = bench.upstream.begin_attempt(bench.now).unwrap();
    let words = super::super::bounded(format!("Go \x1b[31maway\r\n{}", "!".repeat(1000)).as_bytes());
    bench.upstream.finish_because(&attempt, witness(1), code(503), words, bench.now);
    let status = serde_json::to_value(bench.upstream.snapshot(bench.now)).unwrap();
    let shown = status["strikes"][0]["detail"].as_str().unwrap();
    assert!(shown.starts_with("Go \u{fffd}[31maway\u{fffd}\u{fffd}!!!") && shown.chars().count() == 240, "{shown}");
    assert_eq!(super::super::bounded(b" \t "), None);
}

#[test]
fn a_hundred_rollovers_are_kept_beside_the_other_events() {
    let mut bench = Bench::with("a");
    for _ in 0..150 {
        bench.attempts(&[TIMEOUT; 3]);
    }
    let events = bench.upstream.snapshot(bench.now).events;
    assert_eq!(events.len(), 101);
    assert!(matches!(events[0], super::super::events::EventShown::TargetsChanged { .. }), "{:?}", events[0]);
}

#[test]
fn other_thresholds_are_compared_at_the_next_strike_and_move_nobody_by_themselves() {
    let mut bench = Bench::with("ab");
    bench.attempts(&[TIMEOUT, TIMEOUT]);
    bench.upstream.reconfigure(Settings { failures: 1, ..settings() });
    bench.drain();
    assert_eq!((bench.count(), bench.active(), bench.rollovers().len()), (2, 'a', 0), "no failure, no rollover");
    bench.attempt(TIMEOUT);
    assert_eq!(bench.active(), 'b');

    let mut bench = Bench::with("ab");
    bench.attempts(&[TIMEOUT, TIMEOUT]);
    bench.upstream.reconfigure(Settings { failures: 5, failure_codes: vec![403], ..settings() });
    bench.attempts(&[TIMEOUT, code(503)]);
    assert_eq!((bench.count(), bench.active()), (3, 'a'), "503 is none any more");
    bench.attempts(&[code(403), TIMEOUT]);
    assert_eq!(bench.active(), 'b');
}

#[test]
fn what_names_the_targets_does_not_change_while_it_runs() {
    let mut bench = Bench::with("ab");
    let source = Source::Static { host: "192.0.2.9".to_owned(), port: None };
    let other = Settings { selection: Selection::Weighted, ..Settings::new(source, Transport::Tls) };
    bench.upstream.reconfigure(other);
    assert_eq!(*bench.upstream.settings(), settings());
}

#[test]
fn strikes_taken_back_end_the_doubt() {
    let mut bench = Bench::with("ab");
    let unserved = |n| Witness { handset: HandsetId(n), source: SourceId(n), standing: Standing::Unserved };
    let mut attempts = Vec::new();
    for n in 0..3 {
        let attempt = bench.begin();
        bench.upstream.finish_because(&attempt, unserved(n), TIMEOUT, None, bench.now);
        attempts.push(attempt);
    }
    bench.drain();
    assert_eq!(bench.take(|a| matches!(a, UpstreamAction::Ask { .. })).len(), 1);
    for attempt in &attempts {
        assert!(bench.upstream.late_answer(attempt));
    }
    assert_eq!(bench.count(), 0);
    let epoch = attempts[0].epoch;
    bench.upstream.asked(epoch, false, bench.now);
    assert_eq!(bench.active(), 'a', "no strike is left");
}
