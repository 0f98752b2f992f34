//! How an exchange begins.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::invite::InviteRelay;
use super::plain::{Course, PlainRelay};
use super::register::RegisterRelay;
use super::{Exchange, Kind, Registering, Relay};
use crate::message::{Message, Method};
use crate::proxy::edge::Edge;
use crate::proxy::flows::Flows;
use crate::proxy::ids::CallKey;
use crate::proxy::inbound::route::Destination;
use crate::proxy::registrar::phone_address;
use crate::proxy::site::Site;
use crate::transaction::ServerId;
use crate::upstream::Upstream;

/// The way of a request that is no REGISTER to its destination.
pub(crate) fn course(destination: Destination, site: &Site, upstream: &Upstream, flows: &Flows) -> (Course, Kind) {
    match destination {
        Destination::Active | Destination::Holdline => (Course::Active, Kind::Up { caller: None }),
        Destination::Target(label) => {
            let in_use = upstream.target(&label).and_then(|target| flows.hop_in_use(target, site.transport));
            (Course::Target(label, in_use), Kind::Up { caller: None })
        }
        Destination::Handset { id, flow, contact } => {
            (Course::Handset(flow, site.lost_flow()), Kind::Down { id, contact })
        }
    }
}

impl Registering {
    pub(crate) fn new(request: &Message, from: &Edge, aor: &str, call: CallKey, site: &Site) -> Self {
        Registering {
            handset: site.handset(aor, from.remote.ip()),
            call,
            cseq: request.cseq().map_or(0, |cseq| cseq.number),
            aor: Arc::from(aor),
            reach: phone_address::of_register(request, from.flow),
            upward: None,
            sent: SmallVec::new(),
        }
    }
}

impl Exchange {
    /// For a REGISTER of a handset. `superseded`: a newer one of its call is there already.
    pub(crate) fn registering(
        server: ServerId,
        request: Message,
        from: &Edge,
        state: Registering,
        relay: RegisterRelay,
        now: Instant,
    ) -> Box<Self> {
        Self::new(server, request, from, Kind::Register(Box::new(state)), Relay::Register(relay), now)
    }

    /// For any other request.
    pub(crate) fn relaying(
        server: ServerId,
        request: Message,
        from: &Edge,
        course: Course,
        kind: Kind,
        now: Instant,
    ) -> Box<Self> {
        let relay = match request.method() {
            Method::Invite => Relay::Invite(InviteRelay::new(course, request.to_tag().is_some())),
            method => Relay::Plain(PlainRelay::new(course, method)),
        };
        Self::new(server, request, from, kind, relay, now)
    }

    fn new(server: ServerId, mut request: Message, from: &Edge, kind: Kind, relay: Relay, now: Instant) -> Box<Self> {
        if from.transport.is_reliable() {
            request.detach();
        }
        Box::new(Exchange {
            id: None,
            server,
            method: request.method(),
            request,
            from: from.clone(),
            kept: None,
            kind,
            relay,
            received_at: now,
            trying_sent: false,
            finished: false,
            seat: None,
            scheduled: None,
        })
    }
}
