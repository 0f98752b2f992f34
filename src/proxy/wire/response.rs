//! Responses: relayed with our Via off, or our own.

use std::net::SocketAddr;

use bytes::Bytes;

use super::Refusal;
use crate::flow::Side;
use crate::message::{Edit, Message, Reply};
use crate::proxy::edge::Edge;
use crate::proxy::site::Site;

/// Our Via off, and the sender's back where the peer copied the top one only; one target's overload is not ours (RFC 3261 §16.7
/// item 6). The edit goes on to [`finish`]; the status is the one that is relayed.
pub(crate) fn begin<'m>(response: &'m Message, request: &Message, from: &Edge, all_failed: bool) -> (Edit<'m>, u16) {
    let mut edit = Edit::new(response);
    edit.pop_via();
    edit.restore_vias_from(request, from.remote);
    if response.status() == 503 && !all_failed {
        edit.replace(response.status_span(), b"500");
        return (edit, 500);
    }
    (edit, response.status())
}

/// The bytes that go back to where `request` came from.
pub(crate) fn finish(mut edit: Edit<'_>, response: &Message, request: &Message, from: &Edge, site: &Site) -> Bytes {
    if from.side == Side::Phone {
        site.names.map_aor_back(response, &mut edit, request, Some(from.local));
    }
    if from.transport.is_reliable() {
        edit.say_length();
    }
    edit.finish()
}

/// One of our own responses.
pub(crate) fn local(request: &Message, refusal: &Refusal, source: SocketAddr, site: &Site) -> Bytes {
    let mut reply = Reply::to(request, refusal.status, refusal.phrase).stamp(source);
    if refusal.status > 100 {
        reply = reply.tag(site.key.response_tag(site.next_serial()).as_bytes());
    }
    if let Some(seconds) = refusal.retry_after {
        reply = reply.header("Retry-After", seconds.to_string().as_bytes());
    }
    if let Some((name, value)) = &refusal.header {
        reply = reply.header(name, value.as_bytes());
    }
    reply.finish()
}
