//! The core finishes what it begins: what one event brings about happens in that instant, not when some timer fires later.

use std::time::Duration;

use holdline::flow::Transport;

use super::server::Manner;
use super::world::{Setup, World, address, what};

const SECOND: Duration = Duration::from_secs(1);

/// Handset 0 has failed twice and waits its pace of three seconds when handset 1 meets the third strike.
fn a_register_that_waits_its_pace_leaves_with_the_rollover(transport: Transport, open: bool) {
    let case = format!("{transport}, the next target's connection {}", if open { "open" } else { "closed" });
    let mut world = World::new(Setup { transport, ..Setup::default() });
    let (waiting, striking) = (world.phone(Transport::Udp), world.phone(Transport::Udp));
    if open {
        world.roll();
        for handset in [waiting, striking] {
            world.register(handset);
            world.run_for(SECOND);
            assert!(world.phones[handset].registered(), "{case}");
        }
        world.roll();
        world.server("b").forget();
    }
    world.server("a").manner = Manner::Status(503);
    world.register(waiting);
    world.run_for(Duration::from_millis(1_600));
    assert_eq!(world.count(), 2, "{case}: {}", world.ladder.join("\n"));
    world.register(striking);
    let before = world.opens.len();
    world.run_to(SECOND, "the third strike", |world| world.active() == "b");
    let rolled = world.now;
    let opened = world.opens[before..].iter().filter(|(at, to)| *at == rolled && *to == address("b")).count();
    assert_eq!(opened, usize::from(!open), "{case}: a connection is asked for in the same instant");
    world.run_for(SECOND);
    let latency = world.latency;
    let arrived: Vec<Duration> = (world.server("b").received.iter())
        .filter(|(_, bytes)| what(bytes) == "REGISTER")
        .map(|(at, _)| *at - rolled)
        .collect();
    // Over the wire; before that the connection, where it is not there yet.
    let due = latency * if open { 1 } else { 2 };
    assert_eq!(
        arrived.iter().filter(|after| **after == due).count(),
        2,
        "{case}: {arrived:?}\n{}",
        world.ladder.join("\n")
    );
    assert_eq!(world.count(), 0, "{case}");
}

#[test]
fn a_register_that_waits_its_pace_leaves_in_the_instant_of_the_rollover() {
    for transport in Transport::ALL {
        for open in [true, false] {
            a_register_that_waits_its_pace_leaves_with_the_rollover(transport, open);
        }
    }
}

#[test]
fn a_next_target_that_takes_three_seconds_to_answer_gets_no_false_strike() {
    for transport in Transport::ALL {
        let mut world = World::new(Setup { transport, ..Setup::default() });
        let (waiting, striking) = (world.phone(Transport::Udp), world.phone(Transport::Udp));
        world.server("a").manner = Manner::Status(503);
        world.server("b").manner = Manner::Late(3 * SECOND);
        world.register(waiting);
        world.run_for(Duration::from_millis(1_600));
        world.register(striking);
        world.run_for(12 * SECOND);
        assert_eq!((world.active().as_str(), world.count()), ("b", 0), "{transport}: {}", world.ladder.join("\n"));
        assert_eq!(world.core.facts().all_rollovers(), 1, "{transport}");
    }
}
