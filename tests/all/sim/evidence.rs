//! Only evidence about the target moves the fleet: what a PBX drops on purpose is none.

use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{Cause, ConnId, Flow, NetEvent, Transport};
use holdline::proxy::Event;
use holdline::upstream::{self, Reason};

use super::server::Manner;
use super::world::{Setup, World, address, what};

const SECOND: Duration = Duration::from_secs(1);

/// Handset 0 is served; handset 1 is one that the PBX drops without a word.
fn world(transport: Transport) -> (World, usize, usize) {
    let mut world = World::new(Setup { transport, ..Setup::default() });
    let (served, scanner) = (world.phone(Transport::Udp), world.phone(Transport::Udp));
    world.server("a").manner = Manner::Drops("201@");
    world.register(served);
    world.run_for(SECOND);
    assert!(world.phones[served].registered());
    world.server("a").forget();
    (world, served, scanner)
}

/// One REGISTER, of which the sender wants to know no more.
fn scan(world: &mut World, scanner: usize) {
    let bytes = world.phones[scanner].begin_register(world.now);
    world.phone_sends(scanner, bytes);
}

fn count(world: &World, name: &str, method: &str) -> usize {
    world.servers[&address(name)].received.iter().filter(|(_, bytes)| what(bytes) == method).count()
}

#[test]
fn one_datagram_that_the_pbx_drops_moves_nobody() {
    for transport in Transport::ALL {
        let (mut world, _, scanner) = world(transport);
        scan(&mut world, scanner);
        world.run_for(60 * SECOND);
        assert_eq!((world.active().as_str(), world.count()), ("a", 1), "{transport}: one attempt, no tries of our own");
        assert_eq!(world.server("a").registers(), 1, "{transport}");
    }
}

#[test]
fn strikes_by_handsets_never_served_are_void_where_the_target_answers() {
    for transport in Transport::ALL {
        let (mut world, served, scanner) = world(transport);
        for _ in 0..30 {
            scan(&mut world, scanner);
            world.run_for(5 * SECOND);
        }
        assert_eq!(world.active(), "a", "{transport}: {}", world.ladder.join("\n"));
        let facts = (world.core.facts().all_rollovers(), world.core.upstream().voided());
        assert_eq!(facts, (0, 30), "{transport}: ten times three");
        assert_eq!(count(&world, "a", "OPTIONS"), 10, "{transport}: one question each time");
        assert!(world.servers[&address("b")].received.is_empty(), "{transport}: never another target");
        world.register(served);
        world.run_for(SECOND);
        assert!(world.phones[served].registered(), "{transport}");
        world.run_for(300 * SECOND);
        world.assert_nothing_in_flight();
    }
}

#[test]
fn silence_a_5xx_or_a_transport_failure_in_answer_rolls_over() {
    for (manner, within) in [(Manner::Silent, 5), (Manner::Status(503), 1), (Manner::Refuse, 1), (Manner::Reset, 1)] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let (mut world, _, scanner) = world(transport);
            for _ in 0..2 {
                scan(&mut world, scanner);
                world.run_for(5 * SECOND);
            }
            scan(&mut world, scanner);
            world.run_for(Duration::from_millis(3_990));
            assert_eq!((world.active().as_str(), world.count()), ("a", 2), "{manner:?} over {transport}");
            world.server("a").manner = manner.clone();
            world.run_for(within * SECOND);
            let rolled = world.core.facts().rollovers(Reason::RegisterFailures);
            assert_eq!(
                (world.active().as_str(), rolled),
                ("b", 1),
                "{manner:?} over {transport}: {}",
                world.ladder.join("\n")
            );
        }
    }
}

#[test]
fn a_served_handset_needs_nobody_to_vouch_for_it() {
    let (mut world, served, scanner) = world(Transport::Udp);
    scan(&mut world, scanner);
    world.run_for(5 * SECOND);
    world.server("a").manner = Manner::Silent;
    world.register(served);
    world.run_for(9 * SECOND);
    assert_eq!(world.active(), "b", "the third strike is a served handset's: {}", world.ladder.join("\n"));
    assert_eq!(count(&world, "a", "OPTIONS"), 0);
}

#[test]
fn while_nobody_is_served_the_plain_rule_stands() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.server("a").manner = Manner::Silent;
    world.register(phone);
    world.run_for(13 * SECOND);
    assert_eq!(world.active(), "b");
    assert_eq!(count(&world, "a", "OPTIONS"), 0);
}

#[test]
fn an_operators_rollover_ends_the_doubt() {
    let (mut world, _, scanner) = world(Transport::Udp);
    for _ in 0..3 {
        scan(&mut world, scanner);
        world.run_for(Duration::from_millis(4_003));
    }
    assert_eq!(count(&world, "a", "OPTIONS"), 1, "{}", world.ladder.join("\n"));
    world.server("a").manner = Manner::Silent;
    world.roll();
    world.run_for(10 * SECOND);
    assert_eq!((world.active().as_str(), world.core.facts().all_rollovers()), ("b", 1));
}

#[test]
fn min_handsets_is_not_met_by_one_source_that_invents_names() {
    let mut world = World::new(Setup { min_handsets: 2, ..Setup::default() });
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    for name in 0..10 {
        let bytes = world.phones[phone].begin_register(world.now);
        let text = String::from_utf8_lossy(&bytes).replace("200@", &format!("9{name}@"));
        world.phone_sends(phone, text.into());
        world.run_for(20 * SECOND);
    }
    assert_eq!(world.active(), "a", "{}", world.ladder.join("\n"));
    assert!(world.count() >= 3);
    let other = world.phone(Transport::Udp);
    world.register(other);
    world.run_for(13 * SECOND);
    assert_eq!(world.active(), "b", "another source");
}

