//! The server side of [`Transactions`]: requests in, responses out.

use std::time::Instant;

use bytes::Bytes;

use super::action::ServerAction as Action;
use super::invite_server::{Event as InviteEvent, InviteServer};
use super::non_invite_server::{Event as NonInviteEvent, NonInviteServer};
use super::table::Id;
use super::{Inbound, Owner, ServerId, Transactions, TxAction, key};
use crate::flow::Flow;
use crate::message::{Message, Method};

/// One server transaction. A hundred thousand completed ones are kept under load: it holds nothing but this and the
/// bytes of its last response.
#[derive(Debug)]
pub(super) struct Server {
    machine: Machine,
    reply_to: Flow,
    /// Empty until something was sent that a retransmission of the request brings forth again.
    response: Bytes,
    /// More than retransmissions is waited for.
    open: bool,
    /// Bytes that may be sent without being asked; `None`: any number.
    allowance: Option<u32>,
}

#[derive(Debug)]
enum Machine {
    Invite(InviteServer),
    NonInvite(NonInviteServer),
}

/// An event of a machine.
#[derive(Clone, Copy)]
enum Event {
    Request,
    Ack,
    Respond(u16),
    Relay(u16),
    Abandon,
    Timeout,
}

/// The result of a machine's step for the caller.
#[derive(Default)]
struct Stepped {
    sent: bool,
    pass_ack: bool,
}

impl Server {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.machine {
            Machine::Invite(machine) => machine.poll_timeout(),
            Machine::NonInvite(machine) => machine.poll_timeout(),
        }
    }

    /// Takes so much of its allowance; false if there is not so much left.
    fn spend(&mut self, bytes: usize) -> bool {
        let Some(left) = &mut self.allowance else { return true };
        let rest = left.checked_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        *left = rest.unwrap_or(0);
        rest.is_some()
    }

    fn poll_action(&mut self) -> Option<Action> {
        match &mut self.machine {
            Machine::Invite(machine) => machine.poll_action(),
            Machine::NonInvite(machine) => machine.poll_action(),
        }
    }
}

impl Transactions {
    /// A request that passed `Message::check`.
    ///
    /// `flow`: where it came from. `reply_to`: where its responses go (for datagrams RFC 3261 §18.2.2 and RFC 3581 §4
    /// say so, and the caller works it out); a retransmission from elsewhere moves it. `reliable`: the transport of the
    /// request is TCP or TLS.
    pub fn receive_request(
        &mut self,
        msg: &Message,
        flow: Flow,
        reply_to: Flow,
        reliable: bool,
        now: Instant,
    ) -> Inbound {
        let method = msg.method();
        if method == Method::Ack {
            return self.receive_ack(msg, now);
        }
        let key = key::of_request(self.seed, msg, msg.method_name());
        if let Some(id) = self.servers.find(key) {
            tracing::trace!(call_id = %msg.call_id_shown(), ?flow, method = method.as_str(), "retransmission absorbed");
            if let Some(server) = self.servers.get_mut(id) {
                server.reply_to = reply_to;
            }
            self.step_server(id, Event::Request, Bytes::new(), now);
            return Inbound::Retransmission;
        }
        if !self.make_room(now) {
            return Inbound::Full;
        }
        let machine = if method == Method::Invite {
            Machine::Invite(InviteServer::new(reliable))
        } else {
            Machine::NonInvite(NonInviteServer::new(reliable, &self.timers, now))
        };
        let server = Server { machine, reply_to, response: Bytes::new(), open: true, allowance: None };
        let deadline = server.poll_timeout();
        let id = self.servers.insert(key, server);
        self.open += 1;
        self.wake(Owner::Server(id), deadline, now);
        if method == Method::Cancel {
            let invite = self.servers.find(key::of_request(self.seed, msg, b"INVITE")).map(ServerId);
            return Inbound::Cancel { own: ServerId(id), invite };
        }
        Inbound::New(ServerId(id))
    }

    /// Sends a response and steps the machine. `bytes`: the whole response; `status`: its status code.
    ///
    /// True if it went out. It does not where the transaction has ended or has its final answer, nor where RFC 4320
    /// forbids it for a non-INVITE: a 100 before Timer E of the client has reached T2 (3.5 s, datagrams only), any other
    /// provisional, and a 408, which abandons the transaction instead. Any number of 2xx may answer an INVITE.
    pub fn respond(&mut self, id: ServerId, status: u16, bytes: Bytes, now: Instant) -> bool {
        self.step_server(id.0, Event::Respond(status), bytes, now).sent
    }

    /// As [`Transactions::respond`], for a response that somebody else made. RFC 4320 §4.2 forbids to make a 408 for a non-INVITE,
    /// because it would come too late; one that the next hop made goes on for as long as the sender waits.
    pub fn relay(&mut self, id: ServerId, status: u16, bytes: Bytes, now: Instant) -> bool {
        self.step_server(id.0, Event::Relay(status), bytes, now).sent
    }

