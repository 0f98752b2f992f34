//! Requests of the PBX for a handset that another instance registered: the fleet's memory is asked, once and not for long.

use std::time::Duration;

use holdline::fleet::{Command, Found, Stored, Word};
use holdline::flow::Transport;
use holdline::proxy::StoredBinding;

use super::world::{Setup, World, address, registered};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The Contact that another instance gave a UDP handset, and the binding that it wrote.
fn of_another() -> (String, StoredBinding) {
    let (world, phone) = registered(Setup::default());
    let id = world.core.bindings().next().expect("a binding");
    let stored = world.core.export_binding(&id, world.now, 1_000_000).expect("confirmed");
    (world.contact_at("a", phone), stored)
}

/// An instance of a fleet that knows no handset, with the handset's address in its network.
fn newcomer() -> World {
    let mut world = World::new(Setup { instance: Some("new".to_owned()), ..Setup::default() });
    world.phone(Transport::Udp);
    world.hear(Word::Linked);
    world.hear(Word::Read(Stored::Absent, Vec::new()));
    world.run_for(SECOND / 10);
    world.asked.clear();
    world
}

fn ask(world: &mut World, uri: &str, branch: &str) {
    request(world, uri, branch);
    world.run_for(10 * MILLI);
}

fn request(world: &mut World, uri: &str, branch: &str) {
    let request = format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:n@pbx.example.com>;tag=1\r\nTo: <{uri}>\r\nCall-ID: {branch}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    world.target_sends(address("a"), request.into());
}

/// The IDs that the memory was asked for.
fn asked(world: &World) -> Vec<String> {
    let find = |command: &Command| match command {
        Command::Find(id) => Some(id.to_string()),
        _ => None,
    };
    world.asked.iter().filter_map(find).collect()
}

fn found(stored: &StoredBinding) -> Word {
    let value = serde_json::to_vec(stored).expect("JSON");
    Word::Found(Found { id: stored.id.as_str().into(), value, remaining: 120, here: true })
}

fn went(world: &World, rung: &str) -> usize {
    world.ladder.iter().filter(|line| line.contains(rung)).count()
}

#[test]
fn fleet_calls_reach_a_udp_handset_of_another_instance_on_the_same_address() {
    let (uri, stored) = of_another();
    let mut world = newcomer();
    ask(&mut world, &uri, "1");
    // Its repetition, and another request for the same handset, ask nobody again.
    ask(&mut world, &uri, "1");
    ask(&mut world, &uri, "2");
    assert_eq!(asked(&world), [stored.id.as_str()]);
    assert_eq!((went(&world, "holdline→a"), world.phones[0].received.len()), (0, 0), "they wait");
    world.hear(found(&stored));
    world.run_for(10 * MILLI);
    assert_eq!(world.phones[0].received.len(), 2, "{}", world.ladder.join("\n"));
    // From now on it is known here.
    ask(&mut world, &uri, "3");
    assert_eq!((world.phones[0].received.len(), asked(&world).len()), (3, 1));
}

#[test]
fn fleet_calls_to_a_handset_that_only_another_instance_reaches_get_480_at_once() {
    let (uri, stored) = of_another();
    for (stored, here) in [
        (StoredBinding { transport: "tcp".to_owned(), local: ([0, 0, 0, 0], 0).into(), ..stored.clone() }, true),
        (StoredBinding { local: ([192, 0, 2, 99], 5060).into(), ..stored.clone() }, true),
        // As a listener on a wildcard sees it, which has every address of the machine, and not this one.
        (stored.clone(), false),
    ] {
        let mut world = newcomer();
        ask(&mut world, &uri, "1");
        let Word::Found(found) = found(&stored) else { unreachable!() };
        world.hear(Word::Found(Found { here, ..found }));
        world.run_for(MILLI * 5);
        assert_eq!(went(&world, "holdline→a 480"), 1, "{}", world.ladder.join("\n"));
    }
}

#[test]
fn fleet_calls_that_nobody_knows_get_404_after_300_ms_at_the_latest() {
    let (uri, stored) = of_another();
    let nothing = Found { id: stored.id.as_str().into(), value: Vec::new(), remaining: 0, here: false };
    let stranger = StoredBinding { id: "h".to_owned(), ..stored.clone() };
    let outside = StoredBinding { remote: ([198, 18, 0, 7], 5060).into(), ..stored.clone() };
    let word = |stored: &StoredBinding| {
        let value = serde_json::to_vec(stored).expect("JSON");
        Found { value, remaining: 120, here: true, ..nothing.clone() }
    };
    let garbage = Found { value: b"{\"id\":[[[".to_vec(), remaining: 120, ..nothing.clone() };
    let expired = Found { remaining: 0, ..word(&stored) };
    for answer in
        [Some(nothing.clone()), Some(word(&stranger)), Some(word(&outside)), Some(garbage), Some(expired), None]
    {
        let mut world = newcomer();
        ask(&mut world, &uri, "1");
        let shown = format!("{answer:?}");
        if let Some(answer) = answer {
            world.hear(Word::Found(answer));
            world.run_for(MILLI * 5);
        } else {
            world.run_for(280 * MILLI);
            assert_eq!(went(&world, "holdline→a"), 0);
            world.run_for(20 * MILLI);
        }
        assert_eq!(went(&world, "holdline→a 404"), 1, "{shown}: {}", world.ladder.join("\n"));
        assert!(world.phones[0].received.is_empty());
        world.run_for(64 * SECOND);
        world.assert_nothing_in_flight();
    }
    // With the memory away nobody is asked.
    let mut world = newcomer();
    world.hear(Word::Away("gone".into()));
    ask(&mut world, &uri, "1");
    assert_eq!((asked(&world).len(), went(&world, "holdline→a 404")), (0, 1));
    // Nor for what no key of ours has made.
    let mut world = newcomer();
    ask(&mut world, "sip:haaaaaaaaaaaaaaaaaaaaaaaaaa@192.0.2.1:5080", "1");
    assert_eq!((asked(&world).len(), went(&world, "holdline→a 404")), (0, 1));
}

#[test]
fn fleet_calls_that_wait_are_bounded() {
    let (uri, _) = of_another();
    let mut world = newcomer();
    for n in 0..=holdline::proxy::MAX_PARKED {
        request(&mut world, &uri, &n.to_string());
    }
    world.run_for(10 * MILLI);
    assert_eq!(went(&world, "holdline→a 404"), 1, "there is no room for the last one");
    world.run_for(SECOND);
    assert_eq!(went(&world, "holdline→a 404"), holdline::proxy::MAX_PARKED + 1);
    world.run_for(64 * SECOND);
    world.assert_nothing_in_flight();
}

#[test]
fn fleet_calls_that_wait_are_cancelled_with_487() {
    let (uri, stored) = of_another();
    let mut world = newcomer();
    for method in ["INVITE", "CANCEL"] {
        let request = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKc\r\nMax-Forwards: 70\r\n\
             From: <sip:n@pbx.example.com>;tag=1\r\nTo: <{uri}>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:n@198.51.100.10>\r\nContent-Length: 0\r\n\r\n"
        );
        world.target_sends(address("a"), request.into());
        world.run_for(10 * MILLI);
    }
    assert_eq!((went(&world, "holdline→a 200"), went(&world, "holdline→a 487")), (1, 1), "{}", world.ladder.join("\n"));
    world.hear(found(&stored));
    world.run_for(SECOND);
    assert!(world.phones[0].received.is_empty(), "it does not ring");
    world.run_for(64 * SECOND);
    world.assert_nothing_in_flight();
}
