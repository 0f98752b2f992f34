//! Dialogs: a Record-Route of ours on what begins one, and the way of what belongs to one (RFC 3261 §16.4–16.6, RFC 5658).
//!
//! The upstream-facing Record-Route carries a mark in its user part: which binding the dialog belongs to and which target
//! it was set up at, under our MAC. Whatever comes back with it goes to that handset or to that target, also after a
//! rollover, whatever became of Request-URIs on the way. The phone-facing one names only us: both always come together.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::bindings::{Binding, Reach, user_agent};
use super::contact;
use super::context::{Arrival, Context, Kind};
use super::core::Core;
use super::identity::{BindingId, IdParts, RouteMark};
use super::reach;
use crate::flow::{Flow, Hop, Side, Transport};
use crate::message::{Edit, Message, Method, Name, NameAddr, Span, Uri};
use crate::upstream::Target;

/// A handset that never registered here but begins a dialog is remembered for so long, longer with each of its requests; and
/// so long a connection is kept for the dialogs it may carry.
const UNREGISTERED: Duration = Duration::from_secs(4 * 3600);

/// Where a request inside a dialog belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DialogMark {
    /// The handset's binding.
    pub binding: BindingId,
    /// [`crate::upstream::Target::number`] of the target.
    pub target: u32,
}

