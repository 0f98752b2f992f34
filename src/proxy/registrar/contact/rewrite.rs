//! The way up.

use smallvec::SmallVec;

use super::{Advertised, Bound, ContactRefusal, Known, MAX_CONTACT, MAX_CONTACTS, MAX_GROWTH, Mode, Source, Upward};
use crate::flow::Transport;
use crate::message::{Edit, Element, Message, Name, NameAddr, Params, Scheme, Span, Uri};
use crate::proxy::marks::{BindingId, IdParts, Key};

/// Ports from here on are never what somebody typed into a phone: Linux takes its ephemeral ports from 32768 on, the
/// IANA range begins at 49152.
const EPHEMERAL: u16 = 32768;

/// Takes a REGISTER's Contacts to the upstream's side; the changes go into `edit`.
///
/// Every `sip:` and `sips:` Contact becomes `<sip:ID@…;transport=…>`, or a Path is added (see [`Mode`]); `reg-id` and the
/// option tag `outbound` come off, wherever they are. What else stays: `Contact: *`, Contacts of other schemes, and those that are ours already (a
/// phone that takes off what a registrar listed). Over an upstream without TLS `sips:` becomes `sip:` with the transport that there
/// is: the PBX could not reach the other. A REGISTER without Contact asks what is registered: nothing is bound.
///
/// A phone that reconnected renews its Contact: it registers the new one and takes the old one off, which are one at the PBX.
/// Of several Contacts with one ID a single one goes up, one that binds if there is any. `known` gives the ID of a Contact and
/// says what there is of it: taking off a Contact that was replaced takes nothing off at the PBX, and who asks for what it was told asks for what
/// it wanted (see [`Known::raised`]).
///
/// `Err` says what to answer; `edit` is of no use then.
pub fn rewrite_register(
    msg: &Message,
    edit: &mut Edit<'_>,
    key: &Key,
    mode: Mode,
    arrival: &Source<'_>,
    advertised: &Advertised<'_>,
    mut known: impl FnMut(&IdParts<'_>, &[u8]) -> (BindingId, Known),
) -> Result<Upward, ContactRefusal> {
    let buf: &[u8] = msg.bytes();
    let path = mode == Mode::Path && msg.has_option(Name::Supported, b"path");
    let mut upward = Upward::default();
    let mut growth = Growth::default();
    let mut contacts: SmallVec<[Contact; 1]> = SmallVec::new();
    let mut others = 0;
    for (index, element) in msg.list(Name::Contact).enumerate() {
        if index == MAX_CONTACTS {
            return Err(ContactRefusal::TooManyContacts);
        }
        if element.span.of(buf) == b"*" {
            upward.wildcard = true;
            continue;
        }
        let addr = NameAddr::parse(buf, element.span).ok_or(ContactRefusal::BadContact)?;
        if let Some(contact) = Contact::read(msg, element, addr, key, arrival, &mut known)? {
            contacts.push(contact);
        } else {
            growth.less += remove_reg_id(buf, &addr, edit);
            others += 1;
        }
    }
    let lone = others == 0 && contacts.len() == 1;
    for (place, contact) in contacts.iter().enumerate() {
        let gone = contact.asked.takes_off() && contact.known.replaced;
        // With a Path the PBX has the phone's own Contacts, and tells them apart.
        let goes = !path && (gone || !speaks_for_its_id(&contacts, place));
        if goes {
            growth.less += contact.element.span.len();
            edit.cut(&contact.element);
            continue;
        }
        others += 1;
        growth.less += remove_reg_id(buf, &contact.addr, edit);
        if !path {
            let text = contact.ours(advertised);
            growth.less += contact.addr.uri.len();
            growth.more += text.len();
            edit.replace(contact.addr.uri, &text);
        }
        upward.plain |= contact.asked == Asked::Bind && contact.is_secure() && advertised.transport != Transport::Tls;
        if !gone {
            let expires = contact.raise(msg, lone, edit);
            contact.note(buf, expires, path, &mut upward);
        }
    }
    if growth.more > growth.less + MAX_GROWTH && upward.bound.len() + upward.asking.len() > 1 {
        return Err(ContactRefusal::TooManyContacts);
    }
    if let Some(first) = upward.bound.first().filter(|_| path) {
        let secure = contacts.iter().any(|contact| contact.id == first.id && contact.is_secure());
        edit.add_on_top(Name::Path, &path_value(&first.id, secure, advertised));
        upward.path = true;
    }
    if others == 0
        && !contacts.is_empty()
        && let Some(header) = msg.first(Name::Expires)
    {
        // Nothing is left that it could speak of: what goes up asks what is registered.
        edit.remove(header.line);
    }
    edit.remove_option(Name::Supported, b"outbound");
    edit.remove_option(Name::Require, b"outbound");
    Ok(upward)
}

/// Whether a Contact goes up for all that share its ID: the first that binds, else the first.
fn speaks_for_its_id(contacts: &[Contact], place: usize) -> bool {
    let own = &contacts[place];
    let mut alike = contacts.iter().enumerate().filter(|(_, other)| other.id == own.id);
    let binds = |(_, other): &(usize, &Contact)| other.asked == Asked::Bind;
    let first = alike.clone().find(binds).or_else(|| alike.next());
    first.is_some_and(|(first, _)| first == place)
}

/// A parameter of RFC 5626, which comes off. The bytes that it had.
fn remove_reg_id(buf: &[u8], addr: &NameAddr, edit: &mut Edit<'_>) -> usize {
    let mut less = 0;
    for param in Params::new(buf, addr.params).filter(|p| p.name.of(buf).eq_ignore_ascii_case(b"reg-id")) {
        edit.remove(param.whole);
        less += param.whole.len();
    }
    less
}

/// The bytes that go and those that come.
#[derive(Default)]
struct Growth {
    less: usize,
    more: usize,
}

/// What a Contact asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Bind,
    /// `expires=0`.
    TakeOff,
    /// Whether a server lives, see [`Upward::asking`].
    Answer,
}

