//! Messages as the wire has them, and worse: the torture corpus and real phones' messages, mutated.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::torture_table::{Does, TABLE, bytes_of};

/// Names of the messages in `tests/data/phones`.
pub(crate) const PHONES: [&str; 9] = [
    "yealink-register",
    "polycom-register",
    "cisco-7960-register",
    "cisco-spa-invite",
    "grandstream-subscribe",
    "snom-register",
    "snom-invite",
    "aastra-options",
    "yealink-notify-200",
];

/// The bytes of one of [`PHONES`].
pub(crate) fn phone(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/phones/{name}.sip", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What mutations start from: every message of the corpus that goes on, and the phones'.
pub(crate) fn originals() -> Vec<Vec<u8>> {
    let forwarded = TABLE.iter().filter(|row| matches!(row.does, Does::Forward(_))).map(|row| bytes_of(row.file));
    forwarded.chain(PHONES.iter().map(|name| phone(name))).collect()
}

/// A message in pieces, found by other means than the scanner's.
#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    /// The start line.
    pub start: Vec<u8>,
    /// The header lines with their folding, without the last CRLF.
    pub headers: Vec<Vec<u8>>,
    /// What follows the blank line.
    pub body: Vec<u8>,
}

impl Pieces {
    /// Takes apart what has a blank line.
    pub(crate) fn of(raw: &[u8]) -> Pieces {
        let end = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("a blank line");
        let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
        let mut at = 0;
        while at < end {
            if raw[at..end].starts_with(b"\r\n") {
                if matches!(raw[at + 2], b' ' | b'\t') {
                    lines.last_mut().expect("one").extend_from_slice(b"\r\n");
                } else {
                    lines.push(Vec::new());
                }
                at += 2;
            } else {
                lines.last_mut().expect("one").push(raw[at]);
                at += 1;
            }
        }
        Pieces { start: lines.remove(0), headers: lines, body: raw[end + 4..].to_vec() }
    }

    /// The same with each fold a space: as the message goes on (RFC 3261 §7.3.1).
    pub(crate) fn unfolded(mut self) -> Pieces {
        for header in &mut self.headers {
            while let Some(fold) = header.windows(2).position(|two| two == b"\r\n") {
                let blanks = header[fold + 2..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                header.splice(fold..fold + 2 + blanks, *b" ");
            }
        }
        self
    }

    /// The message again.
    pub(crate) fn join(&self) -> Vec<u8> {
        let mut out = self.start.clone();
        for header in &self.headers {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(header);
        }
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.body);
        out
    }

    fn pick(&mut self, index: usize) -> &mut Vec<u8> {
        let index = index % self.headers.len();
        &mut self.headers[index]
    }
}

/// The name of a header line, lower case and in full.
pub(crate) fn name_of(header: &[u8]) -> String {
    let len = header.iter().position(|b| matches!(b, b':' | b' ' | b'\t')).unwrap_or(header.len());
    let name = String::from_utf8_lossy(&header[..len]).to_ascii_lowercase();
    match COMPACT.iter().find(|(_, compact)| *compact == name) {
        Some((full, _)) => (*full).to_owned(),
        None => name,
    }
}

const COMPACT: [(&str, &str); 9] = [
    ("via", "v"),
    ("from", "f"),
    ("to", "t"),
    ("call-id", "i"),
    ("contact", "m"),
    ("content-length", "l"),
    ("supported", "k"),
    ("content-type", "c"),
    ("subject", "s"),
];

/// One thing that happens to a message between its author and us.
#[derive(Debug, Clone)]
enum Mutation {
    /// The case of a header name.
    SwapCase(usize),
    /// Compact name for full, or full for compact.
    Respell(usize),
    /// A space becomes a fold.
    Fold(usize, usize),
    /// A continuation line that looks like a header.
    Smuggle(usize, &'static str),
    /// White space around the colon.
    Colon(usize, String),
    /// A line moves up to the top.
    Raise(usize),
    /// A new header of odd content.
    Header(usize, String, Vec<u8>),
    /// Another Via below.
    Via(usize, u16),
    /// Two Via lines become one list, or the like for Contact and Route.
    Merge,
    /// Another body, with its length.
    Body(Vec<u8>),
    /// Bytes behind the end of the datagram's message.
    Trailer(Vec<u8>),
    /// CRLFs in front.
    Leader(usize),
    /// Damage: one byte of the header block becomes another.
    Damage(usize, u8),
}

/// What a reader that knows no folds would take for more headers, or for the end of them.
const SMUGGLED: [&str; 7] = [
    " Content-Length: 0",
    "\tl: 0",
    " l:\r\n 70000",
    " content-length : 4\r\n\tl:4",
    " Via: SIP/2.0/TCP elsewhere",
    " :\r\n Content-Length: 9",
    "  x\r\n   Content-Length: 1",
];

/// One of them: the continuation lines, without the last line end.
pub(crate) fn fold_like_a_header() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&SMUGGLED[..])
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = || any::<usize>();
    // No CR and LF: those are damage. Everything else may stand in a header nobody reads.
    let text = vec(any::<u8>().prop_filter("a line end", |b| !matches!(b, b'\r' | b'\n')), 0..60);
    prop_oneof![
        4 => index().prop_map(Mutation::SwapCase),
        4 => index().prop_map(Mutation::Respell),
        4 => (index(), index()).prop_map(|(line, at)| Mutation::Fold(line, at)),
        3 => (index(), fold_like_a_header()).prop_map(|(line, text)| Mutation::Smuggle(line, text)),
        4 => (index(), "[ \t]{0,3}:[ \t]{0,4}").prop_map(|(line, colon)| Mutation::Colon(line, colon)),
        4 => index().prop_map(Mutation::Raise),
        4 => (index(), "X-[A-Za-z0-9!%*_+`'~.-]{1,20}", text).prop_map(|(line, name, value)| Mutation::Header(line, name, value)),
        3 => (index(), any::<u16>()).prop_map(|(line, port)| Mutation::Via(line, port)),
        2 => Just(Mutation::Merge),
        3 => vec(any::<u8>(), 0..400).prop_map(Mutation::Body),
        2 => vec(any::<u8>(), 0..40).prop_map(Mutation::Trailer),
        2 => (0_usize..4).prop_map(Mutation::Leader),
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Mutation::Damage(at, byte)),
    ]
}

