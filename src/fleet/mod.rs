//! Several instances have one active target (docs/adr/0037-cluster.md): the pure part.
//!
//! [`Fleet`] stands between the three-strike rule of this instance and the memory that all share. It takes what `upstream` wants
//! and what the memory says ([`Event`]), and hands out what is to be asked of either ([`Action`]):
//!
//! ```text
//! upstream ──Decide, Moved, Served──► fleet ──Ask(Beat, Install)──► the shared memory
//!          ◄──CarryOut, Follow─────         ◄──Word─────────────────
//! ```
//!
//! - A move is installed under the next epoch, if no other stands there already (compare-and-set). Who comes second follows.
//! - The memory is never waited for longer than [`PATIENCE`]. What was decided without it is proposed when it is back, and a higher
//!   epoch that stands there by then is followed instead.
//! - If another instance had a success at the target after the first of the strikes, only this instance moves. It stands apart until the
//!   fleet's next move, an operator's `rejoin`, or a success of its own at the fleet's target. No timer brings it back.

mod record;
mod shown;
mod words;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

pub use record::{LONGEST, MAX_EPOCH, Record, Stored, VERSION, name_of};
pub use shown::{FleetShown, Standing};
pub use words::{Action, Command, Event, Found, Installed, RejoinError, Word};

use crate::summaries::Summaries;
use crate::upstream::{Followed, Plan, Reason, TargetId};

/// A decision waits this long for the shared memory.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// Attempts wait this long, after the start, for the first word of the fleet.
pub const FIRST_WORD: Duration = Duration::from_secs(1);
/// The memory is read again this often: a message about a move may be lost.
pub const EVERY: Duration = Duration::from_secs(5);
/// After the memory is back, others have this long to say that they are served where this instance was not. They may be back later
/// than this one by a pause and an attempt to connect, of two seconds each.
pub const GRACE: Duration = Duration::from_secs(5);
/// The most instances of a fleet that are listed.
pub const MAX_INSTANCES: usize = 64;

/// Why this instance is not where the fleet is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Apart {
    /// Its strikes moved it alone; this instance was served meanwhile.
    Diverged(Arc<str>),
    /// The fleet's target is not in its set.
    NoSuchTarget,
}

/// What is behind a [`Command::Install`].
#[derive(Debug)]
enum Installing {
    /// A move of this instance's.
    Move(Plan),
    /// What is known already, written again.
    Known,
}

#[derive(Debug)]
enum Link {
    Away { since: Instant, why: Arc<str> },
    Usable,
}

/// One instance's part in its fleet.
#[derive(Debug)]
pub struct Fleet {
    instance: Arc<str>,
    /// Tells it from others of the same name.
    id: Arc<str>,
    /// Attempts wait until then.
    begins: Option<Instant>,
    link: Link,
    /// The last move of the fleet that was heard of.
    known: Option<Record>,
    apart: Option<Apart>,
    active: Option<TargetId>,
    /// Upstream waits for the answer until then.
    asked: Option<(Plan, Instant)>,
    /// The unanswered [`Command::Install`].
    installing: Option<Installing>,
    /// What was decided without the fleet, and is yet to be proposed.
    unsent: Option<Plan>,
    propose_at: Option<Instant>,
    /// `None` while one is unanswered, or there is no connection.
    next_beat: Option<Instant>,
    served: Option<Instant>,
    instances: Vec<Arc<str>>,
    summaries: Summaries,
    actions: VecDeque<Action>,
}

