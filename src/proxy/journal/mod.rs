//! What is counted, logged and shown of what the core does.
//!
//! [`Facts`] are plain integers; `minutes` keeps the last hour of attempts; `unregistered` the handsets that did not get
//! registered; `status` and `phones` are what is shown of all that. Log lines about what repeats are held back by
//! [`Summaries`]: an outage must not become a storm of lines.

mod facts;
mod log;
mod minutes;
pub mod phones;
pub(super) mod status;
mod unregistered;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use self::facts::label;
pub use self::facts::{AttemptOutcome, DURATIONS, Direction, Facts, FailureReason, Origin, TargetFacts};

use self::minutes::Minutes;
use self::unregistered::{Caller, Ending, Met, Unregistered};
use super::edge::Edge;

use super::registrar::bindings::user_agent;
use crate::flow::{Side, Transport};
use crate::message::Message;
use crate::summaries::Summaries;
use crate::upstream::{Class, HandsetId, Outcome, TargetId};

/// Bytes of a datagram that any path carries in one piece (RFC 3261 §18.1.1).
pub(super) const PATH_MTU: usize = 1300;

/// Who sent a REGISTER.
#[derive(Debug, Clone, Copy)]
pub(super) struct Registrant<'r> {
    pub handset: HandsetId,
    pub aor: &'r Arc<str>,
    pub from: &'r Edge,
    pub request: &'r Message,
}

/// An attempt that ended, or that was answered after it had ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AttemptEnded {
    pub target: TargetId,
    pub outcome: Outcome,
    pub class: Class,
    /// The peer's or the transport's own words.
    pub detail: Option<Arc<str>>,
    /// `None` for an answer that came after the attempt had been classed.
    pub classed: Option<Classed>,
}

/// What the three-strike rule made of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Classed {
    pub strike: bool,
    pub rolled_over: bool,
    /// Strikes against the target that is active now.
    pub strikes: u32,
    pub took: Duration,
}

#[derive(Debug)]
pub(super) struct Journal {
    pub facts: Facts,
    minutes: Minutes,
    unregistered: Unregistered,
    summaries: Summaries,
    /// The bindings that the PBX does not reach have been logged.
    orphans_logged: bool,
}

impl Journal {
    pub(super) fn new(now: Instant) -> Self {
        Journal {
            facts: Facts::default(),
            minutes: Minutes::new(now),
            unregistered: Unregistered::default(),
            summaries: Summaries::default(),
            orphans_logged: false,
        }
    }

    /// Counts a datagram that a path may cut or lose.
    pub(super) fn size(&mut self, (side, transport): (Side, Transport), bytes: usize, direction: Direction) {
        if bytes > PATH_MTU && transport == Transport::Udp {
            self.facts.note_large(side, direction);
        }
    }

    /// Counts an attempt, keeps what its handset met, and logs it: at debug each, at the default level a summary of those that
    /// failed.
    pub(super) fn attempt_ended(&mut self, who: Registrant<'_>, ended: &AttemptEnded, now: Instant) {
        let AttemptEnded { target, outcome, class, detail, classed } = ended;
        if let Some(classed) = classed {
            self.log_attempt(who.request, ended, *classed, now);
            self.facts.note_attempt(target, *class, *outcome, classed.took);
            let answered = outcome.code().map(|_| classed.took);
            self.minutes.note(AttemptOutcome::of(*class, *outcome), answered, now);
        }
        if *class == Class::Success {
            self.unregistered.cleared(who.handset);
        } else {
            let ending = Ending::Attempt(*outcome, AttemptOutcome::of(*class, *outcome));
            self.note(who, Met { ending, detail: detail.clone(), target: target.clone() }, now);
        }
    }

    /// Holdline answered a REGISTER itself, or let it end for want of a target.
    pub(super) fn refused(&mut self, who: Registrant<'_>, refused: Option<(u16, &str)>, now: Instant) {
        let (ending, detail) = match refused {
            Some((status, phrase)) => (Ending::Refused(status), Some(Arc::from(phrase))),
            None => (Ending::NoTarget, None),
        };
        self.note(who, Met { ending, detail, target: TargetId::from("") }, now);
    }

    fn note(&mut self, who: Registrant<'_>, met: Met, now: Instant) {
        self.unregistered.note(who.handset, who.from.remote, || caller(who), met, now);
    }

    /// Handsets whose last REGISTER came to nothing, of those that are remembered.
    pub(super) fn in_trouble(&self, now: Instant) -> usize {
        self.unregistered.in_trouble(now)
    }

    /// Keys of lines that are held back: bounded.
    pub(super) fn summaries(&self) -> usize {
        self.summaries.len()
    }
}

fn caller(who: Registrant<'_>) -> Caller {
    Caller {
        aor: who.aor.clone(),
        source: who.from.remote,
        transport: who.from.transport,
        user_agent: user_agent(who.request),
    }
}
