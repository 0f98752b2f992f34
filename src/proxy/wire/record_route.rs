//! Our Record-Routes, and those of others (RFC 3261 §16.4, §16.6; RFC 5658).
//!
//! The upstream-facing Record-Route carries a mark in its user part: which binding the dialog belongs to and which target
//! it was set up at, under our MAC. Whatever comes back with it goes to that handset or to that target, also after a
//! rollover, whatever became of Request-URIs on the way. The handset-facing one names only us: both always come together.

use std::io::Write as _;

use smallvec::SmallVec;

use crate::flow::{Side, Transport};
use crate::message::{Edit, Message, Name, NameAddr, Uri};
use crate::proxy::edge::Edge;
use crate::proxy::marks::RouteMark;
use crate::proxy::site::Site;

/// Our two Record-Routes in one line, the one facing the next hop on top (RFC 5658 §5). Each goes with the Request-URI that its
/// side sees: `sips:` where that is (RFC 3261 §16.6 item 4), unless there is no TLS on that side.
pub(super) fn add(edit: &mut Edit<'_>, mark: &RouteMark, from: (&Edge, &[u8]), to: (&Edge, &[u8])) {
    let mut line: SmallVec<[u8; 256]> = SmallVec::new();
    push(&mut line, mark, to);
    line.push(b',');
    push(&mut line, mark, from);
    edit.add_on_top(Name::RecordRoute, &line);
}

/// The Record-Route that one side is to send to. `uri`: the Request-URI that it sees.
fn push(line: &mut SmallVec<[u8; 256]>, mark: &RouteMark, (edge, uri): (&Edge, &[u8])) {
    let secure = edge.transport == Transport::Tls && uri.get(..5).is_some_and(|s| s.eq_ignore_ascii_case(b"sips:"));
    // `sips:` forbids `transport=tls` (RFC 5630 §3.1.3).
    let (scheme, parameter) = if secure { ("sips", "") } else { ("sip", parameter(edge.transport)) };
    let sent_by = &edge.sent_by;
    // Writing to memory cannot fail.
    let _ = match edge.side {
        Side::Upstream => write!(line, "<{scheme}:{mark}@{sent_by}{parameter};lr>"),
        Side::Phone => write!(line, "<{scheme}:{sent_by}{parameter};lr>"),
    };
}

/// A strict router, or a handset that takes us for one, put our own URI into the Request-URI and the remote target into the last
/// Route: puts things back. True if it did; the Request-URI needs no other change then.
pub(super) fn undo_strict(request: &Message, edit: &mut Edit<'_>, from: &Edge, site: &Site) -> bool {
    let buf = request.bytes();
    let Some(uri) = request.target() else { return false };
    let marked = uri.user.is_some_and(|user| site.key.verify_route_mark(user.of(buf)).is_some());
    let named = uri.user.is_none()
        && uri.param(buf, b"lr").is_some()
        && site.names.is_ours(from.side, uri.host.of(buf), uri.port, Some(from.local));
    if !marked && !named {
        let local = Some(from.local);
        let target = if from.side == Side::Phone { site.names.strict_target(request, local) } else { None };
        let Some((last, route)) = target.and_then(|last| Some((last, NameAddr::parse(buf, last.span)?))) else {
            return false;
        };
        edit.set_request_uri(&site.names.mapped(buf, route.uri, local));
        edit.cut(&last);
        return true;
    }
    let Some(last) = request.list(Name::Route).last() else { return false };
    let Some(target) = NameAddr::parse(buf, last.span).map(|route| route.uri) else { return false };
    edit.set_request_uri(target.of(buf));
    edit.cut(&last);
    true
}

/// The next hop of a dialog is a strict router (its Route has no `lr`): its URI becomes the Request-URI, which goes to the
/// end of the Routes (RFC 3261 §16.6 step 6). `popped`: so many Routes were taken off the top.
pub(super) fn lead_strict(request: &Message, popped: usize, edit: &mut Edit<'_>) {
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

/// Takes our own Routes off the top of a request of upstream. How many they were.
pub(super) fn pop_marked(request: &Message, edit: &mut Edit<'_>, from: &Edge, site: &Site) -> usize {
    let buf = request.bytes();
    let mut popped = 0;
    for element in request.list(Name::Route) {
        let uri = NameAddr::parse(buf, element.span).and_then(|route| Uri::parse(buf, route.uri));
        let ours = uri.is_some_and(|uri| {
            let user = uri.user.map(|user| user.of(buf));
            let key = &site.key;
            let marked = user.is_some_and(|u| key.verify_route_mark(u).is_some() || key.verify(u).is_some());
            let (host, local) = (uri.host.of(buf), Some(from.local));
            let named = || Side::ALL.iter().any(|side| site.names.is_ours(*side, host, uri.port, local));
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

/// UDP is what a URI without the parameter means.
fn parameter(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
    }
}
