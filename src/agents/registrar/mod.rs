//! A registrar with digest authentication that fails on request in every way a real one does.
//!
//! It keeps a location table, writes down every message it gets, and can send requests of its own to a handset that is
//! registered with it. UDP and TCP share one port, TLS has another.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::sip::Message;
use super::wire::{Exchange, Incoming, Link, Pit, Wire};
use super::{TimedOut, Watched, keep};
use crate::flow::Transport;

mod behaviour;
mod location;
mod options;
mod outgoing;
mod ports;
mod record;
mod register;

pub use behaviour::{Behaviour, Reaction};
pub use location::{Binding, Locations};
pub use options::Options;
pub use outgoing::{Outgoing, Reach};
pub use record::{Received, Record};

use behaviour::Script;
use ports::Ports;

/// Server transactions that are remembered, so that a repeated request gets the same answer.
const MAX_TRANSACTIONS: usize = 65_536;

/// A running registrar. Clones are handles to the same one; it ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Registrar {
    shared: Arc<Shared>,
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    wire: Wire,
    ports: Ports,
    pits: tokio::sync::Mutex<Vec<Pit>>,
    record: Watched<Record>,
    locations: Watched<Locations>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    script: Script,
    nonces: register::Nonces,
    /// By branch, sent-by and method.
    transactions: HashMap<String, Reaction>,
    /// Keys of the two tables, oldest first.
    order: VecDeque<(String, String)>,
    /// Call-ID, CSeq and From of requests, with the transaction that had them first.
    seen: HashMap<String, String>,
}

