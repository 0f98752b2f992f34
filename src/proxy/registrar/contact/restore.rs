//! The way back.

use smallvec::SmallVec;

use super::rewrite::seconds;
use super::{Bound, DEFAULT_EXPIRES, Upward};
use crate::message::digits::push_number;
use crate::message::{Edit, Message, Name, NameAddr, Params, Span, Uri};
use crate::proxy::marks::{BindingId, Key};
use crate::proxy::registrar::grants::SHORTEST;

/// What a 2xx said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// Seconds the PBX granted to each of our Contacts that it listed, before any cap, and to each that was asked for: what
    /// it does not list is granted as asked (some PBXs list nothing), and `0` where it was taken off.
    pub granted: SmallVec<[(BindingId, u32); 2]>,
}

/// Takes the 2xx of a REGISTER to the phone's side; the changes go into `edit`. Nothing happens to another response.
///
/// Each Contact with a user part of ours gets the phone's own URI back: from `sent`, which is what [`super::rewrite_register`] gave for the
/// request, else from `lookup`, the binding table (another phone of the same address of record). One that neither knows
/// stays as it is, as do foreign ones.
///
/// `cap` is the longest expiry that a phone sees, in its own Contacts and in Expires, never below 60 s; an expiry below the
/// cap stays. A Path of ours that the registrar echoes comes off.
pub fn restore_register<'t>(
    msg: &Message,
    edit: &mut Edit<'_>,
    key: &Key,
    sent: Option<&Upward>,
    cap: Option<u32>,
    lookup: impl Fn(&BindingId) -> Option<&'t [u8]>,
) -> Granted {
    let mut restored = Granted::default();
    if !(200..300).contains(&msg.status()) {
        return restored;
    }
    let buf: &[u8] = msg.bytes();
    let nothing = Upward::default();
    let sent = sent.unwrap_or(&nothing);
    let cap = cap.map(|cap| cap.max(SHORTEST));
    for element in msg.list(Name::Contact) {
        let Some(addr) = NameAddr::parse(buf, element.span) else { continue };
        let Some(id) = whose(buf, &addr, key, sent, edit, &lookup) else { continue };
        let granted = cap_contact(msg, &addr, cap, edit);
        restored.note(id, granted);
    }
    if let (Some(cap), Some(expires), Some(header)) = (cap, msg.expires(), msg.first(Name::Expires))
        && expires > cap
    {
        edit.set_header(header, cap.to_string().as_bytes());
    }
    for element in msg.list(Name::Path) {
        if user(buf, element.span).is_some_and(|user| key.verify(user).is_some()) {
            edit.cut(&element);
        }
    }
    for bound in &sent.bound {
        if !restored.granted.iter().any(|(id, _)| *id == bound.id) {
            restored.granted.push((bound.id, granted_unlisted(msg, bound)));
        }
    }
    restored
}

impl Granted {
    /// A registrar that lists a Contact twice means the longer one.
    fn note(&mut self, id: BindingId, granted: u32) {
        match self.granted.iter_mut().find(|(known, _)| *known == id) {
            Some((_, longest)) => *longest = granted.max(*longest),
            None => self.granted.push((id, granted)),
        }
    }
}

/// Whose Contact it is, if one of ours; its own URI goes into `edit`.
fn whose<'t>(
    buf: &[u8],
    addr: &NameAddr,
    key: &Key,
    sent: &Upward,
    edit: &mut Edit<'_>,
    lookup: &impl Fn(&BindingId) -> Option<&'t [u8]>,
) -> Option<BindingId> {
    let uri = Uri::parse(buf, addr.uri)?;
    let Some(id) = uri.user_part(buf).and_then(|user| key.verify(user)) else {
        let own = sent.bound.first().filter(|_| sent.path)?;
        return same_contact(buf, addr.uri, &own.contact).then_some(own.id);
    };
    let known = sent.bound.iter().chain(&sent.asking).find(|bound| bound.id == id);
    if let Some(own) = known.map(|bound| &*bound.contact).or_else(|| lookup(&id)) {
        let mut text: SmallVec<[u8; 128]> = SmallVec::new();
        if !addr.bracketed {
            text.push(b'<');
        }
        text.extend_from_slice(own);
        if !addr.bracketed {
            text.push(b'>');
        }
        edit.replace(addr.uri, &text);
    }
    Some(id)
}

/// Shows the phone no more than `cap`; what the PBX granted.
fn cap_contact(msg: &Message, addr: &NameAddr, cap: Option<u32>, edit: &mut Edit<'_>) -> u32 {
    let buf: &[u8] = msg.bytes();
    let param = Params::find(buf, addr.params, b"expires");
    let granted = match param {
        Some(param) => param.value.and_then(|value| seconds(value.of(buf))).unwrap_or(DEFAULT_EXPIRES),
        None => msg.expires().unwrap_or(DEFAULT_EXPIRES),
    };
    let Some(cap) = cap.filter(|cap| granted > *cap) else { return granted };
    let mut digits: SmallVec<[u8; 16]> = SmallVec::new();
    push_number(&mut digits, cap);
    match param {
        Some(param) => match param.value {
            Some(value) => edit.replace(value, &digits),
            None => edit.insert(param.name.end, format!("={cap}").as_bytes()),
        },
        // Else Expires says it for all, and is capped itself.
        None if msg.expires().is_none() => edit.insert(addr.whole.end, format!(";expires={cap}").as_bytes()),
        None => {}
    }
    granted
}

/// What the PBX granted to a Contact that it does not list.
fn granted_unlisted(msg: &Message, bound: &Bound) -> u32 {
    match bound.expires {
        Some(0) => 0,
        asked => msg.expires().or(asked).unwrap_or(DEFAULT_EXPIRES),
    }
}

/// True if a registrar's Contact is the phone's own: byte for byte, or user, host and port (some take parameters off).
fn same_contact(buf: &[u8], listed: Span, own: &[u8]) -> bool {
    if listed.of(buf) == own {
        return true;
    }
    let (Some(a), Some(b)) = (Uri::parse(buf, listed), Uri::parse(own, Span::new(0, own.len()))) else { return false };
    a.user_part(buf) == b.user_part(own) && a.host.of(buf).eq_ignore_ascii_case(b.host.of(own)) && a.port == b.port
}

fn user(buf: &[u8], element: Span) -> Option<&[u8]> {
    let addr = NameAddr::parse(buf, element)?;
    Uri::parse(buf, addr.uri)?.user_part(buf)
}
