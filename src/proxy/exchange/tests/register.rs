//! What a REGISTER wishes for.

use super::*;

fn witness(standing: Standing) -> Witness {
    Witness { handset: HandsetId(1), source: SourceId(1), standing }
}

#[test]
fn a_handset_that_was_never_served_gets_one_attempt_while_others_are_served() {
    let unserved =
        |now| Relay::Register(RegisterRelay::new(witness(Standing::Unserved), false, now + Duration::from_secs(15)));
    for (meets, wishes) in [
        (Silence, vec!["0 launch a"]),
        (Refused, vec!["0 launch a", "0 exhausted, abandon"]),
        (Status(503), vec!["0 launch a", "0 relay a"]),
    ] {
        assert_eq!(Table::new(&["a", "b"], unserved, policy(), &[meets]).play(14), wishes, "{meets:?}");
    }
    let served =
        |now| Relay::Register(RegisterRelay::new(witness(Standing::Served), false, now + Duration::from_secs(15)));
    assert_eq!(Table::new(&["a", "b"], served, policy(), &[Silence]).play(5), ["0 launch a", "4 hush, launch a"]);
}

fn register(now: Instant) -> Relay {
    Relay::Register(RegisterRelay::new(witness(Standing::Alike), false, now + Duration::from_secs(15)))
}

/// What a REGISTER wishes for whose branches meet this, at the targets a, b and c.
fn retry(meets: &[Meets]) -> Vec<String> {
    Table::new(&["a", "b", "c"], register, policy(), meets).play(60)
}

#[test]
fn a_register_is_tried_again_until_the_third_strike_moves_it() {
    for (meets, wishes) in [
        (&[Status(200)][..], &["0 launch a", "0 relay a"][..]),
        (&[Status(401)], &["0 launch a", "0 relay a"]),
        (&[Status(403)], &["0 launch a", "0 relay a"]),
        (&[Silence, Silence, Silence], &["0 launch a", "4 hush, launch a", "8 hush, launch a", "12 hush, launch b"]),
        (
            &[Silence, Silence, Silence, Status(401)],
            &[
                "0 launch a",
                "4 hush, launch a",
                "8 hush, launch a",
                "12 hush, launch b",
                "12 relay b, forget, forget, forget",
            ],
        ),
        (
            &[Status(503), Status(503), Status(503), Status(200)],
            &["0 launch a", "0 keep", "1 launch a", "1 keep", "4 launch a", "4 keep, launch b", "4 relay b"],
        ),
        (
            &[Refused, Refused, Refused, Status(401)],
            &["0 launch a", "1 launch a", "4 launch a", "4 launch b", "4 relay b"],
        ),
        // A challenge is neutral: three 503 in a row move it all the same, and it is the newest answer that is kept.
        (&[Silence, Late(200, 1)], &["0 launch a", "4 hush, launch a", "5 relay a, forget"]),
        // A PBX that answers after nine seconds is alive: its late answer ends the tries.
        (
            &[Late(200, 9), Silence, Silence],
            &["0 launch a", "4 hush, launch a", "8 hush, launch a", "9 relay a, forget, forget"],
        ),
    ] {
        let shown = retry(meets);
        let shown: Vec<&str> = shown.iter().map(String::as_str).take(wishes.len()).collect();
        assert_eq!(shown, wishes, "{meets:?}");
    }
}

#[test]
fn at_the_deadline_the_last_failure_goes_back_and_silence_stays_silence() {
    let lines = retry(&[Status(500), Silence, Silence, Silence, Silence, Silence]);
    assert_eq!(
        lines,
        [
            "0 launch a",
            "0 keep",
            "1 launch a",
            "5 hush, launch a",
            "9 hush, launch b",
            "13 hush, launch b",
            "15 relay kept",
            "17 hush"
        ]
    );
    let lines = retry(&[Silence; 8]);
    // The branch begun last may still bring an answer after the deadline; then nobody waits for one any more.
    assert_eq!(lines[..5], ["0 launch a", "4 hush, launch a", "8 hush, launch a", "12 hush, launch b", "16 hush"]);
    let unavailable = Policy { exhausted: Exhausted::Unavailable, ..policy() };
    let lines = Table::new(&["a"], register, unavailable, &[Silence; 8]).play(60);
    // One target alone: its strikes wrap to itself, and no second cycle begins.
    assert_eq!(lines, ["0 launch a", "4 hush, launch a", "8 hush, launch a", "12 hush", "15 exhausted, answer 503"]);
}

