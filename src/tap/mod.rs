//! The tap: what passes through the driver, for whoever looks at it.
//!
//! ```text
//! driver ── received, sent ──► Tap ──► subscriptions (bounded) ──► control socket ──► holdline trace
//! core ──── failures ───────────┤────► recent failures (bounded) ──────┘ --last
//!                               └────► copies for a HEP receiver (bounded)
//! ```
//!
//! While nobody looks, the driver asks one question for each message ([`Tap::listens`]) and copies nothing. A subscription is
//! bounded in messages and in bytes: what a slow reader does not take is lost to it, and it learns how many that were. Nothing
//! here ever waits.

mod filter;
mod recent;
mod subscription;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use filter::{FOLLOWED, Filter};
pub use recent::{KEPT, Once, Past};
pub use subscription::{HELD_BYTES, HELD_ITEMS, Item, Seen, Subscription};

use crate::flow::{Flow, NetCommand, NetEvent, Side};
use crate::hep::Hep;
use crate::message::Message;
use crate::proxy::{Core, Direction, Failed, Leg, contact};
use crate::upstream::Rollover;
use recent::Recent;
use subscription::Subscriber;

/// Traces at one time.
pub const TRACES: usize = 4;

/// What a new trace gets.
#[derive(Debug)]
pub enum Traced {
    /// Recent failures.
    Past(Past),
    /// What passes from now on.
    Live(Subscription),
}

/// As many traces run as may run at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{TRACES} traces run already, and no more may run at one time: end one of them")]
pub struct TooManyTraces;

/// Who looks, and the recent failures. It belongs to the driver.
#[derive(Debug, Default)]
pub struct Tap {
    subscribers: Vec<Subscriber>,
    recent: Recent,
    hep: Option<Hep>,
}

impl Tap {
    /// Whether anybody looks.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.hep.is_some() || !self.subscribers.is_empty()
    }

    /// Everything is copied there from now on.
    pub fn copy_to(&mut self, hep: Hep) {
        self.hep = Some(hep);
    }

    /// Something came in; called before the core takes it, while its flow is still there. `unix`: since 1970.
    pub fn heard(&mut self, event: &NetEvent, core: &Core, unix: Duration) {
        let (flow, bytes) = match event {
            NetEvent::Received { flow, bytes } => (*flow, bytes),
            NetEvent::Unframed { conn, bytes, .. } => (Flow::Conn(*conn), bytes),
            _ => return,
        };
        self.passed(flow, Direction::In, bytes, core, unix);
    }

    /// Something leaves.
    pub fn sends(&mut self, command: &NetCommand, core: &Core, unix: Duration) {
        if let NetCommand::Send { flow, bytes } = command {
            self.passed(*flow, Direction::Out, bytes, core, unix);
        }
    }

    fn passed(&mut self, flow: Flow, direction: Direction, bytes: &Bytes, core: &Core, unix: Duration) {
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            // A keep-alive.
            return;
        }
        let Some(leg) = core.leg(flow) else { return };
        if let Some(hep) = &self.hep {
            // Whoever scans the Internet must not fill somebody's Homer. A trace shows it: it may be a handset nobody thought of.
            if direction == Direction::Out || core.admits(&leg) {
                hep.copy(&leg, direction, bytes, unix);
            }
            if self.subscribers.is_empty() {
                return;
            }
        }
        let look = Look::new(leg, direction, bytes.clone(), core);
        for subscriber in &mut self.subscribers {
            if subscriber.filter.wants(&look) {
                subscriber.offer(Item::Message(look.seen(unix)));
            }
        }
    }

    /// A request failed. It is kept in any case. `now` and `unix` are the same moment.
    pub fn failed(&mut self, failed: Failed, now: Instant, unix: Duration) {
        for subscriber in self.subscribers.iter_mut().filter(|s| s.filter.wants_failure(&failed)) {
            if subscriber.filter.failures_only() {
                for item in recent::messages(&failed, now, unix) {
                    subscriber.offer(item);
                }
            }
            if let Some(note) = recent::note(&failed, unix) {
                subscriber.offer(note);
            }
        }
        self.recent.push(failed, now, unix);
    }

    /// Another target is active.
    pub fn rolled_over(&mut self, rollover: &Rollover, unix: Duration) {
        let item = Item::Rollover {
            at: unix,
            from: rollover.from.to_string(),
            to: rollover.to.to_string(),
            reason: rollover.reason.as_str(),
        };
        for subscriber in &mut self.subscribers {
            subscriber.offer(item.clone());
        }
        self.recent.rolled_over(item);
    }

    /// A new trace. `last`: only the failures since so long ago.
    pub fn trace(&mut self, filter: Filter, last: Option<Duration>, unix: Duration) -> Result<Traced, TooManyTraces> {
        if let Some(last) = last {
            return Ok(Traced::Past(self.recent.since(unix.saturating_sub(last))));
        }
        self.tidy();
        if self.subscribers.len() >= TRACES {
            return Err(TooManyTraces);
        }
        let (subscriber, subscription) = subscription::pair(filter);
        self.subscribers.push(subscriber);
        Ok(Traced::Live(subscription))
    }

    /// Forgets those who have gone, and says to the others what they lost. Called about once a second.
    pub fn tidy(&mut self) {
        self.subscribers.retain_mut(Subscriber::is_there);
    }
}

/// A message as the filters see it.
#[derive(Debug)]
pub(crate) struct Look {
    leg: Leg,
    direction: Direction,
    bytes: Bytes,
    /// What the handset is called: by the message, and by the binding that its Request-URI names.
    handset: Option<Box<str>>,
    called: Option<std::sync::Arc<str>>,
    call_id: Box<[u8]>,
}

impl Look {
    fn new(leg: Leg, direction: Direction, bytes: Bytes, core: &Core) -> Look {
        let message = Message::scan(bytes.clone()).ok();
        let called = message.as_ref().filter(|m| m.is_request() && leg.side == Side::Upstream);
        let called = called.and_then(|message| core.called(message));
        let handset = message.as_ref().and_then(|message| handset(message, &leg, direction));
        let call_id = message.as_ref().map_or(&[][..], Message::call_id).into();
        Look { leg, direction, bytes, handset, called, call_id }
    }

    fn seen(&self, unix: Duration) -> Seen {
        Seen {
            at: unix,
            leg: self.leg.clone(),
            direction: self.direction,
            handset: self.called.as_deref().or(self.handset.as_deref()).map(str::to_owned),
            call_id: self.call_id.clone(),
            // A copy: what it is a part of may be a large buffer of a stream.
            bytes: Bytes::copy_from_slice(&self.bytes),
        }
    }
}

/// The address of record of the handset that a message is from or for. Whoever sends a request, and whoever is sent its answer,
/// stands in From.
fn handset(message: &Message, leg: &Leg, direction: Direction) -> Option<Box<str>> {
    let to_us = direction == Direction::In;
    let from_the_handset = match leg.side {
        Side::Phone => to_us == message.is_request(),
        Side::Upstream => to_us != message.is_request(),
    };
    let party = if from_the_handset { message.from()? } else { message.to()? };
    contact::aor_of(message.bytes(), party.uri)
}