    /// Its responses are repeated by a timer only as long as all of them together have no more than so many bytes: the request may
    /// have come from somebody else than it says. Each receipt of the request is answered all the same.
    pub fn restrain(&mut self, id: ServerId, bytes: usize) {
        if let Some(server) = self.servers.get_mut(id.0) {
            server.allowance = Some(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// Ends a transaction that gets no final response at all (RFC 4320 §4.2). Retransmissions are absorbed in silence until the
    /// transaction would have ended.
    pub fn abandon(&mut self, id: ServerId, now: Instant) {
        self.step_server(id.0, Event::Abandon, Bytes::new(), now);
    }

    /// RFC 3261 §17.2.3: an ACK belongs to the INVITE's transaction unless that was answered 2xx.
    fn receive_ack(&mut self, msg: &Message, now: Instant) -> Inbound {
        let Some(id) = self.servers.find(key::of_request(self.seed, msg, b"INVITE")) else {
            return Inbound::Ack;
        };
        if self.step_server(id, Event::Ack, Bytes::new(), now).pass_ack { Inbound::Ack } else { Inbound::AckAbsorbed }
    }

    pub(super) fn server_timeout(&mut self, id: Id, now: Instant) {
        self.step_server(id, Event::Timeout, Bytes::new(), now);
    }

    /// False if it had ended already.
    pub(super) fn end_server(&mut self, id: Id) -> bool {
        let ended = self.forget_server(id);
        if ended {
            self.actions.push_back(TxAction::ServerEnded(ServerId(id)));
        }
        ended
    }

    /// Forgets a request that was just received, as if it had never come: it is answered without a transaction, or not at all.
    pub fn discard(&mut self, id: ServerId) {
        self.forget_server(id.0);
    }

    fn forget_server(&mut self, id: Id) -> bool {
        let Some(server) = self.servers.remove(id) else { return false };
        self.held -= server.response.len();
        self.open -= usize::from(server.open);
        true
    }

    /// `response`: what `Event::Respond` or `Event::Relay` sends.
    fn step_server(&mut self, id: Id, event: Event, mut response: Bytes, now: Instant) -> Stepped {
        let mut stepped = Stepped::default();
        let Some(server) = self.servers.get_mut(id) else { return stepped };
        let (before, held_before) = (server.poll_timeout(), server.response.len());
        let timers = &self.timers;
        match (&mut server.machine, event) {
            (Machine::Invite(machine), Event::Request) => machine.handle(InviteEvent::Invite, timers, now),
            (Machine::Invite(machine), Event::Ack) => machine.handle(InviteEvent::Ack, timers, now),
            (Machine::Invite(machine), Event::Respond(status) | Event::Relay(status)) => {
                machine.handle(InviteEvent::of_status(status), timers, now);
            }
            (Machine::Invite(machine), Event::Abandon) => machine.handle(InviteEvent::Abandon, timers, now),
            (Machine::Invite(machine), Event::Timeout) => machine.handle_timeout(timers, now),
            (Machine::NonInvite(machine), Event::Request) => machine.handle(NonInviteEvent::Request, timers, now),
            (Machine::NonInvite(_), Event::Ack) => {}
            (Machine::NonInvite(machine), Event::Relay(408)) => machine.handle(NonInviteEvent::Final, timers, now),
            (Machine::NonInvite(machine), Event::Respond(status) | Event::Relay(status)) => {
                machine.handle(NonInviteEvent::of_status(status), timers, now);
            }
            (Machine::NonInvite(machine), Event::Abandon) => machine.handle(NonInviteEvent::Abandon, timers, now),
            (Machine::NonInvite(machine), Event::Timeout) => machine.handle_timeout(timers, now),
        }
        let (mut completed, mut answered, mut ended) = (false, false, false);
        while let Some(action) = server.poll_action() {
            let flow = server.reply_to;
            match action {
                Action::Send => {
                    server.spend(response.len());
                    server.response = response.clone();
                    stepped.sent = true;
                    let bytes = std::mem::take(&mut response);
                    self.actions.push_back(TxAction::Send { flow, bytes, retransmission: false });
                }
                Action::Pass => {
                    server.response = Bytes::new();
                    stepped.sent = true;
                    let bytes = std::mem::take(&mut response);
                    self.actions.push_back(TxAction::Send { flow, bytes, retransmission: false });
                }
                Action::Replay if server.response.is_empty() => {}
                Action::Replay if matches!(event, Event::Timeout) && !server.spend(server.response.len()) => {}
                Action::Replay => {
                    let bytes = server.response.clone();
                    self.actions.push_back(TxAction::Send { flow, bytes, retransmission: true });
                }
                Action::PassAck => stepped.pass_ack = true,
                Action::Completed => completed = true,
                Action::Answered => answered = true,
                Action::Ended => ended = true,
            }
        }
        let after = server.poll_timeout();
        self.held = self.held + server.response.len() - held_before;
        if completed || answered {
            self.open -= usize::from(std::mem::take(&mut server.open));
        }
        if ended {
            self.end_server(id);
            return stepped;
        }
        if completed {
            self.completed(Owner::Server(id));
        }
        if answered {
            self.answered(Owner::Server(id), now);
        }
        if after != before {
            self.wake(Owner::Server(id), after, now);
        }
        stepped
    }
}
