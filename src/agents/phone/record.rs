//! The record of a handset.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::KEPT;
use crate::agents::keep;
use crate::agents::sip::Message;

/// One final answer to a REGISTER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Final {
    /// Its status.
    pub status: u16,
    /// When it came.
    pub at: Instant,
    /// From the first sending on.
    pub took: Duration,
    /// How often the REGISTER was sent.
    pub sent: u32,
    /// Provisional answers before it, and when.
    pub provisional: Vec<(u16, Duration)>,
    /// Whether the REGISTER had credentials.
    pub authorized: bool,
    /// The Server header.
    pub server: Option<String>,
    /// The whole answer.
    pub message: Message,
}

/// A message that came unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The time of its arrival.
    pub at: Instant,
    /// The address it came from.
    pub from: SocketAddr,
    /// The message.
    pub message: Message,
}

/// Everything a handset saw. Lists keep their newest entries only, a thousand at least; the counters count all.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Final answers to REGISTERs, in order.
    pub finals: Vec<Final>,
    /// How many final answers there were, by status.
    pub answered: BTreeMap<u16, usize>,
    /// The longest that a REGISTER took to its final answer.
    pub slowest: Duration,
    /// How often Timer F fired for a REGISTER.
    pub timer_f: usize,
    /// REGISTERs that met no connection or a broken one: when, and why.
    pub broken: Vec<(Instant, String)>,
    /// Requests that came in.
    pub requests: Vec<Seen>,
    /// Responses that came after Timer F.
    pub late: Vec<Seen>,
    /// Responses to nothing it ever asked.
    pub unexpected: Vec<Seen>,
    /// Datagrams that are no SIP.
    pub garbage: usize,
    /// CRLF keep-alives.
    pub keep_alives: usize,
    /// Connections made.
    pub connections: usize,
    /// Connections that ended: when, and why.
    pub closed: Vec<(Instant, String)>,
    /// The Contact URI of the last REGISTER.
    pub contact_sent: String,
    /// The Contact URIs of the last 2xx.
    pub contacts_back: Vec<String>,
    /// The seconds that the last 2xx granted to the handset's own Contact, or by its Expires header.
    pub granted: Option<u32>,
    /// Registered, as far as the handset knows.
    pub registered: bool,
    /// The Server header of the last 2xx.
    pub server: Option<String>,
}

impl Record {
    /// 2xx to a REGISTER, in all.
    pub fn successes(&self) -> usize {
        self.answered.range(200..300).map(|(_, count)| count).sum()
    }

    /// How often a status came.
    pub fn count(&self, status: u16) -> usize {
        self.answered.get(&status).copied().unwrap_or(0)
    }

    /// Everything that a user would call an error: a final answer other than 2xx, 401 and 407, a time-out, a broken
    /// connection. In words, empty if all is well.
    pub fn errors(&self) -> Vec<String> {
        let bad = self.answered.iter().filter(|(status, _)| !matches!(**status, 200..300 | 401 | 407));
        let mut errors: Vec<String> = bad.map(|(status, count)| format!("{status} to REGISTER ({count}×)")).collect();
        if self.timer_f > 0 {
            errors.push(format!("no answer to REGISTER: Timer F ({}×)", self.timer_f));
        }
        errors.extend(self.broken.iter().map(|(_, why)| format!("REGISTER met no connection: {why}")));
        errors
    }

    pub(super) fn answered(&mut self, answer: Final) {
        *self.answered.entry(answer.status).or_default() += 1;
        self.slowest = self.slowest.max(answer.took);
        keep(&mut self.finals, KEPT, answer);
    }

    pub(super) fn broke(&mut self, at: Instant, why: String) {
        keep(&mut self.broken, KEPT, (at, why));
    }
}
