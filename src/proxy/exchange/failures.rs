//! Failures, put together for whoever looks at them later: what an exchange still holds of the messages.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::outlook::BranchId;
use super::rooms::Rooms;
use super::{Exchange, Kind};
use crate::flow::Flow;
use crate::message::{Message, Method};
use crate::proxy::edge::Edge;
use crate::proxy::events::Action;
use crate::proxy::journal::{AttemptEnded, Direction};
use crate::proxy::registrar::contact;
use crate::proxy::traced::{Failed, Leg, Passed, Sent};
use crate::upstream::{Class, Outcome, TargetId};

/// What is kept of one REGISTER's branches. There are seldom more than five.
const MOST_SENT: usize = 8;

/// Answers that are no failure to look into: a challenge is how authentication begins, and the others are a person's decision
/// (busy, cancelled, declined).
fn is_failure(status: u16) -> bool {
    status >= 400 && !matches!(status, 401 | 407 | 486 | 487 | 600 | 603)
}

impl Exchange {
    /// A branch of a REGISTER left. Cheap: the bytes are shared with the client transaction.
    pub(super) fn note_sent(&mut self, branch: BranchId, to: Edge, bytes: Bytes, now: Instant) {
        if let Kind::Register(state) = &mut self.kind
            && state.sent.len() < MOST_SENT
        {
            state.sent.push((branch, Sent { at: now, to, bytes }));
        }
    }

    fn request_passed(&self) -> Passed {
        let bytes = self.request.bytes().clone();
        Passed { at: self.received_at, leg: Leg::new(&self.from, None), direction: Direction::In, bytes }
    }

    /// What left on a branch, and the edge it left by.
    fn branch_passed(&self, branch: BranchId) -> Option<(Passed, &Edge)> {
        let (Kind::Register(state), Some(this)) = (&self.kind, self.relay.branches().get(branch)) else { return None };
        let (_, sent) = state.sent.iter().rev().find(|(id, _)| *id == branch)?;
        let leg = Leg::new(&sent.to, Some(this.target.clone()));
        Some((Passed { at: sent.at, leg, direction: Direction::Out, bytes: sent.bytes.clone() }, &sent.to))
    }

    /// The handset's address of record: a REGISTER's, else the caller's or the called one's.
    fn handset(&self) -> Option<Arc<str>> {
        let buf = self.request.bytes();
        let party = match &self.kind {
            Kind::Register(state) => return Some(state.aor.clone()),
            Kind::Up { .. } => self.request.from()?,
            Kind::Down { .. } => self.request.to()?,
        };
        contact::aor_of(buf, party.uri).map(Arc::from)
    }
}

impl Rooms<'_> {
    /// An attempt failed. `answer`: what the target said, if it said anything.
    pub(super) fn attempt_failed(
        &mut self,
        exchange: &Exchange,
        branch: BranchId,
        ended: &AttemptEnded,
        answer: Option<&Message>,
        now: Instant,
    ) {
        let (Some(classed), Class::Failure) = (ended.classed, ended.class) else { return };
        let mut passed = vec![exchange.request_passed()];
        if let Some((sent, to)) = exchange.branch_passed(branch) {
            let leg = Leg::new(to, sent.leg.target.clone());
            passed.push(sent);
            if let Some(answer) = answer {
                // What it is a part of may be a large buffer of a stream; everything else here has bytes of its own.
                let bytes = Bytes::copy_from_slice(answer.bytes());
                passed.push(Passed { at: now, leg, direction: Direction::In, bytes });
            }
        }
        self.actions.push_back(Action::Failed(Box::new(Failed {
            handset: exchange.handset(),
            target: ended.target.clone(),
            outcome: ended.outcome,
            strike: Some((classed.strike, classed.strikes)),
            passed,
        })));
    }

    /// A request is answered with a failure.
    pub(super) fn answered_badly(&mut self, exchange: &Exchange, status: u16, bytes: &Bytes, now: Instant) {
        if !is_failure(status) || exchange.method == Method::Options {
            return;
        }
        let mut passed = vec![exchange.request_passed()];
        let last = exchange.relay.branches().iter().last();
        passed.extend(last.and_then(|(branch, _)| exchange.branch_passed(branch)).map(|(sent, _)| sent));
        let to = self.flows.reply_to(&exchange.request, exchange.from.flow, self.site);
        let mut leg = Leg::new(&exchange.from, None);
        if let Flow::Udp { remote, .. } = to {
            leg.remote = remote;
        }
        passed.push(Passed { at: now, leg, direction: Direction::Out, bytes: bytes.clone() });
        self.actions.push_back(Action::Failed(Box::new(Failed {
            handset: exchange.handset(),
            target: last.map_or(TargetId::from(""), |(_, branch)| branch.target.clone()),
            outcome: Outcome::Response(status),
            strike: None,
            passed,
        })));
    }
}
