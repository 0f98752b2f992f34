//! What the worlds in virtual time share: a core between two phone-side sockets and an upstream one, and record sets.
//!
//! The fuzz target `core` takes this file, too: nothing but the library is used here.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holdline::fleet::Fleet;
use holdline::flow::{Side, SocketId, Transport};
use holdline::proxy::{Core, Settings, Socket, Start};
use holdline::upstream::{self, Persisted, Record, RecordSet, Source, Upstream};

/// The socket of UDP phones.
pub(crate) const PHONE_UDP: SocketId = SocketId(0);
/// The listener of TCP phones.
pub(crate) const PHONE_TCP: SocketId = SocketId(1);
/// The upstream side's socket.
pub(crate) const UPSTREAM: SocketId = SocketId(2);

/// A core that begins.
pub(crate) struct Beginning {
    pub proxy: Settings,
    pub upstream: upstream::Settings,
    pub restored: Option<Persisted>,
    pub transport: Transport,
    /// Where phones send to, over UDP and TCP.
    pub listen: SocketAddr,
    /// Where the upstream side is bound.
    pub bound: SocketAddr,
    pub seed: u64,
    /// Its part among several; `None`: it is alone.
    pub fleet: Option<Fleet>,
}

impl Beginning {
    /// The core, as it is at `now`.
    pub(crate) fn core(self, now: Instant) -> Core {
        let Beginning { proxy, upstream, restored, transport, listen, bound, seed, fleet } = self;
        let upstream = Upstream::new(upstream, restored, seed, now);
        let socket = |id, side, transport, local| Socket { id, side, transport, local, advertise: None };
        let sockets = vec![
            socket(PHONE_UDP, Side::Phone, Transport::Udp, listen),
            socket(PHONE_TCP, Side::Phone, Transport::Tcp, listen),
            socket(UPSTREAM, Side::Upstream, transport, bound),
        ];
        Core::new(Start { settings: proxy, upstream, transport, sockets, key: [7; 32], first_branch: seed, fleet }, now)
    }
}

/// The upstream's settings for an SRV name of this domain, everything else at its default.
pub(crate) fn srv(domain: &str, transport: Transport) -> upstream::Settings {
    upstream::Settings::new(Source::Srv { name: format!("_sip._udp.{domain}") }, transport)
}

/// A record set of `host`s of this domain, one address each, in order of priority.
pub(crate) fn records<'a>(
    domain: &str,
    hosts: impl IntoIterator<Item = (&'a str, IpAddr)>,
    ttl: Duration,
) -> RecordSet {
    let records = (0..).zip(hosts).map(|(place, (host, address))| Record {
        priority: 10 * (place + 1),
        weight: 100,
        port: 5060,
        host: format!("{host}.{domain}"),
        addresses: vec![address],
    });
    RecordSet::new(records.collect(), ttl)
}
