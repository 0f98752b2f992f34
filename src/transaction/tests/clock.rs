//! Virtual time: an arbitrary instant that all tests of a thread count from.

use std::time::{Duration, Instant};

#[allow(clippy::disallowed_methods, reason = "std has no other way to get an Instant to count from")]
pub(crate) fn start() -> Instant {
    thread_local!(static START: Instant = Instant::now());
    START.with(|start| *start)
}

pub(crate) fn ms(after_start: u64) -> Instant {
    start() + Duration::from_millis(after_start)
}

/// Milliseconds since the start.
pub(crate) fn since(at: Instant) -> u128 {
    at.duration_since(start()).as_millis()
}
