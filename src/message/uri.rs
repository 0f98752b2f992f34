//! URIs (RFC 3261 §19.1, §25.1), as far as Holdline looks into them. Nothing is unescaped, nothing is changed.

use super::list::{Param, Params};
use super::{Span, number};

/// The scheme of a URI, as far as Holdline tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`, RFC 3966.
    Tel,
    /// Any other.
    Other,
}

/// A URI, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri {
    /// The scheme.
    pub scheme: Scheme,
    /// What stands before the `@`, with a password; for `tel:` the number. `None` without, and for other schemes.
    pub user: Option<Span>,
    /// The host, an IPv6 address with its brackets. Empty unless `sip:` or `sips:`.
    pub host: Span,
    /// The port, where one is given.
    pub port: Option<u16>,
    /// Its digits.
    pub port_span: Option<Span>,
    /// From the first `;` of the parameters; may be empty.
    pub params: Span,
    /// From the `?`; may be empty.
    pub headers: Span,
}

impl Uri {
    /// Takes the URI in `span` apart (without angle brackets around it). `None` where it has no scheme, or for `sip:` and
    /// `sips:` no host, or a port that is none.
    #[must_use]
    pub fn parse(buf: &[u8], span: Span) -> Option<Uri> {
        let bytes = span.of(buf);
        let colon = memchr::memchr(b':', bytes)?;
        let scheme = scheme_of(&bytes[..colon])?;
        let from = span.at() + colon + 1;
        let end = span.at() + bytes.len();
        match scheme {
            Scheme::Sip | Scheme::Sips => parse_sip(buf, scheme, from, end),
            Scheme::Tel => {
                let params = memchr::memchr(b';', &buf[from..end]).map_or(end, |n| from + n);
                Some(Uri {
                    scheme,
                    user: Some(Span::new(from, params)),
                    host: Span::empty(from),
                    port: None,
                    port_span: None,
                    params: Span::new(params, end),
                    headers: Span::empty(end),
                })
            }
            Scheme::Other => Some(Uri {
                scheme,
                user: None,
                host: Span::empty(from),
                port: None,
                port_span: None,
                params: Span::empty(end),
                headers: Span::empty(end),
            }),
        }
    }

    /// The first URI parameter of this name, in any case.
    #[must_use]
    pub fn param(&self, buf: &[u8], name: &[u8]) -> Option<Param> {
        Params::find(buf, self.params, name)
    }

    /// The user without its password (RFC 3261 §19.1.1).
    #[must_use]
    pub fn user_part<'b>(&self, buf: &'b [u8]) -> Option<&'b [u8]> {
        let user = self.user?.of(buf);
        Some(memchr::memchr(b':', user).map_or(user, |colon| &user[..colon]))
    }
}

fn scheme_of(bytes: &[u8]) -> Option<Scheme> {
    let valid = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !valid {
        return None;
    }
    Some(if bytes.eq_ignore_ascii_case(b"sip") {
        Scheme::Sip
    } else if bytes.eq_ignore_ascii_case(b"sips") {
        Scheme::Sips
    } else if bytes.eq_ignore_ascii_case(b"tel") {
        Scheme::Tel
    } else {
        Scheme::Other
    })
}

fn parse_sip(buf: &[u8], scheme: Scheme, from: usize, end: usize) -> Option<Uri> {
    // An '@' is escaped everywhere but at the end of the user part; ';', '?' and '/' may stand in the user part.
    let user = memchr::memchr(b'@', &buf[from..end]).map(|n| Span::new(from, from + n));
    let start = user.map_or(from, |user| user.to() + 1);
    let (host, port_span, port, after) = host_port(buf, start, end)?;
    let headers = memchr::memchr(b'?', &buf[after..end]).map_or(end, |n| after + n);
    let params = Span::new(after, headers);
    if !params.is_empty() && buf[after] != b';' {
        return None;
    }
    Some(Uri { scheme, user, host, port, port_span, params, headers: Span::new(headers, end) })
}

