//! The way from the PBX to its phones: kept open, opened again when it is lost, and counted where it leads nowhere.

use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{Cause, NetEvent, Side, Transport};
use holdline::metrics::Direction;
use holdline::proxy::{Event, Settings};

use super::server::Manner;
use super::world::{Setup, World, address, header, records, registered, what};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn dropped(world: &World, reason: &str) -> u64 {
    let dropped = world.core.facts().dropped();
    dropped.filter(|(side, why, _)| *side == Side::Phone && *why == reason).map(|(_, _, count)| count).sum()
}

fn orphaned(world: &mut World) -> i64 {
    world.core.levels().bindings_orphaned as i64
}

#[test]
fn a_keep_alive_goes_to_the_pbx_every_25_seconds_over_every_transport() {
    for transport in Transport::ALL {
        let (mut world, phone) = registered(Setup { transport, ..Setup::default() });
        world.run_for(10 * MINUTE);
        let pings: usize = world.pings.values().sum();
        assert!((20..=24).contains(&pings), "{transport}: {pings} in ten minutes");
        // What is sent anyway makes keep-alives superfluous.
        let before = pings;
        for _ in 0..30 {
            world.register(phone);
            world.run_for(20 * SECOND);
        }
        assert_eq!(world.pings.values().sum::<usize>(), before, "{transport}");
    }
}

#[test]
fn keep_alives_can_be_switched_off_and_count_for_nothing() {
    let proxy = Settings { upstream_keepalive: None, ..Settings::default() };
    let (mut world, _) = registered(Setup { proxy, ..Setup::default() });
    world.run_for(10 * MINUTE);
    assert!(world.pings.is_empty());

    let (mut world, _) = registered(Setup::default());
    world.server("a").manner = Manner::Silent;
    world.run_for(MINUTE);
    let conn = *world.pings.keys().next().expect("a keep-alive was sent");
    for _ in 0..10 {
        let flow = holdline::flow::Flow::Conn(conn);
        world.core.handle(Event::Net(NetEvent::SendFailed { flow, cause: Cause::Refused, quoted: None }), world.now);
        world.run_for(30 * SECOND);
    }
    assert_eq!((world.active().as_str(), world.count()), ("a", 0), "no strike, no rollover");
}

/// An answer to our own keep-alive is no use: a connection to a target that nobody needs is closed all the same.
#[test]
fn a_pong_does_not_keep_a_connection_that_nobody_needs() {
    let (mut world, phone) = registered(Setup { transport: Transport::Tcp, ..Setup::default() });
    world.roll();
    world.register(phone);
    for _ in 0..90 {
        world.run_for(10 * SECOND);
        for conn in world.pings.keys().copied().collect::<Vec<_>>() {
            world.core.handle(Event::Net(NetEvent::KeepAlive { conn }), world.now);
        }
    }
    assert_eq!((world.connections("a"), world.connections("b")), (0, 1));
}

#[test]
fn a_lost_connection_is_opened_again_at_once_and_the_pbx_calls_over_it() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let (mut world, phone) = registered(Setup { transport, ..Setup::default() });
        world.run_for(MINUTE);
        let before = world.now;
        world.reset("a");
        world.run_for(SECOND);
        assert_eq!(world.opens.last().map(|(at, _)| *at), Some(before), "at once");
        assert_eq!(world.connections("a"), 1);
        assert_eq!(orphaned(&mut world), 0, "from the same port the PBX finds it again");
        assert_eq!((world.active().as_str(), world.count()), ("a", 0), "no strike");
        let pbx = world.ua_of_target("a");
        let uri = world.contact_at("a", phone);
        world.act(pbx, |ua, now| ua.outside("OPTIONS", &uri, "", "", now));
        world.run_for(SECOND);
        assert_eq!(world.uas[pbx].status(0), 200, "{}", world.ladder.join("\n"));
    }
}

#[test]
fn bindings_whose_connection_came_back_from_another_port_are_orphaned_until_they_register() {
    let setup = Setup { transport: Transport::Tcp, ..Setup::default() };
    let (mut world, phone) = registered(setup);
    let second = world.phone(Transport::Udp);
    world.register(second);
    world.run_for(MINUTE);
    assert_eq!(orphaned(&mut world), 0);
    world.ephemeral = true;
    world.reset("a");
    world.run_for(SECOND);
    assert_eq!(orphaned(&mut world), 2, "the PBX answers a connection that is gone");
    world.register(phone);
    world.run_for(SECOND);
    assert_eq!(orphaned(&mut world), 1);
    world.register(second);
    world.run_for(SECOND);
    assert_eq!(orphaned(&mut world), 0);
    world.roll();
    assert_eq!(orphaned(&mut world), 2, "and after a rollover those left at the old target");
}

#[test]
fn a_dead_target_is_not_hammered_with_connections() {
    let (mut world, _) = registered(Setup { transport: Transport::Tcp, ..Setup::default() });
    world.run_for(MINUTE);
    world.server("a").manner = Manner::Refuse;
    world.opens.clear();
    world.reset("a");
    world.run_for(10 * MINUTE);
    let opened = world.opens.len();
    assert!((10..=17).contains(&opened), "at once, 1 s, 2 s … 60 s: {opened}");
    assert_eq!(orphaned(&mut world), 1);
    assert_eq!(world.count(), 0, "none of it is a strike");
    // One that accepts and hangs up at once is no better.
    world.server("a").manner = Manner::Normal;
    for _ in 0..120 {
        world.run_for(SECOND);
        world.reset("a");
    }
    assert!(world.opens.len() - opened <= 9, "{}", world.opens.len() - opened);
    world.run_for(2 * MINUTE);
    assert_eq!((world.connections("a"), orphaned(&mut world)), (1, 0), "it lives again");
}

