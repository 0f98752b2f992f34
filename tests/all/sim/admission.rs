//! Nobody shuts others out: shares of the tables, debts of those who never succeed, and what is kept for those who are served.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{Side, Transport};
use holdline::message::Method;
use holdline::proxy::{Origin, Settings};

use super::server::Manner;
use super::world::{Setup, World, address, header, what};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// A handset at this address, on a port of its own.
fn phone_at(world: &mut World, ip: IpAddr) -> usize {
    let phone = world.phone(Transport::Udp);
    world.phones[phone].addr = SocketAddr::new(ip, 20_000 + phone as u16);
    phone
}

/// A world in which a handset is served. Its address is the one behind which everybody is.
fn served(setup: Setup) -> (World, usize, IpAddr) {
    let mut world = World::new(setup);
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    assert!(world.phones[phone].registered());
    world.server("a").forget();
    let ip = world.phones[phone].addr.ip();
    (world, phone, ip)
}

/// The `n`th request of somebody who guesses.
fn guess(method: &str, n: usize, from: SocketAddr, body: usize) -> Bytes {
    format!(
        "{method} sip:{n}@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKguess{n};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:u{n}@pbx.example.com>;tag=g{n}\r\nTo: <sip:u{n}@pbx.example.com>\r\nCall-ID: guess{n}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:u{n}@{from}>\r\nContent-Length: {body}\r\n\r\n{}",
        "x".repeat(body)
    )
    .into()
}

fn sends(world: &mut World, from: SocketAddr, bytes: Bytes) {
    world.datagram(from, bytes);
    world.run_for(MILLI);
}

fn throttled(world: &World) -> u64 {
    world.core.facts().dropped().filter(|(_, reason, _)| *reason == "throttled").map(|(_, _, count)| count).sum()
}

fn arrived(world: &World, method: &str) -> usize {
    world.servers[&address("a")].received.iter().filter(|(_, bytes)| what(bytes) == method).count()
}

#[test]
fn a_scanner_behind_the_handsets_own_address_reaches_the_pbx_twice_a_second() {
    for method in ["REGISTER", "INVITE", "OPTIONS"] {
        let (mut world, phone, ip) = served(Setup::default());
        world.server("a").manner = if method == "REGISTER" { Manner::Normal } else { Manner::Status(404) };
        world.quiet = true;
        let scanner = SocketAddr::new(ip, 40_000);
        for n in 0..60_000 {
            sends(&mut world, scanner, guess(method, n, scanner, 0));
            if method == "REGISTER" && n % 5_000 == 4_999 {
                world.register(phone);
                world.run_for(20 * MILLI);
                assert!(world.phones[phone].registered(), "after {n}");
            }
        }
        // A minute has passed: sixty at once, and two a second.
        let (arrived, dropped) = (arrived(&world, method), throttled(&world));
        let own = if method == "REGISTER" { 12 } else { 0 };
        assert!((90 + own..=200 + 2 * own).contains(&arrived), "{method}: {arrived}");
        assert!(dropped > 59_000, "{method}: {dropped}");
        let others: Vec<u16> = world.phones[phone].codes().into_iter().filter(|code| *code != 200).collect();
        assert_eq!(others, [401], "{method}: the challenge before the first guess");
        assert_eq!(world.core.facts().all_rollovers(), 0, "{method}");

        // Half a minute after the last guess, a handset that nobody knows gets in from there.
        world.server("a").manner = Manner::Normal;
        world.run_for(31 * SECOND);
        let new = phone_at(&mut world, ip);
        world.register(new);
        world.run_for(SECOND);
        assert!(world.phones[new].registered(), "{method}");
        world.run_for(300 * SECOND);
        world.assert_nothing_in_flight();
    }
}