/// `host [":" port]` from `start`: the host, the port's digits and number, and the offset behind. No white space.
fn host_port(buf: &[u8], start: usize, end: usize) -> Option<(Span, Option<Span>, Option<u16>, usize)> {
    let host_end = end_of_host(buf, start, end)?;
    let host = Span::new(start, host_end);
    if buf[..end].get(host_end) != Some(&b':') {
        return Some((host, None, None, host_end));
    }
    let mut at = host_end + 1;
    while at < end && buf[at].is_ascii_digit() {
        at += 1;
    }
    let digits = Span::new(host_end + 1, at);
    let port = u16::try_from(number(digits.of(buf))?).ok()?;
    Some((host, Some(digits), Some(port), at))
}

/// The offset behind the host that starts at `start`: a bracketed IPv6 address, or letters, digits, `-`, `.`, `_`.
/// `None` if there is none.
pub(crate) fn end_of_host(buf: &[u8], start: usize, end: usize) -> Option<usize> {
    let bytes = buf.get(start..end)?;
    if bytes.first() == Some(&b'[') {
        let close = memchr::memchr(b']', bytes)?;
        let inside = &bytes[1..close];
        let valid = !inside.is_empty()
            && inside.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'%'))
            && memchr::memchr(b':', inside).is_some();
        return valid.then_some(start + close + 1);
    }
    // '_' is no host character, but it is seen in real names; a byte over 127 is somebody's raw IDN.
    let len = bytes.iter().position(|byte| !HOST[usize::from(*byte)]).unwrap_or(bytes.len());
    (len > 0).then_some(start + len)
}

/// Letters, digits, `-`, `.`, `_`, and all beyond ASCII.
const HOST: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    struct Parts<'a> {
        user: Option<&'a str>,
        host: &'a str,
        port: Option<u16>,
        params: &'a str,
        headers: &'a str,
    }

    fn parts(text: &str) -> Option<(Scheme, Parts<'_>)> {
        let buf = text.as_bytes();
        let uri = Uri::parse(buf, Span::new(0, buf.len()))?;
        let s = |span: Span| &text[span.at()..span.to()];
        Some((
            uri.scheme,
            Parts {
                user: uri.user.map(s),
                host: s(uri.host),
                port: uri.port,
                params: s(uri.params),
                headers: s(uri.headers),
            },
        ))
    }

    #[test]
    fn sip_uris_of_every_shape() {
        let (scheme, p) = parts("sip:user;par=u%40example.net@example.com").expect("semiuri");
        assert_eq!((scheme, p.user, p.host), (Scheme::Sip, Some("user;par=u%40example.net"), "example.com"));
        let (_, p) = parts("sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com").expect("intmeth");
        assert_eq!((p.host, p.params, p.headers), ("example.com", "", ""));
        let (scheme, p) = parts("SIPS:[2001:db8::1]:5061;transport=tls;lr?a=b").expect("v6");
        assert_eq!((scheme, p.user, p.host, p.port), (Scheme::Sips, None, "[2001:db8::1]", Some(5061)));
        assert_eq!((p.params, p.headers), (";transport=tls;lr", "?a=b"));
        let (_, p) = parts("sip:host?Route=%3Csip:x%3E").expect("headers");
        assert_eq!((p.host, p.headers), ("host", "?Route=%3Csip:x%3E"));
        let (scheme, p) = parts("tel:+1-201-555-0123;phone-context=x").expect("tel");
        assert_eq!((scheme, p.user, p.params), (Scheme::Tel, Some("+1-201-555-0123"), ";phone-context=x"));
        let (scheme, p) = parts("soap.beep://192.0.2.103:3002").expect("other");
        assert_eq!((scheme, p.host), (Scheme::Other, ""));
    }

    #[test]
    fn what_is_no_uri() {
        for bad in [
            "",
            "user@host",
            "sip:",
            "sip:@",
            "sip:user@",
            "sip:h:port",
            "sip:h:99999",
            "sip:[::1",
            "1a:b",
            "sip:h x",
            "*",
        ] {
            assert!(parts(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn parameters_and_the_user_without_password() {
        let buf = b"sip:alice:secret@h;Transport=TCP;lr";
        let uri = Uri::parse(buf, Span::new(0, buf.len())).expect("uri");
        assert_eq!(uri.user_part(buf), Some(&b"alice"[..]));
        assert_eq!(uri.param(buf, b"transport").and_then(|p| p.value).map(|v| v.of(buf)), Some(&b"TCP"[..]));
        assert!(uri.param(buf, b"lr").is_some_and(|p| p.value.is_none()));
    }
}
