//! Twenty honest handsets refresh while somebody behind the same address attacks, in one way after the other, at ten times their
//! rate: they notice nothing, nothing rolls over, and memory goes back.
//!
//! `HOLDLINE_ATTACK_SECONDS=10` makes each attack last so long, and prints the table of `docs/security.md`.

#![allow(clippy::disallowed_methods, reason = "handsets and attackers live in real time")]

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use holdline::agents::dns::{self, Srv};

use super::peer::{Peer, answer, header};
use super::process::Holdline;
use crate::support::{http, wait::until_blocking};
use holdline::flow::Transport;

const HANDSETS: usize = 20;
/// A REGISTER of some handset every 25 ms: each refreshes twice a second.
const PACE: Duration = Duration::from_millis(25);
/// Ten times as often somebody attacks.
const ATTACK_PACE: Duration = Duration::from_micros(2500);
/// Client timers of the handsets: 500 ms, then doubled.
const T1: Duration = Duration::from_millis(500);

/// How the PBX treats those that are none of the honest handsets'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Silent = 0,
    Refuses = 1,
    Challenges = 2,
}

/// A PBX that accepts the honest handsets, whose users begin with `h`.
fn pbx(mood: Arc<AtomicU64>) -> Peer {
    Peer::new(move |socket, from, message| {
        let honest = header(message, "To:").is_some_and(|to| to.starts_with("<sip:h"));
        let status = if message.starts_with("SIP/2.0") || message.starts_with("ACK") {
            return;
        } else if message.starts_with("OPTIONS sip:pbx") || honest {
            "200 OK"
        } else if mood.load(Ordering::Relaxed) == Mood::Silent as u64 {
            return;
        } else if mood.load(Ordering::Relaxed) == Mood::Refuses as u64 {
            "404 Not Found"
        } else {
            "401 Unauthorized"
        };
        let contact = header(message, "Contact:").map(|contact| format!("Contact: {contact}\r\n")).unwrap_or_default();
        // Nobody listens there any more: not what is tested.
        let _ = socket.send_to(answer(message, status, &contact).as_bytes(), from);
    })
}

/// One handset's REGISTER under way.
struct Pending {
    bytes: String,
    begun: Instant,
    again: Instant,
    interval: Duration,
}

/// What the honest handsets saw.
#[derive(Default)]
struct Seen {
    pending: HashMap<String, Pending>,
    took: Vec<Duration>,
    failed: Vec<String>,
}

