//! What a hop may change in a message, undone line by line: what remains must be the bytes that were sent.
//!
//! Written against RFC 3261 §16.6 and the design, not against the proxy: it shares no code with `src/message`.

use std::net::SocketAddr;

use crate::message_mutations::{Pieces, name_of};

/// What is known about the hop that a message took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hop<'a> {
    /// Where the sender's packets come from.
    pub source: SocketAddr,
    /// What our own Via must begin with: `SIP/2.0/UDP 192.0.2.1:5080`.
    pub via: &'a str,
    /// What our own Contacts end with: `@192.0.2.1:5080;transport=udp`.
    pub contact: &'a str,
    /// Hosts that mean us in a Route.
    pub ours: &'a [&'a str],
    /// What the two Record-Routes of a request that begins a dialog say behind the mark: where upstream reaches us, where
    /// phones do.
    pub record: &'a str,
}

/// What of the received bytes goes on: the message, without line ends before it and bytes beyond Content-Length, each fold a
/// space.
pub(super) fn proper(raw: &[u8]) -> Vec<u8> {
    let whole = whole(raw);
    if whole.windows(4).any(|four| four == b"\r\n\r\n") { Pieces::of(&whole).unfolded().join() } else { whole }
}

/// What of the received bytes is the message, folds as they came.
pub(super) fn whole(raw: &[u8]) -> Vec<u8> {
    let skip = raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let raw = &raw[skip..];
    let Some(head) = raw.windows(4).position(|four| four == b"\r\n\r\n") else { return raw.to_vec() };
    let pieces = Pieces::of(raw);
    let length = pieces.headers.iter().find(|line| name_of(line) == "content-length").and_then(|line| {
        let value = &line[line.iter().position(|byte| *byte == b':')? + 1..];
        trim(&String::from_utf8_lossy(value)).parse::<usize>().ok()
    });
    let end = length.map_or(raw.len(), |length| (head + 4 + length).min(raw.len()));
    raw[..end].to_vec()
}

/// `Err` says in which line a request that was forwarded differs from what was sent where it must not.
pub(super) fn forwarded(sent: &[u8], arrived: &[u8], hop: &Hop<'_>) -> Result<(), String> {
    let sent = proper(sent);
    let (a, b) = (Pieces::of(&sent), Pieces::of(arrived));
    same("start line", &a.start, &b.start)?;
    same("body", &a.body, &b.body)?;
    if arrived.len() > sent.len() + 250 {
        return Err(format!("grew by {} bytes", arrived.len() - sent.len()));
    }
    let register = a.start.starts_with(b"REGISTER ");
    let hops = a.headers.iter().any(|line| name_of(line) == "max-forwards");
    let popped = popped_routes(&a, hop);
    let mut lines = b.headers.iter().peekable();
    let (mut vias, mut routes) = (0, 0);
    for line in &a.headers {
        let name = name_of(line);
        match name.as_str() {
            "via" => {
                vias += 1;
                if vias == 1 {
                    own_via(lines.next(), hop)?;
                    stamped(line, next(&mut lines, line)?, hop)?;
                } else {
                    same("Via below", line, next(&mut lines, line)?)?;
                }
                if vias == count(&a, "via") {
                    added(&a, hops, hop, &mut lines)?;
                }
            }
            "max-forwards" => one_less(line, next(&mut lines, line)?)?,
            "route" => {
                let elements = elements(line).len();
                let gone = popped.saturating_sub(routes).min(elements);
                routes += elements;
                if gone < elements {
                    less_routes(line, gone, next(&mut lines, line)?)?;
                }
            }
            "contact" if register => contacts(line, next(&mut lines, line)?, hop)?,
            "supported" | "require" if register => {
                let (left, had) = without_outbound(line);
                if !had {
                    same("header", line, next(&mut lines, line)?)?;
                } else if !left.is_empty() {
                    same("options", &left, &tokens(next(&mut lines, line)?))?;
                }
            }
            _ => same("header", line, next(&mut lines, line)?)?,
        }
    }
    if !hop.via.starts_with("SIP/2.0/UDP") && count(&a, "content-length") == 0 {
        // On a stream nobody could tell where it ends.
        let length = format!("Content-Length: {}", a.body.len());
        same("length", length.as_bytes(), lines.next().ok_or("no Content-Length was added")?)?;
    }
    match lines.next() {
        None => Ok(()),
        Some(more) => Err(format!("a line too many: {}", show(more))),
    }
}

