//! A target of several addresses (RFC 3263 §4.3): a dead one among them is passed over, whichever way it is dead.

use std::time::Duration;

use holdline::flow::Transport;
use holdline::upstream::{Record, RecordSet};

use super::server::Manner;
use super::world::{Setup, World, address};

/// A world with these targets, each at the addresses of these servers, in order of priority.
fn world(transport: Transport, targets: &[&[&'static str]]) -> World {
    let setup = Setup { transport, targets: targets.concat(), ..Setup::default() };
    let mut world = World::without_dns(setup);
    let records = targets.iter().enumerate().map(|(index, servers)| Record {
        priority: index as u16,
        weight: 0,
        port: 5060,
        host: format!("{}.pbx.example.com", servers[0]),
        addresses: servers.iter().map(|name| address(name).ip()).collect(),
    });
    world.dns = vec![Ok(RecordSet::new(records.collect(), Duration::from_secs(300)))];
    world.run_to(Duration::from_secs(30), "a target", |world| world.core.ready());
    world
}

#[test]
fn a_silent_address_costs_one_attempt_and_the_next_one_serves() {
    for transport in Transport::ALL {
        let mut world = world(transport, &[&["a", "b"]]);
        world.server("a").manner = Manner::Silent;
        let phone = world.phone(Transport::Udp);
        world.register(phone);
        world.run_for(Duration::from_secs(6));
        let ladder = world.ladder.join("\n");
        assert!(world.phones[phone].registered(), "{transport}\n{ladder}");
        assert_eq!(
            (world.count(), world.core.facts().all_rollovers()),
            (0, 0),
            "{transport}: a success clears the one strike\n{ladder}"
        );

        // Whoever comes next does not try the silent one again.
        let other = world.phone(Transport::Udp);
        world.register(other);
        world.run_for(Duration::from_secs(1));
        assert!(world.phones[other].registered(), "{transport}\n{}", world.ladder.join("\n"));
        assert_eq!(world.server("a").registers(), 1, "{transport}");
    }
}

#[test]
fn an_address_that_refuses_costs_nothing() {
    for (transport, manner) in [
        (Transport::Udp, Manner::Refuse),
        (Transport::Tcp, Manner::Refuse),
        (Transport::Tcp, Manner::Reset),
        (Transport::Tls, Manner::TlsFailure),
        (Transport::Tcp, Manner::NoConnect),
    ] {
        let mut world = world(transport, &[&["a", "b"]]);
        world.server("a").manner = manner.clone();
        let phone = world.phone(Transport::Udp);
        world.register(phone);
        world.run_for(Duration::from_secs(4));
        let ladder = world.ladder.join("\n");
        assert!(world.phones[phone].registered(), "{transport} {manner:?}\n{ladder}");
        assert_eq!((world.count(), world.core.facts().all_rollovers()), (0, 0), "{transport} {manner:?}\n{ladder}");
    }
}

#[test]
fn a_target_all_of_whose_addresses_are_silent_is_left_after_three() {
    let mut world = world(Transport::Udp, &[&["a", "b"], &["c"]]);
    for name in ["a", "b"] {
        world.server(name).manner = Manner::Silent;
    }
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(Duration::from_secs(15));
    assert!(world.phones[phone].registered(), "{}", world.ladder.join("\n"));
    assert_eq!((world.active().as_str(), world.core.facts().all_rollovers()), ("c", 1), "{}", world.ladder.join("\n"));
    assert_eq!([world.server("a").registers(), world.server("b").registers()], [2, 1], "in turn");
}