impl Fleet {
    /// An instance that has not heard of its fleet yet. `id` is to differ between any two instances.
    #[must_use]
    pub fn new(instance: &str, id: &str, now: Instant) -> Self {
        Fleet {
            instance: instance.into(),
            id: id.into(),
            begins: Some(now + FIRST_WORD),
            link: Link::Away { since: now, why: "not connected yet".into() },
            known: None,
            apart: None,
            active: None,
            asked: None,
            installing: None,
            unsent: None,
            propose_at: None,
            next_beat: None,
            served: None,
            instances: Vec::new(),
            summaries: Summaries::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes one event.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Decide(plan) => self.decide(plan, now),
            Event::Moved(plan) => self.moved(plan, now),
            Event::Served => self.served(now),
            Event::Active(target) => {
                self.active = Some(target);
                if self.apart == Some(Apart::NoSuchTarget) {
                    self.follow_known();
                }
                // Before there was a target, there was nothing to write.
                if self.known.is_none() && self.is_usable() && self.next_beat.is_some() {
                    self.beat();
                }
            }
            Event::Word(Word::Linked) => self.beat(),
            Event::Word(Word::Away(why)) => self.away(why, now),
            Event::Word(Word::Read(stored, instances)) => self.read(stored, instances, now),
            Event::Word(Word::Published(record)) => {
                // What became of its own move, the answer says: this instance may have moved on meanwhile.
                let own = record.id == self.id && matches!(self.installing, Some(Installing::Move(_)));
                if !own && self.known.as_ref().is_none_or(|known| record.epoch > known.epoch) {
                    self.learn(record);
                }
            }
            Event::Word(Word::Installed(installed)) => self.installed(installed, now),
            // That is for whoever asked.
            Event::Word(Word::Found(_)) => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.begins.is_some_and(|at| at <= now) {
            self.begin();
        }
        if let Some((plan, _)) = self.asked.take_if(|(_, until)| *until <= now) {
            debug!(patience = ?PATIENCE, "the fleet's shared memory is slow: this instance moves, and the fleet hears of it later");
            self.go_alone(plan);
        }
        if self.next_beat.is_some_and(|at| at <= now) {
            self.beat();
        }
        if self.installing.is_none() && self.propose_at.take_if(|at| *at <= now).is_some() {
            self.propose();
        }
    }

    /// When [`Fleet::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let asked = self.asked.as_ref().map(|(_, until)| *until);
        let propose = self.propose_at.filter(|_| self.installing.is_none());
        [self.begins, asked, self.next_beat, propose].into_iter().flatten().min()
    }

    /// The next action, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// An operator brings this instance back to where the fleet is.
    pub fn rejoin(&mut self) -> Result<(), RejoinError> {
        let Some(known) = &self.known else { return Err(RejoinError::NoWord) };
        if self.apart.is_none() && self.unsent.is_none() {
            return Err(RejoinError::With(known.target.to_string()));
        }
        (self.apart, self.unsent, self.propose_at) = (None, None, None);
        self.follow_known();
        Ok(())
    }

    /// What became of an [`Action::Follow`].
    pub fn followed(&mut self, followed: Followed) {
        if followed == Followed::There {
            self.active = self.known.as_ref().map(|known| known.target.clone());
        }
        match (followed, &self.apart) {
            (Followed::There, Some(Apart::NoSuchTarget)) => self.apart = None,
            (Followed::NotYet, None) if self.active.is_some() => {
                self.apart = Some(Apart::NoSuchTarget);
                let target = self.known.as_ref().map(|known| &*known.target);
                warn!(
                    target,
                    "the fleet's target is not in this instance's set: it stays where it is until DNS agrees"
                );
            }
            (Followed::There | Followed::NotYet, _) => {}
        }
    }

    fn begin(&mut self) {
        if self.begins.take().is_some() {
            self.actions.push_back(Action::Begin);
        }
    }

    fn is_usable(&self) -> bool {
        matches!(self.link, Link::Usable)
    }

    /// Strikes are enough: the fleet is asked, or the move is made at once.
    fn decide(&mut self, plan: Plan, now: Instant) {
        let asks = self.is_usable() && self.apart.is_none() && self.installing.is_none() && self.known.is_some();
        if !asks {
            self.go_alone(plan);
            self.propose_soon(now, Duration::ZERO);
            return;
        }
        self.asked = Some((plan.clone(), now + PATIENCE));
        self.install(plan);
    }

