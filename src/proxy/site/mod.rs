//! The site: settings, key, names and sockets. Everybody reads them; only a reload changes them.

pub(super) mod names;
pub(super) mod settings;

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use self::names::Names;
pub(super) use self::settings::Settings;
use super::ids::{CallKey, PathId};
use super::marks::Key;
use super::registrar::contact::Mode;
use crate::flow::{HostPort, Side, SocketId, Transport, allows};
use crate::upstream::{self, HandsetId, SourceId, Upstream};

/// A socket that is bound: a listener of the handsets' side or one of the upstream side's.
#[derive(Debug, Clone)]
pub struct Socket {
    /// Its number.
    pub id: SocketId,
    /// Which side it belongs to.
    pub side: Side,
    /// What it speaks.
    pub transport: Transport,
    /// The bound address; may be a wildcard.
    pub local: SocketAddr,
    /// What to call ourselves on it, instead of the address a packet arrived on.
    pub advertise: Option<HostPort>,
}

/// New settings for a running core. What cannot change while it runs is ignored in them.
#[derive(Debug, Clone)]
pub struct Reload {
    /// The proxy's.
    pub proxy: Settings,
    /// Thresholds and failure codes.
    pub upstream: upstream::Settings,
}

#[derive(Debug)]
pub(super) struct Site {
    pub settings: Settings,
    pub key: Key,
    pub names: Names,
    /// What the upstream side speaks.
    pub transport: Transport,
    sockets: Vec<Socket>,
    /// Counts up with each branch and each tag of our own: a serial number, the one thing here that moves by itself.
    serial: Cell<u64>,
}

impl Site {
    pub(super) fn new(
        settings: Settings,
        key: Key,
        transport: Transport,
        sockets: Vec<Socket>,
        first_serial: u64,
    ) -> Self {
        let names = names(&sockets, &settings);
        Site { settings, key, names, transport, sockets, serial: Cell::new(first_serial) }
    }

    /// Takes over what may change. Contacts, names in From and To and what peers are told to call stay as they were at the
    /// start: dialogs and registrations were made with them.
    pub(super) fn reload(&mut self, new: Settings) {
        // Each field is named, so that a new one has to be decided on.
        let Settings {
            aliases,
            domain: _,
            domain_in_aor: _,
            contact: _,
            sips,
            upstream_advertise: _,
            register_interval,
            retry,
            attempt_timeout,
            retry_deadline,
            exhausted,
            invite_alternate,
            allow,
            upstream_allow,
            upstream_keepalive,
            idle_timeout: _,
            max_transactions,
            max_bytes: _,
            max_failing,
            max_datagram,
            max_bindings,
            max_upstream_connections: _,
        } = new;
        self.settings = Settings {
            aliases,
            sips,
            register_interval,
            retry,
            attempt_timeout,
            retry_deadline,
            exhausted,
            invite_alternate,
            allow,
            upstream_allow,
            upstream_keepalive,
            max_transactions,
            max_failing,
            max_datagram,
            max_bindings,
            ..self.settings.clone()
        };
        self.names = names(&self.sockets, &self.settings);
    }

