//! Phones that did not get registered: what their last REGISTER met. For the operator's control socket alone.
//!
//! A phone enters with an answer that is no 2xx, or with none, and leaves with a 2xx. The table is bounded: beyond
//! [`LIMIT`] the phone nothing was heard of for the longest time is forgotten, and so is everybody after [`KEPT`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::AttemptOutcome;
use crate::flow::Transport;
use crate::proxy::numbers::NumberMap;
use crate::upstream::HandsetId;
use crate::upstream::{Outcome, TargetId};

/// Phones in trouble that are kept.
pub(super) const LIMIT: usize = 1024;

/// How long one is kept after its last REGISTER.
pub(super) const KEPT: Duration = Duration::from_secs(3600);

/// How a REGISTER ended for its phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// An attempt's outcome at a target, and what it counts as.
    Attempt(Outcome, AttemptOutcome),
    /// Holdline itself answered, with this status.
    Refused(u16),
    /// There was no target to try.
    NoTarget,
}

/// Who a REGISTER came from.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub aor: Arc<str>,
    pub source: SocketAddr,
    pub transport: Transport,
    pub user_agent: Box<str>,
}

/// What a REGISTER met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Met {
    pub ending: Ending,
    /// The peer's own words, if any.
    pub detail: Option<Arc<str>>,
    /// The target that was asked; empty if none was.
    pub target: TargetId,
}

/// One phone that is not registered, or whose registration is not renewed.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub caller: Caller,
    pub met: Met,
    /// When.
    pub at: Instant,
    /// Outcomes without a 2xx in between.
    pub times: u32,
    place: u64,
}

/// The table, by handset.
#[derive(Debug, Default)]
pub(super) struct Unregistered {
    table: NumberMap<HandsetId, Trouble>,
    /// The one heard of longest ago first.
    order: BTreeMap<u64, HandsetId>,
    next: u64,
    forgotten: u64,
}

impl Unregistered {
    /// What a handset's REGISTER came to, if it is no 2xx. `caller` is asked for only where the handset is new.
    pub(super) fn note(
        &mut self,
        handset: HandsetId,
        source: SocketAddr,
        caller: impl FnOnce() -> Caller,
        met: Met,
        now: Instant,
    ) {
        self.forget_old(now);
        let (times, caller) = match self.remove(handset) {
            Some(known) => (known.times.saturating_add(1), Caller { source, ..known.caller }),
            None => (1, caller()),
        };
        if self.table.len() >= LIMIT
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.table.remove(&oldest);
            self.forgotten += 1;
        }
        let place = self.next;
        self.next += 1;
        self.order.insert(place, handset);
        self.table.insert(handset, Trouble { caller, met, at: now, times, place });
    }

    /// The handset got its 2xx.
    pub(super) fn cleared(&mut self, handset: HandsetId) {
        self.remove(handset);
    }

    pub(super) fn get(&self, handset: HandsetId, now: Instant) -> Option<&Trouble> {
        self.table.get(&handset).filter(|trouble| trouble.at + KEPT > now)
    }

    /// The latest first.
    pub(super) fn iter(&self, now: Instant) -> impl Iterator<Item = (HandsetId, &Trouble)> {
        let all = self.order.values().rev().filter_map(|handset| Some((*handset, self.table.get(handset)?)));
        all.filter(move |(_, trouble)| trouble.at + KEPT > now)
    }

    /// How many are in trouble: not those that were asked for their password a moment ago, as happens every day.
    pub(super) fn in_trouble(&self, now: Instant) -> usize {
        let asked = |trouble: &Trouble| {
            trouble.times == 1 && matches!(trouble.met.ending, Ending::Attempt(_, AttemptOutcome::Challenged))
        };
        self.iter(now).filter(|(_, trouble)| !asked(trouble)).count()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many were forgotten for want of room.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn remove(&mut self, handset: HandsetId) -> Option<Trouble> {
        let trouble = self.table.remove(&handset)?;
        self.order.remove(&trouble.place);
        Some(trouble)
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((_, &handset)) = self.order.first_key_value()
            && self.table.get(&handset).is_none_or(|trouble| trouble.at + KEPT <= now)
        {
            self.order.pop_first();
            self.table.remove(&handset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any instant will do: only differences matter.
    #[allow(clippy::disallowed_methods)]
    fn base() -> Instant {
        Instant::now()
    }

    fn note(table: &mut Unregistered, handset: u64, code: u16, now: Instant) {
        let source = SocketAddr::from(([192, 0, 2, 7], 5060));
        let caller = || Caller {
            aor: format!("{handset}@example.com").into(),
            source,
            transport: Transport::Udp,
            user_agent: "".into(),
        };
        let ending = Ending::Attempt(Outcome::Response(code), AttemptOutcome::Rejected);
        let met = Met { ending, detail: None, target: TargetId::from("a:5060") };
        table.note(HandsetId(handset), source, caller, met, now);
    }

    #[test]
    fn a_phone_is_counted_until_its_2xx() {
        let (mut table, now) = (Unregistered::default(), base());
        note(&mut table, 1, 401, now);
        note(&mut table, 2, 403, now);
        note(&mut table, 1, 401, now);
        let shown: Vec<(u64, u32)> = table.iter(now).map(|(handset, trouble)| (handset.0, trouble.times)).collect();
        assert_eq!(shown, [(1, 2), (2, 1)], "the latest first");
        table.cleared(HandsetId(1));
        assert_eq!((table.get(HandsetId(1), now).is_none(), table.len(), table.order.len()), (true, 1, 1));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_quiet_longest() {
        let (mut table, now) = (Unregistered::default(), base());
        for handset in 0..LIMIT as u64 + 10 {
            note(&mut table, handset, 403, now);
            note(&mut table, 0, 403, now);
        }
        assert_eq!((table.len(), table.order.len()), (LIMIT, LIMIT));
        assert!(table.get(HandsetId(0), now).is_some() && table.get(HandsetId(1), now).is_none());
        assert_eq!(table.forgotten(), 10);
    }

    #[test]
    fn nobody_is_kept_longer_than_an_hour() {
        let (mut table, now) = (Unregistered::default(), base());
        note(&mut table, 1, 403, now);
        let later = now + KEPT;
        assert_eq!((table.get(HandsetId(1), later).is_none(), table.iter(later).count()), (true, 0));
        note(&mut table, 2, 403, later);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn who_was_asked_for_a_password_once_is_in_no_trouble() {
        let (mut table, now) = (Unregistered::default(), base());
        let mut challenged = |handset: u64| {
            note(&mut table, handset, 401, now);
            let trouble = table.table.get_mut(&HandsetId(handset)).expect("noted");
            trouble.met.ending = Ending::Attempt(Outcome::Response(401), AttemptOutcome::Challenged);
            table.in_trouble(now)
        };
        assert_eq!((challenged(1), challenged(2), challenged(2)), (0, 0, 1));
        table.cleared(HandsetId(2));
        note(&mut table, 3, 403, now);
        assert_eq!((table.in_trouble(now), table.in_trouble(now + KEPT)), (1, 0));
    }
}
