//! One pass over the bytes: start line, header lines, body. Structure only; what is wrong is noted for `check`.

use bytes::{Buf, Bytes};

use super::block::Block;
use super::fault::Fault;
use super::parts::Parts;
use super::start_line::StartLine;
use super::{Header, Method, Name, Span, is_token, normal, number};

/// The longest message that is taken, in bytes, on any transport.
pub const MAX_MESSAGE: usize = 65_535;

/// A message that was received, with its parts found: byte for byte, but for what [`Message::scan`] says.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Bytes,
    head: Box<Head>,
}

/// What was found, in a place of its own: a message changes hands often.
#[derive(Debug, Clone)]
struct Head {
    request: bool,
    method: Method,
    method_span: Span,
    uri: Span,
    status: u16,
    reason: Span,
    block: Block,
    parts: Parts,
    start_line_end: u32,
    body: Span,
    length: Length,
    /// What was repaired and is taken from a datagram only.
    repaired: Option<Fault>,
}

/// What Content-Length says, set against what is there (RFC 3261 §18.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// No such header: the body is the rest of the datagram.
    Absent,
    /// A number that is not beyond the end; the rest was cut off.
    Fits,
    /// A number beyond the end.
    Beyond,
    /// No number.
    NotANumber,
}

/// What is known of the bytes to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Nothing: they were received.
    Any,
    /// They are as they go on; what is still wrong with them stays.
    Normal,
}

/// Why bytes are no message at all. Nothing can be answered: drop and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Nothing, CRLF, or NULs: a keep-alive of one kind or another.
    #[error("keep-alive")]
    KeepAlive,
    /// A STUN message on the SIP port (RFC 5626 §4.4.2).
    #[error("STUN")]
    Stun,
    /// No SIP start line.
    #[error("not SIP")]
    NotSip,
    /// More than [`MAX_MESSAGE`] bytes.
    #[error("message too large")]
    TooLarge,
    /// A response whose status is not 100 … 699, or of another SIP version.
    #[error("bad status line")]
    BadStatusLine,
}

impl ScanError {
    /// The metric label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            ScanError::KeepAlive => "keep_alive",
            ScanError::Stun => "stun",
            ScanError::NotSip => "not_sip",
            ScanError::TooLarge => "too_large",
            ScanError::BadStatusLine => "bad_status_line",
        }
    }
}

impl Message {
    /// Finds start line, header lines (compact names, folding, odd case) and body of one datagram or one framed message.
    ///
    /// Leading line ends are skipped (RFC 3261 §7.5), bytes beyond Content-Length are cut off (§18.3): neither is part of
    /// [`Message::bytes`]. A fold is a space there (§7.3.1), a head that uses LF in all its lines has CRLF, and a head of whole
    /// lines without its blank line has it; the latter two [`Message::check`] refuses where they came by a stream. What has
    /// another fault stays as it came. No semantic checks: call [`Message::check`] before anything is done with the message.
    pub fn scan(bytes: Bytes) -> Result<Message, ScanError> {
        Message::read(bytes, Form::Any)
    }

    /// One pass over the bytes; more only where they are to be brought into form.
    fn read(mut bytes: Bytes, form: Form) -> Result<Message, ScanError> {
        let skip = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        if skip > 0 {
            bytes.advance(skip);
        }
        refuse_other_protocols(&bytes)?;
        let start = StartLine::parse(&bytes)?;
        let head = Head {
            request: start.request,
            method: start.method,
            method_span: start.method_span,
            uri: start.uri,
            status: start.status,
            reason: start.reason,
            block: Block::new(start.fault),
            parts: Parts::default(),
            start_line_end: start.end as u32,
            body: Span::default(),
            length: Length::Absent,
            repaired: None,
        };
        let mut message = Message { bytes, head: Box::new(head) };
        let body_at = message.head.block.scan(&message.bytes, start.end);
        message.find_body(body_at);
        message.head.parts = Parts::read(&message);
        if !message.head.request {
            let cseq = message.cseq();
            message.head.method_span = cseq.map_or(Span::empty(0), |cseq| cseq.method);
            message.head.method = Method::of(message.head.method_span.of(&message.bytes));
        }
        if form == Form::Any && (message.head.block.folded || message.head.block.fault.is_some()) {
            message.normalise();
        }
        Ok(message)
    }

