//! Several cores and the memory that they share, in virtual time: who decides, who follows, who goes alone.
//!
//! The memory is a model of the scripts in `src/cluster`: what they do in one step is one step here. Between it and each instance
//! there is delay, there are partitions, and its messages may be lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use holdline::fleet::{Command, Found, Installed, Record, RejoinError, Stored, Word};
use holdline::flow::Transport;
use holdline::upstream::{Reason, TargetId};
use serde_json::Value;

use super::server::Manner;
use super::world::{Setup, World, label, records};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// What is on its way between an instance and the memory.
enum Way {
    Asked(usize, Command),
    Said(usize, Word),
    Cut(usize),
    Healed(usize),
}

/// The memory, as the scripts leave it.
#[derive(Default)]
struct Memory {
    record: Option<Record>,
    /// By epoch and instance: the last success.
    served: HashMap<(u64, usize), Duration>,
    /// Every move that was stored, restored ones left out.
    moves: Vec<Record>,
}

/// Instances, each with its handsets and its view of the same targets, and their memory.
struct Several {
    worlds: Vec<World>,
    memory: Memory,
    linked: Vec<bool>,
    /// Since the beginning.
    now: Duration,
    /// The longest delay of one way.
    delay: Duration,
    /// The share of messages about moves that are lost.
    loss: f64,
    ways: BTreeMap<u64, (u64, Way)>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    serial: u64,
    chance: u64,
    /// The highest epoch each instance has known.
    epochs: Vec<u64>,
}

impl Several {
    fn new(many: usize, seed: u64) -> Several {
        let world = |n: usize| {
            let mut world = World::new(Setup {
                instance: Some(format!("h{n}")),
                targets: vec!["a", "b", "c"],
                seed: seed + n as u64,
                ..Setup::default()
            });
            world.quiet = true;
            world
        };
        let mut several = Several {
            worlds: (0..many).map(world).collect(),
            memory: Memory::default(),
            linked: vec![false; many],
            now: 10 * MILLI,
            delay: MILLI,
            loss: 0.0,
            ways: BTreeMap::new(),
            queue: BinaryHeap::new(),
            serial: 0,
            chance: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            epochs: vec![0; many],
        };
        for n in 0..many {
            several.put(Duration::ZERO, Way::Healed(n));
        }
        several
    }

    /// Two instances with two handsets each, all registered at `a`.
    fn pair() -> Several {
        let mut several = Several::new(2, 1);
        for world in &mut several.worlds {
            for _ in 0..2 {
                world.phone(Transport::Udp);
            }
        }
        several.run(SECOND);
        several.all_register();
        several.run(2 * SECOND);
        assert!(several.worlds.iter().all(|world| world.phones.iter().all(super::phone::Phone::registered)));
        several
    }

    fn all_register(&mut self) {
        for n in 0..self.worlds.len() {
            for phone in 0..self.worlds[n].phones.len() {
                self.worlds[n].register(phone);
            }
        }
    }

    /// From 0 up to, and without, `below`.
    fn draw(&mut self, below: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % below.max(1)
    }

    fn put(&mut self, after: Duration, way: Way) {
        self.serial += 1;
        self.queue.push(Reverse((self.now + after, self.serial)));
        self.ways.insert(self.serial, (self.serial, way));
    }

    fn put_on_the_way(&mut self, way: Way) {
        let after = MILLI * self.draw(self.delay.as_millis() as u64 + 1) as u32;
        self.put(after, way);
    }

    fn instant(&self, n: usize) -> Instant {
        self.worlds[n].begun + self.now
    }

