//! A network in virtual time: handsets, Holdline's core, and the targets of an SRV record. Chance comes from a seed.
//!
//! Every message that crosses is a rung of the ladder: `phone 0→holdline REGISTER`, `holdline→a 401` … Nothing sleeps: time
//! jumps to the next thing that happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdline::fleet::{Command, Fleet, Word};
use holdline::flow::{Cause, ConnId, Flow, NetCommand, NetEvent, Side, Transport};
use holdline::metrics::Metrics;
use holdline::proxy::{Action, Core, Event, Failed, Reload, Settings};
use holdline::upstream::{LookupFailure, Persisted, RecordSet, Rollover};

use super::phone::Phone;
use super::server::{Manner, Server, Turn};
use super::ua::{Place, Ua, cseq};
use crate::support::simulated::{self, Beginning, PHONE_TCP, PHONE_UDP, UPSTREAM};

/// Where the phones' listener is.
pub(crate) const LISTEN: &str = "10.0.0.1:5060";
/// Where the upstream side is bound.
pub(crate) const BOUND: &str = "192.0.2.1:5080";

/// The domain of the phones and of the targets.
const DOMAIN: &str = "pbx.example.com";

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    Core(NetEvent),
    Phone(usize, Bytes),
    PhoneTimer(usize),
    Server(SocketAddr, ConnId, Bytes),
    UaTimer(usize),
    Lookup(Result<RecordSet, LookupFailure>),
}

/// The simulated network.
pub(crate) struct World {
    pub core: Core,
    pub metrics: Arc<Metrics>,
    pub now: Instant,
    pub begun: Instant,
    pub phones: Vec<Phone>,
    pub servers: BTreeMap<SocketAddr, Server>,
    /// Those who call and are called: whatever is no REGISTER is theirs.
    pub uas: Vec<Ua>,
    pub ladder: Vec<String>,
    /// What the next lookups find; the last one stays.
    pub dns: Vec<Result<RecordSet, LookupFailure>>,
    pub lookups: usize,
    pub persisted: Option<Persisted>,
    /// What was handed out about failures, in order.
    pub failures: Vec<Failed>,
    /// What was handed out about rollovers, in order.
    pub rollovers: Vec<Rollover>,
    /// What the fleet's shared memory was asked, in order.
    pub asked: Vec<Command>,
    pub loss: f64,
    pub duplication: f64,
    pub latency: Duration,
    /// Keep-alives that Holdline sent on each upstream connection.
    pub pings: HashMap<ConnId, usize>,
    /// Connections that were asked for, with when.
    pub opens: Vec<(Instant, SocketAddr)>,
    /// Every connection leaves from another port.
    pub ephemeral: bool,
    /// No ladder is kept: for fleets.
    pub quiet: bool,
    transport: Transport,
    conns: HashMap<ConnId, SocketAddr>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    due: HashMap<u64, Happening>,
    serial: u64,
    chance: u64,
}

/// How a world begins.
pub(crate) struct Setup {
    pub proxy: Settings,
    pub transport: Transport,
    pub failures: u32,
    pub min_handsets: u32,
    pub targets: Vec<&'static str>,
    pub restored: Option<Persisted>,
    pub seed: u64,
    /// The name of this instance among several.
    pub instance: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            proxy: Settings::default(),
            transport: Transport::Udp,
            failures: 3,
            min_handsets: 1,
            targets: vec!["a", "b"],
            restored: None,
            seed: 1,
            instance: None,
        }
    }
}

/// A world with one registered UDP phone, and the phone's number.
pub(crate) fn registered(setup: Setup) -> (World, usize) {
    let mut world = World::new(setup);
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(Duration::from_secs(1));
    assert!(world.phones[phone].registered(), "{}", world.ladder.join("\n"));
    (world, phone)
}

