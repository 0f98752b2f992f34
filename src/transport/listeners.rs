//! Binding every socket: the phone side's listeners, and the upstream side's one port for several transports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Transports;
use super::accept::{self, Gate};
use super::bind::{self, BindError, Sharing};
use super::refusals::Refusals;
use super::settings::{Listen, UpstreamBind};
use super::shares::Shares;
use super::udp::{Role, Udp};
use crate::flow::{HostPort, Side, SocketId, Transport};

/// How often another port is tried when port 0 finds one that is free for UDP but not for TCP.
const PORT_TRIES: usize = 16;

/// One bound socket, phone-side listeners first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundSocket {
    /// Its number in events and flows.
    pub socket: SocketId,
    /// Phone: a listener. Upstream: a socket of the upstream side.
    pub side: Side,
    /// What it speaks.
    pub transport: Transport,
    /// Where it is bound: port 0 has become the actual one, a wildcard stays one.
    pub local: SocketAddr,
    /// What peers are told instead, as configured.
    pub advertise: Option<HostPort>,
}

impl Transports {
    /// Binds the listeners in configuration order, then the upstream side.
    pub(super) fn bind_all(&mut self) -> Result<(), BindError> {
        let settings = self.settings.clone();
        let gates = Side::ALL.map(|side| self.gate(side));
        for Listen { transport, addr, advertise } in &settings.listen {
            let (side, transport) = (Side::Phone, *transport);
            let error = |source| BindError::Socket { side, transport, addr: *addr, source };
            let socket = match transport {
                Transport::Udp => bind::udp(*addr, Sharing::Alone),
                Transport::Tcp | Transport::Tls => bind::tcp_listener(*addr, Sharing::Alone),
            }
            .map_err(error)?;
            self.adopt(socket, transport, &gates[0], advertise.as_ref()).map_err(error)?;
        }
        self.bind_upstream(&settings.upstream_bind, settings.upstream_transport, &gates[1])
    }

    fn bind_upstream(&mut self, to: &UpstreamBind, transport: Transport, gate: &Gate) -> Result<(), BindError> {
        let wanted: &[Transport] = match transport {
            Transport::Udp | Transport::Tcp => &[Transport::Udp, Transport::Tcp],
            Transport::Tls if self.tls.can_accept() => &[Transport::Tls],
            Transport::Tls => &[],
        };
        let mut tries = 0;
        let sockets = loop {
            tries += 1;
            match bind_together(to.addr, wanted) {
                Err((_, error)) if to.addr.port() == 0 && is_in_use(&error) && tries < PORT_TRIES => {}
                Err((transport, source)) => {
                    return Err(BindError::Socket { side: Side::Upstream, transport, addr: to.addr, source });
                }
                Ok(sockets) => break sockets,
            }
        };
        let mut at = to.addr;
        for (transport, socket) in sockets {
            let error = |source| BindError::Socket { side: Side::Upstream, transport, addr: to.addr, source };
            at = bind::local_addr(&socket).map_err(error)?;
            self.adopt(socket, transport, gate, to.advertise.as_ref()).map_err(error)?;
        }
        self.upstream.push(at);
        if let Some(addr) = bind::companion(at) {
            // No IPv6 here, or the port is taken there: IPv4 alone then.
            match bind_together(addr, wanted) {
                Ok(sockets) => {
                    self.upstream.push(addr);
                    for (transport, socket) in sockets {
                        let error = |source| BindError::Socket { side: Side::Upstream, transport, addr, source };
                        self.adopt(socket, transport, gate, to.advertise.as_ref()).map_err(error)?;
                    }
                }
                Err((transport, error)) => {
                    tracing::info!(%addr, %transport, %error, "the upstream side has no IPv6");
                }
            }
        }
        Ok(())
    }

    /// Puts a bound socket to work.
    fn adopt(
        &mut self,
        socket: socket2::Socket,
        transport: Transport,
        gate: &Gate,
        advertise: Option<&HostPort>,
    ) -> std::io::Result<()> {
        let local = bind::local_addr(&socket)?;
        let id = SocketId(self.bound.len() as u16);
        let mut index = None;
        if transport == Transport::Udp {
            self.drops.0.add(&socket, gate.side);
            index = Some(self.udp.len());
            self.udp.push(Some(Udp::new(socket, local, id, gate.side, Role::Open)?));
        } else {
            let listener = {
                let _on_the_workers = self.workers.enter(transport);
                TcpListener::from_std(socket.into())?
            };
            let worker = self.workers.of(transport);
            self.listening.spawn_on(accept::listen(listener, gate.clone(), id, transport), &worker);
        }
        self.datagram_sockets.push(index);
        self.bound.push(BoundSocket { socket: id, side: gate.side, transport, local, advertise: advertise.cloned() });
        Ok(())
    }

    fn gate(&self, side: Side) -> Gate {
        let limits = self.settings.limits.clone();
        Gate {
            side,
            tell: self.tell[side as usize].clone(),
            metrics: self.metrics.clone(),
            tls: self.tls.clone(),
            said: self.said.clone(),
            numbers: self.numbers.clone(),
            open: Arc::new(AtomicUsize::new(0)),
            most: self.connections.clone(),
            all: self.accepted.clone(),
            room: self.room,
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            shares: Shares::of(limits.handshakes),
            allowed: (side == Side::Phone).then(|| self.allowed.clone()),
            ledger: self.ledger.clone(),
            proxies: self.settings.proxy_protocol.clone().into(),
            refusals: Refusals::default(),
            limits,
        }
    }
}

/// One port for several transports. The first error names its transport.
fn bind_together(
    mut addr: SocketAddr,
    transports: &[Transport],
) -> Result<Vec<(Transport, socket2::Socket)>, (Transport, std::io::Error)> {
    let mut sockets = Vec::new();
    for transport in transports {
        let socket = match transport {
            Transport::Udp => bind::udp(addr, Sharing::First),
            Transport::Tcp | Transport::Tls => bind::tcp_listener(addr, Sharing::First),
        };
        let socket = socket.map_err(|error| (*transport, error))?;
        addr = bind::local_addr(&socket).map_err(|error| (*transport, error))?;
        sockets.push((*transport, socket));
    }
    Ok(sockets)
}

fn is_in_use(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}
