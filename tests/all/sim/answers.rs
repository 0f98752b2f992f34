//! What follows an answer: nothing more goes out, and nothing more comes back.

use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{Flow, NetEvent, Transport};
use holdline::proxy::{Event, Exhausted, Settings};

use super::server::Manner;
use super::world::{BOUND, Setup, World, address, header, headers};
use crate::support::simulated::UPSTREAM;

const SECOND: Duration = Duration::from_secs(1);

/// The answer of a target to the REGISTER with this position among those it got.
fn answer_to(world: &mut World, name: &str, position: usize, code: u16) -> Bytes {
    let server = world.server(name);
    let mut seen: Vec<Bytes> = Vec::new();
    for (_, bytes) in &server.received {
        if !seen.iter().any(|other| header(other, "Via") == header(bytes, "Via")) {
            seen.push(bytes.clone());
        }
    }
    let request = seen[position].clone();
    if code == 200 { server.ok(&request) } else { server.answer(&request, code, "") }
}

#[test]
fn a_late_answer_ends_a_try_that_waits_for_its_turn() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    // The first try is silent, the second is refused at once: a third would follow a second later.
    world.run_for(Duration::from_millis(3_990));
    world.server("a").manner = Manner::Status(503);
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.server("a").registers(), 2, "{}", world.ladder.join("\n"));
    let late = answer_to(&mut world, "a", 0, 200);
    world.server_sends("a", late);
    world.run_for(30 * SECOND);
    assert_eq!(world.phones[phone].codes(), [200]);
    assert_eq!(world.server("a").registers(), 2, "no try after the answer\n{}", world.ladder.join("\n"));
    assert_eq!(world.core.contexts(), 0);
}

#[test]
fn after_503_a_late_200_is_noted_but_not_relayed() {
    let proxy = Settings { exhausted: Exhausted::Unavailable, ..Settings::default() };
    let mut world = World::new(Setup { proxy, targets: vec!["a"], failures: 1000, ..Setup::default() });
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(16 * SECOND);
    assert_eq!(world.phones[phone].codes(), [503]);
    let last = world.server("a").registers() - 1;
    let late = answer_to(&mut world, "a", last, 200);
    world.server_sends("a", late);
    let before = world.ladder.len();
    world.run_for(SECOND);
    assert!(!world.ladder[before..].iter().any(|rung| rung.contains("holdline→phone")), "{}", world.ladder.join("\n"));
    assert_eq!(world.count(), 0, "the target lives");
    world.run_for(60 * SECOND);
    assert_eq!(world.core.contexts(), 0);
}

#[test]
fn an_older_register_that_comes_late_does_not_hide_the_newer_one() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    let first = world.phones[phone].begin_register(world.now);
    let second = world.phones[phone].begin_register(world.now);
    let third = world.phones[phone].begin_register(world.now);
    world.phone_sends(phone, second);
    world.run_for(SECOND);
    world.phone_sends(phone, first);
    world.run_for(SECOND);
    world.phone_sends(phone, third);
    world.run_for(7 * SECOND);
    // The first and the second have one try each, which the third ended; the third has its second try after 4 s.
    let of = |cseq: &str, world: &mut World| {
        let got = &world.server("a").received;
        let mut branches: Vec<String> = got
            .iter()
            .filter(|(_, bytes)| header(bytes, "CSeq").as_deref() == Some(cseq))
            .filter_map(|(_, bytes)| header(bytes, "Via"))
            .collect();
        branches.sort();
        branches.dedup();
        branches.len()
    };
    let tries = ["1 REGISTER", "2 REGISTER", "3 REGISTER"].map(|cseq| of(cseq, &mut world));
    assert_eq!(tries, [1, 1, 2], "{}", world.ladder.join("\n"));
}

