//! REGISTER: tried, counted, tried again, so that the handset sees an answer and not the outage.
//!
//! Each branch is one attempt. What an attempt's outcome means for failover is decided by `upstream`; what it means for this
//! handset is decided here:
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

use smallvec::SmallVec;

use super::branch::{Branch, Branches, State};
use super::outlook::{BranchId, Failure, In, Out, Outbox, Outlook};
use crate::flow::Cause;
use crate::proxy::site::settings::Exhausted;
use crate::upstream::{Class, Outcome, Standing, TargetId, Witness};

/// Pauses after the first and after every later instant failure on one target.
const PACE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Where the whole stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no record set yet, or the fleet is asked where to go.
    Held,
    /// A try is under way.
    Trying,
    /// Paced after an instant failure.
    Pausing { until: Instant },
    /// No further try begins; open branches may still bring an answer.
    Spent(Spent),
    /// The handset has its answer, or shall have none.
    Over,
}

/// Why no further try begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spent {
    /// Each target had its turn, or a newer REGISTER came.
    Turns,
    /// The handset's deadline passed.
    Deadline,
}

#[derive(Debug)]
pub(crate) struct RegisterRelay {
    pub branches: Branches,
    phase: Phase,
    /// When no further try begins.
    deadline: Instant,
    /// Whose it is, when strikes are counted.
    pub(super) witness: Witness,
    /// A newer REGISTER of the same call was there before this one, or came since: nothing is tried again.
    superseded: bool,
    /// Instant failures since the target became active: the pace.
    instant_failures: u32,
    /// A failure response is kept, to be relayed when all else failed.
    kept: bool,
    /// Targets tried, each with the epoch of its first try: at most one full cycle round them.
    visited: SmallVec<[(TargetId, u64); 4]>,
}

impl RegisterRelay {
    /// What its handset's failure was worth when it began.
    pub(crate) fn standing(&self) -> Standing {
        self.witness.standing
    }

    pub(crate) fn new(witness: Witness, superseded: bool, deadline: Instant) -> Self {
        RegisterRelay {
            branches: Branches::default(),
            phase: Phase::Trying,
            deadline,
            witness,
            superseded,
            instant_failures: 0,
            kept: false,
            visited: SmallVec::new(),
        }
    }

