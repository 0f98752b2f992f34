//! The owners, and how what one of them wants reaches another.
//!
//! [`House::pump`] does what the owners want until none of them wants anything more.

use std::collections::VecDeque;
use std::time::Instant;

use super::admission::Admission;
use super::events::{Action, Start};
use super::exchange::outlook::In;
use super::exchange::rooms::{Rooms, log_abandoned};
use super::exchange::{ExchangeId, Exchanges};
use super::flows::Flows;
use super::flows::table::Lease;
use super::inquiry::Inquiry;
use super::intake::Intake;
use super::journal::Journal;
use super::marks::Key;
use super::parked::Parked;
use super::registrar::Registrar;
use super::site::{Reload, Site};
use super::wire;
use crate::fleet::{self, Fleet};
use crate::flow::{ConnId, Flow};
use crate::message::{Message, Method};
use crate::transaction::{ClientId, Outgoing, ServerId, Timers, Transactions, TxAction};
use crate::upstream::{Plan, Reason, Rollover, TargetId, Upstream, UpstreamAction};

#[derive(Debug)]
pub(super) struct House {
    pub site: Site,
    pub upstream: Upstream,
    pub transactions: Transactions,
    pub exchanges: Exchanges,
    pub registrar: Registrar,
    pub flows: Flows,
    pub journal: Journal,
    pub inquiry: Inquiry,
    pub admission: Admission,
    /// This instance's part among several; `None` for one that is alone.
    pub fleet: Option<Fleet>,
    pub parked: Parked,
    pub draining: bool,
    pub actions: VecDeque<Action>,
}

impl House {
    pub(super) fn new(start: Start, now: Instant) -> Self {
        let Start { settings, mut upstream, transport, sockets, key, first_branch, fleet } = start;
        if fleet.is_some() {
            upstream.join_fleet();
        }
        let key = Key::new(key);
        let mut seed = [0; 16];
        for (chunk, purpose) in seed.chunks_mut(8).zip([b"transactions 1", b"transactions 2"]) {
            chunk.copy_from_slice(&key.hash(&[purpose, &first_branch.to_be_bytes()]).to_be_bytes());
        }
        House {
            transactions: Transactions::with_seed(Timers::default(), settings.max_transactions, seed),
            registrar: Registrar::new(settings.max_bindings),
            admission: Admission::new(settings.max_failing),
            flows: Flows::new(settings.max_upstream_connections, now),
            exchanges: Exchanges::default(),
            journal: Journal::new(now),
            site: Site::new(settings, key, transport, sockets, first_branch),
            upstream,
            inquiry: Inquiry::default(),
            fleet,
            parked: Parked::default(),
            draining: false,
            actions: VecDeque::new(),
        }
    }

