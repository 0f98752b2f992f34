//! This instance among several.

use prometheus::{IntCounter, IntGauge};

use super::Metrics;
use super::family::Families;
use crate::fleet::{Fleet, Standing};

#[derive(Debug)]
pub(super) struct Cluster {
    away: IntGauge,
    diverged: IntGauge,
    epoch: IntGauge,
}

impl Cluster {
    pub(super) fn new(f: &mut Families) -> Cluster {
        Cluster {
            away: f.gauge("cluster_away", "1 while the memory shared with other instances cannot be used; 0 without one."),
            diverged: f.gauge(
                "cluster_diverged",
                "1 while this instance is at another target than its fleet: its own strikes moved it, or its DNS lacks the target.",
            ),
            epoch: f.gauge("cluster_epoch", "Number of the fleet's last move that this instance has heard of; 0: none."),
        }
    }
}

pub(super) fn ignored(f: &mut Families) -> IntCounter {
    f.counter("cluster_ignored_total", "Values and messages in the shared memory that no Holdline has written.")
}

impl Metrics {
    pub(super) fn fleet(&self, fleet: &Fleet) {
        let apart = match fleet.standing() {
            Standing::Diverged | Standing::NoSuchTarget => true,
            Standing::With | Standing::Unheard => false,
        };
        self.cluster.away.set(i64::from(!fleet.usable()));
        self.cluster.diverged.set(i64::from(apart));
        self.cluster.epoch.set(fleet.epoch() as i64);
    }
}
