//! The client side of [`Transactions`]: requests out, responses in.

use std::time::Instant;

use bytes::Bytes;

use super::action::ClientAction as Action;
use super::fingerprint::Fingerprint;
use super::invite_client::{Event as InviteEvent, InviteClient};
use super::non_invite_client::{Event as NonInviteEvent, NonInviteClient};
use super::table::Id;
use super::{Answer, ClientId, Owner, Received, TableFull, Transactions, TxAction, hop_by_hop, key};
use crate::flow::{Cause, Flow};
use crate::message::{Message, Method};

/// One client transaction.
#[derive(Debug)]
pub(super) struct Client {
    machine: Machine,
    flow: Flow,
    reliable: bool,
    interest: Interest,
    /// The place in the flow's list of live transactions, while it is one.
    place: usize,
    /// The bytes that would be sent again: the request; after a failure of an INVITE its ACK; then none.
    bytes: Bytes,
    /// The CANCEL that waits for a provisional answer.
    cancel: Bytes,
}

#[derive(Debug)]
enum Machine {
    Invite(InviteClient),
    NonInvite(NonInviteClient),
}

/// The party that hears of the transaction's answers and of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interest {
    Caller,
    /// No party: the transaction is a dropped INVITE, or a CANCEL of our own.
    Nobody,
}

/// An event of a machine.
#[derive(Clone, Copy)]
enum Event<'m> {
    Created,
    Response(&'m Message),
    Cancel,
    TransportError(Cause),
    Timeout,
}

impl Client {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.machine {
            Machine::Invite(machine) => machine.poll_timeout(),
            Machine::NonInvite(machine) => machine.poll_timeout(),
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        match &mut self.machine {
            Machine::Invite(machine) => machine.poll_action(),
            Machine::NonInvite(machine) => machine.poll_action(),
        }
    }

    fn is_live(&self) -> bool {
        match &self.machine {
            Machine::Invite(machine) => machine.is_live(),
            Machine::NonInvite(machine) => machine.is_live(),
        }
    }

    /// Bytes of messages it keeps.
    fn held(&self) -> usize {
        self.bytes.len() + self.cancel.len()
    }

    fn sent(&self, bytes: Bytes, retransmission: bool) -> TxAction {
        TxAction::Send { flow: self.flow, bytes, retransmission }
    }
}

/// A request to be sent.
#[derive(Debug)]
pub struct Outgoing<'b> {
    /// What it is.
    pub method: Method,
    /// Its name as in the bytes.
    pub method_name: &'b [u8],
    /// As in the Via on top, never used before.
    pub branch: &'b [u8],
    /// Where it goes.
    pub flow: Flow,
    /// The whole message, our Via on top.
    pub bytes: Bytes,
    /// The flow is TCP or TLS.
    pub reliable: bool,
}

impl Transactions {
    /// A new client transaction; the bytes are sent at once. An ACK for a 2xx is no transaction and does not belong here.
    pub fn send_request(&mut self, request: Outgoing<'_>, now: Instant) -> Result<ClientId, TableFull> {
        let Outgoing { method, method_name, branch, flow, bytes, reliable } = request;
        let machine = if method == Method::Invite {
            Machine::Invite(InviteClient::new(reliable, &self.timers, now))
        } else {
            Machine::NonInvite(NonInviteClient::new(reliable, &self.timers, now))
        };
        let key = key::of_client(self.seed, branch, method_name);
        let place = 0;
        let client = Client { machine, flow, reliable, interest: Interest::Caller, place, bytes, cancel: Bytes::new() };
        self.start(key, client, now).map(ClientId)
    }