#[test]
fn without_retry_each_transaction_is_one_attempt() {
    let once = Policy { retry: false, ..policy() };
    for (meets, wishes) in [
        (Status(503), vec!["0 launch a", "0 relay a"]),
        (Refused, vec!["0 launch a", "0 exhausted, abandon"]),
        (Silence, vec!["0 launch a", "4 hush"]),
    ] {
        assert_eq!(Table::new(&["a", "b"], register, once, &[meets]).play(14), wishes, "{meets:?}");
    }
}

#[test]
fn one_full_cycle_is_all_that_a_transaction_gets() {
    // Two targets that refuse at once, and a threshold of three: a a a b b b, and then a would be next.
    let lines = Table::new(&["a", "b"], register, policy(), &[Refused; 12]).play(60);
    assert_eq!(
        lines,
        ["0 launch a", "1 launch a", "4 launch a", "4 launch b", "5 launch b", "8 launch b", "8 exhausted, abandon"]
    );
}

#[test]
fn the_same_request_seen_twice_is_no_outcome() {
    for status in [482, 400, 500] {
        let lines = retry(&[Late(200, 6), Status(status)]);
        assert_eq!(lines, ["0 launch a", "4 hush, launch a", "6 relay a"], "{status}");
    }
    // Without an older branch of this epoch, a 500 is a failure as ever.
    assert_eq!(retry(&[Status(500), Status(200)]), ["0 launch a", "0 keep", "1 launch a", "1 relay a"]);
}

#[test]
fn a_provisional_answer_extends_an_attempt_to_the_deadline() {
    assert_eq!(retry(&[Provisional]), ["0 launch a", "15 hush"]);
}

#[test]
fn a_reset_of_a_connection_that_was_open_is_sent_once_more_in_the_same_attempt() {
    assert_eq!(retry(&[Reset, Status(200)]), ["0 launch a", "0 launch a", "0 relay a"]);
    assert_eq!(retry(&[Reset, Reset, Status(200)]), ["0 launch a", "0 launch a", "1 launch a", "1 relay a"]);
}

#[test]
fn a_register_waits_for_the_first_record_set() {
    let mut table = Table::new(&[], register, policy(), &[Status(200)]);
    table.feed(In::Begin);
    table.go_on(8);
    table.upstream.handle_lookup(Ok(records(&["a"])), table.now);
    table.feed(In::TargetsKnown);
    table.go_on(9);
    assert_eq!(table.lines, ["0 hold", "8 launch a", "8 relay a"]);

    let mut table = Table::new(&[], register, policy(), &[]);
    table.feed(In::Begin);
    table.go_on(60);
    assert_eq!(table.lines, ["0 hold", "15 no target, exhausted, abandon"]);
}

#[test]
fn what_pauses_leaves_with_a_rollover_and_ends_with_a_newer_register() {
    let mut table = Table::new(&["a", "b"], register, policy(), &[Status(503), Status(503), Status(200)]);
    table.feed(In::Begin);
    table.go_on(2);
    assert!(table.relay.waits(), "until 4 s");
    table.upstream.roll(None, table.now).expect("b is next");
    table.feed(In::RolledOver);
    table.go_on(3);
    assert_eq!(table.lines[table.lines.len() - 2..], ["2 launch b", "2 relay b"]);

    let mut table = Table::new(&["a", "b"], register, policy(), &[Refused]);
    table.feed(In::Begin);
    table.go_on(0);
    table.feed(In::Superseded);
    assert_eq!(table.lines, ["0 launch a"], "no further try, and nothing to relay");
    assert!(!table.relay.waits() && table.relay.branches().is_quiet());
}

#[test]
fn any_number_of_attempts_keeps_its_place() {
    let policy = Policy { attempt_timeout: Duration::from_millis(100), ..policy() };
    let relay = |now: Instant| {
        let witness = Witness { handset: HandsetId(1), source: SourceId(1), standing: Standing::Served };
        Relay::Register(RegisterRelay::new(witness, false, now + Duration::from_secs(32)))
    };
    let mut table = Table::new(&["a"], relay, policy, &[]);
    let source = Source::Srv { name: "_sip._udp.example.com".into() };
    let settings = upstream::Settings { min_handsets: 2, ..upstream::Settings::new(source, Transport::Udp) };
    table.upstream.reconfigure(settings);
    table.transactions = Transactions::with_seed(Timers::default(), 1000, [0; 16]);
    // Each 100 ms one, for 32 s.
    assert_eq!(table.play(40).len(), 321);
}
