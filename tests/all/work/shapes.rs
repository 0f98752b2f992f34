//! Messages that grow in one way each: what a parser that looks twice would choke on.

/// One way to grow.
pub(super) struct Shape {
    /// What grows.
    pub name: &'static str,
    make: fn(usize) -> Vec<u8>,
}

impl Shape {
    /// A message of about this many bytes.
    pub(super) fn of_size(&self, size: usize) -> Vec<u8> {
        let made = (self.make)(size);
        assert!(made.len() >= size - size / 6 && made.len() <= size + 1024, "{}: {} of {size}", self.name, made.len());
        made
    }
}

const fn shape(name: &'static str, make: fn(usize) -> Vec<u8>) -> Shape {
    Shape { name, make }
}

const VIA: &str = "Via: SIP/2.0/UDP a;branch=z9hG4bK1";
const FROM: &str = "From: <sip:a@h>;tag=1";
const TO: &str = "To: <sip:b@h>";
const CONTACT: &str = "Contact: <sip:a@h>";

/// A whole request whose line of this beginning is replaced, or added; every line ends in CRLF.
fn with(beginning: &str, lines: &str) -> Vec<u8> {
    let mut out = String::from("OPTIONS sip:h SIP/2.0\r\n");
    for line in [VIA, "Max-Forwards: 70", FROM, TO, "Call-ID: x", "CSeq: 1 OPTIONS", CONTACT] {
        if line.split(':').next() != Some(beginning) {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    out.push_str(lines);
    out.push_str("Content-Length: 0\r\n\r\n");
    out.into_bytes()
}

/// One header line: `before`, then `unit` over and over up to this size, then `after`.
fn line(before: &str, unit: &str, after: &str, size: usize) -> Vec<u8> {
    let name = before.split(':').next().unwrap_or_default();
    with(name, &format!("{before}{}{after}\r\n", unit.repeat(size.saturating_sub(200) / unit.len())))
}

/// The same line over and over.
fn lines(line: &str, size: usize) -> Vec<u8> {
    let name = line.split(':').next().unwrap_or_default();
    with(name, &format!("{line}\r\n").repeat(size / (line.len() + 2)))
}

/// A line of the length that makes so many of them this size.
fn wide_lines(count: usize, name: &str, value: &str, size: usize) -> Vec<u8> {
    let each = value.repeat((size / count).saturating_sub(name.len() + 4) / value.len());
    with(name, &format!("{name}: {each}\r\n").repeat(count))
}

/// Request-line, headers, nothing else.
fn uri(before: &str, unit: &str, size: usize) -> Vec<u8> {
    let uri = format!("{before}{}", unit.repeat(size.saturating_sub(300) / unit.len()));
    String::from_utf8(with("", "")).expect("text").replacen("sip:h", &uri, 1).into_bytes()
}

fn body(size: usize, unit: &str) -> Vec<u8> {
    let text = String::from_utf8(with("", "")).expect("text");
    let body = unit.repeat(size.saturating_sub(text.len()) / unit.len());
    text.replace("Content-Length: 0", &format!("Content-Length: {}", body.len()))
        .into_bytes()
        .into_iter()
        .chain(body.into_bytes())
        .collect()
}

fn response(lines: &[u8]) -> Vec<u8> {
    [b"SIP/2.0 200 OK".as_slice(), &lines[b"OPTIONS sip:h SIP/2.0".len()..]].concat()
}

fn bare_lf(message: Vec<u8>) -> Vec<u8> {
    message.into_iter().filter(|byte| *byte != b'\r').collect()
}

/// The first is the plain one that the others are measured against.
pub(super) const SHAPES: [Shape; 44] = [
    shape("a long value that nobody reads", |size| line("Subject: ", "a", "", size)),
    shape("a long body", |size| body(size, "a")),
    shape("a body of line ends", |size| body(size, "\r\n")),
    shape("line ends before the message", |size| [b"\r\n".repeat(size / 2 - 100), with("", "")].concat()),
    shape("250 header lines", |size| wide_lines(240, "Subject", "a", size)),
    shape("header lines beyond the limit", |size| lines("X: y", size)),
    shape("lines that are no header lines", |size| lines("no header line", size)),
    shape("a long name", |size| line("", "a", ": b", size)),
    shape("white space around a colon", |size| line("Subject", " ", ": b", size)),
    shape("white space in front of a value", |size| line("Subject:", " \t", "b", size)),
    shape("white space behind a value", |size| line("Subject: b", "\t ", "", size)),
    shape("bare CRs", |size| line("Subject: ", "\r", "", size)),
    shape("folds", |size| line("Subject: a", "\r\n b", "", size)),
    shape("folds of an element each", |size| line("Supported: a", ",\r\n outbound", "", size)),
    shape("folded lines", |size| wide_lines(200, "Subject", "a\r\n b", size)),
    shape("blank continuation lines", |size| line("Subject: a", "\r\n ", "", size)),
    shape("lines of LF alone", |size| bare_lf(lines("X: y", size * 6 / 5))),
    shape("folds of LF alone", |size| bare_lf(line("Subject: a", "\r\n b", "", size * 4 / 3))),
    shape("no blank line", |size| {
        let mut message = line("Subject: a", "\r\n b", "", size);
        message.truncate(message.len() - 2);
        message
    }),
    shape("option tags, every other to be removed", |size| line("Supported: a", ",outbound,a", "", size)),
    shape("option tags over 30 lines", |size| wide_lines(30, "Supported", "outbound,a,", size)),
    shape("empty option tags", |size| line("Supported: a", ",", "", size)),
    shape("required option tags", |size| line("Require: a", ",outbound", "", size)),
    shape("Routes", |size| line("Route: <sip:h;lr>", ",<sip:h;lr>", "", size)),
    shape("a line of its own for each Route", |size| lines("Route: <sip:h;lr>", size)),
    shape("brackets that open and do not close", |size| line("Route: ", "<", "", size)),
    shape("names with commas in quotes", |size| line("Record-Route: \"a,b\" <sip:h>", ",\"a,b\" <sip:h>", "", size)),
    shape("quoted strings", |size| line("Contact: ", "\"\"", " <sip:a@h>", size)),
    shape("escapes in a quoted string", |size| line("Contact: \"", "\\\\", "\" <sip:a@h>", size)),
    shape("a quoted string without end", |size| line("Contact: \"", "\\\"", "", size)),
    shape("Contacts", |size| line("Contact: <sip:a@h>", ",<sip:a@h>", "", size)),
    shape("Contacts in a response", |size| response(&line("Contact: <sip:a@h>", ",<sip:a@h>", "", size))),
    shape("Contact parameters", |size| line("Contact: <sip:a@h>", ";a=\"b\"", "", size)),
    shape("Vias", |size| line(VIA, ", SIP/2.0/UDP b", "", size)),
    shape("a line of its own for each Via", |size| lines("Via: SIP/2.0/UDP b", size)),
    shape("Via parameters", |size| line(VIA, ";received=1;rport", "", size)),
    shape("From parameters", |size| line("From: <sip:a@h>", ";a=b", ";tag=1", size)),
    shape("empty To parameters", |size| line(TO, ";", "", size)),
    shape("a From of commas", |size| line("From: ", ",", " <sip:a@h>;tag=1", size)),
    shape("digits of a CSeq", |size| line("CSeq: ", "0", "1 OPTIONS", size)),
    shape("a long Call-ID", |size| line("Call-ID: ", "x@", "", size)),
    shape("escapes in the Request-URI", |size| uri("sip:", "%41", size)),
    shape("parameters and headers in the Request-URI", |size| uri("sip:h;a=b?", "c=?;", size)),
    shape("schemes within schemes", |size| line("Refer-To: ", "sip:", "", size)),
];