#[test]
fn a_pbx_that_answers_a_scanner_with_silence_gets_few_of_its_requests() {
    let (mut world, phone, ip) = served(Setup::default());
    world.server("a").manner = Manner::Drops("u");
    world.quiet = true;
    let scanner = SocketAddr::new(ip, 40_000);
    for n in 0..20_000 {
        sends(&mut world, scanner, guess("REGISTER", n, scanner, 0));
    }
    world.register(phone);
    world.run_for(SECOND);
    assert!(world.phones[phone].registered());
    // Requests, not datagrams: each is repeated until its attempt has failed.
    let requests: std::collections::BTreeSet<String> = world.servers[&address("a")]
        .received
        .iter()
        .filter_map(|(_, bytes)| header(bytes, "Call-ID"))
        .filter(|id| id.starts_with("guess"))
        .collect();
    assert!(requests.len() <= 2 * 240, "{}", requests.len());
    assert_eq!(world.active(), "a");
    assert_eq!(world.core.facts().all_rollovers(), 0);
}

#[test]
fn three_hundred_new_handsets_behind_one_address_register_at_once() {
    let (mut world, _, ip) = served(Setup::default());
    world.quiet = true;
    let phones: Vec<usize> = (0..300).map(|_| phone_at(&mut world, ip)).collect();
    for phone in &phones {
        world.register(*phone);
    }
    world.run_for(4 * SECOND);
    for phone in phones {
        assert_eq!(world.phones[phone].codes(), [401, 200], "{phone}: {:?}", world.phones[phone]);
    }
}

#[test]
fn while_no_handset_is_served_nobody_is_throttled() {
    let mut world = World::new(Setup::default());
    world.quiet = true;
    let source = SocketAddr::from(([10, 9, 9, 9], 5060));
    for n in 0..500 {
        sends(&mut world, source, guess("REGISTER", n, source, 0));
    }
    assert_eq!((arrived(&world, "REGISTER"), throttled(&world)), (500, 0));
}

#[test]
fn a_full_table_has_room_for_served_handsets_and_for_what_is_in_a_dialog() {
    let settings = Settings { max_transactions: 160, max_failing: 0, ..Settings::default() };
    let (mut world, phone, ip) = served(Setup { proxy: settings, ..Setup::default() });
    let (caller, callee) = (world.ua_of_phone(phone), world.ua_of_target("a"));
    world.uas[callee].manner.answers = Some((Duration::ZERO, 200));
    world.act(caller, |ua, now| ua.outside("INVITE", "sip:900@pbx.example.com", "", "v=0", now));
    world.run_for(40 * SECOND);
    assert_eq!(world.uas[caller].status(0), 200, "{}", world.ladder.join("\n"));

    world.server("a").manner = Manner::Drops("u");
    world.uas[callee].manner.answers = None;
    let flooder = SocketAddr::from(([10, 9, 9, 9], 5060));
    for n in 0..400 {
        sends(&mut world, flooder, guess("INVITE", n, flooder, 0));
    }
    let open = |world: &World| world.core.tables().iter().find(|(name, _)| *name == "open transactions").map(|t| t.1);
    let alone = open(&world).expect("in the list");
    assert!((78..=84).contains(&alone), "half of the table: {alone}");

    // Others still have the quarter above, and the served handset and its call the last one.
    for n in 0..100 {
        let other = SocketAddr::from(([10, 9, 8, n], 5060));
        sends(&mut world, other, guess("INVITE", 1000 + usize::from(n), other, 0));
    }
    let all = open(&world).expect("in the list");
    assert!((119..=124).contains(&all), "three quarters: {all}");
    world.register(phone);
    world.act(caller, |ua, now| ua.inside(0, "BYE", "", "", now));
    world.run_for(SECOND);
    assert!(world.phones[phone].registered(), "{}", world.phones[phone].codes().len());
    let passed = world.ladder.iter().filter(|line| line.ends_with("holdline→a BYE")).count();
    assert_eq!(passed, 1, "what is in a dialog passes");
    let stranger = phone_at(&mut world, ip);
    world.register(stranger);
    world.run_for(10 * MILLI);
    assert_eq!(world.phones[stranger].codes(), [503]);
}

