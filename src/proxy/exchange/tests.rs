//! The relays, in tables: what a REGISTER, an INVITE and a plain request wish for, second by second, for what they meet.

use std::time::{Duration, Instant};

use super::branch::State;
use super::outlook::{BranchId, In, Out, Outbox, Outlook, Policy};
use super::plain::{Course, PlainRelay};
use super::register::RegisterRelay;
use super::{Exchange, Registering, Relay};
use crate::flow::{Cause, ConnId, Flow, SocketId, Transport};
use crate::message::{Message, Method};
use crate::proxy::exchange::invite::InviteRelay;
use crate::proxy::flows::addresses::Addresses;
use crate::proxy::site::settings::{Exhausted, Settings};
use crate::transaction::{ClientId, Outgoing, Timers, Transactions};
use crate::upstream::{self, HandsetId, Record, RecordSet, Source, TargetId, Upstream};

/// What a branch meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meets {
    Silence,
    /// At once.
    Refused,
    /// A final answer at once.
    Status(u16),
    /// A final answer after so many seconds.
    Late(u16, u64),
    /// 100 at once, then nothing.
    Provisional,
    /// The connection that was open before is reset under it.
    Reset,
}
use Meets::{Late, Provisional, Refused, Reset, Silence, Status};

/// A relay, with everything that it looks at.
struct Table {
    upstream: Upstream,
    addresses: Addresses,
    policy: Policy,
    relay: Relay,
    transactions: Transactions,
    begun: Instant,
    now: Instant,
    meets: Vec<Meets>,
    due: Vec<(Instant, In)>,
    lines: Vec<String>,
    clients: u32,
}

#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

fn policy() -> Policy {
    Policy::from(&Settings::default())
}

impl Table {
    fn new(targets: &[&str], relay: impl FnOnce(Instant) -> Relay, policy: Policy, meets: &[Meets]) -> Self {
        let now = start();
        let source = Source::Srv { name: "_sip._udp.example.com".into() };
        let mut upstream = Upstream::new(upstream::Settings::new(source, Transport::Udp), None, 1, now);
        if !targets.is_empty() {
            upstream.handle_lookup(Ok(records(targets)), now);
        }
        Table {
            upstream,
            addresses: Addresses::default(),
            policy,
            relay: relay(now),
            transactions: Transactions::with_seed(Timers::default(), 64, [0; 16]),
            begun: now,
            now,
            meets: meets.iter().rev().copied().collect(),
            due: Vec::new(),
            lines: Vec::new(),
            clients: 0,
        }
    }

    fn feed(&mut self, event: In) {
        let mut out = Outbox::new();
        let mut outlook = Outlook {
            upstream: &mut self.upstream,
            addresses: &mut self.addresses,
            transport: Transport::Udp,
            policy: self.policy,
            now: self.now,
        };
        self.relay.handle(event, &mut outlook, &mut out);
        let seconds = (self.now - self.begun).as_secs_f64();
        let words: Vec<String> = out.iter().filter_map(|wish| self.word(wish)).collect();
        if !words.is_empty() {
            self.lines.push(format!("{seconds} {}", words.join(", ")));
        }
        for wish in out {
            if let Out::Launch(branch, hop) = wish {
                self.launch(branch, Some(&hop));
            } else if let Out::Send(branch, _) = wish {
                self.launch(branch, None);
            }
        }
    }

    fn word(&self, wish: &Out) -> Option<String> {
        let target = |branch: &BranchId| self.relay.branches().get(*branch).map(|b| b.target.to_string());
        let short = |branch| target(branch).unwrap_or_default().split('.').next().unwrap_or_default().to_owned();
        Some(match wish {
            Out::Launch(branch, _) => format!("launch {}", short(branch)),
            Out::Send(..) => "send".to_owned(),
            Out::Hush(_) => "hush".to_owned(),
            Out::Suspect(_) | Out::Retried | Out::Ended(_) | Out::Dialog(_) => return None,
            Out::Forget(_) => "forget".to_owned(),
            Out::Cancel(_) => "cancel".to_owned(),
            Out::Hold => "hold".to_owned(),
            Out::Relay(branch) => format!("relay {}", short(branch)),
            Out::Keep => "keep".to_owned(),
            Out::RelayKept => "relay kept".to_owned(),
            Out::Answer(status, ..) => format!("answer {status}"),
            Out::Abandon => "abandon".to_owned(),
            Out::Exhausted => "exhausted".to_owned(),
            Out::NoTarget => "no target".to_owned(),
        })
    }

