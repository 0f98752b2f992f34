//! The recent failures, for a look back: bounded in number and in bytes, strikes apart from the rest, so that no number of other
//! failures pushes out why the fleet was moved.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Filter, Item, Seen};
use crate::message::Message;
use crate::proxy::{Failed, Passed};

/// Failures of one kind that are kept.
pub const KEPT: usize = 512;

/// Bytes of messages that are kept of one kind.
const MOST_BYTES: usize = 2 << 20;

/// A message that is longer is not kept with its failure: a few such would push out everything else.
const LONGEST: usize = 16 << 10;

/// Rollovers that are kept.
const ROLLOVERS: usize = 128;

/// A failure with the time it was noted at, as both clocks have it.
#[derive(Debug)]
struct Kept {
    failed: Failed,
    now: Instant,
    unix: Duration,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.failed.passed.iter().map(|passed| passed.bytes.len()).sum()
    }
}

#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<Arc<Kept>>,
    bytes: usize,
}

impl Ring {
    fn push(&mut self, kept: Kept) {
        self.bytes += kept.bytes();
        self.kept.push_back(Arc::new(kept));
        while self.kept.len() > KEPT || self.bytes > MOST_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Recent {
    strikes: Ring,
    others: Ring,
    rollovers: VecDeque<Item>,
}

impl Recent {
    pub(super) fn push(&mut self, mut failed: Failed, now: Instant, unix: Duration) {
        failed.passed.retain(|passed| passed.bytes.len() <= LONGEST);
        let strike = failed.strike.is_some_and(|(strike, _)| strike);
        let ring = if strike { &mut self.strikes } else { &mut self.others };
        ring.push(Kept { failed, now, unix });
    }

    pub(super) fn rolled_over(&mut self, item: Item) {
        if self.rollovers.len() == ROLLOVERS {
            self.rollovers.pop_front();
        }
        self.rollovers.push_back(item);
    }

    /// Everything since then. Cheap: what is in it is put in order by whoever reads it.
    pub(super) fn since(&self, since: Duration) -> Past {
        let kept = self.strikes.kept.iter().chain(&self.others.kept).filter(|kept| kept.unix >= since).cloned();
        let rollovers = self.rollovers.iter().filter(|item| at(item) >= since).cloned();
        Past { kept: kept.collect(), rollovers: rollovers.collect() }
    }
}

/// Recent failures, as they were when they were asked for.
#[derive(Debug, Default)]
pub struct Past {
    kept: Vec<Arc<Kept>>,
    rollovers: Vec<Item>,
}

impl Past {
    /// What the filter wants of them, in the order of time. A message that several failures share comes once.
    #[must_use]
    pub fn items(self, filter: &Filter) -> Vec<Item> {
        let mut found = self.rollovers;
        for kept in self.kept.iter().filter(|kept| filter.wants_failure(&kept.failed)) {
            found.extend(messages(&kept.failed, kept.now, kept.unix));
            found.extend(note(&kept.failed, kept.unix));
        }
        found.sort_by_key(at);
        let mut once = Once::default();
        found.retain(|item| once.is_new(item));
        found
    }
}

/// Tells messages apart that were shown already: the tries of one REGISTER share the handset's request.
#[derive(Debug, Default)]
pub struct Once {
    shown: VecDeque<u64>,
}

impl Once {
    /// Messages that are remembered; the oldest is forgotten first.
    const REMEMBERED: usize = 4 * KEPT;

    /// Whether it was not shown yet. True for what is no message.
    pub fn is_new(&mut self, item: &Item) -> bool {
        let Item::Message(seen) = item else { return true };
        let mut hasher = DefaultHasher::new();
        (seen.leg.side, seen.leg.remote, seen.direction as u8, &seen.bytes).hash(&mut hasher);
        let hash = hasher.finish();
        if self.shown.contains(&hash) {
            return false;
        }
        if self.shown.len() == Self::REMEMBERED {
            self.shown.pop_front();
        }
        self.shown.push_back(hash);
        true
    }
}

fn at(item: &Item) -> Duration {
    match item {
        Item::Message(seen) => seen.at,
        Item::Attempt { at, .. } | Item::Rollover { at, .. } => *at,
        Item::Lost(_) => Duration::ZERO,
    }
}

/// The messages of a failure.
pub(super) fn messages(failed: &Failed, now: Instant, unix: Duration) -> impl Iterator<Item = Item> {
    let seen = move |passed: &Passed| {
        Item::Message(Seen {
            at: unix.saturating_sub(now.saturating_duration_since(passed.at)),
            leg: passed.leg.clone(),
            direction: passed.direction,
            handset: failed.handset.as_deref().map(str::to_owned),
            call_id: call_id(&passed.bytes).into(),
            bytes: passed.bytes.clone(),
        })
    };
    failed.passed.iter().map(seen)
}

/// What is to be said of an attempt that failed. The answer of any other failure speaks for itself.
pub(super) fn note(failed: &Failed, unix: Duration) -> Option<Item> {
    let (strike, strikes) = failed.strike?;
    Some(Item::Attempt {
        at: unix,
        handset: failed.handset.as_deref().map(str::to_owned),
        target: failed.target.to_string(),
        outcome: failed.outcome.to_string(),
        strike,
        strikes,
    })
}

/// A message's Call-ID; empty where it cannot be read.
pub(super) fn call_id(bytes: &Bytes) -> Vec<u8> {
    Message::scan(bytes.clone()).map(|message| message.call_id().to_vec()).unwrap_or_default()
}
