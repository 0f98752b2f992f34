//! One Via element (RFC 3261 §20.42, §25.1): `SIP/2.0/UDP host:port;branch=…`, white space nearly anywhere.

use super::list::{Param, Params};
use super::uri::end_of_host;
use super::{Span, is_lws, is_token, number};

/// A Via element, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// The whole element, trimmed.
    pub whole: Span,
    /// Protocol name and version as written, `SIP/2.0` with any white space. See [`Via::is_sip2`].
    pub protocol: Span,
    /// The transport as written.
    pub transport: Span,
    /// The sent-by host, an IPv6 address with its brackets.
    pub host: Span,
    /// The sent-by port, where one is given.
    pub port: Option<u16>,
    /// From the first `;`; may be empty.
    pub params: Span,
    /// The value of `branch`; `None` without one, or with an empty one.
    pub branch: Option<Span>,
    /// `received`, RFC 3261 §18.2.1.
    pub received: Option<Param>,
    /// `rport`, RFC 3581, with or without value.
    pub rport: Option<Param>,
    /// A parameter's name or value is one that two parsers could read in two ways.
    pub(super) odd: bool,
}

impl Via {
    /// Takes the element in `span` apart. `None` where it has no protocol, transport or sent-by, or a port that is none.
    /// Any protocol version is taken: a request of a later version is still answered (505).
    #[must_use]
    pub fn parse(buf: &[u8], span: Span) -> Option<Via> {
        let whole = span.trim(buf);
        let end = whole.to();
        let (name, at) = token(buf, whole.at(), end)?;
        let at = slash(buf, at, end)?;
        let (version, at) = token(buf, at, end)?;
        let at = slash(buf, at, end)?;
        let (transport, at) = token(buf, at, end)?;
        if !buf.get(at).is_some_and(|b| is_lws(*b)) {
            return None;
        }
        let start = skip(buf, at, end);
        let host_end = end_of_host(buf, start, end)?;
        let (port, at) = port(buf, skip(buf, host_end, end), end)?;
        let params = Span::new(at, end);
        if !params.is_empty() && buf[at] != b';' {
            return None;
        }
        let mut via = Via {
            whole,
            protocol: Span { start: name.start, end: version.end },
            transport,
            host: Span::new(start, host_end),
            port,
            params,
            branch: None,
            received: None,
            rport: None,
            odd: false,
        };
        for param in Params::new(buf, params) {
            via.note(buf, param);
        }
        Some(via)
    }

    fn note(&mut self, buf: &[u8], param: Param) {
        let name = param.name.of(buf);
        self.odd |= param.is_odd(buf);
        if self.branch.is_none() && name.eq_ignore_ascii_case(b"branch") {
            self.branch = param.value.filter(|value| !value.is_empty());
        } else if self.received.is_none() && name.eq_ignore_ascii_case(b"received") {
            self.received = Some(param);
        } else if self.rport.is_none() && name.eq_ignore_ascii_case(b"rport") {
            self.rport = Some(param);
        }
    }

    /// True for `SIP/2.0`, in any case, with any white space around the slash.
    #[must_use]
    pub fn is_sip2(&self, buf: &[u8]) -> bool {
        let protocol = self.protocol.of(buf);
        if protocol == b"SIP/2.0" {
            return true;
        }
        let mut wanted = b"sip/2.0".iter();
        protocol.iter().filter(|b| !is_lws(**b)).all(|b| wanted.next() == Some(&b.to_ascii_lowercase()))
            && wanted.next().is_none()
    }

    /// The port to answer to: the sent-by port, or 5060 (5061 for TLS).
    #[must_use]
    pub fn port_or_default(&self, buf: &[u8]) -> u16 {
        self.port.unwrap_or(if self.transport.of(buf).eq_ignore_ascii_case(b"TLS") { 5061 } else { 5060 })
    }
}

fn skip(buf: &[u8], mut at: usize, end: usize) -> usize {
    while at < end && is_lws(buf[at]) {
        at += 1;
    }
    at
}

fn token(buf: &[u8], at: usize, end: usize) -> Option<(Span, usize)> {
    let mut to = at;
    while to < end && is_token(buf[to]) {
        to += 1;
    }
    (to > at).then(|| (Span::new(at, to), to))
}

fn slash(buf: &[u8], at: usize, end: usize) -> Option<usize> {
    let at = skip(buf, at, end);
    (at < end && buf[at] == b'/').then(|| skip(buf, at + 1, end))
}

/// `[":" port]` at `at`: the port and the offset of what follows, white space skipped.
fn port(buf: &[u8], at: usize, end: usize) -> Option<(Option<u16>, usize)> {
    if at >= end || buf[at] != b':' {
        return Some((None, at));
    }
    let from = skip(buf, at + 1, end);
    let mut to = from;
    while to < end && buf[to].is_ascii_digit() {
        to += 1;
    }
    let port = u16::try_from(number(&buf[from..to])?).ok()?;
    Some((Some(port), skip(buf, to, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Option<Via> {
        Via::parse(text.as_bytes(), Span::new(0, text.len()))
    }

    fn text(span: Span, of: &str) -> &str {
        &of[span.at()..span.to()]
    }

    #[test]
    fn plain() {
        let s = "SIP/2.0/UDP 192.0.2.1:5062;rport;branch=z9hG4bK77;Received=10.0.0.1";
        let v = via(s).expect("via");
        assert_eq!((text(v.transport, s), text(v.host, s), v.port), ("UDP", "192.0.2.1", Some(5062)));
        assert_eq!(v.branch.map(|b| text(b, s)), Some("z9hG4bK77"));
        assert!(v.rport.is_some_and(|p| p.value.is_none()));
        assert_eq!(v.received.and_then(|p| p.value).map(|r| text(r, s)), Some("10.0.0.1"));
        assert!(v.is_sip2(s.as_bytes()));
    }

    #[test]
    fn white_space_and_folding_nearly_anywhere() {
        let s = "SIP  /   2.0\r\n /UDP\r\n    [2001:db8::9]  :  5070 ;  branch = \r\n a ";
        let v = via(s).expect("via");
        assert_eq!((text(v.transport, s), text(v.host, s), v.port), ("UDP", "[2001:db8::9]", Some(5070)));
        assert_eq!(v.branch.map(|b| text(b, s)), Some("a"));
        assert!(v.is_sip2(s.as_bytes()));
        assert!(
            via("sip/2.0/tls h")
                .is_some_and(|v| v.is_sip2(b"sip/2.0/tls h") && v.port_or_default(b"sip/2.0/tls h") == 5061)
        );
    }

    #[test]
    fn other_versions_parse_but_are_told_apart() {
        for s in ["SIP/7.0/UDP h", "HTTP/2.0/UDP h", "SIP/2.00/UDP h", "SIP/2/UDP h"] {
            assert!(!via(s).expect(s).is_sip2(s.as_bytes()), "{s}");
        }
    }

    #[test]
    fn what_is_no_via() {
        for s in [
            "",
            ";",
            "SIP/2.0 h",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0/UDP ;branch=x",
            "SIP/2.0/UDP h:99999",
            "SIP/2.0/UDP h:",
            "SIP/2.0/UDP h i",
        ] {
            assert!(via(s).is_none(), "{s}");
        }
    }
}
