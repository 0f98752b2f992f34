//! Carries out what a relay wishes for: finds the connection, makes the bytes, starts the transaction, answers, notes.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::outlook::{BranchId, In, Out, Outbox, Outlook};
use super::{Exchange, Index, Kind, Relay};
use crate::flow::{Cause, Flow, Hop, NetCommand, Side};
use crate::message::{Message, Method, Shown};
use crate::proxy::admission::{Admission, End, Rank};
use crate::proxy::edge::Edge;
use crate::proxy::events::Action;
use crate::proxy::flows::Flows;
use crate::proxy::flows::table::Lease;
use crate::proxy::inbound::rank;
use crate::proxy::inbound::route::{Destination, begins_dialog, is_of_the_pbx};
use crate::proxy::journal::{Direction, Journal, Origin, PATH_MTU, Registrant};
use crate::proxy::marks::{BindingId, IdParts, RouteMark};
use crate::proxy::registrar::bindings::Binding;
use crate::proxy::registrar::{Answer, Registering, Registrar, UNREGISTERED};
use crate::proxy::site::Site;
use crate::proxy::wire;
use crate::proxy::wire::Refusal;
use crate::transaction::Transactions;
use crate::upstream::{Outcome, Target, TargetId, Upstream};

/// The other rooms of the house, while one exchange is worked on.
pub(crate) struct Rooms<'c> {
    pub site: &'c Site,
    pub upstream: &'c mut Upstream,
    pub transactions: &'c mut Transactions,
    pub registrar: &'c mut Registrar,
    pub flows: &'c mut Flows,
    pub journal: &'c mut Journal,
    pub admission: &'c mut Admission,
    pub actions: &'c mut VecDeque<Action>,
}

