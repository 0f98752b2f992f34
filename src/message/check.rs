//! What is refused.
//!
//! Lenient where no two parsers can disagree about where the message ends, which transaction it is of and where it goes;
//! strict where they can, because that is how a message is smuggled past one of them.

use super::fault::Fault;
use super::list::{Elements, find_outside};
use super::scan::{Length, Message};
use super::{Method, Name, NameAddr, Params, Scheme, Span, Uri, Via, is_lws, number};
use crate::flow::Transport;

/// A message that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.fault.phrase())]
pub struct Malformed {
    fault: Fault,
    request: bool,
    answerable: bool,
}

impl Malformed {
    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.fault.status()
    }

    /// A reason phrase that says what is wrong.
    #[must_use]
    pub fn phrase(&self) -> &'static str {
        self.fault.phrase()
    }

    /// The metric label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        if self.request { "malformed" } else { "malformed_response" }
    }

    /// False where nothing may be answered: responses, ACKs, and requests without a top Via to send the answer by. Drop and
    /// count those.
    #[must_use]
    pub fn answerable(&self) -> bool {
        self.answerable
    }
}

/// Headers of which there is exactly one (RFC 3261 §8.1.1).
const MANDATORY: [Name; 5] = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq];

/// Headers of which there is at most one, where a second one changes whose transaction or how long a message is.
const SINGLE: [Name; 6] = [Name::From, Name::To, Name::CallId, Name::CSeq, Name::MaxForwards, Name::ContentLength];

/// The most elements of one list in a request, over all its lines.
pub const MAX_ELEMENTS: usize = 64;

/// Headers whose lists are walked element by element: [`MAX_ELEMENTS`] bounds them.
pub const BOUNDED_LISTS: [Name; 10] = [
    Name::Via,
    Name::Contact,
    Name::Route,
    Name::RecordRoute,
    Name::Path,
    Name::Require,
    Name::ProxyRequire,
    Name::Supported,
    Name::Unsupported,
    Name::ServiceRoute,
];

impl Message {
    /// Refuses the shapes that two parsers could read in two ways, and messages without their mandatory headers.
    ///
    /// `transport`: what it came in by; on a stream Content-Length is mandatory (RFC 3261 §18.3). An absent Max-Forwards is fine:
    /// it counts as 70 (§16.6). The error knows its answer.
    pub fn check(&self, transport: Transport) -> Result<(), Malformed> {
        match self.find_fault(transport) {
            None => Ok(()),
            Some(fault) => Err(self.malformed(fault)),
        }
    }

    /// The refusal of this message for `fault`.
    pub(crate) fn malformed(&self, fault: Fault) -> Malformed {
        let answerable = self.is_request() && self.method_name() != b"ACK" && self.top_via().is_some();
        Malformed { fault, request: self.is_request(), answerable }
    }

    fn find_fault(&self, transport: Transport) -> Option<Fault> {
        self.fault()
            .or_else(|| self.repaired().filter(|_| transport.is_reliable()))
            .or_else(|| self.length_fault(transport))
            .or_else(|| MANDATORY.into_iter().find(|name| self.first(*name).is_none()).map(Fault::Missing))
            .or_else(|| SINGLE.into_iter().find(|name| self.is_repeated(*name)).map(Fault::Repeated))
            .or_else(|| self.cseq_fault())
            .or_else(|| self.list_fault())
            .or_else(|| self.via_fault())
            .or_else(|| self.value_fault())
    }

    fn length_fault(&self, transport: Transport) -> Option<Fault> {
        if self.is_repeated(Name::ContentLength) {
            return Some(Fault::Repeated(Name::ContentLength));
        }
        match self.length() {
            Length::Fits => None,
            Length::Absent => transport.is_reliable().then_some(Fault::NoLength),
            Length::Beyond => Some(Fault::LengthBeyond),
            Length::NotANumber => Some(Fault::Unreadable(Name::ContentLength)),
        }
    }

    fn cseq_fault(&self) -> Option<Fault> {
        let Some(cseq) = self.cseq() else {
            let value = self.first(Name::CSeq).map_or(Span::default(), |header| header.value);
            let digits = value.of(self.bytes()).iter().take_while(|b| b.is_ascii_digit()).count();
            let digits = &value.of(self.bytes())[..digits];
            let out_of_range = number(digits).is_some_and(|n| n > u64::from(u32::MAX));
            return Some(if out_of_range { Fault::CSeqRange } else { Fault::Unreadable(Name::CSeq) });
        };
        if cseq.number >= 1 << 31 {
            return Some(Fault::CSeqRange);
        }
        (self.is_request() && cseq.method.of(self.bytes()) != self.method_name()).then_some(Fault::MethodMismatch)
    }

