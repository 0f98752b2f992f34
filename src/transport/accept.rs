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
use super::shares::Shares;
use super::stream::{About, Said, Tell, outlet, run};
use super::tls::{Tls, handshake_outcome};
use super::{Limits, bind, cause};
use crate::flow::{Cause, ConnId, NetEvent, Side, SocketId, Transport};
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
        let ip = remote.ip().to_canonical();
        nets.iter().any(|net| net.contains(&ip))
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
        if !gate.admits(remote) {
            continue;
        }
        let share = match transport {
            Transport::Tls => {
                let Some(share) = gate.shares.take(remote.ip()) else {
                    gate.count_error(transport, "source_limit");
                    tracing::debug!(%remote, "its source has its share of the handshakes under way: closed");
                    continue;
                };
                Some(share)
            }
            Transport::Tcp | Transport::Udp => None,
        };
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
            match transport {
                Transport::Udp | Transport::Tcp => {
                    let local = stream.local_addr();
                    converse(stream, local, remote, gate, socket, transport, accepted).await;
                }
                Transport::Tls => {
                    let local = stream.local_addr();
                    let Some(stream) = handshake(stream, remote, &gate).await else { return };
                    drop((share, permit));
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
    let conn = ConnId(gate.numbers.fetch_add(2, Ordering::Relaxed));
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
            accepted: Some(accepted),
        };
        run(stream, about, inlet).await;
    }
}
