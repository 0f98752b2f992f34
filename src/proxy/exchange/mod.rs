//! Exchanges: the response contexts of RFC 3261 §16.7, one for each server transaction that is forwarded.
//!
//! An [`Exchange`] keeps the request and what is known of its sender; its relay decides. `register`, `invite` and `plain` are
//! the relays: events in ([`In`]), wishes out ([`Out`](outlook::Out)), no bytes, no sockets. `rooms` carries the wishes out;
//! `failures` puts together what is looked at later.

pub(super) mod begin;
pub(super) mod branch;
mod classes;
mod failures;
pub(super) mod invite;
pub(super) mod outlook;
pub(super) mod plain;
pub(super) mod register;
pub(super) mod rooms;
mod slots;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use self::branch::Branches;
use self::invite::InviteRelay;
use self::outlook::{BranchId, In, Outbox, Outlook};
use self::plain::PlainRelay;
use self::register::RegisterRelay;
use self::slots::{SlotId, Slots};
use super::admission::Seat;
use super::edge::Edge;
use super::ids::CallKey;
use super::marks::BindingId;
use super::numbers::NumberMap;
use super::registrar::bindings::{Binding, Reach};
use super::registrar::contact::Upward;
use super::traced::Sent;
use crate::flow::{ConnId, Side};
use crate::message::{Message, Method};
use crate::transaction::{ClientId, ServerId};
use crate::upstream::HandsetId;

/// The number of an exchange. Never used twice.
pub(super) type ExchangeId = SlotId;

/// A non-INVITE without a final answer gets its `100` when Timer E has reached T2: 0.5 + 1 + 2 s (RFC 4320 §4.1).
const TRYING_AFTER: Duration = Duration::from_millis(3500);

#[derive(Debug)]
pub(super) struct Exchange {
    /// Its own number, once it is in the table.
    id: Option<ExchangeId>,
    pub server: ServerId,
    pub request: Message,
    pub method: Method,
    /// Where the request came from.
    pub from: Edge,
    /// The failure that is relayed when nothing better comes.
    pub kept: Option<Box<Message>>,
    pub kind: Kind,
    pub relay: Relay,
    received_at: Instant,
    /// A `100` went back, or need not.
    pub trying_sent: bool,
    /// The sender has its final answer, or shall have none: nothing more is relayed.
    pub finished: bool,
    /// What it holds of its sender's share.
    pub seat: Option<Seat>,
    /// The earliest wake-up already in the timer heap.
    scheduled: Option<Instant>,
}

/// What the bytes need to know beside the request.
#[derive(Debug)]
pub(super) enum Kind {
    Register(Box<Registering>),
    /// Any other request of a handset.
    Up {
        /// A handset that never registered here and begins a dialog: remembered when that comes about.
        caller: Option<Box<Binding>>,
    },
    /// A request of upstream to a handset.
    Down {
        /// The handset's binding.
        id: BindingId,
        /// The handset's own Contact URI, which becomes the Request-URI; `None` where Path left it alone.
        contact: Option<Box<[u8]>>,
    },
}

/// What only a REGISTER has.
#[derive(Debug)]
pub(super) struct Registering {
    pub handset: HandsetId,
    /// Call-ID and AOR: a higher CSeq ends an older one's tries.
    pub call: CallKey,
    pub cseq: u32,
    pub aor: Arc<str>,
    /// How the handset is reached.
    pub reach: Reach,
    /// What the Contacts became on the newest branch.
    pub upward: Option<Upward>,
    /// What left on each branch.
    pub sent: SmallVec<[(BranchId, Sent); 1]>,
}

#[derive(Debug)]
pub(super) enum Relay {
    Register(RegisterRelay),
    Invite(InviteRelay),
    Plain(PlainRelay),
}

impl Relay {
    pub(super) fn branches(&self) -> &Branches {
        match self {
            Relay::Register(relay) => &relay.branches,
            Relay::Invite(relay) => &relay.branches,
            Relay::Plain(relay) => &relay.branches,
        }
    }