/// The address of a target called `a`, `b` …
pub(crate) fn address(name: &str) -> SocketAddr {
    let last = name.as_bytes()[0] - b'a' + 10;
    SocketAddr::new(IpAddr::from([198, 51, 100, last]), 5060)
}

/// The SRV label of a target.
pub(crate) fn label(name: &str) -> String {
    format!("{name}.{DOMAIN}:5060")
}

/// A record set with these targets in order of priority.
pub(crate) fn records(names: &[&str]) -> RecordSet {
    simulated::records(DOMAIN, names.iter().map(|name| (*name, address(name).ip())), Duration::from_secs(300))
}

impl World {
    /// A world whose DNS answers at once.
    pub(crate) fn new(setup: Setup) -> World {
        let dns = vec![Ok(records(&setup.targets))];
        let mut world = World::begin(setup, dns);
        world.run_for(Duration::from_millis(10));
        world
    }

    /// A world whose lookups go unanswered until `dns` is filled.
    pub(crate) fn without_dns(setup: Setup) -> World {
        World::begin(setup, Vec::new())
    }

    #[allow(clippy::disallowed_methods)]
    fn begin(setup: Setup, dns: Vec<Result<RecordSet, LookupFailure>>) -> World {
        crate::support::callsites::stay_open();
        let now = Instant::now();
        let metrics = Metrics::new();
        let mut upstream = simulated::srv(DOMAIN, setup.transport);
        upstream.failures = setup.failures;
        upstream.min_handsets = setup.min_handsets;
        let beginning = Beginning {
            proxy: setup.proxy,
            upstream,
            restored: setup.restored,
            transport: setup.transport,
            listen: LISTEN.parse().expect("literal"),
            bound: BOUND.parse().expect("literal"),
            seed: setup.seed,
            fleet: setup.instance.map(|name| Fleet::new(&name, &format!("id of {name}"), now)),
        };
        let core = beginning.core(now);
        let servers = setup.targets.iter().map(|name| (address(name), Server::new(name))).collect();
        let mut world = World {
            core,
            metrics,
            now,
            begun: now,
            phones: Vec::new(),
            servers,
            uas: Vec::new(),
            ladder: Vec::new(),
            dns,
            lookups: 0,
            persisted: None,
            failures: Vec::new(),
            rollovers: Vec::new(),
            asked: Vec::new(),
            loss: 0.0,
            duplication: 0.0,
            latency: Duration::from_millis(1),
            pings: HashMap::new(),
            opens: Vec::new(),
            ephemeral: false,
            quiet: false,
            transport: setup.transport,
            conns: HashMap::new(),
            queue: BinaryHeap::new(),
            due: HashMap::new(),
            serial: 0,
            chance: setup.seed,
        };
        world.perform();
        world
    }

