//! What comes in one burst shall not come back in one.
//!
//! After a power cut a site's phones register within a second. Granted the same time, all of them would be back in one second,
//! each interval, for ever. So each is granted an end of its own in the later two thirds of the interval: where the fewest others
//! end, and of such moments the latest. Since most phones come back when half of their time is over, and the others near its
//! end, both moments count. A phone that comes alone is granted the whole interval.

use std::time::Instant;

/// No phone is asked to register more often than once in this many seconds.
pub(super) const SHORTEST: u32 = 60;
/// The interval is divided into at most so many moments, of a second or more.
const MOMENTS: u32 = 1024;

/// Going through the moments of one second, from the latest to the soonest, for those with the least load. Within a second loads
/// only grow: what was passed over stays passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pass {
    second: u64,
    /// No moment has less.
    least: u32,
    /// Moments from this one on have more than that.
    next: u64,
    /// The least that was found above it.
    above: u32,
}

/// How many registrations end when, over one interval from now on. Its size is fixed.
#[derive(Debug)]
pub(super) struct Grants {
    cap: u32,
    /// Seconds of a moment.
    width: u32,
    origin: Instant,
    /// A ring: the moment `m` (counted from the origin) is at `m` modulo its length.
    ends: Box<[u32]>,
    /// Likewise, how many come back half-way.
    halves: Box<[u32]>,
    /// Moments before this one are over, and their places are free.
    from: u64,
    /// How far the moments have been gone through in the running second.
    pass: Pass,
}

impl Grants {
    /// For grants of at most `cap` seconds, at least a minute.
    pub(super) fn new(cap: u32, now: Instant) -> Self {
        let cap = cap.max(SHORTEST);
        let width = cap.div_ceil(MOMENTS);
        let empty: Box<[u32]> = vec![0; (cap / width + 2) as usize].into();
        Grants {
            cap,
            width,
            origin: now,
            halves: empty.clone(),
            ends: empty,
            from: 0,
            pass: Pass { second: u64::MAX, least: 0, next: 0, above: 0 },
        }
    }

    /// The longest grant.
    pub(super) fn cap(&self) -> u32 {
        self.cap
    }

    /// The seconds to grant to a phone that registers now: from a third of the cap (and not below a minute) up to the cap.
    pub(super) fn grant(&mut self, now: Instant) -> u32 {
        let second = now.saturating_duration_since(self.origin).as_secs();
        self.forget_before(second);
        let (width, places) = (u64::from(self.width), self.ends.len() as u64);
        let (soonest, latest) = (second + u64::from((self.cap / 3).max(SHORTEST)), second + u64::from(self.cap));
        let half = |moment: u64| (u64::midpoint(second, moment * width) / width % places) as usize;
        let load = |moment: u64| self.ends[(moment % places) as usize] + self.halves[half(moment)];
        // Whole moments only.
        let (first, end) = (soonest.div_ceil(width), (latest + 1) / width);
        if first >= end {
            return self.cap;
        }
        if self.pass.second != second {
            self.pass = Pass { second, least: 0, next: end, above: u32::MAX };
        }
        // Of equals the latest.
        let moment = loop {
            if self.pass.next == first {
                self.pass = Pass { second, least: self.pass.above, next: end, above: u32::MAX };
            }
            self.pass.next -= 1;
            let here = load(self.pass.next);
            if here <= self.pass.least {
                break self.pass.next;
            }
            self.pass.above = self.pass.above.min(here);
        };
        // The moment itself has more now, and is the next one's to look at again only when all have more.
        self.pass.above = self.pass.above.min(load(moment) + 1);
        self.halves[half(moment)] += 1;
        let taken = &mut self.ends[(moment % places) as usize];
        // Within a moment of several seconds one after the other, from its end.
        let end = moment * width + width - 1 - u64::from(*taken) % width;
        *taken += 1;
        (end.clamp(soonest, latest) - second) as u32
    }

    fn forget_before(&mut self, second: u64) {
        let (now, places) = (second / u64::from(self.width), self.ends.len() as u64);
        for moment in self.from..now.min(self.from + places) {
            self.ends[(moment % places) as usize] = 0;
            self.halves[(moment % places) as usize] = 0;
        }
        self.from = self.from.max(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_phone_that_comes_alone_is_granted_the_whole_interval() {
        let (mut grants, begin) = (Grants::new(300, start()), start());
        for n in 0..100 {
            assert_eq!(grants.grant(begin + Duration::from_secs(150 * n)), 300);
        }
    }

    #[test]
    fn a_burst_is_spread_evenly_over_the_later_two_thirds() {
        let begin = start();
        let mut grants = Grants::new(300, begin);
        let mut ends = [0; 301];
        for _ in 0..2_010 {
            ends[grants.grant(begin) as usize] += 1;
        }
        let even = |n: &i32| (8..=16).contains(n);
        assert!(ends[..100].iter().all(|n| *n == 0) && ends[100..=300].iter().all(even), "{ends:?}");
    }

    #[test]
    fn a_second_burst_fills_what_the_first_one_left() {
        let begin = start();
        let mut grants = Grants::new(300, begin);
        for _ in 0..151 {
            grants.grant(begin);
        }
        let granted: Vec<u32> = (0..50).map(|_| grants.grant(begin + Duration::from_secs(50))).collect();
        let fresh = granted.iter().filter(|granted| **granted > 250).count();
        assert!(fresh >= 40, "{granted:?}");
    }

    #[test]
    fn an_interval_of_a_minute_leaves_nothing_to_spread() {
        let mut grants = Grants::new(10, start());
        assert!((0..100).all(|_| grants.grant(start()) == 60));
    }

    proptest! {
        #[test]
        fn no_grant_leaves_its_bounds(cap in 60..86_400_u32, steps in prop::collection::vec(0..100_000_u64, 1..200)) {
            let begin = start();
            let mut grants = Grants::new(cap, begin);
            let mut now = begin;
            for step in steps {
                now += Duration::from_millis(step);
                let granted = grants.grant(now);
                prop_assert!(granted <= cap && granted >= (cap / 3).max(60).min(cap));
            }
            prop_assert!(grants.ends.len() <= 1026);
        }
    }
}
