//! Messages of the agents, built and read with `rsip`.
//!
//! What `rsip` refuses (compact and folded headers, unknown methods …) is read line by line instead, and the refusal is
//! kept in [`Message::refused`]: a test of plain traffic can ask that nobody found anything to refuse.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use rsip::headers::UntypedHeader;
use rsip::message::HasHeaders;

use crate::flow::Transport;

#[cfg(test)]
mod tests;

/// The first line of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A request line.
    Request {
        /// As received.
        method: String,
        /// As received.
        uri: String,
    },
    /// A status line.
    Response {
        /// 100 … 699.
        status: u16,
        /// As received.
        reason: String,
    },
}

/// One message as an agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Exactly what was received.
    pub raw: Bytes,
    /// The first line.
    pub start: Start,
    /// Full header names and their values, in order; compact names are written out.
    pub headers: Vec<(String, String)>,
    /// What follows the blank line.
    pub body: Bytes,
    /// Why `rsip` would not read it, if it would not.
    pub refused: Option<String>,
}

impl Message {
    /// Reads one whole message. `None` for what has no first line or no blank line.
    pub fn read(raw: &Bytes) -> Option<Message> {
        let (head, body) = split_head(raw)?;
        let text = String::from_utf8_lossy(head);
        let (first, lines) = text.split_once("\r\n").unwrap_or((&text, ""));
        let start = read_start(first)?;
        let (headers, refused) = match rsip::SipMessage::try_from(trim_start(raw)) {
            Ok(parsed) => (parsed.headers().iter().map(|h| split_line(&h.to_string())).collect(), None),
            Err(refusal) => (unfold(lines).iter().map(|line| split_line(line)).collect(), Some(refusal.to_string())),
        };
        Some(Message { body: raw.slice_ref(body), raw: raw.clone(), start, headers, refused })
    }

    /// True for a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// The method; for a response that of its CSeq.
    pub fn method(&self) -> &str {
        match &self.start {
            Start::Request { method, .. } => method,
            Start::Response { .. } => self.cseq().map_or("", |(_, method)| method),
        }
    }

    /// The status of a response, 0 for a request.
    pub fn status(&self) -> u16 {
        match self.start {
            Start::Request { .. } => 0,
            Start::Response { status, .. } => status,
        }
    }

    /// The Request-URI, empty for a response.
    pub fn uri(&self) -> &str {
        match &self.start {
            Start::Request { uri, .. } => uri,
            Start::Response { .. } => "",
        }
    }

    /// The first header of that name (any case, full name).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every element of a comma-separated header, over all its lines.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        lines.flat_map(|(_, value)| split_list(value)).collect()
    }

    /// True if one of the elements of a list of tokens (Supported, Require …) is this one.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name).iter().any(|t| t.eq_ignore_ascii_case(token))
    }

    /// Call-ID, or empty.
    pub fn call_id(&self) -> &str {
        self.header("Call-ID").unwrap_or("")
    }

    /// Number and method.
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.header("CSeq")?.split_once(char::is_whitespace)?;
        Some((number.parse().ok()?, method.trim()))
    }

    /// The top Via.
    pub fn via(&self) -> Option<Via<'_>> {
        Via::read(self.list("Via").first()?)
    }

    /// The top Via's branch, or empty.
    pub fn branch(&self) -> &str {
        self.via().and_then(|via| via.param("branch")).unwrap_or("")
    }

    /// Every Contact but `*`.
    pub fn contacts(&self) -> Vec<NameAddr> {
        self.list("Contact").into_iter().filter(|c| *c != "*").map(NameAddr::read).collect()
    }

    /// The Expires header.
    pub fn expires(&self) -> Option<u32> {
        self.header("Expires")?.trim().parse().ok()
    }

    /// The To header's address-of-record, see [`aor`].
    pub fn to_aor(&self) -> String {
        self.header("To").map(|to| aor(&NameAddr::read(to).uri)).unwrap_or_default()
    }
}

/// A Via element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// Host and perhaps port.
    pub sent_by: &'a str,
    params: &'a str,
}

impl<'a> Via<'a> {
    fn read(element: &'a str) -> Option<Via<'a>> {
        let (_protocol, rest) = element.trim().split_once(char::is_whitespace)?;
        let (sent_by, params) = rest.split_once(';').unwrap_or((rest, ""));
        Some(Via { sent_by: sent_by.trim(), params })
    }

    /// A parameter's value; empty for one without a value.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        params(self.params).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.unwrap_or(""))
    }

