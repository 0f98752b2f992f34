//! Stable, verifiable IDs for Contacts and routes.
//!
//! A PBX is handed `sip:ID@…` in the place of a phone's Contact. The ID is a MAC over what makes the phone that phone, so
//! the same phone reconnecting is the same binding, and nothing piles up at the PBX. It carries a check of its own, so
//! that "ours" is told by the user part alone, with no table and whatever a PBX does to host, port and parameters.
//!
//! All IDs of one deployment come from one 32-byte key. Each use has its own key derived from it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use ring::hmac;

use super::base32;
use super::siphash::SipKey;

/// Bytes of MAC that tell one binding from another. Eighty bits: two of a million phones collide with odds of one to
/// 10¹².
const TAG: usize = 10;
/// Bytes of MAC over the tag, which tell our IDs from anybody's: looked at with every message, so a cheap one.
const CHECK: usize = 6;
const ID: usize = TAG + CHECK;
/// `h`, then 26 characters.
const ID_TEXT: usize = 1 + base32::encoded_len(ID);

/// Bytes of MAC under a route mark: what stands between a phone and somebody else's dialog.
const MARK_CHECK: usize = 8;
/// What it is over: the binding's tag and the target's number.
const SIGNED: usize = TAG + 4;
const MARK: usize = SIGNED + MARK_CHECK;
/// `r`, then 36 characters.
const MARK_TEXT: usize = 1 + base32::encoded_len(MARK);

/// The secret that IDs, route marks and branches are made with and told by.
#[derive(Clone)]
pub struct Key {
    tag: hmac::Key,
    check: SipKey,
    route: SipKey,
    route_before: hmac::Key,
    pub(super) branch: SipKey,
    pub(super) from_phone: SipKey,
    pub(super) from_upstream: SipKey,
    hash: SipKey,
}

