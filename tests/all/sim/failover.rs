//! The failover table: what makes a rollover, and what does not.

use std::time::Duration;

use holdline::flow::Transport;
use holdline::proxy::Settings;

use super::ladder::assert_ladder;
use super::server::Manner;
use super::world::{Setup, World, label, records};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Holdline makes one attempt for each REGISTER of a phone: the rows count attempts one by one.
fn one_attempt(transport: Transport, targets: &[&'static str]) -> World {
    let proxy = Settings { retry: false, ..Settings::default() };
    World::new(Setup { proxy, transport, targets: targets.to_vec(), ..Setup::default() })
}

/// One attempt of a fresh phone, given time to end.
fn attempt(world: &mut World) {
    attempt_by(world, true);
}

/// One attempt of a fresh phone that has a password or not. The phone's number.
fn attempt_by(world: &mut World, has_password: bool) -> usize {
    let phone = world.phone(Transport::Udp);
    world.phones[phone].patience = Duration::from_secs(3);
    world.phones[phone].has_password = has_password;
    world.register(phone);
    world.run_for(6 * SECOND);
    phone
}

/// Every cause of failure with the transports it can happen on.
fn causes() -> Vec<(Manner, Transport)> {
    let mut causes = Vec::new();
    for transport in Transport::ALL {
        for manner in [
            Manner::Silent,
            Manner::Refuse,
            Manner::Status(500),
            Manner::Status(502),
            Manner::Status(503),
            Manner::Status(504),
            Manner::Status(408),
        ] {
            causes.push((manner, transport));
        }
    }
    causes.push((Manner::Reset, Transport::Tcp));
    causes.push((Manner::Reset, Transport::Tls));
    causes.push((Manner::NoConnect, Transport::Tcp));
    causes.push((Manner::TlsFailure, Transport::Tls));
    causes
}

#[test]
fn three_strikes_roll_over_and_two_do_not_for_every_cause() {
    for (manner, transport) in causes() {
        let mut world = one_attempt(transport, &["a", "b"]);
        world.server("a").manner = manner.clone();
        attempt(&mut world);
        attempt(&mut world);
        assert_eq!((world.active().as_str(), world.count()), ("a", 2), "{manner:?} over {transport}: two");
        attempt(&mut world);
        assert_eq!((world.active().as_str(), world.count()), ("b", 0), "{manner:?} over {transport}: three");
    }
}

#[test]
fn a_challenge_is_neutral_so_challenge_then_503_is_left_after_three() {
    let mut world = one_attempt(Transport::Udp, &["a", "b"]);
    world.server("a").manner = Manner::ChallengeThen(503);
    attempt(&mut world);
    attempt(&mut world);
    assert_eq!((world.active().as_str(), world.count()), ("a", 2));
    attempt(&mut world);
    assert_eq!(world.active(), "b");
}

#[test]
fn a_target_without_any_address_is_a_failure() {
    let mut world =
        World::without_dns(Setup { proxy: Settings { retry: false, ..Settings::default() }, ..Setup::default() });
    let mut set = records(&["a", "b"]);
    set.records[0].addresses.clear();
    world.dns = vec![Ok(set)];
    world.run_to(10 * SECOND, "ready", |world| world.core.ready());
    attempt(&mut world);
    attempt(&mut world);
    assert_eq!((world.active().as_str(), world.count()), ("a", 2));
    attempt(&mut world);
    assert_eq!(world.active(), "b");
}

/// Everything at its default: the phone sends one REGISTER, Holdline tries it three times at the silent target and a fourth
/// time at the next one.
#[test]
fn three_silent_tries_of_one_register_roll_over_and_the_fourth_registers() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(13 * SECOND);
    assert_ladder(
        &world,
        "
            0.010 phone 0→holdline REGISTER
            0.012 holdline→a REGISTER
            0.510 phone 0→holdline REGISTER
            0.512 holdline→a REGISTER
            1.510 phone 0→holdline REGISTER
            1.512 holdline→a REGISTER
            3.510 phone 0→holdline REGISTER
            3.511 holdline→phone 0 100
            3.512 holdline→a REGISTER
            4.011 holdline→a REGISTER
            4.511 holdline→a REGISTER
            5.511 holdline→a REGISTER
            7.510 phone 0→holdline REGISTER
            7.511 holdline→phone 0 100
            7.511 holdline→a REGISTER
            8.011 holdline→a REGISTER
            8.511 holdline→a REGISTER
            9.511 holdline→a REGISTER
            11.510 phone 0→holdline REGISTER
            11.511 holdline→phone 0 100
            11.511 holdline→a REGISTER
            12.012 holdline→b REGISTER
            12.013 b→holdline 401
            12.014 holdline→phone 0 401
            12.015 phone 0→holdline REGISTER
            12.016 holdline→b REGISTER
            12.017 b→holdline 200
            12.018 holdline→phone 0 200
        ",
    );
    assert_eq!((world.active().as_str(), world.count(), world.core.facts().all_rollovers()), ("b", 0, 1));
}

