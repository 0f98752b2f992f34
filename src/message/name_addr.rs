//! `name-addr` and `addr-spec` with parameters (RFC 3261 §20.10, §25.1): From, To, Contact, Route and their kin.

use super::Span;
use super::list::end_of_quoted;

/// An address with its display name and parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr {
    /// All of it, trimmed.
    pub whole: Span,
    /// The URI, without angle brackets.
    pub uri: Span,
    /// True where it stood in angle brackets.
    pub bracketed: bool,
    /// From the first `;` behind the URI; may be empty.
    pub params: Span,
}

impl NameAddr {
    /// Takes the element in `span` apart. `None` where there is no URI, a quote or bracket is not closed, or something other
    /// than parameters follows. A display name of anything but quotes and brackets is taken (phones send commas in it).
    #[must_use]
    pub fn parse(buf: &[u8], span: Span) -> Option<NameAddr> {
        let whole = span.trim(buf);
        let (from, end) = (whole.at(), whole.to());
        let mut at = from;
        if at < end && buf[at] == b'"' {
            at = end_of_quoted(buf, at, end)?;
        }
        let quoted = at > from;
        while at < end {
            match buf[at] {
                b'<' => return bracketed(buf, whole, at),
                b'"' => return None,
                b';' => break,
                _ => at += 1,
            }
        }
        // No bracket: an addr-spec. Every ';' belongs to the header field, not to the URI (RFC 3261 §20).
        let uri = Span::new(from, at).trim(buf);
        if quoted || uri.is_empty() || uri.of(buf).iter().any(|b| super::is_lws(*b) || *b == b'>') {
            return None;
        }
        Some(NameAddr { whole, uri, bracketed: false, params: Span::new(at, end) })
    }
}

fn bracketed(buf: &[u8], whole: Span, open: usize) -> Option<NameAddr> {
    let end = whole.to();
    let close = open + memchr::memchr(b'>', &buf[open..end])?;
    let uri = Span::new(open + 1, close).trim(buf);
    let params = Span::new(close + 1, end).trim(buf);
    if uri.is_empty() || params.of(buf).first().is_some_and(|b| *b != b';') {
        return None;
    }
    Some(NameAddr { whole, uri, bracketed: true, params })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(&str, bool, &str)> {
        let a = NameAddr::parse(text.as_bytes(), Span::new(0, text.len()))?;
        Some((&text[a.uri.at()..a.uri.to()], a.bracketed, &text[a.params.at()..a.params.to()]))
    }

    #[test]
    fn all_shapes() {
        assert_eq!(parse(" sip:a@b ;   tag  = 1 "), Some(("sip:a@b", false, ";   tag  = 1")));
        assert_eq!(parse("caller<sip:c@d>;tag=323"), Some(("sip:c@d", true, ";tag=323")));
        assert_eq!(parse(r#""J \"<;\\" <sip:a;b@c;x>"#), Some(("sip:a;b@c;x", true, "")));
        assert_eq!(parse("Bell, Alexander <sip:a@b>;tag=43"), Some(("sip:a@b", true, ";tag=43")));
        assert_eq!(parse("< sip:a@b >"), Some(("sip:a@b", true, "")));
        assert_eq!(parse("<sip:a@b>\r\n  ;\r\n  tag = x"), Some(("sip:a@b", true, ";\r\n  tag = x")));
        assert_eq!(parse("<tel:+1;ext=2>;q=1"), Some(("tel:+1;ext=2", true, ";q=1")));
    }

    #[test]
    fn what_is_none() {
        for bad in [
            "",
            "\"open <sip:a@b>",
            "<sip:a@b",
            "<>",
            "\"x\"",
            "\"x\" sip:a@b",
            "<sip:a@b> x",
            "a b",
            "x \"y\" <sip:a@b>",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