/// `Err` says where a response that was relayed differs from what came, but for our Via on top (and, in a REGISTER's 2xx,
/// the Contacts).
pub(super) fn relayed(came: &[u8], arrived: &[u8]) -> Result<(), String> {
    let (a, b) = (Pieces::of(&proper(came)), Pieces::of(arrived));
    same("start line", &a.start, &b.start)?;
    same("body", &a.body, &b.body)?;
    let mut left = a.headers.clone();
    let at = left.iter().position(|line| name_of(line) == "via").ok_or("no Via in the response")?;
    left.remove(at);
    for (index, line) in left.iter().enumerate() {
        same("header", line, b.headers.get(index).ok_or(format!("lost: {}", show(line)))?)?;
    }
    if b.headers.len() == left.len() { Ok(()) } else { Err("a line too many".to_owned()) }
}

fn next<'a>(lines: &mut impl Iterator<Item = &'a Vec<u8>>, wanted: &[u8]) -> Result<&'a Vec<u8>, String> {
    lines.next().ok_or_else(|| format!("lost: {}", show(wanted)))
}

fn count(pieces: &Pieces, name: &str) -> usize {
    pieces.headers.iter().filter(|line| name_of(line) == name).count()
}

fn same(what: &str, a: &[u8], b: &[u8]) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("{what}: sent {} arrived {}", show(a), show(b))) }
}

fn show(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

/// What may stand behind the last Via: Max-Forwards, where there was none, and our Record-Routes on what begins a dialog.
fn added<'a>(
    sent: &Pieces,
    hops: bool,
    hop: &Hop<'_>,
    lines: &mut std::iter::Peekable<impl Iterator<Item = &'a Vec<u8>>>,
) -> Result<(), String> {
    let mut hops = hops;
    let methods = [&b"INVITE "[..], b"SUBSCRIBE ", b"REFER ", b"NOTIFY "];
    let mut dialog = methods.iter().any(|method| sent.start.starts_with(method)) && !has_to_tag(sent);
    while let Some(line) = lines.peek() {
        if !hops && line.as_slice() == b"Max-Forwards: 70" {
            hops = true;
        } else if dialog && is_record_route(line, hop) {
            dialog = false;
        } else {
            break;
        }
        lines.next();
    }
    if hops { Ok(()) } else { Err("Max-Forwards was not added".to_owned()) }
}

fn is_record_route(line: &[u8], hop: &Hop<'_>) -> bool {
    let mark = line.strip_prefix(b"Record-Route: <sip:").and_then(|rest| rest.strip_suffix(hop.record.as_bytes()));
    mark.is_some_and(|mark| {
        mark.len() == 37 && mark[0] == b'r' && mark[1..].iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
    })
}

fn has_to_tag(pieces: &Pieces) -> bool {
    pieces
        .headers
        .iter()
        .any(|line| name_of(line) == "to" && split(line, b';', true)[1..].iter().any(|part| param(part).0 == "tag"))
}

fn own_via(line: Option<&Vec<u8>>, hop: &Hop<'_>) -> Result<(), String> {
    let line = line.ok_or("our Via is missing")?;
    let prefix = format!("Via: {};branch=z9hG4bKh", hop.via);
    if line.starts_with(prefix.as_bytes()) { Ok(()) } else { Err(format!("our Via is {}", show(line))) }
}

/// The elements of a list of addresses, the header name left with the first; quotes and angle brackets respected.
fn elements(line: &[u8]) -> Vec<&[u8]> {
    split(line, b',', true)
}

