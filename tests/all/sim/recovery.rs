//! A fleet's registrations over time: after a rollover, and after a power cut.

use std::time::{Duration, Instant};

use holdline::flow::{Side, Transport};
use holdline::message::Method;

use super::server::Manner;
use super::world::{Setup, World};

const SECOND: Duration = Duration::from_secs(1);
const FLEET: usize = 1_000;
const INTERVAL: usize = 300;

/// When a phone registers again.
#[derive(Debug, Clone, Copy)]
enum Habit {
    /// When half of what it was granted is over.
    Half,
    /// So many seconds before the end.
    Early(u32),
}

/// Phones that register again in time, all by the same habit: the worst case.
struct Fleet {
    world: World,
    habit: Habit,
    /// When each registers next; `None` while one of its REGISTERs is under way.
    due: Vec<Option<Instant>>,
    /// REGISTERs that reached Holdline, second by second.
    rate: Vec<u64>,
}

impl Fleet {
    fn new(habit: Habit) -> Fleet {
        let mut world = World::new(Setup::default());
        world.quiet = true;
        for _ in 0..FLEET {
            world.phone(Transport::Udp);
        }
        Fleet { due: vec![Some(world.now); FLEET], world, habit, rate: Vec::new() }
    }

    /// The phones boot within three seconds.
    fn at_once(mut self) -> Fleet {
        for phone in 0..FLEET {
            self.due[phone] = Some(self.world.now + Duration::from_millis(3 * phone as u64));
        }
        self
    }

    /// The phones come up evenly over the interval.
    fn spread_evenly(mut self) -> Fleet {
        for phone in 0..FLEET {
            let after = (SECOND * INTERVAL as u32).mul_f64(phone as f64 / FLEET as f64);
            self.due[phone] = Some(self.world.now + after);
        }
        self
    }

    fn registers(&self) -> u64 {
        self.world.core.facts().requests(Side::Phone, Method::Register, Transport::Udp)
    }

    fn run(&mut self, seconds: usize) {
        for _ in 0..seconds {
            let before = self.registers();
            for _ in 0..10 {
                for phone in 0..FLEET {
                    match self.due[phone] {
                        Some(due) if due <= self.world.now => {
                            self.due[phone] = None;
                            self.world.register(phone);
                        }
                        None if self.world.phones[phone].registered() => {
                            let granted = self.world.phones[phone].granted.expect("a 200 grants something");
                            let pause = match self.habit {
                                Habit::Half => SECOND * granted / 2,
                                Habit::Early(lead) => SECOND * (granted - lead),
                            };
                            self.due[phone] = Some(self.world.now + pause);
                        }
                        Some(_) | None => {}
                    }
                }
                self.world.run_for(SECOND / 10);
                self.world.forget_traffic();
            }
            self.rate.push(self.registers() - before);
        }
    }

    /// The mean rate from a second on, and the highest.
    fn rates(&self, from: usize) -> (f64, u64) {
        let rates = &self.rate[from..];
        let mean = rates.iter().sum::<u64>() as f64 / rates.len() as f64;
        (mean, rates.iter().copied().max().unwrap_or(0))
    }

    fn at(&mut self, name: &str) -> usize {
        self.world.core.bindings_at(&super::world::label(name))
    }
}

/// All boot within seconds. When they come back, and ever after, no second has more than twice the mean.
#[test]
fn after_a_power_cut_the_burst_does_not_come_back() {
    for habit in [Habit::Half, Habit::Early(30)] {
        let mut fleet = Fleet::new(habit).at_once();
        fleet.run(4 * INTERVAL);
        let boot: u64 = fleet.rate[..4].iter().sum();
        assert_eq!(boot, 2 * FLEET as u64, "each with a challenge");
        let back = 4 + fleet.rate[4..].iter().take_while(|rate| **rate == 0).count();
        let (mean, most) = fleet.rates(back);
        // At four REGISTERs a second, one more or less is the grain.
        assert!(most as f64 <= 2.0 * mean + 1.0, "{habit:?}: {most} against {mean:.1}\n{:?}", &fleet.rate[back..]);
        assert_eq!(fleet.world.phones.iter().filter(|phone| !phone.registered()).count(), 0);
    }
}