    pub(super) fn branches_mut(&mut self) -> &mut Branches {
        match self {
            Relay::Register(relay) => &mut relay.branches,
            Relay::Invite(relay) => &mut relay.branches,
            Relay::Plain(relay) => &mut relay.branches,
        }
    }

    /// Takes one event.
    pub(super) fn handle(&mut self, event: In, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        match self {
            Relay::Register(relay) => relay.handle(event, outlook, out),
            Relay::Invite(relay) => relay.handle(event, outlook, out),
            Relay::Plain(relay) => relay.handle(event, outlook, out),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Relay::Register(relay) => relay.poll_timeout(),
            Relay::Invite(relay) => relay.poll_timeout(),
            Relay::Plain(relay) => relay.poll_timeout(),
        }
    }

    fn finish(&mut self) {
        match self {
            Relay::Register(relay) => relay.finish(),
            Relay::Invite(relay) => relay.finish(),
            Relay::Plain(relay) => relay.finish(),
        }
    }

    fn waits(&self) -> bool {
        matches!(self, Relay::Register(relay) if relay.waits())
    }
}

impl Exchange {
    /// The side its responses go to.
    pub(super) fn side(&self) -> Side {
        self.from.side
    }

    /// The sender has its final answer, or shall have none: no further try begins.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.relay.finish();
    }

    /// Whether its `100` is due.
    pub(super) fn trying_is_due(&self, now: Instant) -> bool {
        self.trying().is_some_and(|at| at <= now)
    }

    fn trying(&self) -> Option<Instant> {
        (!self.trying_sent && !self.finished).then(|| self.received_at + TRYING_AFTER)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.trying(), self.relay.poll_timeout()].into_iter().flatten().min()
    }

    /// Nothing more can come of it.
    fn is_over(&self) -> bool {
        let branches = self.relay.branches();
        branches.is_quiet() && !self.relay.waits() && (self.finished || !branches.is_merged())
    }
}

/// What leads to the exchanges, and what is to happen to them next.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_client: NumberMap<ClientId, (ExchangeId, BranchId)>,
    by_server: NumberMap<ServerId, ExchangeId>,
    /// Branches that wait for a connection to open.
    waiting: NumberMap<ConnId, Vec<(ExchangeId, BranchId)>>,
    /// REGISTERs that wait for the first record set, in the order they came.
    held: BTreeSet<(Instant, ExchangeId)>,
    /// What came of carrying out a wish.
    feedback: VecDeque<(ExchangeId, In)>,
}

impl Index {
    /// Which branch a client transaction carries.
    pub(super) fn of_client(&self, client: ClientId) -> Option<(ExchangeId, BranchId)> {
        self.by_client.get(&client).copied()
    }

    pub(super) fn unbind(&mut self, client: ClientId) -> Option<(ExchangeId, BranchId)> {
        self.by_client.remove(&client)
    }

    pub(super) fn of_server(&self, server: ServerId) -> Option<ExchangeId> {
        self.by_server.get(&server).copied()
    }
}

/// All exchanges.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    table: Slots<Box<Exchange>>,
    pub index: Index,
    /// REGISTERs in progress.
    calls: NumberMap<CallKey, ExchangeId>,
    timers: BinaryHeap<Reverse<(Instant, ExchangeId)>>,
}

impl Exchanges {
    pub(super) fn insert(&mut self, exchange: Box<Exchange>) -> ExchangeId {
        let server = exchange.server;
        let id = self.table.insert(exchange);
        if let Some(exchange) = self.table.get_mut(id) {
            exchange.id = Some(id);
        }
        self.index.by_server.insert(server, id);
        id
    }

    pub(super) fn get(&self, id: ExchangeId) -> Option<&Exchange> {
        self.table.get(id).map(Box::as_ref)
    }

    /// One of them, beside what leads to all.
    pub(super) fn split(&mut self, id: ExchangeId) -> Option<(&mut Exchange, &mut Index)> {
        Some((self.table.get_mut(id)?, &mut self.index))
    }

    /// What is to happen to an exchange next, because a wish of it was carried out.
    pub(super) fn poll(&mut self) -> Option<(ExchangeId, In)> {
        self.index.feedback.pop_front()
    }

