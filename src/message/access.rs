//! What the rest of Holdline asks of a message, beside what [`Message`] knows from reading it: each answer is a short walk over
//! the header spans.

use super::header::full_name;
use super::list::{Elements, Param};
use super::scan::Message;
use super::shown::Shown;
use super::{Element, Header, Name, NameAddr, Params, Span, Via, is_lws, is_token, number};

/// CSeq (RFC 3261 §20.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CSeq {
    /// The sequence number.
    pub number: u32,
    /// The method's bytes.
    pub method: Span,
}

impl CSeq {
    /// `None` where it cannot be read, or the number has more than 32 bits.
    pub(super) fn parse(buf: &[u8], value: Span) -> Option<CSeq> {
        let digits = value.of(buf).iter().take_while(|b| b.is_ascii_digit()).count();
        let split = value.at() + digits;
        let method = Span::new(split, value.to()).trim(buf);
        let apart = buf.get(split).is_some_and(|b| is_lws(*b));
        if !apart || method.is_empty() || !method.of(buf).iter().all(|b| is_token(*b)) {
            return None;
        }
        let number = u32::try_from(number(&buf[value.at()..split])?).ok()?;
        Some(CSeq { number, method })
    }
}

/// One element of Contact (RFC 3261 §20.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// `*`: all bindings.
    Star,
    /// An address.
    Addr(NameAddr),
}

