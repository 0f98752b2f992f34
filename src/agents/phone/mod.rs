//! A desk phone: registers through an outbound proxy and keeps its registration, over UDP, TCP or TLS.
//!
//! It knows nothing of SRV records or failover. Its transactions have the timers of RFC 3261 §17.1.2, with Timer F as
//! long as the handset to be played has it. It keeps its own record of what it saw: that record, not the proxy's word, says
//! whether a failover was noticed.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::sip::{self, Message};
use super::wire::{Exchange, Incoming, Link, Wire};
use super::{TimedOut, Watched, keep};
use crate::flow::Transport;

mod options;
mod record;
mod registering;

pub use options::{Answer, Options, Refresh};
pub use record::{Final, Record, Seen};

use registering::Registration;

/// Entries that each list of the record keeps at least; at twice as many the oldest half goes.
const KEPT: usize = 1_000;

/// The outcome of one registration (one or two transactions: without and with credentials).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterOutcome {
    /// 2xx, with the seconds granted (0 after taking the registration back).
    Registered(u32),
    /// Another final status; 401 where its credentials were not believed.
    Rejected(u16),
    /// Timer F.
    TimedOut,
    /// No connection, or it broke.
    Broken,
}

impl RegisterOutcome {
    /// True for [`RegisterOutcome::Registered`].
    pub fn is_registered(self) -> bool {
        matches!(self, RegisterOutcome::Registered(_))
    }
}

/// A running handset. Clones are handles to the same one; it ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Phone {
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<(u32, oneshot::Sender<RegisterOutcome>)>,
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    wire: Wire,
    /// For UDP where it sends from; for connections the open one.
    link: tokio::sync::Mutex<Option<Link>>,
    /// For UDP, where it listens.
    listening: Option<SocketAddr>,
    record: Watched<Record>,
    answers: Mutex<HashMap<String, Answer>>,
    refresh: watch::Sender<Refresh>,
}

impl Phone {
    /// Opens its sockets on 127.0.0.1 (`::1` for an IPv6 proxy) and starts; registers at once unless it does so on demand only.
    ///
    /// # Errors
    /// Where no port can be bound. A connection that fails is part of the record instead.
    pub fn start(options: Options) -> io::Result<Phone> {
        let (wire, incoming) = Wire::new();
        let mut link = None;
        let mut listening = None;
        if options.transport == Transport::Udp {
            let any = loopback(options.proxy);
            let socket = wire.bind_udp(any, false)?;
            listening = Some(if options.split_ports { wire.bind_udp(any, false)?.local } else { socket.local });
            link = Some(socket.to(options.proxy));
        }
        let shared = Arc::new(Shared {
            refresh: watch::Sender::new(options.refresh),
            options,
            wire,
            link: tokio::sync::Mutex::new(link),
            listening,
            record: Watched::new(Record::default()),
            answers: Mutex::default(),
        });
        let (orders, receiver) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(answer_requests(Arc::clone(&shared), incoming));
        tasks.spawn(keep_registered(Arc::clone(&shared), receiver));
        Ok(Phone { shared, orders, _tasks: Arc::new(tasks) })
    }

    /// The handset's properties.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Registers now (after what is under way) and says how it went.
    pub async fn register(&self) -> RegisterOutcome {
        self.order(self.shared.options.expires).await
    }

    /// Takes its registration back: `expires=0`.
    pub async fn unregister(&self) -> RegisterOutcome {
        self.order(0).await
    }

    async fn order(&self, expires: u32) -> RegisterOutcome {
        let (reply, outcome) = oneshot::channel();
        let _ = self.orders.send((expires, reply));
        outcome.await.unwrap_or(RegisterOutcome::Broken)
    }

    /// Changes when it registers again, from now on.
    pub fn set_refresh(&self, refresh: Refresh) {
        self.shared.refresh.send_replace(refresh);
    }

    /// Sets the answer to requests of a method. Other methods are answered 200.
    pub fn set_answer(&self, method: &str, answer: Answer) {
        self.shared.answers().insert(method.to_owned(), answer);
    }

    /// Ends its connection, in order or by reset. The next request makes a new one.
    pub async fn disconnect(&self, reset: bool) {
        self.shared.wire.end_connections(reset).await;
    }

