//! The way back: a response finds its context, is classed or relayed, and leaves with our Via popped (RFC 3261 §16.7).

use std::time::Instant;

use super::context::{Context, ContextId, Kind, TryState};
use super::core::Core;
use crate::flow::{Cause, ConnId, Flow, Side};
use crate::message::{Edit, Message, Method, Reply};
use crate::metrics::{AttemptOutcome, FailureReason, Origin};
use crate::transaction::{ClientId, ServerId};
use crate::upstream::{Attempt, Class, Outcome, Verdict};

/// Addresses of one target that are tried in one attempt.
const MAX_ADDRESSES: usize = 16;

impl Core {
    /// A response that a client transaction let through.
    pub(super) fn answered(&mut self, client: ClientId, response: Message, now: Instant) {
        let Some((id, index)) = self.contexts.of_client(client) else { return };
        let Some(mut context) = self.contexts.take(id) else { return };
        tracing::debug!(
            call_id = %response.call_id_shown(),
            method = context.method.as_str(),
            status = response.status(),
            target = &*context.tries[index].target,
            attempt = index + 1,
            "answered"
        );
        if response.status() < 200 {
            self.provisional(&mut context, index, &response, now);
        } else if matches!(context.kind, Kind::Register(_)) {
            self.contexts.unbind(client);
            self.register_answered(id, &mut context, index, response, now);
        } else {
            self.relay_answered(&mut context, index, &response, now);
        }
        self.settle(id, context, now);
    }

    fn provisional(&mut self, context: &mut Context, index: usize, response: &Message, now: Instant) {
        context.tries[index].provisional = true;
        if context.method == Method::Invite {
            self.invite_provisional(context, index, response, now);
        } else if let Kind::Up { give_up, .. } = &mut context.kind {
            *give_up = None;
        }
        // Of a non-INVITE nothing but our own 100 goes back, and that not before Timer E reaches T2 (RFC 4320 §4.1).
    }

    /// Relays a final response (or an INVITE's provisional) to where the request came from.
    pub(super) fn relay(&mut self, context: &mut Context, response: &Message, now: Instant) {
        let mut status = response.status();
        let mut edit = Edit::new(response);
        edit.pop_via();
        if status == 503 && !self.upstream.all_failed() {
            // One target's overload is not ours: RFC 3261 §16.7 item 6.
            edit.replace(response.status_span(), b"500");
            status = 500;
        }
        if let Kind::Register(state) = &mut context.kind
            && (200..300).contains(&status)
        {
            let (upward, reach, aor) = (state.upward.take(), state.reach, state.aor.clone());
            let target = state.answered_by.clone().unwrap_or_default();
            let over = state.answered_over;
            self.registered(context, response, &mut edit, upward, (reach, &aor, &target, over), now);
        }
        if !matches!(context.kind, Kind::Down { .. }) {
            let local = self.ends(context.arrival.flow).map(|(local, _)| local);
            self.names.map_aor_back(response, &mut edit, &context.request, local);
        }
        if self.flow_transport(context.arrival.flow).is_reliable() {
            edit.say_length();
        }
        let bytes = edit.finish();
        self.respond(context, status, bytes, Origin::Relayed, now);
    }

    /// Answers a context ourselves.
    pub(super) fn answer(
        &mut self,
        context: &mut Context,
        status: u16,
        phrase: &str,
        headers: &[(&str, &str)],
        now: Instant,
    ) {
        let bytes = self.reply(&context.request, status, phrase, headers, context.arrival.source);
        self.respond(context, status, bytes, Origin::Local, now);
    }