#[test]
fn memory_of_requests_has_a_budget_and_goes_back() {
    const BUDGET: usize = 1 << 20;
    let settings = Settings { max_bytes: BUDGET, max_failing: 0, ..Settings::default() };
    let (mut world, phone, _) = served(Setup { proxy: settings, ..Setup::default() });
    world.quiet = true;
    world.server("a").manner = Manner::Drops("u");
    world.ua_of_target("a");
    for n in 0..200 {
        let flooder = SocketAddr::from(([10, 9, (n % 50) as u8, 9], 5060));
        sends(&mut world, flooder, guess("MESSAGE", n, flooder, 60_000));
        assert!(world.core.levels().bytes <= BUDGET * 3 / 4 + 2 * 61_000, "{n}: {}", world.core.levels().bytes);
    }
    assert!(world.core.levels().bytes > BUDGET / 2);
    world.register(phone);
    world.run_for(SECOND);
    assert!(world.phones[phone].registered(), "its REGISTER has the last quarter");
    world.run_for(60 * SECOND);
    assert_eq!(world.core.levels().bytes, 0);
    world.run_for(300 * SECOND);
    world.assert_nothing_in_flight();
}

#[test]
fn a_long_datagram_that_is_neither_invite_nor_message_is_refused() {
    let (mut world, _, ip) = served(Setup::default());
    let callee = world.ua_of_target("a");
    let from = SocketAddr::new(ip, 40_000);
    for (n, (method, body)) in
        [("PUBLISH", 17_000), ("PUBLISH", 15_000), ("INVITE", 17_000), ("MESSAGE", 17_000)].into_iter().enumerate()
    {
        let before = world.uas[callee].got.len();
        sends(&mut world, from, guess(method, n, from, body));
        world.run_for(10 * MILLI);
        let passed = usize::from(body < 16_384 || method != "PUBLISH");
        assert_eq!(world.uas[callee].got.len() - before, passed, "{method} of {body}");
    }
    let facts = world.core.facts();
    assert_eq!(facts.responses(Side::Phone, Method::Publish, 5, Origin::Local), 1);
}

fn heard(world: &World, phone: usize, status: &str) -> usize {
    let line = format!("holdline→phone {phone} {status}");
    world.ladder.iter().filter(|rung| rung.ends_with(&line)).count()
}

#[test]
fn a_refused_invite_of_somebody_never_served_is_answered_once_and_its_ack_goes_nowhere() {
    let (mut world, served, ip) = served(Setup::default());
    let callee = world.ua_of_target("a");
    let stranger = phone_at(&mut world, ip);
    for (phone, expected) in [(stranger, 1), (served, 11)] {
        let from = world.phones[phone].addr;
        let invite =
            String::from_utf8_lossy(&guess("INVITE", 200 + phone, from, 0)).replace("Forwards: 70", "Forwards: 0");
        let invite = invite.replace(&format!("sip:u{}@", 200 + phone), &format!("sip:{}@", 200 + phone));
        world.datagram(from, invite.clone().into());
        world.run_for(40 * SECOND);
        assert_eq!(heard(&world, phone, "483"), expected, "{phone}\n{}", world.ladder.join("\n"));
        if phone == stranger {
            let first = world.phones[phone].answered.clone().expect("an answer");
            world.datagram(from, invite.clone().into());
            world.run_for(SECOND);
            let again = world.phones[phone].answered.clone().expect("an answer");
            let tag = |bytes: &[u8]| header(bytes, "To").expect("a To");
            assert_eq!(tag(&first), tag(&again), "RFC 3261 section 8.2.7");
            let ack = invite.replace("INVITE", "ACK").replace("Forwards: 0", "Forwards: 70");
            let to = header(ack.as_bytes(), "To").expect("a To");
            world.datagram(from, ack.replace(&format!("To: {to}"), &format!("To: {}", tag(&first))).into());
            world.run_for(SECOND);
        }
    }
    assert!(world.uas[callee].got.is_empty(), "nothing of it went on");
    world.run_for(60 * SECOND);
    world.assert_nothing_in_flight();
}

