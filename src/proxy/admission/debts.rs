//! Sources whose requests never succeed.
//!
//! A scanner that guesses names through us must not get *us* banned by the PBX's own flood control. Each request that fails costs
//! its source some time; a source that owes half a minute is throttled until it owes less. One that succeeds pays for ten: who has
//! an account, and sometimes fails, never notices. A challenge is a failure like any other, but gives its source the right to answer
//! it: where hundreds of new handsets behind one address are challenged at once, their answers are what pays.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The time in which `rate` requests may fail for good.
const PERIOD: Duration = Duration::from_secs(10);
/// A source that owes more is throttled: three times the rate may fail at once.
const CREDIT: Duration = Duration::from_secs(30);
/// No source owes more: half a minute after its last failure at the latest it is heard again.
const MOST: Duration = Duration::from_secs(60);
/// Requests of one source under way without any reaction, as a multiple of the rate: a PBX that drops them in silence says so only
/// much later.
const UNANSWERED: usize = 12;
/// So many failures a success pays for.
const PAYS: u32 = 10;
/// Sources remembered. Where more are in debt, the one that owes least is forgotten.
const SOURCES: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Debt {
    /// When the source owes nothing any more.
    free: Instant,
    /// Challenges that it has not answered.
    challenges: u32,
}

#[derive(Debug)]
pub(super) struct Debts {
    rate: u32,
    by_source: HashMap<IpAddr, Debt>,
    by_time: BTreeSet<(Instant, IpAddr)>,
}

impl Debts {
    pub(super) fn new(rate: u32) -> Self {
        Debts { rate, by_source: HashMap::new(), by_time: BTreeSet::new() }
    }

    pub(super) fn set_rate(&mut self, rate: u32) {
        if std::mem::replace(&mut self.rate, rate) != rate {
            self.by_source.clear();
            self.by_time.clear();
        }
    }

    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    pub(super) fn has_any(&self) -> bool {
        !self.by_source.is_empty()
    }

    /// Whether a source that was never served has to wait. `unanswered`: how many of its requests are under way.
    pub(super) fn is_throttled(&self, source: IpAddr, unanswered: usize, now: Instant) -> bool {
        if self.rate == 0 {
            return false;
        }
        if self.by_source.is_empty() {
            return unanswered >= UNANSWERED * self.rate as usize;
        }
        let owes = self.by_source.get(&source).map(|debt| debt.free.saturating_duration_since(now));
        owes.is_some_and(|owes| owes > CREDIT) || unanswered >= UNANSWERED * self.rate as usize
    }

    /// A source that has to wait answers a challenge: true once for each that it got.
    pub(super) fn may_answer(&mut self, source: IpAddr) -> bool {
        let Some(debt) = self.by_source.get_mut(&source).filter(|debt| debt.challenges > 0) else { return false };
        debt.challenges -= 1;
        true
    }

    pub(super) fn charge(&mut self, source: IpAddr, challenged: bool, now: Instant) {
        if self.rate == 0 {
            return;
        }
        while let Some(&(free, oldest)) = self.by_time.first().filter(|(free, _)| *free <= now) {
            self.by_time.remove(&(free, oldest));
            self.by_source.remove(&oldest);
        }
        let mut debt = self.by_source.get(&source).copied().unwrap_or(Debt { free: now, challenges: 0 });
        debt.free = (debt.free + PERIOD / self.rate).min(now + MOST);
        debt.challenges = debt.challenges.saturating_add(u32::from(challenged));
        self.set(source, debt);
        while self.by_source.len() > SOURCES
            && let Some((_, least)) = self.by_time.pop_first()
        {
            self.by_source.remove(&least);
        }
    }

    pub(super) fn pay(&mut self, source: IpAddr) {
        if let Some(debt) = self.by_source.get(&source).copied()
            && let Some(free) = debt.free.checked_sub(PAYS * PERIOD / self.rate.max(1))
        {
            self.set(source, Debt { free, ..debt });
        }
    }

    fn set(&mut self, source: IpAddr, debt: Debt) {
        if let Some(before) = self.by_source.insert(source, debt) {
            self.by_time.remove(&(before.free, source));
        }
        self.by_time.insert((debt.free, source));
    }

    pub(super) fn len(&self) -> usize {
        self.by_source.len()
    }
}