    /// A branch goes out, and meets what is next.
    fn launch(&mut self, id: BranchId, hop: Option<&crate::flow::Hop>) {
        let client = self.client();
        let flow = Flow::Conn(ConnId(2));
        let meets = self.meets.pop().unwrap_or(Silence);
        let Some(branch) = self.relay.branches_mut().get_mut(id) else { panic!("it is there") };
        if let Some(hop) = hop {
            branch.launched(hop);
        }
        branch.sent(client, flow, meets == Reset);
        let event = match meets {
            Silence => return,
            Refused => In::Lost(id, Cause::Refused.into()),
            Reset => In::Lost(id, Cause::Reset.into()),
            Status(status) => In::Answered(id, status, None),
            Late(status, seconds) => {
                self.due.push((self.now + Duration::from_secs(seconds), In::Answered(id, status, None)));
                return;
            }
            Provisional => In::Provisional(id, 180),
        };
        self.due.push((self.now, event));
    }

    /// A client transaction's number, which nothing else has.
    fn client(&mut self) -> ClientId {
        self.clients += 1;
        let branch = format!("z9hG4bK{}", self.clients);
        let outgoing = Outgoing {
            method: Method::Register,
            method_name: b"REGISTER",
            branch: branch.as_bytes(),
            flow: Flow::Conn(ConnId(2)),
            bytes: bytes::Bytes::new(),
            reliable: true,
        };
        self.transactions.send_request(outgoing, self.now).expect("room")
    }

    /// Plays until nothing more happens within so many seconds.
    fn play(mut self, seconds: u64) -> Vec<String> {
        self.feed(In::Begin);
        self.go_on(seconds);
        self.lines
    }

