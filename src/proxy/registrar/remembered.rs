//! The IDs of handsets' Contacts, remembered: making one is a MAC over some two hundred bytes, and a REGISTER that refreshes
//! asks for the same each time.

use super::bindings::Bindings;
use crate::proxy::marks::{BindingId, IdParts, Key};
use crate::proxy::numbers::NumberMap;

/// By a keyed hash over what makes an ID, the ID that was made of it. At most as many as there may be bindings; all are
/// forgotten where there would be more.
#[derive(Debug)]
pub(super) struct RememberedIds {
    limit: usize,
    by_parts: NumberMap<u64, BindingId>,
}

impl RememberedIds {
    pub(super) fn new(limit: usize) -> Self {
        RememberedIds { limit, by_parts: NumberMap::default() }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The ID of these parts. One that is remembered is taken for a binding alone that has the same address of record, Contact and
    /// source: that two handsets' parts have one hash gives nobody another's ID.
    pub(super) fn of(&mut self, key: &Key, parts: &IdParts<'_>, bindings: &Bindings) -> BindingId {
        let hash = key.hash_of_parts(parts);
        if let Some(id) = self.by_parts.get(&hash)
            && bindings.newest(id).is_some_and(|binding| {
                let contact = &binding.contact;
                *binding.aor.as_bytes() == *parts.aor
                    && binding.source.ip().to_canonical() == parts.source.to_canonical()
                    && contact.starts_with(parts.contact.0)
                    && contact.ends_with(parts.contact.1)
            })
        {
            return *id;
        }
        let id = key.binding_id(parts);
        if self.by_parts.len() >= self.limit {
            self.by_parts.clear();
        }
        self.by_parts.insert(hash, id);
        id
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_parts.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::time::Instant;

    use super::*;
    use crate::flow::{ConnId, Transport};
    use crate::proxy::registrar::bindings::{Binding, Reach};
    use crate::proxy::registrar::contact::Terms;

    /// That of a handset over TCP.
    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn binding(id: BindingId, aor: &str, contact: &str, ip: IpAddr) -> Binding {
        Binding {
            id,
            aor: aor.into(),
            contact: contact.as_bytes().into(),
            reach: Reach::Conn(ConnId::Accepted(1)),
            source: SocketAddr::new(ip, 50000),
            transport: Transport::Tcp,
            target: "a:5060".into(),
            expires: Instant::now(),
            confirmed: false,
            user_agent: "".into(),
            last_status: None,
            terms: Terms::default(),
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn an_id_is_the_one_that_would_be_made_and_the_table_stays_small() {
        let key = Key::new([7; 32]);
        let mut bindings = Bindings::new(100);
        let mut remembered = RememberedIds::new(4);
        let source: SocketAddr = "192.0.2.1:50000".parse().expect("literal");
        for round in 0..3 {
            for n in 0..10 {
                let (aor, contact) = (format!("{n}@pbx"), format!("sip:{n}@192.0.2.1:5060"));
                // The port left out, as of a handset that reconnects.
                let pieces = (&contact.as_bytes()[..15], &b""[..]);
                for (instance, ip) in [(None, source.ip()), (Some(&b"\"<urn:1>\""[..]), IpAddr::from([192, 0, 2, 2]))] {
                    let parts = IdParts { aor: aor.as_bytes(), contact: pieces, instance, source: ip };
                    let id = remembered.of(&key, &parts, &bindings);
                    assert_eq!(id, key.binding_id(&parts), "{round}");
                    assert_eq!(remembered.of(&key, &parts, &bindings), id, "again");
                    assert!(remembered.len() <= 4);
                    let binding = binding(id, &aor, &contact, ip);
                    bindings.upsert(binding, Instant::now()).expect("room");
                    assert_eq!(remembered.of(&key, &parts, &bindings), id, "with its binding");
                }
            }
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn a_hash_that_two_share_gives_nobody_anothers_id() {
        let key = Key::new([7; 32]);
        let source: SocketAddr = "192.0.2.1:50000".parse().expect("literal");
        let parts = IdParts { aor: b"a@pbx", contact: (b"sip:a@h", b";x"), instance: None, source: source.ip() };
        let other = key.binding_id(&IdParts { instance: Some(b"other"), ..parts });
        // Of a binding that differs in one thing, and of one that differs in nothing that is looked at.
        for (aor, contact, ip, taken) in [
            ("b@pbx", "sip:a@h;x", [192, 0, 2, 1], false),
            ("a@pbx", "sip:b@h;x", [192, 0, 2, 1], false),
            ("a@pbx", "sip:a@h;y", [192, 0, 2, 1], false),
            ("a@pbx", "sip:a@h;x", [192, 0, 2, 2], false),
            ("a@pbx", "sip:a@h:5071;x", [192, 0, 2, 1], true),
        ] {
            let (mut remembered, mut bindings) = (RememberedIds::new(4), Bindings::new(4));
            let binding = binding(other, aor, contact, ip.into());
            bindings.upsert(binding, Instant::now()).expect("room");
            remembered.by_parts.insert(key.hash_of_parts(&parts), other);
            let id = remembered.of(&key, &parts, &bindings);
            assert_eq!(id == other, taken, "{aor} {contact}");
            assert_eq!(id == key.binding_id(&parts), !taken, "{aor} {contact}");
        }
    }
}
