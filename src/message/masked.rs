//! A message whose secrets are overwritten, for traces and captures: every length stays, so that Content-Length and every parser
//! still fit.
//!
//! Overwritten are the answers of Digest (RFC 7616: `response`, `rspauth`), other schemes' credentials as a whole, passwords in
//! URIs, the keys of media encryption (RFC 4568 `a=crypto`, RFC 4567 `a=key-mgmt`, RFC 4566 `k=`), and digits that an INFO carries.

use super::shown::split;

const MASK: u8 = b'x';

/// Headers with credentials, and whether a scheme stands in front of the parameters.
const CREDENTIALS: [(&[u8], bool); 4] = [
    (b"authorization", true),
    (b"proxy-authorization", true),
    (b"authentication-info", false),
    (b"proxy-authentication-info", false),
];

/// The Digest parameters that are worth an attack on the password.
const ANSWERS: [&[u8]; 2] = [b"response", b"rspauth"];

/// The same message with its secrets overwritten, of the same length. Any bytes are taken, SIP or not.
#[must_use]
pub fn masked(message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let body = bytes.len() - split(message).1;
    let (head, body) = bytes.split_at_mut(body);
    let mut digits = false;
    for (start, end) in logical_lines(head) {
        let line = &mut head[start..end];
        passwords(line);
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = line.split_at_mut(colon + 1);
        let name = name[..colon].trim_ascii().to_ascii_lowercase();
        if let Some((_, scheme)) = CREDENTIALS.iter().find(|(secret, _)| *secret == name) {
            credentials(value, *scheme);
        }
        digits |= (name == b"content-type" || name == b"c") && contains(value, b"dtmf");
    }
    for (start, end) in lines(body) {
        let line = &mut body[start..end];
        if digits {
            mask(line);
        } else {
            keys(line);
        }
    }
    bytes
}

/// Start and end of each line, without its line end.
fn lines(text: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut start) = (Vec::new(), 0);
    for (at, byte) in text.iter().enumerate() {
        if matches!(byte, b'\r' | b'\n') {
            if at > start {
                found.push((start, at));
            }
            start = at + 1;
        }
    }
    if start < text.len() {
        found.push((start, text.len()));
    }
    found
}

/// The same, with continuation lines as part of the line that they continue.
fn logical_lines(text: &[u8]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (start, end) in lines(text) {
        match found.last_mut() {
            Some(last) if matches!(text[start], b' ' | b'\t') => last.1 = end,
            _ => found.push((start, end)),
        }
    }
    found
}

fn mask(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        *byte = MASK;
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

/// `Digest username="a", response="…"`: the answers alone. Of a scheme that is not known, everything behind its name.
fn credentials(value: &mut [u8], scheme: bool) {
    let start = value.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(value.len());
    let word = value[start..].iter().position(|b| !b.is_ascii_alphanumeric()).map_or(value.len(), |end| start + end);
    if scheme && !value[start..word].eq_ignore_ascii_case(b"digest") {
        mask(&mut value[word..]);
        return;
    }
    let mut at = if scheme { word } else { start };
    while at < value.len() {
        let Some(equals) = value[at..].iter().position(|b| *b == b'=').map(|n| at + n) else { return };
        let name =
            value[at..equals].rsplit(|b| matches!(b, b',' | b' ' | b'\t' | b'\r' | b'\n')).find(|w| !w.is_empty());
        let secret = name.is_some_and(|name| ANSWERS.iter().any(|answer| name.eq_ignore_ascii_case(answer)));
        let from = value[equals + 1..].iter().position(|b| !b.is_ascii_whitespace());
        let from = from.map_or(value.len(), |n| equals + 1 + n);
        let (from, to, next) = if value.get(from) == Some(&b'"') {
            let to = end_of_quoted(value, from + 1);
            (from + 1, to, to + 1)
        } else {
            let end = value[from..].iter().position(|b| *b == b',' || b.is_ascii_whitespace());
            let to = end.map_or(value.len(), |n| from + n);
            (from, to, to)
        };
        if secret {
            mask(&mut value[from..to]);
        }
        at = next;
    }
}

/// Where the closing quote is, or the end.
fn end_of_quoted(value: &[u8], from: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in value.iter().enumerate().skip(from) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    value.len()
}

/// `sip:alice:secret@host`.
fn passwords(line: &mut [u8]) {
    let mut at = 0;
    while let Some(colon) = scheme_end(&line[at..]).map(|n| at + n) {
        let stop = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'<' | b'>' | b'"' | b'@');
        let Some(end) = line[colon..].iter().position(stop).map(|n| colon + n) else { return };
        let password = line[colon..end].iter().position(|b| *b == b':').map(|n| colon + n + 1);
        if let Some(password) = password.filter(|_| line[end] == b'@') {
            mask(&mut line[password..end]);
        }
        at = end;
    }
}

