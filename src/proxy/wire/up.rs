//! A handset's request on its way up.

use super::{Forwarded, MAX_FORWARDS, record_route, via};
use crate::message::{Edit, Message};
use crate::proxy::edge::Edge;
use crate::proxy::marks::RouteMark;
use crate::proxy::site::Site;

/// Any request but a REGISTER. `mark`: for one that begins a dialog. `is_of_the_pbx`: whether a Route's URI is the PBX's.
pub(crate) fn request(
    request: &Message,
    from: &Edge,
    to: &Edge,
    mark: Option<&RouteMark>,
    is_of_the_pbx: impl Fn(&[u8]) -> bool,
    site: &Site,
) -> Forwarded {
    let mut edit = Edit::new(request);
    hop(request, from, &mut edit, site, is_of_the_pbx);
    if let Some(mark) = mark {
        let uri = request.request_uri().of(request.bytes());
        record_route::add(&mut edit, mark, (from, uri), (to, uri));
    }
    let branch = via::push(request, from, to, &mut edit, site);
    Forwarded { bytes: edit.finish(), branch }
}

/// What every upward request gets: `received` and `rport`, Max-Forwards, our own Routes off, our own name replaced.
pub(super) fn hop(
    request: &Message,
    from: &Edge,
    edit: &mut Edit<'_>,
    site: &Site,
    is_of_the_pbx: impl Fn(&[u8]) -> bool,
) {
    edit.stamp_via(from.remote, true);
    edit.set_max_forwards(request.max_forwards().map_or(MAX_FORWARDS, |n| n.saturating_sub(1)));
    let local = Some(from.local);
    let popped = site.names.pop_routes(request, edit, &site.key, local, is_of_the_pbx);
    if !record_route::undo_strict(request, edit, from, site) && !site.names.map_request_uri(request, edit, local) {
        record_route::lead_strict(request, popped.ours, edit);
    }
    site.names.map_aor(request, edit, local);
}
