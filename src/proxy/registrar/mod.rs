//! Our shadow of the PBX's registrar: which handset a Contact of ours stands for, and for how long.
//!
//! [`Registrar::note`] a REGISTER's Contacts on their way up, [`Registrar::confirm`] them with its 2xx, look one up with
//! [`Bindings::get`]. What a dialog needs to know of a handset that never registered is remembered here, too.

mod binding;
pub mod bindings;
pub mod contact;
mod grants;
mod keepalive;
pub(super) mod phone_address;
mod remembered;
mod served;
pub(super) mod service_routes;
mod stored;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::stored::StoredBinding;

use self::bindings::{Binding, Bindings, BindingsFull, Change, Reach, user_agent};
use self::contact::{Known, Terms, Upward};
use self::grants::Grants;
use self::remembered::RememberedIds;
use self::served::Served;
use self::service_routes::ServiceRoutes;
use super::edge::Edge;
use super::ids::PathId;
use super::marks::{BindingId, IdParts, Key};
use super::site::Site;
use crate::flow::{ConnId, Flow};
use crate::message::{Edit, Message, Name, NameAddr, Span, Uri};
use crate::upstream::TargetId;
use crate::upstream::{HandsetId, Standing};

/// How long a binding lives for which no 2xx has come yet: a REGISTER's longest life.
const UNCONFIRMED: Duration = Duration::from_secs(64);
/// A handset that never registered here but begins a dialog is remembered for so long, longer with each of its requests; and
/// so long a connection is kept for the dialogs it may carry.
pub(super) const UNREGISTERED: Duration = Duration::from_secs(4 * 3600);

/// A REGISTER that goes up, or whose 2xx came: who sent it and where it was sent.
#[derive(Debug)]
pub(super) struct Registering<'r> {
    pub request: &'r Message,
    /// Where it came from.
    pub from: &'r Edge,
    /// The address of record.
    pub aor: &'r Arc<str>,
    /// How the handset is reached.
    pub reach: Reach,
    /// The target it goes to, or that answered.
    pub target: &'r TargetId,
}

impl Registering<'_> {
    fn binding(&self, id: BindingId, contact: &[u8], expires: Instant) -> Binding {
        Binding {
            id,
            aor: self.aor.clone(),
            contact: contact.into(),
            reach: self.reach,
            source: self.from.remote,
            transport: self.from.transport,
            target: self.target.clone(),
            expires,
            confirmed: false,
            user_agent: user_agent(self.request),
            last_status: None,
            terms: Terms::default(),
        }
    }
}

/// The bindings, and when they end.
#[derive(Debug)]
pub(super) struct Registrar {
    bindings: Bindings,
    /// When the handsets' registrations end.
    grants: Option<Grants>,
    /// The Min-Expires of the last 423, and the target that said so.
    least: Option<(TargetId, u32)>,
    served: Served,
    service_routes: ServiceRoutes,
    ids: RememberedIds,
}

impl Registrar {
    /// `limit`: bindings at once.
    pub(super) fn new(limit: usize) -> Self {
        Registrar {
            bindings: Bindings::new(limit),
            grants: None,
            least: None,
            served: Served::new(limit),
            service_routes: ServiceRoutes::default(),
            ids: RememberedIds::new(limit),
        }
    }

    pub(super) fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// What the PBX told handsets to put into their Routes.
    pub(super) fn service_routes(&self) -> &ServiceRoutes {
        &self.service_routes
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.bindings.set_limit(limit);
        self.served.set_limit(limit);
        self.ids.set_limit(limit);
    }

    pub(super) fn connection_lost(&mut self, conn: ConnId) {
        self.bindings.connection_lost(conn);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.bindings.poll_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.bindings.handle_timeout(now);
    }

    /// The next UDP flow to a handset behind NAT that a CRLF CRLF is due on.
    pub(super) fn poll_keepalive(&mut self, now: Instant) -> Option<Flow> {
        let (socket, local, remote) = self.bindings.poll_keepalive(now)?;
        Some(Flow::Udp { socket, local, remote })
    }

    /// The next binding whose stored form is out of date.
    pub(super) fn poll_change(&mut self) -> Option<Change> {
        self.bindings.poll_change()
    }

    /// Takes a binding over from before a restart, if a listener still has its address. False if it is left out.
    pub(super) fn restore(&mut self, stored: &StoredBinding, site: &Site, now: Instant, unix: u64) -> bool {
        let restored = self.bindings.import(stored, &site.key, site.listener_at(stored.local), now, unix);
        if restored {
            self.served.note(site.handset(&stored.aor, stored.remote.ip()), now);
        }
        restored
    }

    /// Takes a handset over from another instance of the fleet. It is stored anew, as ours.
    pub(super) fn take_over(&mut self, stored: &StoredBinding, site: &Site, now: Instant) {
        if self.restore(stored, site, now, 0)
            && let Some(id) = site.key.verify(stored.id.as_bytes())
        {
            self.bindings.mark(id);
        }
    }

    /// What a handset's failure is worth as evidence about a target.
    pub(super) fn standing(&mut self, handset: HandsetId, now: Instant) -> Standing {
        self.served.standing(handset, now)
    }

