//! The active target changes: by strikes, by an operator, or because the fleet moved.

use std::time::Instant;

use tracing::{error, warn};

use super::actions::{RollError, UpstreamAction};
use super::events::{Reason, Rollover, What};
use super::fleet::Decided;
use super::order::TargetId;
use super::{Active, Upstream};

impl Upstream {
    /// Makes the target at `index` active: a new epoch, the count at zero.
    pub(super) fn activate(&mut self, index: usize, from: TargetId, reason: Reason, now: Instant) -> Rollover {
        self.activate_for(index, from, (reason, None), now)
    }

    /// The same for a reason that another instance may have had.
    pub(super) fn activate_for(
        &mut self,
        index: usize,
        from: TargetId,
        (reason, decided): (Reason, Option<Decided>),
        now: Instant,
    ) -> Rollover {
        let to = self.targets[index].label.clone();
        let tally = self.failover.activate();
        (self.doubted, self.answered) = (None, false);
        if let Some(member) = &mut self.member {
            member.asks = None;
        }
        self.active = Some(Active { index, since: now, missing: 0 });
        let rollover = Rollover { decided, ..Rollover::new(from, to, self.failover.epoch(), reason, &tally, now) };
        self.log_rollover(&rollover, now);
        self.events.push(What::RolledOver(rollover.clone()), now);
        self.persist();
        self.actions.push_back(UpstreamAction::RolledOver(rollover.clone()));
        rollover
    }

    /// Logs every rollover that an operator or DNS decided. Rollovers by failures may go on in circles: they are summarised for
    /// each target that is left.
    fn log_rollover(&mut self, rollover: &Rollover, now: Instant) {
        let held = match rollover.reason {
            Reason::RegisterFailures | Reason::Cluster => self.summaries.due(&rollover.from, now),
            Reason::TargetRemoved | Reason::Manual => Some(0),
        };
        let Some(more_like_it) = held else { return };
        if let Some(decided) = &rollover.decided {
            warn!(
                from = &*rollover.from,
                to = &*rollover.to,
                reason = rollover.reason.as_str(),
                decided_by = &*decided.by,
                strikes = &*decided.strikes,
                own_failures = rollover.count,
                more_like_it,
                "rolled over"
            );
            return;
        }
        warn!(
            from = &*rollover.from,
            to = &*rollover.to,
            reason = rollover.reason.as_str(),
            failures = rollover.count,
            handsets = rollover.handsets,
            handsets_failed = rollover.failed,
            strikes = rollover.failures(),
            more_like_it,
            "rolled over"
        );
    }

    /// Makes a target active that nobody has sent anything to yet: no rollover.
    pub(super) fn place(&mut self, index: usize, now: Instant) {
        self.failover.activate();
        self.active = Some(Active { index, since: now, missing: 0 });
        self.persist();
    }

    pub(super) fn strike_out(&mut self, now: Instant) {
        let Some(active) = &self.active else { return };
        let from = self.targets[active.index].label.clone();
        let next = (active.index + 1) % self.targets.len();
        self.failed_this_round.insert(from.clone());
        self.activate(next, from, Reason::RegisterFailures, now);
        if self.all_failed() && !self.all_failed_logged {
            self.all_failed_logged = true;
            if self.summaries.due("every target", now).is_some() {
                error!(source = %self.settings.source, targets = self.targets.len(), "every target has failed since the last success");
            }
        }
    }

    /// An operator's rollover: to the next target, or to the one named (`host:port`, or a host that has one port only).
    pub fn roll(&mut self, target: Option<&str>, now: Instant) -> Result<Rollover, RollError> {
        let Some(active) = &self.active else { return Err(RollError::NotReady) };
        let from = active.index;
        let to = match target {
            None => (from + 1) % self.targets.len(),
            Some(asked) => self.find_asked(asked)?,
        };
        let label = self.targets[from].label.clone();
        if to == from && target.is_some() {
            return Err(RollError::AlreadyActive(label.to_string()));
        }
        Ok(self.activate(to, label, Reason::Manual, now))
    }

    fn find_asked(&self, asked: &str) -> Result<usize, RollError> {
        let wanted = asked.trim().trim_end_matches('.').to_ascii_lowercase();
        if let Some(index) = self.index_of(&wanted) {
            return Ok(index);
        }
        let mut by_host = self.targets.iter().enumerate().filter(|(_, t)| *t.host == *wanted);
        if let (Some((index, _)), None) = (by_host.next(), by_host.next()) {
            return Ok(index);
        }
        let known: Vec<&str> = self.targets.iter().map(|t| &*t.label).collect();
        Err(RollError::NoSuchTarget { asked: asked.to_owned(), known: known.join(", ") })
    }
}