fn apply(mutations: &[Mutation], raw: &[u8]) -> Vec<u8> {
    let mut pieces = Pieces::of(raw);
    let (mut leader, mut trailer, mut damage) = (0, Vec::new(), Vec::new());
    for mutation in mutations {
        match mutation {
            Mutation::SwapCase(line) => {
                let header = pieces.pick(*line);
                for byte in header.iter_mut().take_while(|b| **b != b':') {
                    *byte =
                        if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
                }
            }
            Mutation::Respell(line) => respell(pieces.pick(*line)),
            Mutation::Fold(line, at) => fold(pieces.pick(*line), *at),
            Mutation::Smuggle(line, text) => {
                // Behind a value that may hold anything; of the mandatory ones the length alone may fold, and stays a number.
                let line = line % pieces.headers.len();
                let header = &mut pieces.headers[line];
                if name_of(header) == "content-length" {
                    let colon = header.iter().position(|byte| *byte == b':').unwrap_or(0);
                    header.splice(colon..=colon, *b":\r\n\t ");
                } else {
                    pieces.headers.insert(line, [b"X-Folded: a\r\n".as_slice(), text.as_bytes()].concat());
                }
            }
            Mutation::Colon(line, colon) => {
                let header = pieces.pick(*line);
                if let Some(at) = header.iter().position(|b| *b == b':') {
                    let name = header[..at].trim_ascii_end().len();
                    header.splice(name..=at, colon.bytes());
                }
            }
            Mutation::Raise(line) => {
                let line = line % pieces.headers.len();
                // Vias and Routes keep their order among themselves: only the list's meaning would change otherwise.
                let header = pieces.headers.remove(line);
                pieces.headers.insert(0, header);
            }
            Mutation::Header(line, name, value) => {
                let line = line % (pieces.headers.len() + 1);
                pieces.headers.insert(line, [name.as_bytes(), b": ", value].concat());
            }
            Mutation::Via(line, port) => {
                let line = line % (pieces.headers.len() + 1);
                let via = format!("Via: SIP/2.0/UDP [2001:db8::{port:x}]:{port} ; branch=z9hG4bK{port}");
                pieces.headers.insert(line, via.into_bytes());
            }
            Mutation::Merge => merge(&mut pieces),
            Mutation::Body(body) => {
                pieces.headers.retain(|header| name_of(header) != "content-length");
                pieces.headers.push(format!("Content-Length: {}", body.len()).into_bytes());
                pieces.body.clone_from(body);
                trailer.clear();
            }
            Mutation::Trailer(bytes) => trailer.clone_from(bytes),
            Mutation::Leader(n) => leader = *n,
            Mutation::Damage(at, byte) => damage.push((*at, *byte)),
        }
    }
    let head = pieces.join().len() - pieces.body.len();
    let mut out = [b"\r\n".repeat(leader), pieces.join(), trailer].concat();
    for (at, byte) in damage {
        out[at % head] = byte;
    }
    out
}

fn respell(header: &mut Vec<u8>) {
    let len = header.iter().position(|b| matches!(b, b':' | b' ' | b'\t')).unwrap_or(header.len());
    let name = String::from_utf8_lossy(&header[..len]).to_ascii_lowercase();
    for (full, compact) in COMPACT {
        if name == full {
            header.splice(..len, compact.bytes());
            return;
        }
        if name == compact {
            header.splice(..len, full.bytes());
            return;
        }
    }
}

/// A space behind the colon, with something after it, becomes a fold.
fn fold(header: &mut Vec<u8>, at: usize) {
    let Some(colon) = header.iter().position(|b| *b == b':') else { return };
    let end = header.trim_ascii_end().len();
    let spaces: Vec<usize> = (colon..end).filter(|i| header[*i] == b' ' && header[i - 1] != b'\n').collect();
    if let Some(space) = spaces.get(at % spaces.len().max(1)) {
        header.splice(space..=space, *b"\r\n ");
    }
}

/// Two neighbouring lines of one list become one.
fn merge(pieces: &mut Pieces) {
    for index in 1..pieces.headers.len() {
        let (above, below) = (&pieces.headers[index - 1], &pieces.headers[index]);
        let name = name_of(below);
        if name == name_of(above) && ["via", "contact", "route"].contains(&name.as_str()) {
            let colon = below.iter().position(|b| *b == b':').map_or(0, |colon| colon + 1);
            let value = below[colon..].to_vec();
            pieces.headers[index - 1].extend_from_slice(b",");
            pieces.headers[index - 1].extend_from_slice(&value);
            pieces.headers.remove(index);
            return;
        }
    }
}

/// One message as it may reach us.
pub(crate) fn message() -> impl Strategy<Value = Vec<u8>> {
    let originals = originals();
    let count = originals.len();
    (0..count, vec(mutation(), 0..8)).prop_map(move |(index, mutations)| apply(&mutations, &originals[index]))
}
