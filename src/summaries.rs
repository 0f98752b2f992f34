//! Summaries in the log: an outage must not become a storm of lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time in which one line about one thing is logged.
pub const QUIET: Duration = Duration::from_secs(10);

/// The most things that are remembered. There are as many as there are targets, and targets come and go with DNS.
const MOST: usize = 64;

/// The things that were logged, each with its time and the number of lines held back since.
#[derive(Debug, Default)]
pub struct Summaries {
    /// The end of the quiet time of each thing, and the number of lines held back.
    last: BTreeMap<Arc<str>, (Instant, u64)>,
}

impl Summaries {
    /// The number of lines held back, if a line about `key` is due again: one in [`QUIET`].
    pub fn due(&mut self, key: &str, now: Instant) -> Option<u64> {
        self.due_in(key, QUIET, now)
    }

    /// The number of lines held back, if a line about `key` is due again: one in `quiet`.
    pub fn due_in(&mut self, key: &str, quiet: Duration, now: Instant) -> Option<u64> {
        match self.last.get_mut(key) {
            Some((until, held)) if now < *until => {
                *held += 1;
                None
            }
            Some((until, held)) => {
                *until = now + quiet;
                Some(std::mem::take(held))
            }
            None => {
                if self.last.len() >= MOST {
                    // Things whose quiet time is over have nothing to keep; if there are none, all go rather than the map grows.
                    self.last.retain(|_, (until, _)| now < *until);
                    if self.last.len() >= MOST {
                        self.last.clear();
                    }
                }
                self.last.insert(Arc::from(key), (now + quiet, 0));
                Some(0)
            }
        }
    }

    /// The number of things that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// True if nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn one_line_in_ten_seconds_says_how_many_there_would_have_been() {
        let (mut summaries, begin) = (Summaries::default(), Instant::now());
        let (a, b) = ("a", "b");
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(summaries.due(a, at(0)), Some(0));
        assert_eq!((summaries.due(a, at(1)), summaries.due(b, at(1)), summaries.due(a, at(9))), (None, Some(0), None));
        assert_eq!(summaries.due(a, at(10)), Some(2));
        assert_eq!((summaries.due(a, at(19)), summaries.due(a, at(60))), (None, Some(1)));
        for n in 0..1000 {
            assert_eq!(summaries.due(&n.to_string(), at(60)), Some(0));
            assert!(summaries.len() <= MOST);
        }
    }
}
