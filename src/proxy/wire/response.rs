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
    let tag = (refusal.status > 100).then(|| site.key.response_tag(site.next_serial()));
    own(request, refusal, source, tag.as_deref())
}

/// One of our own final responses that no transaction keeps.
pub(crate) fn stateless(request: &Message, refusal: &Refusal, source: SocketAddr, site: &Site) -> Bytes {
    own(request, refusal, source, Some(&stateless_tag(request, site)))
}

/// Whether an ACK acknowledges one of these.
pub(crate) fn acknowledges_stateless(ack: &Message, site: &Site) -> bool {
    ack.to_tag().is_some_and(|tag| *tag == *stateless_tag(ack, site).as_bytes())
}

fn stateless_tag(request: &Message, site: &Site) -> String {
    let branch = request.top_via().and_then(|via| via.branch).map_or(&b""[..], |branch| branch.of(request.bytes()));
    site.key.stateless_tag(request.call_id(), branch)
}

fn own(request: &Message, refusal: &Refusal, source: SocketAddr, tag: Option<&str>) -> Bytes {
    let mut reply = Reply::to(request, refusal.status, refusal.phrase).stamp(source);
    if let Some(tag) = tag {
        reply = reply.tag(tag.as_bytes());
    }
    if let Some(seconds) = refusal.retry_after {
        reply = reply.header("Retry-After", seconds.to_string().as_bytes());
    }
    if let Some((name, value)) = &refusal.header {
        reply = reply.header(name, value.as_bytes());
    }
    reply.finish()
}
