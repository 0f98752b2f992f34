//! The core: events in, actions out, and nothing else. The driver owns the sockets and the clock.
//!
//! Call order: [`Core::handle`] with each event, then [`Core::poll_action`] until it is empty, then sleep until
//! [`Core::poll_timeout`] and call [`Core::handle_timeout`]; again [`Core::poll_action`] until it is empty. Every method that
//! steps a machine ends in a pump, so that what one machine brings about in another happens in the same instant.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::events::{Action, Event, Start};
use super::house::House;
use super::intake::Intake;
use super::journal::Facts;
use super::journal::phones::{Phones, Query};
use super::journal::status::{Levels, View};
use super::marks::BindingId;
use super::registrar::StoredBinding;
use super::registrar::bindings::Change;
use super::traced::Leg;
use crate::fleet::{self, Fleet, RejoinError};
use crate::flow::{Flow, Side, Transport};
use crate::message::Message;
use crate::upstream::{RollError, Rollover, TargetId, Upstream};

/// Everything between the sockets, without I/O, clock or chance.
#[derive(Debug)]
pub struct Core {
    house: House,
}

impl Core {
    /// A core for sockets that are bound.
    #[must_use]
    pub fn new(start: Start, now: Instant) -> Self {
        let mut house = House::new(start, now);
        // The first lookup, and a restored set.
        house.pump(now);
        Core { house }
    }

    /// Takes one event.
    pub fn handle(&mut self, event: Event, now: Instant) {
        let house = &mut self.house;
        match event {
            Event::Net(event) => Intake(house).net(event, now),
            Event::Lookup(result) => house.upstream.handle_lookup(result, now),
            Event::Drain => house.draining = true,
            Event::Fleet(fleet::Word::Found(found)) => Intake(house).found(&found, now),
            Event::Fleet(word) => house.tell_fleet(fleet::Event::Word(word), now),
            Event::Settings(reload) => {
                house.reload(*reload);
                Intake(house).show_out(now);
            }
        }
        self.house.pump(now);
    }

