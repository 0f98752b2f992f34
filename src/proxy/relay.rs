//! Everything but REGISTER, in both directions: one branch, and for an INVITE nobody answers one more
//! (RFC 3261 §16.6–16.10, RFC 3263 §4.3).
//!
//! Of two branches of an INVITE the first that shows life has the call; the other is cancelled as soon as it shows some:
//!
//! | what comes | from the branch that has the call, or from the only one | from the other |
//! |---|---|---|
//! | 101–199 | relayed | absorbed |
//! | 2xx | relayed | relayed |
//! | failure | relayed | kept for the case that the call comes to nothing |

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::bindings::Reach;
use super::context::{Arrival, Context, ContextId, Kind, Try, TryState};
use super::core::Core;
use super::request::Destination;
use crate::flow::{Cause, Flow, Hop};
use crate::message::{Message, Method};
use crate::transaction::{ClientId, ServerId};

/// A non-INVITE without a final answer gets its `100` when Timer E has reached T2: 0.5 + 1 + 2 s (RFC 4320 §4.1).
pub(super) const TRYING_AFTER: Duration = Duration::from_millis(3500);
/// An INVITE without any answer is tried on the next target after this long.
const ALTERNATE_AFTER: Duration = Duration::from_secs(4);

impl Core {
    /// Opens a context for a request and sends it on.
    pub(super) fn relay_request(
        &mut self,
        server: ServerId,
        request: Message,
        arrival: Arrival,
        to: &Destination,
        now: Instant,
    ) {
        let method = request.method();
        let id = self.contexts.begin(server);
        let kind = match to {
            Destination::Active | Destination::Target(_) => Kind::Up { alternate: None, give_up: None, best: None },
            Destination::Handset { id, contact, .. } => Kind::Down { id: *id, contact: contact.clone() },
        };
        let mut context = Box::new(Context {
            server,
            request: Box::new(request),
            method,
            arrival,
            received_at: now,
            trying_sent: false,
            finished: false,
            cancelled: false,
            tries: SmallVec::new(),
            kind,
            scheduled: None,
        });
        if method == Method::Invite {
            self.answer(&mut context, 100, "Trying", &[], now);
        }
        match to {
            Destination::Active => self.launch_up(id, &mut context, now),
            Destination::Target(label) => self.launch_in_dialog(id, &mut context, label, now),
            Destination::Handset { reach, .. } => self.launch_down(id, &mut context, reach, now),
        }
        self.settle(id, context, now);
    }

    fn launch_up(&mut self, id: ContextId, context: &mut Context, now: Instant) {
        let Some((target, _)) = self.upstream.active() else {
            self.answer(context, 503, "No DNS answer for the upstream yet", &[("Retry-After", "5")], now);
            return;
        };
        let (label, hop) = (target.label.clone(), self.hop_to(target));
        if context.method == Method::Invite
            && let Kind::Up { alternate, .. } = &mut context.kind
            && self.settings.invite_alternate
        {
            *alternate = Some(now + ALTERNATE_AFTER);
        }
        self.launch_at(id, context, label, hop, now);
    }

    /// A request inside a dialog stays with the dialog's target. If that is no longer the active one and silent, it ends
    /// within `attempt_timeout`.
    fn launch_in_dialog(&mut self, id: ContextId, context: &mut Context, label: &Arc<str>, now: Instant) {
        let active = self.upstream.active().is_some_and(|(target, _)| target.label == *label);
        let Some(target) = self.upstream.target(label) else {
            self.launch_up(id, context, now);
            return;
        };
        let (label, hop) = (target.label.clone(), self.hop_in_use(target).or_else(|| self.hop_to(target)));
        if !active && let Kind::Up { give_up, .. } = &mut context.kind {
            *give_up = Some(now + self.settings.attempt_timeout);
        }
        self.launch_at(id, context, label, hop, now);
    }

    fn launch_at(&mut self, id: ContextId, context: &mut Context, label: Arc<str>, hop: Option<Hop>, now: Instant) {
        let index = context.tries.len();
        context.tries.push(Try::new(label));
        match hop {
            Some(hop) => self.connect_try(id, context, index, hop, now),
            None => self.relay_failed(id, context, index, Cause::Unresolved, now),
        }
    }

    fn launch_down(&mut self, id: ContextId, context: &mut Context, reach: &Reach, now: Instant) {
        context.tries.push(Try::new(Arc::from("")));
        match reach_flow(reach) {
            Some(flow) => self.send_on(id, context, 0, flow, now),
            None => self.relay_failed(id, context, 0, Cause::Reset, now),
        }
    }

