//! Request lines and status lines (RFC 3261 §7.1, §7.2).

use super::block::Line;
use super::fault::Fault;
use super::{Method, ScanError, Span, is_token, number};

/// The start line, taken apart.
pub(crate) struct StartLine {
    pub(crate) request: bool,
    pub(crate) method: Method,
    pub(crate) method_span: Span,
    pub(crate) uri: Span,
    pub(crate) status: u16,
    pub(crate) reason: Span,
    pub(crate) end: usize,
    pub(crate) fault: Option<Fault>,
}

impl StartLine {
    pub(crate) fn parse(buf: &[u8]) -> Result<StartLine, ScanError> {
        let line = Line::find(buf, 0).ok_or(ScanError::NotSip)?;
        let text = line.text.of(buf);
        if text.len() >= 4 && text[..4].eq_ignore_ascii_case(b"SIP/") {
            StartLine::status(&line, text)
        } else {
            StartLine::request(&line, text)
        }
    }

    /// `SIP/2.0 SP 3DIGIT SP reason` (RFC 3261 §7.2). The space before an empty reason phrase may be missing.
    fn status(line: &Line, text: &[u8]) -> Result<StartLine, ScanError> {
        let code = text.get(8..11).unwrap_or_default();
        let version = text[..8.min(text.len())].eq_ignore_ascii_case(b"SIP/2.0 ");
        let status = number(code).filter(|code| (100..700).contains(code));
        let ends = text.get(11).is_none_or(|b| *b == b' ');
        match status {
            Some(status) if version && ends => Ok(StartLine {
                request: false,
                method: Method::Other,
                method_span: Span::default(),
                uri: Span::default(),
                status: status as u16,
                reason: Span::new(12.min(text.len()), text.len()),
                end: line.next,
                fault: line.fault,
            }),
            _ => Err(ScanError::BadStatusLine),
        }
    }

    /// `Method SP Request-URI SP SIP/2.0` (RFC 3261 §7.1), exactly: where an element is lenient here, the RFC has it repair the
    /// line before it forwards (RFC 4475 §3.1.2.7 ff.), and Holdline does not guess.
    fn request(line: &Line, text: &[u8]) -> Result<StartLine, ScanError> {
        let method_len = text.iter().take_while(|b| is_token(**b)).count();
        let kept = text.len() - text.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let last = memchr::memrchr2(b' ', b'\t', &text[..kept]).ok_or(ScanError::NotSip)?;
        let version = &text[last + 1..kept];
        let is_sip = version.len() > 4 && version[..4].eq_ignore_ascii_case(b"SIP/");
        if method_len == 0 || method_len > last || !is_sip {
            return Err(ScanError::NotSip);
        }
        let uri = Span::new(method_len + 1, last);
        let well_formed = text[method_len] == b' '
            && text[last] == b' '
            && kept == text.len()
            && !uri.is_empty()
            && uri.of(text).iter().all(|b| is_uri(*b));
        let fault = if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            Some(Fault::Version)
        } else if !well_formed {
            Some(Fault::RequestLine)
        } else {
            line.fault
        };
        Ok(StartLine {
            request: true,
            method: Method::of(&text[..method_len]),
            method_span: Span::new(0, method_len),
            uri,
            status: 0,
            reason: Span::default(),
            end: line.next,
            fault,
        })
    }
}

/// Anything visible but what delimits a URI from outside; bytes over 127 pass.
fn is_uri(byte: u8) -> bool {
    byte > b' ' && !matches!(byte, b'<' | b'>' | b'"' | 0x7f)
}
