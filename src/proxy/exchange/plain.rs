//! Everything but REGISTER and INVITE, in both directions: one branch.

use std::time::Instant;

use super::branch::{Branch, Branches, State};
use super::outlook::{BranchId, Failure, In, Out, Outbox, Outlook};
use crate::flow::{Cause, Flow, Hop};
use crate::message::Method;
use crate::upstream::TargetId;

/// Where a request that is no REGISTER goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Course {
    /// To the active target.
    Active,
    /// To the target that a dialog was set up at, on the way that is open already, if one is to be kept to.
    Target(TargetId, Option<Hop>),
    /// To a handset. The answer is given when it cannot be reached.
    Handset(Flow, (u16, &'static str)),
}

/// Where a branch goes first.
pub(crate) struct Start {
    pub target: TargetId,
    pub way: Result<Way, Cause>,
    /// The request follows the active target, whichever that is.
    pub follows_active: bool,
    /// A request in a dialog whose target is not the active one ends then, if nothing comes.
    pub give_up: Option<Instant>,
}

/// A hop that a connection leads to, or a flow that is there.
pub(crate) enum Way {
    Hop(Hop),
    Flow(Flow),
}

impl Way {
    /// The wish to send a branch this way.
    pub(crate) fn of(self, id: BranchId) -> Out {
        match self {
            Way::Hop(hop) => Out::Launch(id, hop),
            Way::Flow(flow) => Out::Send(id, flow),
        }
    }
}

impl Course {
    pub(crate) fn is_up(&self) -> bool {
        !matches!(self, Course::Handset(..))
    }

    /// Where it goes first; before there is any target, what the sender gets instead.
    pub(crate) fn start(&self, outlook: &Outlook<'_>) -> Result<Start, Out> {
        let (active, _) = match self {
            Course::Handset(flow, _) => {
                let way = Ok(Way::Flow(*flow));
                return Ok(Start { target: TargetId::from(""), way, follows_active: false, give_up: None });
            }
            Course::Active | Course::Target(..) => {
                let none = Out::Answer(503, "No DNS answer for the upstream yet", Some(5));
                outlook.upstream.active().ok_or(none)?
            }
        };
        let hop = |target| outlook.addresses.hop_to(target, outlook.transport);
        let (target, in_use) = match self {
            Course::Target(label, in_use) => (outlook.upstream.target(label), in_use.clone()),
            Course::Active | Course::Handset(..) => (None, None),
        };
        let follows_active = target.is_none();
        let target = target.unwrap_or(active);
        let give_up = (target.label != active.label).then(|| outlook.now + outlook.policy.attempt_timeout);
        let way = in_use.or_else(|| hop(target)).map(Way::Hop).ok_or(Cause::Unresolved);
        Ok(Start { target: target.label.clone(), way, follows_active, give_up })
    }

    /// What the sender gets when nothing could be reached.
    pub(crate) fn failed(&self, outlook: &Outlook<'_>) -> Out {
        match self {
            Course::Handset(_, (status, phrase)) => Out::Answer(*status, phrase, None),
            Course::Active | Course::Target(..) if outlook.upstream.all_failed() => {
                Out::Answer(503, "Every target failed", Some(30))
            }
            // A transport error counts as a 503 from there (RFC 3261 §16.9), which leaves as 500 (§16.7 item 6).
            Course::Active | Course::Target(..) => Out::Answer(500, "Upstream cannot be reached", None),
        }
    }
}

#[derive(Debug)]
pub(crate) struct PlainRelay {
    pub branches: Branches,
    course: Course,
    method: Method,
    give_up: Option<Instant>,
    finished: bool,
}

impl PlainRelay {
    pub(crate) fn new(course: Course, method: Method) -> Self {
        PlainRelay { branches: Branches::default(), course, method, give_up: None, finished: false }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.give_up
    }

    /// The sender has its final answer, or shall have none.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// Takes one event.
    pub(crate) fn handle(&mut self, event: In, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        match event {
            In::Begin => self.begin(outlook, out),
            In::Lost(id, failure) => self.lost(id, &failure, outlook, out),
            In::Provisional(id, _) => {
                self.give_up = None;
                if let Some(branch) = self.branches.get_mut(id) {
                    branch.ringing();
                }
            }
            In::Answered(id, status, _) => self.answered(id, status, out),
            In::Over(id) => {
                if let Some(branch) = self.branches.get_mut(id) {
                    branch.close();
                }
                if !self.finished {
                    // In silence (RFC 4320 §4.2).
                    self.finish();
                    out.push(Out::Abandon);
                }
            }
            In::Timeout => {
                if self.give_up.is_some_and(|at| at <= outlook.now) {
                    self.give_up(out);
                }
            }
            In::Unreached(id, failure) => self.unreached(id, &failure, outlook, out),
            In::RolledOver | In::TargetsKnown | In::Superseded | In::Cancelled => {}
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
        self.give_up = start.give_up;
        let id = self.branches.push(Branch::new(start.target, None, None));
        match start.way {
            Ok(way) => out.push(way.of(id)),
            Err(cause) => self.lost(id, &cause.into(), outlook, out),
        }
    }

    fn lost(&mut self, id: BranchId, failure: &Failure, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        let Some(branch) = self.branches.get_mut(id) else { return };
        if self.course.is_up()
            && let Some(hop) = branch.next_hop(failure.cause, outlook)
        {
            branch.state = State::Launched { until: None };
            out.push(Out::Launch(id, hop));
            return;
        }
        branch.close();
        if self.finished {
            return;
        }
        if self.give_up.is_some() {
            self.give_up(out);
            return;
        }
        self.finish();
        out.push(self.course.failed(outlook));
    }

    /// What an ICMP error says may not last: it goes on being sent, and ends with its own timer; to a target that never answered,
    /// with the second error.
    fn unreached(&mut self, id: BranchId, failure: &Failure, outlook: &mut Outlook<'_>, out: &mut Outbox) {
        let Some(branch) = self.branches.get_mut(id) else { return };
        if self.finished || outlook.upstream.has_answered() || branch.endures(outlook) {
            return;
        }
        out.extend(branch.client().map(Out::Forget));
        self.lost(id, failure, outlook, out);
    }

    fn answered(&mut self, id: BranchId, status: u16, out: &mut Outbox) {
        let Some(branch) = self.branches.get_mut(id) else { return };
        branch.close();
        if (200..300).contains(&status) && self.method == Method::Subscribe {
            out.push(Out::Dialog(branch.flow.filter(|_| self.course.is_up())));
        }
        if !self.finished {
            self.finish();
            out.push(Out::Relay(id));
        }
    }

    /// The dialog's target is dead and left. A subscription gets 481, so that the handset subscribes anew at the active target.
    fn give_up(&mut self, out: &mut Outbox) {
        self.give_up = None;
        if self.finished {
            return;
        }
        self.finish();
        out.push(match self.method {
            Method::Subscribe => Out::Answer(481, "Subscription's target does not answer", None),
            _ => Out::Answer(504, "Dialog's target does not answer", None),
        });
        for (_, branch) in self.branches.iter_mut() {
            out.extend(branch.close().map(Out::Forget));
        }
    }
}
