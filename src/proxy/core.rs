//! The core: events in, actions out, and nothing else. The driver owns the sockets and the clock.
//!
//! Call order: [`Core::handle`] with each event, then [`Core::poll_action`] until it is empty, then sleep until
//! [`Core::poll_timeout`] and call [`Core::handle_timeout`]; again [`Core::poll_action`] until it is empty.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bindings::Bindings;
use super::conns::Connections;
use super::context::{ContextId, Contexts};
use super::history::History;
use super::identity::Key;
use super::names::Names;
use super::reload::Fresh;
use super::reopen::Reopening;
use super::settings::Settings;
use super::spread::Spread;
use super::troubled::Troubled;
use crate::flow::{Cause, ConnId, Flow, HostPort, NetCommand, NetEvent, Side, SocketId, Transport};
use crate::message::{Message, Packet};
use crate::metrics::{Direction, Metrics};
use crate::summaries::Summaries;
use crate::transaction::{Timers, Transactions, TxAction};
use crate::upstream::{LookupFailure, Persisted, RecordSet, RollError, Rollover, Upstream, UpstreamAction};

/// A socket that is bound: a phone-side listener or one of the upstream side's.
#[derive(Debug, Clone)]
pub struct Socket {
    /// Its number.
    pub id: SocketId,
    /// Which side it belongs to.
    pub side: Side,
    /// What it speaks.
    pub transport: Transport,
    /// The bound address; may be a wildcard.
    pub local: SocketAddr,
    /// What to call ourselves on it, instead of the address a packet arrived on.
    pub advertise: Option<HostPort>,
}

/// What happens to the core.
#[derive(Debug)]
pub enum Event {
    /// From the transports.
    Net(NetEvent),
    /// The answer to an [`Action::Lookup`].
    Lookup(Result<RecordSet, LookupFailure>),
    /// SIGTERM: no new dialogs, finish what is open.
    Drain,
    /// Other settings from now on, as far as they may change.
    Settings(Box<Fresh>),
}

/// What the core wants done.
#[derive(Debug)]
pub enum Action {
    /// For the transports.
    Net(NetCommand),
    /// Ask DNS for the configured source, and answer with [`Event::Lookup`].
    Lookup,
    /// Keep the upstream's state for the next start.
    Persist(Persisted),
}

/// Everything between the sockets, without I/O, clock or chance.
pub struct Core {
    pub(super) settings: Settings,
    pub(super) metrics: Arc<Metrics>,
    pub(super) key: Key,
    pub(super) names: Names,
    pub(super) sockets: Vec<Socket>,
    pub(super) upstream: Upstream,
    pub(super) transport: Transport,
    pub(super) transactions: Transactions,
    pub(super) bindings: Bindings,
    pub(super) conns: Connections,
    pub(super) contexts: Contexts,
    /// REGISTERs in progress by Call-ID and AOR.
    pub(super) calls: HashMap<u64, ContextId>,
    /// Which of a target's addresses is tried first: moves on when one fails.
    pub(super) address: HashMap<Arc<str>, usize>,
    /// REGISTERs that wait for the first record set.
    pub(super) held: VecDeque<ContextId>,
    pub(super) timers: BinaryHeap<Reverse<(Instant, ContextId)>>,
    pub(super) branches: u64,
    pub(super) draining: bool,
    /// Rollovers so far: the driver notes the time of the last.
    pub(super) rollovers: u64,
    pub(super) summaries: Summaries,
    pub(super) reopening: Reopening,
    /// When the phones' registrations end.
    pub(super) spread: Option<Spread>,
    /// Why the flow failed whose transactions are being told.
    pub(super) failing: Cause,
    /// The transports' words for it, until somebody has taken them.
    pub(super) failing_detail: Option<Arc<str>>,
    pub(super) history: History,
    pub(super) troubled: Troubled,
    sweep: Instant,
    actions: VecDeque<Action>,
}

/// Bytes of a datagram that any path carries in one piece (RFC 3261 §18.1.1).
pub(super) const PATH_MTU: usize = 1300;
/// How often connections are looked through for idle ones and due keep-alives.
const SWEEP: Duration = Duration::from_secs(5);

