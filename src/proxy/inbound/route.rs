//! Where a request goes (RFC 3261 §16.4, §16.5).

use std::net::SocketAddr;

use super::validate::{hops, no_sips, validate};
use crate::flow::{Flow, Side, Transport};
use crate::message::{Edit, Message, Method, Name, NameAddr, Span, Uri};
use crate::proxy::edge::Edge;
use crate::proxy::flows::Flows;
use crate::proxy::marks::{BindingId, Key};
use crate::proxy::registrar::Registrar;
use crate::proxy::site::Site;
use crate::proxy::site::settings::Sips;
use crate::proxy::wire::Refusal;
use crate::upstream::{TargetId, Upstream};

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Destination {
    /// Nowhere: it is for Holdline itself, which answers 200.
    Holdline,
    /// The active target.
    Active,
    /// The target that a dialog was set up at.
    Target(TargetId),
    /// A handset. `contact` becomes the Request-URI; `None` where upstream named the handset by Path, or in a dialog.
    Handset { id: BindingId, flow: Flow, contact: Option<Box<[u8]>> },
}

/// What is looked up on the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookups<'c> {
    pub site: &'c Site,
    pub upstream: &'c Upstream,
    pub registrar: &'c Registrar,
    pub flows: &'c Flows,
    pub draining: bool,
}

/// Requests that may begin a dialog.
pub(crate) fn begins_dialog(request: &Message) -> bool {
    matches!(request.method(), Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
        && request.to_tag().is_none()
}

impl Lookups<'_> {
    /// Where a request goes. `foreign`: is called where a lone foreign Route is dropped.
    pub(crate) fn route(
        &self,
        request: &Message,
        from: &Edge,
        foreign: impl FnOnce(SocketAddr),
    ) -> Result<Destination, Refusal> {
        validate(from.side, request, self.site)?;
        match from.side {
            Side::Phone => self.up(request, from, foreign),
            Side::Upstream => self.down(request, from),
        }
    }

    /// A handset's request: always to the active target or its dialog's, whatever its Routes say.
    fn up(&self, request: &Message, from: &Edge, foreign: impl FnOnce(SocketAddr)) -> Result<Destination, Refusal> {
        let strict = || self.site.names.strict_target(request, Some(from.local)).is_some();
        if request.method() == Method::Options && self.names_us(request, from) && !strict() {
            return Ok(Destination::Holdline);
        }
        hops(request)?;
        if request.to_tag().is_none()
            && self.site.settings.sips == Sips::Refuse
            && self.site.transport != Transport::Tls
        {
            no_sips(request)?;
        }
        self.admits_work(request)?;
        let mut marked = None;
        if request.first(Name::Route).is_some() {
            let (key, local) = (&self.site.key, Some(from.local));
            let popped = self.site.names.pop_routes(request, &mut Edit::new(request), key, local, |uri| {
                is_of_the_pbx(uri, self.registrar, self.upstream)
            });
            if popped.forged {
                return Err(Refusal::new(403, "Not a Route of this Holdline"));
            }
            if popped.foreign {
                foreign(from.remote);
            }
            marked = popped.mark;
        }
        Ok(self.dialog_target(request, marked).map_or(Destination::Active, Destination::Target))
    }

    /// The target of the dialog that a handset's request belongs to. The mark says so, also where the To tag is missing: nobody
    /// else makes one, and a handset has it from a dialog. `marked`: what its Routes say, as far as they were looked at.
    fn dialog_target(&self, request: &Message, marked: Option<(BindingId, u32)>) -> Option<TargetId> {
        let key = &self.site.key;
        let (_, target) = marked_uri(request, key).or(marked).or_else(|| mark(request, key))?;
        self.upstream.target_numbered(target).map(|target| target.label.clone())
    }

    /// A request of upstream: to the handset that our Contact or our Path names, and to nobody else.
    fn down(&self, request: &Message, from: &Edge) -> Result<Destination, Refusal> {
        let (key, buf) = (&self.site.key, request.bytes());
        if self.site.names.top_route_is_forged(request, key, Some(from.local)) {
            return Err(Refusal::new(403, "Not a Route of this Holdline"));
        }
        if let Some((binding, _)) = mark(request, key) {
            hops(request)?;
            return self.handset(&binding, true);
        }
        let by_route = request.list(Name::Route).next().and_then(|element| {
            let route = NameAddr::parse(buf, element.span)?;
            let user = Uri::parse(buf, route.uri)?.user?;
            key.verify(user.of(buf))
        });
        let by_uri = || key.verify(request.target()?.user?.of(buf));
        let Some(id) = by_route.or_else(by_uri) else {
            if request.method() == Method::Options && self.names_us(request, from) {
                return Ok(Destination::Holdline);
            }
            return Err(Refusal::new(404, "Not one of this Holdline's handsets"));
        };
        hops(request)?;
        self.admits_work(request)?;
        self.handset(&id, by_route.is_some())
    }

    /// A Request-URI that names us, and nobody behind us.
    fn names_us(&self, request: &Message, from: &Edge) -> bool {
        let buf = request.bytes();
        request.target().is_some_and(|uri| {
            let (host, local) = (uri.host.of(buf), Some(from.local));
            uri.user.is_none() && self.site.names.is_ours(from.side, host, uri.port, local)
        })
    }

    /// A draining Holdline takes no new work; a message light (NOTIFY outside a dialog) is none.
    fn admits_work(&self, request: &Message) -> Result<(), Refusal> {
        if self.draining && request.method() != Method::Notify && begins_dialog(request) {
            return Err(Refusal { retry_after: Some(5), ..Refusal::new(503, "Holdline is stopping") });
        }
        Ok(())
    }

    /// The ID of a handset that a request of upstream's names, that a key of ours has made, and of which nothing is known here.
    pub(crate) fn unknown_handset(&self, request: &Message) -> Option<BindingId> {
        let (key, buf) = (&self.site.key, request.bytes());
        let by_route = || {
            let route = NameAddr::parse(buf, request.list(Name::Route).next()?.span)?;
            key.verify(Uri::parse(buf, route.uri)?.user?.of(buf))
        };
        let by_uri = || key.verify(request.target()?.user?.of(buf));
        let id = mark(request, key).map(|(id, _)| id).or_else(by_route).or_else(by_uri)?;
        self.registrar.bindings().get(&id).is_none().then_some(id)
    }

    fn handset(&self, id: &BindingId, by_path: bool) -> Result<Destination, Refusal> {
        let Some(binding) = self.registrar.bindings().get(id) else {
            return Err(Refusal::new(404, "Handset not registered here"));
        };
        let Some(flow) = self.flows.to_handset(&binding.reach) else {
            let (status, phrase) = self.site.lost_flow();
            return Err(Refusal::new(status, phrase));
        };
        let contact = (!by_path).then(|| binding.contact.clone());
        Ok(Destination::Handset { id: *id, flow, contact })
    }
}