#[test]
fn a_success_in_between_resets_the_count() {
    let mut world = one_attempt(Transport::Udp, &["a", "b"]);
    for _ in 0..3 {
        world.server("a").manner = Manner::Status(503);
        attempt(&mut world);
        attempt(&mut world);
        assert_eq!(world.count(), 2);
        world.server("a").manner = Manner::Normal;
        attempt(&mut world);
        assert_eq!((world.active().as_str(), world.count()), ("a", 0));
    }
}

#[test]
fn neutral_answers_in_between_neither_count_nor_reset() {
    for code in [301, 302, 401, 403, 404, 407, 423, 482, 600, 603] {
        let mut world = one_attempt(Transport::Udp, &["a", "b"]);
        for _ in 0..2 {
            world.server("a").manner = Manner::Status(503);
            attempt(&mut world);
            world.server("a").manner = Manner::Status(code);
            // A phone with a password would answer every 401; 401 to the first REGISTER and 503 to the second is the case above.
            let phone = attempt_by(&mut world, false);
            assert_eq!(world.phones[phone].codes(), [code], "it reaches the phone as it is");
        }
        assert_eq!((world.active().as_str(), world.count()), ("a", 2), "{code}");
        world.server("a").manner = Manner::Status(503);
        attempt(&mut world);
        assert_eq!(world.active(), "b", "{code}");
    }
}

#[test]
fn three_failures_in_three_milliseconds_and_over_three_hours_roll_over_alike() {
    for pause in [Duration::from_millis(1), Duration::from_secs(90 * 60)] {
        let mut world = one_attempt(Transport::Udp, &["a", "b"]);
        world.latency = Duration::from_micros(100);
        world.server("a").manner = Manner::Status(500);
        for _ in 0..3 {
            assert_eq!(world.active(), "a", "{pause:?}");
            let phone = world.phone(Transport::Udp);
            world.register(phone);
            world.run_for(pause);
        }
        assert_eq!(world.active(), "b", "{pause:?}");
    }
}