    /// Upstream moves without the fleet's word. Unless this instance stands apart anyway, the fleet is to hear of it.
    fn go_alone(&mut self, plan: Plan) {
        self.asked = None;
        if self.apart.is_none() {
            self.unsent = Some(plan.clone());
            self.settle();
        }
        self.actions.push_back(Action::CarryOut(plan));
    }

    fn moved(&mut self, plan: Plan, now: Instant) {
        self.asked = None;
        self.active = Some(plan.to.clone());
        let there = self.known.as_ref().is_some_and(|known| known.target == plan.to);
        match plan.reason {
            Reason::Manual => self.apart = None,
            // What DNS says to an instance that stands apart, or what the fleet has done already, is no news for the fleet.
            Reason::TargetRemoved if self.apart.is_some() || there => return,
            Reason::TargetRemoved | Reason::RegisterFailures | Reason::Cluster => {}
        }
        self.unsent = Some(plan);
        self.settle();
        self.propose_soon(now, Duration::ZERO);
        self.handle_timeout(now);
    }

    /// A move that ended where the fleet is needs no telling.
    fn settle(&mut self) {
        let there = |plan: &mut Plan| self.known.as_ref().is_some_and(|known| known.target == plan.to);
        self.unsent.take_if(there);
    }

    fn propose_soon(&mut self, now: Instant, after: Duration) {
        if self.unsent.is_some() && self.is_usable() {
            self.propose_at.get_or_insert(now + after);
        }
    }

    fn propose(&mut self) {
        if let Some(plan) = self.unsent.clone().filter(|_| self.is_usable()) {
            self.install(plan);
        }
    }

    fn install(&mut self, plan: Plan) {
        let next = self.known.as_ref().map_or(0, |known| known.epoch) + 1;
        let record = Record::of(&plan, next, self.instance.clone(), self.id.clone());
        let unless_served_since = plan.first_strike;
        self.installing = Some(Installing::Move(plan));
        self.actions.push_back(Action::Ask(Command::Install { record, unless_served_since }));
    }

    /// The memory has nothing, or something older than what is known: it is written again.
    fn restore(&mut self) {
        let found = self.known.clone().or_else(|| {
            let active = self.active.clone()?;
            Some(Record::first(active, self.instance.clone(), self.id.clone()))
        });
        if let (Some(record), None) = (found, &self.installing) {
            self.installing = Some(Installing::Known);
            self.actions.push_back(Action::Ask(Command::Install { record, unless_served_since: None }));
        }
    }

    fn served(&mut self, now: Instant) {
        let Some(known) = &self.known else { return };
        if self.active.as_ref() != Some(&known.target) {
            return;
        }
        if self.apart.take().is_some() {
            info!(target = &*known.target, "this instance is with the fleet again: its target serves it");
        }
        self.served = Some(now);
        if self.next_beat.is_some() {
            self.beat();
        }
    }

    fn beat(&mut self) {
        self.next_beat = None;
        let served = self.served.take();
        let served = self.known.as_ref().and_then(|known| Some((known.epoch, served?)));
        self.actions.push_back(Action::Ask(Command::Beat { served }));
    }

    fn away(&mut self, why: Arc<str>, now: Instant) {
        let (since, news) = match &self.link {
            Link::Usable => (now, true),
            Link::Away { since, why: before } => (*since, **before != *why),
        };
        if let Some(more_like_it) = news.then(|| self.summaries.due("away", now)).flatten() {
            warn!(why = &*why, more_like_it, "the fleet's shared memory is away: this instance decides alone");
        }
        self.link = Link::Away { since, why };
        (self.next_beat, self.propose_at) = (None, None);
        // Whether it was stored is not known. What stands there when it is back says so.
        self.installing = None;
        if let Some((plan, _)) = self.asked.take() {
            self.go_alone(plan);
        }
        self.begin();
    }

