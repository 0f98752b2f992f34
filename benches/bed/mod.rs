//! The core on a test bed: one handset in front of it, one PBX behind it, both played here.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use holdline::flow::{Flow, NetCommand, NetEvent, Side, SocketId, Transport};
use holdline::proxy::{Action, Core, Event, Settings, Socket, Start};
use holdline::upstream::{self, Source, Upstream};

pub(crate) struct Bed {
    pub(crate) core: Core,
    pub(crate) now: Instant,
    pub(crate) handset: Flow,
}

impl Bed {
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn new() -> Self {
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
        let start = Start { settings, upstream, transport, sockets, key: [7; 32], first_branch: 1, fleet: None };
        let core = Core::new(start, now);
        let remote = "127.0.0.1:40000".parse().expect("literal");
        let handset = Flow::Udp { socket: SocketId(0), local: listen, remote };
        let mut bed = Bed { core, now, handset };
        bed.perform();
        bed
    }

    /// Performs the core's actions, and opens what it wants open; what was sent last.
    pub(crate) fn perform(&mut self) -> Option<(Flow, Bytes)> {
        let mut sent = None;
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Net(NetCommand::Open { conn, .. }) => {
                    let local = "127.0.0.1:5080".parse().expect("literal");
                    self.core.handle(Event::Net(NetEvent::Opened { conn, local }), self.now);
                }
                Action::Net(NetCommand::Send { flow, bytes }) => sent = Some((flow, bytes)),
                Action::Net(NetCommand::Close { .. })
                | Action::Lookup
                | Action::Persist(_)
                | Action::Failed(_)
                | Action::RolledOver(_)
                | Action::Fleet(_) => {}
            }
        }
        sent
    }
}

/// Header lines that the handset's REGISTER has once it was challenged.
pub(crate) const CREDENTIALS: &str = "Authorization: Digest username=\"204\", realm=\"pbx.example.com\", nonce=\"5f9c2d1e5f9c2d1e\", \
     uri=\"sip:pbx.example.com\", response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5\r\n";

/// The handset's `n`th request of its kind; `more`: header lines.
pub(crate) fn request(method: &str, n: u64, cseq: u32, more: &str) -> String {
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

/// The PBX's answer to what it was sent; `more`: header lines.
pub(crate) fn answer(request: &[u8], status: &str, more: &str) -> Bytes {
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
