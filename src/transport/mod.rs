//! Transports: bytes to flows and back, over UDP, TCP and TLS.
//!
//! [`Transports`] belongs to the driver's task. It waits in [`Transports::next`] for a batch of events, gives them to the core,
//! carries out the core's commands with [`Transports::perform`], which never waits, and calls [`Transports::flush`] once
//! the batch is dealt with: datagrams leave then, many with one system call.
//!
//! ```text
//! UDP sockets ── recvmmsg, no task in between ──┐
//! TCP/TLS: a task each ── bounded channel ──────┼── next() → events → core → commands → perform(), flush()
//! ICMP errors: a task per connected socket ─────┘
//! ```
//!
//! Tasks of TLS run on threads of their own (`workers`), all others on the driver's.
//!
//! The phone side has the listeners. The upstream side shares one port: an unconnected UDP socket and one connected to each
//! hop (`SO_REUSEPORT`; only those learn of ICMP errors), a listener for an upstream that dials us, and the connections
//! we open, as far as the port pair is free.

mod accept;
mod bind;
mod bounds;
mod cause;
mod connect;
pub mod descriptors;
mod drops;
mod held;
mod icmp;
mod listeners;
mod mmsg;
mod proxy_protocol;
mod refusals;
mod said;
mod settings;
mod shares;
mod stream;
pub mod tls;
mod udp;
mod workers;

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

pub use bind::{BindError, remedy as bind_remedy};
pub use listeners::BoundSocket;
pub use settings::{Limits, Listen, Settings, TlsSettings, UpstreamBind, Verify};
pub use tls::Certificates;

use crate::flow::{Cause, ConnId, Flow, Hop, NetCommand, NetEvent, Side, SocketId, Transport};
use crate::metrics::Metrics;
use accept::Allowed;
use bind::Sharing;
use drops::Drops;
use held::Ledger;
use said::Said;
use stream::{About, Outlet, Tell};
use tls::{Tls, TlsError};
use udp::{Role, Udp};
use workers::Workers;

/// The most events that [`Transports::next`] hands over at once.
pub const EVENTS: usize = 64;
/// Of those, kept for connections and errors while datagrams pour in.
const RESERVED: usize = 16;
/// Of the upstream side, in both families.
const UPSTREAM_SOCKETS: usize = 4;
/// Events of connections that may wait for the driver, for each side.
const WAITING: usize = 256;

/// Every socket of this process. See the module's text for the order of calls.
pub struct Transports {
    bound: Vec<BoundSocket>,
    udp: Vec<Option<Udp>>,
    /// Index into `udp` by [`SocketId`].
    datagram_sockets: Vec<Option<usize>>,
    /// Indices into `udp` with something queued.
    unsent: Vec<usize>,
    /// Where the next turn of `next` begins, so that no socket starves another.
    turn: usize,
    conns: HashMap<ConnId, Conn>,
    /// Connections whose stream broke, to be closed after the core's answers.
    unframed: Vec<ConnId>,
    pending: Vec<NetEvent>,
    told: [mpsc::Receiver<Tell>; 2],
    tell: [mpsc::Sender<Tell>; 2],
    icmp: (mpsc::Sender<NetEvent>, mpsc::Receiver<NetEvent>),
    drops: (Drops, AbortHandle),
    listening: JoinSet<()>,
    /// The next odd connection number.
    numbers: Arc<AtomicU64>,
    upstream: Vec<SocketAddr>,
    /// How many connections each side accepts, where its listeners look.
    connections: Arc<AtomicUsize>,
    /// How many are open on both.
    accepted: Arc<AtomicUsize>,
    /// For how many there are descriptors.
    room: usize,
    allowed: Allowed,
    ledger: Ledger,
    said: Said,
    settings: Settings,
    tls: Tls,
    workers: Workers,
    metrics: Arc<Metrics>,
}

enum Conn {
    Stream(Outlet),
    /// Index into `udp`, and the inode its drops are counted by.
    Datagram(usize, u64),
}

