//! One REGISTER through the pure core, both ways: handset → Holdline → registrar, and its 200 back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use holdline::flow::{Flow, NetCommand, NetEvent, Side, SocketId, Transport};
use holdline::proxy::{Action, Core, Event, Settings, Socket, Start};
use holdline::upstream::{self, Source, Upstream};

struct Bench {
    core: Core,
    now: Instant,
    serial: u64,
    phone: Flow,
}

impl Bench {
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
        let phone = Flow::Udp { socket: SocketId(0), local: listen, remote };
        let mut bench = Bench { core, now, serial: 0, phone };
        bench.perform();
        bench
    }

    /// Performs the core's actions; what was sent last.
    fn perform(&mut self) -> Option<(Flow, Bytes)> {
        let mut sent = None;
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Net(NetCommand::Open { conn, .. }) => {
                    let local = "127.0.0.1:5080".parse().expect("literal");
                    self.core.handle(Event::Net(NetEvent::Opened { conn, local }), self.now);
                }
                Action::Net(NetCommand::Send { flow, bytes }) => sent = Some((flow, bytes)),
                Action::Net(NetCommand::Close { .. }) | Action::Lookup | Action::Persist(_) => {}
            }
        }
        sent
    }

    fn request(&mut self) -> Bytes {
        self.serial += 1;
        let n = self.serial;
        format!(
            "REGISTER sip:pbx.example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:40000;branch=z9hG4bK{n:016x};rport\r\n\
             Max-Forwards: 70\r\n\
             From: \"Extension 204\" <sip:204@pbx.example.com>;tag=1c{n}\r\n\
             To: \"Extension 204\" <sip:204@pbx.example.com>\r\n\
             Call-ID: {n:016x}@127.0.0.1\r\n\
             CSeq: 2 REGISTER\r\n\
             Contact: <sip:204@127.0.0.1:40000;transport=udp>;expires=3600\r\n\
             Authorization: Digest username=\"204\", realm=\"pbx.example.com\", nonce=\"5f9c2d1e5f9c2d1e\", \
             uri=\"sip:pbx.example.com\", response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5\r\n\
             User-Agent: Example Desk Phone 1.2.3\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .into()
    }

    /// Hands a request in; what came out and on which flow.
    fn up(&mut self, bytes: Bytes) -> (Flow, Bytes) {
        self.core.handle(Event::Net(NetEvent::Received { flow: self.phone, bytes }), self.now);
        self.perform().expect("forwarded upstream")
    }

    fn down(&mut self, flow: Flow, bytes: Bytes) {
        self.core.handle(Event::Net(NetEvent::Received { flow, bytes }), self.now);
        let (back, down) = self.perform().expect("relayed to the handset");
        assert_eq!(back, self.phone);
        assert!(down.starts_with(b"SIP/2.0 200"));
        self.now += Duration::from_micros(100);
        if self.core.poll_timeout() <= self.now {
            self.core.handle_timeout(self.now);
            self.perform();
        }
    }
}

/// The registrar: answers 200 with what it was sent.
fn ok(request: &[u8]) -> Bytes {
    let text = std::str::from_utf8(request).expect("text");
    let mut answer = String::from("SIP/2.0 200 OK\r\n");
    for line in text.lines().skip(1).filter(|l| !l.is_empty()) {
        if ["Via:", "From:", "Call-ID:", "CSeq:", "Contact:"].iter().any(|name| line.starts_with(name)) {
            answer.push_str(line);
            answer.push_str("\r\n");
        } else if line.starts_with("To:") {
            answer.push_str(line);
            answer.push_str(";tag=reg\r\n");
        }
    }
    answer.push_str("Content-Length: 0\r\n\r\n");
    answer.into()
}

fn register(c: &mut Criterion) {
    let mut bench = Bench::new();
    c.bench_function("core/register_up_and_back", |b| {
        // Only the core is timed, not the handset and the registrar that this file plays.
        b.iter_custom(|n| {
            let mut spent = Duration::ZERO;
            for _ in 0..n {
                let request = bench.request();
                let mut out = None;
                spent += timed(|| out = Some(bench.up(request)));
                let Some((flow, up)) = out else { continue };
                let answer = ok(&up);
                spent += timed(|| bench.down(flow, answer));
            }
            spent
        });
    });
}

#[allow(clippy::disallowed_methods)]
fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

criterion_group!(benches, register);
criterion_main!(benches);
