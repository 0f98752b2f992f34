//! Splices over a received message: every byte that is not named here goes out as it came in.

mod vias;

use bytes::Bytes;
use smallvec::SmallVec;

pub(super) use vias::Stamp;

use super::digits::push_number;
use super::list::Elements;
use super::scan::Message;
use super::{Element, Header, Name, Span};

/// Changes to one message, applied once by [`Edit::finish`].
///
/// New text is kept in one arena. Ranges should not overlap; where they do, each byte is still removed only once and every
/// new text is written once, so the outcome is a message, if not the one that was meant. Several inserts at one offset
/// keep the order of the calls, and go before a replacement that starts there.
#[derive(Debug)]
pub struct Edit<'m> {
    message: &'m Message,
    arena: SmallVec<[u8; 512]>,
    splices: SmallVec<[Splice; 12]>,
    cuts: SmallVec<[Span; 4]>,
}

#[derive(Debug, Clone, Copy)]
struct Splice {
    range: Span,
    text: Span,
}

impl<'m> Edit<'m> {
    /// No changes yet.
    #[must_use]
    pub fn new(message: &'m Message) -> Self {
        Edit { message, arena: SmallVec::new(), splices: SmallVec::new(), cuts: SmallVec::new() }
    }

    /// Puts `text` in the place of `span`.
    pub fn replace(&mut self, span: Span, text: &[u8]) {
        self.splice(span, &[text]);
    }

    /// Takes `span` out.
    pub fn remove(&mut self, span: Span) {
        self.splice(span, &[]);
    }

    /// Puts `text` before the byte at offset `at`.
    pub fn insert(&mut self, at: u32, text: &[u8]) {
        self.splice(Span { start: at, end: at }, &[text]);
    }

    /// Sets Max-Forwards, adding it where it is absent.
    pub fn set_max_forwards(&mut self, n: u32) {
        let mut text = SmallVec::<[u8; 16]>::new();
        push_number(&mut text, n);
        match self.message.first(Name::MaxForwards) {
            Some(header) => self.replace(header.value, &text),
            None => self.add_after_vias("Max-Forwards", &text),
        }
    }

    /// Replaces the Request-URI. Nothing happens to a response.
    pub fn set_request_uri(&mut self, uri: &[u8]) {
        let span = self.message.request_uri();
        if !span.is_empty() {
            self.replace(span, uri);
        }
    }

    /// Takes an element out of its list; its line goes when all elements on it were cut.
    pub fn cut(&mut self, element: &Element) {
        if element.only {
            self.remove(element.line);
        } else {
            self.cuts.push(element.span);
        }
    }

    /// A new header line below the last Via line (without any: below the start line).
    pub fn add_after_vias(&mut self, name: &str, value: &[u8]) {
        let at = self.message.all(Name::Via).last().map_or(self.message.start_line_end(), |via| via.line.end);
        self.splice(Span { start: at, end: at }, &[name.as_bytes(), b": ", value, b"\r\n"]);
    }

    /// A new header line that becomes the topmost of its name: above the first one (which some proxies put above the Vias),
    /// without any, below the last Via. For lists whose order is the way: Record-Route (RFC 3261 §16.6 item 4), Path.
    pub fn add_on_top(&mut self, name: Name, value: &[u8]) {
        match self.message.first(name) {
            Some(header) => {
                let at = header.line.start;
                self.splice(Span { start: at, end: at }, &[name.as_str().as_bytes(), b": ", value, b"\r\n"]);
            }
            None => self.add_after_vias(name.as_str(), value),
        }
    }

    /// A new header line before the blank line.
    pub fn add_last(&mut self, name: &str, value: &[u8]) {
        let at = self.message.header_end();
        self.splice(Span { start: at, end: at }, &[name.as_bytes(), b": ", value, b"\r\n"]);
    }

    /// Says how long the body is where nothing does: on a stream the message would have no end (RFC 3261 §16.6 item 9, §20.14).
    pub fn say_length(&mut self) {
        if self.message.first(Name::ContentLength).is_none() {
            let mut text = SmallVec::<[u8; 16]>::new();
            push_number(&mut text, self.message.body().len() as u32);
            self.add_last("Content-Length", &text);
        }
    }

    /// Replaces the value of a header line.
    pub fn set_header(&mut self, header: &Header, value: &[u8]) {
        self.replace(header.value, value);
    }

    /// Takes an option tag out of Supported, Require or Proxy-Require; a line that is then empty goes.
    pub fn remove_option(&mut self, name: Name, tag: &[u8]) {
        let message = self.message;
        for element in message.list(name) {
            if element.span.of(message.bytes()).eq_ignore_ascii_case(tag) {
                self.cut(&element);
            }
        }
    }