fn scheme_end(text: &[u8]) -> Option<usize> {
    let ends = [&b"sip:"[..], b"sips:"].map(|scheme| {
        let found = text.windows(scheme.len()).position(|part| part.eq_ignore_ascii_case(scheme));
        found.map(|at| at + scheme.len())
    });
    ends.into_iter().flatten().min()
}

/// A line of SDP.
fn keys(line: &mut [u8]) {
    let begins = |word: &[u8]| line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if begins(b"k=") {
        mask(&mut line[2..]);
    } else if begins(b"a=key-mgmt:") {
        mask(&mut line[11..]);
    } else if begins(b"a=crypto:") {
        let mut at = 0;
        let word = b"inline:";
        while let Some(found) = line[at..].windows(word.len()).position(|part| part.eq_ignore_ascii_case(word)) {
            let key = at + found + word.len();
            let end = line[key..].iter().position(|b| matches!(b, b'|' | b';' | b' ' | b'\t'));
            let end = end.map_or(line.len(), |n| key + n);
            mask(&mut line[key..end]);
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let masked = masked(text.as_bytes());
        assert_eq!(masked.len(), text.len());
        String::from_utf8(masked).unwrap()
    }

    #[test]
    fn digest_answers_go_and_what_helps_to_find_a_fault_stays() {
        let text = "REGISTER sip:pbx SIP/2.0\r\nFrom: <sip:a@pbx>\r\n\
            Authorization: Digest username=\"a\", realm=\"response=\\\"no\", nonce=\"n,1\",\r\n uri=\"sip:pbx\" , Response = \"00ff\",\r\n\
            \tqop=auth,cnonce=\"c\"\r\nproxy-authorization:digest response=abc,nc=1\r\n\
            Authentication-Info: rspauth=\"feed\", nextnonce=\"n2\"\r\n\r\n";
        let expected = text.replace("00ff", "xxxx").replace("abc", "xxx").replace("feed", "xxxx");
        assert_eq!(shown(text), expected);
        let open = "OPTIONS sip:h SIP/2.0\r\nAuthorization: Digest response=\"never ends, nc=1\r\n\r\n";
        assert_eq!(shown(open), open.replace("never ends, nc=1", "xxxxxxxxxxxxxxxx"));
    }

    #[test]
    fn other_schemes_and_passwords_in_uris_go_as_a_whole() {
        let text = "REGISTER sip:bob:topsecret@pbx SIP/2.0\nAuthorization: Basic Ym9i OnQ=\n\
            Contact: <sips:bob:pw@192.0.2.1>, <sip:192.0.2.1:5060>\n\n";
        let shown = shown(text);
        assert!(shown.contains("sip:bob:xxxxxxxxx@pbx") && shown.contains("Basicxxxxxxxxxx\n"), "{shown}");
        assert!(shown.contains("<sips:bob:xx@192.0.2.1>, <sip:192.0.2.1:5060>"), "{shown}");
    }

    #[test]
    fn keys_of_media_go_and_their_parameters_stay() {
        let text = "INVITE sip:b@pbx SIP/2.0\r\nContent-Type: multipart/mixed\r\n\r\n--x\r\nv=0\r\nk=base64:AAAA\r\n\
            a=key-mgmt:mikey AAAA\r\n\
            a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:Key1+/=|2^20|1:4;INLINE:Key2|2^20 FEC_ORDER=FEC_SRTP\r\na=rtpmap:0\r\n";
        let shown = shown(text);
        for gone in ["AAAA", "Key1", "Key2", "mikey"] {
            assert!(!shown.contains(gone), "{shown}");
        }
        for stays in ["inline:xxxxxxx|2^20|1:4;INLINE:xxxx|2^20 FEC_ORDER=FEC_SRTP", "k=xxxx", "a=rtpmap:0", "v=0"] {
            assert!(shown.contains(stays), "{stays}: {shown}");
        }
    }

    #[test]
    fn digits_that_somebody_typed_go() {
        let text = "INFO sip:b@pbx SIP/2.0\r\nContent-Type: application/dtmf-relay\r\nContent-Length: 24\r\n\r\nSignal=5\r\nDuration=160\r\n";
        assert!(!shown(text).contains('5') && shown(text).ends_with("xxxxxxxx\r\nxxxxxxxxxxxx\r\n"));
    }

    #[test]
    fn what_is_no_message_is_no_danger() {
        for odd in ["", "\r\n\r\n", ":", "sip:", "a=crypto:", "Authorization:", "Authorization: Digest =", "\r\r\rk="] {
            let _ = shown(odd);
        }
        assert_eq!(masked(&[0xff, 0, b':', 0xfe]), [0xff, 0, b':', 0xfe]);
    }
}