impl Key {
    /// From 32 secret bytes: the `contact_key`, or those kept in the state directory. Another key makes other IDs, so a
    /// PBX's old Contacts are no longer ours.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let derived = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, purpose).as_ref());
        let sip = |purpose: &[u8]| SipKey::from_bytes(&first(hmac::sign(&root, purpose).as_ref()));
        Key {
            tag: derived(b"holdline binding tag"),
            check: sip(b"holdline binding check"),
            route: sip(b"holdline route mark, short"),
            route_before: derived(b"holdline route mark"),
            branch: sip(b"holdline branch"),
            from_phone: sip(b"holdline loop hash, phone side"),
            hash: sip(b"holdline hash"),
            from_upstream: sip(b"holdline loop hash, upstream side"),
        }
    }

    /// The ID of a binding: 10 bytes of HMAC-SHA-256 over `parts`, then 6 bytes of SipHash over those.
    #[must_use]
    pub fn binding_id(&self, parts: &IdParts<'_>) -> BindingId {
        let mut mac = hmac::Context::with_key(&self.tag);
        field(&mut mac, &[parts.aor]);
        field(&mut mac, &[parts.contact.0, parts.contact.1]);
        match parts.instance {
            Some(instance) => field(&mut mac, &[b"=", instance]),
            None => field(&mut mac, &[]),
        }
        match parts.source.to_canonical() {
            IpAddr::V4(ip) => field(&mut mac, &[&ip.octets()]),
            IpAddr::V6(ip) => field(&mut mac, &[&ip.octets()]),
        }
        self.id_of_tag(first(mac.sign().as_ref()))
    }

    /// A hash that no untrusted peer can aim at, over what [`Key::binding_id`] makes an ID of.
    #[must_use]
    pub fn hash_of_parts(&self, parts: &IdParts<'_>) -> u64 {
        let (before, after) = parts.contact;
        let has_instance = [u8::from(parts.instance.is_some())];
        let instance = parts.instance.unwrap_or_default();
        match parts.source.to_canonical() {
            IpAddr::V4(ip) => self.hash(&[parts.aor, before, after, &has_instance, instance, &ip.octets()]),
            IpAddr::V6(ip) => self.hash(&[parts.aor, before, after, &has_instance, instance, &ip.octets()]),
        }
    }

    /// The ID in a user part, if this key made it. User parts are case-sensitive (RFC 3261 §19.1.4): only the exact
    /// spelling passes.
    #[must_use]
    pub fn verify(&self, user: &[u8]) -> Option<BindingId> {
        let bytes: [u8; ID] = base32::decode(user.strip_prefix(b"h")?)?;
        let id = self.id_of_tag(first(&bytes));
        same(&id.0, user).then_some(id)
    }

    /// The user part of a Record-Route: which binding a dialog belongs to and which target it was set up at, then 8 bytes of
    /// SipHash over both.
    #[must_use]
    pub fn route_mark(&self, id: &BindingId, target: u32) -> RouteMark {
        let mut bytes = [0; MARK];
        bytes[..TAG].copy_from_slice(&id.tag());
        bytes[TAG..SIGNED].copy_from_slice(&target.to_be_bytes());
        let mac = self.route.hash(&bytes[..SIGNED]).to_be_bytes();
        bytes[SIGNED..].copy_from_slice(&mac);
        let mut text = [b'r'; MARK_TEXT];
        base32::encode(&bytes, &mut text[1..]);
        RouteMark(text)
    }

    /// Binding and target out of a Route's user part, if this key made it. Only the exact spelling passes.
    #[must_use]
    pub fn verify_route_mark(&self, user: &[u8]) -> Option<(BindingId, u32)> {
        let bytes: [u8; MARK] = base32::decode(user.strip_prefix(b"r")?)?;
        let (signed, mac) = bytes.split_at(SIGNED);
        // A dialog that was set up under 0.1 has a mark of HMAC-SHA-256.
        let before = || same(&hmac::sign(&self.route_before, signed).as_ref()[..MARK_CHECK], mac);
        if !same(&self.route.hash(signed).to_be_bytes(), mac) && !before() {
            return None;
        }
        Some((self.id_of_tag(first(signed)), u32::from_be_bytes(first(&signed[TAG..]))))
    }

    /// A short hash that no untrusted peer can aim at: for telling calls and handsets apart within this process.
    #[must_use]
    pub fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut text: smallvec::SmallVec<[u8; 256]> = smallvec::SmallVec::new();
        for part in parts {
            text.extend_from_slice(&(part.len() as u32).to_be_bytes());
            text.extend_from_slice(part);
        }
        self.hash.hash(&text)
    }

    /// A tag for a To header of our own responses (RFC 3261 §19.3).
    #[must_use]
    pub fn response_tag(&self, counter: u64) -> String {
        format!("hl{:016x}", self.hash(&[b"tag", &counter.to_be_bytes()]))
    }

    /// The same for an answer without a transaction: a repetition gets the same tag (RFC 3261 §8.2.7), and its ACK brings it
    /// back. `branch`: of the request's topmost Via.
    #[must_use]
    pub fn stateless_tag(&self, call_id: &[u8], branch: &[u8]) -> String {
        format!("hl{:016x}", self.hash(&[b"stateless tag", call_id, branch]))
    }

    fn id_of_tag(&self, tag: [u8; TAG]) -> BindingId {
        let mut bytes = [0; ID];
        bytes[..TAG].copy_from_slice(&tag);
        bytes[TAG..].copy_from_slice(&self.check.hash(&tag).to_be_bytes()[..CHECK]);
        let mut text = [b'h'; ID_TEXT];
        base32::encode(&bytes, &mut text[1..]);
        BindingId(text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// What makes a phone's Contact that phone's Contact.
#[derive(Debug, Clone, Copy)]
pub struct IdParts<'a> {
    /// The address of record, as `aor` of the Contact module normalises it.
    pub aor: &'a [u8],
    /// The Contact URI as it was, in two pieces: before and after a port that is left out. Where none is, the second
    /// piece is empty.
    pub contact: (&'a [u8], &'a [u8]),
    /// The value of `+sip.instance` (RFC 5626 §4.1), quotes and all.
    pub instance: Option<&'a [u8]>,
    /// The address the REGISTER came from.
    pub source: IpAddr,
}

/// `h` and 26 lower-case base32 characters: the user part of a Contact that Holdline handed to a PBX.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BindingId([u8; ID_TEXT]);

/// An ID is a MAC: a part of its tag is as good as any hash of it.
impl Hash for BindingId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_le_bytes(first(&self.0[1..])));
        state.write_u64(u64::from_le_bytes(first(&self.0[9..])));
    }
}

impl BindingId {
    /// Below and above every ID, for ranges.
    pub const FIRST: BindingId = BindingId([0; ID_TEXT]);
    pub const LAST: BindingId = BindingId([0xff; ID_TEXT]);

    /// The text, 27 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A number that is spread evenly over all IDs and the same for the same phone always: to spread work in time, or
    /// to tell phones apart where a collision costs nothing.
    #[must_use]
    pub fn spread(&self) -> u64 {
        u64::from_be_bytes(first(&self.tag()))
    }

    fn tag(&self) -> [u8; TAG] {
        first(&base32::decode::<ID>(&self.0[1..]).unwrap_or_default())
    }
}

impl fmt::Display for BindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for BindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `r` and 36 lower-case base32 characters: the user part of a Record-Route of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteMark([u8; MARK_TEXT]);

impl RouteMark {
    /// The text, 37 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RouteMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RouteMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One field of a MAC's input, its length ahead, so that no two lists of fields read the same.
fn field(mac: &mut hmac::Context, pieces: &[&[u8]]) {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    mac.update(&(length as u64).to_be_bytes());
    for piece in pieces {
        mac.update(piece);
    }
}

/// The first `N` bytes; zeroes where there are fewer.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

/// Equality whose duration tells nothing about where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differing, (x, y)| differing | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::{BindingId, IdParts, Key};