#[test]
fn a_route_of_upstream_that_names_us_is_taken_off() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    let contact = header(world.server("a").last(), "Contact").expect("a Contact");
    let uri = contact.split(['<', '>']).nth(1).expect("in brackets").to_owned();
    let notify = format!(
        "NOTIFY {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKn\r\nMax-Forwards: 70\r\n\
         Route: <sip:192.0.2.1:5080;lr>, <sip:edge.example.com;lr>\r\n\
         From: <sip:n@pbx.example.com>;tag=1\r\nTo: <{uri}>\r\nCall-ID: n\r\nCSeq: 1 NOTIFY\r\nContent-Length: 0\r\n\r\n"
    );
    world.server_sends("a", notify.into());
    world.run_for(SECOND);
    let arrived = world.phones[phone].received.first().expect("it arrived").clone();
    assert_eq!(headers(&arrived, "Route"), ["<sip:edge.example.com;lr>"], "RFC 3261 §16.4");
}

#[test]
fn a_response_from_the_phones_side_never_answers_what_went_upstream() {
    use holdline::flow::{Flow, NetEvent, SocketId};
    use holdline::proxy::Event;
    let allow = vec!["0.0.0.0/0".parse().expect("a network")];
    let mut world = World::new(Setup { proxy: Settings { allow, ..Settings::default() }, ..Setup::default() });
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    let forged = answer_to(&mut world, "a", 0, 403);
    // From the target's own address, as where everybody is behind one address, but to the phones' listener.
    let flow = Flow::Udp {
        socket: SocketId(0),
        local: super::world::LISTEN.parse().expect("literal"),
        remote: super::world::address("a"),
    };
    world.core.handle(Event::Net(NetEvent::Received { flow, bytes: forged.clone() }), world.now);
    world.run_for(SECOND);
    assert!(world.phones[phone].finals.is_empty(), "{}", world.ladder.join("\n"));
    // The same bytes from the upstream side are the answer.
    world.server_sends("a", forged);
    world.run_for(SECOND);
    assert_eq!(world.phones[phone].codes(), [403], "{}", world.ladder.join("\n"));
}

#[test]
fn what_the_pbx_says_beside_the_contact_reaches_the_phone_as_it_was() {
    const SAID: [&str; 4] = [
        "Min-Expires: 600",
        "Service-Route: <sip:edge.pbx.example.com;lr>,\r\n  <sip:core.pbx.example.com;lr>",
        "P-Associated-URI: <sip:+15551234@pbx.example.com>, <tel:+15551234>",
        "Path: <sip:edge.pbx.example.com;lr>",
    ];
    let extra = SAID.map(|line| format!("{line}\r\n")).concat();
    for code in [423, 200] {
        let mut world = World::new(Setup::default());
        world.server("a").manner = Manner::Silent;
        let phone = world.phone(Transport::Udp);
        world.register(phone);
        world.run_for(SECOND / 10);
        let request = world.server("a").last().clone();
        let answer = world.server("a").answer(&request, code, &extra);
        world.server_sends("a", answer);
        world.run_for(20 * SECOND);
        assert_eq!(world.phones[phone].codes(), [code], "once, and no try after it");
        assert_eq!((world.server("a").registers(), world.count()), (1, 0));
        let arrived =
            String::from_utf8(world.phones[phone].answered.as_deref().expect("an answer").to_vec()).expect("text");
        // A fold means a space (RFC 3261 §7.3.1) and is sent as one.
        let as_it_was = |line: &&str| arrived.contains(&format!("\r\n{}\r\n", line.replace(",\r\n  ", ", ")));
        assert!(SAID.iter().all(as_it_was), "{arrived}");
    }
}

