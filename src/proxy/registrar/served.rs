//! Which handsets this PBX has served: those whose REGISTER got a 2xx through us within a day.
//!
//! What an untrusted peer sends is no evidence about a target: a PBX drops a scanner's REGISTER on purpose. A handset that was
//! served is one that the PBX wants to answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::proxy::numbers::NumberMap;
use crate::upstream::{HandsetId, Standing};

/// How long a handset counts as served after its last 2xx.
pub(super) const KEPT: Duration = Duration::from_secs(24 * 3600);
/// A 2xx is noted again only after so long: a refreshing fleet costs one lookup each.
const GRAIN: Duration = Duration::from_secs(1800);

/// The table: at most as many as there may be bindings, the one served longest ago goes first.
#[derive(Debug)]
pub(super) struct Served {
    limit: usize,
    since: NumberMap<HandsetId, Instant>,
    by_age: BTreeSet<(Instant, HandsetId)>,
}

impl Served {
    pub(super) fn new(limit: usize) -> Self {
        Served { limit, since: NumberMap::default(), by_age: BTreeSet::new() }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// A 2xx went to this handset.
    pub(super) fn note(&mut self, handset: HandsetId, now: Instant) {
        match self.since.get(&handset) {
            Some(at) if now.saturating_duration_since(*at) < GRAIN => return,
            Some(at) => {
                self.by_age.remove(&(*at, handset));
            }
            None => {}
        }
        self.since.insert(handset, now);
        self.by_age.insert((now, handset));
        while self.since.len() > self.limit
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.since.remove(&oldest);
        }
    }

    /// What this handset's failure is worth as evidence about a target.
    pub(super) fn standing(&mut self, handset: HandsetId, now: Instant) -> Standing {
        match self.of_nobody(now) {
            Standing::Unserved if self.since.contains_key(&handset) => Standing::Served,
            standing => standing,
        }
    }

    /// That of a handset without a name.
    pub(super) fn of_nobody(&mut self, now: Instant) -> Standing {
        while let Some(&(at, oldest)) = self.by_age.first().filter(|(at, _)| now.saturating_duration_since(*at) >= KEPT)
        {
            self.by_age.remove(&(at, oldest));
            self.since.remove(&oldest);
        }
        if self.since.is_empty() { Standing::Alike } else { Standing::Unserved }
    }

    pub(super) fn len(&self) -> usize {
        self.since.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn a_handset_counts_as_served_for_a_day_and_all_count_alike_while_none_is() {
        let (mut served, now) = (Served::new(2), Instant::now());
        let (a, b, c) = (HandsetId(1), HandsetId(2), HandsetId(3));
        assert_eq!(served.standing(a, now), Standing::Alike);
        served.note(a, now);
        assert_eq!((served.standing(a, now), served.standing(b, now)), (Standing::Served, Standing::Unserved));
        let later = now + KEPT / 2;
        served.note(a, later);
        assert_eq!(served.standing(a, now + KEPT), Standing::Served, "noted again");
        assert_eq!(served.standing(a, later + KEPT), Standing::Alike, "a day without a 2xx");
        for handset in [a, b, c] {
            served.note(handset, later + KEPT);
        }
        assert_eq!((served.len(), served.by_age.len()), (2, 2));
        assert_eq!(served.standing(a, later + KEPT), Standing::Unserved, "the oldest made room");
    }
}
