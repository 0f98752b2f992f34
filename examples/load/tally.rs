//! What came of the REGISTERs or the calls.

use std::time::Duration;

/// Counts and latencies of one run.
#[derive(Default)]
pub(crate) struct Tally {
    /// Answered with 200, a call's BYE in the end.
    pub completed: u64,
    /// Never answered, or not with 200.
    pub lost: u64,
    /// Sent once more after half a second.
    pub retransmitted: u64,
    latencies: Vec<u32>,
}

impl Tally {
    /// One REGISTER answered, or one call over, after `latency`.
    pub(crate) fn complete(&mut self, latency: Duration) {
        self.completed += 1;
        self.latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// The latency that `percent` of the answers did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        Duration::from_micros(u64::from(sorted.get(rank).copied().unwrap_or(0)))
    }
}
