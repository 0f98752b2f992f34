//! The timers of SIP transactions as data: RFC 3261 table 4, RFC 6026 §8.7, RFC 4320 §4.1.

use std::time::{Duration, Instant};

/// The configurable base values. Everything else is derived in [`Timers::after`], the one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Estimated round trip, RFC 3261 §17.1.1.1. Default 500 ms.
    pub t1: Duration,
    /// Longest interval between retransmissions of non-INVITE requests and INVITE responses. Default 4 s.
    pub t2: Duration,
    /// How long a message stays in the network. Default 5 s.
    pub t4: Duration,
    /// Timer C, RFC 3261 §16.6 step 11: more than three minutes. Default 181 s.
    pub timer_c: Duration,
    /// Timer D on datagrams, RFC 3261 §17.1.1.2: at least 32 s. Default 32 s.
    pub d: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(181),
            d: Duration::from_secs(32),
        }
    }
}

/// The letters of RFC 3261 table 4, with L and M of RFC 6026 and four times that the RFCs give without a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    /// INVITE request retransmission, datagrams only. §17.1.1.2.
    A,
    /// INVITE transaction timeout. §17.1.1.2.
    B,
    /// Proxy INVITE transaction timeout. §16.6 step 11.
    C,
    /// Wait for retransmissions of a non-2xx answer to INVITE. §17.1.1.2.
    D,
    /// Non-INVITE request retransmission, datagrams only. §17.1.2.2.
    E,
    /// Non-INVITE transaction timeout. §17.1.2.2.
    F,
    /// INVITE response retransmission, datagrams only. §17.2.1.
    G,
    /// Wait for the ACK. §17.2.1.
    H,
    /// Wait for retransmissions of the ACK. §17.2.1.
    I,
    /// Wait for retransmissions of a non-INVITE request. §17.2.2.
    J,
    /// Wait for retransmissions of a non-INVITE response. §17.1.2.2.
    K,
    /// Accepted INVITE, server: wait for retransmissions of the INVITE. RFC 6026 §8.7.
    L,
    /// Accepted INVITE, client: wait for retransmissions of the 2xx, and for other 2xx. RFC 6026 §8.7.
    M,
    /// How long a cancelled INVITE waits for its final answer. RFC 3261 §9.1.
    Cancelled,
    /// When the client of a non-INVITE server transaction has given up (its Timer F) and no answer may be sent any
    /// more. RFC 4320 §4.2.
    Expiry,
    /// How much longer than that the client's last retransmission may travel. Ours; T4 is what RFC 3261 gives a message.
    Stragglers,
    /// The earliest time for a 100 to a non-INVITE request: Timer E of the client has reached T2. RFC 4320 §4.1.
    Hundred,
}

impl Timers {
    /// How long after the state is entered a timer fires: the *first* interval for A, E and G, which then double.
    /// `reliable`: the transport retransmits by itself (TCP, TLS). Zero means "at once".
    #[must_use]
    pub fn after(&self, letter: Letter, reliable: bool) -> Duration {
        let on_datagrams = |duration| if reliable { Duration::ZERO } else { duration };
        match letter {
            Letter::A | Letter::E | Letter::G => self.t1,
            Letter::B | Letter::F | Letter::H | Letter::L | Letter::M | Letter::Cancelled | Letter::Expiry => {
                self.t1 * 64
            }
            Letter::C => self.timer_c,
            Letter::Stragglers => self.t4,
            Letter::D => on_datagrams(self.d),
            Letter::I | Letter::K => on_datagrams(self.t4),
            Letter::J => on_datagrams(self.t1 * 64),
            Letter::Hundred => on_datagrams(self.until_t2()),
        }
    }

    /// Every duration that timers are set to for a whole class of transactions: the lanes of the timer queue.
    pub(super) fn durations(&self) -> Vec<Duration> {
        let doublings = (0..7).map(|n| self.t1 * (1 << n));
        let mut all: Vec<_> = doublings.chain([self.t2, self.t4, self.t1 * 64, self.d, self.timer_c]).collect();
        all.sort();
        all.dedup();
        all
    }

    /// 3.5 s with the default values: retransmissions at 0.5, 1.5 and 3.5 s, the next interval is T2.
    fn until_t2(&self) -> Duration {
        let mut sum = Duration::ZERO;
        let mut interval = self.t1;
        while interval < self.t2 && !interval.is_zero() {
            sum += interval;
            interval *= 2;
        }
        sum
    }
}

/// A running retransmission timer (A, E or G) with the interval that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resend {
    pub at: Instant,
    interval: Duration,
}

impl Resend {
    /// `None` on a reliable transport, which needs no retransmissions.
    pub(super) fn first(timers: &Timers, letter: Letter, reliable: bool, now: Instant) -> Option<Resend> {
        let interval = timers.after(letter, reliable);
        (!reliable).then(|| Resend { at: now + interval, interval })
    }

    /// Timer A: doubles without a cap; Timer B ends it. §17.1.1.2.
    pub(super) fn doubled(self, now: Instant) -> Resend {
        let interval = self.interval * 2;
        Resend { at: now + interval, interval }
    }

    /// Timers E and G: doubles up to T2. §17.1.2.2, §17.2.1.
    pub(super) fn doubled_to(self, cap: Duration, now: Instant) -> Resend {
        let interval = (self.interval * 2).min(cap);
        Resend { at: now + interval, interval }
    }

    /// Timer E after a provisional answer: T2. §17.1.2.2.
    pub(super) fn every(interval: Duration, now: Instant) -> Resend {
        Resend { at: now + interval, interval }
    }
}

/// The earlier of a retransmission, if one is due at all, and an end.
pub(super) fn earlier(resend: Option<Resend>, end: Instant) -> Instant {
    resend.map_or(end, |resend| resend.at.min(end))
}
