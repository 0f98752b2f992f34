//! The ways to both sides: connections opened, accepted, lost, kept open, opened again, closed when idle.
//!
//! What is wanted of the transports waits in a queue of its own: [`Flows::poll`].

pub(super) mod addresses;
mod reopen;
pub(super) mod table;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::addresses::Addresses;
use self::reopen::Reopening;
use self::table::{Conn, Connections, Lease};
use super::edge::Edge;
use super::ids::PathId;
use super::registrar::Registrar;
use super::registrar::bindings::Reach;
use super::registrar::phone_address;
use super::site::Site;
use super::traced::Leg;
use crate::flow::{ConnId, Flow, Hop, NetCommand, Side, SocketId, Transport};
use crate::message::Message;
use crate::transaction::Transactions;
use crate::upstream::{Target, Upstream};

/// CRLF CRLF, the keep-alive of RFC 5626 §4.4.1.
const PING: Bytes = Bytes::from_static(b"\r\n\r\n");
/// How often connections are looked through for idle ones and due keep-alives.
const SWEEP: Duration = Duration::from_secs(5);
/// Names of listeners that are kept ready.
const NAMES: usize = 16;

/// All connections, and whose turn it is among a target's addresses.
#[derive(Debug)]
pub(super) struct Flows {
    table: Connections,
    pub addresses: Addresses,
    reopening: Reopening,
    sweep: Instant,
    /// What the listeners call themselves at which local address: looked up for every datagram.
    names: VecDeque<(SocketId, SocketAddr, Arc<str>)>,
    wishes: VecDeque<NetCommand>,
}

impl Flows {
    /// No connection yet. `limit`: upstream connections open or opening at once.
    pub(super) fn new(limit: usize, now: Instant) -> Self {
        Flows {
            table: Connections::new(limit),
            addresses: Addresses::default(),
            reopening: Reopening::default(),
            sweep: now + SWEEP,
            names: VecDeque::new(),
            wishes: VecDeque::new(),
        }
    }

    /// What the transports are to do next.
    pub(super) fn poll(&mut self) -> Option<NetCommand> {
        self.wishes.pop_front()
    }

