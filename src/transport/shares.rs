//! What one source may take of something that many want.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::flow::source_of;

/// Counts by source. While at most half of the whole is taken, anybody may take more; beyond, nobody has more than an eighth.
#[derive(Debug, Clone)]
pub(super) struct Shares(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    whole: usize,
    sum: usize,
    by_source: HashMap<IpAddr, usize>,
}

impl Shares {
    pub(super) fn of(whole: usize) -> Self {
        Shares(Arc::new(Mutex::new(Taken { whole, sum: 0, by_source: HashMap::new() })))
    }

    /// One more for the source of this address. `None`: it has its share.
    pub(super) fn take(&self, ip: IpAddr) -> Option<Share> {
        let source = source_of(ip);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.by_source.get(&source).copied().unwrap_or(0);
        if all.sum >= all.whole / 2 && own >= (all.whole / 8).max(1) {
            return None;
        }
        all.sum += 1;
        all.by_source.insert(source, own + 1);
        Some(Share { shares: self.clone(), source })
    }
}

/// One of the whole, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    source: IpAddr,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.shares.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.sum -= 1;
        if let Some(own) = all.by_source.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                all.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_half_nobody_has_more_than_an_eighth_and_what_is_given_back_can_be_taken() {
        let shares = Shares::of(64);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut greedy: Vec<Share> = std::iter::from_fn(|| shares.take(ip("192.0.2.1"))).take(100).collect();
        assert_eq!(greedy.len(), 32, "half of the whole");
        let others: Vec<Share> = std::iter::from_fn(|| shares.take(ip("192.0.2.2"))).take(100).collect();
        assert_eq!(others.len(), 8, "an eighth");
        let prefix: Vec<Share> = (1..=100).filter_map(|n| shares.take(ip(&format!("2001:db8::{n}")))).collect();
        assert_eq!(prefix.len(), 8, "a /64 is one source");
        assert!(shares.take(ip("2001:db8:0:1::1")).is_some());
        greedy.truncate(4);
        assert!(shares.take(ip("192.0.2.1")).is_some());
        drop((greedy, others, prefix));
        let all = shares.0.lock().unwrap();
        assert_eq!((all.sum, all.by_source.len()), (0, 0));
    }
}