    /// That of somebody who gives no name.
    pub(super) fn standing_of_nobody(&mut self, now: Instant) -> Standing {
        self.served.of_nobody(now)
    }

    /// How many handsets are known to be served.
    pub(super) fn served(&self) -> usize {
        self.served.len()
    }

    /// The ID of the binding that a Contact asks for, or is taken off from, and what is known of it.
    /// `target`: where the REGISTER goes.
    pub(super) fn known(
        &mut self,
        parts: &IdParts<'_>,
        contact: &[u8],
        from: &Edge,
        target: &TargetId,
        key: &Key,
    ) -> (BindingId, Known) {
        let id = self.ids.of(key, parts, &self.bindings);
        let Some(binding) = self.bindings.get(&id) else { return (id, Known::default()) };
        let replaced = self.bindings.newest(&id).is_some_and(|newest| has_replaced(newest, contact, from));
        let least = self.least.as_ref().filter(|(said, _)| said == target).map_or(0, |(_, least)| *least);
        (id, Known { replaced, terms: binding.terms, least })
    }

    /// A target's 423: what goes up to it from now on for those who ask for what they were told is not below this.
    pub(super) fn note_least(&mut self, target: &TargetId, response: &Message) {
        if let Some(least) = response.min_expires() {
            self.least = Some((target.clone(), least.min(bindings::LONGEST)));
        }
    }

    /// Notes where the handset is reached, so that upstream may call it before its 2xx has come back.
    pub(super) fn note(&mut self, what: &Registering<'_>, upward: &Upward, now: Instant) -> Result<(), BindingsFull> {
        for bound in upward.bound.iter().filter(|bound| bound.expires != Some(0)) {
            self.bindings.upsert(what.binding(bound.id, &bound.contact, now + UNCONFIRMED), now)?;
        }
        Ok(())
    }

    /// A REGISTER's 2xx: gives the handset its own Contacts back and keeps what the PBX granted. `as_noted`: the target that
    /// answered is the one noted last. `path`: by which the answer came.
    pub(super) fn confirm(
        &mut self,
        what: &Registering<'_>,
        upward: Option<&Upward>,
        answer: &mut Answer<'_, '_>,
        site: &Site,
        now: Instant,
    ) {
        let cap = self.longest_grant(upward, site, now);
        self.service_routes.note(answer.response);
        let bindings = &self.bindings;
        let response = answer.response;
        let restored = contact::restore_register(response, answer.edit, &site.key, upward, cap, |id| {
            bindings.get(id).map(|binding| &*binding.contact)
        });
        let Some(upward) = upward else { return };
        if upward.wildcard {
            self.bindings.remove_aor(what.aor);
        }
        if restored.granted.iter().any(|(_, granted)| *granted > 0) {
            self.served.note(site.handset(what.aor, what.from.remote.ip()), now);
        }
        for bound in &upward.bound {
            let granted = restored.granted.iter().find(|(id, _)| *id == bound.id).map_or(0, |(_, granted)| *granted);
            if granted == 0 {
                self.bindings.remove(&bound.id);
                continue;
            }
            // As the answer shows it.
            let told = cap.map_or(granted, |cap| granted.min(cap.max(grants::SHORTEST)));
            let terms = Terms { wanted: bound.expires.unwrap_or(0), told };
            // Noted when the branch went up: confirming it is all there is to do.
            if answer.as_noted && self.bindings.confirm(&bound.id, granted, now) {
                self.bindings.note_answer(&bound.id, response.status(), terms, answer.path);
                continue;
            }
            let binding =
                Binding { last_status: Some(response.status()), ..what.binding(bound.id, &bound.contact, now) };
            if self.bindings.upsert(binding, now).is_ok() {
                self.bindings.confirm(&bound.id, granted, now);
                self.bindings.note_answer(&bound.id, response.status(), terms, answer.path);
            } else {
                tracing::warn!(
                    call_id = %response.call_id_shown(),
                    limit = self.bindings.limit(),
                    "binding table full: a handset registered that cannot be called"
                );
            }
        }
    }

    /// The most seconds that a handset is granted now: `register_interval`, or less so that not all come back at once.
    fn longest_grant(&mut self, upward: Option<&Upward>, site: &Site, now: Instant) -> Option<u32> {
        let cap = site.settings.register_interval?.as_secs().min(u64::from(u32::MAX)) as u32;
        if !upward.is_some_and(|upward| upward.bound.iter().any(|bound| bound.expires != Some(0))) {
            return Some(cap);
        }
        if self.grants.as_ref().is_none_or(|grants| grants.cap() != cap) {
            self.grants = Some(Grants::new(cap, now));
        }
        self.grants.as_mut().map(|grants| grants.grant(now))
    }