    /// Sends a response, unless the transaction has its final one already.
    fn respond(&mut self, context: &mut Context, status: u16, bytes: bytes::Bytes, origin: Origin, now: Instant) {
        if self.transactions.respond(context.server, status, bytes.clone(), now) {
            tracing::debug!(
                call_id = %context.request.call_id_shown(),
                method = context.method.as_str(),
                status,
                origin = origin.as_str(),
                "response sent"
            );
            self.metrics.responses(reply_side(context), context.method, status, origin).inc();
        } else if context.method == Method::Invite && (200..300).contains(&status) {
            // After a failure went back, a 2xx goes all the same (RFC 3261 §16.7 step 5): there is a call to end.
            self.metrics.responses(reply_side(context), context.method, status, origin).inc();
            let flow = self.reply_to(&context.request, context.arrival.flow);
            self.act(crate::flow::NetCommand::Send { flow, bytes });
        }
        context.trying_sent = true;
        if status >= 200 {
            context.finish();
        }
    }

    /// No final answer at all (RFC 4320 §4.2).
    pub(super) fn abandon(&mut self, context: &mut Context, now: Instant) {
        show_abandoned(context);
        self.transactions.abandon(context.server, now);
        context.finish();
    }

    /// One of our own responses, as bytes.
    pub(super) fn reply(
        &mut self,
        request: &Message,
        status: u16,
        phrase: &str,
        headers: &[(&str, &str)],
        source: std::net::SocketAddr,
    ) -> bytes::Bytes {
        let mut reply = Reply::to(request, status, phrase).stamp(source);
        if status > 100 {
            self.branches += 1;
            reply = reply.tag(self.key.response_tag(self.branches).as_bytes());
        }
        for (name, value) in headers {
            reply = reply.header(name, value.as_bytes());
        }
        reply.finish()
    }

    /// No interest in the other branches any more.
    pub(super) fn drop_branches(&mut self, context: &mut Context, now: Instant) {
        for index in 0..context.tries.len() {
            self.close_try(context, index, now);
        }
    }

    /// Gives up one branch.
    pub(super) fn close_try(&mut self, context: &mut Context, index: usize, now: Instant) {
        let this = &mut context.tries[index];
        this.state = TryState::Closed;
        this.deadline = None;
        if let Some(client) = this.client.take() {
            self.contexts.unbind(client);
            self.transactions.drop_client(client, now);
        }
    }

