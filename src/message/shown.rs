//! What of a message may stand in a log: untrusted text in one line and of bounded length, and no secrets.

use std::fmt::{self, Write as _};

/// Characters of one value that are shown.
const MOST: usize = 128;

/// Headers whose values prove who somebody is, or help to find it out: hidden at every level (RFC 3261 §20.7, §20.27,
/// §20.28, §20.44, RFC 7616 §3.5).
const SECRET: [&str; 6] = [
    "authorization",
    "proxy-authorization",
    "www-authenticate",
    "proxy-authenticate",
    "authentication-info",
    "proxy-authentication-info",
];

const HIDDEN: &str = "(hidden)";

/// A value from a message, such as its Call-ID: control characters escaped, at most 128 characters, a URI's password
/// hidden.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A character has at most four bytes.
        let some = &self.0[..self.0.len().min(4 * MOST)];
        let text = String::from_utf8_lossy(some);
        let mut out = Bounded { f, left: MOST };
        without_passwords(&text, &mut out)?;
        let cut = some.len() < self.0.len() || out.left == 0 && text.chars().count() > MOST;
        if cut { f.write_char('…') } else { Ok(()) }
    }
}

/// A whole message for the level `trace`: its headers as they are, except for secrets; of the body only how long it is, because
/// SDP carries keys, and INFO what somebody typed.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a>(pub &'a [u8]);

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, body) = split(self.0);
        let text = String::from_utf8_lossy(head);
        let mut hiding = false;
        for line in text.split_inclusive(['\r', '\n']) {
            let folded = line.starts_with([' ', '\t']);
            // The second half of CR LF.
            let empty = line.trim_end_matches(['\r', '\n']).is_empty();
            if !folded && !empty {
                hiding = is_secret(line);
                if hiding {
                    f.write_str(&opening(line))?;
                    continue;
                }
            }
            if !hiding {
                without_passwords(line, f)?;
            } else if empty {
                f.write_str(line)?;
            }
        }
        if body > 0 { write!(f, "[{body} bytes of body]") } else { Ok(()) }
    }
}

/// The start line and headers, their blank line included, and the length of what comes after.
pub(super) fn split(message: &[u8]) -> (&[u8], usize) {
    let after = |mark: &[u8]| memchr::memmem::find(message, mark).map(|at| at + mark.len());
    let end = [after(b"\r\n\r\n"), after(b"\n\n"), after(b"\r\r")].into_iter().flatten().min().unwrap_or(message.len());
    (&message[..end], message.len() - end)
}

fn is_secret(line: &str) -> bool {
    let Some((name, _)) = line.split_once(':') else { return false };
    SECRET.iter().any(|secret| name.trim().eq_ignore_ascii_case(secret))
}

/// `Authorization: Digest (hidden)`, with the line end it had.
fn opening(line: &str) -> String {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let word = value.split_whitespace().next().unwrap_or_default();
    let scheme = if word.bytes().all(|b| b.is_ascii_alphabetic()) { word } else { "" };
    let end = &line[line.trim_end_matches(['\r', '\n']).len()..];
    format!("{name}: {scheme}{}{HIDDEN}{end}", if scheme.is_empty() { "" } else { " " })
}

/// `sip:alice:secret@host` → `sip:alice:(hidden)@host` (RFC 3261 §19.1.1 advises against what some still do).
fn without_passwords(text: &str, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = scheme_end(rest) {
        out.write_str(&rest[..at])?;
        rest = &rest[at..];
        // What ends the user part ends every `sip:` inside it, too: nothing is searched twice.
        let Some(end) = rest.find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '@')) else { break };
        match rest[..end].find(':').filter(|_| rest[end..].starts_with('@')) {
            Some(colon) => {
                out.write_str(&rest[..=colon])?;
                out.write_str(HIDDEN)?;
            }
            None => out.write_str(&rest[..end])?,
        }
        rest = &rest[end..];
    }
    out.write_str(rest)
}

/// Where the first `sip:` or `sips:` ends.
fn scheme_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b':', bytes).map(|colon| colon + 1).find(|end| {
        let before = &bytes[..end - 1];
        let ends = |scheme: &[u8]| {
            before.len() >= scheme.len() && before[before.len() - scheme.len()..].eq_ignore_ascii_case(scheme)
        };
        ends(b"sip") || ends(b"sips")
    })
}

