//! Streams into messages (RFC 3261 §18.3): header block up to the blank line, then Content-Length bytes.
//!
//! A message whose length cannot be known ends the connection: there is no way to find the next one. CRLF before and between
//! messages is keep-alive (RFC 5626 §4.4.1): the second of two adjoining CRLFs makes a ping. A CRLF that arrives alone is
//! handed out at once as a pong; should its other half follow, the ping is handed out then.

use bytes::{Buf, Bytes, BytesMut};

use super::block::{Line, split_line};
use super::{MAX_MESSAGE, Name, Span, is_token, number};

/// What a stream is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, for [`super::Message::scan`].
    Message(Bytes),
    /// CRLF CRLF: answer with CRLF (RFC 5626 §4.4.1).
    Ping,
    /// A single CRLF: an answer to our ping, or white space.
    Pong,
}

/// Why a stream cannot be cut any further, with what was read of the message. The connection must close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The bytes are not the start of a SIP message.
    #[error("not SIP")]
    NotSip(Bytes),
    /// The header block is longer than a message may be.
    #[error("header block too large")]
    HeaderTooLarge(Bytes),
    /// Header block and Content-Length together are longer than a message may be.
    #[error("message too large")]
    MessageTooLarge(Bytes),
    /// No Content-Length (RFC 3261 §18.3: mandatory on streams).
    #[error("no Content-Length")]
    NoContentLength(Bytes),
    /// Content-Length is no number, or there are several.
    #[error("bad Content-Length")]
    BadContentLength(Bytes),
    /// A bare CR or LF, or a line that is no header line: where the header block ends is open to doubt.
    #[error("bad header block")]
    BadHeader(Bytes),
}

impl FramingError {
    /// The metric label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            FramingError::NotSip(_) => "not_sip",
            FramingError::HeaderTooLarge(_) => "header_too_large",
            FramingError::MessageTooLarge(_) => "message_too_large",
            FramingError::NoContentLength(_) => "no_content_length",
            FramingError::BadContentLength(_) => "bad_content_length",
            FramingError::BadHeader(_) => "bad_header",
        }
    }

    /// The status and phrase of the answer, where one is possible.
    #[must_use]
    pub fn answer(&self) -> Option<(u16, &'static str)> {
        framing_status(self.reason())
    }

    /// What was read of the message: its header block, or as much of it as there is.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            FramingError::NotSip(bytes)
            | FramingError::HeaderTooLarge(bytes)
            | FramingError::MessageTooLarge(bytes)
            | FramingError::NoContentLength(bytes)
            | FramingError::BadContentLength(bytes)
            | FramingError::BadHeader(bytes) => bytes,
        }
    }
}

/// The answer to a framing error by its metric label: the transports hand on labels. `None` where there is none.
#[must_use]
pub fn framing_status(reason: &str) -> Option<(u16, &'static str)> {
    match reason {
        "header_too_large" => Some((513, "Header Too Large")),
        "message_too_large" => Some((513, "Message Too Large")),
        "no_content_length" => Some((400, "Missing Content-Length")),
        "bad_content_length" => Some((400, "Malformed Content-Length")),
        "bad_header" => Some((400, "Malformed Header Block")),
        _ => None,
    }
}

/// Cuts one stream into frames: read into [`Framer::buffer`], then call [`Framer::next`] until it gives `None`.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    max_message: usize,
    /// Up to here no end of the header block was found.
    searched: usize,
    /// Length of the message at the front, once its header block is complete.
    length: Option<usize>,
    /// One CRLF was handed out as a pong; another one makes it a ping.
    half_ping: bool,
}

impl Framer {
    /// `max_message`: the longest message taken, in bytes; at most [`MAX_MESSAGE`].
    #[must_use]
    pub fn new(max_message: usize) -> Framer {
        Framer {
            buffer: BytesMut::new(),
            max_message: max_message.min(MAX_MESSAGE),
            searched: 0,
            length: None,
            half_ping: false,
        }
    }