    /// What the fleet's shared memory says.
    pub(crate) fn hear(&mut self, word: Word) {
        self.core.handle(Event::Fleet(word), self.now);
        self.perform();
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Instant {
        let next = self.queue.peek().map(|Reverse((at, _))| *at);
        next.map_or(self.core.poll_timeout(), |at| at.min(self.core.poll_timeout()))
    }

    /// Seconds since the world began.
    pub(crate) fn seconds(&self) -> f64 {
        (self.now - self.begun).as_secs_f64()
    }

    /// A target's server.
    pub(crate) fn server(&mut self, name: &str) -> &mut Server {
        self.servers.get_mut(&address(name)).expect("a target of the setup")
    }

    /// How many connections Holdline has to a target.
    pub(crate) fn connections(&self, name: &str) -> usize {
        let addr = address(name);
        self.conns.values().filter(|to| **to == addr).count()
    }

    /// The active target, `a`, `b` …; empty before there is one.
    pub(crate) fn active(&self) -> String {
        let label = self.core.upstream().active().map(|(target, _)| target.label.to_string()).unwrap_or_default();
        label.split('.').next().unwrap_or_default().to_owned()
    }

    /// Consecutive failures counted.
    pub(crate) fn count(&self) -> u32 {
        self.core.upstream().consecutive_failures()
    }

    /// Adds a handset and gives its number. `203.0.113.x` are behind NAT, `10.…` are not.
    pub(crate) fn phone(&mut self, transport: Transport) -> usize {
        let index = self.phones.len();
        let conn = (transport != Transport::Udp).then_some(ConnId::Accepted(index as u64));
        let phone = Phone::new(index, transport, conn);
        if let Some(conn) = conn {
            let accepted = NetEvent::Accepted {
                conn,
                side: Side::Phone,
                transport,
                socket: PHONE_TCP,
                local: LISTEN.parse().expect("literal"),
                remote: phone.addr,
            };
            self.core.handle(Event::Net(accepted), self.now);
        }
        self.phones.push(phone);
        self.perform();
        index
    }

    /// An agent that calls and is called in the place of a phone. Gives its number.
    pub(crate) fn ua_of_phone(&mut self, phone: usize) -> usize {
        let (addr, transport) = (self.phones[phone].addr, self.phones[phone].transport);
        self.uas.push(Ua::new(Place::Phone(phone), &format!("p{phone}"), addr, transport, 200 + phone));
        self.uas.len() - 1
    }

    /// An agent that calls and is called in the place of a target.
    pub(crate) fn ua_of_target(&mut self, name: &str) -> usize {
        let addr = address(name);
        self.uas.push(Ua::new(Place::Pbx(addr), name, addr, self.transport, 900));
        self.uas.len() - 1
    }

    /// What a target knows a phone by: the URI of the Contact it was given last.
    pub(crate) fn contact_at(&self, name: &str, phone: usize) -> String {
        let user = format!("<sip:{}@", 200 + phone);
        let received = &self.servers[&address(name)].received;
        let register = received
            .iter()
            .rev()
            .map(|(_, bytes)| bytes)
            .find(|bytes| what(bytes) == "REGISTER" && header(bytes, "To").is_some_and(|to| to.starts_with(&user)));
        let contact = header(register.expect("it registered there"), "Contact").expect("a Contact");
        contact.split(['<', '>']).nth(1).expect("in brackets").to_owned()
    }

    /// An agent acts now.
    pub(crate) fn act(&mut self, ua: usize, act: impl FnOnce(&mut Ua, Instant) -> Vec<Bytes>) {
        let now = self.now;
        let sent = act(&mut self.uas[ua], now);
        self.ua_sends(ua, sent);
    }

    fn ua_sends(&mut self, ua: usize, sent: Vec<Bytes>) {
        for bytes in sent {
            match self.uas[ua].place {
                Place::Phone(phone) => self.phone_sends(phone, bytes),
                Place::Pbx(addr) => self.target_sends(addr, bytes),
            }
        }
        if let Some(at) = self.uas[ua].poll_timeout() {
            self.enqueue(at.saturating_duration_since(self.now), Happening::UaTimer(ua));
        }
    }

    /// A target sends on the newest connection Holdline has to it; without one by datagram, or over one of its own.
    pub(crate) fn target_sends(&mut self, addr: SocketAddr, bytes: Bytes) {
        let conn = self.conns.iter().filter(|(_, to)| **to == addr).map(|(conn, _)| *conn).max();
        let name = self.servers[&addr].name.clone();
        self.rung(&format!("{name}→holdline {}", what(&bytes)));
        let reliable = self.transport != Transport::Udp;
        let local: SocketAddr = BOUND.parse().expect("literal");
        let flow = match conn {
            Some(conn) => Flow::Conn(conn),
            None if !reliable => Flow::Udp { socket: UPSTREAM, local, remote: addr },
            None => {
                self.serial += 1;
                let conn = ConnId::Accepted(1_000_000 + self.serial);
                self.conns.insert(conn, addr);
                let remote = SocketAddr::new(addr.ip(), 40_000);
                let (side, transport, socket) = (Side::Upstream, self.transport, UPSTREAM);
                let accepted = NetEvent::Accepted { conn, side, transport, socket, local, remote };
                self.cross(true, Happening::Core(accepted));
                Flow::Conn(conn)
            }
        };
        self.cross(reliable, Happening::Core(NetEvent::Received { flow, bytes }));
    }

    /// Forgets what the servers got: a fleet's traffic over hours is not kept.
    pub(crate) fn forget_traffic(&mut self) {
        self.servers.values_mut().for_each(Server::forget);
    }

    /// A TCP phone's connection is gone, and it has a new one.
    pub(crate) fn reconnect(&mut self, phone: usize) {
        let Flow::Conn(conn) = self.phones[phone].flow() else { return };
        self.core.handle(Event::Net(NetEvent::Closed { conn, cause: Cause::Reset }), self.now);
        self.serial += 1;
        let conn = ConnId::Accepted(500_000 + self.serial);
        self.phones[phone].reconnected(conn);
        let accepted = NetEvent::Accepted {
            conn,
            side: Side::Phone,
            transport: self.phones[phone].transport,
            socket: PHONE_TCP,
            local: LISTEN.parse().expect("literal"),
            remote: self.phones[phone].addr,
        };
        self.core.handle(Event::Net(accepted), self.now);
        self.perform();
    }

    /// The handset sends a REGISTER now.
    pub(crate) fn register(&mut self, phone: usize) {
        let bytes = self.phones[phone].begin_register(self.now);
        self.phone_sends(phone, bytes);
        self.arm_phone(phone);
    }

    /// Every table of what is in flight is empty, and the metric says so.
    pub(crate) fn assert_nothing_in_flight(&mut self) {
        self.gather();
        assert_eq!(self.metrics.transactions.get(), 0, "the metric\n{}", self.ladder.join("\n"));
        for (table, size) in self.core.tables() {
            let most = match table {
                "bindings" | "served" | "summaries" | "sources in debt" => usize::MAX,
                "connections" | "addresses" | "targets waited for" => self.conns.len() + self.phones.len() + 8,
                _ => 0,
            };
            assert!(size <= most, "{size} {table} are left\n{}", self.ladder.join("\n"));
        }
    }

    /// The handset sends these bytes now.
    pub(crate) fn phone_sends(&mut self, phone: usize, bytes: Bytes) {
        let from = &self.phones[phone];
        let flow = from.flow();
        self.rung(&format!("phone {phone}→holdline {}", what(&bytes)));
        self.cross(is_reliable(&self.phones[phone]), Happening::Core(NetEvent::Received { flow, bytes }));
    }

    /// Somebody sends this datagram to the phones' listener, and hears no answer.
    pub(crate) fn datagram(&mut self, from: SocketAddr, bytes: Bytes) {
        let flow = Flow::Udp { socket: PHONE_UDP, local: LISTEN.parse().expect("literal"), remote: from };
        self.core.handle(Event::Net(NetEvent::Received { flow, bytes }), self.now);
        self.perform();
    }

    /// A target sends these bytes on the newest connection Holdline has to it.
    pub(crate) fn server_sends(&mut self, name: &str, bytes: Bytes) {
        let addr = address(name);
        let conn = self.conns.iter().filter(|(_, to)| **to == addr).map(|(conn, _)| *conn).max();
        let conn = conn.expect("Holdline is connected to it");
        self.answer_from(addr, conn, bytes, Duration::ZERO);
    }

    /// Lets time pass up to a moment, doing everything due on the way.
    pub(crate) fn run_until(&mut self, end: Instant) {
        loop {
            let next = self.queue.peek().map(|Reverse((at, _))| *at);
            let timeout = self.core.poll_timeout();
            let wake = next.map_or(timeout, |at| at.min(timeout));
            if wake > end {
                break;
            }
            self.now = self.now.max(wake);
            if let Some(at) = next
                && at <= self.now
                && let Some(Reverse((_, serial))) = self.queue.pop()
                && let Some(happening) = self.due.remove(&serial)
            {
                self.happen(happening);
            }
            if self.core.poll_timeout() <= self.now {
                self.core.handle_timeout(self.now);
            }
            self.perform();
        }
        self.now = end;
    }

    /// Forgets what was noted for assertions, so that days can pass.
    pub(crate) fn forget(&mut self) {
        self.ladder.clear();
        self.phones.iter_mut().for_each(Phone::forget);
        self.servers.values_mut().for_each(Server::forget);
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets time pass until `done`, at most so long. Panics with the ladder if it never is.
    pub(crate) fn run_to(&mut self, limit: Duration, what: &str, done: impl Fn(&World) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            let next = self.queue.peek().map(|Reverse((at, _))| *at);
            let wake = next.map_or(self.core.poll_timeout(), |at| at.min(self.core.poll_timeout()));
            assert!(wake <= end, "not within {limit:?}: {what}\n{}", self.ladder.join("\n"));
            self.run_until(wake);
        }
    }

    /// The operator moves to the next target.
    pub(crate) fn roll(&mut self) -> Rollover {
        let rolled = self.core.roll(None, self.now).expect("a next target");
        self.perform();
        rolled
    }

    /// Other settings of the proxy from now on.
    pub(crate) fn reload(&mut self, proxy: Settings) {
        let upstream = self.core.upstream().settings().clone();
        self.core.handle(Event::Settings(Box::new(Reload { proxy, upstream })), self.now);
        self.perform();
    }

    /// A server closes every connection Holdline has to it (a reset), at once.
    pub(crate) fn reset(&mut self, name: &str) {
        let addr = address(name);
        let conns: Vec<ConnId> = self.conns.iter().filter(|(_, to)| **to == addr).map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.conns.remove(&conn);
            self.core.handle(Event::Net(NetEvent::Closed { conn, cause: Cause::Reset }), self.now);
        }
        self.perform();
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Core(event) => self.core.handle(Event::Net(event), self.now),
            Happening::Lookup(result) => self.core.handle(Event::Lookup(result), self.now),
            Happening::UaTimer(ua) => self.act(ua, Ua::timeout),
            Happening::Phone(index, bytes) if self.ua_at(Place::Phone(index), &bytes).is_some() => {
                if let Some(ua) = self.ua_at(Place::Phone(index), &bytes) {
                    self.act(ua, |ua, now| ua.receive(&bytes, now));
                }
            }
            Happening::Phone(index, bytes) => {
                if let Some(reply) = self.phones[index].receive(&bytes, self.now) {
                    self.phone_sends(index, reply);
                }
                self.arm_phone(index);
            }
            Happening::PhoneTimer(index) => {
                if let Some(bytes) = self.phones[index].timeout(self.now) {
                    self.phone_sends(index, bytes);
                }
                self.arm_phone(index);
            }
            Happening::Server(addr, conn, bytes) => self.serve(addr, conn, &bytes),
        }
    }

    fn ua_at(&self, place: Place, bytes: &[u8]) -> Option<usize> {
        self.uas.iter().position(|ua| ua.place == place).filter(|_| cseq(bytes).1 != "REGISTER")
    }

    fn serve(&mut self, addr: SocketAddr, conn: ConnId, bytes: &Bytes) {
        let now = self.now;
        if let Some(ua) = self.ua_at(Place::Pbx(addr), bytes)
            && let Some(server) = self.servers.get_mut(&addr)
            && server.manner == Manner::Normal
        {
            server.received.push((now, bytes.clone()));
            self.act(ua, |ua, now| ua.receive(bytes, now));
            return;
        }
        let Some(server) = self.servers.get_mut(&addr) else { return };
        match server.receive(bytes, now) {
            Turn::Nothing => {}
            Turn::Answers(answers) => {
                for (delay, answer) in answers {
                    self.answer_from(addr, conn, answer, delay);
                }
            }
            Turn::Refuse => {
                let quoted = Some(bytes.slice(..bytes.len().min(548)));
                let refused = NetEvent::SendFailed { flow: Flow::Conn(conn), cause: Cause::Refused, quoted };
                self.cross(true, Happening::Core(refused));
            }
            Turn::Reset => {
                self.conns.remove(&conn);
                self.cross(true, Happening::Core(NetEvent::Closed { conn, cause: Cause::Reset }));
            }
        }
    }

    fn answer_from(&mut self, addr: SocketAddr, conn: ConnId, bytes: Bytes, delay: Duration) {
        let name = self.servers[&addr].name.clone();
        self.rung(&format!("{name}→holdline {}", what(&bytes)));
        let event = Happening::Core(NetEvent::Received { flow: Flow::Conn(conn), bytes });
        let reliable = self.transport != Transport::Udp;
        self.cross_after(delay, reliable, event);
    }

    /// Brings the metrics up to date, as before a scrape.
    pub(crate) fn gather(&self) {
        self.metrics.gather(self.core.facts(), &self.core.levels());
    }

    /// Does what the core wants.
    pub(crate) fn perform(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Lookup => {
                    self.lookups += 1;
                    let result = if self.dns.len() > 1 { Some(self.dns.remove(0)) } else { self.dns.first().cloned() };
                    let result = result.unwrap_or(Err(LookupFailure::Timeout));
                    self.cross(true, Happening::Lookup(result));
                }
                Action::Persist(state) => self.persisted = Some(state),
                Action::Failed(failed) => self.failures.push(*failed),
                Action::RolledOver(rollover) => self.rollovers.push(*rollover),
                Action::Fleet(command) => self.asked.push(command),
                Action::Net(command) => self.command(command),
            }
        }
        self.assert_the_core_is_done();
    }

    /// Nothing was left lying for a later event: unless a timer is due now, another look at the clock brings nothing forth.
    fn assert_the_core_is_done(&mut self) {
        if self.core.poll_timeout() <= self.now {
            return;
        }
        self.core.handle_timeout(self.now);
        let left = self.core.poll_action();
        assert!(left.is_none(), "left lying at {:.3}: {left:?}\n{}", self.seconds(), self.ladder.join("\n"));
    }

    fn command(&mut self, command: NetCommand) {
        match command {
            NetCommand::Open { conn, hop } => {
                self.opens.push((self.now, hop.addr));
                let failure = self.servers.get(&hop.addr).and_then(|server| server.refuses_open(hop.transport));
                let event = match failure {
                    Some((cause, _)) => NetEvent::OpenFailed { conn, cause, detail: "simulated".into() },
                    None => {
                        self.conns.insert(conn, hop.addr);
                        let mut local: SocketAddr = BOUND.parse().expect("literal");
                        if self.ephemeral {
                            local.set_port(40_000 + number(conn) as u16);
                        }
                        NetEvent::Opened { conn, local }
                    }
                };
                let after = failure.map_or(Duration::ZERO, |(_, after)| after);
                self.cross_after(after, true, Happening::Core(event));
            }
            NetCommand::Close { conn } => {
                self.conns.remove(&conn);
            }
            NetCommand::Send { flow, bytes } => self.send(flow, bytes),
        }
    }

    fn send(&mut self, flow: Flow, bytes: Bytes) {
        if bytes.iter().all(|b| matches!(b, b'\r' | b'\n')) {
            if let Flow::Conn(conn) = flow {
                *self.pings.entry(conn).or_default() += 1;
            }
            return;
        }
        if let Flow::Conn(conn) = flow
            && let Some(addr) = self.conns.get(&conn).copied()
        {
            let name = self.servers[&addr].name.clone();
            self.rung(&format!("holdline→{name} {}", what(&bytes)));
            let reliable = self.transport != Transport::Udp;
            self.cross(reliable, Happening::Server(addr, conn, bytes));
            return;
        }
        if let Flow::Udp { socket: UPSTREAM, remote, .. } = flow
            && let Some(server) = self.servers.get(&remote)
        {
            self.rung(&format!("holdline→{} {}", server.name.clone(), what(&bytes)));
            self.cross(false, Happening::Server(remote, ConnId::Dialled(0), bytes));
            return;
        }
        let Some(index) = self.phones.iter().position(|phone| phone.is_at(flow)) else { return };
        self.rung(&format!("holdline→phone {index} {}", what(&bytes)));
        self.cross(is_reliable(&self.phones[index]), Happening::Phone(index, bytes));
    }

    fn arm_phone(&mut self, index: usize) {
        if let Some(at) = self.phones[index].poll_timeout() {
            let delay = at.saturating_duration_since(self.now);
            self.enqueue(delay, Happening::PhoneTimer(index));
        }
    }

    fn cross(&mut self, reliable: bool, happening: Happening) {
        self.cross_after(Duration::ZERO, reliable, happening);
    }

    /// Over the wire: lost or doubled by chance where the transport allows it.
    fn cross_after(&mut self, delay: Duration, reliable: bool, happening: Happening) {
        if !reliable && self.draw() < self.loss {
            self.rung("   ✗ lost");
            return;
        }
        if !reliable && self.draw() < self.duplication {
            let twin = match &happening {
                Happening::Core(event) => Some(Happening::Core(event.clone())),
                Happening::Phone(index, bytes) => Some(Happening::Phone(*index, bytes.clone())),
                Happening::Server(addr, conn, bytes) => Some(Happening::Server(*addr, *conn, bytes.clone())),
                Happening::PhoneTimer(_) | Happening::UaTimer(_) | Happening::Lookup(_) => None,
            };
            if let Some(twin) = twin {
                let later = Duration::from_millis((self.draw() * 300.0) as u64);
                self.enqueue(self.latency + delay + later, twin);
            }
        }
        self.enqueue(self.latency + delay, happening);
    }

    fn enqueue(&mut self, delay: Duration, happening: Happening) {
        self.serial += 1;
        self.queue.push(Reverse((self.now + delay, self.serial)));
        self.due.insert(self.serial, happening);
    }

    fn rung(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        self.ladder.push(format!("{:9.3} {text}", self.seconds()));
    }

    /// Evenly between 0 and 1, from the seed (splitmix64).
    fn draw(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn is_reliable(phone: &Phone) -> bool {
    phone.transport != Transport::Udp
}

fn number(conn: ConnId) -> u64 {
    match conn {
        ConnId::Dialled(number) | ConnId::Accepted(number) => number,
    }
}

/// Method or status of a message, for the ladder.
pub(crate) fn what(bytes: &[u8]) -> String {
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let first = words.next().unwrap_or_default();
    if first == "SIP/2.0" { words.next().unwrap_or_default().to_owned() } else { first.to_owned() }
}

/// The value of the first header with this name (as written), without the name.
pub(crate) fn header(bytes: &[u8], name: &str) -> Option<String> {
    values(bytes, name).next()
}

/// Every value of a header, top first.
pub(crate) fn headers(bytes: &[u8], name: &str) -> Vec<String> {
    values(bytes, name).collect()
}

fn values<'a>(bytes: &'a [u8], name: &'a str) -> impl Iterator<Item = String> + 'a {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    bytes[..head].split(|byte| *byte == b'\n').filter_map(move |line| {
        let (start, value) = (line.get(..name.len())?, line.get(name.len() + 1..)?);
        let named = line[name.len()] == b':' && start.eq_ignore_ascii_case(name.as_bytes());
        named.then(|| String::from_utf8_lossy(value).trim().to_owned())
    })
}