    /// Sends an out-of-dialog request and waits for its end. `Via`, `Max-Forwards`, `From`, `To`, `Call-ID`, `CSeq` and
    /// `User-Agent` are added.
    pub async fn request(&self, method: &str, uri: &str, headers: &[(&str, String)], body: &[u8]) -> Exchange {
        let link = match self.shared.link().await {
            Ok(link) => link,
            Err(error) => return Exchange::broken(&error.to_string()),
        };
        let branch = new_branch();
        let mut all = self.shared.common_headers(&link, &branch);
        all.push(("To", format!("<{uri}>")));
        all.push(("Call-ID", sip::random_token(12)));
        all.push(("CSeq", format!("1 {method}")));
        all.extend(headers.iter().cloned());
        self.shared
            .wire
            .exchange(&link, sip::request(method, uri, &all, body), &branch, self.shared.options.timers)
            .await
    }

    /// Sends bytes as they are and waits for a response with this branch. The bytes begin with the method.
    pub async fn exchange_raw(&self, bytes: Bytes, branch: &str) -> Exchange {
        match self.shared.link().await {
            Ok(link) => self.shared.wire.exchange(&link, bytes, branch, self.shared.options.timers).await,
            Err(error) => Exchange::broken(&error.to_string()),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// No connection.
    pub async fn send_raw(&self, bytes: Bytes) -> io::Result<()> {
        self.shared.link().await?.send(bytes).await
    }

    /// Where it listens for datagrams, or its end of the open connection.
    pub async fn local(&self) -> Option<SocketAddr> {
        match self.shared.listening {
            Some(addr) => Some(addr),
            None => self.shared.link.lock().await.as_ref().map(|link| link.local),
        }
    }

    /// A copy of the record.
    pub fn record(&self) -> Record {
        self.shared.record.read(Clone::clone)
    }

    /// Looks at the record.
    pub fn read<R>(&self, look: impl FnOnce(&Record) -> R) -> R {
        self.shared.record.read(look)
    }

    /// Waits until the record fulfils a condition.
    ///
    /// # Errors
    /// After `within`.
    pub async fn wait(
        &self,
        what: &str,
        within: Duration,
        condition: impl FnMut(&Record) -> bool,
    ) -> Result<(), TimedOut> {
        let what = format!("{what} at phone {}", self.shared.options.user);
        self.shared.record.wait(&what, within, condition).await
    }
}

impl Shared {
    fn answers(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to the proxy; a connection is made where none is open.
    async fn link(&self) -> io::Result<Link> {
        let mut slot = self.link.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.is_open()) {
            return Ok(link.clone());
        }
        let tls = if self.options.transport == Transport::Tls { self.options.tls.clone() } else { None };
        let connect = self.wire.connect(self.options.proxy, tls);
        // A handset does not wait longer for a connection than for an answer.
        let link = tokio::time::timeout(self.options.timers.f, connect).await??;
        *slot = Some(link.clone());
        Ok(link)
    }

    /// What Via and Contact name.
    fn sent_by(&self, link: &Link) -> SocketAddr {
        self.listening.unwrap_or(link.local)
    }

    fn contact(&self, link: &Link) -> String {
        let transport = match self.options.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
        };
        format!("sip:{}@{}{transport}", self.options.user, self.sent_by(link))
    }

    /// Via, Max-Forwards, From, User-Agent and a preloaded Route.
    fn common_headers(&self, link: &Link, branch: &str) -> Vec<(&'static str, String)> {
        let options = &self.options;
        let rport = if options.rport { ";rport" } else { "" };
        let (token, sent_by) = (link.transport.via_token(), self.sent_by(link));
        let mut headers = vec![("Via", format!("SIP/2.0/{token} {sent_by};branch={branch}{rport}"))];
        headers.extend(options.route.iter().map(|route| ("Route", route.clone())));
        headers.push(("Max-Forwards", "70".to_owned()));
        headers.push(("From", format!("<sip:{}>;tag={}", options.aor(), sip::random_token(4))));
        headers.push(("User-Agent", options.user_agent.clone()));
        headers
    }

    /// Answers a request that came in, by RFC 3261 §18.2.2: on a connection on that connection, else to the source.
    async fn answer(&self, link: &Link, message: &Message) {
        let answer = self.answers().get(message.method()).copied().unwrap_or(Answer::Status(200));
        let Answer::Status(mut status) = answer else { return };
        // As real handsets do, it answers for its own Contact only.
        if sip::user(message.uri()).is_some_and(|user| user != self.options.user) {
            status = 404;
        }
        let Some(via) = message.list("Via").first().map(|via| (*via).to_owned()) else { return };
        let contact = format!("<{}>", self.contact(link));
        let headers = [("Contact", contact), ("User-Agent", self.options.user_agent.clone())];
        let response = sip::response(message, &via, &sip::random_token(4), status, &headers, b"");
        let _ = link.send(response).await;
    }
}

/// Answers requests, and records what no exchange waits for.
async fn answer_requests(shared: Arc<Shared>, mut incoming: mpsc::Receiver<Incoming>) {
    while let Some(arrival) = incoming.recv().await {
        match arrival {
            Incoming::Message { link, message, at, .. } if message.is_request() => {
                if message.method() != "ACK" {
                    shared.answer(&link, &message).await;
                }
                let from = link.remote;
                shared.record.update(|record| keep(&mut record.requests, KEPT, Seen { at, from, message }));
            }
            Incoming::Message { link, message, at, late } => shared.record.update(|record| {
                let seen = Seen { at, from: link.remote, message };
                keep(if late { &mut record.late } else { &mut record.unexpected }, KEPT, seen);
            }),
            Incoming::Garbage { .. } => shared.record.update(|record| record.garbage += 1),
            Incoming::KeepAlive { .. } => shared.record.update(|record| record.keep_alives += 1),
            Incoming::Opened { .. } => shared.record.update(|record| record.connections += 1),
            Incoming::Closed { why, .. } => {
                shared.record.update(|record| keep(&mut record.closed, KEPT, (Instant::now(), why)));
            }
        }
    }
}

/// The handset's last registration.
#[derive(Debug, Clone, Copy)]
enum Last {
    Never,
    Was(Instant, RegisterOutcome),
    /// It was taken back on demand: not wanted until it is demanded again.
    TakenBack,
}

/// Registers on demand, and when it is time.
async fn keep_registered(
    shared: Arc<Shared>,
    mut orders: mpsc::UnboundedReceiver<(u32, oneshot::Sender<RegisterOutcome>)>,
) {
    let mut registration = Registration::new();
    let mut refresh = shared.refresh.subscribe();
    let mut last = Last::Never;
    loop {
        let due = next_time(*refresh.borrow_and_update(), shared.options.retry, last);
        let wait = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => {
                let Some((expires, reply)) = order else { return };
                let outcome = registration.run(&shared, expires).await;
                last = if expires == 0 { Last::TakenBack } else { Last::Was(Instant::now(), outcome) };
                let _ = reply.send(outcome);
            }
            () = wait => {
                let outcome = registration.run(&shared, shared.options.expires).await;
                last = Last::Was(Instant::now(), outcome);
            }
            changed = refresh.changed() => if changed.is_err() { return },
        }
    }
}

fn next_time(refresh: Refresh, retry: Duration, last: Last) -> Option<Instant> {
    match (refresh, last) {
        (Refresh::OnDemand, _) | (_, Last::TakenBack) => None,
        (_, Last::Never) => Some(Instant::now()),
        (Refresh::Every(interval), Last::Was(at, RegisterOutcome::Registered(_))) => Some(at + interval),
        (Refresh::Fraction(part), Last::Was(at, RegisterOutcome::Registered(granted))) => {
            Some(at + Duration::from_secs(granted.into()).mul_f64(part.clamp(0.01, 1.0)))
        }
        (_, Last::Was(at, RegisterOutcome::Rejected(_) | RegisterOutcome::TimedOut | RegisterOutcome::Broken)) => {
            Some(at + retry)
        }
    }
}

fn new_branch() -> String {
    format!("z9hG4bK{}", sip::random_token(12))
}

/// Any port of the loopback address from which `proxy` can be reached.
fn loopback(proxy: SocketAddr) -> SocketAddr {
    if proxy.is_ipv6() { (Ipv6Addr::LOCALHOST, 0).into() } else { (Ipv4Addr::LOCALHOST, 0).into() }
}
