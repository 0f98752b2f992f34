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

/// Our two Record-Routes in one line, the one facing the next hop on top (RFC 5658 §5).
pub(super) fn add(edit: &mut Edit<'_>, mark: &RouteMark, from: &Edge, to: &Edge) {
    let mut line: SmallVec<[u8; 256]> = SmallVec::new();
    // Writing to memory cannot fail.
    let facing_upstream = |line: &mut SmallVec<[u8; 256]>, edge: &Edge| {
        let _ = write!(line, "<sip:{mark}@{}{};lr>", edge.sent_by, parameter(edge.transport));
    };
    let facing_handset = |line: &mut SmallVec<[u8; 256]>, edge: &Edge| {
        let _ = write!(line, "<sip:{}{};lr>", edge.sent_by, parameter(edge.transport));
    };
    match from.side {
        Side::Phone => {
            facing_upstream(&mut line, to);
            line.push(b',');
            facing_handset(&mut line, from);
        }
        Side::Upstream => {
            facing_handset(&mut line, to);
            line.push(b',');
            facing_upstream(&mut line, from);
        }
    }
    edit.add_on_top(Name::RecordRoute, &line);
}

/// A strict router put our own URI into the Request-URI and the remote target into the last Route: puts things back.
/// True if it did; the Request-URI needs no other change then.
pub(super) fn undo_strict(request: &Message, edit: &mut Edit<'_>, from: &Edge, site: &Site) -> bool {
    let buf = request.bytes();
    let Some(uri) = Uri::parse(buf, request.request_uri()) else { return false };
    let marked = uri.user.is_some_and(|user| site.key.verify_route_mark(user.of(buf)).is_some());
    let named = uri.user.is_none()
        && uri.param(buf, b"lr").is_some()
        && site.names.is_ours(from.side, uri.host.of(buf), uri.port, Some(from.local));
    if !marked && !named {
        return false;
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