impl Rooms<'_> {
    /// Hands an event to an exchange's relay, and carries out what it wishes for. `at_hand`: the answer, or the CANCEL, that the
    /// event is about.
    pub(crate) fn feed(
        &mut self,
        exchange: &mut Exchange,
        index: &mut Index,
        event: In,
        at_hand: &mut Option<Message>,
        now: Instant,
    ) {
        let mut wishes = Outbox::new();
        let mut outlook = Outlook {
            upstream: self.upstream,
            addresses: &mut self.flows.addresses,
            transport: self.site.transport,
            policy: (&self.site.settings).into(),
            now,
        };
        exchange.relay.handle(event, &mut outlook, &mut wishes);
        for wish in wishes {
            match wish {
                Out::Launch(branch, hop) => self.launch(exchange, index, branch, &hop, now),
                Out::Send(branch, flow) => self.send(exchange, index, branch, flow, now),
                Out::Hush(client) => self.transactions.stop_retransmitting(client),
                Out::Suspect(flow, since) => self.flows.suspect(flow, since),
                Out::Forget(client) => {
                    index.unbind(client);
                    self.transactions.drop_client(client);
                }
                Out::Cancel(client, reason) => {
                    let lines = wire::cancel::lines(reason, at_hand.as_ref());
                    self.transactions.cancel(client, &lines, now);
                }
                Out::Hold => index.held.extend(exchange.id.map(|id| (exchange.received_at, id))),
                Out::Dialog(flow) => {
                    self.flows.carries_dialog(flow.unwrap_or(exchange.from.flow), now + UNREGISTERED);
                }
                Out::Relay(branch) => {
                    if let Some(response) = at_hand.take() {
                        self.relay(exchange, Some(branch), &response, now);
                    }
                }
                Out::Keep => exchange.kept = at_hand.take().map(Box::new),
                Out::RelayKept => {
                    if let Some(response) = exchange.kept.take() {
                        self.relay(exchange, None, &response, now);
                    }
                }
                Out::Answer(status, phrase, retry_after) => self.answer(exchange, status, phrase, retry_after, now),
                Out::Abandon => self.abandon(exchange, now),
                Out::Ended(branch, mut ended) => {
                    if let Some(who) = registrant(exchange) {
                        if matches!(ended.outcome, Outcome::Response(401 | 407)) && ended.detail.is_none() {
                            ended.detail = wire::digest::mismatch(who.request, who.from, self.site);
                        }
                        self.journal.attempt_ended(who, &ended, now);
                        self.attempt_failed(exchange, branch, &ended, at_hand.as_ref(), now);
                    }
                }
                Out::Retried => self.journal.facts.register_retries += 1,
                Out::Exhausted => self.journal.facts.register_exhausted += 1,
                Out::NoTarget => {
                    if let Some(who) = registrant(exchange) {
                        self.journal.refused(who, None, now);
                    }
                }
            }
        }
    }

    /// Gives a branch a connection, at once or when it opens.
    fn launch(&mut self, exchange: &mut Exchange, index: &mut Index, branch: BranchId, hop: &Hop, now: Instant) {
        let (Some(id), Some(this)) = (exchange.id, exchange.relay.branches_mut().get_mut(branch)) else { return };
        this.launched(hop);
        match self.flows.lease(hop, now) {
            Lease::Open(conn) => self.send(exchange, index, branch, Flow::Conn(conn), now),
            Lease::Opening(conn) | Lease::New(conn) => {
                this.opening(conn);
                index.waiting.entry(conn).or_default().push((id, branch));
            }
            Lease::Full => index.feedback.push_back((id, In::Lost(branch, Cause::Local.into()))),
        }
    }

    /// Makes a branch's bytes for a flow and starts its client transaction.
    pub(crate) fn send(
        &mut self,
        exchange: &mut Exchange,
        index: &mut Index,
        branch: BranchId,
        flow: Flow,
        now: Instant,
    ) {
        let Some(id) = exchange.id else { return };
        let (Some(to), Some(this)) = (self.flows.edge(flow, self.site), exchange.relay.branches().get(branch)) else {
            index.feedback.push_back((id, In::Lost(branch, Cause::Reset.into())));
            return;
        };
        let reused = !matches!(this.state, super::branch::State::Opening { .. });
        let target = this.target.clone();
        let forwarded = match self.render(exchange, &target, &to, now) {
            Ok(forwarded) => forwarded,
            Err(refusal) => {
                self.refuse(exchange, branch, &refusal, now);
                return;
            }
        };
        let (method, name, reliable) = (exchange.method, exchange.request.method_name(), to.transport.is_reliable());
        let bytes = forwarded.bytes.clone();
        let request = crate::transaction::Outgoing {
            method,
            method_name: name,
            branch: forwarded.branch.as_bytes(),
            flow,
            bytes: forwarded.bytes,
            reliable,
        };
        let Ok(client) = self.transactions.send_request(request, now) else {
            self.refuse(exchange, branch, &Refusal::table_full(), now);
            return;
        };
        tracing::debug!(
            call_id = %exchange.request.call_id_shown(),
            method = %Shown(name),
            target = &*target,
            ?flow,
            attempt = branch.0 + 1,
            "forwarded"
        );
        index.by_client.insert(client, (id, branch));
        if let Some(this) = exchange.relay.branches_mut().get_mut(branch) {
            this.sent(client, flow, reused);
        }
        exchange.note_sent(branch, to, bytes, now);
    }

    fn render(
        &mut self,
        exchange: &mut Exchange,
        target: &TargetId,
        to: &Edge,
        now: Instant,
    ) -> Result<wire::Forwarded, Refusal> {
        let (request, from) = (&exchange.request, &exchange.from);
        match &mut exchange.kind {
            Kind::Register(state) => {
                let known = |parts: &IdParts<'_>, contact: &[u8]| {
                    self.registrar.known(parts, contact, from, target, &self.site.key)
                };
                let (forwarded, upward) = wire::register::up((request, &state.aor), from, to, self.site, known)?;
                let what = Registering { request, from, aor: &state.aor, reach: state.reach, target };
                self.registrar.note(&what, &upward, now).map_err(|_| Refusal::new(503, "Binding table full"))?;
                if upward.plain {
                    self.journal.log_plain_sips(request, from.remote, now);
                }
                state.upward = Some(upward);
                Ok(forwarded)
            }
            Kind::Up { caller } => {
                let mark = self.mark_up(request, from, target, caller, now);
                let known = |uri: &[u8]| is_of_the_pbx(uri, self.registrar, self.upstream);
                Ok(wire::up::request(request, from, to, mark.as_ref(), known, self.site))
            }
            Kind::Down { id, contact } => {
                let mark = self.mark_down(request, from, id);
                Ok(wire::down::request(request, from, to, mark.as_ref(), contact.as_deref(), self.site))
            }
        }
    }

    /// The mark for a dialog that a handset begins: its binding, or one prepared for it, and the target it goes to.
    fn mark_up(
        &self,
        request: &Message,
        from: &Edge,
        target: &TargetId,
        caller: &mut Option<Box<Binding>>,
        now: Instant,
    ) -> Option<RouteMark> {
        if !begins_dialog(request) {
            return None;
        }
        let number = self.upstream.target(target).map(Target::number)?;
        let (id, prepared) = self.registrar.of_dialog(request, from, target, self.site, now)?;
        *caller = prepared.map(Box::new);
        Some(self.site.key.route_mark(&id, number))
    }

    /// The mark for a dialog that upstream begins with a handset: the target it came from (also one that DNS no longer
    /// names), else the active one.
    pub(crate) fn mark_down(&self, request: &Message, from: &Edge, id: &BindingId) -> Option<RouteMark> {
        if !begins_dialog(request) {
            return None;
        }
        let hop = match from.flow {
            Flow::Conn(conn) => self.flows.get(conn).and_then(|conn| conn.hop.as_ref()),
            Flow::Udp { .. } => None,
        };
        let target = hop
            .and_then(|hop| self.upstream.target_named(&hop.target, hop.addr.port()))
            .or_else(|| self.upstream.target_at(from.remote))
            .or_else(|| self.upstream.active().map(|(target, _)| target))?;
        Some(self.site.key.route_mark(id, target.number()))
    }

    /// A branch that cannot be sent: the request is refused.
    fn refuse(&mut self, exchange: &mut Exchange, branch: BranchId, refusal: &Refusal, now: Instant) {
        if let Some(this) = exchange.relay.branches_mut().get_mut(branch) {
            this.close();
        }
        if let Some(who) = registrant(exchange) {
            self.journal.refused(who, Some((refusal.status, refusal.phrase)), now);
        }
        self.answer(exchange, refusal.status, refusal.phrase, refusal.retry_after, now);
    }

    /// Relays a response to where the request came from. `branch`: the one a REGISTER's 2xx came on.
    fn relay(&mut self, exchange: &mut Exchange, branch: Option<BranchId>, response: &Message, now: Instant) {
        let (mut edit, status) =
            wire::response::begin(response, &exchange.request, &exchange.from, self.upstream.all_failed());
        if let Kind::Register(state) = &mut exchange.kind
            && (200..300).contains(&status)
            && let Some(answered) = branch.and_then(|branch| exchange.relay.branches().get(branch))
        {
            let target = &answered.target;
            let newest = exchange.relay.branches().last();
            let mut answer = Answer {
                response,
                edit: &mut edit,
                as_noted: newest.is_some_and(|newest| newest.target == *target),
                path: self.flows.path(answered.flow),
            };
            let (request, from) = (&exchange.request, &exchange.from);
            let what = Registering { request, from, aor: &state.aor, reach: state.reach, target };
            self.registrar.confirm(&what, state.upward.take().as_ref(), &mut answer, self.site, now);
        }
        if matches!(exchange.kind, Kind::Register(_))
            && status == 423
            && let Some(answered) = branch.and_then(|branch| exchange.relay.branches().get(branch))
        {
            self.registrar.note_least(&answered.target, response);
        }
        if let Kind::Up { caller } = &mut exchange.kind {
            match status {
                // There is a dialog: what PBX and handset send in it must find the handset.
                101..=299 if response.to_tag().is_some() => self.registrar.remember(caller.take(), now),
                300.. => *caller = None,
                _ => {}
            }
        }
        let bytes = wire::response::finish(edit, response, &exchange.request, &exchange.from, self.site);
        self.respond(exchange, status, bytes, Origin::Relayed, now);
    }

    /// Answers an exchange ourselves.
    pub(crate) fn answer(
        &mut self,
        exchange: &mut Exchange,
        status: u16,
        phrase: &'static str,
        retry_after: Option<u32>,
        now: Instant,
    ) {
        let refusal = Refusal { retry_after, ..Refusal::new(status, phrase) };
        let bytes = wire::response::local(&exchange.request, &refusal, exchange.from.remote, self.site);
        self.respond(exchange, status, bytes, Origin::Local, now);
    }

    /// Sends a response, unless the transaction has its final one already.
    fn respond(&mut self, exchange: &mut Exchange, status: u16, bytes: Bytes, origin: Origin, now: Instant) {
        let (side, method) = (exchange.side(), exchange.method);
        let sent = match origin {
            Origin::Local => self.transactions.respond(exchange.server, status, bytes.clone(), now),
            Origin::Relayed => self.transactions.relay(exchange.server, status, bytes.clone(), now),
        };
        if sent {
            tracing::debug!(
                call_id = %exchange.request.call_id_shown(),
                method = method.as_str(),
                status,
                origin = origin.as_str(),
                "response sent"
            );
            self.journal.facts.note_response(side, method, status, origin);
            self.answered_badly(exchange, status, &bytes, now);
        } else if method == Method::Invite && (200..300).contains(&status) {
            // After a failure went back, a 2xx goes all the same (RFC 3261 §16.7 step 5): there is a call to end.
            self.journal.facts.note_response(side, method, status, origin);
            let flow = self.flows.reply_to(&exchange.request, exchange.from.flow, self.site);
            self.emit(flow, bytes);
        }
        exchange.trying_sent = true;
        if status >= 200 {
            self.ended(exchange, Some(status), now);
            exchange.finish();
        } else if status > 100
            && let Some(seat) = &mut exchange.seat
        {
            self.admission.answered(seat);
        }
    }

    /// Its sender's request has come to an end, for the first time.
    fn ended(&mut self, exchange: &mut Exchange, status: Option<u16>, now: Instant) {
        let Exchange { kind, relay, request, from, seat: Some(seat), finished: false, .. } = exchange else { return };
        self.admission.answered(seat);
        let Rooms { admission, registrar, site, .. } = self;
        let end = match End::of(status) {
            // Who answers a challenge, and is challenged again, has not got the password.
            End::Challenged if request.carries_credentials() => End::Failed,
            end => end,
        };
        admission.ended(seat, end, now, || match (&*kind, &*relay) {
            // As it was when it came: a 2xx has made it a served one.
            (_, Relay::Register(relay)) => rank::of(relay.standing(), true),
            (Kind::Down { .. }, _) => Rank::Served,
            (Kind::Up { .. } | Kind::Register(_), _) => rank::rank(request, from, site, registrar, now),
        });
    }

    /// No final answer at all (RFC 4320 §4.2).
    pub(crate) fn abandon(&mut self, exchange: &mut Exchange, now: Instant) {
        log_abandoned(exchange);
        self.transactions.abandon(exchange.server, now);
        self.ended(exchange, None, now);
        exchange.finish();
    }

    /// Sends bytes.
    pub(crate) fn emit(&mut self, flow: Flow, bytes: Bytes) {
        if bytes.len() > PATH_MTU {
            self.journal.size(self.flows.kind(flow, self.site), bytes.len(), Direction::Out);
        }
        Journal::log_packet(flow, &bytes);
        self.actions.push_back(Action::Net(NetCommand::Send { flow, bytes }));
    }

    /// Sends an ACK on, which has no transaction.
    pub(crate) fn forward_ack(&mut self, request: &Message, from: &Edge, destination: &Destination, now: Instant) {
        let label = match destination {
            Destination::Handset { id, flow, contact } => {
                let Some(to) = self.flows.edge(*flow, self.site) else { return };
                let mark = self.mark_down(request, from, id);
                let sent = wire::down::request(request, from, &to, mark.as_ref(), contact.as_deref(), self.site);
                self.emit(*flow, sent.bytes);
                return;
            }
            Destination::Target(label) => Some(label),
            Destination::Active | Destination::Holdline => None,
        };
        let target = match label {
            Some(label) => self.upstream.target(label),
            None => self.upstream.active().map(|(target, _)| target),
        };
        let transport = self.site.transport;
        let in_use = target.and_then(|target| self.flows.hop_in_use(target, transport));
        let Some(hop) = in_use.or_else(|| self.flows.addresses.hop_to(target?, transport)) else { return };
        let Lease::Open(conn) = self.flows.lease(&hop, now) else {
            self.journal.facts.note_dropped(Side::Phone, "no_flow");
            return;
        };
        if let Some(to) = self.flows.edge(Flow::Conn(conn), self.site) {
            let known = |uri: &[u8]| is_of_the_pbx(uri, self.registrar, self.upstream);
            let sent = wire::up::request(request, from, &to, None, known, self.site);
            self.emit(Flow::Conn(conn), sent.bytes);
        }
    }

    /// Answers without any state, and counts it.
    pub(crate) fn reply(&mut self, request: &Message, refusal: &Refusal, from: &Edge) {
        self.journal.facts.note_response(from.side, request.method(), refusal.status, Origin::Local);
        let reply_to = self.flows.reply_to(request, from.flow, self.site);
        let bytes = wire::response::stateless(request, refusal, from.remote, self.site);
        self.emit(reply_to, bytes);
    }
}

pub(crate) fn log_abandoned(exchange: &Exchange) {
    let method = exchange.method.as_str();
    tracing::debug!(call_id = %exchange.request.call_id_shown(), method, "left without a final answer");
}

/// Who sent a REGISTER; `None` for any other request.
fn registrant(exchange: &Exchange) -> Option<Registrant<'_>> {
    let Kind::Register(state) = &exchange.kind else { return None };
    Some(Registrant { handset: state.handset, aor: &state.aor, from: &exchange.from, request: &exchange.request })
}
