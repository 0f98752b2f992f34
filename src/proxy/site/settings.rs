//! What the proxy core is told once, at its start (and at a reload).

use std::time::Duration;

use ipnet::IpNet;

use crate::flow::HostPort;
use crate::proxy::registrar::contact::Mode;

/// What the handset sees when its deadline passes with nothing to relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exhausted {
    /// No final answer, as from a dead PBX (RFC 4320 §4.2).
    #[default]
    Silent,
    /// `503 Service Unavailable`.
    Unavailable,
}

/// What a handset that wants `sips:` gets where the upstream is not TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sips {
    /// Its Contact goes on as `sip:`, with a warning.
    #[default]
    Downgrade,
    /// `416 Unsupported URI Scheme`.
    Refuse,
}

/// Settings of the proxy core. Every field is valid by construction of `config`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names beside the listeners' own that mean this Holdline in a Route or Request-URI.
    pub aliases: Vec<String>,
    /// The domain that stands in for our own host in a Request-URI (phones that have only a "server" field).
    pub domain: Option<String>,
    /// Map From and To to `domain` and back, too.
    pub domain_in_aor: bool,
    /// How upstream reaches a handset: by our Contact, or by Path.
    pub contact: Mode,
    /// What `sips:` means over an upstream without TLS.
    pub sips: Sips,
    /// What upstream is told to send to, instead of the socket's own address.
    pub upstream_advertise: Option<HostPort>,
    /// Cap for the `expires` a handset is granted; `None` passes on what the PBX grants.
    pub register_interval: Option<Duration>,
    /// Try again within the handset's transaction.
    pub retry: bool,
    /// An attempt without a final answer fails after this long.
    pub attempt_timeout: Duration,
    /// A handset's transaction is tried for this long after its first receipt.
    pub retry_deadline: Duration,
    /// What the handset sees after the deadline.
    pub exhausted: Exhausted,
    /// Try an unanswered INVITE once on the next target.
    pub invite_alternate: bool,
    /// Who may send to the phone side.
    pub allow: Vec<IpNet>,
    /// Who may send to the upstream side, beside the targets.
    pub upstream_allow: Vec<IpNet>,
    /// A CRLF CRLF goes out on an upstream connection, or to an upstream address, on which nothing was sent for so long
    /// (RFC 5626 §4.4.1); `None`: never.
    pub upstream_keepalive: Option<Duration>,
    /// A connection nobody needs is closed after this long without traffic.
    pub idle_timeout: Duration,
    /// Response contexts, client and server transactions at once.
    pub max_transactions: usize,
    /// Bytes of messages kept at once, by transactions and exchanges.
    pub max_bytes: usize,
    /// Requests of one source that may fail for good in ten seconds, of handsets never served; 0: any number.
    pub max_failing: u32,
    /// Longest datagram with a handset's request that is neither INVITE nor MESSAGE, in bytes.
    pub max_datagram: usize,
    /// Bindings in the table.
    pub max_bindings: usize,
    /// Upstream connections open or opening at once.
    pub max_upstream_connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            aliases: Vec::new(),
            domain: None,
            domain_in_aor: false,
            contact: Mode::Rewrite,
            sips: Sips::Downgrade,
            upstream_advertise: None,
            register_interval: Some(Duration::from_secs(300)),
            retry: true,
            attempt_timeout: Duration::from_secs(4),
            retry_deadline: Duration::from_secs(15),
            exhausted: Exhausted::Silent,
            invite_alternate: true,
            allow: default_allow(),
            upstream_allow: Vec::new(),
            upstream_keepalive: Some(Duration::from_secs(25)),
            idle_timeout: Duration::from_secs(600),
            max_transactions: 65_536,
            max_bytes: 384 << 20,
            max_failing: 20,
            max_datagram: 16_384,
            max_bindings: 65_536,
            max_upstream_connections: 256,
        }
    }
}

/// Loopback, RFC 1918, CGNAT (RFC 6598), ULA and link-local: who may send to the phone side unless `allow` says otherwise.
#[must_use]
pub fn default_allow() -> Vec<IpNet> {
    const NETS: [&str; 9] = [
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    ];
    NETS.iter().filter_map(|net| net.parse().ok()).collect()
}
