//! The gate: who may speak on a side, and what it is that came.

use bytes::Bytes;

use super::stun::{self, Stun};
use crate::flow::{Flow, Side, Transport};
use crate::message::{Message, Method, Packet, framing_status};
use crate::proxy::edge::Edge;
use crate::proxy::site::Site;
use crate::proxy::wire::Refusal;
use crate::upstream::Upstream;

/// What came of looking at received bytes.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// A message that may be worked on.
    Message(Message),
    /// A request that is answered without any state.
    Refused(Message, Refusal),
    /// An answer to STUN.
    Stun(Bytes),
    /// A keep-alive.
    Nothing,
    /// Dropped, for this reason.
    Dropped(&'static str),
    /// Dropped: the sender may not talk to this side.
    NotAdmitted(&'static str),
}

/// A datagram, or a message framed from a stream.
pub(crate) fn look(bytes: Bytes, from: &Edge, site: &Site, upstream: &Upstream) -> Arrived {
    // Who connected was looked at when it did.
    if matches!(from.flow, Flow::Udp { .. }) && !site.admits(from.side, from.remote, upstream) {
        return Arrived::NotAdmitted(if from.side == Side::Phone { "not_allowed" } else { "not_upstream" });
    }
    if from.transport == Transport::Udp
        && let Some(arrived) = no_message(&bytes, from)
    {
        return arrived;
    }
    let message = match Message::scan(bytes) {
        Ok(message) => message,
        Err(error) => {
            tracing::debug!(remote = %from.remote, reason = error.reason(), "dropped");
            return Arrived::Dropped(error.reason());
        }
    };
    tracing::trace!(
        call_id = %message.call_id_shown(),
        remote = %from.remote,
        local = %from.local,
        transport = %from.transport,
        packet = %Packet(message.bytes()),
        "received"
    );
    let Err(malformed) = message.check(from.transport) else {
        if is_too_long(&message, from, site) {
            return Arrived::Refused(message, Refusal::new(513, "Message Too Large"));
        }
        return Arrived::Message(message);
    };
    tracing::debug!(
        call_id = %message.call_id_shown(),
        remote = %from.remote,
        status = malformed.status(),
        reason = malformed.phrase(),
        "malformed"
    );
    if malformed.answerable() {
        Arrived::Refused(message, Refusal::new(malformed.status(), malformed.phrase()))
    } else {
        Arrived::Dropped(malformed.reason())
    }
}

/// Nothing but a call with its SDP, or a text, has a reason to be so long on UDP.
fn is_too_long(message: &Message, from: &Edge, site: &Site) -> bool {
    from.side == Side::Phone
        && from.transport == Transport::Udp
        && message.bytes().len() > site.settings.max_datagram
        && message.is_request()
        && !matches!(message.method(), Method::Invite | Method::Message | Method::Ack)
}

/// A stream that cannot be framed: an answer where one is possible; the transport closes the connection.
pub(crate) fn unframed(bytes: Bytes, reason: &'static str) -> Arrived {
    match Message::scan(bytes) {
        Ok(message) if message.is_request() && message.method() != Method::Ack && message.top_via().is_some() => {
            let (status, phrase) = framing_status(reason).unwrap_or((400, "Malformed Message"));
            Arrived::Refused(message, Refusal::new(status, phrase))
        }
        Ok(_) | Err(_) => Arrived::Dropped(reason),
    }
}

/// Keep-alives, empty datagrams and STUN: nothing the proxy forwards.
fn no_message(bytes: &[u8], from: &Edge) -> Option<Arrived> {
    if bytes.is_empty() {
        return Some(Arrived::Dropped("empty"));
    }
    if bytes.len() <= 4 && bytes.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Some(Arrived::Nothing);
    }
    match stun::receive(bytes, from.remote) {
        Stun::No => None,
        // Handsets keep their flow open with it; an upstream has no business asking us for its address.
        Stun::Answer(answer) if from.side == Side::Phone => Some(Arrived::Stun(answer)),
        Stun::Answer(_) | Stun::Dropped => Some(Arrived::Dropped("stun")),
    }
}
