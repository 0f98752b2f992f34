//! The core's dealings with connections: opened, refused, accepted, lost, kept open, closed when idle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::conns::{Conn, Lease};
use super::core::{Core, Socket};
use super::settings::allows;
use crate::flow::{Cause, ConnId, Flow, Hop, HostPort, NetCommand, Side, SocketId, Transport};
use crate::upstream::bounded;

/// CRLF CRLF, the keep-alive of RFC 5626 §4.4.1.
const PING: Bytes = Bytes::from_static(b"\r\n\r\n");

impl Core {
    /// A connection to a hop. On [`Lease::New`] the transports have been asked to open it.
    pub(super) fn lease(&mut self, hop: &Hop, now: Instant) -> Lease {
        let lease = self.conns.lease(hop, now);
        if let Lease::New(conn) = lease {
            self.act(NetCommand::Open { conn, hop: hop.clone() });
        }
        lease
    }

    pub(super) fn opened(&mut self, conn: ConnId, local: SocketAddr, now: Instant) {
        let Some(transport) = self.conns.get(conn).map(|c| c.transport) else { return };
        let sent_by = self.upstream_sent_by(transport, local);
        let way = self.way(conn, transport, local);
        self.conns.opened(conn, local, sent_by, way, now);
        for (id, index) in self.contexts.waited_for(conn) {
            self.try_opened(id, index, conn, now);
        }
        if transport.is_reliable() {
            self.tell_orphans();
        }
    }

    /// A number for a pair of addresses, see [`Conn::way`].
    fn way(&self, conn: ConnId, transport: Transport, local: SocketAddr) -> u64 {
        match self.conns.get(conn) {
            Some(conn) if transport.is_reliable() => {
                self.key.hash(&[b"way", local.to_string().as_bytes(), conn.remote.to_string().as_bytes()]).max(1)
            }
            Some(_) | None => 0,
        }
    }

    pub(super) fn open_failed(&mut self, conn: ConnId, cause: Cause, detail: &Arc<str>, now: Instant) {
        let Some(gone) = self.conns.remove(conn) else { return };
        tracing::debug!(remote = %gone.remote, transport = %gone.transport, %cause, %detail, "upstream connection failed");
        self.note_connection_failure(&gone, cause, detail, now);
        let detail = bounded(detail.as_bytes());
        for (id, index) in self.contexts.waited_for(conn) {
            self.failing_detail.clone_from(&detail);
            self.try_failed(id, index, cause, now);
        }
        self.failing_detail = None;
        self.lost_connection(&gone, now);
    }

    pub(super) fn accepted(
        &mut self,
        conn: ConnId,
        side: Side,
        transport: Transport,
        socket: SocketId,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        if !self.admits(side, remote) {
            self.metrics.dropped(side, "not_allowed").inc();
            self.note_stranger(side, remote, now);
            self.act(NetCommand::Close { conn });
            return;
        }
        let sent_by = match (side, self.socket(socket)) {
            (Side::Phone, Some(socket)) => phone_sent_by(socket, local),
            _ => self.upstream_sent_by(transport, local),
        };
        let accepted = Conn {
            side,
            transport,
            local: Some(local),
            remote,
            hop: None,
            sent_by,
            suspect: false,
            last_used: now,
            last_sent: now,
            since: now,
            dialogs_until: None,
            way: 0,
        };
        self.conns.accepted(conn, accepted);
    }

    /// The cause is kept: in TLS 1.3 a server refuses our certificate on a connection that was opened already.
    pub(super) fn closed(&mut self, conn: ConnId, cause: Cause, now: Instant) {
        let gone = self.conns.remove(conn);
        self.bindings.connection_lost(conn);
        self.fail_flow(Flow::Conn(conn), cause, now);
        for (id, index) in self.contexts.waited_for(conn) {
            self.try_failed(id, index, cause, now);
        }
        if let Some(gone) = gone {
            self.lost_connection(&gone, now);
        }
    }

    pub(super) fn send_failed(&mut self, flow: Flow, cause: Cause, now: Instant) {
        tracing::debug!(?flow, %cause, "send failed");
        self.fail_flow(flow, cause, now);
    }

    /// Every client transaction on a flow hears of its end.
    fn fail_flow(&mut self, flow: Flow, cause: Cause, now: Instant) {
        self.transactions.transport_error(flow, now);
        self.failing = cause;
        self.after_transactions(now);
        self.failing = Cause::Unreachable;
    }

