//! Contacts of REGISTER: rewritten on the way up, restored on the way back.
//!
//! A PBX is given `<sip:ID@…>` for a phone's Contact (`contact = rewrite`), or learns of us by Path (RFC 3327), so that
//! what it sends to the phone comes through Holdline. The phone sees its own Contact in the 2xx, byte for byte. All other
//! Contact parameters and their order stay.
//!
//! `reg-id` and the option tag `outbound` (RFC 5626) come off in both modes: Holdline keeps the flow to the phone itself, and
//! a registrar that meets `reg-id` behind an edge without outbound answers 439 for ever.

mod restore;
mod rewrite;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use smallvec::SmallVec;

use crate::flow::Transport;
use crate::message::{Message, Scheme, Span, Uri};
use crate::proxy::marks::BindingId;

pub use restore::{Granted, restore_register};
pub use rewrite::rewrite_register;

/// Contacts in one REGISTER. Phones send one.
pub const MAX_CONTACTS: usize = 8;

/// Bytes of one Contact URI.
pub const MAX_CONTACT: usize = 2048;

/// Bytes of an address of record.
pub const MAX_AOR: usize = 512;

/// How much the Contacts of one REGISTER may grow together, if there are several. With a Via (85 bytes over IPv4),
/// `received` and `rport` (31) and Max-Forwards (18) a REGISTER grows by 250 bytes at most.
pub const MAX_GROWTH: usize = 116;

/// What a Contact without any expiry means (RFC 3261 §10.2.1.1: the registrar decides; one hour is the usual).
const DEFAULT_EXPIRES: u32 = 3600;

/// How a PBX reaches a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By a Contact of ours in the place of the phone's: works with every registrar.
    #[default]
    Rewrite,
    /// By Path, if the phone says `Supported: path`; else as `Rewrite`.
    Path,
}

/// Whose REGISTER it is, and how it reached us.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The address of record, see [`aor`].
    pub aor: &'a str,
    /// Where it came from.
    pub source: SocketAddr,
    /// What it came over.
    pub transport: Transport,
}

/// What upstream shall send to.
#[derive(Debug, Clone, Copy)]
pub struct Advertised<'a> {
    /// `host:port`, an IPv6 address in brackets.
    pub sent_by: &'a str,
    /// The upstream transport.
    pub transport: Transport,
}

/// What is known of a Contact's binding when it is renewed or taken off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// Another URI has the binding since.
    pub replaced: bool,
    /// Seconds it asked for of its own accord, and what it was told at last.
    pub terms: Terms,
    /// The least that the PBX takes, as far as it said so.
    pub least: u32,
}

/// Seconds of a binding; 0 where nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// What the handset asked for of its own accord.
    pub wanted: u32,
    /// What it was told that it has.
    pub told: u32,
}

impl Known {
    /// What goes up for a handset that asks for so much. One that asks for what it was told at last would be told that, or less,
    /// for ever: it gets what it asked for at first, so that it can be told more again.
    #[must_use]
    pub fn raised(&self, asked: u32) -> u32 {
        let repeats = asked != 0 && asked == self.terms.told;
        if repeats { asked.max(self.terms.wanted).max(self.least) } else { asked }
    }
}

/// What a REGISTER asked for, as it went up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upward {
    /// The Contacts that became ours, in their order. With a Path: one, which stands for all of them.
    pub bound: SmallVec<[Bound; 1]>,
    /// Contacts that became ours but only ask whether a server lives (Cisco's `expires=0;cisco-keep-alive`): they neither
    /// make nor end a binding.
    pub asking: SmallVec<[Bound; 0]>,
    /// `Contact: *`: all bindings of the address of record are to go.
    pub wildcard: bool,
    /// A Path was added, and the Contacts left alone.
    pub path: bool,
    /// A `sips:` Contact is registered over an upstream without TLS: what it promises ends at Holdline.
    pub plain: bool,
}

/// One Contact that became ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What the PBX knows it by.
    pub id: BindingId,
    /// The phone's own URI, as it was. May carry URI headers, see [`without_headers`].
    pub contact: Box<[u8]>,
    /// Seconds asked for, as it went up: the parameter, else the Expires header; `None` leaves it to the registrar.
    pub expires: Option<u32>,
    /// The value of `+sip.instance`, with its quotes.
    pub instance: Option<Box<[u8]>>,
}

/// A REGISTER that is not forwarded. The answer is always 400: a phone does not try such a request again as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactRefusal {
    /// A Contact that cannot be read; or a URI with `?` or `,` outside `<>`, or with white space, quotes or brackets in it.
    BadContact,
    /// A Contact URI longer than [`MAX_CONTACT`].
    LongContact,
    /// More than [`MAX_CONTACTS`], or so many short ones that the request would grow by more than [`MAX_GROWTH`].
    TooManyContacts,
}

impl ContactRefusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        400
    }

    /// A reason phrase that says what is wrong.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            ContactRefusal::BadContact => "Bad Contact",
            ContactRefusal::LongContact => "Contact Too Long",
            ContactRefusal::TooManyContacts => "Too Many Contacts",
        }
    }
}

/// The address of record of a REGISTER: its To URI as `user@host`, host in lower case, without scheme, password, port and
/// parameters; escapes stay. `None` where To is missing, no SIP or `tel:` URI, or longer than [`MAX_AOR`].
#[must_use]
pub fn aor(msg: &Message) -> Option<Box<str>> {
    aor_of(msg.bytes(), msg.to()?.uri)
}

/// The address of record that a From or To URI names, see [`aor`].
#[must_use]
pub fn aor_of(buf: &[u8], uri: Span) -> Option<Box<str>> {
    let uri = Uri::parse(buf, uri)?;
    let user = uri.user_part(buf);
    let host = uri.host.of(buf);
    let mut aor = Vec::with_capacity(user.map_or(0, <[u8]>::len) + 1 + host.len());
    match (uri.scheme, user) {
        (Scheme::Sip | Scheme::Sips, Some(user)) => {
            aor.extend_from_slice(user);
            aor.push(b'@');
        }
        (Scheme::Sip | Scheme::Sips, None) => {}
        (Scheme::Tel, Some(number)) => aor.extend_from_slice(number),
        (Scheme::Tel, None) | (Scheme::Other, _) => return None,
    }
    let before = aor.len();
    aor.extend_from_slice(host);
    aor[before..].make_ascii_lowercase();
    if aor.is_empty() || aor.len() > MAX_AOR {
        return None;
    }
    // Raw bytes that are no UTF-8 become escapes, so that two users stay two.
    Some(match String::from_utf8(aor) {
        Ok(text) => text.into(),
        Err(raw) => raw.as_bytes().escape_ascii().to_string().into(),
    })
}

/// A Contact URI as a Request-URI: without the headers (`?…`), which a Request-URI may not have (RFC 3261 §19.1.1).
#[must_use]
pub fn without_headers(contact: &[u8]) -> &[u8] {
    match Uri::parse(contact, Span::new(0, contact.len())) {
        Some(uri) if !uri.headers.is_empty() => &contact[..uri.headers.at()],
        Some(_) | None => contact,
    }
}