/// Our mark on a request: in the first Routes, or in the Request-URI where a strict router put it (RFC 3261 §16.4). The
/// handset's binding and [`Target::number`](crate::upstream::Target::number) of the target.
pub(crate) fn mark(request: &Message, key: &Key) -> Option<(BindingId, u32)> {
    let buf = request.bytes();
    let mut routes = request.list(Name::Route).take(2).filter_map(|element| {
        let route = NameAddr::parse(buf, element.span)?;
        Uri::parse(buf, route.uri)?.user
    });
    marked_uri(request, key).or_else(|| routes.find_map(|user| key.verify_route_mark(user.of(buf))))
}

/// The mark in the Request-URI.
fn marked_uri(request: &Message, key: &Key) -> Option<(BindingId, u32)> {
    key.verify_route_mark(request.target()?.user?.of(request.bytes()))
}

/// Whether a URI in a handset's lone Route is the PBX's: one that it handed out (RFC 3608), or the name of the active target. The name
/// of another target is not: the active one would send the request there, and it may be dead.
pub(crate) fn is_of_the_pbx(uri: &[u8], registrar: &Registrar, upstream: &Upstream) -> bool {
    let names_active = || {
        let parsed = Uri::parse(uri, Span::new(0, uri.len()))?;
        let (active, _) = upstream.active()?;
        let host = parsed.host.of(uri);
        let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
        let same_host = active.host.as_bytes().eq_ignore_ascii_case(bare.strip_suffix(b".").unwrap_or(bare));
        Some(same_host && parsed.port.is_none_or(|port| port == active.port))
    };
    registrar.service_routes().knows(uri) || names_active().unwrap_or(false)
}
