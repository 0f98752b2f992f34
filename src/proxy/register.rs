//! REGISTER: tried, counted, tried again, so that the handset sees an answer and not the outage.
//!
//! A context launches a *try*; each try is one attempt with its own branch. What an attempt's outcome means for failover
//! is decided by `upstream`; what it means for this handset is decided here:
//!
//! | outcome | what follows |
//! |---|---|
//! | success or neutral | relayed at once, the other branches are dropped |
//! | 482, 400 or 500 while an older branch of the same epoch is open | the registrar saw the request twice: not an outcome |
//! | silence for `attempt_timeout` | the next try at once; this branch stays open |
//! | an instant failure | the next try after 1 s, then 3 s; at once if another target is active by then |
//! | nothing more to try | the last failure response is relayed; else silence (RFC 4320 §4.2) |

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::conns::Lease;
use super::context::{Context, ContextId, Kind, Registering, Try, TryState};
use super::core::Core;
use super::settings::Exhausted;
use crate::flow::{Cause, Flow, Hop};
use crate::message::Message;
use crate::upstream::classes::classify;
use crate::upstream::{Class, Outcome, Target, bounded};

/// Pauses after the first and after every later instant failure on one target.
const PACE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// The registering part of a context that is known to be a REGISTER's.
fn registering(context: &mut Context) -> Option<&mut Registering> {
    match &mut context.kind {
        Kind::Register(registering) => Some(registering),
        Kind::Up { .. } | Kind::Down { .. } => None,
    }
}

/// When a REGISTER's context wants to be looked at next.
pub(super) fn register_wakeup(context: &Context) -> Option<Instant> {
    let Kind::Register(state) = &context.kind else { return None };
    let deadline = (!context.finished && !state.spent).then_some(state.deadline);
    let tries = (0..context.tries.len()).filter_map(|index| try_deadline(context, index));
    tries.chain(state.next_try).chain(deadline).min()
}

/// An attempt fails at its own deadline; after a provisional answer it has the handset's.
fn try_deadline(context: &Context, index: usize) -> Option<Instant> {
    let Kind::Register(state) = &context.kind else { return None };
    let this = &context.tries[index];
    let at = this.deadline?;
    match this.state {
        TryState::Closed | TryState::Late => None,
        TryState::Sent if this.provisional => Some(at.max(state.deadline)),
        TryState::Sent | TryState::Opening(_) | TryState::Merged => Some(at),
    }
}

impl Core {
    /// Starts the next try on the active target, or finds that there is none to start.
    pub(super) fn launch_register(&mut self, id: ContextId, context: &mut Context, now: Instant) {
        let Some(state) = registering(context) else { return };
        state.next_try = None;
        let Some((target, epoch)) = self.upstream.active() else {
            if !state.held {
                state.held = true;
                // Those whose deadline has passed meanwhile are the oldest: the queue is never longer than the table.
                while self.held.front().is_some_and(|oldest| self.contexts.get(*oldest).is_none()) {
                    self.held.pop_front();
                }
                self.held.push_back(id);
            }
            return;
        };
        let (label, hop) = (target.label.clone(), self.hop_to(target));
        match state.visited.last() {
            Some((_, last)) if *last == epoch => {}
            _ if state.visited.iter().any(|(seen, _)| *seen == label) => {
                // One lap round the targets is all a handset's transaction gets.
                self.exhausted(context, now);
                return;
            }
            _ => {
                if !state.visited.is_empty() {
                    state.instant_failures = 0;
                }
                state.visited.push((label.clone(), epoch));
            }
        }
        if !context.tries.is_empty() {
            self.metrics.register_retries.inc();
        }
        let attempt = self.upstream.begin_attempt(now);
        let index = context.tries.len();
        let deadline = Some(now + self.settings.attempt_timeout);
        context.tries.push(Try { attempt, deadline, ..Try::new(label) });
        let Some(hop) = hop else {
            self.register_failed(id, context, index, Cause::Unresolved, now);
            return;
        };
        self.connect_try(id, context, index, hop, now);
    }

    /// Gives a try a connection, at once or when it opens.
    pub(super) fn connect_try(&mut self, id: ContextId, context: &mut Context, index: usize, hop: Hop, now: Instant) {
        let lease = self.lease(&hop, now);
        let this = &mut context.tries[index];
        this.addresses = this.addresses.saturating_add(1);
        this.hop = Some(hop);
        match lease {
            Lease::Open(conn) => {
                this.reused = true;
                self.send_try(id, context, index, conn, now);
            }
            Lease::Opening(conn) | Lease::New(conn) => {
                this.state = TryState::Opening(conn);
                self.contexts.wait_for(conn, id, index);
            }
            Lease::Full => self.try_failed_in(id, context, index, Cause::Unreachable, now),
        }
    }