    /// Read again from its repaired and unfolded bytes, as far as it can be.
    #[cold]
    fn normalise(&mut self) {
        let (blank, body) = (self.head.block.end as usize, self.head.body.at());
        let closed = match self.head.block.fault {
            Some(Fault::BareLf) => normal::with_crlf(&self.bytes, blank, body),
            Some(Fault::NoBlankLine) => normal::with_blank_line(&self.bytes, blank),
            _ => None,
        };
        if let Some(closed) = closed.and_then(|bytes| Message::read(Bytes::from(bytes), Form::Normal).ok()) {
            let fault = self.head.block.fault;
            *self = closed;
            self.head.repaired = fault;
        }
        if self.head.block.folded && self.head.block.fault.is_none() {
            let bytes = normal::unfolded(&self.bytes, self.head.block.end as usize);
            if let Ok(unfolded) = Message::read(Bytes::from(bytes), Form::Normal) {
                let repaired = self.head.repaired;
                *self = unfolded;
                self.head.repaired = repaired;
            }
        }
    }

    fn find_body(&mut self, at: usize) {
        let available = self.bytes.len() - at;
        let mut end = self.bytes.len();
        if let Some(header) = self.first(Name::ContentLength) {
            match number(header.value.of(&self.bytes)) {
                None => self.head.length = Length::NotANumber,
                Some(n) if n > available as u64 => self.head.length = Length::Beyond,
                Some(n) => {
                    self.head.length = Length::Fits;
                    end = at + n as usize;
                    if end < self.bytes.len() {
                        self.bytes.truncate(end);
                    }
                }
            }
        }
        self.head.body = Span::new(at, end);
    }

    /// The message: without line ends before it, bytes beyond Content-Length, and folds.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// True for a request.
    pub fn is_request(&self) -> bool {
        self.head.request
    }

    /// The method; of a response, that in its CSeq (`Other` if that cannot be read).
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The exact bytes of the method; of a response, that in its CSeq (empty if that cannot be read).
    pub fn method_name(&self) -> &[u8] {
        self.head.method_span.of(&self.bytes)
    }

    /// The Request-URI; empty for a response.
    pub fn request_uri(&self) -> Span {
        self.head.uri
    }

    /// The status of a response, 100 … 699; 0 for a request.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The reason phrase of a response, any bytes; empty for a request.
    pub fn reason(&self) -> &[u8] {
        self.head.reason.of(&self.bytes)
    }

    /// Where a response's three digits stand (RFC 3261 §7.2); empty in a request.
    #[must_use]
    pub fn status_span(&self) -> Span {
        // `Message::scan` skipped what stood before the start line.
        if self.head.request { Span::empty(0) } else { Span::new("SIP/2.0 ".len(), "SIP/2.0 200".len()) }
    }

    /// The header lines, in order.
    pub fn headers(&self) -> &[Header] {
        &self.head.block.headers
    }

    /// The first line of this name. For [`Name::Other`]: the first line of an unlisted name.
    pub fn first(&self, name: Name) -> Option<&Header> {
        self.head.block.headers.get(self.first_index(name)?)
    }

    /// Keeps its bytes in a place of their own: those of a message from a stream are a part of what was read, and would keep
    /// all of that.
    pub fn detach(&mut self) {
        self.bytes = Bytes::copy_from_slice(&self.bytes);
    }

    /// The body: Content-Length bytes, or without one the rest of the datagram.
    pub fn body(&self) -> &[u8] {
        self.head.body.of(&self.bytes)
    }

    /// Where the body is.
    pub fn body_span(&self) -> Span {
        self.head.body
    }

    pub(crate) fn first_index(&self, name: Name) -> Option<usize> {
        self.head.block.first_index(name)
    }

    pub(crate) fn is_repeated(&self, name: Name) -> bool {
        self.head.block.is_repeated(name)
    }

    /// The offset behind the start line.
    pub(crate) fn start_line_end(&self) -> u32 {
        self.head.start_line_end
    }

    /// The offset of the blank line.
    pub(crate) fn header_end(&self) -> u32 {
        self.head.block.end
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.head.parts
    }

    pub(crate) fn length(&self) -> Length {
        self.head.length
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.head.block.fault
    }

    /// The fault that was repaired: nothing on a datagram, and a reason to refuse the message on a stream.
    pub(crate) fn repaired(&self) -> Option<Fault> {
        self.head.repaired
    }
}