impl Core {
    /// A core for sockets that are bound. `key` marks what is ours in Contacts, routes and branches; `first_branch` must
    /// differ between two starts with the same key.
    #[must_use]
    pub fn new(
        settings: Settings,
        upstream: Upstream,
        transport: Transport,
        sockets: Vec<Socket>,
        key: [u8; 32],
        first_branch: u64,
        metrics: Arc<Metrics>,
        now: Instant,
    ) -> Self {
        let names = names(&sockets, &settings);
        let key = Key::new(key);
        let mut seed = [0; 16];
        for (chunk, purpose) in seed.chunks_mut(8).zip([b"transactions 1", b"transactions 2"]) {
            chunk.copy_from_slice(&key.hash(&[purpose, &first_branch.to_be_bytes()]).to_be_bytes());
        }
        let mut core = Core {
            transactions: Transactions::with_seed(Timers::default(), settings.max_transactions, seed),
            bindings: Bindings::new(settings.max_bindings),
            conns: Connections::new(settings.max_upstream_connections),
            contexts: Contexts::default(),
            calls: HashMap::new(),
            address: HashMap::new(),
            held: VecDeque::new(),
            timers: BinaryHeap::new(),
            branches: first_branch,
            draining: false,
            failing: Cause::Unreachable,
            failing_detail: None,
            history: History::new(now),
            troubled: Troubled::default(),
            rollovers: 0,
            summaries: Summaries::default(),
            reopening: Reopening::default(),
            spread: None,
            sweep: now + SWEEP,
            actions: VecDeque::new(),
            key,
            names,
            settings,
            upstream,
            transport,
            sockets,
            metrics,
        };
        // The first lookup, and a restored set.
        core.pump(now);
        core
    }