    /// No wish was carried out without its consequence.
    pub(super) fn is_idle(&self) -> bool {
        self.index.feedback.is_empty()
    }

    /// The branches that waited for this connection, and still do, once.
    pub(super) fn waited_for(&mut self, conn: ConnId) -> Vec<(ExchangeId, BranchId)> {
        let Some(mut waiting) = self.index.waiting.remove(&conn) else { return Vec::new() };
        waiting.retain(|(id, branch)| {
            let branch = self.get(*id).and_then(|exchange| exchange.relay.branches().get(*branch));
            branch.is_some_and(|branch| branch.waits_for(conn))
        });
        waiting
    }

    /// Those that waited for the first record set, in the order they came.
    pub(super) fn release(&mut self) -> impl Iterator<Item = ExchangeId> + use<> {
        std::mem::take(&mut self.index.held).into_iter().map(|(_, id)| id)
    }

    /// REGISTERs that wait, for the time being without a branch.
    pub(super) fn paused(&self) -> Vec<ExchangeId> {
        self.table.iter().filter(|(_, exchange)| exchange.relay.waits()).map(|(id, _)| id).collect()
    }

    /// What a REGISTER of this call and CSeq meets: whether a newer one is there already, and the older one that it supersedes.
    pub(super) fn same_call(&self, call: CallKey, cseq: u32) -> (bool, Option<ExchangeId>) {
        let Some(other) = self.calls.get(&call).copied() else { return (false, None) };
        let known = self.get(other).and_then(|exchange| match &exchange.kind {
            Kind::Register(state) => Some(state.cseq),
            Kind::Up { .. } | Kind::Down { .. } => None,
        });
        match known {
            Some(known) if known > cseq => (true, None),
            Some(known) if known < cseq => (false, Some(other)),
            Some(_) | None => (false, None),
        }
    }

    /// This REGISTER is the newest of its call.
    pub(super) fn lead_call(&mut self, call: CallKey, id: ExchangeId) {
        self.calls.insert(call, id);
    }

    /// Brings an exchange's wake-up up to date; true if nothing more can come of it.
    pub(super) fn settle(&mut self, id: ExchangeId) -> bool {
        let Some(exchange) = self.table.get_mut(id) else { return false };
        if exchange.is_over() {
            return true;
        }
        if let Some(at) = exchange.poll_timeout()
            && exchange.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            exchange.scheduled = Some(at);
            self.timers.push(Reverse((at, id)));
        }
        false
    }

    /// Forgets one, and what led to it. Its client transactions must have been dropped or have ended.
    pub(super) fn end(&mut self, id: ExchangeId) -> Option<Box<Exchange>> {
        let exchange = self.table.remove(id)?;
        self.index.by_server.remove(&exchange.server);
        self.index.held.remove(&(exchange.received_at, id));
        for (_, branch) in exchange.relay.branches().iter() {
            if let Some(client) = branch.client() {
                self.index.by_client.remove(&client);
            }
        }
        if let Kind::Register(state) = &exchange.kind
            && self.calls.get(&state.call) == Some(&id)
        {
            self.calls.remove(&state.call);
        }
        Some(exchange)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// The next one whose wake-up is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<ExchangeId> {
        while let Some(Reverse((at, id))) = self.timers.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.timers.pop();
            let Some(exchange) = self.table.get_mut(id) else { continue };
            if exchange.scheduled == Some(at) {
                exchange.scheduled = None;
            }
            return Some(id);
        }
        None
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Those whose sender still waits for a final answer.
    pub(super) fn unanswered(&self) -> usize {
        self.table.iter().filter(|(_, exchange)| !exchange.finished).count()
    }

    /// The size of every table, by name.
    pub(super) fn sizes(&self) -> [(&'static str, usize); 7] {
        [
            ("contexts", self.table.len()),
            ("contexts by client transaction", self.index.by_client.len()),
            ("contexts by server transaction", self.index.by_server.len()),
            ("tries that wait for a connection", self.index.waiting.len()),
            ("held", self.index.held.len()),
            ("calls", self.calls.len()),
            ("timers", self.timers.len()),
        ]
    }
}
