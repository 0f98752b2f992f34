//! One reader of the tap: a bounded queue, and the number of what did not fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Filter;
use crate::proxy::{Direction, Leg};

/// Items that wait for one reader.
pub const HELD_ITEMS: usize = 1024;

/// Bytes of messages that wait for one reader.
pub const HELD_BYTES: usize = 1 << 20;

/// What a trace is made of.
#[derive(Debug, Clone)]
pub enum Item {
    /// A message that passed.
    Message(Seen),
    /// An attempt failed.
    Attempt {
        /// Since 1970.
        at: Duration,
        /// The handset's address of record.
        handset: Option<String>,
        /// The target.
        target: String,
        /// A status, or why there was no answer.
        outcome: String,
        /// Whether it was a strike.
        strike: bool,
        /// Strikes against the target that is active by then.
        strikes: u32,
    },
    /// Another target is active.
    Rollover {
        /// Since 1970.
        at: Duration,
        /// The target that was left.
        from: String,
        /// The target that is active now.
        to: String,
        /// The metric label of the reason.
        reason: &'static str,
    },
    /// So many items did not fit.
    Lost(u64),
}

/// A message that passed, its secrets still in it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Since 1970.
    pub at: Duration,
    /// Where it passed.
    pub leg: Leg,
    /// To us, or from us.
    pub direction: Direction,
    /// The handset's address of record, as far as the message says it.
    pub handset: Option<String>,
    /// Empty where it could not be read.
    pub call_id: Box<[u8]>,
    /// The whole of it.
    pub bytes: Bytes,
}

/// The writing end: the driver's.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub filter: Filter,
    items: mpsc::Sender<Item>,
    held: Arc<AtomicUsize>,
    lost: u64,
}

/// The reading end.
#[derive(Debug)]
pub struct Subscription {
    items: mpsc::Receiver<Item>,
    held: Arc<AtomicUsize>,
}

pub(super) fn pair(filter: Filter) -> (Subscriber, Subscription) {
    let (to, items) = mpsc::channel(HELD_ITEMS);
    let held = Arc::new(AtomicUsize::new(0));
    (Subscriber { filter, items: to, held: held.clone(), lost: 0 }, Subscription { items, held })
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Item::Message(seen) => seen.bytes.len(),
            Item::Attempt { .. } | Item::Rollover { .. } | Item::Lost(_) => 0,
        }
    }
}

impl Subscriber {
    /// Hands an item over, or counts it as lost.
    pub(super) fn offer(&mut self, item: Item) {
        let size = item.size();
        // What was lost is said in front of the next item that fits, not between those that do not.
        if self.held.load(Ordering::Relaxed) + size > HELD_BYTES || !self.says_what_was_lost() {
            self.lost += 1;
            return;
        }
        self.held.fetch_add(size, Ordering::Relaxed);
        if self.items.try_send(item).is_err() {
            self.held.fetch_sub(size, Ordering::Relaxed);
            self.lost += 1;
        }
    }

    /// Whether its reader is there. What that one lost is said as soon as there is room.
    pub(super) fn is_there(&mut self) -> bool {
        self.says_what_was_lost();
        !self.items.is_closed()
    }

    /// False while there is no room even for that.
    fn says_what_was_lost(&mut self) -> bool {
        if self.lost > 0 && self.items.try_send(Item::Lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        self.lost == 0
    }
}

impl Subscription {
    /// The next item; `None` when the driver has ended.
    pub async fn next(&mut self) -> Option<Item> {
        let item = self.items.recv().await?;
        self.held.fetch_sub(item.size(), Ordering::Relaxed);
        Some(item)
    }

    /// The next item, if there is one already.
    pub fn ready(&mut self) -> Option<Item> {
        let item = self.items.try_recv().ok()?;
        self.held.fetch_sub(item.size(), Ordering::Relaxed);
        Some(item)
    }
}
