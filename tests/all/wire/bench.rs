//! The core on the bench: one event in, everything it sends out. Time is a number, and nobody waits.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdline::flow::{Cause, ConnId, Flow, Hop, NetCommand, NetEvent, Side, Transport};
use holdline::proxy::{Action, Core, Event, Settings};
use holdline::upstream::{LookupFailure, RecordSet};

use crate::support::simulated::{self, Beginning, PHONE_TCP, PHONE_UDP, UPSTREAM};

/// The domain of the targets.
const DOMAIN: &str = "example.com";

/// What comes of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opens {
    AtOnce,
    Never(Cause),
    /// The test says when, with [`Bench::opened`] or [`Bench::open_failed`].
    Later,
}

/// A bench with two phone-side listeners (UDP, TCP) and one upstream socket.
pub(crate) struct Bench {
    pub core: Core,
    pub now: Instant,
    pub opens: Opens,
    /// Everything sent since it was last taken, CRLFs left out.
    pub sent: Vec<(Flow, Bytes)>,
    /// Connections to the upstream, by number.
    pub conns: HashMap<ConnId, Hop>,
    /// Connections asked for and not there yet.
    pub pending: Vec<(ConnId, Hop)>,
    pub lookups: usize,
    pub listen: SocketAddr,
    pub bound: SocketAddr,
}

/// A target called `a`, `b` …, at a documentation address.
pub(crate) fn records(names: &[&str], six: bool) -> RecordSet {
    simulated::records(DOMAIN, names.iter().map(|name| (*name, ip(name, six))), Duration::from_secs(3600))
}

fn ip(name: &str, six: bool) -> IpAddr {
    let last = name.as_bytes()[0];
    if six { IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]) } else { IpAddr::from([198, 51, 100, last]) }
}

impl Bench {
    /// DNS answered with the targets `a` and `b`, and nothing has happened yet.
    pub(crate) fn new(transport: Transport, six: bool, proxy: Settings) -> Bench {
        let mut bench = Bench::without_dns(transport, six, proxy);
        bench.handle(Event::Lookup(Ok(records(&["a", "b"], six))));
        bench
    }

    #[allow(clippy::disallowed_methods)]
    pub(crate) fn without_dns(transport: Transport, six: bool, proxy: Settings) -> Bench {
        let now = Instant::now();
        let (listen, bound) =
            if six { ("[fd00::1]:5060", "[2001:db8::1]:5080") } else { ("10.0.0.1:5060", "192.0.2.1:5080") };
        let (listen, bound): (SocketAddr, SocketAddr) =
            (listen.parse().expect("literal"), bound.parse().expect("literal"));
        let upstream = simulated::srv(DOMAIN, transport);
        let beginning = Beginning { proxy, upstream, restored: None, transport, listen, bound, seed: 1, fleet: None };
        let core = beginning.core(now);
        let mut bench = Bench {
            core,
            now,
            opens: Opens::AtOnce,
            sent: Vec::new(),
            conns: HashMap::new(),
            pending: Vec::new(),
            lookups: 0,
            listen,
            bound,
        };
        bench.perform();
        bench
    }

    /// The flow of a UDP phone.
    pub(crate) fn phone(&self, remote: SocketAddr) -> Flow {
        Flow::Udp { socket: PHONE_UDP, local: self.listen, remote }
    }

    /// A datagram, or a framed message.
    pub(crate) fn receive(&mut self, flow: Flow, bytes: &[u8]) {
        self.net(NetEvent::Received { flow, bytes: Bytes::copy_from_slice(bytes) });
    }

    pub(crate) fn net(&mut self, event: NetEvent) {
        self.handle(Event::Net(event));
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.core.handle(event, self.now);
        self.perform();
    }

    pub(crate) fn lookup(&mut self, result: Result<RecordSet, LookupFailure>) {
        self.handle(Event::Lookup(result));
    }

    /// A TCP phone connects.
    pub(crate) fn accept(&mut self, conn: u64, remote: SocketAddr) {
        let (side, socket, local) = (Side::Phone, PHONE_TCP, self.listen);
        let conn = ConnId::Accepted(conn);
        self.net(NetEvent::Accepted { conn, side, transport: Transport::Tcp, socket, local, remote });
    }

    pub(crate) fn opened(&mut self, index: usize) {
        let (conn, hop) = self.pending.remove(index);
        self.conns.insert(conn, hop);
        let local = self.bound;
        self.net(NetEvent::Opened { conn, local });
    }

    pub(crate) fn open_failed(&mut self, index: usize, cause: Cause) {
        let (conn, _) = self.pending.remove(index);
        self.net(NetEvent::OpenFailed { conn, cause, detail: "on the bench".into() });
    }

    /// Lets time pass; panics where the core asks to be woken for ever without letting it pass.
    pub(crate) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        let mut idle = 0;
        while self.core.poll_timeout() <= end {
            let at = self.core.poll_timeout();
            idle = if at <= self.now { idle + 1 } else { 0 };
            assert!(idle < 1000, "spins: {:?}", self.core.tables());
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
            self.perform();
        }
        self.now = end;
    }

    /// Time passes unnoticed, as when the machine was asleep.
    pub(crate) fn sleep(&mut self, time: Duration) {
        self.now += time;
    }

    /// What was sent since the last call.
    pub(crate) fn take(&mut self) -> Vec<(Flow, Bytes)> {
        std::mem::take(&mut self.sent)
    }

    /// Performs what the core wants without an event: after a call into it.
    pub(crate) fn handle_nothing(&mut self) {
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Lookup => self.lookups += 1,
                Action::Net(NetCommand::Close { .. })
                | Action::Persist(_)
                | Action::Failed(_)
                | Action::RolledOver(_)
                | Action::Fleet(_) => {}
                Action::Net(NetCommand::Send { flow, bytes }) => {
                    if bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                        self.sent.push((flow, bytes));
                    }
                }
                Action::Net(NetCommand::Open { conn, hop }) => {
                    self.pending.push((conn, hop));
                    let last = self.pending.len() - 1;
                    match self.opens {
                        Opens::AtOnce => self.opened(last),
                        Opens::Never(cause) => self.open_failed(last, cause),
                        Opens::Later => {}
                    }
                }
            }
        }
    }
}

/// True for a flow to a phone.
pub(crate) fn is_to_phone(flow: Flow) -> bool {
    match flow {
        Flow::Udp { socket, .. } => socket != UPSTREAM,
        Flow::Conn(conn) => matches!(conn, ConnId::Accepted(_)),
    }
}

/// An answer to what was forwarded: its Vias, From, To, Call-ID and CSeq, odd headers, a fold, a compact name, and a body
/// that is no text.
pub(crate) fn response(request: &[u8], status: u16) -> Vec<u8> {
    let mut out = format!("SIP/2.0 {status} ").into_bytes();
    let head = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(request.len());
    let mut copied = false;
    for line in request[..head].split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !matches!(line.first(), Some(b' ' | b'\t')) {
            let end = line.iter().position(|byte| matches!(byte, b':' | b' ' | b'\t')).unwrap_or(0);
            let name = line[..end].to_ascii_lowercase();
            let copy = ["via", "v", "from", "f", "to", "t", "call-id", "i", "cseq"];
            copied = copy.iter().any(|wanted| wanted.as_bytes() == name);
        }
        if copied {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"\r\nx-ODD :  \xff\xfe folded\r\n\t value\r\nl: 3\r\n\r\n\0\r\n");
    out
}