    fn splice(&mut self, range: Span, text: &[&[u8]]) {
        let start = self.arena.len();
        for part in text {
            self.arena.extend_from_slice(part);
        }
        self.splices.push(Splice { range, text: Span::new(start, self.arena.len()) });
    }

    /// The changed message: one allocation of the exact size.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        self.resolve_cuts();
        let buf: &[u8] = self.message.bytes();
        if self.splices.is_empty() {
            return self.message.bytes().clone();
        }
        // Stable: what is at one offset keeps its order, inserts (which end there) before replacements.
        if !self.splices.is_sorted_by_key(|splice| splice.range) {
            self.splices.sort_by_key(|splice| splice.range);
        }
        let mut out = Vec::with_capacity(self.length(buf));
        let mut at = 0;
        for splice in &self.splices {
            let start = splice.range.at().clamp(at, buf.len());
            out.extend_from_slice(&buf[at..start]);
            out.extend_from_slice(splice.text.of(&self.arena));
            at = splice.range.to().clamp(start, buf.len());
        }
        out.extend_from_slice(&buf[at..]);
        Bytes::from(out)
    }

    /// The exact length of the outcome.
    fn length(&self, buf: &[u8]) -> usize {
        let mut at = 0;
        let mut removed = 0;
        for splice in &self.splices {
            let start = splice.range.at().clamp(at, buf.len());
            at = splice.range.to().clamp(start, buf.len());
            removed += at - start;
        }
        buf.len() - removed + self.arena.len()
    }

    /// Turns the cut elements into ranges: of several neighbours that go, the commas between them and one beside them; the
    /// whole line where nothing of it stays. Lines, elements and cuts are walked side by side.
    fn resolve_cuts(&mut self) {
        let mut cuts = std::mem::take(&mut self.cuts);
        if !cuts.is_sorted() {
            cuts.sort_unstable();
        }
        let mut cuts = &cuts[..];
        for header in self.message.headers() {
            skip_before(&mut cuts, header.line.start);
            match cuts.first() {
                None => return,
                Some(cut) if cut.end <= header.line.end => self.cut_from_line(header, &mut cuts),
                Some(_) => {}
            }
        }
    }

    fn cut_from_line(&mut self, header: &Header, cuts: &mut &[Span]) {
        let elements = Elements::of_line(self.message.bytes(), header);
        let elements: SmallVec<[(Span, bool); 8]> = elements
            .map(|element| {
                skip_before(cuts, element.span.start);
                (element.span, cuts.first() == Some(&element.span))
            })
            .collect();
        if elements.iter().all(|(_, goes)| *goes) {
            return self.remove(header.line);
        }
        let mut from = 0;
        while from < elements.len() {
            let run = elements[from..].iter().take_while(|(_, goes)| *goes).count();
            if run == 0 {
                from += 1;
                continue;
            }
            let last = from + run - 1;
            let range = match elements.get(last + 1) {
                Some((next, _)) => Span { start: elements[from].0.start, end: next.start },
                None => Span { start: elements[from - 1].0.end, end: elements[last].0.end },
            };
            self.remove(range);
            from = last + 1;
        }
    }
}

