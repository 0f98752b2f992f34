//! Several instances act as one: the fleet is asked before strikes move this one, and followed where it went.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::info;

use super::Upstream;
use super::actions::UpstreamAction;
use super::events::{Reason, Rollover, Strike, bounded, in_words};
use super::order::TargetId;

/// A success is reported this often at most.
const SERVED_EVERY: Duration = Duration::from_secs(1);

/// A move of the active target that the fleet is to know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Label of the target that is left.
    pub from: TargetId,
    /// Label of the target that becomes active.
    pub to: TargetId,
    /// The activation that it ends.
    pub epoch: u64,
    /// The reason.
    pub reason: Reason,
    /// The time of the first strike; `None` where no strikes decided.
    pub first_strike: Option<Instant>,
    /// The strikes in words, as in [`Rollover::failures`](super::Rollover::failures); blank where there are none.
    pub strikes: Arc<str>,
}

impl Plan {
    /// A move that was made already, by DNS or an operator.
    #[must_use]
    pub fn made(rollover: &Rollover) -> Plan {
        let Rollover { from, to, epoch, reason, .. } = rollover;
        let (from, to) = (from.clone(), to.clone());
        Plan { from, to, epoch: *epoch, reason: *reason, first_strike: None, strikes: "".into() }
    }
}

/// Who decided a move that this instance follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Name of the instance.
    pub by: Arc<str>,
    /// Its strikes in its words; blank where there were none.
    pub strikes: Arc<str>,
    /// Strikes moved it: the target that was left has used up its own.
    pub struck_out: bool,
}

/// What became of following.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// The target is active now, or was.
    There,
    /// This instance's set has no such target, or there is no set yet and the target will be preferred when it comes.
    NotYet,
}

/// What an instance of a fleet remembers beside the count.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Nothing was heard of the fleet yet: attempts wait.
    begins: bool,
    /// The activation whose end the fleet is asked about: attempts wait.
    pub(super) asks: Option<u64>,
    /// The last success that was reported.
    served: Option<Instant>,
    /// The fleet's target, while there is no set.
    pub(super) preferred: Option<TargetId>,
}

impl Upstream {
    /// From now on, strikes that are enough are a question: [`UpstreamAction::Decide`], answered by [`Upstream::carry_out`] or
    /// [`Upstream::follow`]. Attempts wait until then, and from now on until [`Upstream::begin_serving`].
    pub fn join_fleet(&mut self) {
        self.member = Some(Member { begins: true, ..Member::default() });
    }

    /// Attempts need not wait any more for the first word of the fleet.
    pub fn begin_serving(&mut self) {
        if let Some(member) = &mut self.member {
            member.begins = false;
        }
    }

    /// Attempts wait for the fleet. Never for long: whoever asks it has a time.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.asks() || self.member.as_ref().is_some_and(|member| member.begins)
    }

    /// The fleet is asked about the end of this activation.
    fn asks(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.asks == Some(self.failover.epoch()))
    }

    /// The strikes are enough. True: another target is active; false: the fleet is asked first.
    pub(super) fn enough(&mut self, now: Instant) -> bool {
        let epoch = self.failover.epoch();
        let next = self.active.as_ref().map(|active| (active.index, (active.index + 1) % self.targets.len()));
        let (Some(member), Some((from, to))) = (&mut self.member, next) else {
            self.strike_out(now);
            return true;
        };
        if member.asks != Some(epoch) {
            member.asks = Some(epoch);
            let strikes: Vec<Strike> = self.failover.hits().map(|hit| Strike::of(hit, now)).collect();
            self.actions.push_back(UpstreamAction::Decide(Plan {
                from: self.targets[from].label.clone(),
                to: self.targets[to].label.clone(),
                epoch,
                reason: Reason::RegisterFailures,
                first_strike: self.failover.hits().next().map(|hit| hit.at),
                strikes: bounded(in_words(&strikes).as_bytes()).unwrap_or_default(),
            }));
        }
        false
    }

    /// The planned move is made, if nothing has moved this instance meanwhile.
    pub fn carry_out(&mut self, plan: &Plan, now: Instant) {
        if self.member.as_ref().is_some_and(|member| member.asks == Some(plan.epoch)) {
            self.strike_out(now);
        }
    }

    /// Goes where the fleet went. Before the first attempt that is no rollover: nobody has been anywhere else.
    pub fn follow(&mut self, target: &str, decided: Decided, now: Instant) -> Followed {
        let asks = self.asks();
        let Some(from) = self.active_label() else {
            if let Some(member) = &mut self.member {
                member.preferred = Some(TargetId::from(target));
            }
            return Followed::NotYet;
        };
        if *from == *target && !asks {
            return Followed::There;
        }
        let Some(index) = self.index_of(target) else {
            if asks {
                // Its handsets need service, and there is nothing to wait for.
                self.strike_out(now);
            }
            return Followed::NotYet;
        };
        if self.failover.is_untried() {
            self.place(index, now);
            info!(target, by = &*decided.by, "the fleet's target is active");
            return Followed::There;
        }
        if decided.struck_out {
            self.failed_this_round.insert(from.clone());
        }
        self.activate_for(index, from, (Reason::Cluster, Some(decided)), now);
        Followed::There
    }

    /// Reports a success to the fleet, once in a while.
    pub(super) fn report_served(&mut self, now: Instant) {
        let Some(member) = &mut self.member else { return };
        if member.served.is_none_or(|last| now >= last + SERVED_EVERY) {
            member.served = Some(now);
            self.actions.push_back(UpstreamAction::Served);
        }
    }
}
