//! What the core costs in instructions, for callgrind to count: `bench/instructions.sh` runs it under valgrind.
//!
//! `instructions SCENARIO ROUNDS` plays a scenario so many times. Only what happens inside of [`measured`] is counted, so that
//! the handset and the PBX that this file plays cost nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdline::flow::{Flow, NetCommand, NetEvent, Side, SocketId, Transport};
use holdline::proxy::{Action, Core, Event, Settings, Socket, Start};
use holdline::upstream::{self, Source, Upstream};

/// A whole exchange of messages, played once.
type Scenario = fn(&mut Stage, u64);

const SCENARIOS: [(&str, Scenario); 5] = [
    ("register", register),
    ("register-challenged", register_challenged),
    ("call", call),
    ("notify-8k", notify),
    ("response", response_only),
];

/// One handset, the core, and a PBX that answers what it is sent.
struct Stage {
    core: Core,
    now: Instant,
    handset: Flow,
    contact: String,
}

impl Stage {
    #[allow(clippy::disallowed_methods)]
    fn new() -> Self {
        let now = Instant::now();
        let listen: SocketAddr = "127.0.0.1:5060".parse().expect("literal");
        let source = Source::Static { host: "127.0.0.2".into(), port: Some(5060) };
        let upstream = Upstream::new(upstream::Settings::new(source, Transport::Udp), None, 1, now);
        let socket = |id, side, port| Socket {
            id: SocketId(id),
            side,
            transport: Transport::Udp,
            local: SocketAddr::new(listen.ip(), port),
            advertise: None,
        };
        let sockets = vec![socket(0, Side::Phone, 5060), socket(1, Side::Upstream, 5080)];
        let (settings, transport) = (Settings::default(), Transport::Udp);
        let start = Start { settings, upstream, transport, sockets, key: [7; 32], first_branch: 1 };
        let core = Core::new(start, now);
        let remote = "127.0.0.1:40000".parse().expect("literal");
        let handset = Flow::Udp { socket: SocketId(0), local: listen, remote };
        let mut stage = Stage { core, now, handset, contact: String::new() };
        stage.perform();
        stage
    }

    /// Takes what the core sends; opens what it wants open.
    fn perform(&mut self) -> Vec<(Flow, Bytes)> {
        let mut sent = Vec::new();
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Net(NetCommand::Open { conn, .. }) => {
                    let local = "127.0.0.1:5080".parse().expect("literal");
                    self.core.handle(Event::Net(NetEvent::Opened { conn, local }), self.now);
                }
                Action::Net(NetCommand::Send { flow, bytes }) => sent.push((flow, bytes)),
                Action::Net(NetCommand::Close { .. }) | Action::Lookup | Action::Persist(_) => {}
            }
        }
        sent
    }

    /// One message in, and what goes on of it: the last thing that is sent.
    fn pass(&mut self, flow: Flow, text: impl Into<Bytes>) -> (Flow, Bytes) {
        let event = Event::Net(NetEvent::Received { flow, bytes: text.into() });
        measured(&mut self.core, event, self.now);
        self.perform().pop().expect("it goes on")
    }

    /// Time passes, so that what is over leaves the tables.
    fn rest(&mut self) {
        self.now += Duration::from_millis(20);
        if self.core.poll_timeout() <= self.now {
            timers(&mut self.core, self.now);
            self.perform();
        }
    }
}

/// What callgrind counts (`--toggle-collect`): the core's work for one message.
#[inline(never)]
fn measured(core: &mut Core, event: Event, now: Instant) {
    core.handle(event, now);
}

/// Likewise, the core's work when time has passed.
#[inline(never)]
fn timers(core: &mut Core, now: Instant) {
    core.handle_timeout(now);
}

