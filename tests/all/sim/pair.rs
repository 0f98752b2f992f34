//! A phone behind Holdline and a PBX, either of whom calls the other, in good weather and in bad.

use std::time::Duration;

use holdline::flow::Transport;

use super::ladder::assert_rungs;
use super::ua::Ua;
use super::world::{Setup, World};

const SECOND: Duration = Duration::from_secs(1);
/// So many seeds each flow is played under.
const SEEDS: u64 = 200;

/// Who calls whom, over what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// The phone calls; else it is called.
    pub outward: bool,
    pub phone: Transport,
    pub upstream: Transport,
}

/// Two agents and the network between them.
pub(super) struct Pair {
    pub world: World,
    pub caller: usize,
    pub callee: usize,
    /// What the caller asks for.
    pub uri: String,
    /// The ladder's length when the phone had registered.
    pub begun: usize,
}

impl Way {
    pub(super) const OUT: Way = Way { outward: true, phone: Transport::Udp, upstream: Transport::Udp };
    pub(super) const IN: Way = Way { outward: false, ..Way::OUT };

    /// Half of the seeds each way; half of them by datagrams all the way, a quarter each with TCP on one side.
    fn of(seed: u64) -> Way {
        let (phone, upstream) = match seed / 2 % 4 {
            0 | 1 => (Transport::Udp, Transport::Udp),
            2 => (Transport::Udp, Transport::Tcp),
            _ => (Transport::Tcp, Transport::Udp),
        };
        Way { outward: seed.is_multiple_of(2), phone, upstream }
    }

    /// Both directions, with every transport on either side.
    pub(super) fn all() -> impl Iterator<Item = Way> {
        [true, false].into_iter().flat_map(|outward| {
            Transport::ALL
                .into_iter()
                .flat_map(move |phone| Transport::ALL.into_iter().map(move |upstream| Way { outward, phone, upstream }))
        })
    }
}

impl Pair {
    /// A registered phone, and the PBX it is registered at. Nothing is lost yet.
    pub(super) fn new(way: Way, seed: u64) -> Pair {
        let mut world = World::new(Setup { transport: way.upstream, seed, ..Setup::default() });
        let phone = world.phone(way.phone);
        world.register(phone);
        world.run_for(SECOND);
        assert!(world.phones[phone].registered());
        let (phone_ua, pbx) = (world.ua_of_phone(phone), world.ua_of_target("a"));
        let (caller, callee) = if way.outward { (phone_ua, pbx) } else { (pbx, phone_ua) };
        let uri = if way.outward { "sip:201@pbx.example.com".to_owned() } else { world.contact_at("a", phone) };
        let begun = world.ladder.len();
        Pair { world, caller, callee, uri, begun }
    }

    pub(super) fn caller(&self) -> &Ua {
        &self.world.uas[self.caller]
    }

    pub(super) fn callee(&self) -> &Ua {
        &self.world.uas[self.callee]
    }

    pub(super) fn callee_mut(&mut self) -> &mut Ua {
        &mut self.world.uas[self.callee]
    }

    /// The caller asks for something outside a dialog. The number of the request.
    pub(super) fn ask(&mut self, method: &str, extra: &str, body: &str) -> usize {
        let uri = self.uri.clone();
        self.world.act(self.caller, |ua, now| ua.outside(method, &uri, extra, body, now));
        self.caller().asked.len() - 1
    }

    /// One end asks for something in its first dialog. The number of the request.
    pub(super) fn ask_inside(&mut self, who: usize, method: &str, extra: &str, body: &str) -> usize {
        self.ask_in(who, 0, method, extra, body)
    }

    pub(super) fn ask_in(&mut self, who: usize, dialog: usize, method: &str, extra: &str, body: &str) -> usize {
        self.world.act(who, |ua, now| ua.inside(dialog, method, extra, body, now));
        self.world.uas[who].asked.len() - 1
    }