/// Control characters escaped, and no more than `left` characters.
struct Bounded<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    left: usize,
}

impl fmt::Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.left == 0 {
                return Ok(());
            }
            self.left -= 1;
            if c.is_control() {
                write!(self.f, "{}", c.escape_default())?;
            } else {
                self.f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_is_one_bounded_line() {
        assert_eq!(Shown(b"a84b4c76e66710@pc33.atlanta.example").to_string(), "a84b4c76e66710@pc33.atlanta.example");
        let forged = Shown(b"x\r\n2026-01-01 ERROR all is lost\x1b[31m\x00\xff").to_string();
        assert_eq!(forged, "x\\r\\n2026-01-01 ERROR all is lost\\u{1b}[31m\\u{0}\u{fffd}");
        for (length, cut) in [(127, false), (128, false), (129, true), (100_000, true)] {
            let shown = Shown(&vec![b'a'; length]).to_string();
            assert_eq!((shown.ends_with('…'), shown.chars().count()), (cut, length.min(128) + usize::from(cut)));
        }
        assert_eq!(Shown(&"ü".repeat(200).into_bytes()).to_string(), format!("{}…", "ü".repeat(128)));
    }

    #[test]
    fn a_password_in_a_uri_is_hidden() {
        for (text, shown) in [
            ("sip:alice:secret@example.com:5060", "sip:alice:(hidden)@example.com:5060"),
            ("\"A\" <SIPS:alice:se:cr,et;x=y@example.com>;tag=1", "\"A\" <SIPS:alice:(hidden)@example.com>;tag=1"),
            ("sip:alice@example.com:5060;x=a@b", "sip:alice@example.com:5060;x=a@b"),
            ("<sip:example.com:5060>;tag=a@b", "<sip:example.com:5060>;tag=a@b"),
            ("sip:a:b@c, <sip:d:e@f>", "sip:a:(hidden)@c, <sip:d:(hidden)@f>"),
            ("tel:+123", "tel:+123"),
            ("sip:", "sip:"),
        ] {
            assert_eq!(Shown(text.as_bytes()).to_string(), shown);
        }
    }

    #[test]
    fn a_packet_shows_its_headers_and_no_credentials_and_no_body() {
        let packet = b"REGISTER sip:bob:topsecret@example.com SIP/2.0\r\n\
            Call-ID: 1\r\n\
            Authorization: Digest username=\"bob\", nonce=\"n0nce\",\r\n response=\"0123456789abcdef\"\r\n\
            proxy-AUTHORIZATION  :\r\n\tDigest response=\"fedcba\"\r\n\
            WWW-Authenticate:Digest nonce=\"n1nce\"\r\n\
            Authentication-Info: nextnonce=\"n2nce\"\r\n\
            Contact: <sip:bob@192.0.2.1>\r\n\
            Content-Length: 30\r\n\r\na=crypto:1 inline:k3yk3yk3y...";
        let shown = Packet(packet).to_string();
        for secret in ["topsecret", "n0nce", "0123456789abcdef", "fedcba", "n1nce", "n2nce", "k3y"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        for part in [
            "REGISTER sip:bob:(hidden)@example.com SIP/2.0\r\nCall-ID: 1\r\nAuthorization: Digest (hidden)\r\n",
            "proxy-AUTHORIZATION  : (hidden)\r\n",
            "WWW-Authenticate: Digest (hidden)\r\n",
            "Authentication-Info: (hidden)\r\n",
            "Contact: <sip:bob@192.0.2.1>\r\nContent-Length: 30\r\n\r\n[30 bytes of body]",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    #[test]
    fn a_packet_with_other_line_ends_hides_as_well() {
        for end in ["\n", "\r"] {
            let packet = format!(
                "OPTIONS sip:a SIP/2.0{end}Authorization: Digest response=1{end} response=2{end}X: y{end}{end}secret"
            );
            let shown = Packet(packet.as_bytes()).to_string();
            assert!(!shown.contains("response") && !shown.contains("secret") && shown.contains("X: y"), "{shown:?}");
        }
    }
}
