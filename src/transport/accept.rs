//! Listening for connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::refusals::Refusals;
use super::stream::{About, Said, Tell, outlet, run};
use super::tls::{Tls, handshake_outcome};
use super::{Limits, bind, proxy_protocol};
use crate::flow::{ConnId, NetEvent, Side, SocketId, Transport};
use crate::metrics::{Handshake, Metrics};

/// After a failure that is likely to repeat at once (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);

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
    /// Connections open.
    pub(super) open: Arc<AtomicUsize>,
    /// And how many there may be.
    pub(super) most: Arc<AtomicUsize>,
    pub(super) handshakes: Arc<Semaphore>,
    /// Who says with a PROXY header whose connection it is.
    pub(super) proxies: Arc<[IpNet]>,
    pub(super) refusals: Refusals,
}

/// Counts one connection as long as it lives.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    fn place(&self) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most.load(Ordering::Relaxed) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(self.open.clone()))
    }

    /// Whose connection this is: the peer's, or of whom its PROXY header says; `None` where it must send one and does not.
    async fn source(&self, stream: &mut TcpStream, remote: SocketAddr, transport: Transport) -> Option<SocketAddr> {
        let ip = remote.ip().to_canonical();
        if self.side != Side::Phone || !self.proxies.iter().any(|net| net.contains(&ip)) {
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
                    tracing::warn!(%error, "connections cannot be accepted; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        let Some(place) = gate.place() else {
            gate.count_error(transport, "limit");
            tracing::debug!(%remote, limit = gate.most.load(Ordering::Relaxed), "connection limit reached: closed");
            continue;
        };
        bind::tune(&stream);
        let gate = gate.clone();
        tokio::spawn(async move {
            let _place = place;
            let (mut stream, peer) = (stream, remote);
            let Some(remote) = gate.source(&mut stream, peer, transport).await else { return };
            match transport {
                Transport::Udp | Transport::Tcp => {
                    let local = stream.local_addr();
                    converse(stream, local, remote, gate, socket, transport).await;
                }
                Transport::Tls => {
                    let local = stream.local_addr();
                    if remote == peer && gate.is_unexpected(&stream, remote).await {
                        return;
                    }
                    let Some(stream) = handshake(stream, remote, &gate).await else { return };
                    drop(permit);
                    converse(stream, local, remote, gate, socket, transport).await;
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
) {
    // Without a local address the peer has gone already.
    let Ok(local) = local else { return };
    let side = gate.side;
    let conn = ConnId(gate.numbers.fetch_add(2, Ordering::Relaxed));
    let (outlet, inlet) = outlet(side, transport);
    let accepted = NetEvent::Accepted { conn, side, transport, socket, local, remote };
    if gate.tell.send(Tell::Accepted(accepted, outlet)).await.is_ok() {
        let about = About {
            conn,
            side,
            transport,
            limits: gate.limits,
            tell: gate.tell,
            metrics: gate.metrics,
            said: gate.said,
            peer: Some(remote.ip()),
        };
        run(stream, about, inlet).await;
    }
}