    /// When [`Flows::sweep`] or [`Flows::keep_reachable`] has something to do.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.reopening.poll_timeout().map_or(self.sweep, |at| at.min(self.sweep))
    }

    /// The facts of a flow; `None` for a connection that is not there, or not open yet.
    pub(super) fn edge(&mut self, flow: Flow, site: &Site) -> Option<Edge> {
        match flow {
            Flow::Udp { socket, local, remote } => {
                let side = site.socket(socket).map_or(Side::Phone, |socket| socket.side);
                let sent_by = self.listener_name(socket, local, site);
                Some(Edge { flow, side, transport: Transport::Udp, local, remote, sent_by })
            }
            Flow::Conn(id) => {
                let conn = self.table.get(id)?;
                Some(Edge {
                    flow,
                    side: conn.side,
                    transport: conn.transport,
                    local: conn.local?,
                    remote: conn.remote,
                    sent_by: conn.sent_by.clone(),
                })
            }
        }
    }

    /// The leg that a flow is; `None` for a connection that is not there, or not open yet.
    pub(super) fn leg(&self, flow: Flow, site: &Site, upstream: &Upstream) -> Option<Leg> {
        let (side, transport) = self.kind(flow, site);
        let (local, remote, hop) = match flow {
            Flow::Udp { local, remote, .. } => (local, remote, None),
            Flow::Conn(id) => {
                let conn = self.table.get(id)?;
                (conn.local?, conn.remote, conn.hop.as_ref())
            }
        };
        let target = match hop {
            Some(hop) => upstream.target_named(&hop.target, hop.addr.port()),
            None if side == Side::Upstream => upstream.target_at(remote),
            None => None,
        };
        Some(Leg { side, transport, local, remote, target: target.map(|target| target.label.clone()) })
    }

    fn listener_name(&mut self, socket: SocketId, local: SocketAddr, site: &Site) -> Arc<str> {
        if let Some((_, _, name)) = self.names.iter().find(|(id, at, _)| *id == socket && *at == local) {
            return name.clone();
        }
        let name = site.sent_by(Some(socket), Transport::Udp, local);
        if self.names.len() == NAMES {
            self.names.pop_front();
        }
        self.names.push_back((socket, local, name.clone()));
        name
    }

    /// The side and transport of a flow, also of one that is not open.
    pub(super) fn kind(&self, flow: Flow, site: &Site) -> (Side, Transport) {
        match flow {
            Flow::Udp { socket, .. } => (site.socket(socket).map_or(Side::Phone, |s| s.side), Transport::Udp),
            Flow::Conn(id) => self.table.get(id).map_or((Side::Phone, Transport::Tcp), |c| (c.side, c.transport)),
        }
    }

    /// A connection to a hop. On [`Lease::New`] the transports are asked to open it.
    pub(super) fn lease(&mut self, hop: &Hop, now: Instant) -> Lease {
        let lease = self.table.lease(hop, now);
        if let Lease::New(conn) = lease {
            self.wishes.push_back(NetCommand::Open { conn, hop: hop.clone() });
        }
        lease
    }

    /// The transports have opened a connection. False if nobody wants it any more.
    pub(super) fn opened(&mut self, conn: ConnId, local: SocketAddr, site: &Site, now: Instant) -> Option<Transport> {
        let (transport, remote) = self.table.get(conn).map(|c| (c.transport, c.remote))?;
        let sent_by = site.upstream_sent_by(transport, local);
        let path = transport.is_reliable().then(|| site.path(local, remote));
        self.table.opened(conn, local, sent_by, path, now);
        Some(transport)
    }

    /// A peer connected to a listener. `edge.sent_by` is not looked at.
    pub(super) fn accepted(&mut self, conn: ConnId, socket: SocketId, edge: &Edge, site: &Site, now: Instant) {
        let sent_by = match edge.side {
            Side::Phone => site.sent_by(Some(socket), edge.transport, edge.local),
            Side::Upstream => site.upstream_sent_by(edge.transport, edge.local),
        };
        self.table.accepted(conn, Conn::accepted(edge, sent_by, now));
    }

    /// Takes a connection out that closed, or that failed to open.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Conn> {
        self.table.remove(conn)
    }

    /// Closes a connection of our own accord.
    pub(super) fn close(&mut self, conn: ConnId) {
        self.table.remove(conn);
        self.wishes.push_back(NetCommand::Close { conn });
    }

    /// Closes one that never was in the table.
    pub(super) fn turn_away(&mut self, conn: ConnId) {
        self.wishes.push_back(NetCommand::Close { conn });
    }

    /// An attempt that began then timed out on this connection. If nothing was heard on it meanwhile, the next one gets another.
    pub(super) fn suspect(&mut self, flow: Flow, since: Instant) {
        if let Flow::Conn(conn) = flow
            && self.table.get(conn).is_some_and(|conn| conn.heard <= since)
        {
            self.table.suspect(conn);
        }
    }

    /// A dialog that may last until then uses this flow.
    pub(super) fn carries_dialog(&mut self, flow: Flow, until: Instant) {
        if let Flow::Conn(conn) = flow {
            self.table.carries_dialog(conn, until);
        }
    }

    /// Bytes came in.
    pub(super) fn touch(&mut self, flow: Flow, now: Instant) {
        self.table.touch(flow, now);
    }

    /// Bytes of a message go out.
    pub(super) fn sent(&mut self, flow: Flow, now: Instant) {
        self.table.sent(flow, now);
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Conn> {
        self.table.get(conn)
    }

    /// The pair of addresses that a flow's connection has.
    pub(super) fn path(&self, flow: Option<Flow>) -> Option<PathId> {
        match flow? {
            Flow::Conn(conn) => self.table.get(conn)?.path,
            Flow::Udp { .. } => None,
        }
    }

    /// The flow that leads to a handset, while there is one.
    pub(super) fn to_handset(&self, reach: &Reach) -> Option<Flow> {
        match reach {
            Reach::Udp { socket, local, to, .. } => Some(Flow::Udp { socket: *socket, local: *local, remote: *to }),
            Reach::Conn(conn) => self.table.get(*conn).map(|_| Flow::Conn(*conn)),
            Reach::Lost => None,
        }
    }

    /// Where responses to a request go (RFC 3261 §18.2.2, RFC 3581 §4).
    pub(super) fn reply_to(&self, request: &Message, flow: Flow, site: &Site) -> Flow {
        match flow {
            Flow::Udp { socket, local, remote } => {
                Flow::Udp { socket, local, remote: phone_address::reply_address(request, remote) }
            }
            Flow::Conn(id) => {
                let Some(conn) = self.table.get(id).filter(|conn| !conn.transport.is_reliable()) else { return flow };
                // A connected upstream UDP socket reaches one port only.
                let to = phone_address::reply_address(request, conn.remote);
                match (site.unconnected_upstream(), conn.local) {
                    (Some(socket), Some(local)) if to != conn.remote => Flow::Udp { socket, local, remote: to },
                    _ => flow,
                }
            }
        }
    }

    /// The way to a target that is open already: what belongs to a dialog stays on its connection while that lives, also
    /// where the target has several addresses.
    pub(super) fn hop_in_use(&self, target: &Target, transport: Transport) -> Option<Hop> {
        if target.addresses.len() < 2 {
            return None;
        }
        self.table.open_to(&target.host, target.port, transport)
    }

    /// Connections that were accepted, with the peer's address.
    pub(super) fn accepted_from(&self) -> Vec<(ConnId, Side, SocketAddr)> {
        self.table.accepted_from()
    }

    pub(super) fn count(&self, side: Side, transport: Transport) -> usize {
        self.table.count(side, transport)
    }

    /// Connections, targets whose turn moved, targets whose connection is to be opened again.
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.table.len(), self.addresses.len(), self.reopening.len()]
    }

    /// If it is time for it (then it is true): closes what is idle or suspect, and keeps the upstream connections open.
    pub(super) fn sweep(
        &mut self,
        site: &Site,
        upstream: &Upstream,
        registrar: &mut Registrar,
        transactions: &Transactions,
        now: Instant,
    ) -> bool {
        if self.sweep > now {
            return false;
        }
        self.sweep = now + SWEEP;
        let active = upstream.active().map(|(target, _)| target.label.clone());
        let labels = registrar.bindings().targets().into_iter().chain(active);
        let serving: Vec<(Arc<str>, u16)> =
            labels.filter_map(|label| upstream.target(&label)).map(|t| (t.host.clone(), t.port)).collect();
        let unneeded = self.table.unneeded(
            site.settings.idle_timeout,
            now,
            |id| transactions.open_on(Flow::Conn(id)),
            |id, conn| match (&conn.hop, conn.side) {
                (Some(hop), _) => serving.iter().any(|(host, port)| *host == hop.target && *port == hop.addr.port()),
                (None, Side::Phone) => registrar.bindings().on_connection(id) > 0,
                (None, Side::Upstream) => false,
            },
        );
        for conn in unneeded {
            self.close(conn);
            registrar.connection_lost(conn);
        }
        if let Some(interval) = site.settings.upstream_keepalive {
            for conn in self.table.due_keepalives(interval, now) {
                self.wishes.push_back(NetCommand::Send { flow: Flow::Conn(conn), bytes: PING });
            }
        }
        true
    }

    /// CRLF CRLF to a handset behind NAT (RFC 5626 §4.4).
    pub(super) fn ping(&mut self, flow: Flow) {
        self.wishes.push_back(NetCommand::Send { flow, bytes: PING });
    }
}
