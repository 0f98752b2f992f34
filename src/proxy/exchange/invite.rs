//! INVITE, in both directions: one branch, and for one nobody answers one more (RFC 3261 §16.6–16.10, RFC 3263 §4.3).
//!
//! Of two branches the first that shows life has the call; the other is cancelled as soon as it shows some:
//!
//! | what comes | from the branch that has the call, or from the only one | from the other |
//! |---|---|---|
//! | 101–199 | relayed | absorbed |
//! | 2xx | relayed | relayed |
//! | failure | relayed | kept for the case that the call comes to nothing |

use std::time::{Duration, Instant};

use super::branch::{Branch, Branches, State};
use super::outlook::{BranchId, Failure, In, Out, Outbox, Outlook, Reason};
use super::plain::Course;
use crate::flow::Cause;

/// An INVITE without any answer is tried on the next target after this long.
const ALTERNATE_AFTER: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(crate) struct InviteRelay {
    pub branches: Branches,
    course: Course,
    /// Inside a dialog: it has no alternative.
    within: bool,
    /// One that nobody answered goes to the next target then.
    alternate: Option<Instant>,
    /// In a dialog whose target is not the active one, and silent, it ends then.
    give_up: Option<Instant>,
    /// The status of the best failure so far, while another branch may still do better (RFC 3261 §16.7 step 6).
    best: Option<u16>,
    cancelled: bool,
    finished: bool,
}

impl InviteRelay {
    pub(crate) fn new(course: Course, within: bool) -> Self {
        InviteRelay {
            branches: Branches::default(),
            course,
            within,
            alternate: None,
            give_up: None,
            best: None,
            cancelled: false,
            finished: false,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.alternate, self.give_up].into_iter().flatten().min()
    }

    /// The sender has its final answer.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// Takes one event.
    pub(crate) fn handle(&mut self, event: In, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        match event {
            In::Begin => self.begin(outlook, out),
            In::Lost(id, failure) => self.lost(id, &failure, outlook, out),
            In::Provisional(id, status) => self.provisional(id, status, out),
            In::Answered(id, status, _) => self.answered(id, status, out),
            In::Over(id) => self.over(id, outlook, out),
            In::Cancelled => self.cancelled(out),
            In::Timeout => self.timeout(outlook, out),
            In::Unreached(id, failure) => self.unreached(id, &failure, outlook, out),
            In::RolledOver | In::TargetsKnown | In::Superseded => {}
        }
    }

    fn begin(&mut self, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        let start = match self.course.start(outlook) {
            Ok(start) => start,
            Err(answer) => {
                self.finish();
                out.push(answer);
                return;
            }
        };
        if start.follows_active && outlook.policy.invite_alternate {
            self.alternate = Some(outlook.now + ALTERNATE_AFTER);
        }
        self.give_up = start.give_up;
        let id = self.branches.push(Branch::new(start.target, None, None));
        match start.way {
            Ok(way) => out.push(way.of(id)),
            Err(cause) => self.lost(id, &cause.into(), outlook, out),
        }
    }

    /// A branch failed without an answer.
    fn lost(&mut self, id: BranchId, failure: &Failure, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        let up = self.course.is_up();
        let Some(branch) = self.branches.get_mut(id) else { return };
        if up
            && !self.cancelled
            && !self.finished
            && !branch.cancelled
            && let Some(hop) = branch.next_hop(failure.cause, outlook)
        {
            branch.state = State::Launched { until: None };
            out.push(Out::Launch(id, hop));
            return;
        }
        branch.close();
        if self.finished || self.is_pending() {
            return;
        }
        if up && self.launch_alternate(outlook, out) {
            return;
        }
        if self.give_up.is_some() {
            self.give_up(out);
            return;
        }
        if self.relay_best(out) {
            return;
        }
        self.finish();
        out.push(if self.cancelled {
            Out::Answer(487, "Request Terminated", None)
        } else {
            self.course.failed(outlook)
        });
    }

    /// What an ICMP error says may not last: it goes on being sent. But the caller need not wait to see: the next target is tried;
    /// where there is none, a target that never answered is given up with the second error.
    fn unreached(&mut self, id: BranchId, failure: &Failure, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        if self.finished || self.branches.iter().any(|(_, branch)| branch.is_provisional()) {
            return;
        }
        if outlook.upstream.has_answered() {
            self.launch_alternate(outlook, out);
            return;
        }
        let nowhere_else = self.alternate.is_none() || outlook.upstream.targets().len() < 2;
        let Some(branch) = self.branches.get_mut(id) else { return };
        if nowhere_else && branch.endures(outlook) {
            return;
        }
        out.extend(branch.client().map(Out::Forget));
        self.lost(id, failure, outlook, out);
    }

    /// An initial INVITE that got nowhere goes once to the next target. The active one stays what it is.
    fn launch_alternate(&mut self, outlook: &mut Outlook<'_>, out: &mut Outbox) -> bool {
        if self.alternate.take().is_none() || self.cancelled || self.within {
            return false;
        }
        let Some(last) = self.branches.last().map(|branch| branch.target.clone()) else { return false };
        let Some(next) = outlook.upstream.next_after(&last).filter(|next| next.label != last) else { return false };
        let (label, hop) = (next.label.clone(), outlook.addresses.hop_to(next, outlook.transport));
        // The silent branch is not insisted on, but stays open: its target may only be slow.
        out.extend(self.branches.iter().filter_map(|(_, branch)| branch.client()).map(Out::Hush));
        let id = self.branches.push(Branch::new(label, None, None));
        match hop {
            Some(hop) => out.push(Out::Launch(id, hop)),
            None => self.lost(id, &Cause::Unresolved.into(), outlook, out),
        }
        true
    }

