//! The Vias of a message: ours on top and off again, the mark of where a request came from, and what a response lacks.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::Edit;
use crate::message::digits::{ip_literal, push_ip, push_number};
use crate::message::list::Elements;
use crate::message::scan::Message;
use crate::message::{Name, Span, Via};

impl Edit<'_> {
    /// A new `Via: value` line above the first Via (without any: below the start line).
    pub fn push_via(&mut self, value: &[u8]) {
        let at = self.message.first(Name::Via).map_or(self.message.start_line_end(), |via| via.line.start);
        self.splice(Span { start: at, end: at }, &[b"Via: ", value, b"\r\n"]);
    }

    /// Takes the topmost Via element out, its line with it where it was alone on it (RFC 3261 §16.7 step 3).
    pub fn pop_via(&mut self) {
        if let Some(element) = self.message.list(Name::Via).next() {
            self.cut(&element);
        }
    }

    /// Puts back the Vias of the request, in the place of all that this response to it has, where the response has fewer of them:
    /// some servers copy the top one alone, and an answer must leave with the Vias its request came with (RFC 3261 §8.2.6.2,
    /// §16.7). `request`: as it came to us, from `source`; its topmost Via is stamped as in [`Edit::stamp_via`].
    ///
    /// The response still has our own Via on top, which goes in either case where [`Edit::pop_via`] is called, too. True where
    /// something was put back.
    pub fn restore_vias_from(&mut self, request: &Message, source: SocketAddr) -> bool {
        // The usual case, without taking the lines apart: one Via a line, and one line more than the request has.
        let one_a_line = || request.all(Name::Via).all(|header| memchr::memchr(b',', request.value(header)).is_none());
        if self.message.all(Name::Via).count() > request.all(Name::Via).count() && one_a_line() {
            return false;
        }
        let wanted = Elements::new(request, Name::Via).count();
        if Elements::new(self.message, Name::Via).count() > wanted {
            return false;
        }
        let at = self.message.first(Name::Via).map_or(self.message.start_line_end(), |via| via.line.start);
        for header in self.message.all(Name::Via) {
            self.remove(header.line);
        }
        let stamp = request.top_via().map(|via| Stamp::new(request.bytes(), via, source, true));
        let mut lines: SmallVec<[u8; 512]> = SmallVec::new();
        for (index, header) in request.all(Name::Via).enumerate() {
            match stamp.as_ref().filter(|_| index == 0) {
                Some(stamp) => stamp.copy(&mut lines, request.bytes(), header.line),
                None => lines.extend_from_slice(header.line.of(request.bytes())),
            }
        }
        self.insert(at, &lines);
        true
    }

    /// Marks the topmost Via with where the request came from: `received` where sent-by is not the source address, or the
    /// sender asked with `rport` (RFC 3261 §18.2.1, RFC 3581 §4). A `received` that is there already is replaced.
    /// `fill_rport`: the value of `rport` is filled in, where the parameter is present.
    pub fn stamp_via(&mut self, source: SocketAddr, fill_rport: bool) {
        let Some(via) = self.message.top_via() else { return };
        let stamp = Stamp::new(self.message.bytes(), via, source, fill_rport);
        if let Some((span, port)) = &stamp.rport {
            self.replace(*span, port);
        }
        if let Some((span, received)) = &stamp.received {
            self.replace(*span, received);
        }
    }
}

/// What RFC 3261 §18.2.1 and RFC 3581 §4 do to a Via: ranges and what goes there.
pub(in crate::message) struct Stamp {
    pub(in crate::message) rport: Option<(Span, SmallVec<[u8; 64]>)>,
    pub(in crate::message) received: Option<(Span, SmallVec<[u8; 64]>)>,
}

impl Stamp {
    /// Appends `span` with what is stamped in it.
    fn copy(&self, out: &mut SmallVec<[u8; 512]>, buf: &[u8], span: Span) {
        let mut parts: SmallVec<[_; 2]> = [&self.rport, &self.received].into_iter().flatten().collect();
        parts.sort_by_key(|(range, _)| *range);
        let mut at = span.start;
        for (range, text) in parts {
            out.extend_from_slice(Span { start: at, end: range.start }.of(buf));
            out.extend_from_slice(text);
            at = range.end;
        }
        out.extend_from_slice(Span { start: at, end: span.end }.of(buf));
    }