    /// A response is not measured: it carries our own elements beside the sender's, and one that is not passed on leaves its
    /// request without an answer.
    fn list_fault(&self) -> Option<Fault> {
        let mut lists = BOUNDED_LISTS.into_iter().filter(|_| self.is_request());
        lists.find(|name| self.is_too_long(*name)).map(Fault::TooMany)
    }

    /// True for a list of more than [`MAX_ELEMENTS`] elements.
    fn is_too_long(&self, name: Name) -> bool {
        let Some(first) = self.first(name) else { return false };
        // An element has a byte, and a comma or a line end behind it: most lists need not be counted.
        if first.value.len() < 2 * MAX_ELEMENTS && !self.is_repeated(name) {
            return false;
        }
        let commas = |value: &[u8]| memchr::memchr_iter(b',', value).count();
        let most: usize = self.all(name).map(|header| 1 + commas(self.value(header))).sum();
        most > MAX_ELEMENTS && Elements::new(self, name).nth(MAX_ELEMENTS).is_some()
    }

    /// Every element of every Via line, empty ones too: a Via too many or too few sends an answer elsewhere
    /// (RFC 4475 §3.1.2.1).
    fn via_fault(&self) -> Option<Fault> {
        let buf: &[u8] = self.bytes();
        for header in self.all(Name::Via) {
            let mut rest = header.value;
            loop {
                let comma = find_outside(buf, rest, b',');
                let element = Span::new(rest.at(), comma).trim(buf);
                let read = self.top_via().copied().filter(|top| top.whole == element);
                match read.or_else(|| Via::parse(buf, element)) {
                    Some(via) if !via.odd => {
                        if !via.is_sip2(buf) {
                            return Some(Fault::ViaProtocol);
                        }
                    }
                    _ => return Some(Fault::Unreadable(Name::Via)),
                }
                if comma == rest.to() {
                    break;
                }
                rest = Span::new(comma + 1, rest.to());
            }
        }
        None
    }

    fn value_fault(&self) -> Option<Fault> {
        for (name, addr) in [(Name::From, self.from()), (Name::To, self.to())] {
            if addr.is_none_or(|addr| has_bare_comma(self.bytes(), addr) || has_odd_params(self.bytes(), addr.params)) {
                return Some(Fault::Unreadable(name));
            }
        }
        if self.call_id().is_empty() || self.call_id().iter().any(|b| is_lws(*b)) {
            return Some(Fault::Unreadable(Name::CallId));
        }
        if self.first(Name::MaxForwards).is_some() {
            match self.max_forwards() {
                None => return Some(Fault::Unreadable(Name::MaxForwards)),
                Some(n) if n > 255 => return Some(Fault::MaxForwardsRange),
                Some(_) => {}
            }
        }
        if self.target().is_some_and(|uri| !uri.headers.is_empty()) {
            return Some(Fault::UriHeaders);
        }
        self.contact_fault()
    }

    /// A Contact with a `?` needs its angle brackets (RFC 3261 §20.10): without them nobody knows whose headers these are. Outside
    /// of a REGISTER, whose Contacts Holdline reads as a registrar does, that is so of `sip:` and `sips:` alone: what other
    /// schemes mean by it is the endpoint's business.
    fn contact_fault(&self) -> Option<Fault> {
        let buf: &[u8] = self.bytes();
        if !self.all(Name::Contact).any(|header| memchr::memchr(b'?', self.value(header)).is_some()) {
            return None;
        }
        let registers = self.is_request() && self.method() == Method::Register;
        for element in Elements::new(self, Name::Contact) {
            if let Some(addr) = NameAddr::parse(buf, element.span)
                && !addr.bracketed
                && memchr::memchr(b'?', addr.uri.of(buf)).is_some()
                && (registers || !is_foreign(buf, addr.uri))
            {
                return Some(Fault::Unreadable(Name::Contact));
            }
        }
        None
    }
}

