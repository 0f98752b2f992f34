//! Requests of upstream's for a handset that is unknown here, while the fleet's memory is asked for it.
//!
//! Each has a server transaction already, so that its repetitions end there. It waits for the answer, or [`PATIENCE`], and is then
//! routed once more. Nothing else ever waits for the memory.

use std::time::{Duration, Instant};

use super::edge::Edge;
use super::inbound::route::Lookups;
use super::intake::Intake;
use super::marks::BindingId;
use super::registrar::StoredBinding;
use super::wire::Refusal;
use crate::fleet::{Command, Fleet, Found};
use crate::flow::{Side, Transport};
use crate::message::{Message, Method};
use crate::proxy::Action;
use crate::transaction::ServerId;

/// Below T1 of RFC 3261 §17.1.1.2: whoever sent the request has not repeated it by then.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// The most that wait. One more is answered as without a fleet.
pub const MAX_PARKED: usize = 256;

#[derive(Debug)]
struct Waiting {
    id: BindingId,
    until: Instant,
    server: ServerId,
    request: Message,
    from: Edge,
}

/// What waits, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Parked(Vec<Waiting>);

impl Parked {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.first().map(|waiting| waiting.until)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn take_if(&mut self, gone: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        self.0.extract_if(.., |waiting| gone(waiting)).collect()
    }
}

impl Intake<'_> {
    /// Whether a request that found no handset waits for the fleet's word. If so, the request is taken.
    pub(super) fn parks(&mut self, server: ServerId, request: &Message, from: &Edge, now: Instant) -> bool {
        let house = &mut *self.0;
        if from.side != Side::Upstream || house.parked.len() >= MAX_PARKED || request.method() == Method::Ack {
            return false;
        }
        if !house.fleet.as_ref().is_some_and(Fleet::usable) {
            return false;
        }
        let lookups = Lookups {
            site: &house.site,
            upstream: &house.upstream,
            registrar: &house.registrar,
            flows: &house.flows,
            draining: house.draining,
        };
        let Some(id) = lookups.unknown_handset(request) else { return false };
        if !house.parked.0.iter().any(|waiting| waiting.id == id) {
            house.actions.push_back(Action::Fleet(Command::Find(id.to_string().into())));
        }
        let (request, from) = (request.clone(), from.clone());
        house.parked.0.push(Waiting { id, until: now + PATIENCE, server, request, from });
        true
    }

    /// The fleet's memory has answered. A handset that is reached from an address of ours is ours from now on; one whose way ends at
    /// another instance is not reached from here.
    pub(super) fn found(&mut self, found: &Found, now: Instant) {
        let Found { id, value, remaining, here } = found;
        let Some(id) = self.0.site.key.verify(id.as_bytes()) else { return };
        let waiting = self.0.parked.take_if(|waiting| waiting.id == id);
        if waiting.is_empty() {
            return;
        }
        let stored = serde_json::from_slice::<StoredBinding>(value).ok();
        // By the memory's clock: how long it is valid yet.
        let stored = stored.map(|stored| StoredBinding { expires_at: *remaining, ..stored });
        let house = &mut *self.0;
        let stored = stored.filter(|stored| {
            stored.id == id.to_string() && house.site.admits(Side::Phone, stored.remote, &house.upstream)
        });
        let reached = |stored: &StoredBinding| {
            *here && stored.transport == Transport::Udp.as_str() && house.site.listener_at(stored.local).is_some()
        };
        let elsewhere = match &stored {
            Some(stored) if reached(stored) => {
                house.registrar.take_over(stored, &house.site, now);
                false
            }
            Some(_) => true,
            None => false,
        };
        for Waiting { server, request, from, .. } in waiting {
            self.again(server, request, &from, elsewhere, now);
        }
    }

    /// An INVITE that waits is taken back by whoever sent it.
    pub(super) fn cancel_parked(&mut self, invite: ServerId, now: Instant) {
        for Waiting { server, request, from, .. } in self.0.parked.take_if(|waiting| waiting.server == invite) {
            self.respond(server, &request, &Refusal::new(487, "Request Terminated"), &from, now);
        }
    }

    /// What has waited for long enough is answered as without a fleet.
    pub(super) fn unpark(&mut self, now: Instant) {
        for Waiting { server, request, from, .. } in self.0.parked.take_if(|waiting| waiting.until <= now) {
            self.again(server, request, &from, false, now);
        }
    }

    /// A request that has waited for the fleet's word. `elsewhere`: its handset is there, and not reached from here.
    fn again(&mut self, server: ServerId, request: Message, from: &Edge, elsewhere: bool, now: Instant) {
        if elsewhere {
            let (status, phrase) = self.0.site.lost_flow();
            self.respond(server, &request, &Refusal::new(status, phrase), from, now);
        } else {
            self.routed(server, request, from, false, now);
        }
    }
}
