//! What fifty handsets see of a dead primary: nothing.

use std::time::Duration;

use holdline::flow::Transport;
use holdline::proxy::Settings;

use super::server::Manner;
use super::world::{Setup, World};

const SECOND: Duration = Duration::from_secs(1);

/// Fifty registered phones with this patience, refreshing over a minute while the primary behaves so.
fn fleet(manner: &Manner, transport: Transport, patience: Duration, seed: u64) -> World {
    let mut world = World::new(Setup { transport, seed, ..Setup::default() });
    let phones: Vec<usize> =
        (0..50).map(|n| world.phone(if n % 5 == 4 { Transport::Tcp } else { Transport::Udp })).collect();
    for phone in &phones {
        world.phones[*phone].patience = patience;
        world.register(*phone);
    }
    world.run_for(5 * SECOND);
    assert!(world.phones.iter().all(super::phone::Phone::registered));
    world.server("a").manner = manner.clone();
    for phone in phones {
        world.register(phone);
        world.run_for(Duration::from_millis(1_200));
    }
    world.run_for(60 * SECOND);
    world
}

fn assert_unnoticed(world: &World, what: &str) {
    assert_eq!(world.active(), "b", "{what}");
    for phone in &world.phones {
        let context = format!("{what}: phone {} {:?}", phone.index, phone.finals);
        assert!(phone.codes().iter().all(|code| matches!(code, 200 | 401)), "{context}");
        assert_eq!(phone.timer_f, 0, "{context}");
        assert!(phone.registered(), "{context}");
        assert!(phone.surprises.is_empty(), "{context} {:?}", phone.surprises);
    }
}

fn slowest(world: &World) -> Duration {
    world.phones.iter().flat_map(|phone| phone.finals.iter().map(|(_, took)| *took)).max().unwrap_or_default()
}

#[test]
fn a_black_holed_primary_goes_unnoticed_by_phones_that_wait_32_and_16_seconds() {
    for transport in Transport::ALL {
        for patience in [32, 16] {
            let world = fleet(&Manner::Silent, transport, Duration::from_secs(patience), 3);
            assert_unnoticed(&world, &format!("silence over {transport}, {patience} s phones"));
            assert!(slowest(&world) < Duration::from_millis(15_500), "{:?}", slowest(&world));
        }
    }
}

#[test]
fn a_refusing_primary_adds_less_than_five_seconds() {
    for transport in Transport::ALL {
        let world = fleet(&Manner::Refuse, transport, Duration::from_secs(16), 4);
        assert_unnoticed(&world, &format!("refusal over {transport}"));
        assert!(slowest(&world) < 5 * SECOND, "{transport}: {:?}", slowest(&world));
    }
}

#[test]
fn a_primary_that_answers_503_to_everything_goes_unnoticed() {
    for transport in Transport::ALL {
        let world = fleet(&Manner::Status(503), transport, Duration::from_secs(16), 5);
        assert_unnoticed(&world, &format!("503 over {transport}"));
        assert!(slowest(&world) < 5 * SECOND, "{transport}: {:?}", slowest(&world));
    }
}

/// The default serves 16 s phones and longer. A phone that gives up after 7.5 s and is caught by the very first strikes
/// sees one time-out of its own, tries again on its short timer, and is answered then; no error, no lost registration.
#[test]
fn a_phone_that_waits_seven_and_a_half_seconds_sees_a_time_out_of_its_own_and_then_a_registration() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.phones[phone].patience = Duration::from_millis(7_500);
    world.register(phone);
    world.run_for(SECOND);
    world.server("a").manner = Manner::Silent;
    world.register(phone);
    world.run_for(10 * SECOND);
    assert_eq!(world.phones[phone].timer_f, 1);
    world.register(phone);
    world.run_for(10 * SECOND);
    assert!(world.phones[phone].registered(), "{:?}\n{}", world.phones[phone].finals, world.ladder.join("\n"));
    assert_eq!(world.active(), "b");
}

#[test]
fn after_a_rollover_the_new_servers_challenge_goes_to_the_phone_untouched() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    world.server("a").manner = Manner::Refuse;
    world.register(phone);
    world.run_for(10 * SECOND);
    assert_eq!(world.phones[phone].codes(), [401, 200, 401, 200]);
    assert_eq!(world.server("b").registers(), 2, "one with a's nonce, one with b's: no loop");
}

#[test]
fn new_settings_hold_for_what_begins_after_them() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    world.reload(Settings { attempt_timeout: SECOND, register_interval: Some(90 * SECOND), ..Settings::default() });
    world.run_for(Duration::from_millis(2_900));
    assert_eq!(world.count(), 0, "the attempt under way has its four seconds");
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.count(), 1);
    world.run_for(SECOND);
    assert_eq!((world.count(), world.active().as_str()), (2, "a"), "the next ones have one");
    world.run_for(SECOND);
    assert_eq!(world.active(), "b");
    world.run_for(SECOND);
    assert!(world.phones[phone].registered());
}
