//! Comma lists and parameters (RFC 3261 §7.3.1), with quoted strings and angle brackets respected.

use super::scan::Message;
use super::{Header, Name, Span, is_lws, is_token};

/// One element of a comma list that may run over several header lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// The element, trimmed.
    pub span: Span,
    /// What to cut so that the rest of its line stays well formed: the element and one comma.
    pub whole: Span,
    /// The header line it is on.
    pub line: Span,
    /// True for the sole element on its line: cut `line` instead.
    pub only: bool,
}

/// The non-empty elements of one value, trimmed.
#[derive(Debug, Clone)]
pub(crate) struct Split<'m> {
    buf: &'m [u8],
    rest: Span,
}

impl<'m> Split<'m> {
    pub(crate) fn new(buf: &'m [u8], value: Span) -> Self {
        Split { buf, rest: value }
    }
}

impl Iterator for Split<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        while !self.rest.is_empty() {
            let comma = find_outside(self.buf, self.rest, b',');
            let element = Span::new(self.rest.at(), comma).trim(self.buf);
            self.rest = Span::new((comma + 1).min(self.rest.to()), self.rest.to());
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

/// The offset of the first `wanted` outside quoted strings and angle brackets, or the end of the span. An unterminated
/// quote or bracket runs to the end.
pub(crate) fn find_outside(buf: &[u8], span: Span, wanted: u8) -> usize {
    let end = span.to().min(buf.len());
    let mut at = span.at();
    while let Some(hit) = buf.get(at..end).and_then(|rest| memchr::memchr3(b'"', b'<', wanted, rest)) {
        at += hit;
        match buf[at] {
            b'"' => at = end_of_quoted(buf, at, end).unwrap_or(end),
            b'<' => at = memchr::memchr(b'>', &buf[at..end]).map_or(end, |n| at + n + 1),
            _ => return at,
        }
    }
    end
}

/// The offset behind the closing quote of the quoted string that opens at `at` (RFC 3261 §25.1); `None` if unterminated.
pub(crate) fn end_of_quoted(buf: &[u8], at: usize, end: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        let hit = at + memchr::memchr2(b'"', b'\\', buf.get(at..end)?)?;
        if buf[hit] == b'"' {
            return Some(hit + 1);
        }
        at = hit + 2;
    }
}

/// The elements of all lines of one name, in order. See [`Message::list`].
#[derive(Debug, Clone)]
pub(crate) struct Elements<'m> {
    buf: &'m [u8],
    lines: &'m [Header],
    name: Name,
    /// The line being split, its elements still to come, the element before and the one to hand out next.
    current: Option<(Span, Split<'m>, Option<Span>, Span)>,
}

impl<'m> Elements<'m> {
    pub(crate) fn new(message: &'m Message, name: Name) -> Self {
        let first = message.first_index(name).unwrap_or(message.headers().len());
        Elements { buf: message.bytes(), lines: &message.headers()[first..], name, current: None }
    }

    /// The elements of one header line.
    pub(crate) fn of_line(buf: &'m [u8], line: &'m Header) -> Self {
        Elements { buf, lines: std::slice::from_ref(line), name: line.name, current: None }
    }
}

impl Iterator for Elements<'_> {
    type Item = Element;

    fn next(&mut self) -> Option<Element> {
        loop {
            if let Some((line, split, previous, span)) = &mut self.current {
                let (line, span, before) = (*line, *span, *previous);
                let after = split.next();
                let whole = match (before, after) {
                    (_, Some(after)) => Span { start: span.start, end: after.start },
                    (Some(before), None) => Span { start: before.end, end: span.end },
                    (None, None) => span,
                };
                match after {
                    Some(after) => {
                        *previous = Some(span);
                        if let Some(current) = &mut self.current {
                            current.3 = after;
                        }
                    }
                    None => self.current = None,
                }
                return Some(Element { span, whole, line, only: before.is_none() && after.is_none() });
            }
            let (line, rest) = self.lines.split_first()?;
            self.lines = rest;
            if line.name == self.name {
                let mut split = Split::new(self.buf, line.value);
                if let Some(first) = split.next() {
                    self.current = Some((line.line, split, None, first));
                }
            }
        }
    }
}

/// One parameter: `;name` or `;name=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// The name as written.
    pub name: Span,
    /// The value, trimmed, with its quotes; `None` without `=`.
    pub value: Option<Span>,
    /// With the leading `;`, up to the next one.
    pub whole: Span,
}

impl Param {
    /// True for a name that is no token, and for a value that has a quote or an angle bracket where none may be: where it ends, and
    /// which tag or branch comes after it, depends on who reads it (RFC 3261 §25.1, `generic-param`).
    pub(super) fn is_odd(&self, buf: &[u8]) -> bool {
        let name = self.name.of(buf);
        name.is_empty() || !name.iter().all(|b| is_token(*b)) || self.value.is_some_and(|value| is_odd(buf, value))
    }
}