    const PARTS: IdParts<'static> = IdParts {
        aor: b"1001@pbx.example.com",
        contact: (b"sip:1001@192.168.1.10:5060", b""),
        instance: None,
        source: IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 10)),
    };

    fn key() -> Key {
        Key::new([7; 32])
    }

    #[test]
    fn an_id_is_h_and_26_characters_of_lower_case_base32() {
        let id = key().binding_id(&PARTS);
        assert_eq!(id.as_str().len(), 27);
        assert!(id.as_str().starts_with('h'));
        assert!(id.as_str()[1..].bytes().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7')));
    }

    #[test]
    fn an_id_stays_the_same_over_releases() {
        assert_eq!(key().binding_id(&PARTS).as_str(), "hi33hqidmcgi3nepy2b5n7thlnq");
    }

    #[test]
    fn every_part_makes_another_id() {
        let key = key();
        let id = key.binding_id(&PARTS);
        for other in [
            IdParts { aor: b"1002@pbx.example.com", ..PARTS },
            IdParts { contact: (b"sip:1001@192.168.1.10:5062", b""), ..PARTS },
            IdParts { instance: Some(b"\"<urn:uuid:1>\""), ..PARTS },
            IdParts { instance: Some(b""), ..PARTS },
            IdParts { source: IpAddr::from([192, 168, 1, 11]), ..PARTS },
            // The boundary between two fields counts.
            IdParts { aor: b"1001@pbx.example.coms", contact: (b"ip:1001@192.168.1.10:5060", b""), ..PARTS },
        ] {
            assert_ne!(key.binding_id(&other), id, "{other:?}");
        }
        assert_ne!(Key::new([8; 32]).binding_id(&PARTS), id);
    }

    #[test]
    fn an_ipv4_address_on_an_ipv6_socket_is_the_same_address() {
        let mapped = IdParts { source: "::ffff:192.168.1.10".parse().expect("an address"), ..PARTS };
        assert_eq!(key().binding_id(&mapped), key().binding_id(&PARTS));
    }

    #[test]
    fn only_the_exact_spelling_of_an_own_id_verifies() {
        let key = key();
        let id = key.binding_id(&PARTS);
        assert_eq!(key.verify(id.as_bytes()), Some(id));
        assert_eq!(key.verify(id.as_str().to_uppercase().as_bytes()), None);
        assert_eq!(key.verify(&id.as_bytes()[..26]), None);
        assert_eq!(key.verify(b""), None);
        assert_eq!(key.verify(b"1001"), None);
        assert_eq!(Key::new([8; 32]).verify(id.as_bytes()), None);
        for position in 0..27 {
            let mut changed = id.as_bytes().to_vec();
            changed[position] = if changed[position] == b'a' { b'b' } else { b'a' };
            assert_eq!(key.verify(&changed), None, "position {position}");
        }
    }

    #[test]
    fn a_route_mark_carries_binding_and_target() {
        let key = key();
        let id = key.binding_id(&PARTS);
        let mark = key.route_mark(&id, 0xdead_beef);
        assert_eq!(key.verify_route_mark(mark.as_str().as_bytes()), Some((id, 0xdead_beef)));
        assert_eq!(key.verify(mark.as_str().as_bytes()), None, "a mark is no Contact");
        assert_eq!(key.verify_route_mark(id.as_bytes()), None, "a Contact is no mark");
        for position in 0..mark.as_str().len() {
            let mut changed = mark.as_str().as_bytes().to_vec();
            changed[position] = if changed[position] == b'a' { b'b' } else { b'a' };
            assert_eq!(key.verify_route_mark(&changed), None, "position {position}");
        }
    }

    #[test]
    fn a_mark_of_before_is_still_one() {
        let key = key();
        let before = b"ri33hqidmcgi3nepy32w3536aizomuaggna2a";
        assert_eq!(key.verify_route_mark(before), Some((key.binding_id(&PARTS), 0xdead_beef)));
        assert_ne!(key.route_mark(&key.binding_id(&PARTS), 0xdead_beef).as_str().as_bytes(), before);
    }

    #[test]
    fn tags_and_hashes_differ_by_every_part() {
        let key = key();
        assert_ne!(key.response_tag(1), key.response_tag(2));
        assert_ne!(key.hash(&[b"ab", b"c"]), key.hash(&[b"a", b"bc"]));
        assert_ne!(key.hash(&[b"a"]), Key::new([8; 32]).hash(&[b"a"]));
    }

    #[test]
    fn a_key_does_not_print_itself() {
        assert_eq!(format!("{:?}", key()), "Key(secret)");
    }

    proptest! {
        #[test]
        fn anything_may_be_asked(user in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(key().verify(&user), None);
            prop_assert_eq!(key().verify_route_mark(&user), None);
        }

        #[test]
        fn what_a_key_made_it_knows(aor: Vec<u8>, contact: Vec<u8>, instance: Option<Vec<u8>>, source: IpAddr, target: u32) {
            let key = key();
            let parts = IdParts { aor: &aor, contact: (&contact, b""), instance: instance.as_deref(), source };
            let id: BindingId = key.binding_id(&parts);
            prop_assert_eq!(key.verify(id.as_bytes()), Some(id));
            let mark = key.route_mark(&id, target);
            prop_assert_eq!(key.verify_route_mark(mark.as_str().as_bytes()), Some((id, target)));
            prop_assert!(BindingId::FIRST < id && id < BindingId::LAST);
        }
    }
}
