//! Flows, and the events and commands about them that the pure core and the transports share.
//!
//! A *flow* (RFC 5626 §3) is a UDP address pair or one TCP/TLS connection. Every flow has a side, given by the socket it
//! lives on. Nothing here does any I/O.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The side of Holdline on which a flow lies. Requests cross from one side to the other, never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The side of the listeners that handsets send to.
    Phone,
    /// The side of the configured SIP service.
    Upstream,
}

impl Side {
    /// Both sides, in the order metrics are registered.
    pub const ALL: [Side; 2] = [Side::Phone, Side::Upstream];

    /// The metric label: `phone` or `upstream`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Phone => "phone",
            Side::Upstream => "upstream",
        }
    }
}

/// A SIP transport that Holdline speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams, RFC 3261 §18.
    Udp,
    /// One TCP connection, RFC 3261 §18.
    Tcp,
    /// TLS over TCP, RFC 3261 §26.
    Tls,
}

impl Transport {
    /// All transports, in the order metrics are registered.
    pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    /// Lower case, as in configuration, URI parameters and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }

    /// Upper case, as in a Via header's sent-protocol (RFC 3261 §20.42).
    #[must_use]
    pub fn via_token(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// True where the transport itself delivers reliably (RFC 3261 §17: no retransmission timers).
    #[must_use]
    pub fn is_reliable(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// 5061 for TLS, else 5060 (RFC 3261 §19.1.2).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One bound socket: a phone-side listener in configuration order, or one of the upstream-side sockets after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u16);

/// One TCP/TLS connection, or one *connected* upstream UDP socket. Of either kind no number is used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnId {
    /// We opened it; the core numbers these.
    Dialled(u64),
    /// It was accepted; the transports number these.
    Accepted(u64),
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnId::Dialled(number) => write!(f, "dialled {number}"),
            ConnId::Accepted(number) => write!(f, "accepted {number}"),
        }
    }
}

/// A flow, as far as sending to it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Datagrams through an unconnected socket.
    Udp {
        /// The socket they come in and leave by.
        socket: SocketId,
        /// The local address the datagram arrived on (PKTINFO), which an answer leaves from. Never a wildcard.
        local: SocketAddr,
        /// The peer.
        remote: SocketAddr,
    },
    /// A connection, or a connected upstream UDP socket.
    Conn(ConnId),
}

/// A host name or address with an optional port, as configured (`advertise=`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port, where one was given.
    pub port: Option<u16>,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// One next hop towards the upstream: what a connection is keyed by, so that a name check is never skipped
/// (a pool keyed by address alone would).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The SRV target's name, lower case, no trailing dot (or an address literal for a static outbound proxy).
    pub target: Arc<str>,
    /// Address and port to reach it at.
    pub addr: SocketAddr,
    /// The transport.
    pub transport: Transport,
    /// Flows are shared within a group. One shared flow per target now: always 0.
    pub group: u64,
}

/// The reason why a connection, a send or an attempt failed. Its words are the label values of `register_failures_total{reason}` and
/// `connection_errors_total{reason}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// No answer in time; for a connection: not established within `connect_timeout`.
    Timeout,
    /// Connection refused, or ICMP port unreachable.
    Refused,
    /// Reset or closed by the peer.
    Reset,
    /// TLS handshake or certificate verification failed.
    Tls,
    /// No route, host or network unreachable, or the packet cannot be sent.
    Unreachable,
    /// The target's name has no address.
    Unresolved,
    /// This machine lacks something: descriptors, memory, ports, an address to send from. It says nothing about the target.
    Local,
}