fn is_odd(buf: &[u8], value: Span) -> bool {
    if value.of(buf).first() == Some(&b'"') {
        return end_of_quoted(buf, value.at(), value.to()) != Some(value.to());
    }
    memchr::memchr3(b'"', b'<', b'>', value.of(buf)).is_some()
}

/// The parameters in a span that starts at a `;` (an empty span has none). Empty ones (`;;`) are skipped.
#[derive(Debug, Clone)]
pub struct Params<'m> {
    buf: &'m [u8],
    rest: Span,
}

impl<'m> Params<'m> {
    /// The parameters of `span`.
    #[must_use]
    pub fn new(buf: &'m [u8], span: Span) -> Self {
        Params { buf, rest: span }
    }

    /// The first parameter of this name, in any case.
    #[must_use]
    pub fn find(buf: &[u8], span: Span, name: &[u8]) -> Option<Param> {
        if span.is_empty() {
            return None;
        }
        Params::new(buf, span).find(|param| param.name.of(buf).eq_ignore_ascii_case(name))
    }
}

impl Iterator for Params<'_> {
    type Item = Param;

    fn next(&mut self) -> Option<Param> {
        let end = self.rest.to().min(self.buf.len());
        loop {
            let mut at = self.rest.at();
            // The span starts at a ';' (or, leniently, at white space before it).
            while at < end && is_lws(self.buf[at]) {
                at += 1;
            }
            if at >= end {
                return None;
            }
            let start = if self.buf[at] == b';' { at + 1 } else { at };
            let mut equals = None;
            let mut to = start;
            while to < end {
                match self.buf[to] {
                    b';' => break,
                    b'"' => to = end_of_quoted(self.buf, to, end).unwrap_or(end),
                    b'=' if equals.is_none() => {
                        equals = Some(to);
                        to += 1;
                    }
                    // Past what neither ends nor divides a parameter.
                    _ => to = to + 1 + span_of_text(&self.buf[to + 1..end]),
                }
            }
            self.rest = Span::new(to, end);
            let name = Span::new(start, equals.unwrap_or(to)).trim(self.buf);
            if name.is_empty() && equals.is_none() {
                continue;
            }
            let value = equals.map(|equals| Span::new(equals + 1, to).trim(self.buf));
            return Some(Param { name, value, whole: Span::new(at, to) });
        }
    }
}

/// How many bytes at the front are part of a parameter's name or value, whatever stands around them.
fn span_of_text(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| DIVIDES[usize::from(*byte)]).unwrap_or(bytes.len())
}

/// `;`, `=` and `"`.
const DIVIDES: [bool; 256] = {
    let mut table = [false; 256];
    table[b';' as usize] = true;
    table[b'=' as usize] = true;
    table[b'"' as usize] = true;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        let buf = text.as_bytes();
        Split::new(buf, Span::new(0, buf.len())).map(|s| std::str::from_utf8(s.of(buf)).expect("ascii")).collect()
    }

    #[test]
    fn commas_inside_quotes_and_brackets_do_not_split() {
        assert_eq!(
            split(r#""A, \"B\", C" <sip:a,b@c>;x="1,2", <sip:d>"#),
            [r#""A, \"B\", C" <sip:a,b@c>;x="1,2""#, "<sip:d>"]
        );
        assert_eq!(split(" a ,, b\r\n ,"), ["a", "b"]);
        assert_eq!(split(""), Vec::<&str>::new());
        assert_eq!(split(r#""open, b"#), [r#""open, b"#]);
        assert_eq!(split("<open, b"), ["<open, b"]);
        assert_eq!(split("\"ends in a backslash\\"), ["\"ends in a backslash\\"]);
    }

    #[test]
    fn parameters_with_and_without_value_quoted_and_spaced() {
        let buf = br#"; newparam =  newvalue ;flag;; q = 0.33;x="a;b";=v"#;
        let found: Vec<_> = Params::new(buf, Span::new(0, buf.len()))
            .map(|p| (p.name.of(buf), p.value.map(|v| v.of(buf)), p.whole.of(buf)))
            .collect();
        assert_eq!(
            found,
            [
                (&b"newparam"[..], Some(&b"newvalue"[..]), &b"; newparam =  newvalue "[..]),
                (b"flag", None, b";flag"),
                (b"q", Some(b"0.33"), b"; q = 0.33"),
                (b"x", Some(br#""a;b""#), br#";x="a;b""#),
                (b"", Some(b"v"), b";=v"),
            ]
        );
        assert!(Params::find(buf, Span::new(0, buf.len()), b"FLAG").is_some());
        assert!(Params::find(buf, Span::empty(3), b"flag").is_none());
    }
}