fn refuse_other_protocols(bytes: &Bytes) -> Result<(), ScanError> {
    let Some(&first) = bytes.first() else { return Err(ScanError::KeepAlive) };
    if bytes.len() > MAX_MESSAGE {
        return Err(ScanError::TooLarge);
    }
    if is_token(first) {
        return Ok(());
    }
    // STUN: the two top bits are zero and the magic cookie stands at offset 4 (RFC 8489 §5).
    if bytes.len() >= 20 && first < 0x40 && bytes[4..8] == [0x21, 0x12, 0xA4, 0x42] {
        return Err(ScanError::Stun);
    }
    if bytes.len() <= 8 && bytes.iter().all(|b| matches!(b, 0 | b' ' | b'\r' | b'\n')) {
        return Err(ScanError::KeepAlive);
    }
    Err(ScanError::NotSip)
}

#[cfg(test)]
mod tests {
    use super::super::MAX_HEADER_LINES;
    use super::*;

    /// glibc keeps freed blocks of up to 1032 bytes at hand; larger ones cost a search and a merge each time.
    #[test]
    fn what_every_message_allocates_stays_small() {
        assert!(size_of::<Head>() <= 1_032, "{} bytes", size_of::<Head>());
    }

    fn scan(text: &[u8]) -> Result<Message, ScanError> {
        Message::scan(Bytes::copy_from_slice(text))
    }

    #[test]
    fn the_parts_of_a_request() {
        let m = scan(b"\r\n\r\nOPTIONS sip:h SIP/2.0\r\nv : a\r\n b\r\nX:\r\nl:2\r\n\r\nhello").expect("scan");
        assert!(m.is_request());
        assert_eq!(m.method(), Method::Options);
        assert_eq!(m.request_uri().of(m.bytes()), b"sip:h");
        assert_eq!(m.headers().len(), 3);
        let via = m.first(Name::Via).expect("via");
        assert_eq!(m.value(via), b"a b");
        assert_eq!(via.line.of(m.bytes()), b"v : a b\r\n");
        assert!(m.value(&m.headers()[1]).is_empty());
        assert_eq!(m.body(), b"he");
        assert!(m.bytes().ends_with(b"\r\n\r\nhe"));
        assert_eq!(m.fault(), None);
    }

    #[test]
    fn the_parts_of_a_response() {
        let m = scan(b"SIP/2.0 183 \xd0\xbd = x\r\nCSeq: 7 INVITE\r\n\r\nbody").expect("scan");
        assert_eq!((m.is_request(), m.status(), m.method()), (false, 183, Method::Invite));
        assert_eq!(m.reason(), b"\xd0\xbd = x");
        assert_eq!(m.body(), b"body");
        assert!(scan(b"SIP/2.0 100 \r\n\r\n").expect("scan").reason().is_empty());
        assert!(scan(b"SIP/2.0 100\r\n\r\n").expect("scan").reason().is_empty());
    }

