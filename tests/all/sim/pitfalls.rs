//! What `docs/pitfalls.md` lists and no other file shows.

use std::time::Duration;

use holdline::flow::{Side, Transport};
use holdline::message::Method;
use holdline::metrics::Origin;

use super::server::Manner;
use super::world::{Setup, World, header, what};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A MESSAGE of a phone with these extra header lines.
fn message(world: &World, phone: usize, n: u32, extra: &str) -> bytes::Bytes {
    let addr = world.phones[phone].addr;
    format!(
        "MESSAGE sip:201@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch=z9hG4bKm{n};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:200@pbx.example.com>;tag=x\r\nTo: <sip:201@pbx.example.com>\r\nCall-ID: m{n}\r\nCSeq: 1 MESSAGE\r\n\
         {extra}Content-Length: 0\r\n\r\n"
    )
    .into()
}

#[test]
fn a_dead_target_is_not_tried_for_ever_and_nothing_gives_up_for_good() {
    let mut world = World::new(Setup::default());
    for name in ["a", "b"] {
        world.server(name).manner = Manner::Refuse;
    }
    let phone = world.phone(Transport::Udp);
    for _ in 0..10 {
        world.register(phone);
        world.run_for(MINUTE);
    }
    let tried = [world.server("a").registers(), world.server("b").registers()];
    assert!(tried.iter().all(|n| *n >= 6), "both in turn: {tried:?}");
    world.server("b").manner = Manner::Normal;
    for _ in 0..3 {
        world.register(phone);
        world.run_for(MINUTE);
    }
    assert!(world.phones[phone].registered(), "no terminal state");
    assert_eq!(world.active(), "b");
}

#[test]
fn our_own_503_and_the_servers_are_told_apart() {
    let mut world = World::without_dns(Setup::default());
    let phone = world.phone(Transport::Udp);
    let early = message(&world, phone, 1, "");
    world.phone_sends(phone, early);
    world.run_for(SECOND);
    assert!(world.ladder.last().expect("an answer").ends_with("holdline→phone 0 503"), "{}", world.ladder.join("\n"));
    let count = |world: &World, origin| world.core.facts().responses(Side::Phone, Method::Message, 5, origin);
    assert_eq!((count(&world, Origin::Local), count(&world, Origin::Relayed)), (1, 0));

    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Status(503);
    let phone = world.phone(Transport::Udp);
    let relayed = message(&world, phone, 2, "");
    world.phone_sends(phone, relayed);
    world.run_for(SECOND);
    assert!(world.ladder.last().expect("an answer").ends_with("holdline→phone 0 500"), "RFC 3261 §16.7");
    assert_eq!((count(&world, Origin::Local), count(&world, Origin::Relayed)), (0, 1), "the class is 5xx for both");
}

#[test]
fn an_unknown_proxy_require_gets_420_and_an_unknown_require_passes() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    let required = message(&world, phone, 1, "Proxy-Require: teleport\r\n");
    world.phone_sends(phone, required);
    world.run_for(SECOND);
    assert!(world.ladder.last().expect("an answer").ends_with("holdline→phone 0 420"), "{}", world.ladder.join("\n"));
    assert!(world.server("a").received.is_empty());
    let passes = message(&world, phone, 2, "Require: teleport\r\n");
    world.phone_sends(phone, passes);
    world.run_for(SECOND);
    assert_eq!(what(world.server("a").last()), "MESSAGE");
    assert_eq!(header(world.server("a").last(), "Require").as_deref(), Some("teleport"));
}

#[test]
fn a_refresh_without_answer_delays_no_register() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    world.dns = Vec::new();
    world.run_for(20 * MINUTE);
    assert!(world.lookups > 1, "it was refreshed, in vain");
    world.register(phone);
    world.run_for(SECOND / 10);
    assert!(world.phones[phone].registered());
    assert!(world.phones[phone].finals.last().expect("an answer").1 < SECOND / 100);
}

#[test]
fn the_old_connection_stays_while_it_is_used_and_closes_when_idle() {
    let mut world = World::new(Setup { transport: Transport::Tcp, ..Setup::default() });
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    assert_eq!(world.connections("a"), 1);
    world.roll();
    world.run_for(15 * MINUTE);
    assert_eq!(world.connections("a"), 1, "the PBX may still call the phone over it");
    world.register(phone);
    world.run_for(MINUTE);
    assert_eq!(world.connections("a"), 0, "idle, and nobody is registered there any more");
}