impl Registrar {
    /// Binds its sockets on 127.0.0.1 and starts.
    ///
    /// # Errors
    /// Where a port cannot be bound.
    pub fn start(options: Options) -> io::Result<Registrar> {
        let (wire, incoming) = Wire::new();
        let ports = Ports::take(&options)?;
        ports.open(&wire, &options)?;
        let shared = Arc::new(Shared {
            options,
            wire,
            ports,
            pits: tokio::sync::Mutex::default(),
            record: Watched::new(Record::default()),
            locations: Watched::new(Locations::default()),
            state: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(run(Arc::clone(&shared), incoming));
        Ok(Registrar { shared, _tasks: Arc::new(tasks) })
    }

    /// Where it listens.
    ///
    /// # Panics
    /// For TLS where it was started without.
    pub fn addr(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Udp | Transport::Tcp => self.shared.ports.tcp.addr,
            Transport::Tls => self.shared.ports.tls.as_ref().expect("a registrar that was started with TLS").addr,
        }
    }

    /// How it behaves from now on; resolves when its sockets and connections are as they shall be.
    ///
    /// # Errors
    /// Where a port that was closed cannot be opened again.
    pub async fn behave(&self, behaviour: Behaviour) -> io::Result<()> {
        let shared = &self.shared;
        let mut pits = shared.pits.lock().await;
        shared.state().script.base = behaviour.clone();
        shared.wire.set_admission(behaviour.admission());
        // Sockets that are open and shall be stay open: no datagram is lost in between.
        let closed = !pits.is_empty() || shared.wire.local(Transport::Tcp).is_none();
        if closed || behaviour.closes_sockets() {
            pits.clear();
            shared.wire.close_sockets().await;
            match behaviour {
                Behaviour::Refuse => {}
                Behaviour::Unreachable => *pits = shared.ports.swallow(&shared.wire).await?,
                _ => shared.ports.open(&shared.wire, &shared.options)?,
            }
        }
        if let Some(reset) = behaviour.ends_connections() {
            shared.wire.end_connections(reset).await;
        }
        Ok(())
    }

    /// The answers to the next new REGISTERs, one each, before it behaves as set again.
    pub fn next(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.shared.state().script.queue.extend(reactions);
    }

    /// Ends every connection, in order or by reset.
    pub async fn end_connections(&self, reset: bool) {
        self.shared.wire.end_connections(reset).await;
    }

    /// Forgets every nonce it gave out: the next credentials are stale.
    pub fn expire_nonces(&self) {
        self.shared.state().nonces.expire();
    }

    /// Forgets every binding.
    pub fn forget_bindings(&self) {
        self.shared.locations.update(|all| *all = Locations::default());
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
        self.shared.record.wait(what, within, condition).await
    }

    /// Waits until a method was seen at least so many times, repetitions left out.
    ///
    /// # Errors
    /// After `within`.
    pub async fn wait_for(&self, method: &str, times: usize, within: Duration) -> Result<(), TimedOut> {
        let what = format!("request {times} of {method} at {}", self.shared.options.name);
        self.wait(&what, within, |record| record.count(method) >= times).await
    }

    /// The live bindings of `user@domain`.
    pub fn bindings(&self, aor: &str) -> Vec<Binding> {
        self.shared.locations.read(|all| all.of(aor, Instant::now()).cloned().collect())
    }

    /// Every address-of-record that has a live binding.
    pub fn registered(&self) -> Vec<String> {
        self.shared.locations.read(|all| all.registered(Instant::now()))
    }

    /// Waits until the location table fulfils a condition.
    ///
    /// # Errors
    /// After `within`.
    pub async fn wait_locations(
        &self,
        what: &str,
        within: Duration,
        condition: impl FnMut(&Locations) -> bool,
    ) -> Result<(), TimedOut> {
        self.shared.locations.wait(what, within, condition).await
    }

    /// Sends a request to the first Contact of `user@domain` and waits for its answer. `None` without a binding.
    pub async fn send(&self, aor: &str, outgoing: &Outgoing) -> Option<Exchange> {
        let binding = self.bindings(aor).into_iter().next()?;
        Some(self.send_to(&binding, outgoing).await)
    }

    /// Sends a request to one binding's Contact and waits for its answer.
    pub async fn send_to(&self, binding: &Binding, outgoing: &Outgoing) -> Exchange {
        self.shared.send_to(binding, outgoing).await
    }

    /// Sends bytes as they are on the flow that a binding was made on.
    ///
    /// # Errors
    /// The flow is gone.
    pub async fn send_raw(&self, binding: &Binding, bytes: Bytes) -> io::Result<()> {
        binding.link.send(bytes).await
    }
}

async fn run(shared: Arc<Shared>, mut incoming: mpsc::Receiver<Incoming>) {
    let mut late = JoinSet::new();
    while let Some(arrival) = incoming.recv().await {
        while late.try_join_next().is_some() {}
        match arrival {
            Incoming::Message { link, message, at, .. } if message.is_request() => {
                let reaction = shared.react(&link, &message, at);
                if reaction.is_immediate() {
                    Shared::perform(&link, reaction).await;
                } else {
                    late.spawn(async move { Shared::perform(&link, reaction).await });
                }
            }
            Incoming::Message { link, message, at, .. } => shared.note(&link, message, at, false),
            Incoming::Garbage { link, bytes } => {
                shared.record.update(|r| keep(&mut r.garbage, shared.options.kept, (link.remote, bytes)));
            }
            Incoming::KeepAlive { .. } => shared.record.update(|r| r.keep_alives += 1),
            Incoming::Opened { .. } => shared.record.update(|r| r.opened += 1),
            Incoming::Closed { .. } => shared.record.update(|r| r.closed += 1),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, link: &Link, message: Message, at: Instant, repeated: bool) {
        let (transport, source, connection) = (link.transport, link.remote, link.connection());
        let received = Received { at, transport, source, connection, message, repeated };
        self.record.update(|record| keep(&mut record.received, self.options.kept, received));
    }

    /// The server transaction: a repeated request meets what the first one met.
    fn react(&self, link: &Link, message: &Message, at: Instant) -> Reaction {
        let sent_by = message.via().map_or("", |via| via.sent_by);
        let key = format!("{} {sent_by} {}", message.branch(), message.method());
        let mut state = self.state();
        let known = state.transactions.get(&key).cloned();
        let repeated = known.is_some();
        let reaction = known.unwrap_or_else(|| self.first_reaction(&mut state, &key, link, message, at));
        drop(state);
        self.note(link, message.clone(), at, repeated);
        if message.method() == "REGISTER" && !repeated {
            self.count_answers(&reaction);
        }
        reaction
    }

    fn first_reaction(&self, state: &mut State, key: &str, link: &Link, message: &Message, at: Instant) -> Reaction {
        if message.method() == "ACK" {
            return Reaction::Nothing;
        }
        let scripted = if message.method() == "REGISTER" { state.script.queue.pop_front() } else { None };
        let queued = scripted.is_some();
        let wanted = scripted.unwrap_or_else(|| state.script.base.reaction(message));
        let cseq = message.header("CSeq").unwrap_or("");
        let from = message.header("From").unwrap_or("");
        let identity = format!("{} {cseq} {from}", message.call_id());
        let first = state.seen.entry(identity.clone()).or_insert_with(|| key.to_owned());
        let merged = self.options.merged.filter(|_| first != key);
        let reaction = match merged {
            Some(status) if !matches!(wanted, Reaction::Nothing) => Reaction::Answer(status),
            _ => wanted,
        };
        let reaction = self.resolve(state, reaction, link, message, at);
        // A whole registrar that is silent forgets what it did not hear; one request that is passed over stays so.
        if queued || !matches!(reaction, Reaction::Nothing) {
            state.remember(key, identity, &reaction);
        }
        reaction
    }

    /// Turns `Normal` and `Answer` into the bytes that go out.
    fn resolve(&self, state: &mut State, wanted: Reaction, link: &Link, message: &Message, at: Instant) -> Reaction {
        match wanted {
            Reaction::Normal if message.method() == "REGISTER" => {
                Reaction::Send(self.register(state, link, message, at))
            }
            Reaction::Normal => {
                let status = self.options.answers.get(message.method()).copied().unwrap_or(200);
                Reaction::Send(self.other(link, message, status))
            }
            Reaction::Answer(status) => Reaction::Send(self.answer(link, message, status, &[])),
            Reaction::AnswerWith(status, headers) => {
                let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
                Reaction::Send(self.answer(link, message, status, &headers))
            }
            Reaction::ChallengeThen(status) => match self.check(state, message, at) {
                Ok(()) => Reaction::Send(self.answer(link, message, status, &[])),
                Err(refusal) => Reaction::Send(self.refuse(link, message, &refusal)),
            },
            Reaction::After(delay, then) => {
                Reaction::After(delay, Box::new(self.resolve(state, *then, link, message, at)))
            }
            Reaction::TryingThen(then) => Reaction::Both(
                self.answer(link, message, 100, &[]),
                Box::new(self.resolve(state, *then, link, message, at)),
            ),
            done @ (Reaction::Nothing | Reaction::Send(_) | Reaction::Both(..) | Reaction::Close | Reaction::Reset) => {
                done
            }
        }
    }

    fn count_answers(&self, reaction: &Reaction) {
        if let Some(status) = reaction.status() {
            self.record.update(|record| *record.answered.entry(status).or_default() += 1);
        }
    }

    async fn perform(link: &Link, reaction: Reaction) {
        let mut reaction = reaction;
        loop {
            match reaction {
                Reaction::Send(bytes) => {
                    let _ = reply_link(link, &bytes).send(bytes).await;
                    return;
                }
                Reaction::Both(first, then) => {
                    let _ = reply_link(link, &first).send(first).await;
                    reaction = *then;
                }
                Reaction::After(delay, then) => {
                    tokio::time::sleep(delay).await;
                    reaction = *then;
                }
                Reaction::Close => return link.end(false).await,
                Reaction::Reset => return link.end(true).await,
                // Everything else was resolved before.
                Reaction::Nothing
                | Reaction::Normal
                | Reaction::Answer(_)
                | Reaction::AnswerWith(..)
                | Reaction::ChallengeThen(_)
                | Reaction::TryingThen(_) => return,
            }
        }
    }
}

impl State {
    fn remember(&mut self, key: &str, identity: String, reaction: &Reaction) {
        self.transactions.insert(key.to_owned(), reaction.clone());
        self.order.push_back((key.to_owned(), identity));
        if self.order.len() > MAX_TRANSACTIONS
            && let Some((key, identity)) = self.order.pop_front()
        {
            self.transactions.remove(&key);
            self.seen.remove(&identity);
        }
    }
}

/// RFC 3261 §18.2.2 and RFC 3581: where the response's own top Via says, for datagrams.
fn reply_link(link: &Link, response: &Bytes) -> Link {
    if link.transport != Transport::Udp {
        return link.clone();
    }
    let Some(message) = Message::read(response) else { return link.clone() };
    let Some(via) = message.via() else { return link.clone() };
    let port = via.param("rport").and_then(|p| p.parse().ok()).or(via.port()).unwrap_or(5060);
    let host = via.param("received").unwrap_or(via.host());
    link.to(SocketAddr::new(host.parse().unwrap_or(link.remote.ip()), port))
}