    /// Lets time pass; whatever happens first in any world happens first.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.collect();
            let next = self.worlds.iter().map(|world| world.next().saturating_duration_since(world.begun)).min();
            let way = self.queue.peek().map(|Reverse((at, _))| *at);
            let wake = [next, way].into_iter().flatten().min().unwrap_or(end);
            if wake > end {
                break;
            }
            self.now = self.now.max(wake);
            for n in 0..self.worlds.len() {
                let now = self.instant(n);
                self.worlds[n].run_until(now);
            }
            self.collect();
            while self.queue.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
                let Some(Reverse((_, serial))) = self.queue.pop() else { break };
                if let Some((_, way)) = self.ways.remove(&serial) {
                    self.arrive(way);
                }
            }
            self.look();
        }
        self.now = end;
        for n in 0..self.worlds.len() {
            let now = self.instant(n);
            self.worlds[n].run_until(now);
        }
        self.collect();
    }

    fn collect(&mut self) {
        for n in 0..self.worlds.len() {
            for command in std::mem::take(&mut self.worlds[n].asked) {
                if self.linked[n] {
                    self.put_on_the_way(Way::Asked(n, command));
                }
            }
        }
    }

    fn arrive(&mut self, way: Way) {
        match way {
            Way::Asked(n, command) if self.linked[n] => {
                let word = self.answer(n, command);
                self.put_on_the_way(Way::Said(n, word));
            }
            Way::Said(n, word) if self.linked[n] => self.worlds[n].hear(word),
            // Lost with the connection.
            Way::Asked(..) | Way::Said(..) => {}
            Way::Cut(n) => {
                if std::mem::replace(&mut self.linked[n], false) {
                    self.ways.retain(|_, (_, way)| !matches!(way, Way::Asked(of, _) | Way::Said(of, _) if *of == n));
                    self.worlds[n].hear(Word::Away("cut".into()));
                }
            }
            Way::Healed(n) => {
                if !std::mem::replace(&mut self.linked[n], true) {
                    self.worlds[n].hear(Word::Linked);
                }
            }
        }
    }

    /// The scripts of `src/cluster`.
    fn answer(&mut self, n: usize, command: Command) -> Word {
        let age = |several: &Several, at: Instant| several.instant(n).saturating_duration_since(at);
        match command {
            Command::Beat { served } => {
                if let Some((epoch, at)) = served {
                    let at = self.now.saturating_sub(age(self, at));
                    self.memory.served.insert((epoch, n), at);
                }
                let stored = self.memory.record.clone().map_or(Stored::Absent, Stored::Record);
                Word::Read(stored, Vec::new())
            }
            Command::Find(id) => Word::Found(Found { id, value: Vec::new(), remaining: 0, here: false }),
            Command::Install { record, unless_served_since } => {
                if let Some(there) = self.memory.record.clone().filter(|there| there.epoch >= record.epoch) {
                    return Word::Installed(Installed::Lost(Stored::Record(there)));
                }
                if let Some(since) = unless_served_since {
                    let since = self.now.saturating_sub(age(self, since));
                    let after = |(key, at): (&(u64, usize), &Duration)| {
                        (key.0 + 1 == record.epoch && key.1 != n && *at >= since).then_some(key.1)
                    };
                    if let Some(other) = self.memory.served.iter().find_map(after) {
                        return Word::Installed(Installed::Spared(format!("h{other}").into()));
                    }
                }
                if self.memory.moves.last().is_none_or(|last| last.epoch < record.epoch) {
                    self.memory.moves.push(record.clone());
                }
                self.memory.record = Some(record.clone());
                for other in 0..self.worlds.len() {
                    let lost = (self.draw(1000) as f64) < 1000.0 * self.loss;
                    if self.linked[other] && !lost {
                        self.put_on_the_way(Way::Said(other, Word::Published(record.clone())));
                    }
                }
                Word::Installed(Installed::Won(record))
            }
        }
    }

    /// What holds at every moment: epochs only grow.
    fn look(&mut self) {
        for n in 0..self.worlds.len() {
            let epoch = self.worlds[n].core.fleet().expect("a fleet").epoch();
            assert!(epoch >= self.epochs[n], "instance {n}: {epoch} after {}", self.epochs[n]);
            self.epochs[n] = epoch;
        }
        let stored: Vec<u64> = self.memory.moves.iter().map(|record| record.epoch).collect();
        assert!(stored.windows(2).all(|two| two[0] < two[1]), "{stored:?}");
    }

    fn cluster(&self, n: usize) -> Value {
        self.worlds[n].core.status(self.instant(n))["cluster"].clone()
    }

    fn standing(&self, n: usize) -> String {
        self.cluster(n)["standing"].as_str().unwrap_or_default().to_owned()
    }

    fn active(&self) -> Vec<String> {
        self.worlds.iter().map(World::active).collect()
    }

    fn reasons(&self, n: usize) -> Vec<Reason> {
        self.worlds[n].rollovers.iter().map(|rollover| rollover.reason).collect()
    }

    fn roll(&mut self, n: usize, target: Option<&str>) {
        let now = self.instant(n);
        self.worlds[n].core.roll(target, now).expect("a target");
        self.worlds[n].perform();
    }

    fn rejoin(&mut self, n: usize) -> Result<(TargetId, TargetId), RejoinError> {
        let now = self.instant(n);
        let rejoined = self.worlds[n].core.rejoin(now);
        self.worlds[n].perform();
        rejoined
    }

    fn behave(&mut self, n: usize, server: &str, manner: Manner) {
        self.worlds[n].server(server).manner = manner;
    }

    /// Nobody waits for an answer, and every final one was a challenge or a success.
    fn assert_served(&self, n: usize, about: &str) {
        for phone in &self.worlds[n].phones {
            assert!(
                phone.codes().iter().all(|code| matches!(code, 200 | 401)),
                "{about}: instance {n}: {:?}",
                phone.finals
            );
            assert!(phone.registered(), "{about}: instance {n}: {:?}", phone.finals);
        }
    }
}

