//! Strikes that are the word of unserved handsets alone: the active target is asked before it is left.

use std::time::Instant;

use tracing::warn;

use super::Upstream;
use super::actions::UpstreamAction;
use super::events::What;

impl Upstream {
    /// The strikes are the word of unserved handsets alone: the active target is asked, once.
    pub(super) fn doubt(&mut self) {
        let Some((target, epoch)) = self.active().map(|(target, epoch)| (target.label.clone(), epoch)) else { return };
        if self.doubted != Some(epoch) {
            self.doubted = Some(epoch);
            self.actions.push_back(UpstreamAction::Ask { target, epoch });
        }
    }

    /// Takes what came of an [`UpstreamAction::Ask`]. `lives`: any answer but a 5xx came; then the strikes are void. Else the
    /// next target becomes active. An answer that comes when nobody doubts any more changes nothing.
    pub fn asked(&mut self, epoch: u64, lives: bool, now: Instant) {
        if self.doubted != Some(epoch) || self.failover.epoch() != epoch {
            return;
        }
        self.doubted = None;
        if !self.failover.is_enough() {
            // Late answers have taken strikes back, or the thresholds are others by now: there is nothing to decide.
            return;
        }
        if !lives {
            self.enough(now);
            return;
        }
        let failures = self.failover.void();
        self.voided += u64::from(failures);
        let Some(target) = self.active_label() else { return };
        if let Some(held) = self.summaries.due("voided", now) {
            warn!(
                target = &*target,
                failures,
                more_like_it = held,
                "strikes voided: they came from handsets that were never served, and the target answered when it was asked"
            );
            // As seldom as the line: untrusted peers must not push rollovers out of what is shown.
            self.events.push(What::Voided { target, failures }, now);
        }
    }

    /// Strikes that were void, since the start.
    pub fn voided(&self) -> u64 {
        self.voided
    }

    /// Whether the active target has answered a REGISTER since it became active.
    pub fn has_answered(&self) -> bool {
        self.answered
    }
}