    fn go_on(&mut self, seconds: u64) {
        let end = self.begun + Duration::from_secs(seconds);
        loop {
            let wake = self.relay.poll_timeout();
            let next = self.due.iter().map(|(at, _)| *at).chain(wake).min().filter(|at| *at <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            if let Some(place) = self.due.iter().position(|(at, _)| *at <= self.now) {
                let (_, event) = self.due.remove(place);
                self.feed(event);
            } else {
                self.feed(In::Timeout);
            }
        }
        self.now = end;
    }
}

fn records(names: &[&str]) -> RecordSet {
    let record = |(place, name): (usize, &&str)| Record {
        priority: place as u16,
        port: 5060,
        host: format!("{name}.example.com"),
        addresses: vec![[192, 0, 2, place as u8 + 1].into()],
        ..Record::default()
    };
    RecordSet::new(names.iter().enumerate().map(record).collect(), Duration::from_secs(300))
}

fn register(now: Instant) -> Relay {
    Relay::Register(RegisterRelay::new(HandsetId(1), false, now + Duration::from_secs(15)))
}

/// What a REGISTER wishes for whose branches meet this, at the targets a, b and c.
fn retry(meets: &[Meets]) -> Vec<String> {
    Table::new(&["a", "b", "c"], register, policy(), meets).play(60)
}

#[test]
fn a_register_is_tried_again_until_the_third_strike_moves_it() {
    for (meets, wishes) in [
        (&[Status(200)][..], &["0 launch a", "0 relay a"][..]),
        (&[Status(401)], &["0 launch a", "0 relay a"]),
        (&[Status(403)], &["0 launch a", "0 relay a"]),
        (&[Silence, Silence, Silence], &["0 launch a", "4 hush, launch a", "8 hush, launch a", "12 hush, launch b"]),
        (
            &[Silence, Silence, Silence, Status(401)],
            &[
                "0 launch a",
                "4 hush, launch a",
                "8 hush, launch a",
                "12 hush, launch b",
                "12 relay b, forget, forget, forget",
            ],
        ),
        (
            &[Status(503), Status(503), Status(503), Status(200)],
            &["0 launch a", "0 keep", "1 launch a", "1 keep", "4 launch a", "4 keep, launch b", "4 relay b"],
        ),
        (
            &[Refused, Refused, Refused, Status(401)],
            &["0 launch a", "1 launch a", "4 launch a", "4 launch b", "4 relay b"],
        ),
        // A challenge is neutral: three 503 in a row move it all the same, and it is the newest answer that is kept.
        (&[Silence, Late(200, 1)], &["0 launch a", "4 hush, launch a", "5 relay a, forget"]),
        // A PBX that answers after nine seconds is alive: its late answer ends the tries.
        (
            &[Late(200, 9), Silence, Silence],
            &["0 launch a", "4 hush, launch a", "8 hush, launch a", "9 relay a, forget, forget"],
        ),
    ] {
        let shown = retry(meets);
        let shown: Vec<&str> = shown.iter().map(String::as_str).take(wishes.len()).collect();
        assert_eq!(shown, wishes, "{meets:?}");
    }
}

#[test]
fn at_the_deadline_the_last_failure_goes_back_and_silence_stays_silence() {
    let lines = retry(&[Status(500), Silence, Silence, Silence, Silence, Silence]);
    assert_eq!(
        lines,
        [
            "0 launch a",
            "0 keep",
            "1 launch a",
            "5 hush, launch a",
            "9 hush, launch b",
            "13 hush, launch b",
            "15 relay kept",
            "17 hush"
        ]
    );
    let lines = retry(&[Silence; 8]);
    // The branch begun last may still bring an answer after the deadline; then nobody waits for one any more.
    assert_eq!(lines[..5], ["0 launch a", "4 hush, launch a", "8 hush, launch a", "12 hush, launch b", "16 hush"]);
    let unavailable = Policy { exhausted: Exhausted::Unavailable, ..policy() };
    let lines = Table::new(&["a"], register, unavailable, &[Silence; 8]).play(60);
    // One target alone: its strikes wrap to itself, and no second cycle begins.
    assert_eq!(lines, ["0 launch a", "4 hush, launch a", "8 hush, launch a", "12 hush", "15 exhausted, answer 503"]);
}

#[test]
fn without_retry_each_transaction_is_one_attempt() {
    let once = Policy { retry: false, ..policy() };
    for (meets, wishes) in [
        (Status(503), vec!["0 launch a", "0 relay a"]),
        (Refused, vec!["0 launch a", "0 exhausted, abandon"]),
        (Silence, vec!["0 launch a", "4 hush"]),
    ] {
        assert_eq!(Table::new(&["a", "b"], register, once, &[meets]).play(14), wishes, "{meets:?}");
    }
}

#[test]
fn one_full_cycle_is_all_that_a_transaction_gets() {
    // Two targets that refuse at once, and a threshold of three: a a a b b b, and then a would be next.
    let lines = Table::new(&["a", "b"], register, policy(), &[Refused; 12]).play(60);
    assert_eq!(
        lines,
        ["0 launch a", "1 launch a", "4 launch a", "4 launch b", "5 launch b", "8 launch b", "8 exhausted, abandon"]
    );
}

#[test]
fn the_same_request_seen_twice_is_no_outcome() {
    for status in [482, 400, 500] {
        let lines = retry(&[Late(200, 6), Status(status)]);
        assert_eq!(lines, ["0 launch a", "4 hush, launch a", "6 relay a"], "{status}");
    }
    // Without an older branch of this epoch, a 500 is a failure as ever.
    assert_eq!(retry(&[Status(500), Status(200)]), ["0 launch a", "0 keep", "1 launch a", "1 relay a"]);
}

#[test]
fn a_provisional_answer_extends_an_attempt_to_the_deadline() {
    assert_eq!(retry(&[Provisional]), ["0 launch a", "15 hush"]);
}

#[test]
fn a_reset_of_a_connection_that_was_open_is_sent_once_more_in_the_same_attempt() {
    assert_eq!(retry(&[Reset, Status(200)]), ["0 launch a", "0 launch a", "0 relay a"]);
    assert_eq!(retry(&[Reset, Reset, Status(200)]), ["0 launch a", "0 launch a", "1 launch a", "1 relay a"]);
}

#[test]
fn a_register_waits_for_the_first_record_set() {
    let mut table = Table::new(&[], register, policy(), &[Status(200)]);
    table.feed(In::Begin);
    table.go_on(8);
    table.upstream.handle_lookup(Ok(records(&["a"])), table.now);
    table.feed(In::TargetsKnown);
    table.go_on(9);
    assert_eq!(table.lines, ["0 hold", "8 launch a", "8 relay a"]);

    let mut table = Table::new(&[], register, policy(), &[]);
    table.feed(In::Begin);
    table.go_on(60);
    assert_eq!(table.lines, ["0 hold", "15 no target, exhausted, abandon"]);
}

#[test]
fn what_pauses_leaves_with_a_rollover_and_ends_with_a_newer_register() {
    let mut table = Table::new(&["a", "b"], register, policy(), &[Status(503), Status(503), Status(200)]);
    table.feed(In::Begin);
    table.go_on(2);
    assert!(table.relay.waits(), "until 4 s");
    table.upstream.roll(None, table.now).expect("b is next");
    table.feed(In::RolledOver);
    table.go_on(3);
    assert_eq!(table.lines[table.lines.len() - 2..], ["2 launch b", "2 relay b"]);

    let mut table = Table::new(&["a", "b"], register, policy(), &[Refused]);
    table.feed(In::Begin);
    table.go_on(0);
    table.feed(In::Superseded);
    assert_eq!(table.lines, ["0 launch a"], "no further try, and nothing to relay");
    assert!(!table.relay.waits() && table.relay.branches().is_quiet());
}

fn invite(course: Course, within: bool) -> impl FnOnce(Instant) -> Relay {
    move |_| Relay::Invite(InviteRelay::new(course, within))
}

/// What an INVITE wishes for whose branches meet this.
fn call(meets: &[Meets]) -> Vec<String> {
    Table::new(&["a", "b", "c"], invite(Course::Active, false), policy(), meets).play(60)
}

#[test]
fn an_invite_that_nobody_answers_goes_once_to_the_next_target() {
    for (meets, wishes) in [
        (&[Status(486)][..], &["0 launch a", "0 relay a"][..]),
        (&[Silence, Status(200)], &["0 launch a", "4 hush, launch b", "4 relay b, cancel"]),
        (&[Silence, Provisional], &["0 launch a", "4 hush, launch b", "4 cancel, relay b"]),
        (&[Refused, Status(200)], &["0 launch a", "0 launch b", "0 relay b"]),
        (&[Refused, Refused], &["0 launch a", "0 launch b", "0 answer 500"]),
        (&[Provisional], &["0 launch a", "0 relay a"]),
        // The first target was only slow: its answer comes after the second one's failure.
        (&[Late(200, 6), Status(503)], &["0 launch a", "4 hush, launch b", "4 relay b, cancel", "6 relay a"]),
        // The newer branch may still do better than the older one's failure.
        (&[Late(503, 5), Late(486, 3)], &["0 launch a", "4 hush, launch b", "5 keep", "7 relay b"]),
    ] {
        assert_eq!(call(meets), wishes, "{meets:?}");
    }
}

#[test]
fn a_request_within_a_dialog_stays_with_its_target_and_ends_if_that_is_left_and_silent() {
    let within = |relay: fn(Course) -> Relay| {
        let course = Course::Target(TargetId::from("a.example.com:5060"), None);
        let mut table = Table::new(&["a", "b"], |_| relay(course), policy(), &[]);
        table.upstream.roll(None, table.now).expect("b is next");
        table.play(60)
    };
    let re_invite = within(|course| Relay::Invite(InviteRelay::new(course, true)));
    assert_eq!(re_invite, ["0 launch a", "4 answer 408, cancel, hush"]);
    let subscribe = within(|course| Relay::Plain(PlainRelay::new(course, Method::Subscribe)));
    assert_eq!(subscribe, ["0 launch a", "4 answer 481, forget"]);
    let bye = within(|course| Relay::Plain(PlainRelay::new(course, Method::Bye)));
    assert_eq!(bye, ["0 launch a", "4 answer 504, forget"]);
}

#[test]
fn a_cancelled_invite_is_not_sent_any_more_or_cancelled_where_it_is() {
    let mut table = Table::new(&["a"], invite(Course::Active, false), policy(), &[Silence]);
    table.feed(In::Begin);
    table.feed(In::Cancelled);
    assert_eq!(table.lines, ["0 launch a", "0 cancel"]);

    // Its connection is still being opened: there is nothing to wait for.
    let mut table = Table::new(&["a"], invite(Course::Active, false), policy(), &[Silence]);
    table.feed(In::Begin);
    if let Some(branch) = table.relay.branches_mut().get_mut(BranchId(0)) {
        branch.state = State::Opening { conn: ConnId(2), until: None };
    }
    table.feed(In::Cancelled);
    assert_eq!(table.lines, ["0 launch a", "0 answer 487"]);
}

#[test]
fn a_plain_request_has_one_branch_and_ends_in_silence() {
    let message = |meets: &[Meets]| {
        let relay = |_| Relay::Plain(PlainRelay::new(Course::Active, Method::Message));
        Table::new(&["a", "b"], relay, policy(), meets).play(60)
    };
    assert_eq!(message(&[Status(202)]), ["0 launch a", "0 relay a"]);
    assert_eq!(message(&[Refused]), ["0 launch a", "0 answer 500"]);
    assert_eq!(message(&[Silence]), ["0 launch a"]);
    let to_handset =
        Flow::Udp { socket: SocketId(0), local: ([10, 0, 0, 1], 5060).into(), remote: ([10, 0, 0, 9], 5060).into() };
    let relay = |_| Relay::Plain(PlainRelay::new(Course::Handset(to_handset, (480, "Gone")), Method::Notify));
    assert_eq!(Table::new(&["a"], relay, policy(), &[Refused]).play(60), ["0 send", "0 answer 480"]);
}

/// glibc keeps freed blocks of up to 1032 bytes at hand; larger ones cost a search and a merge each time.
#[test]
fn what_every_register_allocates_stays_small() {
    for (what, size) in [
        ("exchange", size_of::<Exchange>()),
        ("registering", size_of::<Registering>()),
        ("message", size_of::<Message>()),
    ] {
        assert!(size <= 1_032, "{what}: {size} bytes");
    }
}