    fn read(&mut self, stored: Stored, instances: Vec<Arc<str>>, now: Instant) {
        self.instances = instances;
        self.next_beat = Some(if self.served.is_some() { now } else { now + EVERY });
        if let Stored::Newer(version) = stored {
            let why = format!("a later version of Holdline has written there (version {version} of the record)");
            self.away(why.into(), now);
            // It is asked again all the same: that version may be taken back.
            self.next_beat = Some(now + EVERY);
            return;
        }
        if !self.is_usable() {
            self.link = Link::Usable;
            if let Some(more_like_it) = self.summaries.due("usable", now) {
                info!(more_like_it, "the fleet's shared memory can be used");
            }
            self.propose_soon(now, GRACE);
        }
        match stored {
            Stored::Record(record) => {
                let behind = self.known.as_ref().is_some_and(|known| record.epoch < known.epoch);
                if behind { self.restore() } else { self.learn(record) }
            }
            Stored::Absent | Stored::Foreign(_) | Stored::Newer(_) => self.restore(),
        }
        self.begin();
    }

    /// What stands in the memory is right, if it is as new as what is known.
    fn learn(&mut self, record: Record) {
        let same =
            self.known.as_ref().is_some_and(|known| known.epoch == record.epoch && known.target == record.target);
        if same {
            let settled = self.apart.is_none() && self.unsent.is_none() && self.asked.is_none();
            if settled && self.installing.is_none() && self.active.as_ref() != Some(&record.target) {
                self.follow_known();
            }
            return;
        }
        // Who heard nothing of the fleet and left that very target by its own strikes is not sent back there: the fleet is to judge.
        let left = self.unsent.as_ref().is_some_and(|plan| plan.from == record.target);
        if self.known.is_none() && left {
            self.known = Some(record);
            return;
        }
        // Its own word may come back before the answer does.
        let own = record.id == self.id && self.asked.as_ref().is_some_and(|(plan, _)| plan.to == record.target);
        let asked = self.asked.take();
        (self.apart, self.unsent, self.propose_at) = (None, None, None);
        self.known = Some(record);
        match asked {
            Some((plan, _)) if own => self.actions.push_back(Action::CarryOut(plan)),
            Some(_) | None => self.follow_known(),
        }
    }

    fn follow_known(&mut self) {
        if let Some(known) = &self.known {
            self.actions.push_back(Action::Follow(known.clone()));
        }
    }

    fn installed(&mut self, installed: Installed, now: Instant) {
        let plan = match self.installing.take() {
            Some(Installing::Move(plan)) => Some(plan),
            Some(Installing::Known) | None => None,
        };
        match installed {
            Installed::Won(record) if self.known.as_ref().is_none_or(|known| record.epoch >= known.epoch) => {
                let settled = plan.is_none() || self.unsent.is_none() || self.unsent == plan;
                if settled {
                    self.learn(record);
                } else {
                    // It moved on while the answer was under way, and that is yet to be proposed.
                    self.known = Some(record);
                    self.settle();
                }
            }
            Installed::Lost(Stored::Record(record))
                if self.known.as_ref().is_none_or(|known| record.epoch >= known.epoch) =>
            {
                self.learn(record);
            }
            // What is older than what is known by now, or nothing to follow.
            Installed::Won(_) | Installed::Lost(_) => {}
            Installed::Spared(by) => {
                warn!(
                    served = &*by,
                    "diverged: another instance was served by the target after the first strike; only this instance moves"
                );
                // Unless it moved on while the answer was under way: that is yet to be proposed.
                if self.unsent.is_none() || self.unsent == plan {
                    self.unsent = None;
                    self.apart = Some(Apart::Diverged(by));
                }
            }
        }
        if let Some((plan, _)) = self.asked.take() {
            self.go_alone(plan);
        }
        self.propose_soon(now, Duration::ZERO);
    }
}