    /// Puts a context back with its next wake-up, or ends it when nothing more can come of it.
    pub(super) fn settle(&mut self, id: ContextId, mut context: Box<Context>, now: Instant) {
        let waits = matches!(&context.kind, Kind::Register(state) if state.next_try.is_some() || state.held);
        let merged = context.tries.iter().any(|t| t.state == TryState::Merged);
        if context.is_quiet() && !waits && (context.finished || !merged) {
            if !context.finished {
                self.abandon(&mut context, now);
            }
            self.contexts.end(&context);
            if let Kind::Register(state) = &context.kind
                && self.calls.get(&state.call) == Some(&id)
            {
                self.calls.remove(&state.call);
            }
            return;
        }
        let wakeup = wakeup(&context);
        if let Some(at) = wakeup
            && context.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            context.scheduled = Some(at);
            self.schedule(id, at);
        }
        self.contexts.put(id, context);
    }

    /// A wake-up of a context is due.
    pub(super) fn context_timeout(&mut self, id: ContextId, at: Instant, now: Instant) {
        let Some(mut context) = self.contexts.take(id) else { return };
        if context.scheduled == Some(at) {
            context.scheduled = None;
        }
        if !context.trying_sent && !context.finished && context.received_at + super::relay::TRYING_AFTER <= now {
            self.answer(&mut context, 100, "Trying", &[], now);
        }
        if matches!(context.kind, Kind::Register(_)) {
            self.register_timeout(id, &mut context, now);
        } else {
            self.relay_timeout(id, &mut context, now);
        }
        self.settle(id, context, now);
    }

    /// The connection a try waited for is open.
    pub(super) fn try_opened(&mut self, id: ContextId, index: usize, conn: ConnId, now: Instant) {
        let Some(mut context) = self.contexts.take(id) else { return };
        if context.tries[index].state == TryState::Opening(conn) {
            self.send_try(id, &mut context, index, conn, now);
        }
        self.settle(id, context, now);
    }

    /// The connection a try waited for failed.
    pub(super) fn try_failed(&mut self, id: ContextId, index: usize, cause: Cause, now: Instant) {
        let Some(mut context) = self.contexts.take(id) else { return };
        if matches!(context.tries[index].state, TryState::Opening(_)) {
            self.try_failed_in(id, &mut context, index, cause, now);
        }
        self.settle(id, context, now);
    }

    pub(super) fn try_failed_in(
        &mut self,
        id: ContextId,
        context: &mut Context,
        index: usize,
        cause: Cause,
        now: Instant,
    ) {
        if matches!(context.kind, Kind::Register(_)) {
            self.register_failed(id, context, index, cause, now);
        } else {
            self.relay_failed(id, context, index, cause, now);
        }
    }

    /// A client transaction's flow failed under it.
    pub(super) fn client_transport_error(&mut self, client: ClientId, now: Instant) {
        let Some((id, index)) = self.contexts.unbind(client) else { return };
        let Some(mut context) = self.contexts.take(id) else { return };
        context.tries[index].client = None;
        let cause = self.failing;
        self.try_failed_in(id, &mut context, index, cause, now);
        self.settle(id, context, now);
    }

    /// Timer B or F: this branch will not be answered any more.
    pub(super) fn client_timeout(&mut self, client: ClientId, now: Instant) {
        let Some((id, index)) = self.contexts.unbind(client) else { return };
        let Some(mut context) = self.contexts.take(id) else { return };
        context.tries[index].client = None;
        if matches!(context.kind, Kind::Register(_)) {
            self.register_branch_over(id, &mut context, index, now);
        } else {
            self.relay_branch_over(id, &mut context, index, now);
        }
        self.settle(id, context, now);
    }

    /// A client transaction is gone from the table.
    pub(super) fn client_ended(&mut self, client: ClientId, now: Instant) {
        let Some((id, index)) = self.contexts.unbind(client) else { return };
        let Some(mut context) = self.contexts.take(id) else { return };
        let this = &mut context.tries[index];
        this.client = None;
        this.state = TryState::Closed;
        self.settle(id, context, now);
    }

    /// A server transaction is gone from the table: whatever is still open has nobody to answer.
    pub(super) fn server_ended(&mut self, server: ServerId, now: Instant) {
        if let Some(id) = self.contexts.of_server(server)
            && let Some(mut context) = self.contexts.take(id)
        {
            if !context.finished {
                show_abandoned(&context);
            }
            context.finish();
            self.settle(id, context, now);
        }
    }

    /// A reset of a reused connection is sent once more on a fresh one; a target's next address is tried when one
    /// cannot be reached. Both belong to the same attempt. True if the try goes on.
    pub(super) fn resend_or_next_address(
        &mut self,
        id: ContextId,
        context: &mut Context,
        index: usize,
        cause: Cause,
        now: Instant,
    ) -> bool {
        let this = &mut context.tries[index];
        if this.state == TryState::Late || this.state == TryState::Closed || this.provisional {
            return false;
        }
        let Some(hop) = this.hop.clone() else { return false };
        if this.reused && !this.resent && ends_a_connection(cause) {
            this.resent = true;
            this.reused = false;
            this.addresses = this.addresses.saturating_sub(1);
            self.forget_client(context, index, now);
            self.connect_try(id, context, index, hop, now);
            return true;
        }
        let target = this.target.clone();
        let tried = usize::from(this.addresses);
        let Some(addresses) = self.upstream.targets().iter().find(|t| t.label == target).map(|t| t.addresses.clone())
        else {
            return false;
        };
        // The next request begins with another address, too.
        self.pass_turn(&target, &addresses, hop.addr.ip());
        if tried >= addresses.len().min(MAX_ADDRESSES) {
            return false;
        }
        let Some(ip) = self.pick_address(&target, &addresses) else { return false };
        self.forget_client(context, index, now);
        let hop = crate::flow::Hop { addr: (ip, hop.addr.port()).into(), ..hop };
        self.connect_try(id, context, index, hop, now);
        true
    }

    fn forget_client(&mut self, context: &mut Context, index: usize, now: Instant) {
        let this = &mut context.tries[index];
        this.state = TryState::Sent;
        if let Some(client) = this.client.take() {
            self.contexts.unbind(client);
            self.transactions.drop_client(client, now);
        }
    }

    /// Metrics of an attempt that was classed, and a line about it: at debug each, at the default level a summary of those
    /// that failed.
    pub(super) fn count_attempt(
        &mut self,
        request: &Message,
        attempt: &Attempt,
        outcome: Outcome,
        verdict: Verdict,
        now: Instant,
    ) {
        let class = verdict.class;
        tracing::debug!(
            call_id = %request.call_id_shown(),
            target = &*attempt.target,
            %outcome,
            class = class.as_str(),
            strike = verdict.counted,
            rolled_over = verdict.rolled_over,
            "REGISTER attempt ended"
        );
        if class == Class::Failure {
            self.note_failed_attempt(&attempt.target, outcome, now);
        }
        let target = self.metrics.target(&attempt.target);
        let ended = ended(class, outcome);
        target.attempts(ended).inc();
        if class == Class::Failure {
            let reason = match outcome {
                Outcome::Response(_) => FailureReason::Response,
                Outcome::Failed(cause) => cause.into(),
            };
            target.failures(reason).inc();
        }
        let took = now.saturating_duration_since(attempt.started);
        target.duration.observe(took.as_secs_f64());
        self.history.note(ended, outcome.code().map(|_| took), now);
    }

    /// The side and transport a flow's counters go to.
    pub(super) fn labels(&self, flow: Flow) -> (Side, crate::flow::Transport) {
        (self.side(flow), self.flow_transport(flow))
    }
}

