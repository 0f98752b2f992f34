//! What the transports are told at the start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::flow::{HostPort, Transport};

/// Everything [`Transports::bind`](super::Transports::bind) needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The phone side's listeners, in configuration order.
    pub listen: Vec<Listen>,
    /// Where the upstream side is bound.
    pub upstream_bind: UpstreamBind,
    /// How the upstream is spoken to: decides which upstream sockets are bound. With TLS there is only a TLS listener, and
    /// only if a certificate is configured; else UDP and TCP share the port.
    pub upstream_transport: Transport,
    /// Load balancers that say with a PROXY header whose connection it is; on the phone side, over TCP and TLS.
    pub proxy_protocol: Vec<IpNet>,
    /// Certificates, keys and what is verified.
    pub tls: TlsSettings,
    /// Threads for TLS; `None`: one for each core but one, at least one.
    pub io_threads: Option<usize>,
    /// What may grow how far.
    pub limits: Limits,
    /// From opening a connection to its being usable, TLS handshake included.
    pub connect_timeout: Duration,
    /// Whose connections the phone side accepts. Datagrams are the core's to judge.
    pub allow: Vec<IpNet>,
}

impl Settings {
    /// Settings with every default but the sockets, and everybody admitted to them.
    #[must_use]
    pub fn new(listen: Vec<Listen>, upstream_bind: UpstreamBind, upstream_transport: Transport) -> Self {
        Self {
            listen,
            upstream_bind,
            upstream_transport,
            proxy_protocol: Vec::new(),
            tls: TlsSettings::default(),
            io_threads: None,
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(3),
            allow: vec![IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())],
        }
    }
}

/// One phone-side listener: `udp:0.0.0.0:5060,advertise=HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// UDP, TCP or TLS.
    pub transport: Transport,
    /// Address and port; a wildcard listens on every address of its own family (never on both), port 0 takes any port.
    pub addr: SocketAddr,
    /// What phones are told instead of the local address.
    pub advertise: Option<HostPort>,
}

/// Where the upstream side is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamBind {
    /// Address and port. `0.0.0.0` means IPv6, too, where the machine has it. Port 0 takes any port.
    pub addr: SocketAddr,
    /// What the upstream is told instead of the local address.
    pub advertise: Option<HostPort>,
}

/// Everything that grows has a limit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Accepted TCP and TLS connections on one side; one more is closed at once. What Holdline opens itself is not counted.
    pub connections: usize,
    /// Bytes waiting to be written on one connection; one more closes it.
    pub queue_bytes: usize,
    /// The longest message taken from a stream, in bytes.
    pub message_bytes: usize,
    /// TLS handshakes with phones (or a dialling upstream) under way at one time; more wait in the listen queue.
    pub handshakes: usize,
    /// How long an accepted TLS connection may take for its handshake.
    pub handshake_timeout: Duration,
    /// How long an accepted connection may take from then, handshake included, to the first byte of a message.
    pub silent_timeout: Duration,
    /// Bytes of half-read messages and of what waits to be written, on all connections together; beyond, the one that holds most is
    /// closed.
    pub held_bytes: usize,
    /// How long a message may take from its first byte on a stream to its last (a slow loris is cut off here).
    pub message_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            queue_bytes: 256 * 1024,
            message_bytes: 64 * 1024,
            handshakes: 512,
            handshake_timeout: Duration::from_secs(10),
            silent_timeout: Duration::from_secs(30),
            held_bytes: 64 << 20,
            message_timeout: Duration::from_secs(10),
        }
    }
}

/// Certificates, keys and what is verified.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// The domain that RFC 5922 has verified: the SRV name without its two labels. `None` with a static outbound proxy: its
    /// host is the name then, whatever `verify` says.
    pub domain: Option<String>,
    /// Which name an upstream certificate must be valid for.
    pub verify: Verify,
    /// PEM file of authorities trusted beside the system's (`--upstream-ca`).
    pub ca: Option<PathBuf>,
    /// PEM file of authorities trusted instead of the system's (`--upstream-ca-only`).
    pub ca_only: Option<PathBuf>,
    /// PEM file of the certificate chain shown to the upstream (`--upstream-cert`).
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key (`--upstream-key`).
    pub client_key: Option<PathBuf>,
    /// PEM file of the certificate chain shown to phones (`--tls-cert`).
    pub server_cert: Option<PathBuf>,
    /// PEM file of its key (`--tls-key`).
    pub server_key: Option<PathBuf>,
}

/// `--upstream-verify`: which name the upstream's certificate must be valid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// The SRV name's domain, which is also the SNI (RFC 5922 §4).
    #[default]
    Domain,
    /// The SRV target's name, which is also the SNI.
    Target,
    /// Either of them; the SNI is the domain.
    Either,
}

impl Verify {
    /// As in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verify::Domain => "domain",
            Verify::Target => "target",
            Verify::Either => "either",
        }
    }
}