    /// A try failed without an answer.
    pub(super) fn relay_failed(
        &mut self,
        id: ContextId,
        context: &mut Context,
        index: usize,
        cause: Cause,
        now: Instant,
    ) {
        let upward = matches!(context.kind, Kind::Up { .. });
        if upward && !context.cancelled && self.resend_or_next_address(id, context, index, cause, now) {
            return;
        }
        self.close_try(context, index, now);
        if context.finished || context.is_pending() {
            return;
        }
        if upward && self.launch_alternate(id, context, now) {
            return;
        }
        if let Kind::Up { give_up: Some(_), .. } = &context.kind {
            self.give_up(context, now);
            return;
        }
        if self.relay_best(context, now) {
            return;
        }
        if context.cancelled {
            self.answer(context, 487, "Request Terminated", &[], now);
        } else if !upward {
            let (status, phrase) = self.lost_flow();
            self.answer(context, status, phrase, &[], now);
        } else if self.upstream.all_failed() {
            self.answer(context, 503, "Every target failed", &[("Retry-After", "30")], now);
        } else {
            // A transport error counts as a 503 from there (RFC 3261 §16.9), which leaves as 500 (§16.7 item 6).
            self.answer(context, 500, "Upstream cannot be reached", &[], now);
        }
    }

    /// An initial INVITE that got nowhere goes once to the next target. The active one stays what it is.
    fn launch_alternate(&mut self, id: ContextId, context: &mut Context, now: Instant) -> bool {
        let Kind::Up { alternate, .. } = &mut context.kind else { return false };
        if alternate.take().is_none() || context.cancelled || context.request.to_tag().is_some() {
            return false;
        }
        let Some(last) = context.tries.last().map(|t| t.target.clone()) else { return false };
        let Some(next) = self.upstream.next_after(&last).filter(|next| next.label != last) else { return false };
        let (label, hop) = (next.label.clone(), self.hop_to(next));
        // The silent branch is not insisted on, but stays open: its target may only be slow.
        for client in context.tries.iter().filter_map(|this| this.client) {
            self.transactions.stop_retransmitting(client);
        }
        self.launch_at(id, context, label, hop, now);
        true
    }

    /// A provisional answer to an INVITE. The target lives: no alternative is wanted any more, and one that is under way
    /// already has lost.
    pub(super) fn invite_provisional(&mut self, context: &mut Context, index: usize, response: &Message, now: Instant) {
        if let Kind::Up { alternate, give_up, .. } = &mut context.kind {
            (*alternate, *give_up) = (None, None);
        }
        if context.tries[index].cancelled {
            return;
        }
        self.cancel_others(context, index, now);
        if response.status() > 100 && !context.finished {
            self.relay(context, response, now);
        }
    }

    /// A final answer.
    pub(super) fn relay_answered(&mut self, context: &mut Context, index: usize, response: &Message, now: Instant) {
        let status = response.status();
        if context.method == Method::Invite {
            // The client transaction lives on for more 2xx (RFC 6026) or to acknowledge again; it says when it ends.
            context.tries[index].state = TryState::Late;
            if let Kind::Up { alternate, .. } = &mut context.kind {
                *alternate = None;
            }
            let success = (200..300).contains(&status);
            if success {
                self.note_dialog(context, index, now);
            } else if status < 600 && better_to_come(context, index) {
                keep_best(context, response);
                return;
            } else if !context.finished && self.relay_best_of(context, response, now) {
                self.cancel_others(context, index, now);
                return;
            }
            if success || !context.finished {
                self.relay(context, response, now);
            }
            self.cancel_others(context, index, now);
            return;
        }
        let this = &mut context.tries[index];
        this.state = TryState::Closed;
        if let Some(client) = this.client.take() {
            self.contexts.unbind(client);
        }
        if (200..300).contains(&status) && context.method == Method::Subscribe {
            self.note_dialog(context, index, now);
        }
        if !context.finished {
            self.relay(context, response, now);
        }
    }

    /// Relays the failure that was kept, if there is one.
    fn relay_best(&mut self, context: &mut Context, now: Instant) -> bool {
        let Kind::Up { best, .. } = &mut context.kind else { return false };
        let Some(best) = best.take() else { return false };
        self.relay(context, &best, now);
        true
    }

    /// Relays the failure that was kept, if it is the better one (RFC 3261 §16.7 step 6).
    fn relay_best_of(&mut self, context: &mut Context, response: &Message, now: Instant) -> bool {
        let Kind::Up { best: Some(best), .. } = &context.kind else { return false };
        response.status() < 600 && best.status() / 100 < response.status() / 100 && self.relay_best(context, now)
    }

    /// Timer B or F on a branch: an INVITE ends with 408, everything else in silence (RFC 4320 §4.2).
    pub(super) fn relay_branch_over(&mut self, id: ContextId, context: &mut Context, index: usize, now: Instant) {
        context.tries[index].state = TryState::Closed;
        if context.finished || context.is_pending() {
            return;
        }
        if context.method == Method::Invite {
            if self.launch_alternate(id, context, now) || self.relay_best(context, now) {
                return;
            }
            if context.cancelled {
                self.answer(context, 487, "Request Terminated", &[], now);
            } else {
                self.answer(context, 408, "No answer", &[], now);
            }
        } else {
            self.abandon(context, now);
        }
    }