    /// Takes a response: [`Received::New`] if the caller has to deal with it; nothing else may be relayed (RFC 6026 §7.3). Failures
    /// of an INVITE have been acknowledged.
    ///
    /// `accept` says whether a request that was sent on the given flow, as it is sent again (or its ACK; empty when nothing is),
    /// may be answered from where this response came: only the caller knows the peers of connections and sockets. A response
    /// that it refuses changes nothing.
    pub fn receive_response_if(
        &mut self,
        msg: &Message,
        now: Instant,
        accept: impl FnOnce(Flow, &Bytes) -> bool,
    ) -> Received {
        let id = key::of_response(self.seed, msg).and_then(|key| self.clients.find(key));
        let accepts = |id: &Id| self.clients.get(*id).is_some_and(|client| accept(client.flow, &client.bytes));
        let Some(id) = id.filter(accepts) else {
            return Received::Stray;
        };
        if self.step_client(id, Event::Response(msg), now) {
            Received::New(Answer { client: ClientId(id), status: msg.status() })
        } else {
            Received::Absorbed
        }
    }

    /// Stops the retransmissions (Timers A and E off), and forgets the bytes of a request that is no INVITE. The transaction stays open for answers until Timer B or F.
    pub fn stop_retransmitting(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id.0) else { return };
        let before = client.poll_timeout();
        match &mut client.machine {
            Machine::Invite(machine) => machine.stop_retransmitting(),
            Machine::NonInvite(machine) => {
                machine.stop_retransmitting();
                // It is never sent again, and its answer needs no ACK.
                self.held -= std::mem::take(&mut client.bytes).len();
            }
        }
        let after = client.poll_timeout();
        if after != before
            && let Some(at) = after
        {
            // What is left of Timer B or F fits no lane of the queue, so that the time it is set at does not matter.
            self.wake(Owner::Client(id.0), after, at);
        }
    }

    /// Ends the caller's interest: late answers count as strays, and no further action names this transaction. A
    /// non-INVITE is forgotten at once; an INVITE stays, without retransmissions, to acknowledge a failure.
    pub fn drop_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id.0) else { return };
        client.interest = Interest::Nobody;
        match client.machine {
            Machine::Invite(_) => self.stop_retransmitting(id),
            Machine::NonInvite(_) => {
                self.end_client(id.0);
            }
        }
    }

    /// Cancels an INVITE, RFC 3261 §9.1: the CANCEL goes out on its flow, at once if there was a provisional answer, else
    /// with the first one, and not at all if the final answer comes before. It is a transaction of its own, of which the
    /// caller hears nothing. After 64·T1 without a final answer the INVITE times out.
    ///
    /// `lines`: whole header lines that it says beside what belongs to the hop, such as Reason (RFC 3326).
    pub fn cancel(&mut self, id: ClientId, lines: &[u8], now: Instant) {
        if let Some(cancel) = self.cancel_bytes(id, lines)
            && let Some(client) = self.clients.get_mut(id.0)
        {
            self.held = self.held + cancel.len() - client.cancel.len();
            client.cancel = cancel;
            self.step_client(id.0, Event::Cancel, now);
        }
    }

    /// The CANCEL that belongs to an INVITE: same Request-URI, branch and Route, RFC 3261 §9.1. `None` if it has a final
    /// answer.
    pub(super) fn cancel_bytes(&self, id: ClientId, lines: &[u8]) -> Option<Bytes> {
        let client = self.clients.get(id.0).filter(|client| client.is_live())?;
        hop_by_hop::cancel(&client.bytes, lines)
    }

    /// Takes the failure of a flow: every client transaction on it that waits for a final answer ends with
    /// [`TxAction::ClientTransportError`].
    pub fn transport_error(&mut self, flow: Flow, cause: Cause, now: Instant) {
        let mut ids = self.live.on(flow).to_vec();
        ids.sort_unstable();
        for id in ids {
            self.step_client(id, Event::TransportError(cause), now);
        }
    }

    /// The client transaction on this flow that waits for a final answer and that sent the datagram of which `quoted` is the
    /// beginning: told by method and branch (RFC 8085 §5.2).
    #[must_use]
    pub fn sender_of(&self, quoted: &[u8], flow: Flow) -> Option<ClientId> {
        let method = quoted.split(|byte| *byte == b' ').next()?;
        let branch = memchr::memmem::find(quoted, b";branch=").map(|at| &quoted[at + b";branch=".len()..])?;
        // A branch that the quotation cuts short is nobody's.
        let end = branch.iter().position(|byte| matches!(byte, b';' | b',' | b'\r' | b' '))?;
        let id = self.clients.find(key::of_client(self.seed, &branch[..end], method))?;
        self.clients.get(id).filter(|client| client.is_live() && client.flow == flow).map(|_| ClientId(id))
    }

    /// Takes the failure of one client transaction's flow, as [`Transactions::transport_error`] does for all of them.
    pub fn client_transport_error(&mut self, id: ClientId, cause: Cause, now: Instant) {
        self.step_client(id.0, Event::TransportError(cause), now);
    }

    /// How many client transactions on this flow wait for a final answer.
    #[must_use]
    pub fn open_on(&self, flow: Flow) -> usize {
        self.live.on(flow).len()
    }

    pub(super) fn client_timeout(&mut self, id: Id, now: Instant) {
        self.step_client(id, Event::Timeout, now);
    }

    /// False if it had ended already.
    pub(super) fn end_client(&mut self, id: Id) -> bool {
        let Some(client) = self.clients.get(id) else { return false };
        if client.is_live() {
            self.leave(client.flow, client.place);
        }
        if let Some(client) = self.clients.remove(id) {
            self.held -= client.held();
            self.open -= usize::from(client.is_live());
            if client.interest == Interest::Caller {
                self.actions.push_back(TxAction::ClientEnded(ClientId(id)));
            }
        }
        true
    }

    fn start(&mut self, key: Fingerprint, client: Client, now: Instant) -> Result<Id, TableFull> {
        if !self.make_room(now) {
            return Err(TableFull);
        }
        let (flow, deadline) = (client.flow, client.poll_timeout());
        self.held += client.held();
        self.open += 1;
        let id = self.clients.insert(key, client);
        let place = self.live.join(flow, id);
        if let Some(client) = self.clients.get_mut(id) {
            client.place = place;
        }
        self.wake(Owner::Client(id), deadline, now);
        self.step_client(id, Event::Created, now);
        Ok(id)
    }

    /// The CANCEL of an INVITE of ours. Without room in the table it is sent once, and no more.
    fn send_cancel(&mut self, bytes: Bytes, flow: Flow, reliable: bool, now: Instant) {
        let scanned = Message::scan(bytes.clone()).ok();
        let branch = scanned.as_ref().and_then(|cancel| Some(cancel.top_via()?.branch?.of(cancel.bytes())));
        let Some(branch) = branch else {
            let call_id = scanned.as_ref().map(Message::call_id_shown);
            tracing::debug!(call_id = call_id.map(tracing::field::display), "a CANCEL without a branch is not sent");
            return;
        };
        let key = key::of_client(self.seed, branch, b"CANCEL");
        let client = Client {
            machine: Machine::NonInvite(NonInviteClient::new(reliable, &self.timers, now)),
            flow,
            reliable,
            interest: Interest::Nobody,
            place: 0,
            bytes: bytes.clone(),
            cancel: Bytes::new(),
        };
        if self.start(key, client, now).is_err() {
            self.actions.push_back(TxAction::Send { flow, bytes, retransmission: false });
        }
    }

    fn leave(&mut self, flow: Flow, place: usize) {
        if let Some(moved) = self.live.leave(flow, place)
            && let Some(client) = self.clients.get_mut(moved)
        {
            client.place = place;
        }
    }

    /// True if a response is to be passed to the caller.
    fn step_client(&mut self, id: Id, event: Event<'_>, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        let (before, was_live, held_before) = (client.poll_timeout(), client.is_live(), client.held());
        let timers = &self.timers;
        match (&mut client.machine, event) {
            (Machine::Invite(_) | Machine::NonInvite(_), Event::Created) | (Machine::NonInvite(_), Event::Cancel) => {}
            (Machine::Invite(machine), Event::Response(response)) => {
                machine.handle(InviteEvent::of_status(response.status()), timers, now);
            }
            (Machine::Invite(machine), Event::Cancel) => machine.handle(InviteEvent::Cancel, timers, now),
            (Machine::Invite(machine), Event::TransportError(_)) => {
                machine.handle(InviteEvent::TransportError, timers, now);
            }
            (Machine::Invite(machine), Event::Timeout) => machine.handle_timeout(timers, now),
            (Machine::NonInvite(machine), Event::Response(response)) => {
                machine.handle(NonInviteEvent::of_status(response.status()), timers, now);
            }
            (Machine::NonInvite(machine), Event::TransportError(_)) => {
                machine.handle(NonInviteEvent::TransportError, timers, now);
            }
            (Machine::NonInvite(machine), Event::Timeout) => machine.handle_timeout(timers, now),
        }
        let to_caller = client.interest == Interest::Caller;
        let (mut delivered, mut completed, mut answered, mut ended, mut cancel) = (false, false, false, false, None);
        while let Some(action) = client.poll_action() {
            match action {
                Action::Send => self.actions.push_back(client.sent(client.bytes.clone(), false)),
                Action::Resend => self.actions.push_back(client.sent(client.bytes.clone(), true)),
                Action::Deliver => delivered = to_caller,
                Action::Ack => {
                    if let (true, Event::Response(response)) = (was_live, event) {
                        client.bytes = hop_by_hop::ack(&client.bytes, response).unwrap_or_default();
                    }
                    if client.bytes.is_empty() {
                        let call_id = match event {
                            Event::Response(response) => Some(tracing::field::display(response.call_id_shown())),
                            _ => None,
                        };
                        tracing::debug!(call_id, "no ACK could be made: the INVITE or its answer lacks a header");
                    } else {
                        self.actions.push_back(client.sent(client.bytes.clone(), !was_live));
                    }
                }
                Action::Cancel => cancel = Some(std::mem::take(&mut client.cancel)),
                Action::TimerC if to_caller => self.actions.push_back(TxAction::ClientTimerC(ClientId(id))),
                Action::TimerC => cancel = hop_by_hop::cancel(&client.bytes, &[]),
                Action::Timeout if to_caller => self.actions.push_back(TxAction::ClientTimeout(ClientId(id))),
                Action::TransportError if to_caller => {
                    let cause = match event {
                        Event::TransportError(cause) => cause,
                        Event::Created | Event::Response(_) | Event::Cancel | Event::Timeout => Cause::Unreachable,
                    };
                    self.actions.push_back(TxAction::ClientTransportError(ClientId(id), cause));
                }
                Action::Timeout | Action::TransportError => {}
                Action::Completed => completed = true,
                Action::Answered => answered = true,
                Action::Ended => ended = true,
            }
        }
        let after = client.poll_timeout();
        let (flow, place, reliable) = (client.flow, client.place, client.reliable);
        if was_live && !client.is_live() {
            if !(completed && matches!(client.machine, Machine::Invite(_))) {
                client.bytes = Bytes::new();
            }
            client.cancel = Bytes::new();
            self.open -= 1;
        }
        self.held = self.held + client.held() - held_before;
        if was_live && !client.is_live() {
            self.leave(flow, place);
        }
        if ended {
            self.end_client(id);
        } else {
            if completed {
                self.completed(Owner::Client(id));
            }
            if answered {
                self.answered(Owner::Client(id), now);
            }
            if after != before {
                self.wake(Owner::Client(id), after, now);
            }
        }
        if let Some(cancel) = cancel {
            self.send_cancel(cancel, flow, reliable, now);
        }
        delivered
    }
}