/// Some servers copy the top Via only. What leaves us must find its way all the same (RFC 3261 §16.7).
#[test]
fn a_response_that_lost_the_handsets_via_gets_it_back() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND / 10);
    let request = world.server("a").last().clone();
    let whole = String::from_utf8(world.server("a").answer(&request, 403, "").to_vec()).expect("text");
    let vias: Vec<&str> = whole.lines().filter(|line| line.starts_with("Via:")).collect();
    assert_eq!(vias.len(), 2, "{whole}");
    let short = whole.replace(&format!("{}\r\n", vias[1]), "");
    world.server_sends("a", short.into());
    world.run_for(SECOND);
    assert_eq!(world.phones[phone].codes(), [403], "{}", world.ladder.join("\n"));
    let arrived =
        String::from_utf8(world.phones[phone].answered.as_deref().expect("an answer").to_vec()).expect("text");
    let back: Vec<&str> = arrived.lines().filter(|line| line.starts_with("Via:")).collect();
    assert_eq!(back, [vias[1]], "{arrived}");
}

/// A request of a phone with this method.
fn asks(world: &mut World, phone: usize, method: &str) {
    let addr = world.phones[phone].addr;
    let text = format!(
        "{method} sip:201@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch=z9hG4bK{method};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:200@pbx.example.com>;tag=x\r\nTo: <sip:201@pbx.example.com>\r\nCall-ID: {method}\r\nCSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    world.phone_sends(phone, text.into());
}

/// RFC 4320 §4.2 forbids us to make one. The PBX's own is its answer, as its 504 would be.
#[test]
fn a_408_that_the_pbx_sent_in_time_reaches_the_handset_whatever_it_asked() {
    for method in ["MESSAGE", "SUBSCRIBE", "INFO", "REFER", "UPDATE", "BYE", "PUBLISH"] {
        let mut world = World::new(Setup::default());
        world.server("a").manner = Manner::Status(408);
        let phone = world.phone(Transport::Udp);
        asks(&mut world, phone, method);
        world.run_for(SECOND);
        let last = world.ladder.last().expect("an answer");
        assert!(last.ends_with("holdline→phone 0 408"), "{method}: {last}");
        world.run_for(60 * SECOND);
        world.assert_nothing_in_flight();
    }
}

#[test]
fn a_408_that_comes_when_the_handset_has_given_up_goes_nowhere() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    asks(&mut world, phone, "MESSAGE");
    world.run_for(33 * SECOND);
    let late = answer_to(&mut world, "a", 0, 408);
    world.server_sends("a", late);
    world.run_for(SECOND);
    let last = world.ladder.last().expect("the PBX's answer");
    assert!(last.ends_with("a→holdline 408"), "{last}");
}

#[test]
fn a_408_to_each_try_of_a_register_is_the_last_failure_that_is_relayed() {
    let mut world = World::new(Setup::default());
    for name in ["a", "b"] {
        world.server(name).manner = Manner::Status(408);
    }
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(20 * SECOND);
    assert_eq!(world.phones[phone].codes(), [408], "{}", world.ladder.join("\n"));
    assert!(world.phones[phone].finals[0].1 <= 15 * SECOND, "{:?}", world.phones[phone].finals);
}

/// A farm behind one address, whose machines answer from their own. The branch is ours and the dialog is the request's.
#[test]
fn an_answer_from_another_targets_address_is_the_answer_and_no_strike() {
    for (right_dialog, codes) in [(true, vec![200]), (false, vec![])] {
        let mut world = World::new(Setup::default());
        world.server("a").manner = Manner::Silent;
        let phone = world.phone(Transport::Udp);
        world.register(phone);
        world.run_for(SECOND);
        let mut answer = answer_to(&mut world, "a", 0, 200);
        if !right_dialog {
            answer = String::from_utf8_lossy(&answer).replace("Call-ID: ", "Call-ID: x").into();
        }
        let local = BOUND.parse().expect("literal");
        let flow = Flow::Udp { socket: UPSTREAM, local, remote: address("b") };
        world.core.handle(Event::Net(NetEvent::Received { flow, bytes: answer }), world.now);
        world.run_for(SECOND);
        assert_eq!(world.phones[phone].codes(), codes, "{}", world.ladder.join("\n"));
        assert_eq!((world.count(), world.active().as_str()), (0, "a"));
    }
}
