//! The header block, line by line (RFC 3261 §7.3).
//!
//! Lines end in CRLF and nothing else. A bare CR or a bare LF in the header block is where two parsers come to see two
//! different messages, so both are noted as faults; lines are split at a bare LF all the same, to find the Via lines that an
//! answer needs.

use smallvec::SmallVec;

use super::fault::Fault;
use super::{Header, Name, Span, is_token, is_wsp};

/// The most header lines of a message (folded lines count once).
pub const MAX_HEADER_LINES: usize = 256;

/// The header lines.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) headers: SmallVec<[Header; 24]>,
    /// Index of the first line of each name, `NONE` without.
    firsts: [u16; Name::COUNT],
    /// Bit `name`: there is more than one line of it.
    repeated: u32,
    /// The offset of the blank line.
    pub(crate) end: u32,
    /// The first fault: it is the one an answer names.
    pub(crate) fault: Option<Fault>,
    /// A header line has continuation lines.
    pub(crate) folded: bool,
}

const NONE: u16 = u16::MAX;

impl Block {
    pub(crate) fn new(fault: Option<Fault>) -> Block {
        Block { headers: SmallVec::new(), firsts: [NONE; Name::COUNT], repeated: 0, end: 0, fault, folded: false }
    }

    /// Collects the header lines from `at` on; the offset of the body.
    pub(crate) fn scan(&mut self, buf: &[u8], at: usize) -> usize {
        let mut at = at;
        // False while continuation lines belong to a line that was refused.
        let mut open = false;
        loop {
            let Some(line) = Line::find(buf, at) else {
                self.note(Fault::NoBlankLine);
                self.end = at as u32;
                return buf.len();
            };
            if let Some(fault) = line.fault {
                self.note(fault);
            }
            if line.text.is_empty() {
                self.end = at as u32;
                return line.next;
            }
            if is_wsp(buf[at]) {
                self.fold(buf, &line, open);
            } else {
                open = self.push(buf, &line);
            }
            at = line.next;
        }
    }

    /// Adds a header line; false if it is none, or one too many.
    fn push(&mut self, buf: &[u8], line: &Line) -> bool {
        let Some((name_span, value)) = split_line(buf, line.text) else {
            self.note(Fault::HeaderLine);
            return false;
        };
        let index = self.headers.len();
        if index == MAX_HEADER_LINES {
            self.note(Fault::TooManyHeaders);
            return false;
        }
        let name = Name::of(name_span.of(buf));
        if self.firsts[name as usize] == NONE {
            self.firsts[name as usize] = index as u16;
        } else {
            self.repeated |= 1 << name as u32;
        }
        self.headers.push(Header { name, name_span, value, line: Span::new(line.text.at(), line.next) });
        true
    }

    /// Appends a continuation line to the header line before it (RFC 3261 §7.3.1).
    fn fold(&mut self, buf: &[u8], line: &Line, open: bool) {
        self.folded = true;
        let text = line.text.trim(buf);
        if text.is_empty() {
            // Some take a line of white space for the blank line that ends the headers.
            self.note(Fault::BlankContinuation);
        }
        match self.headers.last_mut().filter(|_| open) {
            Some(header) => {
                header.line.end = line.next as u32;
                if !text.is_empty() {
                    header.value = if header.value.is_empty() { text } else { Span { end: text.end, ..header.value } };
                }
            }
            None => self.note(Fault::HeaderLine),
        }
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    pub(crate) fn first_index(&self, name: Name) -> Option<usize> {
        let index = self.firsts[name as usize];
        (index != NONE).then_some(usize::from(index))
    }

    pub(crate) fn is_repeated(&self, name: Name) -> bool {
        self.repeated & (1 << name as u32) != 0
    }
}

/// One physical line.
pub(crate) struct Line {
    /// Without its line end.
    pub(crate) text: Span,
    /// The offset behind its line end.
    pub(crate) next: usize,
    /// A bare CR or LF.
    pub(crate) fault: Option<Fault>,
}

impl Line {
    /// The line that starts at `at`; `None` where its end is not there.
    pub(crate) fn find(buf: &[u8], at: usize) -> Option<Line> {
        let mut fault = None;
        let mut from = at;
        loop {
            let hit = from + memchr::memchr2(b'\r', b'\n', buf.get(from..)?)?;
            if buf[hit] == b'\n' {
                return Some(Line { text: Span::new(at, hit), next: hit + 1, fault: Some(Fault::BareLf) });
            }
            match buf.get(hit + 1)? {
                b'\n' => return Some(Line { text: Span::new(at, hit), next: hit + 2, fault }),
                _ => fault = Some(Fault::BareCr),
            }
            from = hit + 1;
        }
    }
}

/// `name HCOLON value`: the spans of the name and of the trimmed value.
pub(crate) fn split_line(buf: &[u8], text: Span) -> Option<(Span, Span)> {
    let (from, end) = (text.at(), text.to());
    let mut at = from;
    while at < end && is_token(buf[at]) {
        at += 1;
    }
    let name = Span::new(from, at);
    while at < end && is_wsp(buf[at]) {
        at += 1;
    }
    if name.is_empty() || at == end || buf[at] != b':' {
        return None;
    }
    Some((name, Span::new(at + 1, end).trim(buf)))
}
