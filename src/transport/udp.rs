//! One UDP socket: a listener, the upstream side's unconnected socket, or one connected to an upstream hop.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use super::cause;
use super::mmsg::{self, BATCH, Datagram, Outgoing};
use crate::flow::{Cause, ConnId, Flow, NetEvent, Side, SocketId, Transport};
use crate::metrics::Metrics;

/// Errors taken in a row before others have their turn.
const ERRORS: usize = 8;
/// Sends tried again, each of which reported the ICMP error of an earlier datagram instead.
const AGAIN: usize = 8;

/// What the socket is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// Takes datagrams of anybody.
    Open,
    /// Connected to one peer: the only kind that learns of ICMP errors, and learns them of the right peer.
    Connected { conn: ConnId, peer: SocketAddr },
}

/// A UDP socket with what waits to be sent through it.
pub(super) struct Udp {
    io: Arc<AsyncFd<UdpSocket>>,
    /// Of datagrams that are not the connected peer's: the unconnected socket.
    socket: SocketId,
    side: Side,
    role: Role,
    local: SocketAddr,
    queue: Vec<Outgoing>,
    watch: Option<AbortHandle>,
}

impl Udp {
    /// Takes over a bound (and, for that role, connected) socket. `bound` is the address it was bound to.
    pub(super) fn new(socket: Socket, bound: SocketAddr, id: SocketId, side: Side, role: Role) -> io::Result<Self> {
        // Not for writing: nothing waits for that, and each datagram that has left would wake the task once more.
        let interest = Interest::READABLE | Interest::ERROR;
        #[allow(
            deprecated,
            reason = "its replacement is unsafe, for types that do not own their descriptor as a socket does"
        )]
        let io = Arc::new(AsyncFd::with_interest(socket.into(), interest)?);
        Ok(Self { io, socket: id, side, role, local: bound, queue: Vec::new(), watch: None })
    }

    pub(super) fn io(&self) -> &Arc<AsyncFd<UdpSocket>> {
        &self.io
    }

    /// Ties the watcher for ICMP errors to this socket's life.
    pub(super) fn watched_by(&mut self, watch: AbortHandle) {
        self.watch = Some(watch);
    }

    /// Hands over up to `limit` datagrams that are there now. Where it hands over none, the task will be woken.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        events: &mut Vec<NetEvent>,
        metrics: &Metrics,
    ) {
        for _ in 0..ERRORS {
            if self.io.poll_read_ready(cx).is_pending() {
                return;
            }
            let before = events.len();
            match self.receive(limit.min(BATCH), events, metrics) {
                // The socket was empty: only asking once more registers the task to be woken.
                Ok(()) if events.len() == before => {}
                Ok(()) => return,
                // On a connected socket an ICMP error in passing; its watcher tells.
                Err(error) => tracing::trace!(%error, socket = %self.local, "udp receive"),
            }
        }
        cx.waker().wake_by_ref();
    }

    fn receive(&self, limit: usize, events: &mut Vec<NetEvent>, metrics: &Metrics) -> io::Result<()> {
        let mut total = 0;
        let (v6, info) = (self.local.is_ipv6(), self.local.ip().is_unspecified());
        let read = self.io.try_io(Interest::READABLE, |socket| {
            let count = mmsg::receive(socket, v6, info, limit, |datagram| {
                total += datagram.bytes.len();
                events.push(self.received(datagram));
            })?;
            // Fewer than asked: the socket is empty. That spares the call that would say so; whatever comes next raises a new
            // edge.
            if count < limit { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        metrics.received_bytes(self.side).inc_by(total as u64);
        match read {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn received(&self, datagram: Datagram) -> NetEvent {
        let Datagram { from, to, bytes } = datagram;
        let flow = match self.role {
            Role::Connected { conn, peer } if same_peer(peer, from) => Flow::Conn(conn),
            // Between bind and connect a new socket can be given packets of others.
            Role::Connected { .. } | Role::Open => {
                Flow::Udp { socket: self.socket, local: self.arrived_on(to, from), remote: from }
            }
        };
        NetEvent::Received { flow, bytes }
    }

    /// Never a wildcard: on wildcard sockets the packet says where it arrived.
    fn arrived_on(&self, to: Option<IpAddr>, from: SocketAddr) -> SocketAddr {
        let mut local = self.local;
        if let Some(ip) = to {
            local.set_ip(ip);
        }
        if let (SocketAddr::V6(local), SocketAddr::V6(from)) = (&mut local, from)
            && local.ip().is_unicast_link_local()
        {
            local.set_scope_id(from.scope_id());
        }
        local
    }

    /// Queues a datagram until [`Udp::flush`]. `local` is where it leaves from, if the socket is a wildcard's. True if the
    /// queue was empty.
    pub(super) fn send(&mut self, to: Option<(SocketAddr, SocketAddr)>, bytes: Bytes) -> bool {
        let from = to.filter(|_| self.local.ip().is_unspecified()).map(|(local, _)| local.ip());
        let first = self.queue.is_empty();
        self.queue.push(Outgoing { to: to.map(|(_, remote)| remote), from, bytes });
        first
    }

    /// True if a system call's worth of datagrams is waiting.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= BATCH
    }

    /// Sends what is queued. Nothing waits: what a full buffer refuses is dropped and counted, as a network would.
    pub(super) fn flush(&mut self, failed: &mut impl Extend<NetEvent>, metrics: &Metrics) {
        let mut queue = std::mem::take(&mut self.queue);
        let connected = matches!(self.role, Role::Connected { .. });
        let (mut done, mut bytes, mut again) = (0, 0, AGAIN);
        while done < queue.len() {
            let from = queue[done].from;
            let same = queue[done..].iter().take_while(|datagram| datagram.from == from).count();
            match mmsg::send(self.io.get_ref(), self.local.is_ipv6(), &queue[done..done + same]) {
                Ok(sent) => {
                    let sent = sent.max(1);
                    bytes += queue[done..done + sent].iter().map(|datagram| datagram.bytes.len()).sum::<usize>();
                    done += sent;
                    again = AGAIN;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    metrics.dropped(self.side, "queue_full").inc_by((queue.len() - done) as u64);
                    break;
                }
                // A connected socket first reports an ICMP error of an earlier datagram (its watcher tells the core) and has
                // sent nothing: once more.
                Err(_) if again > 0 && connected => again -= 1,
                Err(error) => {
                    let cause = cause::of_datagram(&error);
                    metrics.dropped(self.side, "send_failed").inc();
                    if cause == Cause::Local {
                        metrics.connection_errors(self.side, Transport::Udp, cause.as_str()).inc();
                    }
                    tracing::debug!(%error, socket = %self.local, to = ?queue[done].to, "datagram not sent");
                    // No port refuses what has not left: that can only be one ICMP error after the other.
                    let quoted = (cause != Cause::Refused).then(|| queue[done].bytes.clone());
                    failed.extend([NetEvent::SendFailed { flow: self.flow(&queue[done]), cause, quoted }]);
                    done += 1;
                    again = AGAIN;
                }
            }
        }
        metrics.sent_bytes(self.side).inc_by(bytes as u64);
        queue.clear();
        self.queue = queue;
    }

    fn flow(&self, datagram: &Outgoing) -> Flow {
        match self.role {
            Role::Connected { conn, .. } => Flow::Conn(conn),
            Role::Open => {
                let remote = datagram.to.unwrap_or(self.local);
                let mut local = self.local;
                if let Some(ip) = datagram.from {
                    local.set_ip(ip);
                }
                Flow::Udp { socket: self.socket, local, remote }
            }
        }
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// IPv6 flow labels are no part of a peer's identity.
fn same_peer(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}