    /// Where to read into. Append only.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// True while part of a message is there: the peer owes the rest.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next frame; `None` until more is read. After an error the connection must close.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, FramingError> {
        if self.length.is_none() {
            if let Some(frame) = self.keep_alive() {
                return Ok(Some(frame));
            }
            if !self.measure()? {
                return Ok(None);
            }
        }
        match self.length {
            Some(length) if self.buffer.len() >= length => {
                self.length = None;
                self.searched = 0;
                Ok(Some(Frame::Message(self.buffer.split_to(length).freeze())))
            }
            _ => Ok(None),
        }
    }

    fn keep_alive(&mut self) -> Option<Frame> {
        if self.searched > 0 || !self.buffer.starts_with(b"\r\n") {
            return None;
        }
        self.buffer.advance(2);
        if std::mem::take(&mut self.half_ping) {
            return Some(Frame::Ping);
        }
        if self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
            return Some(Frame::Ping);
        }
        // Its other half may still be on the way, but only if nothing else came behind it.
        self.half_ping = matches!(&self.buffer[..], [] | [b'\r']);
        Some(Frame::Pong)
    }

    /// Looks for the end of the header block and sets `length`; false if it is not there yet.
    fn measure(&mut self) -> Result<bool, FramingError> {
        match &self.buffer[..] {
            [] | [b'\r'] => return Ok(false),
            [first, ..] if !is_token(*first) => return Err(FramingError::NotSip(self.read_so_far())),
            _ => self.half_ping = false,
        }
        let Some(end) = memchr::memmem::find(&self.buffer[self.searched..], b"\r\n\r\n") else {
            if self.buffer.len() > self.max_message {
                return Err(FramingError::HeaderTooLarge(self.read_so_far()));
            }
            // The end may have begun in the last three bytes.
            self.searched = self.buffer.len().saturating_sub(3).max(1);
            return Ok(false);
        };
        let header_end = self.searched + end + 4;
        if header_end > self.max_message {
            return Err(FramingError::HeaderTooLarge(self.read_so_far()));
        }
        self.searched = header_end - 4;
        let length = match content_length(&self.buffer[..header_end]) {
            Ok(length) => length,
            Err(error) => {
                let block = self.buffer.split_to(header_end).freeze();
                return Err(error(block));
            }
        };
        if length > (self.max_message - header_end) as u64 {
            return Err(FramingError::MessageTooLarge(self.buffer.split_to(header_end).freeze()));
        }
        self.length = Some(header_end + length as usize);
        Ok(true)
    }

    fn read_so_far(&mut self) -> Bytes {
        let length = self.buffer.len().min(MAX_MESSAGE);
        self.buffer.split_to(length).freeze()
    }
}

type Refuse = fn(Bytes) -> FramingError;