impl Transports {
    /// Binds every socket of these settings. To be called on the runtime that will drive it.
    pub async fn bind(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, BindError> {
        let tls = Tls::load(&settings.tls, settings.upstream_transport == Transport::Tls)?;
        if settings.listen.iter().any(|listen| listen.transport == Transport::Tls) && !tls.can_accept() {
            return Err(TlsError::no_server_certificate().into());
        }
        tls.publish(&metrics);
        let (phone, upstream) = (mpsc::channel(WAITING), mpsc::channel(WAITING));
        let drops = Drops::default();
        let watch = drops.watch(metrics.clone());
        let mut transports = Self {
            bound: Vec::new(),
            udp: Vec::new(),
            datagram_sockets: Vec::new(),
            unsent: Vec::new(),
            turn: 0,
            conns: HashMap::new(),
            unframed: Vec::new(),
            pending: Vec::new(),
            told: [phone.1, upstream.1],
            tell: [phone.0, upstream.0],
            icmp: mpsc::channel(WAITING),
            drops: (drops, watch),
            listening: JoinSet::new(),
            numbers: Arc::new(AtomicU64::new(1)),
            upstream: Vec::new(),
            connections: Arc::new(AtomicUsize::new(settings.limits.connections)),
            accepted: Arc::default(),
            room: descriptors::room(descriptors::limit(), settings.listen.len() + UPSTREAM_SOCKETS),
            allowed: Allowed::new(&settings.allow),
            ledger: Ledger::new(settings.limits.held_bytes),
            said: Said::default(),
            workers: Workers::start(settings).map_err(BindError::Threads)?,
            settings: settings.clone(),
            tls,
            metrics,
        };
        transports.warn_of_descriptors();
        transports.bind_all()?;
        tokio::task::yield_now().await;
        Ok(transports)
    }

    /// Every bound socket: the listeners in configuration order, then the upstream side's.
    pub fn listeners(&self) -> &[BoundSocket] {
        &self.bound
    }

    /// Shows and believes these certificates from now on. Connections that are open stay. Error: there is a TLS listener, and
    /// nothing for it to show; everything is as it was then.
    pub fn renew(&mut self, certificates: Certificates) -> Result<(), TlsError> {
        self.tls.renew(certificates)?;
        self.tls.publish(&self.metrics);
        Ok(())
    }

    /// Waits until something has happened and appends up to [`EVENTS`] events. Cancel safe: what has been appended is
    /// returned at once, and what has not is not lost.
    pub async fn next(&mut self, events: &mut Vec<NetEvent>) {
        self.close_unframed();
        poll_fn(|cx| self.poll_next(cx, events)).await;
    }

    /// Carries out one command, without waiting. Datagrams are queued until [`Transports::flush`].
    pub fn perform(&mut self, command: NetCommand) {
        match command {
            NetCommand::Send { flow, bytes } => self.send(flow, bytes),
            NetCommand::Open { conn, hop } if hop.transport == Transport::Udp => self.open_udp(conn, &hop),
            NetCommand::Open { conn, hop } => self.open_stream(conn, hop),
            NetCommand::Close { conn } => self.close(conn),
        }
    }

    /// Sends what is queued, and closes the connections whose stream could not be framed: the core has answered by now.
    pub fn flush(&mut self) {
        let mut unsent = std::mem::take(&mut self.unsent);
        for index in unsent.drain(..) {
            if let Some(Some(udp)) = self.udp.get_mut(index) {
                udp.flush(&mut self.pending, &self.metrics);
            }
        }
        self.unsent = unsent;
        self.close_unframed();
    }

    /// The end: no more is accepted or read, and each connection closes once it has written what is queued. Waits for them,
    /// but not longer than `within`.
    pub async fn finish(mut self, within: Duration) {
        self.flush();
        self.listening.abort_all();
        let streams = || {
            self.conns.values().filter_map(|conn| match conn {
                Conn::Stream(outlet) => Some(outlet),
                Conn::Datagram(..) => None,
            })
        };
        streams().for_each(Outlet::finish);
        let ended = async {
            for outlet in streams() {
                outlet.ended().await;
            }
        };
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::debug!("a connection did not take what was queued for it");
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, events: &mut Vec<NetEvent>) -> Poll<()> {
        let begin = events.len();
        let full = begin + EVENTS;
        let taken = self.pending.len().min(EVENTS);
        events.extend(self.pending.drain(..taken));

        let datagrams = full - RESERVED;
        let sockets = self.udp.len();
        self.turn = if self.turn + 1 < sockets { self.turn + 1 } else { 0 };
        for index in (self.turn..sockets).chain(0..self.turn) {
            if events.len() >= datagrams {
                break;
            }
            if let Some(udp) = &mut self.udp[index] {
                udp.poll_receive(cx, datagrams - events.len(), events, &self.metrics);
            }
        }
        for side in Side::ALL {
            // The phone side leaves the upstream side its part.
            let limit = if side == Side::Phone { full - RESERVED / 2 } else { full };
            while events.len() < limit {
                let Poll::Ready(Some(tell)) = self.told[side as usize].poll_recv(cx) else { break };
                self.take(tell, events);
            }
        }
        while events.len() < full {
            let Poll::Ready(Some(event)) = self.icmp.1.poll_recv(cx) else { break };
            if subject(&event).is_none_or(|conn| self.conns.contains_key(&conn)) {
                events.push(event);
            }
        }
        if events.len() > begin { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Keeps the books of connections; what comes from one that the core has closed is dropped.
    fn take(&mut self, tell: Tell, events: &mut Vec<NetEvent>) {
        let event = match tell {
            Tell::Accepted(event, outlet) => {
                if let NetEvent::Accepted { conn, .. } = event {
                    self.conns.insert(conn, Conn::Stream(outlet));
                }
                event
            }
            Tell::Event(event) => event,
        };
        if let NetEvent::Unframed { conn, .. } = &event {
            self.unframed.push(*conn);
        }
        let known = match &event {
            NetEvent::Closed { conn, .. } | NetEvent::OpenFailed { conn, .. } => self.conns.remove(conn).is_some(),
            other => subject(other).is_none_or(|conn| self.conns.contains_key(&conn)),
        };
        if known {
            events.push(event);
        }
    }

    fn close_unframed(&mut self) {
        for conn in self.unframed.drain(..) {
            if self.conns.remove(&conn).is_some() {
                self.pending.push(NetEvent::Closed { conn, cause: Cause::Reset });
            }
        }
    }

    fn send(&mut self, flow: Flow, bytes: Bytes) {
        let (index, to) = match flow {
            Flow::Udp { socket, local, remote } => {
                let index = self.datagram_sockets.get(usize::from(socket.0)).copied().flatten();
                (index, Some((local, remote)))
            }
            Flow::Conn(conn) => match self.conns.get(&conn) {
                Some(Conn::Datagram(index, _)) => (Some(*index), None),
                Some(Conn::Stream(outlet)) => {
                    if !outlet.write(bytes, self.settings.limits.queue_bytes) {
                        self.give_up(conn);
                    }
                    return;
                }
                None => (None, None),
            },
        };
        let Some((index, udp)) = index.and_then(|index| Some((index, self.udp[index].as_mut()?))) else {
            let side = if matches!(flow, Flow::Conn(ConnId::Dialled(_))) { Side::Upstream } else { Side::Phone };
            self.metrics.dropped(side, "no_flow").inc();
            return;
        };
        if udp.send(to, bytes) {
            self.unsent.push(index);
        }
        if udp.is_full() {
            udp.flush(&mut self.pending, &self.metrics);
            self.unsent.retain(|unsent| *unsent != index);
        }
    }

    /// The peer reads too slowly.
    fn give_up(&mut self, conn: ConnId) {
        let Some(Conn::Stream(outlet)) = self.conns.remove(&conn) else { return };
        let (side, transport) = (outlet.side(), outlet.transport());
        self.metrics.dropped(side, "queue_full").inc();
        self.metrics.connection_errors(side, transport, "queue_full").inc();
        tracing::debug!(%conn, side = side.as_str(), "the peer does not read what is written: closed");
        outlet.abort();
        self.pending.push(NetEvent::Closed { conn, cause: Cause::Timeout });
    }

    fn close(&mut self, conn: ConnId) {
        self.pending.retain(|event| subject(event) != Some(conn));
        match self.conns.remove(&conn) {
            // The task writes what is queued, then closes.
            Some(Conn::Stream(outlet)) => drop(outlet),
            Some(Conn::Datagram(index, inode)) => {
                if let Some(mut udp) = self.udp[index].take() {
                    udp.flush(&mut self.pending, &self.metrics);
                }
                self.unsent.retain(|unsent| *unsent != index);
                self.drops.0.remove(inode);
                self.metrics.connections(Side::Upstream, Transport::Udp).dec();
            }
            None => {}
        }
    }

    fn open_stream(&mut self, conn: ConnId, hop: Hop) {
        let side = Side::Upstream;
        let (outlet, inlet) = stream::outlet(side, hop.transport, &self.ledger);
        self.conns.insert(conn, Conn::Stream(outlet));
        let about = About {
            conn,
            side,
            transport: hop.transport,
            limits: self.settings.limits.clone(),
            tell: self.tell[side as usize].clone(),
            metrics: self.metrics.clone(),
            said: self.said.clone(),
            peer: None,
            accepted: None,
        };
        let local = self.upstream_address(hop.addr);
        let limit = self.settings.connect_timeout;
        let worker = self.workers.of(hop.transport);
        worker.spawn(connect::open(hop, local, limit, self.tls.clone(), about, inlet));
    }

    fn open_udp(&mut self, conn: ConnId, hop: &Hop) {
        let event = match self.connect_udp(conn, hop) {
            Ok(local) => NetEvent::Opened { conn, local },
            Err(failed) => {
                let reason = failed.cause.as_str();
                self.metrics.connection_errors(Side::Upstream, Transport::Udp, reason).inc();
                NetEvent::OpenFailed { conn, cause: failed.cause, detail: failed.detail.into() }
            }
        };
        self.pending.push(event);
    }

    fn connect_udp(&mut self, conn: ConnId, hop: &Hop) -> Result<SocketAddr, connect::Failed> {
        let fail = |error: std::io::Error| connect::Failed {
            cause: cause::of_datagram(&error),
            detail: format!("no UDP socket to {} ({}): {error}", hop.addr, hop.target),
        };
        let Some(bound) = self.upstream_address(hop.addr) else {
            return Err(connect::Failed { cause: Cause::Unreachable, detail: connect::other_family(hop) });
        };
        let open =
            self.bound.iter().find(|b| b.side == Side::Upstream && b.transport == Transport::Udp && b.local == bound);
        // Without an unconnected UDP socket (a TLS upstream) nothing is shared.
        let sharing = if open.is_some() { Sharing::Shared } else { Sharing::Alone };
        let id = open.map_or(SocketId(u16::MAX), |open| open.socket);
        let socket = bind::udp(bound, sharing).map_err(fail)?;
        bind::report_icmp(&socket, hop.addr).map_err(fail)?;
        socket.connect(&hop.addr.into()).map_err(fail)?;
        let local = bind::local_addr(&socket).map_err(fail)?;
        let inode = self.drops.0.add(&socket, Side::Upstream);
        let role = Role::Connected { conn, peer: hop.addr };
        let mut udp = Udp::new(socket, bound, id, Side::Upstream, role).map_err(fail)?;
        udp.watched_by(icmp::watch(udp.io().clone(), conn, self.icmp.0.clone()));
        let index = self.udp.iter().position(Option::is_none).unwrap_or_else(|| {
            self.udp.push(None);
            self.udp.len() - 1
        });
        self.udp[index] = Some(udp);
        self.conns.insert(conn, Conn::Datagram(index, inode));
        self.metrics.connections(Side::Upstream, Transport::Udp).inc();
        Ok(local)
    }

    /// Where the upstream side is bound, for peers of this one's family.
    fn upstream_address(&self, peer: SocketAddr) -> Option<SocketAddr> {
        self.upstream.iter().copied().find(|local| local.is_ipv4() == peer.is_ipv4())
    }
}

impl Drop for Transports {
    fn drop(&mut self) {
        self.drops.1.abort();
    }
}

/// The connection that an event is about.
fn subject(event: &NetEvent) -> Option<ConnId> {
    match event {
        NetEvent::Received { flow: Flow::Conn(conn), .. }
        | NetEvent::SendFailed { flow: Flow::Conn(conn), .. }
        | NetEvent::Unframed { conn, .. }
        | NetEvent::KeepAlive { conn }
        | NetEvent::Accepted { conn, .. }
        | NetEvent::Opened { conn, .. }
        | NetEvent::OpenFailed { conn, .. }
        | NetEvent::Closed { conn, .. } => Some(*conn),
        NetEvent::Received { flow: Flow::Udp { .. }, .. } | NetEvent::SendFailed { flow: Flow::Udp { .. }, .. } => None,
    }
}
