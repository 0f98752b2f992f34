//! Calls from both sides in any order: INVITE, CANCEL, ACK, BYE, answers early, late and twice, lost connections, dead targets
//! and rollovers, with loss and duplication. Nothing panics, no request gets two final answers, and when it is quiet again
//! nothing is left.

use std::time::Duration;

use holdline::flow::Transport;
use proptest::collection::vec;
use proptest::prelude::*;

use super::server::Manner;
use super::ua::{Manner as Answering, Ua};
use super::world::{Setup, World, header};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// One thing that happens. Every number is taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody calls: an agent, by a method.
    Ask(u8, u8),
    /// An agent cancels one of its INVITEs, in whatever state it is.
    Cancel(u8, u8),
    /// An agent asks inside one of its dialogs.
    Inside(u8, u8, u8),
    /// An agent answers one of the requests it got, also one that it has answered.
    Answer(u8, u8, u16),
    /// How an agent treats INVITEs from now on: rings, answers after so many tenths of a second, with this.
    Manner(u8, bool, Option<(u8, u16)>),
    /// How a target is from now on.
    Target(bool, u8),
    /// A phone registers.
    Register(u8),
    /// A target's connections are reset; a phone's connection is gone.
    Reset(bool),
    PhoneGone(u8),
    Roll,
    /// So many milliseconds pass.
    Wait(u16),
}

const METHODS: [&str; 6] = ["INVITE", "INVITE", "INVITE", "SUBSCRIBE", "MESSAGE", "NOTIFY"];
const INSIDE: [&str; 6] = ["BYE", "INVITE", "UPDATE", "INFO", "SUBSCRIBE", "NOTIFY"];

struct Stage {
    world: World,
    /// Two phones, then the two targets.
    agents: Vec<usize>,
    /// A phone's connection was lost, and with it perhaps an answer.
    lost: bool,
    /// A target did not listen for a while, or lost its connections.
    deaf: bool,
}

fn play(steps: &[Step], choice: u8) {
    let upstream = Transport::ALL[usize::from(choice) % 3];
    let mut world = World::new(Setup { transport: upstream, seed: u64::from(choice), ..Setup::default() });
    let phones = [world.phone(Transport::Udp), world.phone(Transport::Tcp)];
    for phone in phones {
        world.register(phone);
    }
    world.run_for(SECOND);
    let mut agents: Vec<usize> = phones.iter().map(|phone| world.ua_of_phone(*phone)).collect();
    agents.extend(["a", "b"].map(|name| world.ua_of_target(name)));
    if choice & 4 != 0 {
        (world.loss, world.duplication) = (0.1, 0.1);
    }
    let mut stage = Stage { world, agents, lost: false, deaf: false };
    for step in steps {
        stage.step(step);
    }
    stage.ends_quietly();
}

