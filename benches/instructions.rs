//! What the core costs in instructions, for callgrind to count: `bench/instructions.sh` runs it under valgrind.
//!
//! `instructions SCENARIO ROUNDS` plays a scenario so many times. Only what happens inside of [`measured`] is counted, so that
//! the handset and the PBX that the bed plays cost nothing.

mod bed;

use std::time::{Duration, Instant};

use bed::{Bed, CREDENTIALS, answer, request};
use bytes::Bytes;
use holdline::flow::{Flow, NetEvent, SocketId};
use holdline::proxy::{Core, Event};

/// A whole exchange of messages, played once.
type Scenario = fn(&mut Stage, u64);

const SCENARIOS: [(&str, Scenario); 5] = [
    ("register", register),
    ("register-challenged", register_challenged),
    ("call", call),
    ("notify-8k", notify),
    ("response", response_only),
];

/// The test bed, and what the handset's Contact is at the PBX.
struct Stage {
    bed: Bed,
    contact: String,
}

impl Stage {
    /// One message in, and what goes on of it: the last thing that is sent.
    fn pass(&mut self, flow: Flow, text: impl Into<Bytes>) -> (Flow, Bytes) {
        let event = Event::Net(NetEvent::Received { flow, bytes: text.into() });
        measured(&mut self.bed.core, event, self.bed.now);
        self.bed.perform().expect("it goes on")
    }

    /// Time passes, so that what is over leaves the tables.
    fn rest(&mut self) {
        self.bed.now += Duration::from_millis(20);
        if self.bed.core.poll_timeout() <= self.bed.now {
            timers(&mut self.bed.core, self.bed.now);
            self.bed.perform();
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

fn register(stage: &mut Stage, n: u64) {
    let (flow, up) = stage.pass(stage.bed.handset, request("REGISTER", n, 2, CREDENTIALS));
    let contact = std::str::from_utf8(&up).ok().and_then(|text| text.split("Contact: <").nth(1)?.split('>').next());
    contact.unwrap_or_default().clone_into(&mut stage.contact);
    let (back, _) = stage.pass(flow, answer(&up, "200 OK", ""));
    assert_eq!(back, stage.bed.handset);
    stage.rest();
}

fn register_challenged(stage: &mut Stage, n: u64) {
    let (flow, up) = stage.pass(stage.bed.handset, request("REGISTER", n, 1, ""));
    let challenge = "WWW-Authenticate: Digest realm=\"pbx.example.com\", nonce=\"5f9c2d1e5f9c2d1e\"\r\n";
    stage.pass(flow, answer(&up, "401 Unauthorized", challenge));
    register(stage, n);
}

/// INVITE, 100, 180, 200, ACK, BYE, 200, begun by the handset.
fn call(stage: &mut Stage, n: u64) {
    let invite = request("INVITE", n, 1, "");
    let (flow, up) = stage.pass(stage.bed.handset, invite);
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
    stage.pass(stage.bed.handset, within("ACK", 1));
    let (flow, bye) = stage.pass(stage.bed.handset, within("BYE", 2));
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
    assert_eq!(flow, stage.bed.handset);
    stage.pass(flow, answer(&down, "200 OK", ""));
    stage.rest();
}

/// A handset's OPTIONS and its 200, of which the 200 is the greater part of the work.
fn response_only(stage: &mut Stage, n: u64) {
    let options = request("OPTIONS", n, 1, "");
    let event = Event::Net(NetEvent::Received { flow: stage.bed.handset, bytes: options.into() });
    stage.bed.core.handle(event, stage.bed.now);
    let (flow, up) = stage.bed.perform().expect("it goes on");
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
    let mut stage = Stage { bed: Bed::new(), contact: String::new() };
    for n in 0..rounds {
        scenario(&mut stage, n);
    }
}
