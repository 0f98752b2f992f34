//! Which transaction a message belongs to: RFC 3261 §17.1.3 (responses), §17.2.3 (requests), §9.2 (CANCEL).
//!
//! | peer | a request's identity |
//! |---|---|
//! | RFC 3261: branch starts with the magic cookie and goes on | branch, sent-by host and port, CSeq number and method, Call-ID |
//! | older (RFC 2543), or a cookie with nothing behind it | Request-URI, the whole top Via, From tag, CSeq number and method, Call-ID |
//!
//! CSeq number and Call-ID are more than §17.2.3 asks for: handsets exist that use one branch for every REGISTER, and an
//! old 401 must never answer a new CSeq. An honest retransmission, ACK or CANCEL repeats both. The To tag of §17.2.3's
//! older rule is left out: the ACK has the one of the response, and nothing else would distinguish transactions by it.

use smallvec::SmallVec;

use super::fingerprint::{Fingerprint, Seed};
use crate::message::Message;

/// RFC 3261 §8.1.1.7.
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// The server transaction that a request belongs to. `method`: the method of the transaction looked for, which for an
/// ACK (and for what a CANCEL cancels) is INVITE.
pub(super) fn of_request(seed: Seed, msg: &Message, method: &[u8]) -> Fingerprint {
    let buf = msg.bytes().as_ref();
    let via = msg.top_via();
    let branch = via.as_ref().and_then(|via| via.branch).map(|span| span.of(buf)).unwrap_or_default();
    let number = msg.cseq().map_or(0, |cseq| cseq.number);
    let mut parts = Parts::new();
    match &via {
        Some(via) if branch.len() > MAGIC_COOKIE.len() && branch.starts_with(MAGIC_COOKIE) => {
            parts.kind(b'B');
            parts.add(branch);
            parts.add_lower(via.host.of(buf));
            parts.add(&via.port.unwrap_or(0).to_le_bytes());
        }
        Some(via) => {
            parts.kind(b'V');
            parts.add(via.whole.of(buf));
            parts.add(msg.request_uri().of(buf));
            parts.add(msg.from_tag().unwrap_or_default());
        }
        // `Message::check` refuses such a request; should one come, it matches only its like.
        None => parts.kind(b'N'),
    }
    parts.add(&number.to_le_bytes());
    parts.add(method);
    parts.add(msg.call_id());
    parts.fingerprint(seed)
}

/// The client transaction that a response belongs to: the branch, which is ours and unique, and the CSeq method, since
/// a CANCEL has the branch of its INVITE. `None` without a readable Via or CSeq.
pub(super) fn of_response(seed: Seed, msg: &Message) -> Option<Fingerprint> {
    let buf = msg.bytes().as_ref();
    let branch = msg.top_via()?.branch?;
    let cseq = msg.cseq()?;
    Some(of_client(seed, branch.of(buf), cseq.method.of(buf)))
}

/// The identity of a client transaction.
pub(super) fn of_client(seed: Seed, branch: &[u8], method: &[u8]) -> Fingerprint {
    let mut parts = Parts::new();
    parts.kind(b'C');
    parts.add(branch);
    parts.add(method);
    parts.fingerprint(seed)
}

/// The parts of an identity, each behind its length, so that no two lists of parts are the same bytes.
struct Parts(SmallVec<[u8; 256]>);

impl Parts {
    fn new() -> Self {
        Parts(SmallVec::new())
    }

    fn kind(&mut self, kind: u8) {
        self.0.push(kind);
    }

    fn add(&mut self, part: &[u8]) {
        self.0.extend_from_slice(&(part.len() as u32).to_le_bytes());
        self.0.extend_from_slice(part);
    }

    /// Host names compare without case, RFC 3261 §19.1.4.
    fn add_lower(&mut self, part: &[u8]) {
        let start = self.0.len() + size_of::<u32>();
        self.add(part);
        self.0[start..].make_ascii_lowercase();
    }

    fn fingerprint(&self, seed: Seed) -> Fingerprint {
        seed.fingerprint(&self.0)
    }
}