#[test]
fn a_failure_is_repeated_to_somebody_never_served_up_to_three_times_the_bytes_of_the_request() {
    let (mut world, served, ip) = served(Setup::default());
    let callee = world.ua_of_target("a");
    world.uas[callee].manner.answers = Some((Duration::ZERO, 404));
    let stranger = phone_at(&mut world, ip);
    for (phone, least, most) in [(stranger, 1, 4), (served, 11, 11)] {
        let from = world.phones[phone].addr;
        let invite = String::from_utf8_lossy(&guess("INVITE", 200 + phone, from, 0)).into_owned();
        let invite = invite.replace(&format!("sip:u{}@", 200 + phone), &format!("sip:{}@", 200 + phone));
        world.datagram(from, invite.into());
        world.run_for(40 * SECOND);
        let heard = heard(&world, phone, "404");
        assert!((least..=most).contains(&heard), "{phone}: {heard}\n{}", world.ladder.join("\n"));
    }
}

#[test]
fn who_guesses_passwords_is_throttled_like_who_guesses_names() {
    let (mut world, phone, ip) = served(Setup::default());
    world.quiet = true;
    let guesser = SocketAddr::new(ip, 40_000);
    for n in 0..10_000 {
        let text = String::from_utf8_lossy(&guess("REGISTER", n, guesser, 0)).into_owned();
        let credentials =
            "Authorization: Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"sip:x\", response=\"0\"\r\n";
        sends(&mut world, guesser, text.replace("Contact:", &format!("{credentials}Contact:")).into());
    }
    // Ten seconds: sixty at once, and two a second, and those that were under way.
    let arrived = arrived(&world, "REGISTER");
    assert!((70..=100).contains(&arrived), "{arrived}");
    world.register(phone);
    world.run_for(SECOND);
    assert!(world.phones[phone].registered());
}

#[test]
fn answers_of_our_own_are_forgotten_before_anybody_is_refused_for_want_of_memory() {
    const BUDGET: usize = 1 << 20;
    let settings = Settings { max_bytes: BUDGET, max_failing: 0, ..Settings::default() };
    let (mut world, phone, ip) = served(Setup { proxy: settings, ..Setup::default() });
    let callee = world.ua_of_target("a");
    let flooder = SocketAddr::new(ip, 40_000);
    let long = "x".repeat(12_000);
    for n in 0..300 {
        for method in ["OPTIONS", "CANCEL"] {
            let text = String::from_utf8_lossy(&guess(method, n, flooder, 0))
                .replace(&format!("guess{n}\r"), &format!("{n}{long}\r"));
            world.datagram(flooder, text.replace(&format!("sip:{n}@pbx.example.com SIP"), "sip:10.0.0.1 SIP").into());
        }
        assert!(world.core.levels().bytes <= BUDGET / 2 + 20_000, "{n}: {}", world.core.levels().bytes);
    }
    let caller = world.ua_of_phone(phone);
    world.act(caller, |ua, now| ua.outside("INVITE", "sip:900@pbx.example.com", "", "v=0", now));
    world.run_for(SECOND);
    assert_eq!(world.uas[callee].got.len(), 1, "{}", world.ladder.join("\n"));
    let cancels = world.core.facts().responses(Side::Phone, Method::Cancel, 4, Origin::Local);
    assert_eq!(cancels, 300, "481 to each");
}

#[test]
fn a_refused_invite_over_tcp_keeps_nothing_either() {
    let (mut world, _, _) = served(Setup::default());
    world.run_for(60 * SECOND);
    let phone = world.phone(Transport::Tcp);
    for n in 0..50 {
        let text = String::from_utf8_lossy(&guess("INVITE", n, world.phones[phone].addr, 0))
            .replace("Forwards: 70", "Forwards: 0");
        world.phone_sends(phone, text.into());
        world.run_for(2 * MILLI);
    }
    assert_eq!(heard(&world, phone, "483"), 50);
    assert_eq!(world.core.transactions(), 0);
}