    /// Takes one event.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Net(event) => self.net(event, now),
            Event::Lookup(result) => self.upstream.handle_lookup(result, now),
            Event::Drain => self.draining = true,
            Event::Settings(fresh) => self.take_settings(*fresh, now),
        }
        self.pump(now);
    }

    /// Does what is due. Call it when [`Self::poll_timeout`] has passed; an earlier call does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transactions.handle_timeout(now);
        self.after_transactions(now);
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            self.context_timeout(id, at, now);
        }
        self.after_transactions(now);
        self.upstream.handle_timeout(now);
        self.bindings.handle_timeout(now);
        self.phone_keepalives(now);
        if self.sweep <= now {
            self.sweep = now + SWEEP;
            self.sweep_connections(now);
        }
        if self.reopening.poll_timeout().is_some_and(|at| at <= now) {
            self.keep_reachable(now);
        }
        self.pump(now);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        [
            self.timers.peek().map(|Reverse((at, _))| *at),
            self.transactions.poll_timeout(),
            self.upstream.poll_timeout(),
            self.bindings.poll_timeout(),
            self.reopening.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .fold(self.sweep, Instant::min)
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether requests can be served: a record set is there and we are not draining.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.upstream.ready() && !self.draining
    }

    /// Whether nothing is in flight: the moment a drain may end.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.contexts.len() == 0
    }

    /// The operator-driven move to a target, or to the next one.
    ///
    /// # Errors
    /// When there is no such target.
    pub fn roll(&mut self, target: Option<&str>, now: Instant) -> Result<Rollover, RollError> {
        let rolled = self.upstream.roll(target, now);
        self.pump(now);
        rolled
    }

    /// The binding table, for the store and for `holdline phones`.
    pub fn bindings(&mut self) -> &mut Bindings {
        &mut self.bindings
    }

    /// The upstream's machine, for the status.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Live and completed transactions.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.transactions.len()
    }

    /// How often the active target changed since the start.
    #[must_use]
    pub fn rollovers(&self) -> u64 {
        self.rollovers
    }

    /// Requests whose sender still waits for a final answer. Looks at every response context.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.contexts.unanswered()
    }

    /// Response contexts.
    #[must_use]
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    pub(super) fn act(&mut self, command: NetCommand) {
        if let NetCommand::Send { flow, bytes } = &command
            && bytes.len() > PATH_MTU
        {
            self.count_large(*flow, Direction::Out);
        }
        if let NetCommand::Send { flow, bytes } = &command
            && tracing::enabled!(tracing::Level::TRACE)
        {
            show_packet(*flow, bytes);
        }
        self.actions.push_back(Action::Net(command));
    }

    /// Counts a message beyond [`PATH_MTU`], if it is a datagram.
    pub(super) fn count_large(&self, flow: Flow, direction: Direction) {
        let (side, transport) = self.labels(flow);
        if transport == Transport::Udp {
            self.metrics.large_datagrams(side, direction).inc();
        }
    }

    pub(super) fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(usize::from(id.0)).filter(|s| s.id == id).or_else(|| self.sockets.iter().find(|s| s.id == id))
    }

    /// The side a flow lives on.
    pub(super) fn side(&self, flow: Flow) -> Side {
        match flow {
            Flow::Udp { socket, .. } => self.socket(socket).map_or(Side::Phone, |s| s.side),
            Flow::Conn(id) => self.conns.get(id).map_or(Side::Phone, |c| c.side),
        }
    }

    /// Does what the machines want until none of them wants anything more. Every public method that steps a machine ends here:
    /// what one machine's wish brings about in another one happens in the same instant, not at the next event.
    fn pump(&mut self, now: Instant) {
        loop {
            self.after_transactions(now);
            let Some(action) = self.upstream.poll_action() else { break };
            self.upstream_wants(action, now);
        }
        debug_assert!(!self.transactions.wants_something(), "the transactions' wishes are fulfilled");
    }

    /// Passes on what the transaction layer wants, until it wants nothing more.
    pub(super) fn after_transactions(&mut self, now: Instant) {
        while let Some(action) = self.transactions.poll_action() {
            match action {
                TxAction::Send { flow, bytes, retransmission } => {
                    if retransmission {
                        self.metrics.retransmissions(self.side(flow)).inc();
                    }
                    self.conns.sent(flow, now);
                    self.act(NetCommand::Send { flow, bytes });
                }
                TxAction::ClientTimeout(client) => self.client_timeout(client, now),
                TxAction::ClientTimerC(client) => self.rang_too_long(client, now),
                TxAction::ClientTransportError(client) => self.client_transport_error(client, now),
                TxAction::ClientEnded(client) => self.client_ended(client, now),
                TxAction::ServerEnded(server) => self.server_ended(server, now),
            }
        }
    }

    /// Does what the upstream's machine wants.
    fn upstream_wants(&mut self, action: UpstreamAction, now: Instant) {
        match action {
            UpstreamAction::Lookup => self.actions.push_back(Action::Lookup),
            UpstreamAction::Persist(state) => self.actions.push_back(Action::Persist(state)),
            UpstreamAction::SetChanged => {
                self.targets_changed();
                self.release_held(now);
                self.keep_reachable(now);
            }
            UpstreamAction::RolledOver(rollover) => self.rolled_over(&rollover, now),
        }
    }

    pub(super) fn schedule(&mut self, id: ContextId, at: Instant) {
        self.timers.push(Reverse((at, id)));
    }

    fn net(&mut self, event: NetEvent, now: Instant) {
        match event {
            NetEvent::Received { flow, bytes } => self.received(flow, bytes, now),
            NetEvent::Unframed { conn, bytes, reason } => self.unframed(conn, bytes, reason, now),
            // The upstream's answer to our own keep-alive is no use of a connection.
            NetEvent::KeepAlive { conn } if self.side(Flow::Conn(conn)) == Side::Upstream => {}
            NetEvent::KeepAlive { conn } => self.conns.touch(Flow::Conn(conn), now),
            NetEvent::Accepted { conn, side, transport, socket, local, remote } => {
                self.accepted(conn, side, transport, socket, local, remote, now);
            }
            NetEvent::Opened { conn, local } => self.opened(conn, local, now),
            NetEvent::OpenFailed { conn, cause, detail } => self.open_failed(conn, cause, &detail, now),
            NetEvent::Closed { conn, cause } => self.closed(conn, cause, now),
            NetEvent::SendFailed { flow, cause } => self.send_failed(flow, cause, now),
        }
    }

    /// Closes a connection of our own accord.
    pub(super) fn close(&mut self, conn: ConnId) {
        self.conns.remove(conn);
        self.bindings.connection_lost(conn);
        self.act(NetCommand::Close { conn });
    }
}

/// At trace: what leaves, keep-alives left out.
fn show_packet(flow: Flow, bytes: &Bytes) {
    if let Ok(message) = Message::scan(bytes.clone()) {
        tracing::trace!(call_id = %message.call_id_shown(), ?flow, packet = %Packet(bytes), "sent");
    }
}

/// What means us: the listeners, what they advertise, and the aliases.
pub(super) fn names(sockets: &[Socket], settings: &Settings) -> Names {
    let mut names = Names::new();
    for socket in sockets {
        let advertise = match socket.side {
            Side::Phone => socket.advertise.as_ref(),
            Side::Upstream => settings.upstream_advertise.as_ref(),
        };
        names.add_socket(socket.side, socket.local, advertise);
    }
    for alias in &settings.aliases {
        names.add_alias(alias);
    }
    if let Some(domain) = &settings.domain {
        names.set_domain(domain, settings.domain_in_aor);
    }
    names
}