/// Requests that may begin a dialog.
pub(super) fn begins_dialog(request: &Message) -> bool {
    matches!(request.method(), Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
        && request.to_tag().is_none()
}

impl Core {
    /// Our mark on a request: in the first Routes, or in the Request-URI where a strict router put it (RFC 3261 §16.4).
    pub(super) fn dialog_mark(&self, request: &Message) -> Option<DialogMark> {
        let buf = request.bytes();
        let routes = request.list(Name::Route).take(2).filter_map(|element| {
            let route = NameAddr::parse(buf, element.span)?;
            Uri::parse(buf, route.uri)
        });
        let uris = Uri::parse(buf, request.request_uri()).into_iter().chain(routes);
        uris.filter_map(|uri| self.key.verify_route_mark(uri.user?.of(buf)))
            .map(|(binding, target)| DialogMark { binding, target })
            .next()
    }

    /// A strict router put our own URI into the Request-URI and the remote target into the last Route: puts things back.
    /// True if it did; the Request-URI needs no other change then.
    pub(super) fn undo_strict_route(
        &self,
        side: Side,
        request: &Message,
        edit: &mut Edit<'_>,
        arrival: &Arrival,
    ) -> bool {
        let buf = request.bytes();
        let Some(uri) = Uri::parse(buf, request.request_uri()) else { return false };
        let local = self.ends(arrival.flow).map(|(local, _)| local);
        let marked = uri.user.is_some_and(|user| self.key.verify_route_mark(user.of(buf)).is_some());
        let named = uri.user.is_none()
            && uri.param(buf, b"lr").is_some()
            && self.names.is_ours(side, uri.host.of(buf), uri.port, local);
        if !marked && !named {
            return false;
        }
        let Some(last) = request.list(Name::Route).last() else { return false };
        let Some(target) = NameAddr::parse(buf, last.span).map(|route| route.uri) else { return false };
        edit.set_request_uri(target.of(buf));
        edit.cut(&last);
        true
    }

    /// The mark for a dialog that a handset begins: its binding, or one made for it, and the target it goes to.
    pub(super) fn mark_up(
        &mut self,
        request: &Message,
        arrival: &Arrival,
        target: u32,
        label: &Arc<str>,
        now: Instant,
    ) -> Option<RouteMark> {
        let id = self.binding_of(request, arrival, label, now)?;
        Some(self.key.route_mark(&id, target))
    }

    /// The mark for a dialog that upstream begins with a handset: the target it came from (also one that DNS no longer
    /// names), else the active one.
    pub(super) fn mark_down(&self, id: &BindingId, arrival: &Arrival) -> Option<RouteMark> {
        let hop = match arrival.flow {
            Flow::Conn(conn) => self.conns.get(conn).and_then(|conn| conn.hop.as_ref()),
            Flow::Udp { .. } => None,
        };
        let target = hop
            .and_then(|hop| self.upstream.target_named(&hop.target, hop.addr.port()))
            .or_else(|| self.upstream.target_at(arrival.source))
            .or_else(|| self.upstream.active().map(|(target, _)| target))?;
        Some(self.key.route_mark(id, target.number()))
    }

    /// The binding of the handset that sent this: registered, or remembered for its dialogs only.
    fn binding_of(
        &mut self,
        request: &Message,
        arrival: &Arrival,
        label: &Arc<str>,
        now: Instant,
    ) -> Option<BindingId> {
        let buf = request.bytes();
        let aor = contact::aor_of(buf, request.from()?.uri)?;
        let contact = request.list(Name::Contact).next().and_then(|element| NameAddr::parse(buf, element.span));
        let known = || self.bindings.of_aor(&aor);
        // One address may be several handsets that share an AOR (behind one NAT, or on one desk): the flow says which, else the
        // Contact. A request without one leaves the address alone.
        let flow = known().find(|binding| match (binding.reach, arrival.flow) {
            (Reach::Conn(a), Flow::Conn(b)) => a == b,
            _ => binding.source == arrival.source,
        });
        let here = flow.or_else(|| {
            known().find(|binding| {
                binding.source.ip() == arrival.source.ip()
                    && contact.is_none_or(|contact| same_place(&binding.contact, contact.uri.of(buf)))
            })
        });
        if let Some(binding) = here {
            return Some(binding.id);
        }
        let contact = contact?;
        let parts = IdParts {
            aor: aor.as_bytes(),
            contact: (contact.uri.of(buf), b""),
            instance: None,
            source: arrival.source.ip(),
        };
        let id = self.key.binding_id(&parts);
        let binding = Binding {
            id,
            aor: Arc::from(&*aor),
            contact: contact.uri.of(buf).into(),
            reach: reach::of_register(request, arrival.flow),
            source: arrival.source,
            transport: arrival.transport,
            target: label.clone(),
            expires: now + UNREGISTERED,
            confirmed: false,
            user_agent: user_agent(request),
            last_status: None,
        };
        self.bindings.upsert(binding, now).ok()?;
        Some(id)
    }

    /// Our two Record-Routes in one line, the one facing the next hop on top (RFC 5658 §5). `out` is the flow the request
    /// leaves on.
    pub(super) fn record_route(&self, edit: &mut Edit<'_>, mark: &RouteMark, from: Side, arrival: &Arrival, out: Flow) {
        let (upstream, phone) = match from {
            Side::Phone => (out, arrival.flow),
            Side::Upstream => (arrival.flow, out),
        };
        let mut facing_upstream: SmallVec<[u8; 128]> = SmallVec::new();
        let mut facing_phone: SmallVec<[u8; 128]> = SmallVec::new();
        // Writing to memory cannot fail.
        let _ = write!(
            facing_upstream,
            "<sip:{mark}@{}{};lr>",
            self.sent_by(upstream),
            parameter(self.flow_transport(upstream))
        );
        let _ = write!(facing_phone, "<sip:{}{};lr>", self.sent_by(phone), parameter(self.flow_transport(phone)));
        let (top, below) = match from {
            Side::Phone => (&facing_upstream, &facing_phone),
            Side::Upstream => (&facing_phone, &facing_upstream),
        };
        let line = [top.as_slice(), b",", below.as_slice()].concat();
        edit.add_on_top(Name::RecordRoute, &line);
    }

    /// The next hop of a dialog is a strict router (its Route has no `lr`): its URI becomes the Request-URI, which goes to the
    /// end of the Routes (RFC 3261 §16.6 step 6). `popped`: so many Routes were taken off the top.
    pub(super) fn lead_strict_router(request: &Message, popped: usize, edit: &mut Edit<'_>) {
        let buf = request.bytes();
        if request.to_tag().is_none() {
            return;
        }
        let Some(element) = request.list(Name::Route).nth(popped) else { return };
        let Some(route) = NameAddr::parse(buf, element.span) else { return };
        let strict = Uri::parse(buf, route.uri).is_some_and(|uri| uri.param(buf, b"lr").is_none());
        if strict {
            let target = [b"<", request.request_uri().of(buf), b">"].concat();
            edit.set_request_uri(route.uri.of(buf));
            edit.cut(&element);
            edit.add_last("Route", &target);
        }
    }

    /// The way to a target that is open already: what belongs to a dialog stays on its connection while that lives, also
    /// where the target has several addresses.
    pub(super) fn hop_in_use(&self, target: &Target) -> Option<Hop> {
        if target.addresses.len() < 2 {
            return None;
        }
        self.conns.open_to(&target.host, target.port, self.transport)
    }

    /// A dialog begins, or lives on: the connection that its target reaches us over is not idle for a long time.
    pub(super) fn note_dialog(&mut self, context: &Context, index: usize, now: Instant) {
        let flow = match &context.kind {
            Kind::Down { .. } => Some(context.arrival.flow),
            Kind::Up { .. } | Kind::Register(_) => context.tries[index].flow,
        };
        if let Some(Flow::Conn(conn)) = flow {
            self.conns.carries_dialog(conn, now + UNREGISTERED);
        }
    }

    /// Takes our own Routes off the top of a request of upstream. How many they were.
    pub(super) fn pop_marked_routes(&self, request: &Message, edit: &mut Edit<'_>, arrival: &Arrival) -> usize {
        let buf = request.bytes();
        let local = self.ends(arrival.flow).map(|(local, _)| local);
        let mut popped = 0;
        for element in request.list(Name::Route) {
            let uri = NameAddr::parse(buf, element.span).and_then(|route| Uri::parse(buf, route.uri));
            let ours = uri.is_some_and(|uri| {
                let user = uri.user.map(|user| user.of(buf));
                let marked =
                    user.is_some_and(|u| self.key.verify_route_mark(u).is_some() || self.key.verify(u).is_some());
                let named =
                    || Side::ALL.iter().any(|side| self.names.is_ours(*side, uri.host.of(buf), uri.port, local));
                marked || (user.is_none() && named())
            });
            if !ours {
                break;
            }
            edit.cut(&element);
            popped += 1;
        }
        popped
    }
}

/// Two Contact URIs of one handset, which may differ in parameters.
fn same_place(one: &[u8], other: &[u8]) -> bool {
    let place = |uri: &[u8]| {
        let uri = Uri::parse(uri, Span { start: 0, end: uri.len() as u32 })?;
        Some((uri.user, uri.host, uri.port))
    };
    let (Some(a), Some(b)) = (place(one), place(other)) else { return one == other };
    a.0.map(|user| user.of(one)) == b.0.map(|user| user.of(other))
        && a.1.of(one).eq_ignore_ascii_case(b.1.of(other))
        && a.2 == b.2
}

/// UDP is what a URI without the parameter means.
fn parameter(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
    }
}