    /// A try failed without an answer. A target's other addresses belong to the same attempt.
    pub(super) fn register_failed(
        &mut self,
        id: ContextId,
        context: &mut Context,
        index: usize,
        cause: Cause,
        now: Instant,
    ) {
        if self.resend_or_next_address(id, context, index, cause, now) {
            return;
        }
        let late = context.tries[index].state == TryState::Late;
        self.close_try(context, index, now);
        if late {
            // Classed when it timed out; it only stops waiting for a late answer.
            self.finish_if_hopeless(context, now);
            return;
        }
        let rolled = self.class(context, index, Outcome::Failed(cause), now);
        // A connection that was not established in time has been waited for already.
        let instant = (cause != Cause::Timeout).then_some(index);
        self.plan_next(id, context, rolled, instant, now);
    }

    /// The attempt's time is over: classed as a failure, open for a late answer.
    fn register_silent(&mut self, id: ContextId, context: &mut Context, index: usize, now: Instant) {
        let this = &mut context.tries[index];
        this.deadline = None;
        match this.state {
            TryState::Merged => {
                this.state = TryState::Closed;
                self.plan_next(id, context, false, None, now);
            }
            TryState::Sent => {
                this.state = TryState::Late;
                if let Some(client) = this.client {
                    self.transactions.stop_retransmitting(client);
                }
                if let Some(Flow::Conn(conn)) = this.flow {
                    self.conns.suspect(conn);
                }
                self.pass_over_silent(context, index);
                let rolled = self.class(context, index, Outcome::Failed(Cause::Timeout), now);
                self.plan_next(id, context, rolled, None, now);
            }
            TryState::Opening(_) => {
                // Not even a connection: nothing can be answered late.
                this.state = TryState::Closed;
                self.pass_over_silent(context, index);
                let rolled = self.class(context, index, Outcome::Failed(Cause::Timeout), now);
                self.plan_next(id, context, rolled, None, now);
            }
            TryState::Late | TryState::Closed => {}
        }
    }

    /// A whole attempt's silence leaves no time for the target's other addresses: the next attempt begins with another.
    fn pass_over_silent(&mut self, context: &Context, index: usize) {
        let this = &context.tries[index];
        if let Some(hop) = this.hop.as_ref().filter(|_| !this.provisional)
            && let Some(target) = self.upstream.targets().iter().find(|target| target.label == this.target)
        {
            let addresses = target.addresses.clone();
            self.pass_turn(&this.target, &addresses, hop.addr.ip());
        }
    }

    /// A final response came on a branch.
    pub(super) fn register_answered(
        &mut self,
        id: ContextId,
        context: &mut Context,
        index: usize,
        response: Message,
        now: Instant,
    ) {
        let status = response.status();
        let merged = matches!(status, 400 | 482 | 500) && context.older_branch_open(index);
        if merged {
            let this = &mut context.tries[index];
            this.client = None;
            this.state = if this.state == TryState::Late { TryState::Closed } else { TryState::Merged };
            return;
        }
        let late = context.tries[index].state == TryState::Late;
        // A phone's daily challenge and success need no words.
        let detail = if matches!(status, 200..=299 | 401 | 407) { None } else { bounded(response.reason()) };
        let class = if late {
            self.late_class(context, index, status, now)
        } else {
            self.class_response(context, index, status, detail.clone(), now)
        };
        let target = context.tries[index].target.clone();
        self.note_attempt(context, (&target, Outcome::Response(status)), class.0, detail, now);
        let rolled = class.1;
        let this = &mut context.tries[index];
        this.client = None;
        this.state = TryState::Closed;
        let retry = self.settings.retry;
        match class.0 {
            Class::Failure if retry && !context.finished => {
                if let Some(state) = registering(context) {
                    state.last_failure = Some(Box::new(response));
                }
                if late {
                    self.finish_if_hopeless(context, now);
                } else {
                    self.plan_next(id, context, rolled, Some(index), now);
                }
            }
            Class::Success | Class::Neutral | Class::Failure => {
                let over = match context.tries[index].flow {
                    Some(Flow::Conn(conn)) => self.conns.get(conn).map_or(0, |conn| conn.way),
                    Some(Flow::Udp { .. }) | None => 0,
                };
                if let Some(state) = registering(context) {
                    (state.answered_by, state.answered_over) = (Some(target), over);
                }
                self.relay(context, &response, now);
                self.drop_branches(context, now);
            }
        }
    }