    /// When it wants an [`In::Timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let deadline = (!self.is_past_deadline()).then_some(self.deadline);
        let next = match self.phase {
            Phase::Pausing { until } => Some(until),
            Phase::Held | Phase::Trying | Phase::Spent(_) | Phase::Over => None,
        };
        let branches = self.branches.iter().filter_map(|(_, branch)| self.due(branch));
        branches.chain(next).chain(deadline).min()
    }

    /// A handset that was never served gets one attempt a transaction while others are: what the PBX drops on purpose must not
    /// become three strikes by our own doing.
    fn tries_again(&self, outlook: &Outlook<'_>) -> bool {
        outlook.policy.retry && self.witness.standing != Standing::Unserved
    }

    /// The deadline has nothing more to bring.
    fn is_past_deadline(&self) -> bool {
        matches!(self.phase, Phase::Spent(Spent::Deadline) | Phase::Over)
    }

    /// It waits for something that is no branch's answer.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.phase, Phase::Held | Phase::Pausing { .. })
    }

    /// The handset has its final answer, or shall have none.
    pub(crate) fn finish(&mut self) {
        self.phase = Phase::Over;
    }

    /// Takes one event.
    pub(crate) fn handle(&mut self, event: In, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        match event {
            In::Begin => self.launch(outlook, out),
            In::Lost(id, failure) => self.lost(id, failure, outlook, out),
            In::Unreached(id, failure) => self.unreached(id, failure, outlook, out),
            In::Provisional(id, _) => {
                // Nothing but our own 100 goes back, and that not before Timer E reaches T2 (RFC 4320 §4.1).
                if let Some(branch) = self.branches.get_mut(id) {
                    branch.ringing();
                }
            }
            In::Answered(id, status, detail) => self.answered(id, status, detail, outlook, out),
            In::Over(id) => self.over(id, outlook, out),
            In::RolledOver => {
                if matches!(self.phase, Phase::Pausing { .. }) {
                    self.launch(outlook, out);
                }
            }
            In::TargetsKnown => {
                if self.phase == Phase::Held {
                    self.launch(outlook, out);
                }
            }
            In::Superseded => {
                self.superseded = true;
                if self.waits() {
                    self.phase = Phase::Spent(Spent::Turns);
                }
            }
            In::Timeout => self.timeout(outlook, out),
            // Only an INVITE is cancelled.
            In::Cancelled => {}
        }
    }

    /// Starts the next try on the active target, or finds that there is none to start.
    fn launch(&mut self, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        let Some((target, epoch)) = outlook.upstream.active().filter(|_| !outlook.upstream.holds()) else {
            if self.phase != Phase::Held {
                self.phase = Phase::Held;
                out.push(Out::Hold);
            }
            return;
        };
        self.phase = Phase::Trying;
        let (label, hop) = (target.label.clone(), outlook.addresses.hop_to(target, outlook.transport));
        match self.visited.last() {
            Some((_, last)) if *last == epoch => {}
            _ if self.visited.iter().any(|(seen, _)| *seen == label) => {
                // One full cycle is all a handset's transaction gets.
                self.phase = Phase::Spent(Spent::Turns);
                self.finish_if_hopeless(outlook, out);
                return;
            }
            _ => {
                if !self.visited.is_empty() {
                    self.instant_failures = 0;
                }
                self.visited.push((label.clone(), epoch));
            }
        }
        if !self.branches.is_empty() {
            out.push(Out::Retried);
        }
        let attempt = outlook.upstream.begin_attempt(outlook.now);
        let until = Some(outlook.now + outlook.policy.attempt_timeout);
        let id = self.branches.push(Branch::new(label, attempt, until));
        match hop {
            Some(hop) => out.push(Out::Launch(id, hop)),
            None => self.lost(id, Cause::Unresolved.into(), outlook, out),
        }
    }

    /// A branch failed without an answer. A target's other addresses belong to the same attempt.
    fn lost(&mut self, id: BranchId, failure: Failure, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        let Some(branch) = self.branches.get_mut(id) else { return };
        if let Some(hop) = branch.next_hop(failure.cause, outlook) {
            branch.state = State::Launched { until: branch.until() };
            out.push(Out::Launch(id, hop));
            return;
        }
        let late = branch.is_late();
        branch.close();
        if late {
            // Classed when it timed out; it only stops waiting for a late answer.
            self.finish_if_hopeless(outlook, out);
            return;
        }
        let rolled = self.class(id, Outcome::Failed(failure.cause), failure.detail, outlook, out).rolled_over;
        // A connection that was not established in time has been waited for already.
        let instant = (failure.cause != Cause::Timeout).then_some(id);
        self.plan_next(rolled, instant, outlook, out);
    }

    /// As [`Self::lost`], but the branch stays open for a late answer.
    fn unreached(&mut self, id: BranchId, failure: Failure, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        // Where no try follows, the handset is answered now.
        let waits = self.tries_again(outlook);
        let Some(branch) = self.branches.get_mut(id) else { return };
        let State::Sent { client, .. } = branch.state else { return };
        if !waits {
            out.push(Out::Forget(client));
            self.lost(id, failure, outlook, out);
            return;
        }
        if let Some(hop) = branch.next_hop(failure.cause, outlook) {
            out.push(Out::Forget(client));
            branch.state = State::Launched { until: branch.until() };
            out.push(Out::Launch(id, hop));
            return;
        }
        branch.state = State::Late { client };
        let rolled = self.class(id, Outcome::Failed(failure.cause), failure.detail, outlook, out).rolled_over;
        self.plan_next(rolled, Some(id), outlook, out);
    }

    /// The attempt's time is over: classed as a failure, open for a late answer.
    fn silent(&mut self, id: BranchId, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        // An unserved handset has one try, which goes on being sent until Timer F.
        let insists = self.witness.standing == Standing::Unserved;
        let Some(branch) = self.branches.get_mut(id) else { return };
        match branch.state {
            State::Merged { .. } => {
                branch.close();
                self.plan_next(false, None, outlook, out);
                return;
            }
            State::Sent { client, .. } => {
                branch.pass_over_silent(outlook);
                branch.state = State::Late { client };
                out.extend((!insists).then_some(Out::Hush(client)));
                // Silence to a handset that was never served says nothing about the connection that all share.
                if let (Some(flow), Some(attempt), false) = (branch.flow, &branch.attempt, insists) {
                    out.push(Out::Suspect(flow, attempt.started));
                }
            }
            State::Launched { .. } | State::Opening { .. } => {
                // Not even a connection: nothing can be answered late.
                branch.pass_over_silent(outlook);
                branch.close();
            }
            State::Late { .. } | State::Answered { .. } | State::Closed => return,
        }
        let rolled = self.class(id, Outcome::Failed(Cause::Timeout), None, outlook, out).rolled_over;
        self.plan_next(rolled, None, outlook, out);
    }

    /// A final response came on a branch; its client transaction is gone.
    fn answered(
        &mut self,
        id: BranchId,
        status: u16,
        detail: Option<Arc<str>>,
        outlook: &mut Outlook<'_>,
        out: &mut Outbox,
    ) {
        let merged = matches!(status, 400 | 482 | 500) && self.branches.older_is_open(id);
        let Some(branch) = self.branches.get_mut(id) else { return };
        let late = branch.is_late();
        if merged {
            branch.state = if late { State::Closed } else { State::Merged { until: branch.until() } };
            return;
        }
        branch.close();
        let outcome = Outcome::Response(status);
        let (class, rolled) = if late {
            (self.late_class(id, status, detail, outlook, out), false)
        } else {
            let verdict = self.class(id, outcome, detail, outlook, out);
            (verdict.class, verdict.rolled_over)
        };
        match class {
            Class::Failure if self.tries_again(outlook) && self.phase != Phase::Over => {
                out.push(Out::Keep);
                self.kept = true;
                if late {
                    self.finish_if_hopeless(outlook, out);
                } else {
                    self.plan_next(rolled, Some(id), outlook, out);
                }
            }
            Class::Success | Class::Neutral | Class::Failure => {
                out.push(Out::Relay(id));
                self.finish();
                for (_, branch) in self.branches.iter_mut() {
                    out.extend(branch.close().map(Out::Forget));
                }
            }
        }
    }

    /// Timer F: nothing comes on this branch any more.
    fn over(&mut self, id: BranchId, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        if self.branches.get(id).is_some_and(|branch| !branch.is_late()) {
            // A provisional answer held the attempt open until here.
            self.silent(id, outlook, out);
        }
        if let Some(branch) = self.branches.get_mut(id) {
            branch.close();
        }
        self.finish_if_hopeless(outlook, out);
    }

    /// What comes after a branch that brought nothing to relay. `instant` names one that failed at once.
    fn plan_next(&mut self, rolled: bool, instant: Option<BranchId>, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        if !self.tries_again(outlook) || self.superseded || matches!(self.phase, Phase::Spent(_) | Phase::Over) {
            self.finish_if_hopeless(outlook, out);
            return;
        }
        let attempt = instant.and_then(|id| self.branches.get(id)?.attempt.as_ref());
        let epoch = attempt.map(|attempt| attempt.epoch);
        let moved = rolled || outlook.upstream.active().map(|(_, now_active)| now_active) != epoch;
        let at = if instant.is_none() || moved {
            outlook.now
        } else {
            let pace = PACE[(self.instant_failures as usize).min(PACE.len() - 1)];
            self.instant_failures += 1;
            outlook.now + pace
        };
        if at >= self.deadline {
            self.finish_if_hopeless(outlook, out);
        } else if at <= outlook.now {
            self.launch(outlook, out);
        } else {
            self.phase = Phase::Pausing { until: at };
        }
    }

    /// Ends the handset's transaction when no branch can bring an answer and no try is to come: the last failure
    /// response goes back, else silence or 503.
    fn finish_if_hopeless(&mut self, outlook: &Outlook<'_>, out: &mut Outbox) {
        let hopeful = self.waits() || !self.branches.is_quiet() || self.branches.is_merged();
        if hopeful || self.phase == Phase::Over {
            return;
        }
        if self.kept {
            out.push(Out::RelayKept);
        } else {
            if !self.superseded {
                out.push(Out::Exhausted);
            }
            match outlook.policy.exhausted {
                Exhausted::Unavailable if !self.superseded => out.push(Out::Answer(503, "No target answered", None)),
                Exhausted::Unavailable | Exhausted::Silent => out.push(Out::Abandon),
            }
        }
        self.finish();
    }

    /// The handset's deadline: no further try. A failure response goes back now; a branch that is still open may yet
    /// bring an answer, and its outcome counts all the same.
    fn deadline(&mut self, outlook: &Outlook<'_>, out: &mut Outbox) {
        if self.branches.is_empty() {
            out.push(Out::NoTarget);
        }
        self.phase = Phase::Spent(Spent::Deadline);
        if self.kept {
            out.push(Out::RelayKept);
            self.finish();
        } else if outlook.policy.exhausted == Exhausted::Unavailable {
            out.push(Out::Exhausted);
            out.push(Out::Answer(503, "No target answered", None));
            self.finish();
        } else {
            self.finish_if_hopeless(outlook, out);
        }
    }

    fn timeout(&mut self, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        let mut place = 0;
        while let Some(branch) = self.branches.get(BranchId(place)) {
            if self.due(branch).is_some_and(|at| at <= outlook.now) {
                self.silent(BranchId(place), outlook, out);
            }
            place += 1;
        }
        if let Phase::Pausing { until } = self.phase
            && until <= outlook.now
            && self.deadline > outlook.now
        {
            self.launch(outlook, out);
        }
        if self.deadline <= outlook.now && !self.is_past_deadline() {
            self.deadline(outlook, out);
        }
    }

    /// An attempt fails at its own deadline; after a provisional answer it has the handset's.
    fn due(&self, branch: &Branch) -> Option<Instant> {
        let at = branch.until()?;
        Some(if branch.is_provisional() { at.max(self.deadline) } else { at })
    }
}