/// `angles`: brackets enclose, too.
fn split(text: &[u8], at: u8, angles: bool) -> Vec<&[u8]> {
    let (mut parts, mut start, mut quoted, mut angle, mut escaped) = (Vec::new(), 0, false, false, false);
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'<' if !quoted => angle = angles,
            b'>' if !quoted => angle = false,
            byte if *byte == at && !quoted && !angle => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A parameter: name (lower case) and value.
fn param(text: &[u8]) -> (String, Option<String>) {
    let text = String::from_utf8_lossy(text).into_owned();
    match text.split_once('=') {
        Some((name, value)) => (trim(name).to_ascii_lowercase(), Some(trim(value).to_owned())),
        None => (trim(&text).to_ascii_lowercase(), None),
    }
}

/// Without LWS at both ends (RFC 3261 §25.1): a vertical tab or a form feed is none.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

/// The top Via: `received` and the value of `rport` are ours, the rest is the phone's.
fn stamped(sent: &[u8], arrived: &[u8], hop: &Hop<'_>) -> Result<(), String> {
    let (a, b) = (split(sent, b',', false), split(arrived, b',', false));
    if a.len() != b.len() || a[1..] != b[1..] {
        return Err(format!("the list of Vias: sent {} arrived {}", show(sent), show(arrived)));
    }
    let (a, b) = (split(a[0], b';', false), split(b[0], b';', false));
    let find = |parts: &[&[u8]], name: &str| parts[1..].iter().map(|part| param(part)).find(|(n, _)| n == name);
    same("top Via", &bare(&a), &bare(&b))?;
    if find(&a, "rport").is_some() {
        let port = find(&b, "rport").and_then(|(_, value)| value);
        same("rport", hop.source.port().to_string().as_bytes(), port.unwrap_or_default().as_bytes())?;
    }
    let host = host_of_via(a[0]);
    let named = host.trim_matches(['[', ']']).parse() == Ok(hop.source.ip());
    let wanted = !named || find(&a, "rport").is_some() || find(&a, "received").is_some();
    match find(&b, "received") {
        Some((_, value)) if wanted && value.as_deref() == Some(&hop.source.ip().to_string()) => Ok(()),
        None if !wanted => Ok(()),
        other => Err(format!("received is {other:?} in {}", show(arrived))),
    }
}

/// A Via without `received` and without the value of `rport`.
fn bare(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = parts[0].to_vec();
    for part in &parts[1..] {
        let (name, _) = param(part);
        match name.as_str() {
            // White space behind it stays: it was there before.
            "received" => out.extend_from_slice(&part[part.trim_ascii_end().len()..]),
            "rport" => {
                let end = part.iter().position(|byte| *byte == b'=').unwrap_or(part.trim_ascii_end().len());
                out.push(b';');
                out.extend_from_slice(part[..end].trim_ascii_end());
                out.extend_from_slice(&part[part.trim_ascii_end().len()..]);
            }
            _ => {
                out.push(b';');
                out.extend_from_slice(part);
            }
        }
    }
    out
}

fn host_of_via(first: &[u8]) -> String {
    let text = String::from_utf8_lossy(first).into_owned();
    let sent_by = text.split_whitespace().last().unwrap_or_default().to_owned();
    match sent_by.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
        _ => sent_by,
    }
}

fn one_less(sent: &[u8], arrived: &[u8]) -> Result<(), String> {
    let colon = sent.iter().position(|byte| *byte == b':').ok_or("no colon")? + 1;
    let value = &sent[colon..];
    let hops: u32 = trim(&String::from_utf8_lossy(value)).parse().map_err(|_| "Max-Forwards is no number")?;
    let start = colon + (value.len() - value.trim_ascii_start().len());
    let end = colon + value.trim_ascii_end().len();
    let wanted = [&sent[..start], (hops - 1).to_string().as_bytes(), &sent[end..]].concat();
    same("Max-Forwards", &wanted, arrived)
}