    #[test]
    fn what_is_no_message() {
        for (bytes, error) in [
            (&b""[..], ScanError::KeepAlive),
            (b"\r\n\r\n", ScanError::KeepAlive),
            (b"\0\0\0\0", ScanError::KeepAlive),
            (b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl", ScanError::Stun),
            (b"\x16\x03\x01\x02\0\x01\0", ScanError::NotSip),
            (b"GET / HTTP/1.1\r\n\r\n", ScanError::NotSip),
            (b"OPTIONS sip:h SIP/2.0", ScanError::NotSip),
            (b"OPTIONS\r\n\r\n", ScanError::NotSip),
            (b"SIP/2.0\r\n\r\n", ScanError::BadStatusLine),
            (b"SIP/2.0 99 Low\r\n\r\n", ScanError::BadStatusLine),
            (b"SIP/2.0 700 High\r\n\r\n", ScanError::BadStatusLine),
            (b"SIP/2.0 4294967301 big\r\n\r\n", ScanError::BadStatusLine),
            (b"SIP/7.0 200 OK\r\n\r\n", ScanError::BadStatusLine),
            (b"SIP/2.0  200 OK\r\n\r\n", ScanError::BadStatusLine),
        ] {
            assert_eq!(scan(bytes).expect_err("no message"), error, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(scan(&vec![b'a'; MAX_MESSAGE + 1]).expect_err("too large"), ScanError::TooLarge);
    }

    #[test]
    fn faults_are_noted_and_the_rest_is_found() {
        for (text, fault) in [
            (&b"OPTIONS  sip:h SIP/2.0\r\nVia: x\r\n\r\n"[..], Fault::RequestLine),
            (b"OPTIONS sip:h  SIP/2.0\r\nVia: x\r\n\r\n", Fault::RequestLine),
            (b"OPTIONS sip:h SIP/2.0 \r\nVia: x\r\n\r\n", Fault::RequestLine),
            (b"OPTIONS <sip:h> SIP/2.0\r\nVia: x\r\n\r\n", Fault::RequestLine),
            (b"OPTIONS\tsip:h SIP/2.0\r\nVia: x\r\n\r\n", Fault::RequestLine),
            (b"OPTIONS sip:h SIP/3.0\r\nVia: x\r\n\r\n", Fault::Version),
            (b"OPTIONS sip:h SIP/2.0\nVia: x\r\n\r\n", Fault::BareLf),
            (b"OPTIONS sip:h SIP/2.0\nVia: x\n\r\n", Fault::BareLf),
            (b"OPTIONS sip:h SIP/2.0\nVia: x\ry\n\n", Fault::BareLf),
            (b"OPTIONS sip:h SIP/2.0\nVia: x\nCSeq: 1 OPT", Fault::BareLf),
            (b"OPTIONS sip:h SIP/2.0\nVia: x\nno colon\n\n", Fault::HeaderLine),
            (b"OPTIONS sip:h SIP/2.0\nVia: x\nno colon\n : y\n\n", Fault::HeaderLine),
            (b"OPTIONS sip:h SIP/2.0\nVia: x\n \n\n", Fault::BlankContinuation),
            (b"OPTIONS sip:h SIP/2.0\r\nVia: x\n\r\n", Fault::BareLf),
            (b"OPTIONS sip:h SIP/2.0\r\nVia: x\ry\r\n\r\n", Fault::BareCr),
            (b"OPTIONS sip:h SIP/2.0\r\nVia: x\r\n \r\n\r\n", Fault::BlankContinuation),
            (b"OPTIONS sip:h SIP/2.0\r\n x\r\nVia: x\r\n\r\n", Fault::HeaderLine),
            (b"OPTIONS sip:h SIP/2.0\r\nno colon\r\n y\r\nVia: x\r\n\r\n", Fault::HeaderLine),
            (b"OPTIONS sip:h SIP/2.0\r\n: v\r\nVia: x\r\n\r\n", Fault::HeaderLine),
            (b"OPTIONS sip:h SIP/2.0\r\nVia: x\r\n\r", Fault::NoBlankLine),
            (b"OPTIONS sip:h SIP/2.0\r\nVia: x\r\nCSeq: 1 OPT", Fault::NoBlankLine),
        ] {
            let m = scan(text).expect("scan");
            assert_eq!(m.fault(), Some(fault), "{}", String::from_utf8_lossy(text));
            assert_eq!(m.headers().len(), 1, "{}", String::from_utf8_lossy(text));
            assert!(m.first(Name::Via).is_some());
        }
    }

    #[test]
    fn one_form_goes_on_and_the_body_stays() {
        let whole = b"SIP/2.0 200 OK\r\nTo: a b\r\nl: 7\r\n\r\n\n x\r\n y";
        for text in [
            &b"SIP/2.0 200 OK\r\nTo: a\r\n b\r\nl:\r\n \t7\r\n\r\n\n x\r\n y and more"[..],
            b"SIP/2.0 200 OK\nTo: a b\nl: 7\n\n\n x\r\n y and more",
            b"\nSIP/2.0 200 OK\nTo: a\n\tb\nl:\n 7\n\n\n x\r\n y",
        ] {
            let m = scan(text).expect("scan");
            assert_eq!(m.bytes(), &whole[..], "{}", String::from_utf8_lossy(text));
            assert_eq!((m.body(), m.fault()), (&b"\n x\r\n y"[..], None));
        }
        let open = scan(b"SIP/2.0 200 OK\r\nTo: a\r\n").expect("scan");
        assert_eq!(
            (&open.bytes()[..], open.body(), open.fault()),
            (&b"SIP/2.0 200 OK\r\nTo: a\r\n\r\n"[..], &b""[..], None)
        );
        // With the CRs that it lacks it would be too long: it stays what it is.
        let mut long = b"SIP/2.0 200 OK\nTo: a\n\n".to_vec();
        long.resize(MAX_MESSAGE, b'x');
        assert_eq!(scan(&long).expect("scan").fault(), Some(Fault::BareLf));
    }

    #[test]
    fn the_limit_of_header_lines_has_an_answer() {
        let mut text = b"OPTIONS sip:h SIP/2.0\r\n".to_vec();
        for _ in 0..=MAX_HEADER_LINES {
            text.extend_from_slice(b"X: y\r\n");
        }
        text.extend_from_slice(b"\r\n");
        let m = scan(&text).expect("scan");
        assert_eq!((m.headers().len(), m.fault()), (MAX_HEADER_LINES, Some(Fault::TooManyHeaders)));
    }
}