/// The target dies in the middle of a day. Every phone is back within the interval.
#[test]
fn after_a_rollover_the_whole_fleet_is_back_within_the_interval_without_a_rush() {
    for (habit, manner) in
        [(Habit::Half, Manner::Silent), (Habit::Early(30), Manner::Silent), (Habit::Half, Manner::Status(503))]
    {
        let mut fleet = Fleet::new(habit).spread_evenly();
        fleet.run(4 * INTERVAL);
        let (mean, most) = fleet.rates(3 * INTERVAL);
        assert!(most as f64 <= 2.0 * mean, "on a usual day: {most} against {mean:.1}");
        let before: Vec<usize> = fleet.world.phones.iter().map(|phone| phone.finals.len()).collect();
        fleet.world.server("a").manner = manner.clone();
        let died = fleet.rate.len();
        while fleet.at("b") < FLEET && fleet.rate.len() < died + INTERVAL + 15 {
            fleet.run(1);
        }
        assert_eq!(
            (fleet.world.active().as_str(), fleet.at("b")),
            ("b", FLEET),
            "{habit:?}, {manner:?}: not all are back"
        );
        fleet.world.run_for(SECOND);
        for (phone, before) in fleet.world.phones.iter().zip(before) {
            assert!(phone.finals.len() > before && phone.registered(), "{:?}", phone.finals);
            assert!(phone.codes().iter().all(|code| matches!(code, 200 | 401)), "{:?}", phone.codes());
        }
        // Those who waited out the dead target are answered at once, within one attempt's time; from then on there is no
        // rush. Each phone asks twice now, because the new target challenges it.
        let rush = died + 20;
        let (mean, most) = fleet.rates(rush);
        assert!(
            most as f64 <= 2.0 * mean,
            "{habit:?}, {manner:?}: {most} against {mean:.1}\n{:?}",
            &fleet.rate[rush..]
        );
        let waiting = fleet.rate[died..rush].iter().copied().max().unwrap_or(0);
        assert!(waiting as f64 <= 6.0 * mean, "{habit:?}, {manner:?}: {waiting} against {mean:.1}");
    }
}

/// Spread over the interval, each is told another time, and some ask for that the next time. Were it all that the PBX could grant
/// them, they would be told less and less.
#[test]
fn grants_do_not_only_go_down_for_handsets_that_ask_for_what_they_were_granted() {
    let mut world = World::new(Setup::default());
    let phones: Vec<usize> = (0..100).map(|_| world.phone(Transport::Udp)).collect();
    let mut means = Vec::new();
    for round in 0..4 {
        for phone in &phones {
            world.phones[*phone].asks_for_its_grant = true;
            world.register(*phone);
        }
        world.run_for(SECOND);
        let granted: u32 = phones.iter().map(|phone| world.phones[*phone].granted.expect("a 200")).sum();
        means.push(granted / 100);
        for (_, register) in &world.server("a").received {
            let contact = super::world::header(register, "Contact").expect("a Contact");
            assert!(contact.ends_with(";expires=3600"), "round {round}: {contact}");
        }
        world.forget_traffic();
        world.run_for(100 * SECOND);
    }
    assert!(means.windows(2).all(|pair| pair[1] + 20 > pair[0]), "{means:?}");
}

/// The page counts those that nobody serves: not who was asked for a password, but who is asked again and again.
#[test]
fn handsets_in_trouble_are_counted_until_they_are_served() {
    let mut world = World::new(Setup::default());
    let in_trouble = |world: &World| world.core.status(world.now)["registrations"]["in_trouble"].clone();
    let phone = world.phone(Transport::Udp);
    // Of two 401s in a row the second one refuses the password.
    for (status, after) in [(401, 1), (200, 0), (403, 1), (200, 0)] {
        world.server("a").manner = Manner::Status(status);
        world.register(phone);
        world.run_for(SECOND);
        assert_eq!(in_trouble(&world), after, "{status}");
    }
    world.server("a").manner = Manner::Silent;
    world.server("b").manner = Manner::Silent;
    world.register(phone);
    world.run_for(40 * SECOND);
    assert_eq!(in_trouble(&world), 1, "silence");
}