#[test]
fn the_same_rule_holds_on_every_target_and_after_the_last_comes_the_first() {
    let mut world = one_attempt(Transport::Udp, &["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        world.server(name).manner = Manner::Status(503);
    }
    for expected in ["b", "c", "a", "b"] {
        for _ in 0..3 {
            attempt(&mut world);
        }
        assert_eq!(world.active(), expected);
    }
}

#[test]
fn a_single_target_wraps_to_itself_without_spinning() {
    let mut world = World::new(Setup { targets: vec!["a"], ..Setup::default() });
    world.server("a").manner = Manner::Status(503);
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(31 * SECOND);
    assert_eq!(world.phones[phone].codes().first(), Some(&503), "every target has failed: 503 stays 503");
    assert_eq!(world.server("a").registers(), 3, "{}", world.ladder.join("\n"));
    assert_eq!(world.active(), "a");
    world.server("a").manner = Manner::Normal;
    world.register(phone);
    world.run_for(5 * SECOND);
    assert!(world.phones[phone].registered());
}

#[test]
fn a_reset_of_the_shared_connection_under_200_registers_is_one_strike() {
    let mut world = World::new(Setup { transport: Transport::Tcp, ..Setup::default() });
    let phones: Vec<usize> = (0..200).map(|_| world.phone(Transport::Udp)).collect();
    world.server("a").manner = Manner::Silent;
    for phone in &phones {
        world.register(*phone);
    }
    world.run_for(SECOND);
    world.reset("a");
    assert_eq!((world.count(), world.connections("a")), (1, 0), "one event is one strike");
    world.run_for(SECOND);
    assert_eq!((world.count(), world.connections("a")), (1, 1), "and stays one");
    assert_eq!(world.active(), "a");
    // Sent once more on a fresh connection within the same attempt, and the registrar is well again.
    world.server("a").manner = Manner::Normal;
    world.run_for(8 * SECOND);
    for phone in phones {
        assert!(world.phones[phone].registered(), "phone {phone}: {:?}", world.phones[phone].finals);
    }
    assert_eq!((world.active().as_str(), world.count()), ("a", 0));
}

#[test]
fn outcomes_of_an_older_epoch_never_count() {
    let mut world = one_attempt(Transport::Udp, &["a", "b", "c"]);
    world.server("a").manner = Manner::Silent;
    for _ in 0..200 {
        let phone = world.phone(Transport::Udp);
        world.register(phone);
    }
    world.run_for(2 * SECOND);
    world.roll();
    assert_eq!(world.active(), "b");
    world.run_for(MINUTE);
    assert_eq!((world.active().as_str(), world.count()), ("b", 0), "their time-outs are a's affair");
}

#[test]
fn a_late_success_of_the_old_target_does_not_clear_the_new_ones_count() {
    let mut world = one_attempt(Transport::Udp, &["a", "b"]);
    let slow = world.phone(Transport::Udp);
    world.register(slow);
    world.run_for(SECOND);
    world.server("a").manner = Manner::Late(3 * SECOND);
    world.register(slow);
    world.run_for(SECOND / 10);
    world.roll();
    world.server("b").manner = Manner::Status(503);
    attempt(&mut world);
    assert_eq!((world.active().as_str(), world.count()), ("b", 1));
    assert!(world.phones[slow].registered(), "the answer reached the phone all the same");
}

#[test]
fn sticky_no_failback_after_the_primary_returns() {
    let mut world = one_attempt(Transport::Udp, &["a", "b"]);
    world.server("a").manner = Manner::Refuse;
    for _ in 0..3 {
        attempt(&mut world);
    }
    assert_eq!(world.active(), "b");
    world.server("a").manner = Manner::Normal;
    let before = world.server("a").received.len();
    let phone = world.phone(Transport::Udp);
    for _ in 0..48 {
        world.register(phone);
        world.run_for(30 * MINUTE);
    }
    assert_eq!(world.active(), "b");
    assert_eq!(world.server("a").received.len(), before, "nobody probes a");
    assert!(world.phones[phone].registered());
}

#[test]
fn a_primary_that_answers_after_nine_seconds_is_never_left() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    world.server("a").manner = Manner::MergeAware(9 * SECOND, 482);
    for round in 0..20 {
        world.register(phone);
        world.run_for(5 * MINUTE);
        assert_eq!((world.active().as_str(), world.count()), ("a", 0), "round {round}\n{}", world.ladder.join("\n"));
    }
    assert!(
        world.phones[phone].codes().iter().all(|code| matches!(code, 200 | 401)),
        "{:?}",
        world.phones[phone].codes()
    );
    assert_eq!(world.phones[phone].timer_f, 0);
}

#[test]
fn a_digest_registrar_that_takes_nine_seconds_for_everything_is_never_left() {
    for fleet in [1, 12] {
        let mut world = World::new(Setup::default());
        let phones: Vec<usize> = (0..fleet).map(|_| world.phone(Transport::Udp)).collect();
        world.server("a").manner = Manner::Late(9 * SECOND);
        for round in 0..10 {
            for phone in &phones {
                // Nothing remembered: each registration is challenged, late, and answered, late.
                world.phones[*phone].forget_nonce();
                world.register(*phone);
                world.run_for(Duration::from_millis(1_700));
            }
            world.run_for(MINUTE);
            assert_eq!(world.active(), "a", "{fleet} phones, round {round}");
        }
        assert_eq!(world.count(), 0);
        for phone in phones {
            assert!(world.phones[phone].registered(), "{:?}", world.phones[phone].finals);
            assert_eq!(world.phones[phone].timer_f, 0);
        }
    }
}

