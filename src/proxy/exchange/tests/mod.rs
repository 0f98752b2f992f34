//! The relays, in tables: what a REGISTER, an INVITE and a plain request wish for, second by second, for what they meet.

mod calls;
mod register;

use std::time::{Duration, Instant};

use super::branch::State;
use super::outlook::{BranchId, In, Out, Outbox, Outlook, Policy, Reason};
use super::plain::{Course, PlainRelay};
use super::{Exchange, Registering, Relay};
use crate::flow::{Cause, ConnId, Flow, SocketId, Transport};
use crate::message::{Message, Method};
use crate::proxy::exchange::invite::InviteRelay;
use crate::proxy::exchange::register::RegisterRelay;
use crate::proxy::flows::addresses::Addresses;
use crate::proxy::site::settings::{Exhausted, Settings};
use crate::transaction::{ClientId, Outgoing, Timers, Transactions};
use crate::upstream::{self, HandsetId, Record, RecordSet, Source, SourceId, Standing, TargetId, Upstream, Witness};

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
            Out::Suspect(..) | Out::Retried | Out::Ended(..) | Out::Dialog(_) => return None,
            Out::Forget(_) => "forget".to_owned(),
            Out::Cancel(_, Reason::Sender) => "cancel as asked".to_owned(),
            Out::Cancel(_, Reason::Status(status)) => format!("cancel for {status}"),
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
        let flow = Flow::Conn(ConnId::Dialled(1));
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
            flow: Flow::Conn(ConnId::Dialled(1)),
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