/// How many Routes are taken off the top: ours, or a lone foreign one outside a dialog.
fn popped_routes(sent: &Pieces, hop: &Hop<'_>) -> usize {
    let lines: Vec<&Vec<u8>> = sent.headers.iter().filter(|line| name_of(line) == "route").collect();
    let routes: Vec<&[u8]> = lines.iter().flat_map(|line| elements(line)).collect();
    let ours = routes
        .iter()
        .take_while(|route| {
            let text = String::from_utf8_lossy(route).into_owned();
            hop.ours.iter().any(|host| text.contains(&format!("sip:{host}")))
        })
        .count();
    if ours == 0 && !has_to_tag(sent) && routes.len() == 1 { 1 } else { ours }
}

fn less_routes(sent: &[u8], gone: usize, arrived: &[u8]) -> Result<(), String> {
    if gone == 0 {
        return same("Route", sent, arrived);
    }
    let text = |part: &&[u8]| trim(&String::from_utf8_lossy(part)).to_owned();
    let (a, b) = (elements(sent), elements(arrived));
    let left: Vec<String> = a[gone..].iter().map(text).collect();
    let mut now: Vec<String> = b.iter().map(text).collect();
    if let Some((_, value)) = now.first().and_then(|first| first.split_once(':')) {
        let value = trim(value).to_owned();
        now[0] = value;
    }
    if left == now { Ok(()) } else { Err(format!("Routes: sent {} arrived {}", show(sent), show(arrived))) }
}

/// Each `sip:` or `sips:` Contact became ours, in brackets where it had none; nothing else did.
fn contacts(sent: &[u8], arrived: &[u8], hop: &Hop<'_>) -> Result<(), String> {
    let fail = || format!("Contact: sent {} arrived {}", show(sent), show(arrived));
    let sent = without_reg_id(sent);
    let (a, b) = (elements(&sent), elements(arrived));
    if a.len() != b.len() {
        return Err(fail());
    }
    for (a, b) in a.iter().zip(&b) {
        let end = hop.contact.as_bytes();
        let id = b.windows(end.len()).position(|window| window == end).filter(|at| *at >= 27);
        let Some(at) = id else {
            same("foreign Contact", a, b)?;
            if String::from_utf8_lossy(a).to_ascii_lowercase().contains("<sip:") {
                return Err(fail());
            }
            continue;
        };
        let user = &b[at - 27..at];
        if user[0] != b'h' || !user[1..].iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')) {
            return Err(fail());
        }
        let scheme = b[..at - 27].iter().rposition(|byte| *byte == b'<').ok_or_else(fail)?;
        let (before, after) = (&b[..scheme], &b[at + end.len()..]);
        let after = after.strip_prefix(b">").ok_or_else(fail)?;
        let rest = a.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).ok_or_else(fail)?;
        let uri = rest.strip_prefix(b"<").and_then(|uri| uri.strip_suffix(b">")).unwrap_or(rest);
        let lower = uri.to_ascii_lowercase();
        if !lower.starts_with(b"sip:") && !lower.starts_with(b"sips:") {
            return Err(fail());
        }
    }
    Ok(())
}

fn without_reg_id(line: &[u8]) -> Vec<u8> {
    let lists = elements(line).into_iter().map(|element| {
        let parts = split(element, b';', true).into_iter().enumerate();
        let parts: Vec<&[u8]> =
            parts.filter(|(i, part)| *i == 0 || param(part).0 != "reg-id").map(|(_, p)| p).collect();
        parts.join(&b';')
    });
    lists.collect::<Vec<_>>().join(&b',')
}

fn tokens(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line).into_owned();
    let value = text.split_once(':').map_or("", |(_, value)| value);
    let tokens: Vec<&str> = value.split(',').map(str::trim).filter(|token| !token.is_empty()).collect();
    tokens.join(",").into_bytes()
}

/// The option tags but `outbound`, and whether that was among them.
fn without_outbound(line: &[u8]) -> (Vec<u8>, bool) {
    let all = String::from_utf8_lossy(&tokens(line)).into_owned();
    let left: Vec<&str> = all.split(',').filter(|token| !token.eq_ignore_ascii_case("outbound")).collect();
    let had = left.len() < all.split(',').count();
    (left.join(",").into_bytes(), had)
}