    /// Timer F: nothing comes on this branch any more.
    pub(super) fn register_branch_over(&mut self, id: ContextId, context: &mut Context, index: usize, now: Instant) {
        let late = context.tries[index].state == TryState::Late;
        if !late {
            // A provisional answer held the attempt open until here.
            self.register_silent(id, context, index, now);
        }
        context.tries[index].state = TryState::Closed;
        self.finish_if_hopeless(context, now);
    }

    /// Classes a response that came in time; also whether it rolled over.
    fn class_response(
        &mut self,
        context: &mut Context,
        index: usize,
        status: u16,
        detail: Option<Arc<str>>,
        now: Instant,
    ) -> (Class, bool) {
        let Kind::Register(state) = &context.kind else { return (Class::Neutral, false) };
        let Some(attempt) = context.tries[index].attempt.as_ref() else { return (Class::Neutral, false) };
        let verdict = self.upstream.finish_because(attempt, state.handset, Outcome::Response(status), detail, now);
        self.count_attempt(&context.request, attempt, Outcome::Response(status), verdict, now);
        (verdict.class, verdict.rolled_over)
    }

    /// An answer after the attempt was classed. A success clears the count; a challenge tells that the target is slow and
    /// not dead, and takes back what this transaction's silence had counted.
    fn late_class(&mut self, context: &mut Context, index: usize, status: u16, now: Instant) -> (Class, bool) {
        let class = classify(Outcome::Response(status), &self.upstream.settings().failure_codes);
        match (class, context.tries[index].attempt.as_ref()) {
            (Class::Success, Some(attempt)) => self.upstream.late_success(attempt, now),
            (Class::Neutral, _) => {
                for attempt in context.tries.iter().filter_map(|t| t.attempt.as_ref()) {
                    self.upstream.late_answer(attempt);
                }
            }
            (Class::Success, None) | (Class::Failure, _) => {}
        }
        (class, false)
    }

    /// Classes a failure without answer; true if it rolled over.
    fn class(&mut self, context: &mut Context, index: usize, outcome: Outcome, now: Instant) -> bool {
        let Kind::Register(state) = &context.kind else { return false };
        let Some(attempt) = context.tries[index].attempt.as_ref() else { return false };
        let detail = self.failing_detail.take();
        let verdict = self.upstream.finish_because(attempt, state.handset, outcome, detail.clone(), now);
        self.count_attempt(&context.request, attempt, outcome, verdict, now);
        let target = attempt.target.clone();
        self.note_attempt(context, (&target, outcome), verdict.class, detail, now);
        verdict.rolled_over
    }

    /// What comes after a try that brought nothing to relay. `instant` names a try that failed at once.
    fn plan_next(&mut self, id: ContextId, context: &mut Context, rolled: bool, instant: Option<usize>, now: Instant) {
        if context.finished || !self.settings.retry {
            self.finish_if_hopeless(context, now);
            return;
        }
        let epoch = instant.and_then(|index| context.tries[index].attempt.as_ref()).map(|attempt| attempt.epoch);
        let moved = rolled || self.upstream.active().map(|(_, now_active)| now_active) != epoch;
        let Some(state) = registering(context) else { return };
        if state.superseded || state.spent {
            self.finish_if_hopeless(context, now);
            return;
        }
        let at = if instant.is_none() || moved {
            now
        } else {
            let pace = PACE[(state.instant_failures as usize).min(PACE.len() - 1)];
            state.instant_failures += 1;
            now + pace
        };
        if at >= state.deadline {
            self.finish_if_hopeless(context, now);
        } else if at <= now {
            self.launch_register(id, context, now);
        } else {
            state.next_try = Some(at);
        }
    }

    /// Every target had its turn: no further try begins.
    fn exhausted(&mut self, context: &mut Context, now: Instant) {
        if let Some(state) = registering(context) {
            state.spent = true;
        }
        self.finish_if_hopeless(context, now);
    }

    /// Ends the handset's transaction when no branch can bring an answer and no try is to come: the last failure
    /// response goes back, else silence or 503.
    fn finish_if_hopeless(&mut self, context: &mut Context, now: Instant) {
        let waits = context.tries.iter().any(|t| t.is_open() || t.state == TryState::Merged);
        let Some(state) = registering(context) else { return };
        let to_come = state.next_try.is_some() || state.held;
        let (failure, superseded) = (state.last_failure.take(), state.superseded);
        if context.finished {
            return;
        }
        if waits || to_come {
            if let Some(state) = registering(context) {
                state.last_failure = failure;
            }
            return;
        }
        match failure {
            Some(response) => self.relay(context, &response, now),
            None => {
                if !superseded {
                    self.metrics.register_exhausted.inc();
                }
                match self.settings.exhausted {
                    Exhausted::Unavailable if !superseded => self.answer(context, 503, "No target answered", &[], now),
                    Exhausted::Unavailable | Exhausted::Silent => self.abandon(context, now),
                }
            }
        }
    }