    /// Does what is due. Call it when [`Self::poll_timeout`] has passed; an earlier call does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.house.wake_what_is_due(now);
        self.house.pump(now);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.house.poll_timeout()
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.house.actions.pop_front()
    }

    /// The operator-driven move to a target, or to the next one.
    ///
    /// # Errors
    /// When there is no such target.
    pub fn roll(&mut self, target: Option<&str>, now: Instant) -> Result<Rollover, RollError> {
        let rolled = self.house.upstream.roll(target, now);
        self.house.pump(now);
        rolled
    }

    /// The operator brings an instance that stands apart back to where its fleet is. From where to where it went.
    ///
    /// # Errors
    /// When it does not stand apart, or cannot go there.
    pub fn rejoin(&mut self, now: Instant) -> Result<(TargetId, TargetId), RejoinError> {
        let House { fleet: Some(fleet), upstream, .. } = &mut self.house else { return Err(RejoinError::Alone) };
        let from = upstream.active().map(|(target, _)| target.label.clone());
        fleet.rejoin()?;
        self.house.pump(now);
        let House { fleet, upstream, .. } = &self.house;
        let to = upstream.active().map(|(target, _)| target.label.clone());
        let wanted = fleet.as_ref().and_then(Fleet::target).cloned();
        match (from, to, wanted) {
            (Some(from), Some(to), Some(wanted)) if to == wanted => Ok((from, to)),
            (_, _, Some(wanted)) => Err(RejoinError::NoSuchTarget(wanted.to_string())),
            _ => Err(RejoinError::NoWord),
        }
    }

    /// Whether requests can be served: a record set is there and we are not draining.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.house.upstream.ready() && !self.house.draining
    }

    /// Whether nothing is in flight: the moment a drain may end.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.house.exchanges.len() == 0 && self.house.parked.len() == 0
    }

    /// The next binding whose stored form is out of date.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.house.registrar.poll_change()
    }

    /// The confirmed bindings, to be handed out anew.
    pub fn bindings(&self) -> impl Iterator<Item = BindingId> {
        self.house.registrar.bindings().iter().filter(|binding| binding.confirmed).map(|binding| binding.id)
    }

    /// A binding's stored form; `unix` is `now` in seconds since 1970. `None`: there is no such binding.
    #[must_use]
    pub fn export_binding(&self, id: &BindingId, now: Instant, unix: u64) -> Option<StoredBinding> {
        self.house.registrar.bindings().export(id, now, unix)
    }

    /// Takes a binding over from before a restart, if a listener still has its address. False if it is left out.
    pub fn restore_binding(&mut self, stored: &StoredBinding, now: Instant, unix: u64) -> bool {
        self.house.registrar.restore(stored, &self.house.site, now, unix)
    }

    /// The upstream's machine, for the status.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.house.upstream
    }

    /// This instance's part in its fleet, if it is in one.
    #[must_use]
    pub fn fleet(&self) -> Option<&Fleet> {
        self.house.fleet.as_ref()
    }

    /// Live and completed transactions.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.house.transactions.len()
    }

    /// Requests whose sender still waits for a final answer. Looks at every exchange.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.house.exchanges.unanswered() + self.house.parked.len()
    }

    /// Exchanges (response contexts).
    #[must_use]
    pub fn contexts(&self) -> usize {
        self.house.exchanges.len()
    }

    /// Confirmed bindings at one target.
    #[must_use]
    pub fn bindings_at(&self, target: &str) -> usize {
        self.house.registrar.bindings().at_target(target)
    }

    /// What was counted since the start.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.house.journal.facts
    }

    /// What is there now, to be shown as gauges.
    #[must_use]
    pub fn levels(&self) -> Levels<'_> {
        Levels {
            upstream: &self.house.upstream,
            fleet: self.fleet(),
            transport: self.house.site.transport,
            transactions: self.house.transactions.len(),
            bytes: self.house.bytes(),
            bindings: self.house.registrar.bindings().confirmed_len(),
            bindings_orphaned: self.house.orphans(),
            draining: self.house.draining,
            connections: Side::ALL.map(|side| Transport::ALL.map(|transport| self.house.flows.count(side, transport))),
        }
    }

    /// What `/status` shows; see `docs/status.md`.
    #[must_use]
    pub fn status(&self, now: Instant) -> Value {
        self.view(now).status()
    }

    /// As [`Core::status`], with what the status page draws: the last hour by minutes.
    #[must_use]
    pub fn status_with_history(&self, now: Instant) -> Value {
        self.view(now).status_with_history()
    }

    /// The handsets that match, at most `limit` of them.
    #[must_use]
    pub fn phones(&self, query: &Query, limit: usize, now: Instant) -> Phones {
        self.view(now).phones(query, limit)
    }

    /// The leg that a flow is, for whoever looks at what passes on it.
    #[must_use]
    pub fn leg(&self, flow: Flow) -> Option<Leg> {
        self.house.flows.leg(flow, &self.house.site, &self.house.upstream)
    }

    /// Whether the peer of a leg may talk to that side. To one that may not, nothing is answered.
    #[must_use]
    pub fn admits(&self, leg: &Leg) -> bool {
        self.house.site.admits(leg.side, leg.remote, &self.house.upstream)
    }

    /// Whom a request of upstream's calls by the Contact that Holdline gave out: the handset's address of record.
    #[must_use]
    pub fn called(&self, request: &Message) -> Option<Arc<str>> {
        let buf = request.bytes();
        let user = request.target()?.user?;
        let id = self.house.site.key.verify(user.of(buf))?;
        self.house.registrar.bindings().get(&id).map(|binding| binding.aor.clone())
    }

    /// The size of every table that what is in flight makes grow. Sixty-four times T1 after the last message all are 0 but
    /// those whose entries have a life of their own: bindings, connections, debts, and the place of each target's address.
    #[must_use]
    pub fn tables(&self) -> Vec<(&'static str, usize)> {
        let [sources, debts] = self.house.admission.sizes();
        let [connections, addresses, reopening] = self.house.flows.sizes();
        let mut tables = self.house.exchanges.sizes().to_vec();
        tables.extend([
            ("transactions", self.house.transactions.len()),
            ("open transactions", self.house.transactions.open()),
            ("bytes of messages", self.house.bytes()),
            ("sources", sources),
            ("sources in debt", debts),
            ("bindings", self.house.registrar.bindings().len()),
            ("connections", connections),
            ("addresses", addresses),
            ("served", self.house.registrar.served()),
            ("summaries", self.house.journal.summaries()),
            ("targets waited for", reopening),
            ("requests that wait for the fleet", self.house.parked.len()),
        ]);
        tables
    }

    fn view(&self, now: Instant) -> View<'_> {
        let House { site, upstream, transactions, registrar, flows, journal, fleet, draining, .. } = &self.house;
        let fleet = fleet.as_ref();
        View { site, upstream, transactions, registrar, flows, journal, fleet, draining: *draining, now }
    }
}