#[test]
fn fleet_both_decide_in_the_same_millisecond_and_move_once() {
    let mut several = Several::pair();
    for n in 0..2 {
        several.behave(n, "a", Manner::Silent);
    }
    several.all_register();
    several.run(20 * SECOND);
    assert_eq!(several.active(), ["b", "b"]);
    assert_eq!(several.memory.moves.len(), 2, "the first record, and one move: {:?}", several.memory.moves);
    let mut reasons = [several.reasons(0), several.reasons(1)];
    reasons.sort_by_key(|reasons| reasons[0] as usize);
    assert_eq!(reasons, [vec![Reason::RegisterFailures], vec![Reason::Cluster]], "who came second followed");
    let followed =
        several.worlds.iter().flat_map(|world| &world.rollovers).find_map(|rollover| rollover.decided.clone());
    let decided = followed.expect("the follower says who decided");
    assert!(decided.by.starts_with('h') && decided.strikes.contains("timeout"), "{decided:?}");
    for n in 0..2 {
        several.assert_served(n, "decided");
    }
}

#[test]
fn fleet_an_instance_that_alone_fails_moves_alone_until_the_next_move() {
    let mut several = Several::pair();
    several.behave(0, "a", Manner::Silent);
    several.worlds[0].register(0);
    for _ in 0..7 {
        several.worlds[1].register(0);
        several.run(2 * SECOND);
    }
    assert_eq!(several.active(), ["b", "a"]);
    assert_eq!((several.standing(0), several.standing(1)), ("diverged".into(), "with".into()));
    assert_eq!(several.cluster(0)["served_meanwhile"], "h1");
    assert_eq!(several.memory.moves.len(), 1, "the fleet stays");
    several.run(600 * SECOND);
    assert_eq!(several.active(), ["b", "a"], "no timer brings it back");

    several.roll(1, Some(&label("c")));
    several.run(SECOND);
    assert_eq!((several.active(), several.standing(0)), (vec!["c".to_owned(), "c".to_owned()], "with".into()));
    assert_eq!(several.reasons(0).last(), Some(&Reason::Cluster));
    assert_eq!(several.memory.moves.last().map(|record| &*record.reason), Some("manual"));
}

#[test]
fn fleet_rejoin_brings_a_diverged_instance_back() {
    let mut several = Several::pair();
    assert!(matches!(several.rejoin(0), Err(RejoinError::With(_))));
    several.behave(0, "a", Manner::Silent);
    several.worlds[0].register(0);
    for _ in 0..7 {
        several.worlds[1].register(0);
        several.run(2 * SECOND);
    }
    several.behave(0, "a", Manner::Normal);
    let (from, to) = several.rejoin(0).expect("it stands apart");
    assert_eq!((&*from, &*to), (&*label("b"), &*label("a")));
    several.run(SECOND);
    assert_eq!((several.active(), several.standing(0)), (vec!["a".to_owned(), "a".to_owned()], "with".into()));
}