impl Cause {
    /// All causes, in the order metrics are registered.
    pub const ALL: [Cause; 7] =
        [Cause::Timeout, Cause::Refused, Cause::Reset, Cause::Tls, Cause::Unreachable, Cause::Unresolved, Cause::Local];

    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Timeout => "timeout",
            Cause::Refused => "refused",
            Cause::Reset => "reset",
            Cause::Tls => "tls",
            Cause::Unreachable => "unreachable",
            Cause::Unresolved => "unresolved",
            Cause::Local => "local",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether an address lies in one of the networks. IPv4-mapped IPv6 addresses count as IPv4.
#[must_use]
pub fn allows(nets: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    nets.iter().any(|net| net.contains(&ip))
}

/// What one source is, where shares are counted: an IPv4 address, or the /64 of an IPv6 one, since that is what one customer or
/// host is given as a whole.
#[must_use]
pub fn source_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

/// An event that the transports report to the core.
#[derive(Debug, Clone)]
pub enum NetEvent {
    /// One datagram (any content, also empty or keep-alive), or one whole message framed from a stream.
    Received {
        /// The flow it came in on, which an answer can be sent to.
        flow: Flow,
        /// Exactly the bytes received.
        bytes: Bytes,
    },
    /// A stream could not be framed; what was read of the offending message. The transport closes the connection after
    /// the core's answers to this event have been written.
    Unframed {
        /// The connection.
        conn: ConnId,
        /// What was read of the message, possibly cut short.
        bytes: Bytes,
        /// The metric label of the reason.
        reason: &'static str,
    },
    /// CRLF keep-alive on a stream. A ping (double CRLF, RFC 5626 §4.4.1) was already answered by the transport.
    KeepAlive {
        /// The connection.
        conn: ConnId,
    },
    /// A peer connected to one of our listeners (for TLS: after the handshake).
    Accepted {
        /// Its number (odd).
        conn: ConnId,
        /// The side of the listener.
        side: Side,
        /// TCP or TLS.
        transport: Transport,
        /// Which listener.
        socket: SocketId,
        /// The connection's local address: what it is reached at.
        local: SocketAddr,
        /// The peer.
        remote: SocketAddr,
    },
    /// An [`NetCommand::Open`] succeeded.
    Opened {
        /// Its number, as given in the command.
        conn: ConnId,
        /// Local address after connect. Never a wildcard.
        local: SocketAddr,
    },
    /// An [`NetCommand::Open`] failed. The number is dead.
    OpenFailed {
        /// Its number, as given in the command.
        conn: ConnId,
        /// The metric label.
        cause: Cause,
        /// For the log: what happened, with which values and what to do (names asked for, names in the certificate …).
        detail: Arc<str>,
    },
    /// A connection ended, by either side or by an error. The number is dead. Not sent after [`NetCommand::Close`].
    Closed {
        /// Its number.
        conn: ConnId,
        /// `Reset` for an orderly close by the peer, too.
        cause: Cause,
    },
    /// A datagram could not be sent, or an ICMP error came back. The flow itself stays usable.
    ///
    /// Anybody can send an ICMP error. The kernel compares addresses and ports with the socket's; whether the error is about
    /// something that we sent is for the core to see by `quoted` (RFC 8085 §5.2).
    SendFailed {
        /// The flow, a [`Flow::Conn`] for a connected upstream UDP socket.
        flow: Flow,
        /// Refused, Unreachable or Local.
        cause: Cause,
        /// The datagram it is about: all of it where this machine could not send it, the beginning that the ICMP error quotes where
        /// one came (RFC 1812 §4.3.2.3: up to 548 bytes, some routers far less). `None` where nothing of it was quoted.
        quoted: Option<Bytes>,
    },
}

/// A command of the core to the transports. None of them waits; each outcome is a [`NetEvent`].
#[derive(Debug, Clone)]
pub enum NetCommand {
    /// Open a connection (or a connected UDP socket) to an upstream hop, from the bound upstream port where possible.
    Open {
        /// The number it shall have (even).
        conn: ConnId,
        /// Where to.
        hop: Hop,
    },
    /// Send these bytes. On a connection whose queue is full the connection is closed (`Closed` with `Timeout`).
    Send {
        /// Where to.
        flow: Flow,
        /// A whole message, or a keep-alive.
        bytes: Bytes,
    },
    /// Close a connection after what is queued has been written. A number that is already dead is ignored.
    Close {
        /// Its number.
        conn: ConnId,
    },
}