    /// Does what is due.
    pub(super) fn wake_what_is_due(&mut self, now: Instant) {
        self.transactions.handle_timeout(now);
        // What a transaction's end brings about comes before the wake-ups of the same instant.
        self.pump(now);
        while let Some(id) = self.exchanges.pop_due(now) {
            self.wake(id, now);
            self.pump(now);
        }
        if self.inquiry.poll_timeout().is_some_and(|at| at <= now) {
            self.asked(false, now);
        }
        self.upstream.handle_timeout(now);
        if let Some(fleet) = &mut self.fleet {
            fleet.handle_timeout(now);
        }
        Intake(self).unpark(now);
        self.registrar.handle_timeout(now);
        while let Some(flow) = self.registrar.poll_keepalive(now) {
            self.flows.ping(flow);
        }
        let swept = self.flows.sweep(&self.site, &self.upstream, &mut self.registrar, &self.transactions, now);
        if swept || self.flows.reopen_is_due(now) {
            self.keep_reachable(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        [
            self.exchanges.poll_timeout(),
            self.transactions.poll_timeout(),
            self.upstream.poll_timeout(),
            self.registrar.poll_timeout(),
            self.inquiry.poll_timeout(),
            self.fleet.as_ref().and_then(Fleet::poll_timeout),
            self.parked.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .fold(self.flows.poll_timeout(), Instant::min)
    }

    /// Does what the owners want until none of them wants anything more: what one of them brings about in another happens in
    /// the same instant, not at the next event.
    pub(super) fn pump(&mut self, now: Instant) {
        loop {
            if let Some((id, event)) = self.exchanges.poll() {
                self.feed(id, event, now);
            } else if let Some(action) = self.transactions.poll_action() {
                self.transaction_wants(action, now);
            } else if let Some(action) = self.upstream.poll_action() {
                self.upstream_wants(action, now);
            } else if let Some(action) = self.fleet.as_mut().and_then(Fleet::poll_action) {
                self.fleet_wants(action, now);
            } else if let Some(command) = self.flows.poll() {
                self.actions.push_back(Action::Net(command));
            } else {
                break;
            }
        }
        debug_assert!(self.exchanges.is_idle() && !self.transactions.wants_something(), "nothing is left lying");
    }

    /// Everything but the exchanges, to carry out what one of them wishes for.
    pub(super) fn rooms(&mut self) -> (&mut Exchanges, Rooms<'_>) {
        let House { site, upstream, transactions, exchanges, registrar, flows, journal, admission, actions, .. } = self;
        (exchanges, Rooms { site, upstream, transactions, registrar, flows, journal, admission, actions })
    }

    /// Hands an event to an exchange.
    pub(super) fn feed(&mut self, id: ExchangeId, event: In, now: Instant) {
        self.feed_message(id, event, &mut None, now);
    }

    /// Hands an event to an exchange. `at_hand`: the answer, or the CANCEL, it is about.
    pub(super) fn feed_message(&mut self, id: ExchangeId, event: In, at_hand: &mut Option<Message>, now: Instant) {
        let (exchanges, mut rooms) = self.rooms();
        let Some((exchange, index)) = exchanges.split(id) else { return };
        rooms.feed(exchange, index, event, at_hand, now);
        self.settle(id, now);
    }

    /// Ends an exchange of which nothing more can come; else it has its next wake-up.
    pub(super) fn settle(&mut self, id: ExchangeId, now: Instant) {
        if !self.exchanges.settle(id) {
            return;
        }
        let (exchanges, mut rooms) = self.rooms();
        if let Some((exchange, _)) = exchanges.split(id)
            && !exchange.finished
        {
            rooms.abandon(exchange, now);
        }
        if let Some(seat) = self.exchanges.end(id).and_then(|exchange| exchange.seat) {
            self.admission.left(seat);
        }
    }

    /// An exchange's wake-up is due.
    fn wake(&mut self, id: ExchangeId, now: Instant) {
        let (exchanges, mut rooms) = self.rooms();
        let Some((exchange, _)) = exchanges.split(id) else { return };
        if exchange.trying_is_due(now) {
            rooms.answer(exchange, 100, "Trying", None, now);
        }
        self.feed(id, In::Timeout, now);
    }

    /// What the transaction layer wants.
    fn transaction_wants(&mut self, action: TxAction, now: Instant) {
        match action {
            TxAction::Send { flow, bytes, retransmission } => {
                if retransmission {
                    let (side, _) = self.flows.kind(flow, &self.site);
                    self.journal.facts.note_retransmission(side);
                }
                self.flows.sent(flow, now);
                self.rooms().1.emit(flow, bytes);
            }
            TxAction::ClientTimeout(client) if self.inquiry.is_carried_by(client) => self.asked(false, now),
            TxAction::ClientTransportError(client, _) if self.inquiry.is_carried_by(client) => {
                // A connection that was there before may have been reset for another's sake: as a REGISTER, it is sent once more.
                if self.inquiry.once_more() { self.launch_inquiry(now) } else { self.asked(false, now) }
            }
            TxAction::ClientTimeout(client) => {
                if let Some((id, branch)) = self.exchanges.index.unbind(client) {
                    self.feed(id, In::Over(branch), now);
                }
            }
            TxAction::ClientTimerC(client) => {
                // Timer C, RFC 3261 §16.8: what rang for more than three minutes is cancelled; its 487 goes back.
                self.transactions.cancel(client, &[], now);
            }
            TxAction::ClientTransportError(client, failure) => {
                if let Some((id, branch)) = self.exchanges.index.unbind(client) {
                    self.feed(id, In::Lost(branch, failure.into()), now);
                }
            }
            TxAction::ClientEnded(client) => self.client_ended(client, now),
            TxAction::ServerEnded(server) => self.server_ended(server, now),
        }
    }

    /// A client transaction is gone from the table.
    fn client_ended(&mut self, client: ClientId, now: Instant) {
        let Some((id, branch)) = self.exchanges.index.unbind(client) else { return };
        if let Some((exchange, _)) = self.exchanges.split(id)
            && let Some(branch) = exchange.relay.branches_mut().get_mut(branch)
        {
            branch.close();
        }
        self.settle(id, now);
    }

    /// A server transaction is gone from the table: whatever is still open has nobody to answer.
    fn server_ended(&mut self, server: ServerId, now: Instant) {
        let Some(id) = self.exchanges.index.of_server(server) else { return };
        if let Some((exchange, _)) = self.exchanges.split(id) {
            if !exchange.finished {
                log_abandoned(exchange);
            }
            exchange.finish();
        }
        self.settle(id, now);
    }

    /// What the upstream's machine wants.
    fn upstream_wants(&mut self, action: UpstreamAction, now: Instant) {
        match action {
            UpstreamAction::Lookup => self.actions.push_back(Action::Lookup),
            UpstreamAction::Persist(state) => self.actions.push_back(Action::Persist(state)),
            UpstreamAction::SetChanged => self.targets_changed(now),
            UpstreamAction::RolledOver(rollover) => {
                self.rolled_over(&rollover, now);
                self.actions.push_back(Action::RolledOver(Box::new(rollover)));
            }
            UpstreamAction::Ask { target, epoch } => self.ask(&target, epoch, now),
            UpstreamAction::Decide(plan) => self.tell_fleet(fleet::Event::Decide(plan), now),
            UpstreamAction::Served => self.tell_fleet(fleet::Event::Served, now),
        }
    }

    /// What the fleet's machine wants.
    fn fleet_wants(&mut self, action: fleet::Action, now: Instant) {
        match action {
            fleet::Action::Ask(command) => self.actions.push_back(Action::Fleet(command)),
            fleet::Action::CarryOut(plan) => self.upstream.carry_out(&plan, now),
            fleet::Action::Follow(record) => {
                let followed = self.upstream.follow(&record.target, record.decided(), now);
                if let Some(fleet) = &mut self.fleet {
                    fleet.followed(followed);
                }
            }
            fleet::Action::Begin => self.upstream.begin_serving(),
        }
        self.release(now);
    }

    /// Hands the fleet's machine an event, if there is one.
    pub(super) fn tell_fleet(&mut self, event: fleet::Event, now: Instant) {
        if let Some(fleet) = &mut self.fleet {
            fleet.handle(event, now);
        }
    }

    /// REGISTERs that were held go out now, if nothing holds them any more.
    fn release(&mut self, now: Instant) {
        if self.upstream.active().is_some() && !self.upstream.holds() {
            for id in self.exchanges.release() {
                self.feed(id, In::TargetsKnown, now);
            }
        }
    }

    /// A new record set: REGISTERs that waited for the first one go out now.
    fn targets_changed(&mut self, now: Instant) {
        let targets = self.upstream.targets();
        self.flows.addresses.keep_only(targets);
        self.journal.facts.keep_only(|label| targets.iter().any(|target| *target.label == *label));
        if let Some((active, _)) = self.upstream.active() {
            let active = active.label.clone();
            self.tell_fleet(fleet::Event::Active(active), now);
        }
        self.release(now);
        self.keep_reachable(now);
    }

    /// Another target is active (the upstream's machine has logged why): whoever only paused goes there now.
    fn rolled_over(&mut self, rollover: &Rollover, now: Instant) {
        self.journal.facts.note_rollover(rollover.reason);
        // The target that was asked about is left: nobody else is asked in its place.
        if let Some((_, Some(client))) = self.inquiry.end() {
            self.transactions.drop_client(client);
        }
        let event = match rollover.reason {
            Reason::TargetRemoved | Reason::Manual => fleet::Event::Moved(Plan::made(rollover)),
            Reason::RegisterFailures | Reason::Cluster => fleet::Event::Active(rollover.to.clone()),
        };
        self.tell_fleet(event, now);
        for id in self.exchanges.paused() {
            self.feed(id, In::RolledOver, now);
        }
        self.release(now);
        let (orphaned, bindings) = (self.orphans(), self.registrar.bindings().confirmed_len());
        self.journal.log_orphans_anew(orphaned, bindings);
    }

    /// Asks the active target whether it lives.
    fn ask(&mut self, target: &TargetId, epoch: u64, now: Instant) {
        let before = self.inquiry.begin(epoch, now + self.site.settings.attempt_timeout);
        if let Some(client) = before {
            self.transactions.drop_client(client);
        }
        debug_assert!(self.upstream.active().is_none_or(|(active, _)| active.label == *target));
        self.launch_inquiry(now);
    }

    fn launch_inquiry(&mut self, now: Instant) {
        let active = self.upstream.active().map(|(target, _)| target);
        let Some(hop) = active.and_then(|target| self.flows.addresses.hop_to(target, self.site.transport)) else {
            self.asked(false, now);
            return;
        };
        match self.flows.lease(&hop, now) {
            Lease::Open(conn) => self.send_inquiry(conn, now),
            Lease::Opening(conn) | Lease::New(conn) => self.inquiry.wait_for(conn),
            // Our own want is no evidence about the target.
            Lease::Full => self.asked(true, now),
        }
    }

    /// The connection for the question is there.
    pub(super) fn send_inquiry(&mut self, conn: ConnId, now: Instant) {
        let flow = Flow::Conn(conn);
        let Some((target, _)) = self.upstream.active() else { return };
        let Some(to) = self.flows.edge(flow, &self.site) else { return };
        let asked = wire::options::ask(&target.label, &to, &self.site);
        let (branch, reliable) = (asked.branch, to.transport.is_reliable());
        let method = Method::Options;
        let method_name = b"OPTIONS";
        let request = Outgoing { method, method_name, branch: branch.as_bytes(), flow, bytes: asked.bytes, reliable };
        match self.transactions.send_request(request, now) {
            Ok(client) => self.inquiry.sent(client),
            Err(_) => self.asked(true, now),
        }
    }

    /// What came of the question.
    pub(super) fn asked(&mut self, lives: bool, now: Instant) {
        let Some((epoch, client)) = self.inquiry.end() else { return };
        if let Some(client) = client {
            self.transactions.drop_client(client);
        }
        self.upstream.asked(epoch, lives, now);
    }

    /// Opens a connection to each target at which bindings live and which has none.
    pub(super) fn keep_reachable(&mut self, now: Instant) {
        self.flows.keep_reachable(&self.site, &self.upstream, &self.registrar, self.draining, now);
    }

    /// How many bindings the PBX reaches only after their next REGISTER.
    pub(super) fn orphans(&self) -> usize {
        self.flows.orphans(&self.site, &self.upstream, &self.registrar)
    }

    /// Bytes of messages that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.transactions.held() + self.admission.bytes()
    }

    /// Takes over what may change.
    pub(super) fn reload(&mut self, reload: Reload) {
        self.upstream.reconfigure(reload.upstream);
        self.site.reload(reload.proxy);
        self.transactions.set_limit(self.site.settings.max_transactions);
        self.registrar.set_limit(self.site.settings.max_bindings);
        self.admission.set_rate(self.site.settings.max_failing);
    }
}