    /// The handset's deadline: no further try. A failure response goes back now; a branch that is still open may yet
    /// bring an answer, and its outcome counts all the same.
    fn register_deadline(&mut self, context: &mut Context, now: Instant) {
        if context.tries.is_empty() {
            self.note_refusal(context, None, now);
        }
        let Some(state) = registering(context) else { return };
        state.next_try = None;
        state.held = false;
        state.spent = true;
        if let Some(response) = state.last_failure.take() {
            self.relay(context, &response, now);
        } else if self.settings.exhausted == Exhausted::Unavailable {
            self.metrics.register_exhausted.inc();
            self.answer(context, 503, "No target answered", &[], now);
        } else {
            self.finish_if_hopeless(context, now);
        }
    }

    /// What is due in a REGISTER's context.
    pub(super) fn register_timeout(&mut self, id: ContextId, context: &mut Context, now: Instant) {
        let mut index = 0;
        while index < context.tries.len() {
            if try_deadline(context, index).is_some_and(|at| at <= now) {
                self.register_silent(id, context, index, now);
            }
            index += 1;
        }
        let Some(state) = registering(context) else { return };
        let deadline = state.deadline;
        if state.next_try.is_some_and(|at| at <= now) && deadline > now {
            self.launch_register(id, context, now);
        }
        if deadline <= now && !context.finished && !registering(context).is_none_or(|state| state.spent) {
            self.register_deadline(context, now);
        }
    }

    /// A newer REGISTER of the same call: the older one begins no further try. True if this one is the older, because a
    /// datagram overtook it.
    pub(super) fn supersede(&mut self, call: u64, cseq: u32, newer: ContextId, now: Instant) -> bool {
        let Some(other) = self.calls.get(&call).copied() else {
            self.calls.insert(call, newer);
            return false;
        };
        let known = self.contexts.get(other).and_then(|context| match &context.kind {
            Kind::Register(state) => Some(state.cseq),
            Kind::Up { .. } | Kind::Down { .. } => None,
        });
        if known.is_some_and(|known| known > cseq) {
            return true;
        }
        self.calls.insert(call, newer);
        if let Some(mut context) = self.contexts.take(other) {
            if let Some(state) = registering(&mut context)
                && state.cseq < cseq
            {
                state.superseded = true;
                state.next_try = None;
                state.held = false;
            }
            self.settle(other, context, now);
        }
        false
    }

    /// REGISTERs that came before the first record set go out now.
    pub(super) fn release_held(&mut self, now: Instant) {
        if self.upstream.active().is_none() {
            return;
        }
        for id in std::mem::take(&mut self.held) {
            let Some(mut context) = self.contexts.take(id) else { continue };
            if let Some(state) = registering(&mut context)
                && state.held
            {
                state.held = false;
                self.launch_register(id, &mut context, now);
            }
            self.settle(id, context, now);
        }
    }

    /// After a rollover nobody who only waits for his turn needs to wait any longer.
    pub(super) fn hurry_paced(&mut self, now: Instant) {
        for id in self.contexts.ids() {
            let paced = self.contexts.get(id).is_some_and(|context| {
                matches!(&context.kind, Kind::Register(state) if state.next_try.is_some()) && !context.finished
            });
            if paced && let Some(mut context) = self.contexts.take(id) {
                self.launch_register(id, &mut context, now);
                self.settle(id, context, now);
            }
        }
    }

    /// The next hop to a target, at the address whose turn it is; `None` where it has none.
    pub(super) fn hop_to(&self, target: &Target) -> Option<Hop> {
        let ip = self.pick_address(&target.label, &target.addresses)?;
        Some(Hop { target: target.host.clone(), addr: (ip, target.port).into(), transport: self.transport, group: 0 })
    }

    /// One of a target's addresses cannot be reached: if it is the one whose turn it is, the next one has it.
    pub(super) fn pass_turn(&mut self, label: &Arc<str>, addresses: &[std::net::IpAddr], failed: std::net::IpAddr) {
        let turn = self.address.entry(label.clone()).or_insert(0);
        if addresses.get(*turn % addresses.len().max(1)) == Some(&failed) {
            *turn = (*turn + 1) % addresses.len().max(1);
        }
    }

    /// The address of a target that is tried next.
    pub(super) fn pick_address(&self, label: &Arc<str>, addresses: &[std::net::IpAddr]) -> Option<std::net::IpAddr> {
        let turn = self.address.get(label).copied().unwrap_or(0);
        (!addresses.is_empty()).then(|| addresses[turn % addresses.len()])
    }
}
