//! A request of upstream on its way to a handset.

use super::{Forwarded, MAX_FORWARDS, record_route, via};
use crate::message::{Edit, Message};
use crate::proxy::edge::Edge;
use crate::proxy::marks::RouteMark;
use crate::proxy::registrar::contact;
use crate::proxy::site::Site;

/// Any request. `mark`: for one that begins a dialog. `contact`: the handset's own URI, which becomes the Request-URI.
pub(crate) fn request(
    request: &Message,
    from: &Edge,
    to: &Edge,
    mark: Option<&RouteMark>,
    contact: Option<&[u8]>,
    site: &Site,
) -> Forwarded {
    let mut edit = Edit::new(request);
    edit.stamp_via(from.remote, true);
    edit.set_max_forwards(request.max_forwards().map_or(MAX_FORWARDS, |n| n.saturating_sub(1)));
    let popped = record_route::pop_marked(request, &mut edit, from, site);
    if !record_route::undo_strict(request, &mut edit, from, site) {
        match contact {
            Some(contact) => edit.set_request_uri(contact::without_headers(contact)),
            None => record_route::lead_strict(request, popped, &mut edit),
        }
    }
    if let Some(mark) = mark {
        let uri = request.request_uri().of(request.bytes());
        record_route::add(&mut edit, mark, (from, uri), (to, contact.unwrap_or(uri)));
    }
    let branch = via::push(request, from, to, &mut edit, site);
    Forwarded { bytes: edit.finish(), branch }
}