/// Settings that change meanwhile leave a question alone.
#[test]
fn a_question_outlives_a_reload() {
    let (mut world, _, scanner) = world(Transport::Udp);
    for _ in 0..2 {
        scan(&mut world, scanner);
        world.run_for(5 * SECOND);
    }
    scan(&mut world, scanner);
    world.run_for(Duration::from_millis(4_002));
    let upstream: upstream::Settings = world.core.upstream().settings().clone();
    let proxy = holdline::proxy::Settings::default();
    world.core.handle(Event::Settings(Box::new(holdline::proxy::Reload { proxy, upstream })), world.now);
    world.run_for(5 * SECOND);
    assert_eq!((world.active().as_str(), world.core.upstream().voided()), ("a", 3));
}

fn icmp(world: &mut World, conn: ConnId, quoted: Option<Bytes>) {
    let event = NetEvent::SendFailed { flow: Flow::Conn(conn), cause: Cause::Refused, quoted };
    world.core.handle(Event::Net(event), world.now);
    world.run_for(Duration::from_millis(1));
}

fn unmatched(world: &World) -> u64 {
    world.core.facts().dropped().filter(|(_, reason, _)| *reason == "icmp_unmatched").map(|(_, _, count)| count).sum()
}

#[test]
fn an_icmp_error_is_believed_only_if_it_quotes_what_waits() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.server("a").manner = Manner::Silent;
    world.register(phone);
    world.run_for(Duration::from_millis(100));
    let sent = world.server("a").last().clone();
    let conn = ConnId::Dialled(1);
    let forged = String::from_utf8_lossy(&sent).replace("branch=z9hG4bKh", "branch=z9hG4bKx");
    let cut = memchr::memmem::find(&sent, b"branch=").expect("our Via") + 20;
    let wrong =
        [None, Some(Bytes::from("")), Some(Bytes::from("REGISTER")), Some(forged.into()), Some(sent.slice(..cut))];
    for (n, quoted) in wrong.into_iter().enumerate() {
        icmp(&mut world, conn, quoted);
        assert_eq!((world.count(), unmatched(&world)), (0, n as u64 + 1));
    }
    // As much as RFC 792 asks a router to quote of it is enough, once our Via is in it.
    let via = memchr::memmem::find(&sent, b";rport").expect("our Via") + 1;
    icmp(&mut world, conn, Some(sent.slice(..via)));
    assert_eq!((world.count(), unmatched(&world)), (1, 5));
    icmp(&mut world, conn, Some(sent));
    assert_eq!((world.count(), unmatched(&world)), (1, 6), "it does not wait any more");
}

#[test]
fn a_target_that_has_answered_may_answer_after_an_icmp_error() {
    let (mut world, served, _) = world(Transport::Udp);
    world.server("a").manner = Manner::Late(2 * SECOND);
    world.register(served);
    world.run_for(Duration::from_millis(100));
    let sent = world.server("a").last().clone();
    icmp(&mut world, ConnId::Dialled(1), Some(sent));
    world.run_for(10 * SECOND);
    assert!(world.phones[served].registered());
    // The strike is taken back: the branch was open for the answer all the time.
    assert_eq!((world.count(), world.core.facts().all_rollovers()), (0, 0), "{}", world.ladder.join("\n"));
}

#[test]
fn what_never_becomes_a_dialog_leaves_no_entry() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    let entries = |world: &World| world.core.tables().into_iter().find(|(name, _)| *name == "bindings").map(|(_, n)| n);
    for (answer, left) in [(403, 0), (100, 0), (180, 1)] {
        world.server("a").manner = Manner::Status(answer);
        for n in 0..20 {
            let invite = format!(
                "INVITE sip:900@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.20:5060;branch=z9hG4bK{answer}{n};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:x{n}@pbx.example.com>;tag={n}\r\nTo: <sip:900@pbx.example.com>\r\n\
                 Call-ID: {answer}-{n}\r\nCSeq: 1 INVITE\r\nContact: <sip:x{n}@10.0.0.20>\r\nContent-Length: 0\r\n\r\n"
            );
            world.phone_sends(phone, invite.into());
            world.run_for(Duration::from_millis(10));
        }
        assert_eq!(entries(&world), Some(20 * left), "{answer}");
    }
}

/// As while the PBX restarts: the port is closed for a moment. A REGISTER is tried again, and so is the rest.
#[test]
fn one_icmp_error_ends_no_request_where_there_is_one_target() {
    for method in ["INVITE", "MESSAGE"] {
        for (comes_back, answer) in [(true, "486"), (false, "500")] {
            let mut world = World::new(Setup { targets: vec!["a"], ..Setup::default() });
            world.server("a").manner = Manner::Refuse;
            let phone = world.phone(Transport::Udp);
            let addr = world.phones[phone].addr;
            let text = format!(
                "{method} sip:201@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n\
                 From: <sip:200@pbx.example.com>;tag=x\r\nTo: <sip:201@pbx.example.com>\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n\
                 Contact: <sip:200@{addr}>\r\nContent-Length: 0\r\n\r\n"
            );
            world.phone_sends(phone, text.into());
            world.run_for(SECOND / 10);
            if comes_back {
                world.server("a").manner = Manner::Status(486);
            }
            world.run_for(SECOND / 2);
            let ladder = world.ladder.join("\n");
            let answered: Vec<&String> = world.ladder.iter().filter(|rung| rung.contains("holdline→phone")).collect();
            assert!(answered.last().is_some_and(|rung| rung.ends_with(answer)), "{method}\n{ladder}");
        }
    }
}
