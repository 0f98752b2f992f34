//! What Holdline is called: in a Route, in a Request-URI, and in the From and To of a phone that knows only us.

use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use crate::flow::{HostPort, Side};
use crate::message::digits::ip_literal;
use crate::message::{Edit, Element, Message, Name, NameAddr, Scheme, Span, Uri};
use crate::proxy::marks::{BindingId, Key};

/// Our names and addresses, a set for each side, and the domain that stands in for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    phone: Hosts,
    upstream: Hosts,
    domain: Option<Domain>,
}

#[derive(Debug, Clone)]
struct Domain {
    name: Box<[u8]>,
    in_aor: bool,
}

/// The top of a phone's Route set, as far as it is ours to take off. See [`Names::pop_routes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Popped {
    /// So many Routes were ours.
    pub ours: usize,
    /// The dialog's mark on the last of them: the handset's binding, and the number of the target.
    pub mark: Option<(BindingId, u32)>,
    /// A lone foreign Route on a request outside a dialog was taken off: a phone that was told of another proxy. Warn.
    pub foreign: bool,
    /// A Route that bears our name and the form of our mark, but was not made by us. Answer 403.
    pub forged: bool,
}

impl Names {
    /// No names yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Names::default()
    }

    /// A socket that is bound: its address (a wildcard stands for whatever address a request arrives on) and what it is
    /// advertised as.
    pub(crate) fn add_socket(&mut self, side: Side, local: SocketAddr, advertise: Option<&HostPort>) {
        let hosts = self.hosts_mut(side);
        hosts.ports.push(local.port());
        if !local.ip().is_unspecified() {
            hosts.add(Host::Ip(local.ip().to_canonical()), Some(local.port()));
        }
        if let Some(advertise) = advertise {
            hosts.add(Host::of(advertise.host.as_bytes()), Some(advertise.port.unwrap_or(local.port())));
        }
    }

    /// Another name of ours on the phones' side, with any port that we listen on there.
    pub(crate) fn add_alias(&mut self, name: &str) {
        self.phone.add(Host::of(name.as_bytes()), None);
    }

    /// The domain that our own host in a Request-URI is replaced by; in From and To, too, if `in_aor`.
    pub(crate) fn set_domain(&mut self, name: &str, in_aor: bool) {
        self.domain = Some(Domain { name: name.as_bytes().into(), in_aor });
    }

    /// True for a host and port that mean us on this side. Case does not count. Without a port the host alone decides: phones
    /// leave it out however they reach us. `local` is the address the request arrived on.
    #[must_use]
    pub(crate) fn is_ours(&self, side: Side, host: &[u8], port: Option<u16>, local: Option<SocketAddr>) -> bool {
        let hosts = match side {
            Side::Phone => &self.phone,
            Side::Upstream => &self.upstream,
        };
        hosts.contains(host, port, local)
    }

    /// Takes our own Routes off the top of a phone's request: those with a user part that `key` made, and those that name us
    /// (phones preload `Route: <sip:holdline;lr>`). If none was, a lone foreign one on a request outside a dialog goes, too,
    /// unless it names the domain or `is_of_the_pbx`, which is asked of its URI: the next hop is the active target all the same.
    /// Routes below stay, and below our mark they stay even if they are ours: a call between two handsets passes here twice,
    /// and those lead back from upstream to the other handset.
    pub(crate) fn pop_routes(
        &self,
        msg: &Message,
        edit: &mut Edit<'_>,
        key: &Key,
        local: Option<SocketAddr>,
        is_of_the_pbx: impl Fn(&[u8]) -> bool,
    ) -> Popped {
        let buf: &[u8] = msg.bytes();
        let mut popped = Popped::default();
        let target = self.strict_target(msg, local);
        let mut routes = msg.list(Name::Route).filter(|route| target.as_ref() != Some(route)).peekable();
        while let Some(route) = routes.peek() {
            match self.whose_route(buf, route, key, local) {
                WhoseRoute::Ours => edit.cut(route),
                WhoseRoute::Marked(mark) => {
                    edit.cut(route);
                    popped.ours += 1;
                    popped.mark = Some(mark);
                    return popped;
                }
                WhoseRoute::Forged => {
                    popped.forged = true;
                    return popped;
                }
                WhoseRoute::Foreign => break,
            }
            popped.ours += 1;
            routes.next();
        }
        if popped.ours == 0
            && target.is_none()
            && msg.to_tag().is_none()
            && let (Some(lone), None) = (routes.next(), routes.next())
            && !self.stays(buf, &lone, is_of_the_pbx)
        {
            edit.cut(&lone);
            popped.foreign = true;
        }
        popped
    }

    fn stays(&self, buf: &[u8], route: &Element, is_of_the_pbx: impl Fn(&[u8]) -> bool) -> bool {
        let Some(uri) = NameAddr::parse(buf, route.span).map(|address| address.uri) else { return false };
        let host = Uri::parse(buf, uri).map(|uri| uri.host.of(buf));
        let names_domain =
            |host: &[u8]| self.domain.as_ref().is_some_and(|domain| domain.name.eq_ignore_ascii_case(host));
        is_of_the_pbx(uri.of(buf)) || host.is_some_and(names_domain)
    }

    /// The last Route of a request that a handset sent to us as to a strict router: the Request-URI names us, without a user,
    /// and what is asked for is at the end of the Routes (RFC 3261 §16.4). So does one whose outbound proxy was entered without
    /// `lr`.
    pub(crate) fn strict_target(&self, msg: &Message, local: Option<SocketAddr>) -> Option<Element> {
        let buf: &[u8] = msg.bytes();
        let names_us = |uri: &Uri| uri.user.is_none() && self.is_ours(Side::Phone, uri.host.of(buf), uri.port, local);
        msg.target().filter(|uri| names_us(uri))?;
        let last = msg.list(Name::Route).last()?;
        let target = Uri::parse(buf, NameAddr::parse(buf, last.span)?.uri)?;
        (target.param(buf, b"lr").is_none() && !names_us(&target)).then_some(last)
    }

    /// A URI with the domain in the place of our own host and port.
    pub(crate) fn mapped(&self, buf: &[u8], uri: Span, local: Option<SocketAddr>) -> Vec<u8> {
        match (&self.domain, self.our_host(buf, uri, local)) {
            (Some(domain), Some(ours)) => {
                let (before, after) = (Span { end: ours.start, ..uri }, Span { start: ours.end, ..uri });
                [before.of(buf), &domain.name, after.of(buf)].concat()
            }
            _ => uri.of(buf).to_vec(),
        }
    }

    /// True if the topmost Route bears our name and the form of our mark, but was not made by us. Answer 403.
    pub(crate) fn top_route_is_forged(&self, msg: &Message, key: &Key, local: Option<SocketAddr>) -> bool {
        let top = msg.list(Name::Route).next();
        top.is_some_and(|route| matches!(self.whose_route(msg.bytes(), &route, key, local), WhoseRoute::Forged))
    }

    /// Puts the domain in the place of our own host and port in a phone's Request-URI. True if it did.
    pub(crate) fn map_request_uri(&self, msg: &Message, edit: &mut Edit<'_>, local: Option<SocketAddr>) -> bool {
        let Some(domain) = &self.domain else { return false };
        let Some(span) = self.our_host(msg.bytes(), msg.request_uri(), local) else { return false };
        edit.replace(span, &domain.name);
        true
    }

    /// With `domain_in_aor`: puts the domain in the place of our own host and port in the From and To of a phone's request.
    pub(crate) fn map_aor(&self, msg: &Message, edit: &mut Edit<'_>, local: Option<SocketAddr>) {
        let Some(domain) = self.domain.as_ref().filter(|domain| domain.in_aor) else { return };
        for addr in [msg.from(), msg.to()].into_iter().flatten() {
            if let Some(span) = self.our_host(msg.bytes(), addr.uri, local) {
                edit.replace(span, &domain.name);
            }
        }
    }

    /// Undoes [`Names::map_aor`] in the response to `request`, which is as the phone sent it.
    pub(crate) fn map_aor_back(
        &self,
        response: &Message,
        edit: &mut Edit<'_>,
        request: &Message,
        local: Option<SocketAddr>,
    ) {
        let Some(domain) = self.domain.as_ref().filter(|domain| domain.in_aor) else { return };
        let pairs = [(response.from(), request.from()), (response.to(), request.to())];
        for (now, sent) in pairs.into_iter().filter_map(|(now, sent)| now.zip(sent)) {
            let Some(own) = self.our_host(request.bytes(), sent.uri, local) else { continue };
            let Some(span) = host_port(response.bytes(), now.uri) else { continue };
            if span.of(response.bytes()).eq_ignore_ascii_case(&domain.name) {
                edit.replace(span, own.of(request.bytes()));
            }
        }
    }

    fn hosts_mut(&mut self, side: Side) -> &mut Hosts {
        match side {
            Side::Phone => &mut self.phone,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// Host and port of a SIP URI, if they mean us.
    fn our_host(&self, buf: &[u8], uri: Span, local: Option<SocketAddr>) -> Option<Span> {
        let parsed = Uri::parse(buf, uri)?;
        let span = host_port(buf, uri)?;
        self.is_ours(Side::Phone, parsed.host.of(buf), parsed.port, local).then_some(span)
    }

    fn whose_route(&self, buf: &[u8], route: &Element, key: &Key, local: Option<SocketAddr>) -> WhoseRoute {
        let uri = NameAddr::parse(buf, route.span).and_then(|addr| Uri::parse(buf, addr.uri));
        let Some(uri) = uri else { return WhoseRoute::Foreign };
        let user = uri.user_part(buf).unwrap_or_default();
        if let Some(mark) = key.verify_route_mark(user) {
            return WhoseRoute::Marked(mark);
        }
        if key.verify(user).is_some() {
            return WhoseRoute::Ours;
        }
        // Our upstream-facing Record-Route comes back from phones, too.
        let named = Side::ALL.iter().any(|side| self.is_ours(*side, uri.host.of(buf), uri.port, local));
        match (named, looks_marked(user)) {
            (true, true) => WhoseRoute::Forged,
            (true, false) => WhoseRoute::Ours,
            (false, _) => WhoseRoute::Foreign,
        }
    }
}

enum WhoseRoute {
    /// The dialog's mark: the last of this pass.
    Marked((BindingId, u32)),
    Ours,
    Forged,
    Foreign,
}

/// The form of a Contact ID or route mark of ours: whoever made it meant us.
fn looks_marked(user: &[u8]) -> bool {
    matches!((user.first(), user.len()), (Some(b'h'), 27) | (Some(b'r'), 37))
        && user.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
}

/// Host and port of a `sip:` or `sips:` URI.
fn host_port(buf: &[u8], uri: Span) -> Option<Span> {
    let uri = Uri::parse(buf, uri).filter(|uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips))?;
    Some(Span { start: uri.host.start, end: uri.port_span.map_or(uri.host.end, |port| port.end) })
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Ip(IpAddr),
    Name(Box<[u8]>),
}