fn show_abandoned(context: &Context) {
    let method = context.method.as_str();
    tracing::debug!(call_id = %context.request.call_id_shown(), method, "left without a final answer");
}

/// What an attempt counts as in the metrics.
pub(super) fn ended(class: Class, outcome: Outcome) -> AttemptOutcome {
    match (class, outcome) {
        (Class::Success, _) => AttemptOutcome::Success,
        (Class::Failure, _) => AttemptOutcome::Failed,
        (Class::Neutral, Outcome::Response(401 | 407)) => AttemptOutcome::Challenged,
        (Class::Neutral, Outcome::Response(_) | Outcome::Failed(_)) => AttemptOutcome::Rejected,
    }
}

/// The side a context's responses go to.
fn reply_side(context: &Context) -> Side {
    if matches!(context.kind, Kind::Down { .. }) { Side::Upstream } else { Side::Phone }
}

/// When a context wants to be looked at next.
fn wakeup(context: &Context) -> Option<Instant> {
    let trying = (!context.trying_sent && !context.finished).then(|| context.received_at + super::relay::TRYING_AFTER);
    let own = match &context.kind {
        Kind::Register(_) => super::register::register_wakeup(context),
        Kind::Up { alternate, give_up, .. } => [*alternate, *give_up].into_iter().flatten().min(),
        Kind::Down { .. } => None,
    };
    [trying, own].into_iter().flatten().min()
}

/// Whether this is how a connection that was open ends: a peer that reset it, fell silent under it, or broke its TLS. A
/// datagram's errors are not among them.
fn ends_a_connection(cause: Cause) -> bool {
    match cause {
        Cause::Reset | Cause::Timeout | Cause::Tls => true,
        Cause::Refused | Cause::Unreachable | Cause::Unresolved => false,
    }
}