/// Leaves out the spans that start before `at`.
fn skip_before(spans: &mut &[Span], at: u32) {
    while let Some((first, rest)) = spans.split_first()
        && first.start < at
    {
        *spans = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn scan(text: &str) -> Message {
        Message::scan(Bytes::copy_from_slice(text.as_bytes())).expect("scan")
    }

    pub(super) fn edited(text: &str, change: impl FnOnce(&Message, &mut Edit<'_>)) -> String {
        let message = scan(text);
        let mut edit = Edit::new(&message);
        change(&message, &mut edit);
        String::from_utf8(edit.finish().to_vec()).expect("utf-8")
    }

    const HEAD: &str = "OPTIONS sip:h SIP/2.0\r\n";

    pub(super) fn line(headers: &str, change: impl FnOnce(&Message, &mut Edit<'_>)) -> String {
        let out = edited(&format!("{HEAD}{headers}\r\nbody"), change);
        out.strip_prefix(HEAD).and_then(|out| out.strip_suffix("\r\nbody")).expect("the rest stays").to_owned()
    }

    #[test]
    fn nothing_changed_is_the_same_bytes() {
        let message = scan("OPTIONS sip:h SIP/2.0\r\nA: b\r\n\r\n");
        assert_eq!(Edit::new(&message).finish(), message.bytes());
    }

    #[test]
    fn a_fold_goes_on_as_a_space_wherever_it_stood() {
        assert_eq!(line("A: b\r\n  c\r\n\td\r\nSubject:\r\n e \r\n f\r\n", |_, _| {}), "A: b c d\r\nSubject: e  f\r\n");
        assert_eq!(line("A: b\r\n Content-Length: 0\r\nl:\r\n 4\r\n", |_, _| {}), "A: b Content-Length: 0\r\nl: 4\r\n");
        assert_eq!(
            line("v: x\r\nMax-Forwards:\r\n\t70\r\n", |_, e| e.set_max_forwards(69)),
            "v: x\r\nMax-Forwards: 69\r\n"
        );
    }

    #[test]
    fn headers_set_and_added() {
        assert_eq!(
            line("v: x\r\nMax-forwards :  0070\r\n", |_, e| e.set_max_forwards(69)),
            "v: x\r\nMax-forwards :  69\r\n"
        );
        assert_eq!(line("v: x\r\nA: b\r\n", |_, e| e.set_max_forwards(70)), "v: x\r\nMax-Forwards: 70\r\nA: b\r\n");
        assert_eq!(line("v: x\r\nA: b\r\n", |_, e| e.add_last("Path", b"<p>")), "v: x\r\nA: b\r\nPath: <p>\r\n");
        assert_eq!(line("A: b\r\n", |_, e| e.say_length()), "A: b\r\nContent-Length: 4\r\n");
        assert_eq!(line("l : 4\r\n", |_, e| e.say_length()), "l : 4\r\n");
        assert_eq!(line("A:\r\n", |m, e| e.set_header(&m.headers()[0], b"b")), "A:b\r\n");
        assert_eq!(
            edited("OPTIONS sip:h SIP/2.0\r\n\r\n", |_, e| e.set_request_uri(b"sip:other")),
            "OPTIONS sip:other SIP/2.0\r\n\r\n"
        );
        assert_eq!(
            line("v: x\r\n", |_, e| {
                e.add_after_vias("A", b"1");
                e.add_after_vias("B", b"2");
                e.push_via(b"y");
                e.pop_via();
            }),
            "Via: y\r\nA: 1\r\nB: 2\r\n"
        );
    }

    #[test]
    fn a_line_on_top_of_its_own_kind() {
        let add = |headers: &str| line(headers, |_, e| e.add_on_top(Name::RecordRoute, b"<n>"));
        assert_eq!(add("v: x\r\nA: b\r\n"), "v: x\r\nRecord-Route: <n>\r\nA: b\r\n");
        assert_eq!(
            add("record-route: <a>,<b>\r\nv: x\r\nRecord-Route: <c>\r\n"),
            "Record-Route: <n>\r\nrecord-route: <a>,<b>\r\nv: x\r\nRecord-Route: <c>\r\n"
        );
        assert_eq!(
            add("v: x\r\nA: b\r\nRecord-Route: <c>\r\n"),
            "v: x\r\nA: b\r\nRecord-Route: <n>\r\nRecord-Route: <c>\r\n"
        );
    }

    #[test]
    fn cuts_leave_a_well_formed_list_in_every_combination() {
        let list = ["<sip:a>", "<sip:b,c>", "<sip:d>", "<sip:e>"];
        for mask in 0_usize..16 {
            let stays: Vec<_> = (0..4).filter(|i| mask & (1 << i) == 0).map(|i| list[i]).collect();
            let cut = |m: &Message, e: &mut Edit<'_>| {
                for (index, element) in m.list(Name::Route).enumerate() {
                    if mask & (1 << index) != 0 {
                        e.cut(&element);
                    }
                }
            };
            let want = if stays.is_empty() {
                "A: b\r\n".to_owned()
            } else {
                format!("Route: {}\r\nA: b\r\n", stays.join(", "))
            };
            assert_eq!(line(&format!("Route: {}\r\nA: b\r\n", list.join(", ")), cut), want, "{mask:04b}");
        }
    }

    #[test]
    fn options_are_removed_and_empty_lines_go() {
        assert_eq!(
            line("k: path, outbound ,gruu\r\n", |_, e| e.remove_option(Name::Supported, b"Outbound")),
            "k: path, gruu\r\n"
        );
        assert_eq!(
            line("k: outbound,outbound\r\nA: b\r\n", |_, e| e.remove_option(Name::Supported, b"outbound")),
            "A: b\r\n"
        );
        assert_eq!(line("k: path\r\n", |_, e| e.remove_option(Name::Require, b"path")), "k: path\r\n");
    }

    #[test]
    fn overlapping_ranges_are_survived() {
        let out = line("A: bcdef\r\n", |m, e| {
            let v = m.headers()[0].value;
            e.replace(v, b"X");
            e.replace(Span { start: v.start + 1, end: v.start + 2 }, b"Y");
            e.remove(m.headers()[0].line);
            e.insert(v.end, b"Z");
        });
        assert_eq!(out, "XYZ");
    }
}