/// True for a comma in a display name without quotes: one address to some, two to others, and not to be passed on
/// (RFC 4475 §3.1.2.15). Other characters that are no token's, dots and UTF-8 above all, pass.
fn has_bare_comma(buf: &[u8], addr: NameAddr) -> bool {
    let display = Span { start: addr.whole.start, end: addr.uri.start }.of(buf);
    addr.bracketed && display.first() != Some(&b'"') && memchr::memchr(b',', display).is_some()
}

/// True where a parameter is odd, see [`Param::is_odd`](super::Param::is_odd).
fn has_odd_params(buf: &[u8], params: Span) -> bool {
    Params::new(buf, params).any(|param| param.is_odd(buf))
}

/// True for a URI of another scheme than `sip:` and `sips:`.
fn is_foreign(buf: &[u8], uri: Span) -> bool {
    Uri::parse(buf, uri).is_some_and(|uri| !matches!(uri.scheme, Scheme::Sip | Scheme::Sips))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const GOOD: &str = "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
                        From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

    fn check(text: &str, transport: Transport) -> Result<(), Malformed> {
        Message::scan(Bytes::copy_from_slice(text.as_bytes())).expect("scan").check(transport)
    }

    #[test]
    fn a_good_request_passes_on_every_transport() {
        for transport in Transport::ALL {
            assert_eq!(check(GOOD, transport), Ok(()));
        }
        assert_eq!(check(&GOOD.replace("Max-Forwards: 70\r\n", ""), Transport::Udp), Ok(()));
        assert_eq!(check(&GOOD.replace("Content-Length: 0\r\n", ""), Transport::Udp), Ok(()));
    }

    #[test]
    fn each_fault_is_named_in_its_answer() {
        for (from, to, status, phrase) in [
            ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", 505, "Version Not Supported"),
            ("OPTIONS sip:h ", "OPTIONS  sip:h ", 400, "Malformed Request Line"),
            ("sip:h SIP", "sip:h?Route=x SIP", 400, "Headers In Request-URI"),
            ("Call-ID: x\r\n", "", 400, "Missing Call-ID"),
            ("Call-ID: x\r\n", "Call-ID:\r\n", 400, "Malformed Call-ID"),
            ("To: <sip:b@h>\r\n", "", 400, "Missing To"),
            ("To: <sip:b@h>\r\n", "To: \"x <sip:b@h>\r\n", 400, "Malformed To"),
            ("From: <sip:a@h>;tag=1\r\n", "", 400, "Missing From"),
            ("From: <sip:a@h>", "From: Bell, A <sip:a@h>", 400, "Malformed From"),
            ("From: <sip:a@h>;tag=1\r\n", "From: <>;tag=1\r\n", 400, "Malformed From"),
            ("CSeq: 1 OPTIONS\r\n", "", 400, "Missing CSeq"),
            ("CSeq: 1 OPTIONS\r\n", "CSeq: 1 INVITE\r\n", 400, "CSeq Method Mismatch"),
            ("CSeq: 1 OPTIONS\r\n", "CSeq: x OPTIONS\r\n", 400, "Malformed CSeq"),
            ("CSeq: 1 OPTIONS\r\n", "CSeq: 2147483648 OPTIONS\r\n", 400, "CSeq Number Out Of Range"),
            ("CSeq: 1 OPTIONS\r\n", "CSeq: 36893488147419103232 OPTIONS\r\n", 400, "CSeq Number Out Of Range"),
            ("CSeq: 1 OPTIONS\r\n", "CSeq: 1 OPTIONS\r\ncseq: 1 OPTIONS\r\n", 400, "Repeated CSeq"),
            ("Call-ID: x\r\n", "Call-ID: x\r\ni: x\r\n", 400, "Repeated Call-ID"),
            ("Max-Forwards: 70\r\n", "Max-Forwards: 70\r\nMax-Forwards: 70\r\n", 400, "Repeated Max-Forwards"),
            ("Max-Forwards: 70", "Max-Forwards: -1", 400, "Malformed Max-Forwards"),
            ("Max-Forwards: 70", "Max-Forwards: 256", 400, "Max-Forwards Out Of Range"),
            ("Content-Length: 0", "Content-Length: 1", 400, "Content-Length Beyond Message"),
            ("Content-Length: 0", "Content-Length: 99999999999999999999999", 400, "Content-Length Beyond Message"),
            ("Content-Length: 0", "Content-Length: -999", 400, "Malformed Content-Length"),
            ("Content-Length: 0", "Content-Length: +0", 400, "Malformed Content-Length"),
            ("Content-Length: 0", "Content-Length: 0, 0", 400, "Malformed Content-Length"),
            ("Content-Length: 0", "Content-Length:", 400, "Malformed Content-Length"),
            ("Content-Length: 0", "Content-Length: 0\r\nl: 0", 400, "Repeated Content-Length"),
            ("branch=z9hG4bK1", "branch=z9hG4bK1, ;;", 400, "Malformed Via"),
            ("branch=z9hG4bK1", "branch=z9hG4bK1,", 400, "Malformed Via"),
            ("branch=z9hG4bK1", "branch=z9hG4bK1,,SIP/2.0/UDP b", 400, "Malformed Via"),
            ("Via: SIP", "Via: ,SIP", 400, "Malformed Via"),
            ("branch=z9hG4bK1", "branch=z9hG4bK1;\"x=1", 400, "Malformed Via"),
            ("branch=z9hG4bK1", "branch=z9hG4bK1;x=\"1\"2", 400, "Malformed Via"),
            ("branch=z9hG4bK1", "branch=z9hG4bK1;x=<, SIP/2.0/UDP b", 400, "Malformed Via"),
            ("branch=z9hG4bK1", "branch=z9hG4bK1;\u{b}branch=2", 400, "Malformed Via"),
            ("<sip:b@h>", "<sip:b@h>;\u{b}tag=1", 400, "Malformed To"),
            ("<sip:b@h>", "sip:b@h;tag=<sip:c@h>", 400, "Malformed To"),
            ("<sip:b@h>", "<sip:b@h>;x=\";tag=2", 400, "Malformed To"),
            ("branch=z9hG4bK1", "branch=z9hG4bK1, SIP/3.0/UDP x", 400, "Via Is Not SIP/2.0"),
            ("Call-ID: x\r\n", "Call-ID: x\r\nno colon\r\n", 400, "Malformed Header Line"),
            ("Call-ID: x\r\n", "Call-ID: x\n", 400, "Bare LF In Header"),
            ("Call-ID: x\r\n", "Call-ID: x\r\nX: a\r\n \r\n", 400, "Blank Continuation Line"),
            ("Call-ID: x\r\n", "Call-ID: x\r\nX: a\rb\r\n", 400, "Bare CR In Header"),
            ("Content-Length: 0\r\n\r\n", "Content-Length: 0", 400, "Missing Blank Line"),
            ("Content-Length: 0\r\n\r\n", "Content-Length: 1\r\n", 400, "Content-Length Beyond Message"),
            ("Call-ID: x\r\n", "Call-ID: x\r\nm: sip:a@b?Route=c\r\n", 400, "Malformed Contact"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let refusal = check(&text, Transport::Udp).expect_err(phrase);
            assert_eq!((refusal.status(), refusal.phrase()), (status, phrase), "{to}");
            assert!(refusal.answerable(), "{to}");
        }
        let refusal = check(&GOOD.replace("Content-Length: 0\r\n", ""), Transport::Tcp).expect_err("no length");
        assert_eq!(refusal.phrase(), "Missing Content-Length");
    }

    #[test]
    fn a_list_of_more_than_64_elements_is_refused_in_a_request_however_it_is_spread() {
        let response = GOOD.replace("OPTIONS sip:h SIP/2.0", "SIP/2.0 200 OK");
        for name in BOUNDED_LISTS {
            let element = match name {
                Name::Via => "SIP/2.0/UDP a;branch=z9hG4bK1",
                Name::Require | Name::ProxyRequire | Name::Supported | Name::Unsupported => "a",
                _ => "<sip:a@h;lr>",
            };
            let (text, phrase) = (name.as_str(), format!("Too Many {} Elements", name.as_str()));
            let lines = |count: usize| {
                let there = usize::from(name == Name::Via);
                let one = format!("{text}: {}\r\n", vec![element; count - there].join(","));
                let each = format!("{text}: {element}\r\n").repeat(count - there);
                [one, each].map(|lines| format!("{lines}Call-ID"))
            };
            for lines in lines(MAX_ELEMENTS) {
                assert_eq!(check(&GOOD.replace("Call-ID", &lines), Transport::Udp), Ok(()), "{lines}");
            }
            for lines in lines(MAX_ELEMENTS + 1) {
                let refusal = check(&GOOD.replace("Call-ID", &lines), Transport::Udp).expect_err("too many");
                assert_eq!((refusal.status(), refusal.phrase(), refusal.answerable()), (400, &*phrase, true));
                assert_eq!(check(&response.replace("Call-ID", &lines), Transport::Udp), Ok(()), "{lines}");
            }
        }
        // Empty elements are none.
        let commas = format!("Supported: a{}\r\nCall-ID", ",".repeat(1000));
        assert_eq!(check(&GOOD.replace("Call-ID", &commas), Transport::Udp), Ok(()));
    }

    #[test]
    fn a_foreign_contact_with_a_question_mark_is_refused_in_a_register_alone() {
        let contact = |method: &str, uri: &str| {
            let text = GOOD.replace("OPTIONS", method).replace("Call-ID", &format!("m: {uri}\r\nCall-ID"));
            check(&text, Transport::Udp).map_err(|refusal| refusal.phrase())
        };
        for foreign in ["http://h/call?id=1", "mailto:a@h?subject=x", "tel:+1;x=?"] {
            assert_eq!(contact("INVITE", foreign), Ok(()), "{foreign}");
            assert_eq!(contact("REGISTER", &format!("<{foreign}>")), Ok(()), "{foreign}");
        }
        for refused in ["sip:a@h?x=y", "SIPS:a@h?x=y", "sip:a@h:port?x", "a@h?x"] {
            assert_eq!(contact("INVITE", refused), Err("Malformed Contact"), "{refused}");
        }
        assert_eq!(contact("REGISTER", "http://h/call?id=1"), Err("Malformed Contact"));
        let redirected = GOOD.replace("OPTIONS sip:h SIP/2.0", "SIP/2.0 302 Moved").replace("1 OPTIONS", "1 REGISTER");
        assert_eq!(check(&redirected.replace("Call-ID", "m: http://h/?x\r\nCall-ID"), Transport::Udp), Ok(()));
    }

    /// Its end says where a datagram ends; nothing says it of a stream.
    #[test]
    fn a_head_of_bare_lfs_or_without_blank_line_is_taken_from_a_datagram_alone() {
        let folded = GOOD.replace("Call-ID: x", "Call-ID:\r\n x");
        for good in [GOOD, &folded] {
            let whole = Message::scan(Bytes::copy_from_slice(good.as_bytes())).expect("scan");
            let open = good.strip_suffix("\r\n").expect("a blank line").to_owned();
            let (lf, open_lf) = (good.replace("\r\n", "\n"), open.replace("\r\n", "\n"));
            for (text, phrase) in
                [(&open, "Missing Blank Line"), (&lf, "Bare LF In Header"), (&open_lf, "Bare LF In Header")]
            {
                let message = Message::scan(Bytes::copy_from_slice(text.as_bytes())).expect("scan");
                assert_eq!(message.check(Transport::Udp), Ok(()), "{text}");
                assert_eq!(message.bytes(), whole.bytes(), "{text}");
                for transport in [Transport::Tcp, Transport::Tls] {
                    let refusal = message.check(transport).expect_err("on a stream");
                    assert_eq!((refusal.phrase(), refusal.answerable()), (phrase, true), "{text}");
                }
            }
        }
    }

    #[test]
    fn too_many_header_lines_are_answered() {
        let many = "X: y\r\n".repeat(super::super::MAX_HEADER_LINES);
        let refusal = check(&GOOD.replace("Call-ID", &format!("{many}Call-ID")), Transport::Udp).expect_err("too many");
        assert_eq!((refusal.status(), refusal.answerable()), (513, true));
    }

    #[test]
    fn what_cannot_be_answered_says_so() {
        let no_via = GOOD.replace("Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n", "");
        let refusal = check(&no_via, Transport::Udp).expect_err("no via");
        assert_eq!((refusal.phrase(), refusal.answerable()), ("Missing Via", false));
        let bad_via = GOOD.replace("SIP/2.0/UDP a;branch", ";branch");
        assert!(!check(&bad_via, Transport::Udp).expect_err("bad via").answerable());
        let ack = GOOD.replace("OPTIONS", "ACK").replace("Call-ID: x\r\n", "");
        assert!(!check(&ack, Transport::Udp).expect_err("ack").answerable());
        let response = GOOD.replace("OPTIONS sip:h SIP/2.0", "SIP/2.0 200 OK").replace("Call-ID: x\r\n", "");
        assert!(!check(&response, Transport::Udp).expect_err("response").answerable());
    }
}