impl Message {
    /// All lines of this name, in order. For [`Name::Other`]: all lines of unlisted names.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &Header> {
        let first = self.first_index(name).unwrap_or(self.headers().len());
        self.headers()[first..].iter().filter(move |header| header.name == name)
    }

    /// The trimmed value of one of this message's header lines.
    pub fn value(&self, header: &Header) -> &[u8] {
        header.value.of(self.bytes())
    }

    /// All lines of the header with this full name, in any case; compact spellings of it are found, too.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a Header> {
        self.headers().iter().filter(move |header| {
            let written = header.name_span.of(self.bytes());
            written.eq_ignore_ascii_case(name) || full_name(written).eq_ignore_ascii_case(name)
        })
    }

    /// The elements of a comma list, over all lines of that name. Empty elements are skipped.
    pub fn list(&self, name: Name) -> impl Iterator<Item = Element> {
        Elements::new(self, name)
    }

    /// Every Via from the top down; `None` for one that cannot be read.
    pub fn vias(&self) -> impl Iterator<Item = Option<Via>> {
        Elements::new(self, Name::Via).enumerate().map(|(place, element)| match place {
            0 => self.top_via().copied(),
            _ => Via::parse(self.bytes(), element.span),
        })
    }

    /// The Call-ID; empty if absent.
    pub fn call_id(&self) -> &[u8] {
        self.first(Name::CallId).map_or(&[], |header| self.value(header))
    }

    /// The Call-ID for a log: the field `call_id` of every line about this message.
    #[must_use]
    pub fn call_id_shown(&self) -> Shown<'_> {
        Shown(self.call_id())
    }

    /// It carries an answer to a challenge: Authorization or Proxy-Authorization.
    pub fn carries_credentials(&self) -> bool {
        [Name::Authorization, Name::ProxyAuthorization].iter().any(|name| self.first(*name).is_some())
    }

    /// The tag of From.
    pub fn from_tag(&self) -> Option<&[u8]> {
        self.tag_of(self.from()?)
    }

    /// The tag of To.
    pub fn to_tag(&self) -> Option<&[u8]> {
        self.tag_of(self.to()?)
    }

    fn tag_of(&self, addr: NameAddr) -> Option<&[u8]> {
        let Param { value, .. } = Params::find(self.bytes(), addr.params, b"tag")?;
        Some(value?.of(self.bytes()))
    }

    /// Max-Forwards; `None` if absent or not a number. Saturates at `u32::MAX`.
    pub fn max_forwards(&self) -> Option<u32> {
        self.number_of(Name::MaxForwards)
    }

    /// Expires in seconds; `None` if absent or not a number. Saturates at `u32::MAX` (RFC 3261 §20.19).
    pub fn expires(&self) -> Option<u32> {
        self.number_of(Name::Expires)
    }

    /// Min-Expires (RFC 3261 §20.23): seconds.
    #[must_use]
    pub fn min_expires(&self) -> Option<u32> {
        self.number_of(Name::MinExpires)
    }

    fn number_of(&self, name: Name) -> Option<u32> {
        let n = number(self.value(self.first(name)?))?;
        Some(u32::try_from(n).unwrap_or(u32::MAX))
    }

    /// Every Contact, over all lines; those that cannot be read are skipped.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> {
        Elements::new(self, Name::Contact).filter_map(|element| {
            if element.span.of(self.bytes()) == b"*" {
                return Some(Contact::Star);
            }
            NameAddr::parse(self.bytes(), element.span).map(Contact::Addr)
        })
    }

    /// True if the option tag is in this list (Supported, Require, Proxy-Require), in any case.
    pub fn has_option(&self, name: Name, tag: &[u8]) -> bool {
        Elements::new(self, name).any(|element| element.span.of(self.bytes()).eq_ignore_ascii_case(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(headers: &str) -> Message {
        Message::scan(Bytes::from(format!("REGISTER sip:h SIP/2.0\r\n{headers}\r\n"))).expect("scan")
    }

    #[test]
    fn cseq_takes_folding_and_leading_zeros_and_nothing_else() {
        let m = message("cseq: 0009\r\n  INVITE\r\n");
        let cseq = m.cseq().expect("cseq");
        assert_eq!((cseq.number, cseq.method.of(m.bytes())), (9, &b"INVITE"[..]));
        for bad in
            ["", "1", "INVITE", "1INVITE", "1 IN VITE", "-1 INVITE", "4294967296 INVITE", "99999999999999999999999 A"]
        {
            assert_eq!(message(&format!("CSeq: {bad}\r\n")).cseq(), None, "{bad}");
        }
    }

    #[test]
    fn lists_run_over_lines_and_say_what_to_cut() {
        let m = message("Route: <sip:a>,\r\n  <sip:b;x=\",\"> , <sip:c>\r\nX: 1\r\nroute:  <sip:d>  \r\n");
        let found: Vec<_> =
            m.list(Name::Route).map(|e| (e.span.of(m.bytes()), e.whole.of(m.bytes()), e.only)).collect();
        assert_eq!(
            found,
            [
                (&b"<sip:a>"[..], &b"<sip:a>, "[..], false),
                (b"<sip:b;x=\",\">", b"<sip:b;x=\",\"> , ", false),
                (b"<sip:c>", b" , <sip:c>", false),
                (b"<sip:d>", b"<sip:d>", true),
            ]
        );
    }

    #[test]
    fn contacts_options_tags_and_numbers() {
        let m = message(
            "Contact: *\r\nm: \"A, B\" <sip:a@h>;q=1, sip:b@h;expires=5, \"open <sip:c@h>\r\nk: path, GRUU\r\nSupported: outbound\r\n\
             From: <sip:x@h>;TAG=1\r\nTo: sip:y@h\r\nMax-Forwards: 0068\r\nExpires: 99999999999\r\n",
        );
        let contacts: Vec<_> = m.contacts().collect();
        assert_eq!(contacts.len(), 3);
        assert_eq!(contacts[0], Contact::Star);
        assert!(m.has_option(Name::Supported, b"gruu") && m.has_option(Name::Supported, b"outbound"));
        assert!(!m.has_option(Name::Require, b"gruu"));
        assert_eq!((m.from_tag(), m.to_tag()), (Some(&b"1"[..]), None));
        assert_eq!((m.max_forwards(), m.expires()), (Some(68), Some(u32::MAX)));
        assert_eq!(m.named(b"contact").count(), 2);
        assert_eq!(m.all(Name::Supported).count(), 2);
        assert_eq!(m.all(Name::Path).count(), 0);
    }
}
