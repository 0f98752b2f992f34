//! Which UDP flows to phones behind NAT are due for a CRLF CRLF (RFC 5626 §4.4.1), spread evenly over the interval.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::flow::SocketId;

/// A UDP flow to a phone: socket, our address on it, the phone's.
pub(super) type UdpFlow = (SocketId, SocketAddr, SocketAddr);

/// NAT devices forget a UDP mapping after 30 s at the worst.
const INTERVAL: Duration = Duration::from_secs(25);

/// Due times are rounded up to this, so that ten thousand phones wake the driver four times a second, not four hundred.
const GRAIN: Duration = Duration::from_millis(250);

/// The flows to keep open. A flow that several bindings share (a phone with several lines) gets one keep-alive.
#[derive(Debug, Default)]
pub(super) struct KeepAlives {
    flows: HashMap<UdpFlow, Kept>,
    due: BTreeSet<(Instant, UdpFlow)>,
    ready: VecDeque<UdpFlow>,
    /// Where the grid of grains begins.
    origin: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    bindings: usize,
    due: Instant,
}

impl KeepAlives {
    /// One more binding on this flow. `spread` is a number that is evenly spread over the flows.
    pub(super) fn add(&mut self, flow: UdpFlow, spread: u64, now: Instant) {
        if let Some(kept) = self.flows.get_mut(&flow) {
            kept.bindings += 1;
            return;
        }
        let phase = Duration::from_millis(spread % INTERVAL.as_millis() as u64);
        let due = self.on_grid(now + phase);
        self.flows.insert(flow, Kept { bindings: 1, due });
        self.due.insert((due, flow));
    }

    /// One binding less on this flow.
    pub(super) fn remove(&mut self, flow: UdpFlow) {
        if let Some(kept) = self.flows.get_mut(&flow) {
            kept.bindings -= 1;
            if kept.bindings == 0 {
                self.due.remove(&(kept.due, flow));
                self.flows.remove(&flow);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Moves what is due by `now` to where [`KeepAlives::next`] finds it. After a long pause each flow is due once.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, flow)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.due.pop_first();
            let missed = (now - due).as_millis() / INTERVAL.as_millis();
            let next = due + INTERVAL * u32::try_from(missed + 1).unwrap_or(1);
            if let Some(kept) = self.flows.get_mut(&flow) {
                kept.due = next;
                self.due.insert((next, flow));
                self.ready.push_back(flow);
            }
        }
    }

    /// The next flow to send a keep-alive on.
    pub(super) fn next(&mut self) -> Option<UdpFlow> {
        while let Some(flow) = self.ready.pop_front() {
            if self.flows.contains_key(&flow) {
                return Some(flow);
            }
        }
        None
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    fn on_grid(&mut self, at: Instant) -> Instant {
        let origin = *self.origin.get_or_insert(at);
        let since = at.saturating_duration_since(origin).as_millis();
        let grains = since.div_ceil(GRAIN.as_millis());
        origin + GRAIN * u32::try_from(grains).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use super::{GRAIN, INTERVAL, KeepAlives, UdpFlow};
    use crate::flow::SocketId;

    fn flow(port: u16) -> UdpFlow {
        (SocketId(0), SocketAddr::from(([192, 0, 2, 1], 5060)), SocketAddr::from(([198, 51, 100, 7], port)))
    }

    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn each_flow_is_due_every_25_seconds_and_all_are_spread() {
        let mut kept = KeepAlives::default();
        let begin = start();
        for port in 0..1000 {
            kept.add(flow(port), u64::from(port).wrapping_mul(0x9e37_79b9_7f4a_7c15), begin);
        }
        let mut at_once = 0;
        let mut wakes = 0;
        let mut sent = vec![0; 1000];
        while let Some(due) = kept.poll_timeout().filter(|due| *due <= begin + 4 * INTERVAL) {
            kept.handle_timeout(due);
            wakes += 1;
            let mut count = 0;
            while let Some((_, _, to)) = kept.next() {
                sent[usize::from(to.port())] += 1;
                count += 1;
            }
            at_once = at_once.max(count);
        }
        assert!(sent.iter().all(|sent| (4..=5).contains(sent)), "{sent:?}");
        assert!(at_once < 40, "at most {at_once} at once");
        assert!(wakes <= 401, "{wakes}");
        assert_eq!(kept.len(), 1000);
    }

    #[test]
    fn lines_that_share_a_flow_share_its_keepalive() {
        let mut kept = KeepAlives::default();
        let begin = start();
        kept.add(flow(1), 0, begin);
        kept.add(flow(1), 77, begin);
        kept.remove(flow(1));
        kept.handle_timeout(begin + INTERVAL);
        assert_eq!(kept.next(), Some(flow(1)));
        assert_eq!(kept.next(), None);
        kept.remove(flow(1));
        kept.remove(flow(1));
        assert_eq!(kept.poll_timeout(), None);
        assert_eq!(kept.len(), 0);
    }

    #[test]
    fn after_a_long_pause_each_flow_is_due_once() {
        let mut kept = KeepAlives::default();
        let begin = start();
        kept.add(flow(1), 3, begin);
        let later = begin + Duration::from_secs(3600);
        kept.handle_timeout(later);
        assert_eq!(kept.next(), Some(flow(1)));
        assert_eq!(kept.next(), None);
        let due = kept.poll_timeout().expect("kept");
        assert!(due > later && due <= later + INTERVAL + GRAIN);
    }

    #[test]
    fn a_flow_that_went_while_it_was_due_gets_nothing() {
        let mut kept = KeepAlives::default();
        kept.add(flow(1), 3, start());
        kept.handle_timeout(start() + INTERVAL);
        kept.remove(flow(1));
        assert_eq!(kept.next(), None);
    }
}
