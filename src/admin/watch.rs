//! Whether the driver's loop turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::driver::Pulse;

/// The driver's pulse is looked at this often.
const EVERY: Duration = Duration::from_secs(1);

/// Without a beat for so long the loop hangs. Many times the second it beats at: a machine short of processor time is slow,
/// and killing it makes it slower.
const HANGS_AFTER: Duration = Duration::from_secs(10);

/// When the driver's heart was last seen to beat.
#[derive(Debug)]
pub(super) struct Watch {
    began: Instant,
    /// Milliseconds after `began`.
    last_beat: AtomicU64,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Watch { began: now, last_beat: AtomicU64::new(0) }
    }

    /// Looks at the pulse for ever.
    pub(super) async fn observe(self: Arc<Self>, pulse: Arc<Pulse>) {
        let mut seen = None;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            let beats = pulse.beats.load(Ordering::Relaxed);
            if seen.replace(beats) != Some(beats) {
                self.beat(now);
            }
        }
    }

    fn beat(&self, now: Instant) {
        self.last_beat.store((now - self.began).as_millis() as u64, Ordering::Relaxed);
    }

    /// How long the heart has stood still, if too long.
    pub(super) fn hangs_for(&self, now: Instant) -> Option<Duration> {
        let last = self.began + Duration::from_millis(self.last_beat.load(Ordering::Relaxed));
        Some(now.saturating_duration_since(last)).filter(|silence| *silence > HANGS_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_that_stands_still_is_noticed_and_forgiven() {
        let start = Instant::now();
        let watch = Watch::new(start);
        assert_eq!(watch.hangs_for(start + HANGS_AFTER), None);
        assert!(watch.hangs_for(start + HANGS_AFTER + EVERY).is_some());
        watch.beat(start + HANGS_AFTER + EVERY);
        assert_eq!(watch.hangs_for(start + HANGS_AFTER + EVERY * 2), None);
    }
}