fn request(method: &str, n: u64, cseq: u32, more: &str) -> String {
    format!(
        "{method} sip:pbx.example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:40000;branch=z9hG4bK{method}{cseq}{n:016x};rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Extension 204\" <sip:204@pbx.example.com>;tag=1c{n}\r\n\
         To: \"Extension 204\" <sip:204@pbx.example.com>\r\n\
         Call-ID: {n:016x}@127.0.0.1\r\n\
         CSeq: {cseq} {method}\r\n\
         Contact: <sip:204@127.0.0.1:40000;transport=udp>;expires=3600\r\n{more}\
         User-Agent: Example Desk Phone 1.2.3\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

const CREDENTIALS: &str = "Authorization: Digest username=\"204\", realm=\"pbx.example.com\", nonce=\"5f9c2d1e5f9c2d1e\", \
     uri=\"sip:pbx.example.com\", response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5\r\n";

/// A PBX's answer to what it was sent.
fn answer(request: &[u8], status: &str, more: &str) -> Bytes {
    let text = std::str::from_utf8(request).expect("text");
    let mut answer = format!("SIP/2.0 {status}\r\n");
    for line in text.lines().skip(1).take_while(|line| !line.is_empty()) {
        let kept = ["Via:", "From:", "Call-ID:", "CSeq:", "Contact:", "Record-Route:"];
        if kept.iter().any(|name| line.starts_with(name)) {
            answer.push_str(line);
            answer.push_str("\r\n");
        } else if line.starts_with("To:") {
            answer.push_str(line);
            answer.push_str(if line.contains(";tag=") { "\r\n" } else { ";tag=pbx\r\n" });
        }
    }
    answer.push_str(more);
    answer.push_str("Content-Length: 0\r\n\r\n");
    answer.into()
}

fn register(stage: &mut Stage, n: u64) {
    let (flow, up) = stage.pass(stage.handset, request("REGISTER", n, 2, CREDENTIALS));
    let contact = std::str::from_utf8(&up).ok().and_then(|text| text.split("Contact: <").nth(1)?.split('>').next());
    contact.unwrap_or_default().clone_into(&mut stage.contact);
    let (back, _) = stage.pass(flow, answer(&up, "200 OK", ""));
    assert_eq!(back, stage.handset);
    stage.rest();
}

fn register_challenged(stage: &mut Stage, n: u64) {
    let (flow, up) = stage.pass(stage.handset, request("REGISTER", n, 1, ""));
    let challenge = "WWW-Authenticate: Digest realm=\"pbx.example.com\", nonce=\"5f9c2d1e5f9c2d1e\"\r\n";
    stage.pass(flow, answer(&up, "401 Unauthorized", challenge));
    register(stage, n);
}

/// INVITE, 100, 180, 200, ACK, BYE, 200, begun by the handset.
fn call(stage: &mut Stage, n: u64) {
    let invite = request("INVITE", n, 1, "");
    let (flow, up) = stage.pass(stage.handset, invite);
    stage.pass(flow, answer(&up, "180 Ringing", ""));
    let (_, ok) = stage.pass(flow, answer(&up, "200 OK", ""));
    let text = std::str::from_utf8(&ok).expect("text");
    let recorded = text.lines().find_map(|line| line.strip_prefix("Record-Route: ")).expect("recorded");
    let mut elements: Vec<&str> = recorded.split(',').collect();
    elements.reverse();
    let route = format!("Route: {}\r\n", elements.join(","));
    let within = |method, cseq| {
        request(method, n, cseq, &route).replace("pbx.example.com>\r\nCall", "pbx.example.com>;tag=pbx\r\nCall")
    };
    stage.pass(stage.handset, within("ACK", 1));
    let (flow, bye) = stage.pass(stage.handset, within("BYE", 2));
    stage.pass(flow, answer(&bye, "200 OK", ""));
    stage.rest();
}

/// A NOTIFY of 8 KB from the PBX to a registered handset, and its 200.
fn notify(stage: &mut Stage, n: u64) {
    if stage.contact.is_empty() {
        register(stage, u64::MAX);
    }
    let body = "x".repeat(8 * 1024);
    let text = format!(
        "NOTIFY {} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2:5060;branch=z9hG4bKn{n:016x}\r\nMax-Forwards: 70\r\n\
         From: <sip:204@pbx.example.com>;tag=s{n}\r\nTo: <sip:204@pbx.example.com>;tag=1c\r\nCall-ID: n{n:016x}\r\n\
         CSeq: 7 NOTIFY\r\nEvent: dialog\r\nSubscription-State: active\r\nContact: <sip:pbx.example.com>\r\n\
         Content-Type: application/dialog-info+xml\r\nContent-Length: {}\r\n\r\n{body}",
        stage.contact,
        body.len()
    );
    let pbx = Flow::Udp {
        socket: SocketId(1),
        local: "127.0.0.1:5080".parse().expect("literal"),
        remote: "127.0.0.2:5060".parse().expect("literal"),
    };
    let (flow, down) = stage.pass(pbx, text);
    assert_eq!(flow, stage.handset);
    stage.pass(flow, answer(&down, "200 OK", ""));
    stage.rest();
}

/// A handset's OPTIONS and its 200, of which the 200 is the greater part of the work.
fn response_only(stage: &mut Stage, n: u64) {
    let options = request("OPTIONS", n, 1, "");
    let event = Event::Net(NetEvent::Received { flow: stage.handset, bytes: options.into() });
    stage.core.handle(event, stage.now);
    let (flow, up) = stage.perform().pop().expect("it goes on");
    stage.pass(flow, answer(&up, "200 OK", ""));
    stage.rest();
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (name, rounds) = (arguments.next(), arguments.next().and_then(|n| n.parse::<u64>().ok()));
    let scenario = SCENARIOS.iter().find(|(known, _)| Some(*known) == name.as_deref());
    let (Some((_, scenario)), Some(rounds)) = (scenario, rounds) else {
        // Without arguments (`cargo bench`): the names, for the script.
        for (name, _) in SCENARIOS {
            println!("{name}");
        }
        return;
    };
    let mut stage = Stage::new();
    for n in 0..rounds {
        scenario(&mut stage, n);
    }
}