    /// Waits for the final answer of a request.
    pub(super) fn wait(&mut self, who: usize, asked: usize) -> u16 {
        let what = format!("an answer to {}", self.world.uas[who].asked[asked].method);
        self.world.run_to(240 * SECOND, &what, |world| {
            let asked = &world.uas[who].asked[asked];
            !asked.finals.is_empty() || asked.timed_out
        });
        self.world.uas[who].status(asked)
    }

    /// Waits until a condition of one end holds.
    pub(super) fn wait_for(&mut self, who: usize, what: &str, done: impl Fn(&Ua) -> bool) {
        self.world.run_to(240 * SECOND, what, |world| done(&world.uas[who]));
    }

    /// A call up to the ACK. The number of the INVITE.
    pub(super) fn call(&mut self) -> usize {
        let invite = self.ask("INVITE", "", "v=0");
        let (caller, callee) = (self.caller, self.callee);
        assert_eq!(self.wait(caller, invite), 200, "{}", self.ladder());
        self.wait_for(callee, "the ACK", |ua| ua.got.iter().any(|got| got.ack.is_some()));
        invite
    }

    /// One end hangs up.
    pub(super) fn hang_up(&mut self, who: usize) {
        let bye = self.ask_inside(who, "BYE", "", "");
        let status = self.wait(who, bye);
        // Whom the phone's BYE does not reach within four seconds, and who was left, counts as dead.
        let given_up = status == 504 && self.world.loss > 0.0 && self.world.active() != "a";
        assert!(status == 200 || given_up, "{status}\n{}", self.ladder());
    }

    pub(super) fn ladder(&self) -> String {
        self.world.ladder[self.begun..].join("\n")
    }

    /// The rungs since the phone registered, without their times.
    pub(super) fn steps(&self) -> Vec<&str> {
        self.world.ladder[self.begun..].iter().map(|rung| &rung[10..]).collect()
    }

    /// Since the phone registered, the network must have carried exactly these messages at these times.
    #[track_caller]
    pub(super) fn assert_ladder(&self, expected: &str) {
        assert_rungs(&self.world.ladder[self.begun..], expected);
    }

    /// Time passes until every timer has run: each request got exactly one final answer, each answer its ACK, nobody got what
    /// he could make nothing of, and Holdline has forgotten it all.
    pub(super) fn end(&mut self) {
        self.world.run_for(400 * SECOND);
        for ua in &self.world.uas {
            assert_eq!(ua.surprises, [""; 0], "{:?}\n{}", ua.place, self.ladder());
            for asked in &ua.asked {
                assert_eq!(asked.finals.len(), 1, "{:?} {asked:?}\n{}", ua.place, self.ladder());
            }
            for got in ua.got.iter().filter(|got| got.method == "INVITE" && got.status >= Some(200)) {
                assert!(got.ack.is_some(), "{:?} {got:?}\n{}", ua.place, self.ladder());
            }
        }
        self.world.assert_nothing_in_flight();
    }
}

/// Plays a flow in good weather over every pair of transports, then with a tenth of the datagrams lost and a tenth doubled,
/// under many seeds.
pub(super) fn play(flow: impl Fn(&mut Pair)) {
    for way in Way::all() {
        let mut pair = Pair::new(way, 1);
        flow(&mut pair);
        pair.end();
    }
    for seed in 0..SEEDS {
        play_in_bad_weather(&flow, Way::of(seed), seed);
    }
}

/// As [`play`], in one direction only.
pub(super) fn play_one_way(outward: bool, flow: impl Fn(&mut Pair)) {
    for way in Way::all().filter(|way| way.outward == outward) {
        let mut pair = Pair::new(way, 1);
        flow(&mut pair);
        pair.end();
    }
    for seed in 0..SEEDS {
        play_in_bad_weather(&flow, Way { outward, ..Way::of(seed) }, seed);
    }
}

fn play_in_bad_weather(flow: &impl Fn(&mut Pair), way: Way, seed: u64) {
    let mut pair = Pair::new(way, seed);
    (pair.world.loss, pair.world.duplication) = (0.1, 0.1);
    flow(&mut pair);
    pair.end();
}
