//! What comes in: who may send it, what it is, and what is answered or dropped before any transaction exists.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::context::Arrival;
use super::core::{Core, PATH_MTU};
use super::stun::{self, Stun};
use crate::flow::{ConnId, Flow, NetCommand, Side, Transport};
use crate::message::{Message, Method, Packet, Shown, framing_status};
use crate::metrics::{Direction, Origin};
use crate::transaction::{Inbound, Received};

impl Core {
    /// A datagram, or a message framed from a stream.
    pub(super) fn received(&mut self, flow: Flow, bytes: Bytes, now: Instant) {
        let Some((local, remote)) = self.ends(flow) else { return };
        let (side, transport) = self.labels(flow);
        if matches!(flow, Flow::Udp { .. }) && !self.admits(side, remote) {
            let reason = if side == Side::Phone { "not_allowed" } else { "not_upstream" };
            self.metrics.dropped(side, reason).inc();
            self.note_stranger(side, remote, now);
            return;
        }
        if transport == Transport::Udp && self.is_no_message(side, flow, remote, &bytes) {
            return;
        }
        self.conns.touch(flow, now);
        if bytes.len() > PATH_MTU {
            self.count_large(flow, Direction::In);
        }
        let message = match Message::scan(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%remote, reason = error.reason(), "dropped");
                self.metrics.dropped(side, error.reason()).inc();
                return;
            }
        };
        tracing::trace!(call_id = %message.call_id_shown(), %remote, %local, %transport, packet = %Packet(message.bytes()), "received");
        if let Err(malformed) = message.check(transport) {
            tracing::debug!(
                call_id = %message.call_id_shown(),
                %remote,
                status = malformed.status(),
                reason = malformed.phrase(),
                "malformed"
            );
            if malformed.answerable() {
                self.refuse(side, flow, &message, malformed.status(), malformed.phrase());
            } else {
                let reason = if message.is_request() { malformed.reason() } else { "malformed_response" };
                self.metrics.dropped(side, reason).inc();
            }
            return;
        }
        if message.is_request() {
            self.request(side, transport, flow, remote, message, now);
        } else {
            let (conns, sockets) = (&self.conns, &self.sockets);
            // A datagram may answer from another port than the request went to, never from another address, and never on
            // the other side: where phones and PBX share an address, no phone may speak for the PBX.
            let same_peer = |sent: Flow| {
                transport == Transport::Udp
                    && match sent {
                        Flow::Conn(id) => conns.get(id).is_some_and(|c| {
                            c.transport == Transport::Udp && c.side == side && c.remote.ip() == remote.ip()
                        }),
                        Flow::Udp { socket, remote: asked, .. } => {
                            asked.ip() == remote.ip() && sockets.iter().any(|s| s.id == socket && s.side == side)
                        }
                    }
            };
            // Over TCP and TLS an upstream whose connection was lost answers on another one (RFC 3261 §18.2.2): its 2xx again.
            let come_back = |sent: Flow| {
                side == Side::Upstream
                    && transport.is_reliable()
                    && matches!(sent, Flow::Conn(id) if id.0 % 2 == 0 && conns.get(id).is_none())
            };
            match self
                .transactions
                .receive_response_if(&message, now, |sent| sent == flow || same_peer(sent) || come_back(sent))
            {
                Received::New(answer) => self.answered(answer.client, message, now),
                Received::Absorbed => {}
                Received::Stray => {
                    tracing::debug!(
                        call_id = %message.call_id_shown(),
                        %remote,
                        status = message.status(),
                        "a response that belongs to no transaction: dropped"
                    );
                    self.metrics.dropped(side, "stray_response").inc();
                }
            }
        }
    }

    /// A stream that cannot be framed: an answer where one is possible; the transport closes the connection.
    pub(super) fn unframed(&mut self, conn: ConnId, bytes: Bytes, reason: &'static str, now: Instant) {
        let flow = Flow::Conn(conn);
        let side = self.side(flow);
        self.conns.touch(flow, now);
        match Message::scan(bytes) {
            Ok(message) if message.is_request() && message.method() != Method::Ack && message.top_via().is_some() => {
                let (status, phrase) = framing_status(reason).unwrap_or((400, "Malformed Message"));
                self.refuse(side, flow, &message, status, phrase);
            }
            Ok(_) | Err(_) => self.metrics.dropped(side, reason).inc(),
        }
    }

    /// Answers a malformed request that may be answered, without any state.
    fn refuse(&mut self, side: Side, flow: Flow, message: &Message, status: u16, phrase: &str) {
        let Some((_, remote)) = self.ends(flow) else { return };
        tracing::debug!(call_id = %message.call_id_shown(), status, "refused");
        let reply_to = self.reply_to(message, flow);
        self.metrics.responses(side, message.method(), status, Origin::Local).inc();
        let bytes = self.reply(message, status, phrase, &[], remote);
        self.act(NetCommand::Send { flow: reply_to, bytes });
    }

    fn request(
        &mut self,
        side: Side,
        transport: Transport,
        flow: Flow,
        source: SocketAddr,
        message: Message,
        now: Instant,
    ) {
        let reply_to = self.reply_to(&message, flow);
        let arrival = Arrival { flow, source, transport };
        let method = message.method();
        tracing::debug!(
            call_id = %message.call_id_shown(),
            method = %Shown(message.method_name()),
            uri = %Shown(message.request_uri().of(message.bytes())),
            side = side.as_str(),
            %transport,
            remote = %source,
            "request"
        );
        match self.transactions.receive_request(&message, flow, reply_to, transport.is_reliable(), now) {
            Inbound::New(server) => {
                self.metrics.requests(side, method, transport).inc();
                self.new_request(side, server, message, arrival, now);
            }
            Inbound::Retransmission | Inbound::AckAbsorbed => {}
            Inbound::Ack => {
                self.metrics.requests(side, method, transport).inc();
                self.forward_ack(side, &message, &arrival, now);
            }
            Inbound::Cancel { own, invite } => {
                self.metrics.requests(side, method, transport).inc();
                let (status, phrase) =
                    if invite.is_some() { (200, "OK") } else { (481, "Call/Transaction Does Not Exist") };
                self.metrics.responses(side, method, status, Origin::Local).inc();
                let bytes = self.reply(&message, status, phrase, &[], source);
                self.transactions.respond(own, status, bytes, now);
                if let Some(invite) = invite {
                    self.cancel_invite(invite, now);
                }
            }
            Inbound::Full => {
                tracing::debug!(call_id = %message.call_id_shown(), "transaction table full: 503");
                self.metrics.responses(side, method, 503, Origin::Local).inc();
                let bytes = self.reply(&message, 503, "Transaction table full", &[("Retry-After", "10")], source);
                self.act(NetCommand::Send { flow: reply_to, bytes });
            }
        }
    }

    /// Keep-alives, empty datagrams and STUN: nothing the proxy forwards.
    fn is_no_message(&mut self, side: Side, flow: Flow, remote: SocketAddr, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            self.metrics.dropped(side, "empty").inc();
            return true;
        }
        if bytes.len() <= 4 && bytes.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return true;
        }
        match stun::receive(bytes, remote) {
            Stun::No => false,
            // Phones keep their way open with it; an upstream has no business asking us for its address.
            Stun::Answer(answer) if side == Side::Phone => {
                self.act(NetCommand::Send { flow, bytes: answer });
                true
            }
            Stun::Answer(_) | Stun::Dropped => {
                self.metrics.dropped(side, "stun").inc();
                true
            }
        }
    }
}
