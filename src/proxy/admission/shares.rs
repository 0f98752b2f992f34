//! What each source holds at the moment.

use std::collections::HashMap;
use std::net::IpAddr;

#[derive(Debug, Default, Clone, Copy)]
struct Held {
    requests: usize,
    bytes: usize,
    /// Of the requests, those that nobody has reacted to.
    unanswered: usize,
}

/// By source; a source that holds nothing has no entry, so that there are never more than there are requests.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_source: HashMap<IpAddr, Held>,
    bytes: usize,
}

impl Shares {
    /// Requests, bytes, and requests that nobody has reacted to.
    pub(super) fn of(&self, source: IpAddr) -> (usize, usize, usize) {
        let held = self.by_source.get(&source).copied().unwrap_or_default();
        (held.requests, held.bytes, held.unanswered)
    }

    pub(super) fn take(&mut self, source: IpAddr, bytes: usize) {
        let held = self.by_source.entry(source).or_default();
        held.requests += 1;
        held.unanswered += 1;
        held.bytes += bytes;
        self.bytes += bytes;
    }

    pub(super) fn answered(&mut self, source: IpAddr) {
        if let Some(held) = self.by_source.get_mut(&source) {
            held.unanswered -= 1;
        }
    }

    pub(super) fn give_back(&mut self, source: IpAddr, bytes: usize) {
        self.bytes -= bytes;
        if let Some(held) = self.by_source.get_mut(&source) {
            held.requests -= 1;
            held.bytes -= bytes;
            if held.requests == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.by_source.len()
    }
}