#[test]
fn fleet_without_its_memory_decides_at_once_and_the_fleet_hears_of_it() {
    let mut several = Several::pair();
    for n in 0..2 {
        several.put(Duration::ZERO, Way::Cut(n));
        several.behave(n, "a", Manner::Silent);
    }
    several.run(SECOND);
    several.worlds[0].register(0);
    several.run(12 * SECOND + 10 * MILLI);
    assert_eq!(several.active(), ["b", "a"], "at once");
    assert_eq!(several.standing(0), "unheard");
    several.run(5 * SECOND);
    for n in 0..2 {
        several.put(Duration::ZERO, Way::Healed(n));
    }
    several.run(5 * SECOND);
    assert_eq!(several.active(), ["b", "a"], "others may be back later, and say then that they are served");
    several.run(3 * SECOND);
    assert_eq!((several.active(), several.standing(0)), (vec!["b".to_owned(), "b".to_owned()], "with".into()));
    assert_eq!(several.memory.moves.len(), 2);
    several.assert_served(0, "alone");
}

#[test]
fn fleet_waits_for_a_slow_memory_no_longer_than_its_patience() {
    let mut several = Several::pair();
    several.delay = 5 * SECOND;
    several.chance = 1;
    several.behave(0, "a", Manner::Silent);
    several.worlds[0].register(0);
    several.run(12 * SECOND + 350 * MILLI);
    assert_eq!(several.active()[0], "b");
    several.run(SECOND);
    several.assert_served(0, "slow");
    several.delay = MILLI;
    several.run(20 * SECOND);
    assert_eq!((several.active(), several.memory.moves.len()), (vec!["b".to_owned(), "b".to_owned()], 2));
}

#[test]
fn fleet_a_newcomer_begins_where_the_fleet_is_and_that_is_no_rollover() {
    let mut several = Several::new(2, 5);
    several.worlds[1].phone(Transport::Udp);
    several.ways.retain(|_, (_, way)| !matches!(way, Way::Healed(1)));
    several.linked[1] = false;
    several.run(SECOND / 2);
    several.roll(0, Some(&label("b")));
    several.run(SECOND / 4);
    // It has heard nothing yet, and its first handset's REGISTER waits.
    several.worlds[1].register(0);
    several.run(100 * MILLI);
    assert!(several.worlds[1].phones[0].codes().is_empty());
    several.put(Duration::ZERO, Way::Healed(1));
    several.run(SECOND);
    assert_eq!(several.active(), ["b", "b"]);
    assert_eq!((several.reasons(1), several.worlds[1].phones[0].registered()), (vec![], true));
    assert_eq!(several.worlds[1].server("a").registers(), 0, "nothing went to another target");
    several.run(SECOND);
    assert!(several.memory.served.contains_key(&(2, 1)), "its success is the fleet's to know");
}

/// Its DNS says otherwise: it stands apart, serves, and follows when DNS agrees.
#[test]
fn fleet_at_a_target_that_an_instance_does_not_know_leaves_that_one_where_it_is() {
    let mut several = Several::pair();
    for n in 0..2 {
        several.behave(n, "a", Manner::Silent);
    }
    several.worlds[0].dns = vec![Ok(records(&["a", "c"]))];
    several.run(301 * SECOND);
    several.all_register();
    several.run(30 * SECOND);
    // It decided for c, or followed to b, which it does not know: it is at c in any case, and the fleet may be at either.
    assert_eq!(several.active()[0], "c");
    assert!(several.worlds[0].phones.iter().all(super::phone::Phone::registered));
    let fleet = several.memory.record.as_ref().expect("a record").target.clone();
    let standing = if *fleet == *label("c") { "with" } else { "no_such_target" };
    assert_eq!(several.standing(0), standing);
    several.roll(1, Some(&label("b")));
    several.run(SECOND);
    assert_eq!(
        (several.active(), several.standing(0)),
        (vec!["c".to_owned(), "b".to_owned()], "no_such_target".into())
    );
    several.worlds[0].dns = vec![Ok(records(&["a", "b", "c"]))];
    several.run(310 * SECOND);
    assert_eq!((several.active(), several.standing(0)), (vec!["b".to_owned(), "b".to_owned()], "with".into()));
}