    /// Whether an address may talk to a side at all.
    pub(super) fn admits(&self, side: Side, remote: SocketAddr) -> bool {
        let ip = remote.ip().to_canonical();
        match side {
            Side::Phone => allows(&self.settings.allow, ip),
            Side::Upstream => self.upstream.is_upstream_address(ip) || allows(&self.settings.upstream_allow, ip),
        }
    }

    /// What stands in Via and Contact on a flow: host and port, never a wildcard.
    pub(super) fn sent_by(&self, flow: Flow) -> Arc<str> {
        match flow {
            Flow::Conn(id) => self.conns.get(id).map_or_else(|| Arc::from(""), |c| c.sent_by.clone()),
            Flow::Udp { socket, local, .. } => match self.socket(socket) {
                Some(socket) if socket.side == Side::Phone => phone_sent_by(socket, local),
                _ => self.upstream_sent_by(Transport::Udp, local),
            },
        }
    }

    /// The transport of a flow.
    pub(super) fn flow_transport(&self, flow: Flow) -> Transport {
        match flow {
            Flow::Udp { .. } => Transport::Udp,
            Flow::Conn(id) => self.conns.get(id).map_or(Transport::Tcp, |c| c.transport),
        }
    }

    /// The peer's and the local address of a flow.
    pub(super) fn ends(&self, flow: Flow) -> Option<(SocketAddr, SocketAddr)> {
        match flow {
            Flow::Udp { local, remote, .. } => Some((local, remote)),
            Flow::Conn(id) => self.conns.get(id).and_then(|c| Some((c.local?, c.remote))),
        }
    }

    /// An upstream connection is reached at the bound port, where that is listened on: an ephemeral one would be
    /// nobody's address once the connection is gone.
    fn upstream_sent_by(&self, transport: Transport, local: SocketAddr) -> Arc<str> {
        let bound = self.sockets.iter().find(|s| s.side == Side::Upstream && s.transport == transport);
        let port = bound.map_or(local.port(), |s| s.local.port());
        name_of(self.settings.upstream_advertise.as_ref(), SocketAddr::new(local.ip(), port))
    }

    /// Closes what is idle or suspect, and keeps the upstream connections open.
    pub(super) fn sweep_connections(&mut self, now: Instant) {
        let active = self.upstream.active().map(|(target, _)| target.label.clone());
        let labels = self.bindings.targets().into_iter().chain(active);
        let serving: Vec<(Arc<str>, u16)> =
            labels.filter_map(|label| self.upstream.target(&label)).map(|t| (t.host.clone(), t.port)).collect();
        let (transactions, bindings) = (&self.transactions, &self.bindings);
        let unneeded = self.conns.unneeded(
            self.settings.idle_timeout,
            now,
            |id| transactions.open_on(Flow::Conn(id)),
            |id, conn| match (&conn.hop, conn.side) {
                (Some(hop), _) => serving.iter().any(|(host, port)| *host == hop.target && *port == hop.addr.port()),
                (None, Side::Phone) => bindings.on_connection(id) > 0,
                (None, Side::Upstream) => false,
            },
        );
        for conn in unneeded {
            self.close(conn);
        }
        if let Some(interval) = self.settings.upstream_keepalive {
            for conn in self.conns.due_keepalives(interval, now) {
                self.act(NetCommand::Send { flow: Flow::Conn(conn), bytes: PING });
            }
        }
        self.keep_reachable(now);
    }

    /// CRLF CRLF to every UDP handset behind NAT that is due (RFC 5626 §4.4), spread over the interval.
    pub(super) fn phone_keepalives(&mut self, now: Instant) {
        while let Some((socket, local, remote)) = self.bindings.poll_keepalive(now) {
            self.act(NetCommand::Send { flow: Flow::Udp { socket, local, remote }, bytes: PING });
        }
    }
}

fn phone_sent_by(socket: &Socket, local: SocketAddr) -> Arc<str> {
    name_of(socket.advertise.as_ref(), SocketAddr::new(local.ip(), socket.local.port()))
}

/// The advertised name with the socket's port unless it brings its own; else the address.
fn name_of(advertise: Option<&HostPort>, local: SocketAddr) -> Arc<str> {
    match advertise {
        Some(name) => HostPort { host: name.host.clone(), port: name.port.or(Some(local.port())) }.to_string().into(),
        None => SocketAddr::new(local.ip().to_canonical(), local.port()).to_string().into(),
    }
}
