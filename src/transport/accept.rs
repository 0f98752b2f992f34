//! Listening for connections.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

use super::held::Ledger;
use super::refusals::Refusals;
use super::said::Said;
use super::shares::{Share, Shares};
use super::stream::{About, Tell, outlet, run};
use super::tls::{Tls, handshake_outcome};
use super::{Limits, bind, cause, proxy_protocol};
use crate::flow::{Cause, ConnId, NetEvent, Side, SocketId, Transport, allows};
use crate::metrics::{Handshake, Metrics};

/// After a failure that is likely to repeat at once (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);
/// About peers that may not connect there is one line in this time.
const UNTRUSTED: Duration = Duration::from_secs(300);

/// Who may connect to the phone side. Clones share it.
#[derive(Clone)]
pub(super) struct Allowed(Arc<RwLock<Arc<[IpNet]>>>);

impl Allowed {
    pub(super) fn new(nets: &[IpNet]) -> Self {
        Allowed(Arc::new(RwLock::new(nets.into())))
    }

    /// Others from now on. Connections that are open stay until the core closes them.
    pub(super) fn set(&self, nets: &[IpNet]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = nets.into();
    }

    fn admits(&self, remote: SocketAddr) -> bool {
        let nets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        allows(&nets, remote.ip())
    }
}

/// What all listeners of one side share.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) side: Side,
    pub(super) limits: Limits,
    pub(super) tell: mpsc::Sender<Tell>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tls: Tls,
    pub(super) said: Said,
    /// The next odd number.
    pub(super) numbers: Arc<AtomicU64>,
    /// Connections open on this side.
    pub(super) open: Arc<AtomicUsize>,
    /// And how many there may be.
    pub(super) most: Arc<AtomicUsize>,
    /// Connections open on both sides.
    pub(super) all: Arc<AtomicUsize>,
    /// And for how many there are descriptors.
    pub(super) room: usize,
    pub(super) handshakes: Arc<Semaphore>,
    pub(super) shares: Shares,
    /// Whose connections are accepted. On the upstream side, whose targets come and go, the core judges.
    pub(super) allowed: Option<Allowed>,
    pub(super) ledger: Ledger,
    /// Who says with a PROXY header whose connection it is.
    pub(super) proxies: Arc<[IpNet]>,
    pub(super) refusals: Refusals,
}

