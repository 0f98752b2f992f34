//! What the transports report: messages, and connections that come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::admission::{Load, Rank, Verdict};
use super::edge::Edge;
use super::exchange::outlook::{Failure, In};
use super::exchange::register::RegisterRelay;
use super::exchange::{Exchange, Registering, begin};
use super::flows::table::Conn;
use super::house::House;
use super::inbound::gate::{self, Arrived};
use super::inbound::peers::{Answers, may_answer, same_dialog};
use super::inbound::rank;
use super::inbound::route::{Destination, Lookups};
use super::journal::{Direction, Origin};
use super::registrar::contact;
use super::wire::{self, Refusal};
use crate::flow::{Cause, ConnId, Flow, NetEvent, Side, SocketId, Transport};
use crate::message::{Message, Method, Shown};
use crate::transaction::{ClientId, Inbound, Received, ServerId};
use crate::upstream::{Witness, bounded};

/// Nothing of ours answers a datagram with more than so many times its bytes before its source has proven itself.
const MOST_REFLECTED: usize = 3;

/// The house, while an event of the transports is taken in.
pub(super) struct Intake<'h>(pub &'h mut House);

impl Intake<'_> {
    pub(super) fn net(&mut self, event: NetEvent, now: Instant) {
        match event {
            NetEvent::Received { flow, bytes } => self.received(flow, bytes, now),
            NetEvent::Unframed { conn, bytes, reason } => {
                let flow = Flow::Conn(conn);
                self.0.flows.touch(flow, now);
                if let Some(from) = self.0.flows.edge(flow, &self.0.site) {
                    self.arrived(gate::unframed(bytes, reason), &from, now);
                }
            }
            NetEvent::KeepAlive { conn } => {
                // The upstream's answer to our own keep-alive is no use of a connection.
                if self.0.flows.get(conn).is_some_and(|conn| conn.side == Side::Phone) {
                    self.0.flows.touch(Flow::Conn(conn), now);
                }
            }
            NetEvent::Accepted { conn, side, transport, socket, local, remote } => {
                let edge = Edge { flow: Flow::Conn(conn), side, transport, local, remote, sent_by: Arc::from("") };
                self.accepted(conn, socket, &edge, now);
            }
            NetEvent::Opened { conn, local } => self.opened(conn, local, now),
            NetEvent::OpenFailed { conn, cause, detail } => self.open_failed(conn, cause, &detail, now),
            NetEvent::Closed { conn, cause } => self.closed(conn, cause, now),
            NetEvent::SendFailed { flow, cause, quoted } => self.send_failed(flow, cause, quoted.as_deref(), now),
        }
    }

    /// A datagram could not be sent, or an ICMP error came back, which anybody can send: it is believed only if it quotes a
    /// request of ours that waits. A target that has answered since it became active may yet answer this one, too; one that has not
    /// costs a REGISTER its try at once, which is made again.
    fn send_failed(&mut self, flow: Flow, cause: Cause, quoted: Option<&[u8]>, now: Instant) {
        tracing::debug!(?flow, %cause, "send failed");
        let House { transactions, flows, site, journal, upstream, exchanges, .. } = &mut *self.0;
        let (side, _) = flows.kind(flow, site);
        let Some(client) = quoted.and_then(|quoted| transactions.sender_of(quoted, flow)) else {
            journal.facts.note_dropped(side, "icmp_unmatched");
            return;
        };
        let of_a_register = exchanges
            .index
            .of_client(client)
            .is_some_and(|(id, _)| exchanges.get(id).is_some_and(|exchange| exchange.method == Method::Register));
        let at_once = side == Side::Phone || cause == Cause::Local || (of_a_register && !upstream.has_answered());
        if self.0.inquiry.is_carried_by(client) {
            self.0.asked(false, now);
        } else if at_once {
            self.0.transactions.client_transport_error(client, cause, now);
        } else if let Some((id, branch)) = self.0.exchanges.index.of_client(client) {
            self.0.feed(id, In::Unreached(branch, cause.into()), now);
        }
    }

    /// A datagram, or a message framed from a stream.
    fn received(&mut self, flow: Flow, bytes: Bytes, now: Instant) {
        let House { flows, site, upstream, journal, .. } = &mut *self.0;
        let Some(from) = flows.edge(flow, site) else { return };
        let size = bytes.len();
        let arrived = gate::look(bytes, &from, site, upstream);
        if !matches!(arrived, Arrived::NotAdmitted(_) | Arrived::Nothing | Arrived::Stun(_)) {
            flows.touch(flow, now);
            journal.size((from.side, from.transport), size, Direction::In);
        }
        self.arrived(arrived, &from, now);
    }

    fn arrived(&mut self, arrived: Arrived, from: &Edge, now: Instant) {
        match arrived {
            Arrived::Message(message) if message.is_request() => self.request(message, from, now),
            Arrived::Message(message) => self.response(&mut Some(message), from, now),
            Arrived::Refused(message, refusal) => {
                tracing::debug!(call_id = %message.call_id_shown(), status = refusal.status, "refused");
                self.0.rooms().1.reply(&message, &refusal, from);
            }
            Arrived::Stun(answer) => self.0.rooms().1.emit(from.flow, answer),
            Arrived::Nothing => {}
            Arrived::Dropped(reason) => self.0.journal.facts.note_dropped(from.side, reason),
            Arrived::NotAdmitted(reason) => {
                self.0.journal.facts.note_dropped(from.side, reason);
                self.0.journal.log_outsider(from.side, from.remote, now);
            }
        }
    }

    fn response(&mut self, at_hand: &mut Option<Message>, from: &Edge, now: Instant) {
        let Some(message) = at_hand else { return };
        let House { transactions, flows, site, upstream, journal, .. } = &mut *self.0;
        let mut asked = None;
        let accept = |sent: Flow, request: &Bytes| match may_answer(sent, from, flows, site) {
            Answers::Yes => true,
            Answers::No => false,
            Answers::FromElsewhere => {
                asked = Some(sent);
                same_dialog(request, message)
            }
        };
        match transactions.receive_response_if(message, now, accept) {
            Received::New(answer) => {
                if let Some(Flow::Conn(conn)) = asked
                    && let Some(hop) = flows.get(conn).and_then(|conn| conn.hop.as_ref())
                {
                    let target = upstream.target_at(from.remote).map(|target| &*target.label);
                    journal.log_answer_from_elsewhere(message, hop, (from.remote, target), now);
                }
                self.answered(answer.client, at_hand, now);
            }
            Received::Absorbed => {}
            Received::Stray => {
                tracing::debug!(
                    call_id = %message.call_id_shown(),
                    remote = %from.remote,
                    status = message.status(),
                    "a response that belongs to no transaction: dropped"
                );
                self.0.journal.facts.note_dropped(from.side, "stray_response");
            }
        }
    }

    /// A response that a client transaction let through.
    fn answered(&mut self, client: ClientId, at_hand: &mut Option<Message>, now: Instant) {
        let Some(response) = at_hand else { return };
        if self.0.inquiry.is_carried_by(client) {
            self.0.asked(!(500..600).contains(&response.status()), now);
            return;
        }
        let Some((id, branch)) = self.0.exchanges.index.of_client(client) else { return };
        let Some((exchange, index)) = self.0.exchanges.split(id) else { return };
        let status = response.status();
        tracing::debug!(
            call_id = %response.call_id_shown(),
            method = exchange.method.as_str(),
            status,
            target = exchange.relay.branches().get(branch).map(|branch| &*branch.target),
            attempt = branch.0 + 1,
            "answered"
        );
        let event = if status < 200 {
            In::Provisional(branch, status)
        } else {
            if exchange.method != Method::Invite {
                index.unbind(client);
            }
            // A handset's daily challenge and success need no words.
            let quiet = exchange.method != Method::Register || matches!(status, 200..=299 | 401 | 407);
            In::Answered(branch, status, if quiet { None } else { bounded(response.reason()) })
        };
        self.0.feed_message(id, event, at_hand, now);
    }

    fn request(&mut self, message: Message, from: &Edge, now: Instant) {
        let (side, method) = (from.side, message.method());
        tracing::debug!(
            call_id = %message.call_id_shown(),
            method = %Shown(message.method_name()),
            uri = %Shown(message.request_uri().of(message.bytes())),
            side = side.as_str(),
            transport = %from.transport,
            remote = %from.remote,
            "request"
        );
        let (flow, reliable) = (from.flow, from.transport.is_reliable());
        let reply_to = self.0.flows.reply_to(&message, flow, &self.0.site);
        let inbound = self.0.transactions.receive_request(&message, flow, reply_to, reliable, now);
        if matches!(inbound, Inbound::New(_) | Inbound::Ack | Inbound::Cancel { .. }) {
            self.0.journal.facts.note_request(side, method, from.transport);
        }
        match inbound {
            Inbound::New(server) => match self.admission(&message, from, now) {
                Verdict::Admitted => self.routed(server, message, from, true, now),
                Verdict::Full => {
                    self.0.transactions.discard(server);
                    self.full(&message, from);
                }
                Verdict::Throttled => {
                    self.0.transactions.discard(server);
                    self.throttled(&message, from, now);
                }
            },
            Inbound::Retransmission | Inbound::AckAbsorbed => {}
            Inbound::Ack => self.ack(&message, from, now),
            Inbound::Cancel { own, invite: None } => {
                self.0.transactions.discard(own); // Nothing is kept of it: its repetition gets the same answer.
                self.0.rooms().1.reply(&message, &Refusal::new(481, "Call/Transaction Does Not Exist"), from);
            }
            Inbound::Cancel { own, invite: Some(invite) } => {
                self.respond(own, &message, &Refusal::new(200, "OK"), from, now);
                match self.0.exchanges.index.of_server(invite) {
                    Some(id) => self.0.feed_message(id, In::Cancelled, &mut Some(message), now),
                    None => self.cancel_parked(invite, now),
                }
            }
            Inbound::Full => self.full(&message, from),
        }
    }

    /// Whether nobody was served where a handset's request came from, as far as it says. A datagram may have come from somebody
    /// else: nothing of ours is repeated to such an address without bound.
    fn is_unproven(&mut self, request: &Message, from: &Edge, now: Instant) -> bool {
        let House { site, registrar, .. } = &mut *self.0;
        from.side == Side::Phone
            && matches!(rank::rank(request, from, site, registrar, now), Rank::Alike | Rank::Unserved)
    }

    /// Whether there is room for a request that would begin an exchange.
    fn admission(&mut self, request: &Message, from: &Edge, now: Instant) -> Verdict {
        let House { admission, transactions, site, registrar, .. } = &mut *self.0;
        let (bytes, most) = (admission.bytes(), site.settings.max_bytes);
        // What only waits for retransmissions goes before anybody is refused.
        transactions.relieve((most / 2).saturating_sub(bytes));
        let load = Load {
            transactions: (transactions.open(), site.settings.max_transactions),
            bytes: (transactions.held() + bytes, most),
        };
        let answers = || request.carries_credentials();
        admission.admits(from.remote.ip(), answers, load, now, || rank::rank(request, from, site, registrar, now))
    }

    fn full(&mut self, request: &Message, from: &Edge) {
        tracing::debug!(call_id = %request.call_id_shown(), "no room for another transaction: 503");
        self.0.rooms().1.reply(request, &Refusal::table_full(), from);
    }

    /// A datagram is dropped: what is well meant comes again, and by then its source may owe nothing.
    fn throttled(&mut self, request: &Message, from: &Edge, now: Instant) {
        self.0.journal.facts.note_dropped(from.side, "throttled");
        self.0.journal.log_throttled(request, from.remote, now);
        if from.transport.is_reliable() {
            self.0.rooms().1.reply(request, &Refusal::throttled(), from);
        }
    }

    /// Answers a request that is not forwarded, in its transaction.
    pub(super) fn respond(
        &mut self,
        server: ServerId,
        request: &Message,
        refusal: &Refusal,
        from: &Edge,
        now: Instant,
    ) {
        let House { transactions, journal, site, .. } = &mut *self.0;
        journal.facts.note_response(from.side, request.method(), refusal.status, Origin::Local);
        let bytes = wire::response::local(request, refusal, from.remote, site);
        transactions.respond(server, refusal.status, bytes, now);
    }

    /// A request with a server transaction: no ACK, no CANCEL. `asks`: the fleet may be asked for a handset that is unknown here.
    pub(super) fn routed(&mut self, server: ServerId, request: Message, from: &Edge, asks: bool, now: Instant) {
        let refusal = match self.route(&request, from, now) {
            Ok(Destination::Holdline) => Refusal::new(200, "OK"),
            Ok(_) if request.method() == Method::Register && from.side == Side::Phone => match contact::aor(&request) {
                Some(aor) => {
                    self.register(server, request, from, &aor, now);
                    return;
                }
                None => Refusal::new(400, "Bad To URI"),
            },
            Ok(destination) => {
                let (invite, udp) = (request.method() == Method::Invite, from.transport == Transport::Udp);
                if invite && udp && self.is_unproven(&request, from, now) {
                    self.0.transactions.restrain(server, MOST_REFLECTED * request.bytes().len());
                }
                let (course, kind) = begin::course(destination, &self.0.site, &self.0.upstream, &self.0.flows);
                self.begin(Exchange::relaying(server, request, from, course, kind, now), now);
                return;
            }
            Err(refusal) if refusal.status == 404 && asks && self.parks(server, &request, from, now) => return,
            Err(refusal) => refusal,
        };
        tracing::debug!(call_id = %request.call_id_shown(), status = refusal.status, reason = refusal.phrase, "refused");
        if request.method() == Method::Invite && self.is_unproven(&request, from, now) {
            self.0.transactions.discard(server);
            self.0.rooms().1.reply(&request, &refusal, from);
        } else {
            self.respond(server, &request, &refusal, from, now);
        }
    }

    fn route(&mut self, request: &Message, from: &Edge, now: Instant) -> Result<Destination, Refusal> {
        let House { site, upstream, registrar, flows, journal, draining, .. } = &mut *self.0;
        let lookups = Lookups { site, upstream, registrar, flows, draining: *draining };
        lookups.route(request, from, |source| journal.log_foreign_route(request, source, now))
    }

    /// A REGISTER; a newer one of the same call ends an older one's tries.
    fn register(&mut self, server: ServerId, request: Message, from: &Edge, aor: &str, now: Instant) {
        let House { site, exchanges, registrar, admission, .. } = &mut *self.0;
        let call = site.call(request.call_id(), aor);
        let cseq = request.cseq().map_or(0, |cseq| cseq.number);
        let (superseded, older) = exchanges.same_call(call, cseq);
        let state = Registering::new(&request, from, aor, call, site);
        let witness = Witness {
            handset: state.handset,
            source: site.source(from.remote.ip()),
            standing: registrar.standing(state.handset, now),
        };
        let relay = RegisterRelay::new(witness, superseded, now + site.settings.retry_deadline);
        let mut exchange = Exchange::registering(server, request, from, state, relay, now);
        exchange.seat = Some(admission.seat(from.remote.ip(), exchange.request.bytes().len()));
        let id = exchanges.insert(exchange);
        if !superseded {
            exchanges.lead_call(call, id);
        }
        if let Some(older) = older {
            self.0.feed(older, In::Superseded, now);
        }
        self.0.feed(id, In::Begin, now);
    }

    fn begin(&mut self, mut exchange: Box<Exchange>, now: Instant) {
        let invite = exchange.method == Method::Invite;
        exchange.seat = Some(self.0.admission.seat(exchange.from.remote.ip(), exchange.request.bytes().len()));
        let id = self.0.exchanges.insert(exchange);
        let (exchanges, mut rooms) = self.0.rooms();
        if let Some((exchange, _)) = exchanges.split(id).filter(|_| invite) {
            rooms.answer(exchange, 100, "Trying", None, now);
        }
        self.0.feed(id, In::Begin, now);
    }

    /// ACK of a 2xx, or of nothing we know: end to end, without state (RFC 3261 §16.11).
    fn ack(&mut self, request: &Message, from: &Edge, now: Instant) {
        if wire::response::acknowledges_stateless(request, &self.0.site) {
            return;
        }
        match self.route(request, from, now) {
            Ok(Destination::Holdline) => self.0.journal.facts.note_dropped(from.side, "ack_unmatched"),
            Ok(destination) => self.0.rooms().1.forward_ack(request, from, &destination, now),
            Err(Refusal { status: 403, .. }) => self.0.journal.facts.note_dropped(from.side, "forged_mark"),
            Err(_) => self.0.journal.facts.note_dropped(from.side, "ack_unmatched"),
        }
    }

    fn accepted(&mut self, conn: ConnId, socket: SocketId, edge: &Edge, now: Instant) {
        let House { site, upstream, flows, journal, .. } = &mut *self.0;
        if site.admits(edge.side, edge.remote, upstream) {
            flows.accepted(conn, socket, edge, site, now);
        } else {
            journal.facts.note_dropped(edge.side, "not_allowed");
            journal.log_outsider(edge.side, edge.remote, now);
            flows.turn_away(conn);
        }
    }

    fn opened(&mut self, conn: ConnId, local: SocketAddr, now: Instant) {
        let House { site, flows, exchanges, .. } = &mut *self.0;
        let Some(transport) = flows.opened(conn, local, site, now) else { return };
        let waited = exchanges.waited_for(conn);
        if self.0.inquiry.waits_for(conn) {
            self.0.send_inquiry(conn, now);
        }
        for (id, branch) in waited {
            let (exchanges, mut rooms) = self.0.rooms();
            if let Some((exchange, index)) = exchanges.split(id) {
                rooms.send(exchange, index, branch, Flow::Conn(conn), now);
            }
            self.0.settle(id, now);
        }
        if transport.is_reliable() {
            self.log_orphans();
        }
    }

    fn open_failed(&mut self, conn: ConnId, cause: Cause, detail: &str, now: Instant) {
        let Some(gone) = self.0.flows.remove(conn) else { return };
        self.0.journal.log_connection_failure(&gone, cause, detail, now);
        let failure = Failure { cause, detail: bounded(detail.as_bytes()) };
        for (id, branch) in self.0.exchanges.waited_for(conn) {
            self.0.feed(id, In::Lost(branch, failure.clone()), now);
        }
        if self.0.inquiry.waits_for(conn) {
            self.0.asked(false, now);
        }
        self.lost(&gone, now);
    }

    /// The cause is kept: in TLS 1.3 a server refuses our certificate on a connection that was opened already.
    fn closed(&mut self, conn: ConnId, cause: Cause, now: Instant) {
        let gone = self.0.flows.remove(conn);
        self.0.registrar.connection_lost(conn);
        self.0.transactions.transport_error(Flow::Conn(conn), cause, now);
        self.0.pump(now);
        for (id, branch) in self.0.exchanges.waited_for(conn) {
            self.0.feed(id, In::Lost(branch, cause.into()), now);
        }
        if let Some(gone) = gone {
            self.lost(&gone, now);
        }
    }

    /// A connection to a target failed to open, or was lost: where bindings live there, it is opened again.
    fn lost(&mut self, gone: &Conn, now: Instant) {
        let House { flows, upstream, registrar, .. } = &mut *self.0;
        if flows.lost(gone, upstream, registrar, now) {
            self.0.keep_reachable(now);
            if gone.local.is_none() {
                self.log_orphans();
            }
        }
    }

    fn log_orphans(&mut self) {
        let (orphaned, bindings) = (self.0.orphans(), self.0.registrar.bindings().confirmed_len());
        self.0.journal.log_orphans(orphaned, bindings);
    }

    /// Closes connections of those who may not talk to us any more. A datagram is looked at when it comes.
    pub(super) fn show_out(&mut self, now: Instant) {
        for (conn, side, remote) in self.0.flows.accepted_from() {
            if !self.0.site.admits(side, remote, &self.0.upstream) {
                self.closed(conn, Cause::Reset, now);
                self.0.flows.turn_away(conn);
            }
        }
    }
}
