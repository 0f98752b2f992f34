//! Requests that a client transaction makes by itself out of the INVITE it sent: the ACK for a non-2xx final answer and
//! the CANCEL. Both go hop by hop: same Request-URI, same top Via and thereby the same branch, same Route.

use bytes::Bytes;

use crate::message::{Message, Name};

/// The ACK for a non-2xx final answer, RFC 3261 §17.1.1.3: everything of the INVITE, the To of the response.
/// `None` if the INVITE lacks a header that a request must have.
pub(super) fn ack(invite: &Bytes, response: &Message) -> Option<Bytes> {
    let to = response.first(Name::To)?;
    build(b"ACK", &Message::scan(invite.clone()).ok()?, Some(response.value(to)), &[])
}

/// The CANCEL for an INVITE, RFC 3261 §9.1, with these header lines beside. `None` if the INVITE lacks a header that a request
/// must have.
pub(super) fn cancel(invite: &Bytes, lines: &[u8]) -> Option<Bytes> {
    build(b"CANCEL", &Message::scan(invite.clone()).ok()?, None, lines)
}

fn build(method: &[u8], invite: &Message, to: Option<&[u8]>, lines: &[u8]) -> Option<Bytes> {
    let buf = invite.bytes().as_ref();
    let to = match to {
        Some(to) => to,
        None => invite.value(invite.first(Name::To)?),
    };
    let mut out = Vec::with_capacity(512);
    for part in [method, b" ", invite.request_uri().of(buf), b" SIP/2.0\r\n"] {
        out.extend_from_slice(part);
    }
    header(&mut out, b"Via", invite.top_via()?.whole.of(buf));
    header(&mut out, b"Max-Forwards", b"70");
    for route in invite.all(Name::Route) {
        header(&mut out, b"Route", invite.value(route));
    }
    header(&mut out, b"From", invite.value(invite.first(Name::From)?));
    header(&mut out, b"To", to);
    header(&mut out, b"Call-ID", invite.call_id());
    let number = invite.cseq()?.number.to_string();
    header(&mut out, b"CSeq", &[number.as_bytes(), b" ", method].concat());
    out.extend_from_slice(lines);
    header(&mut out, b"Content-Length", b"0");
    out.extend_from_slice(b"\r\n");
    Some(out.into())
}

fn header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