#[test]
fn a_late_challenge_takes_back_its_own_silence_and_nothing_else() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.server("a").manner = Manner::Status(503);
    let other = world.phone(Transport::Udp);
    world.register(other);
    world.run_for(SECOND / 10);
    assert_eq!(world.count(), 1, "a failure that was answered");
    world.phones[other].patience = Duration::ZERO;
    world.server("a").manner = Manner::Late(5 * SECOND);
    world.register(phone);
    world.run_for(Duration::from_millis(4_500));
    let silent = world.count();
    world.run_for(SECOND);
    assert_eq!((silent, world.count()), (2, 1), "the silence counted and does not stand; the 503 does");
}

#[test]
fn the_same_request_on_a_second_branch_met_with_482_400_or_500_is_no_outcome() {
    for code in [482, 400, 500] {
        let mut world = World::new(Setup::default());
        let phone = world.phone(Transport::Udp);
        world.register(phone);
        world.run_for(SECOND);
        world.server("a").manner = Manner::MergeAware(9 * SECOND, code);
        world.register(phone);
        world.run_for(8 * SECOND);
        assert_eq!(world.count(), 1, "{code}: only the silence counted");
        world.run_for(4 * SECOND);
        assert_eq!(world.phones[phone].codes().last(), Some(&200), "{code}\n{}", world.ladder.join("\n"));
        assert_eq!(world.count(), 0, "{code}: the late 200 clears");
    }
}

#[test]
fn a_provisional_answer_extends_the_attempt_to_the_deadline_and_it_fails_there() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::ProvisionalOnly;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(14 * SECOND);
    assert_eq!(world.count(), 0);
    assert_eq!(world.server("a").registers(), 1, "no second try while the first is being worked on");
    world.run_for(2 * SECOND);
    assert_eq!(world.count(), 1);
}

#[test]
fn min_handsets_keeps_one_poison_phone_from_moving_a_fleet() {
    let mut world = World::new(Setup {
        proxy: Settings { retry: false, ..Settings::default() },
        min_handsets: 2,
        ..Setup::default()
    });
    world.server("a").manner = Manner::Status(500);
    let poison = world.phone(Transport::Udp);
    for _ in 0..10 {
        world.register(poison);
        world.run_for(MINUTE);
    }
    assert_eq!(world.active(), "a");
    attempt(&mut world);
    assert_eq!(world.active(), "b");
}

#[test]
fn nothing_but_register_counts() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Status(503);
    let phone = world.phone(Transport::Udp);
    for n in 0..20 {
        for method in ["OPTIONS", "MESSAGE", "SUBSCRIBE", "INVITE", "PUBLISH"] {
            let addr = world.phones[phone].addr;
            let request = format!(
                "{method} sip:201@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch=z9hG4bK{method}{n};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:200@pbx.example.com>;tag=x\r\nTo: <sip:201@pbx.example.com>\r\n\
                 Call-ID: {method}{n}\r\nCSeq: 1 {method}\r\nContact: <sip:200@{addr}>\r\nContent-Length: 0\r\n\r\n"
            );
            world.phone_sends(phone, request.into());
            world.run_for(SECOND);
        }
    }
    world.run_for(MINUTE);
    assert_eq!((world.active().as_str(), world.count()), ("a", 0));
}

#[test]
fn the_active_target_survives_a_restart() {
    let mut world = one_attempt(Transport::Udp, &["a", "b"]);
    world.server("a").manner = Manner::Refuse;
    for _ in 0..3 {
        attempt(&mut world);
    }
    let kept = world.persisted.clone().expect("the rollover was persisted");
    assert_eq!(kept.active, label("b"));
    let again = World::without_dns(Setup { restored: Some(kept), ..Setup::default() });
    assert_eq!(again.active(), "b", "even before DNS answers");
    assert!(again.core.ready());
}

#[test]
fn the_active_target_gone_from_two_answers_is_left_but_alternating_answers_move_nobody() {
    let mut world = one_attempt(Transport::Udp, &["a", "b"]);
    world.dns = vec![Ok(records(&["b"])), Ok(records(&["a", "b"])), Ok(records(&["b"])), Ok(records(&["a"]))];
    world.run_for(25 * MINUTE);
    assert!(world.lookups >= 4, "{}", world.lookups);
    assert_eq!(world.active(), "a");
    world.dns = vec![Ok(records(&["b"]))];
    world.run_for(15 * MINUTE);
    assert_eq!(world.active(), "b");
}