    /// What is due in the context of anything but a REGISTER.
    pub(super) fn relay_timeout(&mut self, id: ContextId, context: &mut Context, now: Instant) {
        if let Kind::Up { alternate, .. } = &context.kind
            && alternate.is_some_and(|at| at <= now)
            && !self.launch_alternate(id, context, now)
            && let Kind::Up { alternate, .. } = &mut context.kind
        {
            *alternate = None;
        }
        if let Kind::Up { give_up, .. } = &context.kind
            && give_up.is_some_and(|at| at <= now)
        {
            self.give_up(context, now);
        }
    }

    /// The dialog's target is dead and left. A re-INVITE gets 408, which ends no call that the PBX still carries; a
    /// subscription 481, so that the handset subscribes anew at the active target.
    fn give_up(&mut self, context: &mut Context, now: Instant) {
        if let Kind::Up { give_up, .. } = &mut context.kind {
            *give_up = None;
        }
        if context.finished {
            return;
        }
        match context.method {
            Method::Invite => {
                self.answer(context, 408, "Dialog's target does not answer", &[], now);
                // A 2xx that comes after all must reach the handset, or the PBX would end the call for want of an ACK.
                self.cancel_others(context, usize::MAX, now);
                for client in context.tries.iter().filter_map(|this| this.client) {
                    self.transactions.stop_retransmitting(client);
                }
                return;
            }
            Method::Subscribe => self.answer(context, 481, "Subscription's target does not answer", &[], now),
            _ => self.answer(context, 504, "Dialog's target does not answer", &[], now),
        }
        self.drop_branches(context, now);
    }

    /// Timer C, RFC 3261 §16.8: what rang for more than three minutes is cancelled; its 487 goes back.
    pub(super) fn rang_too_long(&mut self, client: ClientId, now: Instant) {
        if let Some(bytes) = self.transactions.cancel_bytes(client) {
            self.transactions.cancel(client, bytes, now);
        }
    }

    /// A handset (or upstream) cancels its INVITE.
    pub(super) fn cancel_invite(&mut self, server: ServerId, now: Instant) {
        let Some(id) = self.contexts.of_server(server) else { return };
        let Some(mut context) = self.contexts.take(id) else { return };
        if context.method == Method::Invite && !context.finished {
            context.cancelled = true;
            if let Kind::Up { alternate, .. } = &mut context.kind {
                *alternate = None;
            }
            for index in 0..context.tries.len() {
                if matches!(context.tries[index].state, TryState::Opening(_)) {
                    context.tries[index].state = TryState::Closed;
                }
            }
            self.cancel_others(&mut context, usize::MAX, now);
            if !context.is_pending() {
                self.answer(&mut context, 487, "Request Terminated", &[], now);
            }
        }
        self.settle(id, context, now);
    }

    /// CANCEL on every open branch but one; the transaction layer waits for a provisional answer where none came.
    fn cancel_others(&mut self, context: &mut Context, except: usize, now: Instant) {
        for (index, this) in context.tries.iter_mut().enumerate() {
            if index == except || this.cancelled {
                continue;
            }
            this.cancelled = true;
            if this.state == TryState::Sent
                && let Some(client) = this.client
            {
                let Some(bytes) = self.transactions.cancel_bytes(client) else { continue };
                self.transactions.cancel(client, bytes, now);
            }
        }
    }

    /// What the PBX is told when a handset's flow is gone (RFC 5626 §5.3.1: 430 where the flow was named by Path).
    pub(super) fn lost_flow(&self) -> (u16, &'static str) {
        match self.settings.contact {
            super::contact::Mode::Path => (430, "Flow Failed"),
            super::contact::Mode::Rewrite => (480, "Temporarily Unavailable"),
        }
    }
}

/// Whether a failure on this branch is kept back: a branch that has the call, or the newer one, may still bring better. A
/// silent older one is not waited for.
fn better_to_come(context: &Context, index: usize) -> bool {
    context.tries.iter().enumerate().any(|(other, this)| {
        other != index
            && !this.cancelled
            && matches!(this.state, TryState::Opening(_) | TryState::Sent)
            && (this.provisional || other > index)
    })
}

/// Keeps a failure, unless one of a lower class is kept already.
fn keep_best(context: &mut Context, response: &Message) {
    let Kind::Up { best, .. } = &mut context.kind else { return };
    if best.as_ref().is_none_or(|best| response.status() / 100 <= best.status() / 100) {
        *best = Some(Box::new(response.clone()));
    }
}

/// The flow that leads to a handset, while there is one.
pub(super) fn reach_flow(reach: &Reach) -> Option<Flow> {
    match reach {
        Reach::Udp { socket, local, to, .. } => Some(Flow::Udp { socket: *socket, local: *local, remote: *to }),
        Reach::Conn(conn) => Some(Flow::Conn(*conn)),
        Reach::Lost => None,
    }
}