/// Counts one connection as long as it lives.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(of: &Arc<AtomicUsize>, most: usize) -> Option<Place> {
        let place = Place(of.clone());
        (of.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A peer that was let in, until its handshake is over.
#[derive(Default)]
struct Entry {
    _share: Option<Share>,
}

impl Gate {
    /// A place on this side, and one among all.
    fn place(&self) -> Option<(Place, Place)> {
        Place::take(&self.open, self.most.load(Ordering::Relaxed)).zip(Place::take(&self.all, self.room))
    }

    /// Before anything else is done for a peer: its address may be forged on a datagram, but not on a connection.
    fn admits(&self, remote: SocketAddr) -> bool {
        if self.allowed.as_ref().is_none_or(|allowed| allowed.admits(remote)) {
            return true;
        }
        self.metrics.dropped(self.side, "not_allowed").inc();
        if let Some(held) = self.said.due_in("not allowed", UNTRUSTED) {
            tracing::warn!(
                side = self.side.as_str(),
                source = %remote.ip(),
                more_like_it = held,
                "not answered, it is not in `allow`; if it is a handset, add its network there"
            );
        }
        false
    }

    /// What a peer needs first: that it is allowed, and for TLS a share of the handshakes. `None`: it is closed.
    fn enter(&self, remote: SocketAddr, transport: Transport) -> Option<Entry> {
        if !self.admits(remote) {
            return None;
        }
        if transport != Transport::Tls {
            return Some(Entry::default());
        }
        let share = self.shares.take(remote.ip());
        if share.is_none() {
            self.count_error(transport, "source_limit");
            tracing::debug!(%remote, "its source has its share of the handshakes under way: closed");
        }
        share.map(|share| Entry { _share: Some(share) })
    }

    /// Whether its connections begin with a PROXY header.
    fn is_balancer(&self, remote: SocketAddr) -> bool {
        self.side == Side::Phone && allows(&self.proxies, remote.ip())
    }

    /// Whose connection this is: the peer's, or of whom its PROXY header says; `None` where it must send one and does not.
    async fn source(&self, stream: &mut TcpStream, remote: SocketAddr, transport: Transport) -> Option<SocketAddr> {
        if !self.is_balancer(remote) {
            return Some(remote);
        }
        let fault = match timeout(self.limits.handshake_timeout, proxy_protocol::source(stream)).await {
            Ok(Ok(source)) => return Some(source.unwrap_or(remote)),
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "it sent no PROXY header in time".to_owned(),
        };
        self.count_error(transport, "proxy_protocol");
        if let Some(more_like_it) = self.said.due("proxy protocol") {
            tracing::warn!(source = %remote.ip(), more_like_it, "a load balancer's connection is closed: {fault}");
        }
        None
    }

    /// A PROXY header where none is expected: of TLS it would make a broken handshake, of SIP a lost request.
    async fn is_unexpected(&self, stream: &TcpStream, remote: SocketAddr) -> bool {
        let mut begin = [0; 12];
        match timeout(self.limits.handshake_timeout, stream.peek(&mut begin)).await {
            Ok(Ok(count)) if proxy_protocol::is_begun(&begin[..count]) => {}
            Ok(_) => return false,
            Err(_) => {
                // It would have said nothing in a handshake either.
                self.metrics.handshakes(self.side, Handshake::Timeout).inc();
                self.count_error(Transport::Tls, "timeout");
                return true;
            }
        }
        self.count_error(Transport::Tls, "proxy_protocol");
        proxy_protocol::unexpected(&self.said, remote.ip());
        true
    }

    fn count_error(&self, transport: Transport, reason: &str) {
        self.metrics.connection_errors(self.side, transport, reason).inc();
    }
}

/// Accepts connections until aborted.
pub(super) async fn listen(listener: TcpListener, gate: Gate, socket: SocketId, transport: Transport) {
    loop {
        // Handshakes are what costs; beyond the bound, peers wait in the listen queue.
        let permit = match transport {
            Transport::Tls => gate.handshakes.clone().acquire_owned().await.ok(),
            Transport::Tcp | Transport::Udp => None,
        };
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_peers_fault(&error) {
                    if cause::is_our_own_want(&error) {
                        gate.count_error(transport, Cause::Local.as_str());
                    }
                    if let Some(more_like_it) = gate.said.due("accept") {
                        tracing::warn!(%error, more_like_it, "connections cannot be accepted; trying again");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        let accepted = Instant::now();
        // Of a load balancer's connection its header says whose it is.
        let is_direct = !gate.is_balancer(remote);
        let entry = if is_direct { gate.enter(remote, transport) } else { Some(Entry::default()) };
        let Some(mut entry) = entry else { continue };
        let Some(place) = gate.place() else {
            gate.count_error(transport, "limit");
            let limit = gate.most.load(Ordering::Relaxed).min(gate.room);
            tracing::debug!(%remote, limit, "connection limit reached: closed");
            continue;
        };
        bind::tune(&stream);
        let gate = gate.clone();
        tokio::spawn(async move {
            let _place = place;
            let (mut stream, peer) = (stream, remote);
            let Some(remote) = gate.source(&mut stream, peer, transport).await else { return };
            // What it says of itself, a health check, is the core's to judge.
            if remote != peer {
                let Some(entered) = gate.enter(remote, transport) else { return };
                entry = entered;
            }
            match transport {
                Transport::Udp | Transport::Tcp => {
                    let local = stream.local_addr();
                    converse(stream, local, remote, gate, socket, transport, accepted).await;
                }
                Transport::Tls => {
                    let local = stream.local_addr();
                    if is_direct && gate.is_unexpected(&stream, remote).await {
                        return;
                    }
                    let Some(stream) = handshake(stream, remote, &gate).await else { return };
                    drop((entry, permit));
                    converse(stream, local, remote, gate, socket, transport, accepted).await;
                }
            }
        });
    }
}

fn is_peers_fault(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn handshake(stream: TcpStream, remote: SocketAddr, gate: &Gate) -> Option<TlsStream<TcpStream>> {
    let acceptor = gate.tls.acceptor()?;
    let (outcome, reason, stream) = match timeout(gate.limits.handshake_timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => (Handshake::Ok, None, Some(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "TLS handshake failed");
            if gate.side == Side::Phone {
                gate.refusals.note(remote, &error);
            }
            (handshake_outcome(&error), Some("tls"), None)
        }
        Err(_) => (Handshake::Timeout, Some("timeout"), None),
    };
    gate.metrics.handshakes(gate.side, outcome).inc();
    if let Some(reason) = reason {
        gate.count_error(Transport::Tls, reason);
    }
    stream
}

async fn converse<S: AsyncRead + AsyncWrite>(
    stream: S,
    local: io::Result<SocketAddr>,
    remote: SocketAddr,
    gate: Gate,
    socket: SocketId,
    transport: Transport,
    accepted: Instant,
) {
    // Without a local address the peer has gone already.
    let Ok(local) = local else { return };
    let side = gate.side;
    let conn = ConnId::Accepted(gate.numbers.fetch_add(1, Ordering::Relaxed));
    let (outlet, inlet) = outlet(side, transport, &gate.ledger);
    let event = NetEvent::Accepted { conn, side, transport, socket, local, remote };
    if gate.tell.send(Tell::Accepted(event, outlet)).await.is_ok() {
        let about = About {
            conn,
            side,
            transport,
            limits: gate.limits,
            tell: gate.tell,
            metrics: gate.metrics,
            said: gate.said,
            peer: Some(remote.ip()),
            accepted: Some(accepted),
        };
        run(stream, about, inlet).await;
    }
}