    /// The sent-by port.
    pub fn port(&self) -> Option<u16> {
        split_host_port(self.sent_by).1
    }

    /// The sent-by host, IPv6 without brackets.
    pub fn host(&self) -> &'a str {
        split_host_port(self.sent_by).0
    }
}

/// A name-addr or addr-spec with its header parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// Without angle brackets.
    pub uri: String,
    /// Name and value.
    pub params: Vec<(String, Option<String>)>,
}

impl NameAddr {
    /// Reads one element; text that is neither is taken for a URI.
    pub fn read(element: &str) -> NameAddr {
        let bare = || element.split_once(';').unwrap_or((element, ""));
        let (uri, rest) = match bracketed(element) {
            Some((open, close)) => (&element[open + 1..close], &element[close + 1..]),
            None => bare(),
        };
        let params = params(rest).map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
        NameAddr { uri: uri.trim().to_owned(), params }
    }

    /// A parameter's value; empty for one without a value.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_deref().unwrap_or(""))
    }
}

/// `user@host` in lower case for the host: what a registrar files bindings under.
pub fn aor(uri: &str) -> String {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.split([';', '?']).next().unwrap_or(rest);
    match rest.split_once('@') {
        Some((user, host)) => format!("{user}@{}", split_host_port(host).0.to_ascii_lowercase()),
        None => split_host_port(rest).0.to_ascii_lowercase(),
    }
}

/// The user part of a SIP URI, without a password.
pub fn user(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once(':')?;
    let (user, _) = rest.rsplit_once('@')?;
    user.split(':').next()
}

/// Where a URI with a numeric host says to send: RFC 3263 without DNS. `None` for a host name.
pub fn next_hop(uri: &str) -> Option<(Transport, SocketAddr)> {
    let (scheme, rest) = uri.split_once(':')?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let (host_port, uri_params) = rest.split_once(';').unwrap_or((rest, ""));
    let transport = params(uri_params).find(|(n, _)| n.eq_ignore_ascii_case("transport")).and_then(|(_, value)| value);
    let transport = match transport.map(str::to_ascii_lowercase).as_deref() {
        Some("tls") => Transport::Tls,
        _ if scheme.eq_ignore_ascii_case("sips") => Transport::Tls,
        Some("tcp") => Transport::Tcp,
        _ => Transport::Udp,
    };
    let (host, port) = split_host_port(host_port);
    let ip: IpAddr = host.parse().ok()?;
    Some((transport, SocketAddr::new(ip, port.unwrap_or(transport.default_port()))))
}

/// Builds a request. Content-Length is added.
pub fn request(method: &str, uri: &str, headers: &[(&str, String)], body: &[u8]) -> Bytes {
    let parsed = method.parse::<rsip::Method>().ok().zip(rsip::Uri::try_from(uri).ok());
    // rsip changes some URIs in writing them again (`transport=tcp` becomes upper case): those are left as they are.
    let head = match parsed {
        Some((known, parsed)) if known.to_string() == method && parsed.to_string() == uri => rsip::Request {
            method: known,
            uri: parsed,
            version: rsip::Version::V2,
            headers: rsip_headers(headers, body),
            body: Vec::new(),
        }
        .to_string(),
        _ => format!("{method} {uri} SIP/2.0\r\n{}\r\n", rsip_headers(headers, body)),
    };
    [head.as_bytes(), body].concat().into()
}

/// Builds a response to a request: Via (the first one is replaced by `top_via`), From, To with the tag if it has none,
/// Call-ID and CSeq are the request's (RFC 3261 §8.2.6.2). Content-Length is added.
pub fn response(to: &Message, top_via: &str, tag: &str, status: u16, headers: &[(&str, String)], body: &[u8]) -> Bytes {
    let mut all: Vec<(&str, String)> = Vec::new();
    for (index, via) in to.list("Via").into_iter().enumerate() {
        all.push(("Via", if index == 0 { top_via.to_owned() } else { via.to_owned() }));
    }
    for name in ["From", "To", "Call-ID", "CSeq"] {
        let Some(value) = to.header(name) else { continue };
        let untagged = name == "To" && status > 100 && NameAddr::read(value).param("tag").is_none();
        all.push((name, if untagged { format!("{value};tag={tag}") } else { value.to_owned() }));
    }
    all.extend(headers.iter().cloned());
    let head = rsip::Response {
        version: rsip::Version::V2,
        status_code: rsip::StatusCode::Other(status, phrase(status).to_owned()),
        headers: rsip_headers(&all, body),
        body: Vec::new(),
    };
    [head.to_string().as_bytes(), body].concat().into()
}

