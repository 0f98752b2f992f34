//! Listening addresses: each parsed, and no two on the same port.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;

use super::error::ConfigError;
use super::layers::{Layers, Remedy};
use super::value;
use crate::flow::{HostPort, Transport};
use crate::transport::{Listen, UpstreamBind};

/// The address from which requests to the PBX leave, unless `upstream_bind` is set.
const UPSTREAM_PORT: u16 = 5080;

/// All addresses Holdline binds.
pub(super) struct Listeners {
    pub(super) listen: Vec<Listen>,
    pub(super) upstream_bind: UpstreamBind,
    pub(super) admin: SocketAddr,
}

/// `upstream` is the transport to the PBX, which decides what is bound there.
pub(super) fn listeners(layers: &Layers, upstream: Transport) -> Result<Listeners, ConfigError> {
    let mut listen = layers.many("listen", listener)?;
    if !layers.has("listen") && is_ipv6_only() {
        for listen in &mut listen {
            listen.addr = as_ipv6(listen.addr);
        }
    }
    if listen.is_empty() {
        return Err(layers.error("listen", "an empty list reaches no phone; write udp:0.0.0.0:5060"));
    }
    let upstream_bind = layers.need("upstream_bind", upstream_bind)?;
    let found = Listeners { listen, upstream_bind, admin: admin(layers)? };
    found.refuse_shared_ports(layers, upstream)?;
    Ok(found)
}

/// Where the admin listener is bound.
pub(super) fn admin(layers: &Layers) -> Result<SocketAddr, ConfigError> {
    layers.need("admin", |text| {
        text.parse().map_err(|_| Remedy::from("not an address with a port; write 127.0.0.1:9460 or 0.0.0.0:9460"))
    })
}

/// The machine has IPv6 addresses and, but for loopback, no IPv4 address: nobody could reach the defaults.
fn is_ipv6_only() -> bool {
    let Ok(interfaces) = getifaddrs() else { return false };
    let addresses = interfaces.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|found| IpAddr::V4(found.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|found| IpAddr::V6(found.ip())))
    });
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.filter(|ip| !ip.is_loopback()).partition(IpAddr::is_ipv4);
    v4.is_empty() && !v6.is_empty()
}

/// The wildcard of IPv4 as that of IPv6.
fn as_ipv6(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), addr.port()),
        _ => addr,
    }
}

impl Listeners {
    /// A clash that the kernel would refuse, named by its keys.
    fn refuse_shared_ports(&self, layers: &Layers, upstream: Transport) -> Result<(), ConfigError> {
        let upstream = match upstream {
            Transport::Tls => &[Transport::Tls][..],
            Transport::Udp | Transport::Tcp => &[Transport::Udp, Transport::Tcp],
        };
        let upstream = upstream.iter().map(|t| ("upstream_bind", *t, self.upstream_bind.addr));
        let all: Vec<(&str, Transport, SocketAddr)> = (self.listen.iter().map(|l| ("listen", l.transport, l.addr)))
            .chain(upstream)
            .chain([("admin", Transport::Tcp, self.admin)])
            .collect();
        for (i, (key, transport, addr)) in all.iter().enumerate() {
            let clash =
                all[..i].iter().find(|(_, t, a)| t.is_reliable() == transport.is_reliable() && clash(*a, *addr));
            if let Some((other, _, at)) = clash {
                let kind = if transport.is_reliable() { "TCP" } else { "UDP" };
                let remedy = format!("{kind} {addr} is already taken by {other} ({at}); give each its own port");
                return Err(layers.error(key, remedy));
            }
        }
        Ok(())
    }
}

/// Same port, and the same address or one a wildcard of that family. An ephemeral port clashes with nothing.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers =
        |x: SocketAddr, y: SocketAddr| x.ip() == y.ip() || (x.ip().is_unspecified() && x.is_ipv4() == y.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (covers(a, b) || covers(b, a))
}

/// `udp:0.0.0.0:5060,advertise=HOST[:PORT]`. Port 0 asks the system for any.
fn listener(text: &str) -> Result<Listen, Remedy> {
    const FORM: &str = "write udp:0.0.0.0:5060, tcp:[::]:5060 or tls:192.0.2.1:5061,advertise=phones.example.com";
    let (text, advertise) = split_advertise(text)?;
    let (transport, addr) = text.split_once(':').ok_or(FORM)?;
    let transport = value::transport(transport).map_err(|remedy| format!("transport {remedy}; {FORM}"))?;
    let addr = addr.parse().map_err(|_| match addr.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_err() => {
            Remedy::from("the port must be a number from 1 to 65535")
        }
        _ => FORM.into(),
    })?;
    Ok(Listen { transport, addr, advertise })
}

fn upstream_bind(text: &str) -> Result<UpstreamBind, Remedy> {
    let (addr, advertise) = split_advertise(text)?;
    Ok(UpstreamBind { addr: value::ip_port(addr, UPSTREAM_PORT)?, advertise })
}

fn split_advertise(text: &str) -> Result<(&str, Option<HostPort>), Remedy> {
    match text.split_once(',') {
        None => Ok((text, None)),
        Some((addr, option)) => match option.trim().strip_prefix("advertise=") {
            Some(given) => Ok((addr.trim(), Some(value::advertised(given)?))),
            None => Err(format!("\"{}\" is unknown; the only option is advertise=HOST[:PORT]", option.trim()).into()),
        },
    }
}