#[test]
fn fleet_memory_that_forgot_everything_is_told_again() {
    let mut several = Several::pair();
    several.roll(0, None);
    several.run(SECOND);
    several.memory.record = None;
    several.run(6 * SECOND);
    let record = several.memory.record.clone().expect("written again");
    assert_eq!((record.epoch, &*record.target), (2, &*label("b")));
    assert_eq!((several.active(), several.memory.moves.len()), (vec!["b".to_owned(), "b".to_owned()], 2));
}

/// One cause, in a thousand worlds: a target dies for all, or one instance's way to all targets is cut; the memory is slow, loses
/// messages, is partitioned, or forgets everything. Four tests, so that they run side by side.
#[test]
fn fleet_moves_at_most_once_for_one_cause_and_serves_through_partitions() {
    (1..=250).for_each(cause);
}

#[test]
fn fleet_moves_at_most_once_for_one_cause_the_next_seeds() {
    (251..=500).for_each(cause);
}

#[test]
fn fleet_moves_at_most_once_for_one_cause_more_seeds() {
    (501..=750).for_each(cause);
}

#[test]
fn fleet_moves_at_most_once_for_one_cause_the_last_seeds() {
    (751..=1000).for_each(cause);
}

fn cause(seed: u64) {
    let mut chance = Several::new(1, seed);
    let many = 2 + chance.draw(3) as usize;
    let sick = chance.draw(3) == 0;
    let cuts = if chance.draw(2) == 0 { 0 } else { 2 };
    let mut several = Several::new(many, seed);
    several.delay = MILLI * [1, 20, 200, 700][several.draw(4) as usize];
    several.loss = [0.0, 0.3, 1.0][several.draw(3) as usize];
    let together = several.draw(2) == 0;
    for n in 0..many {
        for _ in 0..3 {
            several.worlds[n].phone(Transport::Udp);
        }
        for _ in 0..several.draw(cuts + 1) {
            let (at, lasts) = (10_000 + several.draw(50_000) as u32, 500 + several.draw(20_000) as u32);
            several.put(MILLI * at, Way::Cut(n));
            several.put(MILLI * (at + lasts), Way::Healed(n));
        }
    }
    let about = format!("seed {seed}: {many} instances, sick {sick}, cuts {cuts}, together {together}");
    several.run(SECOND);
    several.all_register();
    several.run(SECOND);
    let manner = if several.draw(2) == 0 { Manner::Silent } else { Manner::Status(503) };
    let (dies, forgets) = (12 + several.draw(10), several.draw(60));
    // Every handset every 21 s, three at an instance: one each seven seconds.
    for second in 2..66 {
        if second == dies {
            if sick {
                for server in ["a", "b", "c"] {
                    several.behave(0, server, Manner::Silent);
                }
            } else {
                for n in 0..many {
                    several.behave(n, "a", manner.clone());
                }
            }
        }
        if second == forgets {
            several.memory.record = None;
        }
        for n in 0..many {
            let offset = if together { 0 } else { n as u64 * 2 };
            if (second + offset) % 7 == 0 {
                let phone = ((second + offset) / 7 % 3) as usize;
                if !together {
                    let jitter = several.draw(400) as u32;
                    several.run(MILLI * jitter / many as u32);
                }
                several.worlds[n].register(phone);
            }
        }
        several.run(SECOND);
    }
    if sick {
        for server in ["a", "b", "c"] {
            several.behave(0, server, Manner::Normal);
        }
    }
    several.run(40 * SECOND);

    let moved = several.memory.moves.iter().filter(|record| &*record.reason != "start").count();
    assert!(moved <= 1, "{about}: {:?}", several.memory.moves);
    if sick {
        if cuts == 0 {
            assert_eq!(moved, 0, "{about}: one sick instance does not move the fleet: {:?}", several.memory.moves);
        }
    } else {
        assert_eq!(several.active(), vec!["b"; many], "{about}: {:?}", several.memory.moves);
    }
    for n in usize::from(sick)..many {
        assert!(several.worlds[n].rollovers.len() <= 1, "{about}: {:?}", several.worlds[n].rollovers);
        several.assert_served(n, &about);
        assert_eq!(several.standing(n), "with", "{about}");
        let record = several.memory.record.as_ref().expect("a record");
        assert_eq!(label(&several.worlds[n].active()), *record.target, "{about}");
    }
}