/// Twenty handsets on one socket, refreshed in turn for as long as this lives.
struct Honest {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Honest {
    fn start(listener: SocketAddr) -> Honest {
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let at_peer = seen.clone();
        let peer = Peer::new(move |_, _, message| {
            let mut seen = at_peer.lock().unwrap();
            let Some(status) = message.strip_prefix("SIP/2.0 ").filter(|status| !status.starts_with('1')) else {
                return;
            };
            let key = header(message, "CSeq:").unwrap_or_default().to_owned()
                + header(message, "Call-ID:").unwrap_or_default();
            let Some(pending) = seen.pending.remove(&key) else { return };
            if status.starts_with("200") {
                seen.took.push(pending.begun.elapsed());
            } else {
                seen.failed.push(status.lines().next().unwrap().to_owned());
            }
        });
        let (theirs, end) = (seen.clone(), over.clone());
        let thread = thread::spawn(move || {
            let mut n = 0;
            let mut next = Instant::now();
            while !end.load(Ordering::Relaxed) {
                n += 1;
                let (user, cseq) = (format!("h{}", n % HANDSETS), n);
                let bytes = register(&user, peer.port(), cseq, "");
                let now = Instant::now();
                let pending = Pending { bytes: bytes.clone(), begun: now, again: now + T1, interval: T1 };
                let mut seen = theirs.lock().unwrap();
                // Before it is sent: the answer may be faster than this thread.
                seen.pending.insert(format!("{cseq} REGISTER{user}"), pending);
                peer.socket.send_to(bytes.as_bytes(), listener).unwrap();
                for pending in seen.pending.values_mut().filter(|pending| pending.again <= now) {
                    pending.interval = (pending.interval * 2).min(Duration::from_secs(4));
                    pending.again = now + pending.interval;
                    peer.socket.send_to(pending.bytes.as_bytes(), listener).unwrap();
                }
                drop(seen);
                next += PACE;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Honest { seen, over, thread: Some(thread) }
    }

    /// Ends, and gives what was seen: a REGISTER that has waited for five seconds has failed.
    fn finish(&mut self) -> Seen {
        let seen = self.seen.clone();
        let settled = Instant::now() + Duration::from_secs(5);
        until_blocking("what was under way is answered", || {
            let seen = seen.lock().unwrap();
            seen.took.len() > 2 * HANDSETS && (Instant::now() > settled || seen.pending.len() <= 1)
        });
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        let late = seen.pending.values().filter(|pending| pending.begun.elapsed() > Duration::from_secs(5)).count();
        seen.failed.extend(std::iter::repeat_n("silence".to_owned(), late));
        seen
    }
}

fn register(user: &str, port: u16, cseq: usize, more: &str) -> String {
    request("REGISTER", user, port, cseq, more)
}

fn request(method: &str, user: &str, port: u16, cseq: usize, body: &str) -> String {
    format!(
        "{method} sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK-{user}-{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@pbx.example>;tag=f\r\nTo: <sip:{user}@pbx.example>\r\nCall-ID: {user}\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:{user}@127.0.0.1:{port}>;expires=3600\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What an attacker has: a socket behind the handsets' own address, and the connections it opened.
struct Attacker {
    socket: UdpSocket,
    udp: SocketAddr,
    tcp: SocketAddr,
    upstream: SocketAddr,
    /// The newest, so that an attack does not run out of descriptors itself.
    streams: VecDeque<TcpStream>,
}

impl Attacker {
    fn datagram(&self, bytes: &[u8]) {
        // Its own socket may be full: it has tried.
        let _ = self.socket.send_to(bytes, self.udp);
    }

    fn stream(&mut self, bytes: &[u8]) {
        let Ok(mut stream) = TcpStream::connect_timeout(&self.tcp, T1) else { return };
        let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(bytes));
        self.streams.push_back(stream);
        if self.streams.len() > 400 {
            self.streams.pop_front();
        }
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }
}

/// An attack: its name, the PBX's mood, and its `n`th step.
type Attack = (&'static str, Mood, fn(&mut Attacker, usize));

fn guess(attacker: &Attacker, method: &str, n: usize, body: usize) -> String {
    request(method, &format!("u{n}"), attacker.port(), 1, &"x".repeat(body))
}

const ATTACKS: [Attack; 12] = [
    ("REGISTERs that the PBX drops", Mood::Silent, |a, n| a.datagram(guess(a, "REGISTER", n, 0).as_bytes())),
    ("REGISTERs that it refuses", Mood::Refuses, |a, n| a.datagram(guess(a, "REGISTER", n, 0).as_bytes())),
    ("REGISTERs that it challenges", Mood::Challenges, |a, n| a.datagram(guess(a, "REGISTER", n, 0).as_bytes())),
    ("INVITEs that it drops", Mood::Silent, |a, n| a.datagram(guess(a, "INVITE", n, 0).as_bytes())),
    ("INVITEs that it refuses, never acknowledged", Mood::Refuses, |a, n| {
        a.datagram(guess(a, "INVITE", n, 0).as_bytes());
    }),
    ("REGISTERs of 15 KB that it drops", Mood::Silent, |a, n| a.datagram(guess(a, "REGISTER", n, 15_000).as_bytes())),
    ("INVITEs of 60 KB that it drops", Mood::Silent, |a, n| a.datagram(guess(a, "INVITE", n, 60_000).as_bytes())),
    ("OPTIONS to Holdline", Mood::Silent, |a, n| {
        let options = guess(a, "OPTIONS", n, 0).replace("sip:pbx.example SIP", &format!("sip:{} SIP", a.udp));
        a.datagram(options.as_bytes());
    }),
    ("noise, and heads cut short", Mood::Silent, |a, n| {
        let whole = guess(a, "REGISTER", n, 0);
        a.datagram(&whole.as_bytes()[..n % whole.len()]);
    }),
    ("forged answers to the PBX's side", Mood::Silent, |a, n| {
        let forged = format!(
            "SIP/2.0 503 No\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKh{n}\r\nFrom: <sip:h1@pbx.example>;tag=f\r\n\
             To: <sip:h1@pbx.example>;tag=t\r\nCall-ID: h1\r\nCSeq: {n} REGISTER\r\nContent-Length: 0\r\n\r\n",
            a.upstream
        );
        // As above.
        let _ = a.socket.send_to(forged.as_bytes(), a.upstream);
    }),
    ("connections without a word", Mood::Silent, |a, _| a.stream(b"")),
    ("connections with half a message", Mood::Silent, |a, n| {
        let half = guess(a, "INVITE", n, 60_000);
        a.stream(&half.as_bytes()[..50_000]);
    }),
];

struct Report {
    attack: &'static str,
    steps: usize,
    served: usize,
    failed: Vec<String>,
    worst: Duration,
    peak: u64,
    after: u64,
}

/// Resident memory in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// One line of the metrics.
fn metric(holdline: &Holdline, name: &str) -> u64 {
    let (_, text) = http::get_blocking(holdline.admin(), "/metrics").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    line.trim().parse().unwrap()
}

fn run(attack: Attack, holdline: &Holdline, mood: &AtomicU64, time: Duration) -> Report {
    let (name, pbx, step) = attack;
    mood.store(pbx as u64, Ordering::Relaxed);
    let udp = holdline.socket("phone", Transport::Udp);
    let mut honest = Honest::start(udp);
    let mut attacker = Attacker {
        socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
        udp,
        tcp: holdline.socket("phone", Transport::Tcp),
        upstream: holdline.socket("upstream", Transport::Udp),
        streams: VecDeque::new(),
    };
    let (begun, pid) = (Instant::now(), holdline.pid());
    let (mut steps, mut peak) = (0, 0);
    while begun.elapsed() < time {
        step(&mut attacker, steps);
        steps += 1;
        if steps % 100 == 0 {
            peak = peak.max(resident(pid));
        }
        thread::sleep((begun + ATTACK_PACE * steps as u32).saturating_duration_since(Instant::now()));
    }
    let seen = honest.finish();
    drop(attacker);
    let worst = seen.took.iter().max().copied().unwrap_or_default();
    Report { attack: name, steps, served: seen.took.len(), failed: seen.failed, worst, peak, after: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_handsets_notice_no_attack_from_their_own_address() {
    let seconds = std::env::var("HOLDLINE_ATTACK_SECONDS").ok().and_then(|text| text.parse::<u64>().ok());
    let time = seconds.map_or(Duration::from_millis(1500), Duration::from_secs);
    let mood = Arc::new(AtomicU64::new(0));
    let (first, second) = (pbx(mood.clone()), pbx(mood.clone()));
    let dns = dns::Server::start().await.unwrap();
    let records = [(10, &first, "a"), (20, &second, "b")].map(|(priority, peer, name)| {
        dns.set_loopback(&format!("{name}.pbx.example"), 3600);
        Srv::new(priority, 0, peer.port(), &format!("{name}.pbx.example"))
    });
    dns.set_srv("_sip._udp.pbx.example", 3600, &records);
    let holdline = Holdline::start(&[
        "--srv=_sip._udp.pbx.example".to_owned(),
        format!("--nameserver={}", dns.addr()),
        "--listen=udp:127.0.0.1:0".to_owned(),
        "--listen=tcp:127.0.0.1:0".to_owned(),
        "--upstream-bind=127.0.0.1:0".to_owned(),
        // Small, so that what would fill them in minutes fills them in a second.
        "--limit-transactions=600".to_owned(),
        "--limit-memory=8".to_owned(),
        "--limit-connections=300".to_owned(),
    ])
    .await;
    let reports = tokio::task::spawn_blocking(move || {
        // They are served before anybody attacks.
        Honest::start(holdline.socket("phone", Transport::Udp)).finish();
        let before = resident(holdline.pid());
        let mut reports = Vec::new();
        for attack in ATTACKS {
            let mut report = run(attack, &holdline, &mood, time);
            if seconds.is_some() {
                let begun = Instant::now();
                until_blocking("what was under way is over", || begun.elapsed() > Duration::from_secs(55));
                report.after = resident(holdline.pid());
            }
            reports.push(report);
        }
        assert_eq!(metric(&holdline, "holdline_failovers_total{reason=\"register_failures\"} "), 0);
        let throttled = metric(&holdline, "holdline_messages_dropped_total{reason=\"throttled\",side=\"phone\"} ");
        assert!(throttled > 100, "{throttled}");
        (before, reports)
    });
    let (before, reports) = reports.await.unwrap();
    if seconds.is_some() {
        println!(
            "| attack | messages or connections | honest REGISTERs | slowest | memory: {before} KiB before, most, a minute later |"
        );
        println!("|---|---|---|---|---|");
    }
    for Report { attack, steps, served, failed, worst, peak, after } in &reports {
        if seconds.is_some() {
            let all = served + failed.len();
            println!("| {attack} | {steps} | {served} of {all} | {} ms | {peak}, {after} |", worst.as_millis());
        }
        assert!(failed.len() * 1000 <= *served, "{attack}: {served} served, failed: {failed:?}");
    }
}
