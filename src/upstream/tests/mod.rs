//! The upstream in virtual time: one base instant, moved by hand.

mod lookups;
mod persistence;
mod strikes;

use std::time::{Duration, Instant};

use super::*;
use crate::flow::{Cause, Transport};

const SRV: &str = "_sip._udp.example.com";

/// Any instant will do: only differences matter.
#[allow(clippy::disallowed_methods)]
fn base() -> Instant {
    Instant::now()
}

fn settings() -> Settings {
    Settings::new(Source::Srv { name: SRV.to_owned() }, Transport::Udp)
}

/// `a.example.com` with address 192.0.2.1 for `a`, and so on; all of one port.
fn record(letter: char, priority: u16, weight: u16) -> Record {
    let last = u8::try_from(letter).unwrap() - b'a' + 1;
    Record {
        priority,
        weight,
        port: 5060,
        host: format!("{letter}.example.com"),
        addresses: vec![[192, 0, 2, last].into()],
    }
}

/// Targets in this order, with a TTL of a minute.
fn set(letters: &str) -> RecordSet {
    let records = letters.chars().zip(1..).map(|(letter, priority)| record(letter, priority, 0)).collect();
    RecordSet::new(records, Duration::from_secs(60))
}

/// Priorities that do not depend on what else is in the set.
fn subset(letters: &str) -> RecordSet {
    let records = letters.chars().map(|letter| record(letter, u16::try_from(u32::from(letter)).unwrap(), 0)).collect();
    RecordSet::new(records, Duration::from_secs(60))
}

/// An upstream, its clock, and everything it asked for.
struct Bench {
    upstream: Upstream,
    now: Instant,
    actions: Vec<UpstreamAction>,
}

impl Bench {
    fn new(settings: Settings, restored: Option<Persisted>) -> Self {
        let now = base();
        let mut bench = Bench { upstream: Upstream::new(settings, restored, 1, now), now, actions: Vec::new() };
        bench.drain();
        bench
    }

    /// With these targets from DNS.
    fn with(letters: &str) -> Self {
        Bench::with_settings(letters, settings())
    }

    fn with_settings(letters: &str, settings: Settings) -> Self {
        let mut bench = Bench::new(settings, None);
        bench.answer(Ok(set(letters)));
        bench.actions.clear();
        bench
    }

    fn drain(&mut self) {
        while let Some(action) = self.upstream.poll_action() {
            self.actions.push(action);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn answer(&mut self, result: Result<RecordSet, LookupFailure>) {
        self.upstream.handle_lookup(result, self.now);
        self.drain();
    }

    /// Sleeps until the upstream wants something, and lets it. How long that was.
    fn sleep(&mut self) -> Duration {
        let due = self.upstream.poll_timeout().unwrap();
        let slept = due.saturating_duration_since(self.now);
        self.now = due.max(self.now);
        self.upstream.handle_timeout(self.now);
        self.drain();
        slept
    }

    /// Waits for the next lookup and answers it.
    fn refresh(&mut self, result: Result<RecordSet, LookupFailure>) -> Duration {
        let slept = self.sleep();
        assert_eq!(self.take(|a| matches!(a, UpstreamAction::Lookup)).len(), 1, "one lookup");
        self.answer(result);
        slept
    }

    /// Takes actions of one kind out.
    fn take(&mut self, wanted: impl Fn(&UpstreamAction) -> bool) -> Vec<UpstreamAction> {
        let (taken, rest) = std::mem::take(&mut self.actions).into_iter().partition(wanted);
        self.actions = rest;
        taken
    }

    fn rollovers(&mut self) -> Vec<Rollover> {
        let rollover = |action| match action {
            UpstreamAction::RolledOver(rollover) => Some(rollover),
            _ => None,
        };
        self.take(|a| matches!(a, UpstreamAction::RolledOver(_))).into_iter().filter_map(rollover).collect()
    }

    fn persisted(&mut self) -> Vec<Persisted> {
        let persisted = |action| match action {
            UpstreamAction::Persist(persisted) => Some(persisted),
            _ => None,
        };
        self.take(|a| matches!(a, UpstreamAction::Persist(_))).into_iter().filter_map(persisted).collect()
    }

    fn begin(&mut self) -> Attempt {
        self.upstream.begin_attempt(self.now).unwrap()
    }

    fn finish(&mut self, attempt: &Attempt, handset: u64, outcome: Outcome) -> Verdict {
        let verdict = self.upstream.finish_because(attempt, witness(handset), outcome, None, self.now);
        self.drain();
        verdict
    }

    /// One attempt from beginning to end.
    fn attempt(&mut self, outcome: Outcome) -> Verdict {
        let attempt = self.begin();
        self.finish(&attempt, 1, outcome)
    }

    fn attempts(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            self.attempt(*outcome);
        }
    }

    /// The letter of the active target.
    fn active(&self) -> char {
        self.upstream.active().unwrap().0.label.chars().next().unwrap()
    }

    /// The letters of all targets, in order.
    fn order(&self) -> String {
        self.upstream.targets().iter().filter_map(|t| t.label.chars().next()).collect()
    }

    fn count(&self) -> u32 {
        self.upstream.consecutive_failures()
    }
}

fn witness(handset: u64) -> Witness {
    Witness { handset: HandsetId(handset), source: SourceId(handset), standing: Standing::Alike }
}

const OK: Outcome = Outcome::Response(200);
const TIMEOUT: Outcome = Outcome::Failed(Cause::Timeout);
const REFUSED: Outcome = Outcome::Failed(Cause::Refused);
const CHALLENGE: Outcome = Outcome::Response(401);

fn code(code: u16) -> Outcome {
    Outcome::Response(code)
}

fn every_failure() -> Vec<Outcome> {
    Cause::ALL
        .into_iter()
        .filter(|cause| *cause != Cause::Local)
        .map(Outcome::Failed)
        .chain(FAILURE_CODES.map(Outcome::Response))
        .collect()
}
