//! The timer queue: owners by the time at which they are to be woken.
//!
//! Nearly every SIP timer runs for one of a dozen constant durations (T1·2ⁿ, T2, T4, 64·T1, C), so that each duration
//! is a lane in which entries stand in order of their deadlines by themselves: push and pop cost a `VecDeque`. What fits
//! no lane (and whatever a clock that went backwards brings) goes to a heap. Nothing is ever taken out of the middle:
//! a cancelled timer's entry is recognised by its owner when it comes up, or is swept away when too many have gathered.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wake<O> {
    pub at: Instant,
    pub owner: O,
}

#[derive(Debug)]
pub(super) struct Queue<O> {
    lanes: Vec<Lane<O>>,
    odd: BinaryHeap<Reverse<Wake<O>>>,
    len: usize,
}

#[derive(Debug)]
struct Lane<O> {
    after: Duration,
    fifo: VecDeque<Wake<O>>,
}

/// Where the earliest entry stands.
#[derive(Clone, Copy)]
enum Place {
    Lane(usize),
    Odd,
}

impl<O: Copy + Ord> Queue<O> {
    pub(super) fn new(durations: &[Duration]) -> Self {
        let lanes = durations.iter().map(|&after| Lane { after, fifo: VecDeque::new() }).collect();
        Queue { lanes, odd: BinaryHeap::new(), len: 0 }
    }

    pub(super) fn push(&mut self, owner: O, at: Instant, now: Instant) {
        let wake = Wake { at, owner };
        let after = at.saturating_duration_since(now);
        let lane = self.lanes.iter_mut().find(|lane| lane.after == after);
        match lane {
            Some(lane) if lane.fifo.back().is_none_or(|last| last.at <= at) => lane.fifo.push_back(wake),
            Some(_) | None => self.odd.push(Reverse(wake)),
        }
        self.len += 1;
    }

    /// The earliest deadline. It may belong to a timer that was cancelled: a wake-up for nothing does no harm.
    pub(super) fn next(&self) -> Option<Instant> {
        self.earliest().map(|(at, _)| at)
    }

    /// The earliest entry, if `wanted` says so.
    pub(super) fn pop_if(&mut self, wanted: impl FnOnce(&Wake<O>) -> bool) -> Option<Wake<O>> {
        let (_, place) = self.earliest()?;
        let popped = match place {
            Place::Lane(lane) => {
                let fifo = &mut self.lanes[lane].fifo;
                if wanted(fifo.front()?) { fifo.pop_front() } else { None }
            }
            Place::Odd => {
                if wanted(&self.odd.peek()?.0) {
                    self.odd.pop().map(|entry| entry.0)
                } else {
                    None
                }
            }
        };
        self.len -= usize::from(popped.is_some());
        popped
    }

    /// Sweeps out every entry that `wanted` does not want.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Wake<O>) -> bool) {
        for lane in &mut self.lanes {
            lane.fifo.retain(&wanted);
            lane.fifo.shrink_to(lane.fifo.len() * 2);
        }
        self.odd.retain(|entry| wanted(&entry.0));
        self.odd.shrink_to(self.odd.len() * 2);
        self.len = self.odd.len() + self.lanes.iter().map(|lane| lane.fifo.len()).sum::<usize>();
    }

    /// Entries, those of cancelled timers included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn earliest(&self) -> Option<(Instant, Place)> {
        let fronts = self.lanes.iter().enumerate();
        let lanes = fronts.filter_map(|(n, lane)| Some((lane.fifo.front()?.at, Place::Lane(n))));
        let odd = self.odd.peek().map(|entry| (entry.0.at, Place::Odd));
        lanes.chain(odd).min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
#[path = "tests/queue.rs"]
mod tests;