    pub(super) fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(usize::from(id.0)).filter(|s| s.id == id).or_else(|| self.sockets.iter().find(|s| s.id == id))
    }

    /// The unconnected upstream UDP socket.
    pub(super) fn unconnected_upstream(&self) -> Option<SocketId> {
        self.sockets.iter().find(|s| s.side == Side::Upstream && s.transport == Transport::Udp).map(|s| s.id)
    }

    /// The handsets' UDP listener that has this local address now.
    pub(super) fn listener_at(&self, local: SocketAddr) -> Option<SocketId> {
        let here = |socket: &&Socket| {
            let same_ip = socket.local.ip() == local.ip() || socket.local.ip().is_unspecified();
            socket.side == Side::Phone
                && socket.transport == Transport::Udp
                && same_ip
                && socket.local.port() == local.port()
        };
        self.sockets.iter().find(here).map(|socket| socket.id)
    }

    /// A number that no branch and no tag has had.
    pub(super) fn next_serial(&self) -> u64 {
        let next = self.serial.get() + 1;
        self.serial.set(next);
        next
    }

    pub(super) fn handset(&self, aor: &str, source: IpAddr) -> HandsetId {
        HandsetId(match source.to_canonical() {
            IpAddr::V4(ip) => self.key.hash(&[aor.as_bytes(), &ip.octets()]),
            IpAddr::V6(ip) => self.key.hash(&[aor.as_bytes(), &ip.octets()]),
        })
    }

    /// The network an address belongs to: IPv6 hosts have a /64 to choose addresses from.
    pub(super) fn source(&self, source: IpAddr) -> SourceId {
        SourceId(match source.to_canonical() {
            IpAddr::V4(ip) => self.key.hash(&[b"source", &ip.octets()]),
            IpAddr::V6(ip) => self.key.hash(&[b"source", &ip.octets()[..8]]),
        })
    }

    pub(super) fn call(&self, call_id: &[u8], aor: &str) -> CallKey {
        CallKey(self.key.hash(&[call_id, aor.as_bytes()]))
    }

    pub(super) fn path(&self, local: SocketAddr, remote: SocketAddr) -> PathId {
        PathId(self.key.hash(&[b"way", local.to_string().as_bytes(), remote.to_string().as_bytes()]))
    }

    /// Whether an address may talk to a side at all.
    pub(super) fn admits(&self, side: Side, remote: SocketAddr, upstream: &Upstream) -> bool {
        let ip = remote.ip().to_canonical();
        match side {
            Side::Phone => allows(&self.settings.allow, ip),
            Side::Upstream => upstream.is_upstream_address(ip) || allows(&self.settings.upstream_allow, ip),
        }
    }

    /// What stands in Via, Contact and Record-Route on a socket whose packets arrive at `local`: host and port, never a wildcard.
    pub(super) fn sent_by(&self, socket: Option<SocketId>, transport: Transport, local: SocketAddr) -> Arc<str> {
        match socket.and_then(|id| self.socket(id)) {
            Some(socket) if socket.side == Side::Phone => {
                name_of(socket.advertise.as_ref(), SocketAddr::new(local.ip(), socket.local.port()))
            }
            _ => self.upstream_sent_by(transport, local),
        }
    }

    /// An upstream connection is reached at the bound port, where that is listened on: an ephemeral one would be
    /// nobody's address once the connection is gone.
    pub(super) fn upstream_sent_by(&self, transport: Transport, local: SocketAddr) -> Arc<str> {
        let bound = self.sockets.iter().find(|s| s.side == Side::Upstream && s.transport == transport);
        let port = bound.map_or(local.port(), |s| s.local.port());
        name_of(self.settings.upstream_advertise.as_ref(), SocketAddr::new(local.ip(), port))
    }

    /// What the PBX gets when a handset's flow is gone (RFC 5626 §5.3.1: 430 where the flow was named by Path).
    pub(super) fn lost_flow(&self) -> (u16, &'static str) {
        match self.settings.contact {
            Mode::Path => (430, "Flow Failed"),
            Mode::Rewrite => (480, "Temporarily Unavailable"),
        }
    }
}

/// The advertised name with the socket's port unless it brings its own; else the address.
fn name_of(advertise: Option<&HostPort>, local: SocketAddr) -> Arc<str> {
    match advertise {
        Some(name) => HostPort { host: name.host.clone(), port: name.port.or(Some(local.port())) }.to_string().into(),
        None => SocketAddr::new(local.ip().to_canonical(), local.port()).to_string().into(),
    }
}

/// What means us: the listeners, what they advertise, and the aliases.
fn names(sockets: &[Socket], settings: &Settings) -> Names {
    let mut names = Names::new();
    for socket in sockets {
        let advertise = match socket.side {
            Side::Phone => socket.advertise.as_ref(),
            Side::Upstream => settings.upstream_advertise.as_ref(),
        };
        names.add_socket(socket.side, socket.local, advertise);
    }
    for alias in &settings.aliases {
        names.add_alias(alias);
    }
    if let Some(domain) = &settings.domain {
        names.set_domain(domain, settings.domain_in_aor);
    }
    names
}