    /// The binding of the handset that begins a dialog. For one that is not registered, what is to be remembered of it once
    /// there is a dialog: an attempt to call makes no entry.
    pub(super) fn of_dialog(
        &self,
        request: &Message,
        from: &Edge,
        target: &TargetId,
        site: &Site,
        now: Instant,
    ) -> Option<(BindingId, Option<Binding>)> {
        let buf = request.bytes();
        let aor = contact::aor_of(buf, request.from()?.uri)?;
        let contact = request.list(Name::Contact).next().and_then(|element| NameAddr::parse(buf, element.span));
        let known = || self.bindings.of_aor(&aor);
        // One address may be several handsets that share an AOR (behind one NAT, or on one desk): the flow says which, else the
        // Contact. A request without one leaves the address alone.
        let flow = known().find(|binding| match (binding.reach, from.flow) {
            (Reach::Conn(a), Flow::Conn(b)) => a == b,
            _ => binding.source == from.remote,
        });
        let here = flow.or_else(|| {
            known().find(|binding| {
                binding.source.ip() == from.remote.ip()
                    && contact.is_none_or(|contact| same_place(&binding.contact, contact.uri.of(buf)))
            })
        });
        if let Some(binding) = here {
            return Some((binding.id, None));
        }
        let contact = contact?.uri.of(buf);
        let parts = IdParts { aor: aor.as_bytes(), contact: (contact, b""), instance: None, source: from.remote.ip() };
        let id = site.key.binding_id(&parts);
        let aor = Arc::from(&*aor);
        let reach = phone_address::of_register(request, from.flow);
        let what = Registering { request, from, aor: &aor, reach, target };
        Some((id, Some(what.binding(id, contact, now + UNREGISTERED))))
    }

    /// Remembers a handset that never registered here, for its dialogs.
    pub(super) fn remember(&mut self, caller: Option<Box<Binding>>, now: Instant) {
        if let Some(caller) = caller
            && self.bindings.upsert(*caller, now).is_err()
        {
            tracing::debug!("binding table full: a caller that never registered cannot be reached in its dialog");
        }
    }
}

/// A REGISTER's 2xx on its way to the handset.
#[derive(Debug)]
pub(super) struct Answer<'a, 'm> {
    pub response: &'a Message,
    pub edit: &'a mut Edit<'m>,
    /// The target that answered is the one whose branch was noted last.
    pub as_noted: bool,
    pub path: Option<PathId>,
}

/// Whether a handset that takes off this Contact of a binding has put another in its place since: over the connection that
/// the REGISTER came by, or over a newer one. One that comes over a connection of its own, as at boot, takes off what it left
/// behind.
fn has_replaced(binding: &Binding, contact: &[u8], from: &Edge) -> bool {
    let comes_anew = match (binding.reach, from.flow) {
        (Reach::Conn(known), Flow::Conn(conn)) => conn > known,
        (Reach::Lost, _) | (Reach::Conn(_), Flow::Udp { .. }) => true,
        (Reach::Udp { .. }, _) => false,
    };
    !comes_anew && *binding.contact != *contact
}

/// Two Contact URIs of one handset, which may differ in parameters.
fn same_place(one: &[u8], other: &[u8]) -> bool {
    let place = |uri: &[u8]| {
        let uri = Uri::parse(uri, Span { start: 0, end: uri.len() as u32 })?;
        Some((uri.user, uri.host, uri.port))
    };
    let (Some(a), Some(b)) = (place(one), place(other)) else { return one == other };
    a.0.map(|user| user.of(one)) == b.0.map(|user| user.of(other))
        && a.1.of(one).eq_ignore_ascii_case(b.1.of(other))
        && a.2 == b.2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Side, SocketId, Transport};

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn the_least_that_a_target_takes_is_asked_of_that_target_alone() {
        let (mut registrar, key, now) = (Registrar::new(10), Key::new([7; 32]), Instant::now());
        let (local, remote) = (([192, 0, 2, 1], 5060).into(), ([192, 0, 2, 9], 5060).into());
        let flow = Flow::Udp { socket: SocketId(0), local, remote };
        let from = Edge { flow, side: Side::Phone, transport: Transport::Udp, local, remote, sent_by: "".into() };
        let (a, b): (TargetId, TargetId) = ("a:5060".into(), "b:5060".into());
        let contact = b"sip:204@192.0.2.9";
        let parts = IdParts { aor: b"204@pbx", contact: (contact, b""), instance: None, source: remote.ip() };
        let register = Message::scan("REGISTER sip:pbx SIP/2.0\r\n\r\n".into()).expect("a message");
        let (aor, reach) = (Arc::from("204@pbx"), phone_address::of_register(&register, flow));
        let what = Registering { request: &register, from: &from, aor: &aor, reach, target: &a };
        let id = key.binding_id(&parts);
        registrar.bindings.upsert(what.binding(id, contact, now + UNCONFIRMED), now).expect("room");
        for (said, least) in
            [("Min-Expires: 600\r\n", 600), ("", 600), ("Min-Expires: 4294967295\r\n", bindings::LONGEST)]
        {
            let text = format!("SIP/2.0 423 Interval Too Brief\r\n{said}\r\n");
            registrar.note_least(&a, &Message::scan(text.into()).expect("a message"));
            assert_eq!(registrar.known(&parts, contact, &from, &a, &key), (id, Known { least, ..Known::default() }));
            assert_eq!(registrar.known(&parts, contact, &from, &b, &key), (id, Known::default()));
        }
    }
}