#[test]
fn nobody_registered_nobody_waited_for() {
    let mut world = World::new(Setup { transport: Transport::Tcp, ..Setup::default() });
    world.reset("a");
    world.run_for(MINUTE);
    assert!(world.opens.is_empty());
    // A binding that has ended is no reason either.
    let (mut world, _) = registered(Setup { transport: Transport::Tcp, ..Setup::default() });
    world.server("a").manner = Manner::Refuse;
    world.reset("a");
    world.run_for(61 * MINUTE);
    world.opens.clear();
    world.run_for(10 * MINUTE);
    assert!(world.opens.is_empty());
    assert!(world.core.tables().contains(&("targets waited for", 0)));
}

/// A call that was set up over it keeps the old target's connection, however quiet it is.
#[test]
fn the_old_connection_stays_for_the_calls_it_may_carry() {
    let (mut world, phone) = registered(Setup { transport: Transport::Tcp, ..Setup::default() });
    let (caller, callee) = (world.ua_of_phone(phone), world.ua_of_target("a"));
    world.act(caller, |ua, now| ua.outside("INVITE", "sip:201@pbx.example.com", "", "v=0", now));
    world.run_for(5 * SECOND);
    assert_eq!(world.uas[caller].status(0), 200);
    world.roll();
    for _ in 0..3 {
        world.register(phone);
        world.run_for(30 * MINUTE);
    }
    assert_eq!(world.connections("a"), 1);
    world.act(callee, |ua, now| ua.inside(0, "BYE", "", "", now));
    world.run_for(SECOND);
    assert_eq!(world.uas[callee].status(0), 200, "{}", world.ladder.join("\n"));
    world.run_for(240 * MINUTE);
    assert_eq!(world.connections("a"), 0, "four hours after it began");
}

#[test]
fn stun_on_the_sip_port_is_answered_with_the_phones_address() {
    let (mut world, phone) = registered(Setup::default());
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let flow = world.phones[phone].flow();
    world.core.handle(Event::Net(NetEvent::Received { flow, bytes: Bytes::from(request) }), world.now);
    let mut sent = Vec::new();
    while let Some(action) = world.core.poll_action() {
        if let holdline::proxy::Action::Net(holdline::flow::NetCommand::Send { flow: to, bytes }) = action {
            assert_eq!(to, flow);
            sent.push(bytes);
        }
    }
    // 10.1.0.1:5060 under the cookie.
    let expected = [0, 0x20, 0, 8, 0, 1, 0x13 ^ 0x21, 0xc4 ^ 0x12, 0x0a ^ 0x21, 0x01 ^ 0x12, 0xa4, 0x01 ^ 0x42];
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][..8], [1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42]);
    assert_eq!(sent[0][20..], expected);
}

#[test]
fn keep_alives_of_phones_are_taken_without_a_word() {
    let (mut world, phone) = registered(Setup::default());
    let before = world.ladder.len();
    for bytes in [&b"\r\n\r\n"[..], b"\r\n", b"\0\0\0\0", b"\0", b""] {
        world.phone_sends(phone, Bytes::from_static(bytes));
        world.run_for(SECOND);
    }
    assert_eq!(world.ladder.len(), before + 5, "nothing came back");
    assert_eq!(dropped(&world, "empty"), 1);
    assert_eq!(dropped(&world, "not_sip"), 0);
}

#[test]
fn datagrams_beyond_1300_bytes_pass_and_are_counted() {
    let count = |world: &World, side, direction| world.core.facts().large_datagrams(side, direction);
    for (upstream, out) in [(Transport::Udp, 1), (Transport::Tcp, 0)] {
        let (mut world, phone) = registered(Setup { transport: upstream, ..Setup::default() });
        let (caller, callee) = (world.ua_of_phone(phone), world.ua_of_target("a"));
        let body = "x".repeat(1_400);
        world.act(caller, |ua, now| ua.outside("MESSAGE", "sip:201@pbx.example.com", "", &body, now));
        world.run_for(SECOND);
        assert!(world.uas[callee].got[0].request.ends_with(body.as_bytes()));
        assert_eq!(count(&world, Side::Phone, Direction::In), 1);
        assert_eq!(count(&world, Side::Upstream, Direction::Out), out, "only datagrams");
        assert_eq!(count(&world, Side::Phone, Direction::Out), 0);
    }
}

/// A restart forgets connections, not bindings: the way is opened before the first call.
#[test]
fn every_target_past_or_present_may_call_and_its_dialogs_stay_with_it() {
    for transport in Transport::ALL {
        let (mut world, phone) = registered(Setup { transport, ..Setup::default() });
        let (old, callee) = (world.ua_of_target("a"), world.ua_of_phone(phone));
        let uri = world.contact_at("a", phone);
        // The operator takes it out of DNS: after two good answers nobody is there any more.
        world.dns = vec![Ok(records(&["b"]))];
        world.run_for(15 * MINUTE);
        assert_eq!(world.active(), "b");
        assert_eq!(world.core.upstream().targets().len(), 1);
        world.act(old, |ua, now| ua.outside("INVITE", &uri, "", "v=0", now));
        world.run_for(5 * SECOND);
        assert_eq!(world.uas[old].status(0), 200, "{transport}\n{}", world.ladder.join("\n"));
        world.act(callee, |ua, now| ua.inside(0, "BYE", "", "", now));
        world.run_for(SECOND);
        assert_eq!(world.uas[callee].status(0), 200, "{transport}\n{}", world.ladder.join("\n"));
        assert_eq!(world.uas[old].count("BYE"), 1, "{transport}");
        assert!(world.servers[&address("b")].received.iter().all(|(_, bytes)| what(bytes) != "BYE"));
        assert_eq!(header(&world.uas[old].got[0].request, "Route"), None);
    }
}
