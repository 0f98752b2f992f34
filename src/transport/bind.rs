//! Sockets: how they are made, and what is said when that fails.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::tls::TlsError;
use crate::flow::{Side, Transport};

/// Asked for; the kernel caps it at `net.core.rmem_max` without an error.
const UDP_BUFFER: usize = 4 * 1024 * 1024;
/// Connections that wait for `accept`.
const BACKLOG: i32 = 1024;
/// Data unacknowledged for this long: the peer is gone (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// A socket could not be bound, or its certificate cannot be used. The text names what, why and the remedy.
#[derive(Debug)]
pub enum BindError {
    /// A listener or the upstream side's socket.
    Socket {
        /// Whose it is.
        side: Side,
        /// Its transport.
        transport: Transport,
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A TLS listener without a usable certificate, or bad TLS settings.
    Tls(TlsError),
    /// No threads for TLS.
    Threads(io::Error),
}

impl std::error::Error for BindError {}

impl From<TlsError> for BindError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, transport, addr, source) = match self {
            Self::Tls(error) => return error.fmt(f),
            Self::Threads(error) => {
                return write!(f, "no threads for TLS: {error}; allow this user more of them, or lower io_threads");
            }
            Self::Socket { side, transport, addr, source } => (side, transport, addr, source),
        };
        let (name, key) = match side {
            Side::Phone => ("listener", "--listen"),
            Side::Upstream => ("upstream socket", "--upstream-bind"),
        };
        write!(f, "cannot bind the {transport} {name} {addr}: {source}; {}", remedy(source, *transport, *addr, key))
    }
}

/// What helps where an address cannot be bound; `key` is the flag that says which.
#[must_use]
pub fn remedy(error: &io::Error, transport: Transport, addr: SocketAddr, key: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let flag = if transport == Transport::Udp { 'u' } else { 't' };
            let port = addr.port();
            format!(
                "another process has this port (`ss -l{flag}np sport = :{port}` shows which): stop it, or choose another \
                 with {key}"
            )
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "no interface of this machine has the address {} (`ip address` lists them): correct {key}",
            addr.ip()
        ),
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or choose a higher port with {key}")
        }
        _ if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
            format!("this machine has no {}: correct {key}", if addr.is_ipv6() { "IPv6" } else { "IPv4" })
        }
        _ => format!("check {key}"),
    }
}

/// How a socket shares its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// With nobody.
    Alone,
    /// With sockets made later with `Shared`. It is bound alone first, so that a second process fails instead of taking half
    /// of the packets, and opened for sharing afterwards.
    First,
    /// With the one bound as `First`.
    Shared,
}

/// A UDP socket, with the local address of each datagram reported where it is bound to a wildcard.
pub(super) fn udp(addr: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if addr.ip().is_unspecified() {
        if addr.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    if sharing == Sharing::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    if sharing == Sharing::First {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

/// ICMP errors, soft ones too (host unreachable), queue up on this connected socket.
pub(super) fn report_icmp(socket: &Socket, peer: SocketAddr) -> io::Result<()> {
    if peer.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
    }
    Ok(())
}

/// A listening TCP socket.
pub(super) fn tcp_listener(addr: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = tcp_socket(addr)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    if sharing == Sharing::First {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

/// A TCP socket to connect with, bound to this address, sharing its port with a listener and with other connections.
pub(super) fn tcp_outgoing(local: SocketAddr) -> io::Result<Socket> {
    let socket = tcp_socket(local)?;
    if local.port() != 0 {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    socket.bind(&local.into())?;
    Ok(socket)
}

fn tcp_socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Options of every connection: no delay, and a dead peer is noticed.
pub(super) fn tune(stream: &tokio::net::TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    for (option, result) in [
        ("TCP_NODELAY", socket.set_tcp_nodelay(true)),
        ("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(USER_TIMEOUT))),
        ("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive)),
    ] {
        if let Err(error) = result {
            tracing::debug!(option, %error, "socket option refused");
        }
    }
}

/// The wildcard of the other family with the same port: `0.0.0.0` stands for both families on the upstream side.
pub(super) fn companion(addr: SocketAddr) -> Option<SocketAddr> {
    (addr.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        .then(|| SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, addr.port(), 0, 0).into())
}

/// The local address of a bound socket.
pub(super) fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an internet socket"))
}