/// Random lower-case hexadecimal digits, two for each of `bytes`, for tags, branches and nonces.
pub fn random_token(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    SystemRandom::new().fill(&mut random).expect("the operating system has random numbers");
    hex(&random)
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|n| char::from_digit(n.into(), 16)).collect()
}

/// Splits a header value at the commas that are neither in quotes nor in angle brackets.
pub fn split_list(value: &str) -> Vec<&str> {
    let (mut quoted, mut escaped, mut depth, mut from) = (false, false, 0_u32, 0);
    let mut elements = Vec::new();
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => depth += 1,
            '>' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                elements.push(value[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    elements.push(value[from..].trim());
    elements.retain(|e| !e.is_empty());
    elements
}

fn rsip_headers(headers: &[(&str, String)], body: &[u8]) -> rsip::Headers {
    let header = |(name, value): &(&str, String)| rsip::Header::Other((*name).to_owned(), value.clone());
    let mut all: Vec<rsip::Header> = headers.iter().map(header).collect();
    all.push(rsip::headers::ContentLength::new(body.len().to_string()).into());
    all.into()
}

fn read_start(line: &str) -> Option<Start> {
    if let Some(rest) = line.strip_prefix("SIP/2.0 ") {
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        return Some(Start::Response { status: status.parse().ok()?, reason: reason.to_owned() });
    }
    let (method, rest) = line.split_once(' ')?;
    let (uri, _version) = rest.rsplit_once(' ')?;
    Some(Start::Request { method: method.to_owned(), uri: uri.trim().to_owned() })
}

/// Everything before the blank line, without leading line ends, and everything after it.
fn split_head(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let message = trim_start(raw);
    let end = message.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some((&message[..end], &message[end + 4..]))
}

fn trim_start(raw: &[u8]) -> &[u8] {
    let from = raw.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(raw.len());
    &raw[from..]
}

fn unfold(lines: &str) -> Vec<String> {
    let mut unfolded: Vec<String> = Vec::new();
    for line in lines.split("\r\n").filter(|line| !line.is_empty()) {
        match unfolded.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => unfolded.push(line.to_owned()),
        }
    }
    unfolded
}

fn split_line(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (full_name(name.trim()).to_owned(), value.trim().to_owned())
}

/// RFC 3261 §20 and its extensions: compact header names.
fn full_name(name: &str) -> &str {
    match name.to_ascii_lowercase().as_str() {
        "c" => "Content-Type",
        "e" => "Content-Encoding",
        "f" => "From",
        "i" => "Call-ID",
        "k" => "Supported",
        "l" => "Content-Length",
        "m" => "Contact",
        "o" => "Event",
        "r" => "Refer-To",
        "s" => "Subject",
        "t" => "To",
        "u" => "Allow-Events",
        "v" => "Via",
        _ => name,
    }
}

/// Positions of the angle brackets round a URI, those in a quoted display name left out.
fn bracketed(element: &str) -> Option<(usize, usize)> {
    let from = if element.trim_start().starts_with('"') {
        let first = element.find('"')? + 1;
        let inner = element.as_bytes().get(first..)?;
        let mut escaped = false;
        let close = inner.iter().position(|b| {
            let end = *b == b'"' && !escaped;
            escaped = *b == b'\\' && !escaped;
            end
        })?;
        first + close + 1
    } else {
        0
    };
    let open = from + element[from..].find('<')?;
    Some((open, open + element[open..].find('>')?))
}

/// `;name=value` pairs; quotes round a value are taken off.
fn params(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split(';').map(str::trim).filter(|p| !p.is_empty()).map(|p| match p.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
        None => (p, None),
    })
}

fn split_host_port(text: &str) -> (&str, Option<u16>) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        return (host, rest.strip_prefix(':').and_then(|p| p.trim().parse().ok()));
    }
    match text.split_once(':') {
        Some((host, port)) => (host.trim(), port.trim().parse().ok()),
        None => (text.trim(), None),
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        200 => "OK",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        420 => "Bad Extension",
        423 => "Interval Too Brief",
        439 => "First Hop Lacks Outbound Support",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "As The Script Says",
    }
}
