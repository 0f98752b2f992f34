//! The schedule of lookups.

use std::time::{Duration, Instant};

use super::records::LookupFailure;

/// The shortest TTL in use: a TTL of 0 must not become a storm of questions.
pub const MIN_TTL: Duration = Duration::from_secs(5);
/// The longest TTL in use: a change of the record must take effect within the hour.
pub const MAX_TTL: Duration = Duration::from_secs(3600);
/// With a set at hand, failed refreshes are repeated at the TTL, but not more seldom than this.
const STALE_RETRY: Duration = Duration::from_secs(30);
/// Without any set, questions are repeated after 1 s, then every 2 s: a lookup that had just begun to time out when DNS came
/// back, and one such pause, together stay below five seconds.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LATER_RETRY: Duration = Duration::from_secs(2);
/// A lookup that never reports back (its task died) is given up after this. Well beyond the lookup's own bound.
const LOST: Duration = Duration::from_secs(30);

/// The schedule of lookups and how the last ones went.
#[derive(Debug)]
pub(super) struct Refresh {
    next: Option<Instant>,
    ttl: Duration,
    last_success: Option<Instant>,
    last_failure: Option<LookupFailure>,
    failures: u32,
}

impl Refresh {
    /// For a target that needs no lookups: an address literal.
    pub(super) fn never() -> Self {
        Refresh { next: None, ttl: MAX_TTL, last_success: None, last_failure: None, failures: 0 }
    }

    /// The first lookup starts now; the caller emits it.
    pub(super) fn started(now: Instant) -> Self {
        Refresh { next: Some(now + LOST), ..Refresh::never() }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// True if a lookup must start now. It counts as started.
    pub(super) fn start_if_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|next| next <= now);
        if due {
            self.next = Some(now + LOST);
        }
        due
    }

    /// A good answer with this lifetime.
    pub(super) fn succeeded(&mut self, ttl: Duration, now: Instant) {
        self.ttl = ttl.clamp(MIN_TTL, MAX_TTL);
        self.last_success = Some(now);
        self.last_failure = None;
        self.failures = 0;
        self.next = Some(now + self.ttl);
    }

    /// No good answer. `have_set`: whether there is one to go on with.
    pub(super) fn failed(&mut self, failure: LookupFailure, have_set: bool, now: Instant) {
        let pause = match (have_set, self.failures) {
            // A restored set has no known TTL until the first success: ask as if nothing were there.
            (true, _) if self.last_success.is_some() => self.ttl.min(STALE_RETRY),
            (_, 0) => FIRST_RETRY,
            (_, _) => LATER_RETRY,
        };
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(failure);
        self.next = Some(now + pause);
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) fn last_success(&self) -> Option<Instant> {
        self.last_success
    }

    pub(super) fn last_failure(&self) -> Option<&LookupFailure> {
        self.last_failure.as_ref()
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}
