//! When a line about something that repeats is due: an outage must not become a storm of lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// About one thing there is one line in this time.
pub const QUIET: Duration = Duration::from_secs(10);

/// Things that are remembered. There are as many as there are targets, and targets come and go with DNS.
const MOST: usize = 64;

/// What was told when, and how many lines like it were held back since.
#[derive(Debug, Default)]
pub struct Summaries {
    /// Until when there is no line about a thing, and how many were held back.
    last: BTreeMap<Arc<str>, (Instant, u64)>,
}

impl Summaries {
    /// How many like it went unsaid, if it is time for a line about `key` again: one in [`QUIET`].
    pub fn due(&mut self, key: &str, now: Instant) -> Option<u64> {
        self.due_in(key, QUIET, now)
    }

    /// How many like it went unsaid, if it is time for a line about `key` again: one in `quiet`.
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
                    // Those that may speak again have nothing to keep; else all go, rather than grow.
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

    /// How many things are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// True if there is none.
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
