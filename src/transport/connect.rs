//! Opening connections to upstream hops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::stream::{About, Inlet, run};
use super::tls::Tls;
use super::{bind, cause};
use crate::flow::{Cause, Hop, NetEvent, Side, Transport};
use crate::metrics::Handshake;

/// Why a connection could not be opened.
pub(super) struct Failed {
    pub(super) cause: Cause,
    /// For the log, with every value that matters.
    pub(super) detail: String,
}

/// Opens a connection, tells how that went, and lives on as the connection's task.
pub(super) async fn open(hop: Hop, local: Option<SocketAddr>, limit: Duration, tls: Tls, about: About, inlet: Inlet) {
    let conn = about.conn;
    let deadline = Instant::now() + limit;
    let opened = match timeout_at(deadline, connect(&hop, local)).await {
        Err(_) => Err(Failed {
            cause: Cause::Timeout,
            detail: format!("no TCP connection to {} ({}) within {limit:?}", hop.addr, hop.target),
        }),
        Ok(Err(failed)) => Err(failed),
        Ok(Ok(stream)) => Ok(stream),
    };
    match (opened, hop.transport) {
        (Err(failed), _) => refuse(failed, &about).await,
        (Ok(stream), Transport::Tcp | Transport::Udp) => {
            let Some(local) = local_of(&stream, &about, &hop).await else { return };
            if about.tell(NetEvent::Opened { conn, local }).await {
                run(stream, about, inlet).await;
            }
        }
        (Ok(stream), Transport::Tls) => {
            let Some(local) = local_of(&stream, &about, &hop).await else { return };
            let shaken = timeout_at(deadline, tls.connect(&hop, stream, &about.metrics)).await;
            let (outcome, result) = match shaken {
                Ok(Ok(stream)) => (Handshake::Ok, Ok(stream)),
                Ok(Err((outcome, detail))) => (outcome, Err(Failed { cause: Cause::Tls, detail })),
                Err(_) => {
                    let detail = format!(
                        "{} ({}) accepted the TCP connection but did not finish the TLS handshake within {limit:?}; is it a \
                         TLS port?",
                        hop.addr, hop.target
                    );
                    (Handshake::Timeout, Err(Failed { cause: Cause::Timeout, detail }))
                }
            };
            about.metrics.handshakes(Side::Upstream, outcome).inc();
            match result {
                Ok(stream) => {
                    if about.tell(NetEvent::Opened { conn, local }).await {
                        run(stream, about, inlet).await;
                    }
                }
                Err(failed) => refuse(failed, &about).await,
            }
        }
    }
}

async fn refuse(failed: Failed, about: &About) {
    about.count_error(failed.cause.as_str());
    about.tell(NetEvent::OpenFailed { conn: about.conn, cause: failed.cause, detail: Arc::from(failed.detail) }).await;
}

async fn local_of(stream: &TcpStream, about: &About, hop: &Hop) -> Option<SocketAddr> {
    bind::tune(stream);
    match stream.local_addr() {
        Ok(local) => Some(local),
        Err(error) => {
            refuse(failed(&error, hop), about).await;
            None
        }
    }
}

/// From the bound port where that works, else from an ephemeral one: the port pair may still be in use by an earlier
/// connection to the same target.
async fn connect(hop: &Hop, local: Option<SocketAddr>) -> Result<TcpStream, Failed> {
    let Some(local) = local else {
        return Err(Failed { cause: Cause::Unreachable, detail: other_family(hop) });
    };
    match connect_from(local, hop.addr).await {
        Err(error) if is_taken(&error) && local.port() != 0 => {
            tracing::debug!(target_host = %hop.target, addr = %hop.addr, %local, "port pair in use: leaving from an ephemeral port");
            connect_from(SocketAddr::new(local.ip(), 0), hop.addr).await
        }
        result => result,
    }
    .map_err(|error| failed(&error, hop))
}

async fn connect_from(local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = bind::tcp_outgoing(local)?;
    TcpSocket::from_std_stream(socket.into()).connect(remote).await
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

fn failed(error: &io::Error, hop: &Hop) -> Failed {
    Failed {
        cause: cause::of_stream(error),
        detail: format!("cannot connect to {} ({}): {error}", hop.addr, hop.target),
    }
}

/// The upstream side is bound to an address of the other family.
pub(super) fn other_family(hop: &Hop) -> String {
    let (is, bound) = if hop.addr.is_ipv6() { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
    format!(
        "{} ({}) is {is}, but the upstream side is bound to {bound} only: set --upstream-bind to an {is} address, or to 0.0.0.0 for \
         both",
        hop.addr, hop.target
    )
}