impl Asked {
    fn takes_off(self) -> bool {
        self == Asked::TakeOff
    }
}

/// A Contact that can become ours.
struct Contact {
    element: Element,
    addr: NameAddr,
    uri: Uri,
    instance: Option<Span>,
    id: BindingId,
    known: Known,
    /// Seconds asked for, see [`Bound::expires`].
    expires: Option<u32>,
    asked: Asked,
}

impl Contact {
    /// `Ok(None)` for one that stays as it is.
    fn read(
        msg: &Message,
        element: Element,
        addr: NameAddr,
        key: &Key,
        arrival: &Source<'_>,
        known: &mut impl FnMut(&IdParts<'_>, &[u8]) -> (BindingId, Known),
    ) -> Result<Option<Contact>, ContactRefusal> {
        let buf: &[u8] = msg.bytes();
        if addr.uri.len() > MAX_CONTACT {
            return Err(ContactRefusal::LongContact);
        }
        let uri = Uri::parse(buf, addr.uri).ok_or(ContactRefusal::BadContact)?;
        if matches!(uri.scheme, Scheme::Tel | Scheme::Other) {
            return Ok(None);
        }
        // It becomes a Request-URI one day: nothing in it may end a line or a bracket. Outside brackets no '?' (RFC 3261
        // §20.10): whose it is cannot be told.
        let text = addr.uri.of(buf);
        let unfit = |byte: &u8| matches!(byte, 0..=b' ' | 0x7f | b'<' | b'>' | b'"');
        if text.iter().any(unfit) || (!addr.bracketed && !uri.headers.is_empty()) {
            return Err(ContactRefusal::BadContact);
        }
        if uri.user_part(buf).is_some_and(|user| key.verify(user).is_some()) {
            return Ok(None);
        }
        let instance = Params::find(buf, addr.params, b"+sip.instance").and_then(|param| param.value);
        let expires = match Params::find(buf, addr.params, b"expires") {
            // An unreadable value counts as 3600 (RFC 3261 §10.3 item 6).
            Some(param) => Some(param.value.and_then(|v| seconds(v.of(buf))).unwrap_or(super::DEFAULT_EXPIRES)),
            None => msg.expires(),
        };
        let asked = match expires {
            Some(0) if Params::find(buf, addr.params, b"cisco-keep-alive").is_some() => Asked::Answer,
            Some(0) => Asked::TakeOff,
            Some(_) | None => Asked::Bind,
        };
        let (id, known) = known(&id_parts(buf, &addr, &uri, instance, arrival), text);
        Ok(Some(Contact { element, addr, uri, instance, id, known, expires, asked }))
    }

    fn is_secure(&self) -> bool {
        self.uri.scheme == Scheme::Sips
    }

    /// Our URI in its place, in brackets where it had none.
    fn ours(&self, advertised: &Advertised<'_>) -> SmallVec<[u8; 96]> {
        let mut text = SmallVec::new();
        if !self.addr.bracketed {
            text.push(b'<');
        }
        push_uri(&mut text, self.is_secure(), &self.id, advertised);
        if !self.addr.bracketed {
            text.push(b'>');
        }
        text
    }

    /// Asks for more where it asks for what it was told; the seconds that go up. `lone`: the Expires header speaks of no other.
    fn raise(&self, msg: &Message, lone: bool, edit: &mut Edit<'_>) -> Option<u32> {
        let asked = self.expires?;
        let raised = self.known.raised(asked);
        if raised == asked {
            return Some(asked);
        }
        let value = match Params::find(msg.bytes(), self.addr.params, b"expires") {
            Some(param) => param.value,
            None => msg.first(Name::Expires).filter(|_| lone).map(|header| header.value),
        };
        let Some(value) = value else { return Some(asked) };
        edit.replace(value, raised.to_string().as_bytes());
        Some(raised)
    }

    fn note(&self, buf: &[u8], expires: Option<u32>, path: bool, upward: &mut Upward) {
        let bound = Bound {
            id: self.id,
            contact: self.addr.uri.of(buf).into(),
            expires,
            instance: self.instance.map(|value| value.of(buf).into()),
        };
        match upward.bound.first_mut().filter(|_| path) {
            _ if self.asked == Asked::Answer => upward.asking.push(bound),
            // One that is to be reached stands for all, not one that is given up.
            Some(first) if first.expires == Some(0) => *first = bound,
            Some(_) => {}
            None => upward.bound.push(bound),
        }
    }
}

/// What the ID is made of that the PBX knows a Contact by.
fn id_parts<'m>(
    buf: &'m [u8],
    addr: &NameAddr,
    uri: &Uri,
    instance: Option<Span>,
    arrival: &Source<'m>,
) -> IdParts<'m> {
    let whole = addr.uri;
    let contact = match (uri.port_span, uri.port) {
        (Some(digits), Some(port)) if is_ephemeral(port, instance.is_some(), arrival) => {
            (Span { start: whole.start, end: uri.host.end }.of(buf), Span { start: digits.end, end: whole.end }.of(buf))
        }
        (Some(_) | None, _) => (whole.of(buf), &b""[..]),
    };
    let instance = instance.map(|value| value.of(buf));
    IdParts { aor: arrival.aor.as_bytes(), contact, instance, source: arrival.source.ip() }
}

