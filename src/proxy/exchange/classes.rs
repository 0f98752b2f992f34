//! What the outcome of a REGISTER's attempt counts as: handed to the upstream's machine, and reported.

use std::sync::Arc;

use super::outlook::{BranchId, Out, Outbox, Outlook};
use super::register::RegisterRelay;
use crate::proxy::journal::{AttemptEnded, Classed};
use crate::upstream::classes::classify;
use crate::upstream::{Class, Outcome, Verdict};

impl RegisterRelay {
    /// Classes an attempt's outcome.
    pub(super) fn class(
        &mut self,
        id: BranchId,
        outcome: Outcome,
        detail: Option<Arc<str>>,
        outlook: &mut Outlook<'_>,
        out: &mut Outbox,
    ) -> Verdict {
        let attempt = self.branches.get(id).and_then(|branch| branch.attempt.as_ref());
        let Some(attempt) = attempt else {
            return Verdict { class: Class::Neutral, counted: false, rolled_over: false };
        };
        let now = outlook.now;
        let verdict = outlook.upstream.finish_because(attempt, self.witness, outcome, detail.clone(), now);
        let classed = Classed {
            strike: verdict.counted,
            rolled_over: verdict.rolled_over,
            strikes: outlook.upstream.consecutive_failures(),
            took: now.saturating_duration_since(attempt.started),
        };
        let target = attempt.target.clone();
        let class = verdict.class;
        out.push(Out::Ended(id, AttemptEnded { target, outcome, class, detail, classed: Some(classed) }));
        verdict
    }

    /// An answer after the attempt was classed. A success clears the count; a challenge shows that the target is slow and
    /// not dead, and takes back what this transaction's silence had counted.
    pub(super) fn late_class(
        &mut self,
        id: BranchId,
        status: u16,
        detail: Option<Arc<str>>,
        outlook: &mut Outlook<'_>,
        out: &mut Outbox,
    ) -> Class {
        let outcome = Outcome::Response(status);
        let class = classify(outcome, &outlook.upstream.settings().failure_codes);
        let Some(branch) = self.branches.get(id) else { return class };
        match (class, branch.attempt.as_ref()) {
            (Class::Success, Some(attempt)) => outlook.upstream.late_success(attempt, outlook.now),
            (Class::Neutral, _) => {
                for attempt in self.branches.iter().filter_map(|(_, branch)| branch.attempt.as_ref()) {
                    outlook.upstream.late_answer(attempt);
                }
            }
            (Class::Success, None) | (Class::Failure, _) => {}
        }
        let target = branch.target.clone();
        out.push(Out::Ended(id, AttemptEnded { target, outcome, class, detail, classed: None }));
        class
    }
}