impl Host {
    fn of(host: &[u8]) -> Host {
        match ip_literal(host) {
            Some(ip) => Host::Ip(ip),
            None => Host::Name(host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase().into()),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Hosts {
    /// Each host with its ports; `None` for any port that we listen on.
    hosts: Vec<(Host, SmallVec<[Option<u16>; 2]>)>,
    /// The ports that we listen on.
    ports: Vec<u16>,
}

impl Hosts {
    fn add(&mut self, host: Host, port: Option<u16>) {
        match self.hosts.iter_mut().find(|(known, _)| *known == host) {
            Some((_, ports)) => ports.push(port),
            None => self.hosts.push((host, SmallVec::from_slice(&[port]))),
        }
    }

    /// Every request asks this, for a handful of names: looked through without making one of them.
    fn contains(&self, host: &[u8], port: Option<u16>, local: Option<SocketAddr>) -> bool {
        let ip = ip_literal(host);
        let name = host.strip_suffix(b".").unwrap_or(host);
        let arrived = ip.is_some() && ip == local.map(|local| local.ip().to_canonical());
        let known = self.hosts.iter().find(|(known, _)| match known {
            Host::Ip(known) => ip == Some(*known),
            Host::Name(known) => ip.is_none() && known.eq_ignore_ascii_case(name),
        });
        let known = known.map(|(_, ports)| ports);
        match port {
            None => arrived || known.is_some(),
            Some(port) => {
                let listening = self.ports.contains(&port);
                let named = |known: &Option<u16>| known.map_or(listening, |known| known == port);
                (arrived && listening) || known.is_some_and(|ports| ports.iter().any(named))
            }
        }
    }
}

#[cfg(test)]
mod tests;