/// True for a Contact port that changes whenever the phone reconnects, so that it must not make another binding.
///
/// Over TCP and TLS nobody ever calls a phone at that port: it only tells two phones apart that share all the rest. With
/// a `+sip.instance` that does so. Without one the port stays if it looks chosen: the phone's listening port, 5060 or
/// 5061 in particular, even where a phone happens to connect from it. Over UDP it is where the phone listens.
fn is_ephemeral(port: u16, has_instance: bool, arrival: &Source<'_>) -> bool {
    match arrival.transport {
        Transport::Udp => false,
        Transport::Tcp | Transport::Tls => {
            has_instance || port >= EPHEMERAL || (port == arrival.source.port() && !matches!(port, 5060 | 5061))
        }
    }
}

/// The value of our Path (RFC 3327 §5.1): `lr` for loose routing, `ob` as RFC 5626 §5.1 has it.
fn path_value(id: &BindingId, secure: bool, advertised: &Advertised<'_>) -> SmallVec<[u8; 96]> {
    let mut text = SmallVec::new();
    text.push(b'<');
    push_uri(&mut text, secure, id, advertised);
    text.extend_from_slice(b";lr;ob>");
    text
}

fn push_uri(text: &mut SmallVec<[u8; 96]>, secure: bool, id: &BindingId, advertised: &Advertised<'_>) {
    let secure = secure && advertised.transport == Transport::Tls;
    text.extend_from_slice(if secure { b"sips:" } else { b"sip:" });
    text.extend_from_slice(id.as_bytes());
    text.push(b'@');
    text.extend_from_slice(advertised.sent_by.as_bytes());
    if !secure {
        // `sips:` says it all, and forbids `transport=tls` (RFC 5630 §3.1.3).
        text.extend_from_slice(b";transport=");
        text.extend_from_slice(advertised.transport.as_str().as_bytes());
    }
}

/// `delta-seconds`, at most `u32::MAX` (RFC 3261 §20.19); `None` for anything else.
pub(super) fn seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0_u32, |n, digit| n.saturating_mul(10).saturating_add(u32::from(digit - b'0'))))
}
