//! Holdline's own answers (RFC 3261 §8.2.6).

use std::net::SocketAddr;

use bytes::Bytes;
use smallvec::SmallVec;

use super::digits::push_number;
use super::edit::Stamp;
use super::scan::Message;
use super::{Header, Name, Params, Span};

/// An answer to a request, without a body: every Via, From, To, Call-ID and CSeq of the request are copied, whatever state
/// they are in (a 400 copies what there is).
#[derive(Debug)]
pub struct Reply<'m> {
    request: &'m Message,
    status: u16,
    phrase: &'m str,
    tag: SmallVec<[u8; 32]>,
    extra: SmallVec<[u8; 128]>,
    source: Option<SocketAddr>,
}

impl<'m> Reply<'m> {
    /// An answer to `req`. `phrase` must hold no line end.
    #[must_use]
    pub fn to(req: &'m Message, status: u16, phrase: &'m str) -> Reply<'m> {
        Reply { request: req, status, phrase, tag: SmallVec::new(), extra: SmallVec::new(), source: None }
    }

    /// The To tag to add, unless To has one or the status is 100 (RFC 3261 §8.2.6.2).
    #[must_use]
    pub fn tag(mut self, tag: &[u8]) -> Self {
        self.tag = SmallVec::from_slice(tag);
        self
    }

    /// One more header line. Neither name nor value may hold a line end.
    #[must_use]
    pub fn header(mut self, name: &str, value: &[u8]) -> Self {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.extra.extend_from_slice(part);
        }
        self
    }

    /// Where the request came from: stamped on the topmost Via as `Edit::stamp_via` does, `rport` filled in.
    #[must_use]
    pub fn stamp(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// The bytes of the answer.
    #[must_use]
    pub fn finish(self) -> Bytes {
        let request = self.request;
        let mut out = Vec::with_capacity(256 + request.header_end() as usize + self.extra.len());
        let mut status: SmallVec<[u8; 4]> = SmallVec::new();
        push_number(&mut status, u32::from(self.status));
        for part in [b"SIP/2.0 ", &*status, b" ", self.phrase.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        self.copy_vias(&mut out);
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
            if let Some(header) = request.first(name) {
                self.copy(&mut out, name.as_str(), header.value);
                if name == Name::To {
                    self.add_tag(&mut out);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        if self.status == 100 {
            // RFC 3261 §8.2.6.1.
            for header in request.named(b"Timestamp") {
                self.copy(&mut out, "Timestamp", header.value);
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(&self.extra);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        Bytes::from(out)
    }

    fn copy_vias(&self, out: &mut Vec<u8>) {
        let stamp = self.source.and_then(|source| {
            let via = self.request.top_via()?;
            Some(Stamp::new(self.request.bytes(), via, source, true))
        });
        for (index, header) in self.request.all(Name::Via).enumerate() {
            match &stamp {
                Some(stamp) if index == 0 => self.copy_stamped(out, header, stamp),
                _ => self.copy(out, "Via", header.value),
            }
            out.extend_from_slice(b"\r\n");
        }
    }

    fn copy_stamped(&self, out: &mut Vec<u8>, header: &Header, stamp: &Stamp) {
        let mut splices: SmallVec<[_; 2]> = [&stamp.rport, &stamp.received].into_iter().flatten().collect();
        splices.sort_by_key(|(range, _)| *range);
        out.extend_from_slice(b"Via: ");
        let mut at = header.value.at();
        for (range, text) in splices {
            self.copy_value(out, Span::new(at, range.at()));
            out.extend_from_slice(text);
            at = range.to();
        }
        self.copy_value(out, Span::new(at, header.value.to()));
    }

    fn add_tag(&self, out: &mut Vec<u8>) {
        let buf = self.request.bytes();
        let untagged = self.request.to().is_some_and(|addr| Params::find(buf, addr.params, b"tag").is_none());
        if self.status != 100 && untagged && !self.tag.is_empty() {
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(&self.tag);
        }
    }

    fn copy(&self, out: &mut Vec<u8>, name: &str, value: Span) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        self.copy_value(out, value);
    }

    /// Line ends become spaces: a request refused for its bare CR must not get it back.
    fn copy_value(&self, out: &mut Vec<u8>, value: Span) {
        let from = out.len();
        out.extend_from_slice(value.of(self.request.bytes()));
        for byte in &mut out[from..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
    }
}

/// The reason phrase of RFC 3261 §21 and of the RFCs that added codes; a phrase of the class for the rest.
#[must_use]
pub fn standard_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 | 606 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        430 => "Flow Failed",
        439 => "First Hop Lacks Outbound Support",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        other => match other / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "OPTIONS sip:h SIP/2.0\r\nv: SIP/2.0/UDP phone;rport;branch=1 ,\r\n SIP/2.0/UDP b\r\nTimestamp: 5\r\nt: <sip:b@h>\r\n\
                           Via: SIP/2.0/TCP c\r\ncseq: 1\r\n OPTIONS\r\nFrom: <sip:a@h>;tag=1\r\ni: x\r\nSubject: y\r\n\r\n";

    fn request(text: &str) -> Message {
        Message::scan(Bytes::copy_from_slice(text.as_bytes())).expect("scan")
    }

    #[test]
    fn a_final_answer_copies_stamps_and_tags() {
        let m = request(REQUEST);
        let bytes = Reply::to(&m, 483, standard_phrase(483))
            .tag(b"abc")
            .header("Retry-After", b"5")
            .stamp("192.0.2.9:5063".parse().expect("addr"))
            .finish();
        assert_eq!(
            std::str::from_utf8(&bytes).expect("utf-8"),
            "SIP/2.0 483 Too Many Hops\r\nVia: SIP/2.0/UDP phone;rport=5063;branch=1;received=192.0.2.9 , SIP/2.0/UDP b\r\n\
             Via: SIP/2.0/TCP c\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=abc\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\
             Retry-After: 5\r\nContent-Length: 0\r\n\r\n"
        );
        let reply = Message::scan(bytes).expect("scan");
        assert_eq!(reply.check(crate::flow::Transport::Tcp), Ok(()));
    }

    #[test]
    fn a_100_has_no_tag_and_keeps_the_timestamp() {
        let m = request(REQUEST);
        let bytes = Reply::to(&m, 100, "Trying").tag(b"abc").finish();
        let reply = Message::scan(bytes).expect("scan");
        assert_eq!((reply.status(), reply.to_tag()), (100, None));
        assert_eq!(reply.named(b"timestamp").count(), 1);
        let tagged = request(&REQUEST.replace("t: <sip:b@h>", "t: <sip:b@h>;tag=2"));
        let bytes = Reply::to(&tagged, 200, "OK").tag(b"abc").finish();
        assert_eq!(Message::scan(bytes).expect("scan").to_tag(), Some(&b"2"[..]));
    }

    #[test]
    fn what_is_missing_stays_missing_and_no_line_end_gets_in() {
        let m = request("OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP a\rX: y\r\nTo: \"open\r\n\r\n");
        let bytes = Reply::to(&m, 400, "Missing From").tag(b"abc").finish();
        assert_eq!(
            std::str::from_utf8(&bytes).expect("utf-8"),
            "SIP/2.0 400 Missing From\r\nVia: SIP/2.0/UDP a X: y\r\nTo: \"open\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