    /// The target lives: no alternative is wanted any more, and one that is under way already has lost.
    fn provisional(&mut self, id: BranchId, status: u16, out: &mut Outbox) {
        (self.alternate, self.give_up) = (None, None);
        let Some(branch) = self.branches.get_mut(id) else { return };
        branch.ringing();
        if branch.cancelled {
            return;
        }
        // It has the call, or will soon: no missed call is to be noted elsewhere.
        self.cancel_others(Some(id), Reason::Status(200), out);
        if status > 100 && !self.finished {
            out.push(Out::Relay(id));
        }
    }

    fn answered(&mut self, id: BranchId, status: u16, out: &mut Outbox) {
        self.alternate = None;
        let Some(branch) = self.branches.get_mut(id) else { return };
        // The client transaction lives on for more 2xx (RFC 6026) or to acknowledge again; it says when it ends.
        if let Some(client) = branch.client() {
            branch.state = State::Answered { client };
        }
        let flow = branch.flow;
        let success = (200..300).contains(&status);
        if success {
            out.push(Out::Dialog(flow.filter(|_| self.course.is_up())));
        } else if status < 600 && self.better_to_come(id) {
            if self.best.is_none_or(|best| status / 100 <= best / 100) {
                self.best = Some(status);
                out.push(Out::Keep);
            }
            return;
        } else if !self.finished && status < 600 && self.best.is_some_and(|best| best / 100 < status / 100) {
            // The one that was kept is the better one (RFC 3261 §16.7 step 6).
            self.relay_best(out);
            self.cancel_others(Some(id), Reason::Status(status), out);
            return;
        }
        if success || !self.finished {
            out.push(Out::Relay(id));
            self.finish();
        }
        self.cancel_others(Some(id), Reason::Status(if success { 200 } else { status }), out);
    }

    /// Relays the failure that was kept, if there is one.
    fn relay_best(&mut self, out: &mut Outbox) -> bool {
        if self.best.take().is_none() {
            return false;
        }
        self.finish();
        out.push(Out::RelayKept);
        true
    }

    /// Timer B: it ends with 408.
    fn over(&mut self, id: BranchId, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        if let Some(branch) = self.branches.get_mut(id) {
            branch.close();
        }
        if self.finished || self.is_pending() || self.launch_alternate(outlook, out) || self.relay_best(out) {
            return;
        }
        self.finish();
        let (status, phrase) = if self.cancelled { (487, "Request Terminated") } else { (408, "No answer") };
        out.push(Out::Answer(status, phrase, None));
    }

    fn timeout(&mut self, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        if self.alternate.is_some_and(|at| at <= outlook.now) {
            self.launch_alternate(outlook, out);
        }
        if self.give_up.is_some_and(|at| at <= outlook.now) {
            self.give_up(out);
        }
    }

    /// The dialog's target is dead and left. A re-INVITE gets 408, which ends no call that the PBX still carries. A 2xx that
    /// comes after all must reach the handset, or the PBX would end the call for want of an ACK.
    fn give_up(&mut self, out: &mut Outbox) {
        self.give_up = None;
        if self.finished {
            return;
        }
        self.finish();
        out.push(Out::Answer(408, "Dialog's target does not answer", None));
        self.cancel_others(None, Reason::Status(408), out);
        out.extend(self.branches.iter().filter_map(|(_, branch)| branch.client()).map(Out::Hush));
    }

    fn cancelled(&mut self, out: &mut Outbox) {
        if self.finished {
            return;
        }
        self.cancelled = true;
        self.alternate = None;
        self.cancel_others(None, Reason::Sender, out);
        if !self.is_pending() {
            self.finish();
            out.push(Out::Answer(487, "Request Terminated", None));
        }
    }

    /// CANCEL on every open branch but one; the transaction layer waits for a provisional answer where none came. One that
    /// was not sent yet is not sent at all.
    fn cancel_others(&mut self, except: Option<BranchId>, reason: Reason, out: &mut Outbox) {
        for (id, branch) in self.branches.iter_mut() {
            if Some(id) == except || branch.cancelled {
                continue;
            }
            branch.cancelled = true;
            match branch.state {
                State::Sent { client, .. } => out.push(Out::Cancel(client, reason)),
                State::Launched { .. } | State::Opening { .. } => branch.state = State::Closed,
                State::Late { .. } | State::Answered { .. } | State::Merged { .. } | State::Closed => {}
            }
        }
    }

    /// The final answer may still come from a branch. One that lost the call to another is not waited for.
    fn is_pending(&self) -> bool {
        self.branches.iter().any(|(_, branch)| branch.is_pending() && (self.cancelled || !branch.cancelled))
    }

    /// Whether a failure on this branch is kept back: a branch that has the call, or the newer one, may still bring better. A
    /// silent older one is not waited for.
    fn better_to_come(&self, id: BranchId) -> bool {
        let better = |(other, branch): (BranchId, &Branch)| {
            other != id && !branch.cancelled && branch.is_pending() && (branch.is_provisional() || other > id)
        };
        self.branches.iter().any(better)
    }
}