impl Stage {
    fn agent(&self, who: u8) -> usize {
        self.agents[usize::from(who) % self.agents.len()]
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ask(who, method) => {
                let (agent, phone) = (self.agent(*who), usize::from(who / 4) % 2);
                let method = METHODS[usize::from(*method) % METHODS.len()];
                let outward = usize::from(*who) % self.agents.len() < 2;
                let uri =
                    if outward { "sip:201@pbx.example.com".to_owned() } else { self.world.contact_at("a", phone) };
                self.world.act(agent, |ua, now| ua.outside(method, &uri, "Expires: 60\r\n", "v=0", now));
            }
            Step::Cancel(who, which) => {
                let agent = self.agent(*who);
                // Each once: a second CANCEL a minute later would be another request, with another answer.
                let asked = &self.ua(agent).asked;
                let cancelled = |via: Option<String>| {
                    asked.iter().any(|other| other.method == "CANCEL" && header(&other.bytes, "Via") == via)
                };
                let open = |n: &usize| asked[*n].method == "INVITE" && !cancelled(header(&asked[*n].bytes, "Via"));
                let invites: Vec<usize> = (0..asked.len()).filter(open).collect();
                if let Some(index) = usize::from(*which).checked_rem(invites.len()) {
                    self.world.act(agent, |ua, now| ua.cancel(invites[index], now));
                }
            }
            Step::Inside(who, which, method) => {
                let agent = self.agent(*who);
                if let Some(dialog) = usize::from(*which).checked_rem(self.ua(agent).dialogs.len()) {
                    let method = INSIDE[usize::from(*method) % INSIDE.len()];
                    self.world.act(agent, |ua, now| ua.inside(dialog, method, "Expires: 60\r\n", "", now));
                }
            }
            Step::Answer(who, which, status) => {
                let agent = self.agent(*who);
                if let Some(got) = usize::from(*which).checked_rem(self.ua(agent).got.len()) {
                    self.world.act(agent, |ua, now| ua.respond(got, *status, now));
                }
            }
            Step::Manner(who, rings, answers) => {
                let agent = self.agent(*who);
                self.world.uas[agent].manner = Answering {
                    rings: rings.then_some(100 * MILLI),
                    answers: answers.map(|(tenths, status)| (u32::from(tenths) * 100 * MILLI, status)),
                    ..Answering::default()
                };
            }
            Step::Target(first, how) => {
                self.deaf |= how % 4 > 1;
                let manner = match how % 4 {
                    0 | 1 => Manner::Normal,
                    2 => Manner::Silent,
                    _ => Manner::Refuse,
                };
                self.world.server(if *first { "a" } else { "b" }).manner = manner;
            }
            Step::Register(phone) => self.world.register(usize::from(phone % 2)),
            Step::Reset(first) => {
                self.deaf = true;
                self.world.reset(if *first { "a" } else { "b" });
            }
            Step::PhoneGone(again) => {
                self.lost = true;
                self.world.reconnect(1);
                if again % 2 == 0 {
                    self.world.register(1);
                }
            }
            Step::Roll => {
                self.world.roll();
            }
            Step::Wait(time) => self.world.run_for(u32::from(*time) * MILLI),
        }
        // Whatever was sent is under way: some of it arrives before the next step.
        self.world.run_for(2 * MILLI);
    }

    fn ua(&self, agent: usize) -> &Ua {
        &self.world.uas[agent]
    }

    fn ends_quietly(&mut self) {
        // What still rings after five minutes is over: Timer C, and 64·T1 for its CANCEL.
        self.world.run_for(900 * SECOND);
        for (place, agent) in self.agents.iter().enumerate() {
            // A phone that reconnects repeats its 2xx on a connection that Holdline never sent the INVITE on.
            let heard_all = !self.lost && (place < 2 || !self.deaf);
            for asked in &self.ua(*agent).asked {
                let failures = asked.finals.iter().filter(|(status, _)| *status >= 300).count();
                let context = || format!("{asked:?}\n{}", self.world.ladder.join("\n"));
                assert!(failures <= 1, "two failures: {}", context());
                if asked.method != "INVITE" {
                    assert!(asked.finals.len() <= 1, "two answers: {}", context());
                } else if heard_all {
                    assert!(!asked.finals.is_empty(), "an INVITE without an answer: {}", context());
                }
            }
        }
        self.world.assert_nothing_in_flight();
    }
}

fn step() -> impl Strategy<Value = Step> {
    let n = any::<u8>;
    let status = || {
        prop_oneof![
            3 => Just(200_u16),
            4 => prop::sample::select(vec![100_u16, 180, 183, 302, 401, 404, 408, 480, 481, 486, 487, 500, 503, 603]),
        ]
    };
    let answers = || prop::option::weighted(0.8, (0..60_u8, status().prop_filter("final", |status| *status >= 200)));
    prop_oneof![
        8 => (n(), n()).prop_map(|(who, method)| Step::Ask(who, method)),
        4 => (n(), n()).prop_map(|(who, which)| Step::Cancel(who, which)),
        4 => (n(), n(), n()).prop_map(|(who, which, method)| Step::Inside(who, which, method)),
        4 => (n(), n(), status()).prop_map(|(who, which, status)| Step::Answer(who, which, status)),
        4 => (n(), any::<bool>(), answers()).prop_map(|(who, rings, answers)| Step::Manner(who, rings, answers)),
        2 => (any::<bool>(), n()).prop_map(|(first, how)| Step::Target(first, how)),
        1 => n().prop_map(Step::Register),
        1 => any::<bool>().prop_map(Step::Reset),
        1 => n().prop_map(Step::PhoneGone),
        1 => Just(Step::Roll),
        8 => (0..8_000_u16).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn calls_in_any_order_end_in_one_answer_each_and_leave_nothing(steps in vec(step(), 1..60), choice in any::<u8>()) {
        play(&steps, choice);
    }
}