/// The one Content-Length of a complete header block (RFC 3261 §20.14). Folded, it is what it is with spaces in the folds' place:
/// so the message is forwarded. A fold of another header is that one's, whatever it looks like.
fn content_length(block: &[u8]) -> Result<u64, Refuse> {
    let mut found: Option<Span> = None;
    // True while continuation lines belong to Content-Length.
    let mut open = false;
    let mut at =
        Line::find(block, 0).filter(|line| line.fault.is_none()).ok_or(FramingError::BadHeader as Refuse)?.next;
    loop {
        let line =
            Line::find(block, at).filter(|line| line.fault.is_none()).ok_or(FramingError::BadHeader as Refuse)?;
        if line.text.is_empty() {
            break;
        }
        match (block[at], &mut found) {
            (b' ' | b'\t', Some(value)) if open => value.end = line.text.end,
            (b' ' | b'\t', _) => {}
            (b'c' | b'C' | b'l' | b'L', _) => {
                let (name, value) = split_line(block, line.text).ok_or(FramingError::BadHeader as Refuse)?;
                open = Name::of(name.of(block)) == Name::ContentLength;
                if open && found.replace(value).is_some() {
                    return Err(FramingError::BadContentLength);
                }
            }
            _ => open = false,
        }
        at = line.next;
    }
    let value = found.ok_or(FramingError::NoContentLength as Refuse)?;
    number(value.trim(block).of(block)).ok_or(FramingError::BadContentLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "OPTIONS sip:a SIP/2.0\r\nX: y\r\nContent-Length: 5\r\n\r\nhello";
    const B: &str = "SIP/2.0 200 OK\r\nl :\r\n 0\r\n\r\n";

    fn frames(reads: &[&[u8]]) -> (Vec<Frame>, Option<FramingError>) {
        let mut framer = Framer::new(MAX_MESSAGE);
        let mut out = Vec::new();
        for read in reads {
            framer.buffer().extend_from_slice(read);
            loop {
                match framer.next() {
                    Ok(Some(frame)) => out.push(frame),
                    Ok(None) => break,
                    Err(error) => return (out, Some(error)),
                }
            }
        }
        (out, None)
    }

    fn message(text: &str) -> Frame {
        Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn several_messages_and_keep_alives_in_one_read() {
        let stream = format!("\r\n\r\n{A}{B}\r\n{A}\r\n\r\n\r\n\r\n");
        let (out, error) = frames(&[stream.as_bytes()]);
        assert_eq!(error, None);
        assert_eq!(out, [Frame::Ping, message(A), message(B), Frame::Pong, message(A), Frame::Ping, Frame::Ping]);
    }

    #[test]
    fn the_same_frames_however_the_stream_is_split() {
        let stream = format!("\r\n\r\n{A}{B}\r\n{A}\r\n\r\n{B}");
        let stream = stream.as_bytes();
        let pings_and_messages = |reads: &[&[u8]]| {
            let (out, error) = frames(reads);
            assert_eq!(error, None);
            out.into_iter().filter(|frame| *frame != Frame::Pong).collect::<Vec<_>>()
        };
        let whole = pings_and_messages(&[stream]);
        for first in 0..=stream.len() {
            for second in (first..=stream.len()).step_by(7) {
                let reads = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(pings_and_messages(&reads), whole, "{first} {second}");
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(pings_and_messages(&bytes), whole);
    }

    #[test]
    fn a_lone_crlf_is_a_pong_at_once_and_its_other_half_makes_a_ping() {
        assert_eq!(frames(&[b"\r\n"]).0, [Frame::Pong]);
        assert_eq!(frames(&[b"\r\n", b"\r\n"]).0, [Frame::Pong, Frame::Ping]);
        assert_eq!(frames(&[b"\r\n\r", b"\n"]).0, [Frame::Pong, Frame::Ping]);
        assert_eq!(frames(&[b"\r", b"\n\r\n"]).0, [Frame::Ping]);
        assert_eq!(frames(&[b"\r\n", A.as_bytes(), b"\r\n"]).0, [Frame::Pong, message(A), Frame::Pong]);
    }

    #[test]
    fn a_folded_content_length_counts_and_what_looks_like_one_in_a_fold_does_not() {
        for head in [
            "l:\r\n 5",
            "Content-Length: \r\n\t 5 ",
            "X: y\r\n Content-Length: 0\r\nl: 5",
            "l: 5\r\nX: y\r\n l: 0",
            "Content-Type: y\r\n l: 0\r\nl: 5",
        ] {
            let text = format!("OPTIONS sip:a SIP/2.0\r\n{head}\r\n\r\nhello");
            let (out, error) = frames(&[text.as_bytes(), B.as_bytes()]);
            assert_eq!((out, error), (vec![message(&text), message(B)], None), "{head}");
            let sent = super::super::Message::scan(Bytes::from(text)).expect("scan");
            assert_eq!((sent.body(), sent.check(crate::flow::Transport::Tcp).is_ok()), (&b"hello"[..], false));
            assert!(memchr::memmem::find(sent.bytes(), b"\r\n ").is_none(), "{head}");
            assert_eq!(frames(&[sent.bytes(), B.as_bytes()]).0, [Frame::Message(sent.bytes().clone()), message(B)]);
        }
    }

    #[test]
    fn errors_carry_the_header_block_and_an_answer() {
        for (text, reason) in [
            ("OPTIONS sip:a SIP/2.0\r\nX: y\r\n\r\n", "no_content_length"),
            ("OPTIONS sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 1\r\n\r\n", "bad_content_length"),
            ("OPTIONS sip:a SIP/2.0\r\nl: -1\r\n\r\n", "bad_content_length"),
            ("OPTIONS sip:a SIP/2.0\r\nl: 1\r\n 2\r\n\r\n", "bad_content_length"),
            ("OPTIONS sip:a SIP/2.0\r\nl: 65535\r\n\r\n", "message_too_large"),
            ("OPTIONS sip:a SIP/2.0\r\nl: 99999999999999999999999\r\n\r\n", "message_too_large"),
            ("OPTIONS sip:a SIP/2.0\r\nX: y\nl: 0\r\n\r\n", "bad_header"),
            ("OPTIONS sip:a SIP/2.0\r\nX: y\rl: 0\r\n\r\n", "bad_header"),
            ("OPTIONS sip:a SIP/2.0\r\nContent-Length 0\r\n\r\n", "bad_header"),
        ] {
            let (out, error) = frames(&[text.as_bytes(), b"rest"]);
            let error = error.expect(text);
            assert_eq!((out.len(), error.reason()), (0, reason), "{text}");
            assert!(error.answer().is_some());
            assert_eq!(error.into_bytes(), text.as_bytes());
        }
        assert_eq!(frames(&[b"\x16\x03\x01"]).1.expect("tls").reason(), "not_sip");
        assert_eq!(frames(&[b"\r\n\rX"]).1.expect("bare cr").reason(), "not_sip");
    }

    #[test]
    fn an_endless_header_block_ends_at_the_limit() {
        let mut framer = Framer::new(1000);
        let mut error = None;
        for _ in 0..200 {
            framer.buffer().extend_from_slice(b"X: yyyy\r\n");
            match framer.next() {
                Ok(frame) => assert_eq!(frame, None),
                Err(found) => {
                    error = Some(found);
                    break;
                }
            }
        }
        let error = error.expect("limit");
        assert_eq!(error.reason(), "header_too_large");
        assert!(error.into_bytes().len() <= 1009);
    }
}