    pub(in crate::message) fn new(buf: &[u8], via: &Via, source: SocketAddr, fill_rport: bool) -> Stamp {
        let mut stamp = Stamp { rport: None, received: None };
        if let Some(param) = via.rport.filter(|_| fill_rport) {
            let mut text = SmallVec::new();
            text.push(b'=');
            push_number(&mut text, u32::from(source.port()));
            stamp.rport =
                Some((Span { start: param.name.end, end: param.value.map_or(param.name.end, |v| v.end) }, text));
        }
        let ip = source.ip().to_canonical();
        let same = ip_literal(via.host.of(buf)) == Some(ip);
        if same && via.rport.is_none() && via.received.is_none() {
            return stamp;
        }
        let mut text = SmallVec::new();
        stamp.received = Some(if let Some(param) = via.received {
            text.push(b'=');
            push_ip(&mut text, ip);
            (Span { start: param.name.end, end: param.value.map_or(param.name.end, |v| v.end) }, text)
        } else {
            text.extend_from_slice(b";received=");
            push_ip(&mut text, ip);
            (Span::empty(via.whole.to()), text)
        });
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{edited, line, scan};
    use super::*;

    #[test]
    fn push_and_pop_via() {
        assert_eq!(line("A: b\r\nv: x\r\n", |_, e| e.push_via(b"y")), "A: b\r\nVia: y\r\nv: x\r\n");
        assert_eq!(line("A: b\r\n", |_, e| e.push_via(b"y")), "Via: y\r\nA: b\r\n");
        assert_eq!(line("A: b\r\nv: x\r\nVia: z\r\n", |_, e| e.pop_via()), "A: b\r\nVia: z\r\n");
        assert_eq!(line("v: x ,\r\n z\r\n", |_, e| e.pop_via()), "v: z\r\n");
        assert_eq!(line("A: b\r\n", |_, e| e.pop_via()), "A: b\r\n");
    }

    #[test]
    fn stamps() {
        let source: SocketAddr = "192.0.2.9:5063".parse().expect("addr");
        let stamp = |via: &str, fill: bool| line(&format!("Via: {via}\r\n"), |_, e| e.stamp_via(source, fill));
        assert_eq!(stamp("SIP/2.0/UDP 192.0.2.9;branch=x", true), "Via: SIP/2.0/UDP 192.0.2.9;branch=x\r\n");
        assert_eq!(
            stamp("SIP/2.0/UDP 10.0.0.1;branch=x", true),
            "Via: SIP/2.0/UDP 10.0.0.1;branch=x;received=192.0.2.9\r\n"
        );
        assert_eq!(
            stamp("SIP/2.0/UDP 192.0.2.9;rport;branch=x , y", true),
            "Via: SIP/2.0/UDP 192.0.2.9;rport=5063;branch=x;received=192.0.2.9 , y\r\n"
        );
        assert_eq!(
            stamp("SIP/2.0/UDP phone;received=6.6.6.6;rport=1;x", true),
            "Via: SIP/2.0/UDP phone;received=192.0.2.9;rport=5063;x\r\n"
        );
        assert_eq!(stamp("SIP/2.0/UDP phone;rport", false), "Via: SIP/2.0/UDP phone;rport;received=192.0.2.9\r\n");
        let source: SocketAddr = "[2001:db8::1]:5060".parse().expect("addr");
        assert_eq!(
            line("Via: SIP/2.0/UDP [2001:DB8:0::1]\r\n", |_, e| e.stamp_via(source, true)),
            "Via: SIP/2.0/UDP [2001:DB8:0::1]\r\n"
        );
        assert_eq!(
            line("Via: SIP/2.0/UDP a\r\n", |_, e| e.stamp_via(source, true)),
            "Via: SIP/2.0/UDP a;received=2001:db8::1\r\n"
        );
    }

    #[test]
    fn a_response_with_too_few_vias_gets_those_of_its_request() {
        let source: SocketAddr = "192.0.2.9:5063".parse().expect("addr");
        let request = scan(
            "OPTIONS sip:h SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.1 ;rport;branch=1 ,\r\n SIP/2.0/TCP b\r\nA: b\r\nVIA: SIP/2.0/TCP c\r\n\r\n",
        );
        let restored =
            "v: SIP/2.0/UDP 10.0.0.1 ;rport=5063;branch=1;received=192.0.2.9 , SIP/2.0/TCP b\r\nVIA: SIP/2.0/TCP c\r\n";
        let answer = |vias: &str, pop: bool| {
            let mut done = false;
            let out = edited(&format!("SIP/2.0 200 OK\r\n{vias}To: z\r\n\r\nbody"), |_, e| {
                done = e.restore_vias_from(&request, source);
                if pop {
                    e.pop_via();
                }
            });
            (out, done)
        };
        for few in [
            "Via: SIP/2.0/UDP ours\r\n",
            "Via: SIP/2.0/UDP ours;branch=1, SIP/2.0/UDP 10.0.0.1\r\n",
            "Via: SIP/2.0/UDP ours\r\nVia: SIP/2.0/TCP b, SIP/2.0/TCP c\r\n",
            "",
        ] {
            for pop in [true, false] {
                let want = format!("SIP/2.0 200 OK\r\n{restored}To: z\r\n\r\nbody");
                assert_eq!(answer(few, pop), (want, true), "{few} {pop}");
            }
        }
        let apart = "X: y\r\nVia: SIP/2.0/UDP ours\r\nA: b\r\nVia: SIP/2.0/TCP b\r\n";
        let want = format!("SIP/2.0 200 OK\r\nX: y\r\n{restored}A: b\r\nTo: z\r\n\r\nbody");
        assert_eq!(answer(apart, true), (want, true));
        let all = "Via: SIP/2.0/UDP ours, a, b\r\nv: c\r\n";
        let want = "SIP/2.0 200 OK\r\nVia: a, b\r\nv: c\r\nTo: z\r\n\r\nbody".to_owned();
        assert_eq!(answer(all, true), (want, false));
    }
}
