//! Requests of the registrar's own, to the handsets that are registered with it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{Binding, Shared};
use crate::agents::sip;
use crate::agents::wire::{Exchange, Link, Timers};
use crate::flow::Transport;

/// A request of the registrar's own, see [`super::Registrar::send`].
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// `OPTIONS`, `NOTIFY`, `MESSAGE` …
    pub method: String,
    /// Further headers (`Event`, `Content-Type` …).
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// How to get there.
    pub reach: Reach,
    /// The transaction's timers.
    pub timers: Timers,
}

impl Outgoing {
    /// A request without a body.
    pub fn new(method: &str) -> Outgoing {
        Outgoing {
            method: method.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            reach: Reach::default(),
            timers: Timers::default(),
        }
    }
}

/// How a request of the registrar's gets to a Contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// To the address that the topmost Path, else the Contact says; on an open connection to that address, else on the
    /// one that the REGISTER came on, else on a new one.
    #[default]
    Usual,
    /// Back on the flow that the REGISTER came on (RFC 5626, Asterisk's `rewrite_contact`).
    Flow,
    /// To the address on a new connection, always (RFC 3261 without connection reuse).
    Dial,
}

impl Shared {
    pub(super) async fn send_to(&self, binding: &Binding, outgoing: &Outgoing) -> Exchange {
        let link = match self.link_to(binding, outgoing.reach).await {
            Ok(link) => link,
            Err(error) => return Exchange::broken(&format!("no way to {}: {error}", binding.contact)),
        };
        let branch = format!("z9hG4bK{}", sip::random_token(12));
        let (token, local) = (link.transport.via_token(), link.local);
        let mut headers = vec![("Via", format!("SIP/2.0/{token} {local};branch={branch};rport"))];
        headers.extend(binding.path.iter().map(|path| ("Route", path.clone())));
        headers.push(("Max-Forwards", "70".to_owned()));
        headers.push(("From", format!("<sip:{}@{}>;tag={}", self.options.name, self.options.realm, &branch[7..15])));
        headers.push(("To", format!("<sip:{}>", binding.aor)));
        headers.push(("Call-ID", sip::random_token(12)));
        headers.push(("CSeq", format!("1 {}", outgoing.method)));
        headers.push(("Contact", format!("<sip:{local};transport={}>", link.transport)));
        headers.push(("User-Agent", self.options.name.clone()));
        headers.extend(outgoing.headers.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let request = sip::request(&outgoing.method, &binding.contact, &headers, &outgoing.body);
        self.wire.exchange(&link, request, &branch, outgoing.timers).await
    }

    async fn link_to(&self, binding: &Binding, reach: Reach) -> io::Result<Link> {
        if reach == Reach::Flow {
            return Ok(binding.link.clone());
        }
        let first = binding.path.first().map(|path| sip::NameAddr::read(path).uri);
        let uri = first.as_ref().unwrap_or(&binding.contact);
        let unreachable = || io::Error::other(format!("{uri} names no address"));
        let (transport, addr) = sip::next_hop(uri).ok_or_else(unreachable)?;
        if transport == Transport::Udp {
            return self.wire.udp_to(addr).ok_or_else(|| io::ErrorKind::NotConnected.into());
        }
        if reach == Reach::Usual {
            let open = self.wire.connections().into_iter().find(|l| l.remote == addr && l.transport == transport);
            if let Some(link) = open {
                return Ok(link);
            }
            if binding.link.transport == transport && binding.link.is_open() {
                return Ok(binding.link.clone());
            }
        }
        let tls = match (transport, &self.options.tls_client) {
            (Transport::Tls, Some(config)) => Some((Arc::clone(config), addr.ip().into())),
            (Transport::Tls, None) => return Err(io::Error::other("a registrar without roots cannot dial TLS")),
            (Transport::Udp | Transport::Tcp, _) => None,
        };
        self.wire.connect(addr, tls).await
    }
}
