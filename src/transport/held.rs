//! Bytes that connections hold: half-read messages and what waits to be written. Each connection has bounds of its own; this is
//! the sum, and at the budget the connection that holds most is closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::flow::Side;

/// What a connection's task is told.
#[derive(Debug)]
pub(super) enum Order {
    Write(Bytes),
    Finish,
    Abort,
    /// All together hold too much, and this one most.
    Yield,
}

/// All of them together.
#[derive(Debug, Clone)]
pub(super) struct Ledger(Arc<Mutex<Books>>);

#[derive(Debug)]
struct Books {
    budget: usize,
    total: usize,
    next: u64,
    holders: HashMap<u64, Account>,
}

/// One connection's.
#[derive(Debug)]
struct Account {
    side: Side,
    queued: usize,
    buffered: usize,
    end: mpsc::WeakUnboundedSender<Order>,
    /// It was told to end: what it holds is as good as free.
    closed: bool,
}

impl Account {
    fn held(&self) -> usize {
        if self.closed { 0 } else { self.queued + self.buffered }
    }
}

/// A connection's own line in the ledger, gone when this is dropped.
#[derive(Debug)]
pub(super) struct Holding {
    ledger: Weak<Mutex<Books>>,
    number: u64,
}

impl Ledger {
    pub(super) fn new(budget: usize) -> Self {
        Ledger(Arc::new(Mutex::new(Books { budget, total: 0, next: 0, holders: HashMap::new() })))
    }

    /// Bytes held by all connections.
    pub(super) fn total(&self) -> usize {
        lock(&self.0).total
    }

    /// A connection that ends when it is told so by `end`.
    pub(super) fn open(&self, side: Side, end: &mpsc::UnboundedSender<Order>) -> Holding {
        let mut books = lock(&self.0);
        let number = books.next;
        books.next += 1;
        let account = Account { side, queued: 0, buffered: 0, end: end.downgrade(), closed: false };
        books.holders.insert(number, account);
        Holding { ledger: Arc::downgrade(&self.0), number }
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Books {
    /// Phones' connections go first: one to the PBX carries everybody's.
    fn settle(&mut self) {
        while self.total > self.budget {
            let most = self.holders.values_mut().max_by_key(|account| {
                let held = account.held();
                (held > 0, account.side == Side::Phone, held)
            });
            let Some(account) = most.filter(|account| account.held() > 0) else { return };
            self.total -= account.held();
            account.closed = true;
            if let Some(end) = account.end.upgrade() {
                // One that has just ended by itself needs no telling.
                let _ = end.send(Order::Yield);
            }
        }
    }

    fn change(&mut self, number: u64, change: impl FnOnce(&mut Account)) {
        let Some(account) = self.holders.get_mut(&number) else { return };
        let before = account.held();
        change(account);
        self.total = self.total + account.held() - before;
        if account.held() > before {
            self.settle();
        }
    }
}

impl Holding {
    fn change(&self, change: impl FnOnce(&mut Account)) {
        if let Some(books) = self.ledger.upgrade() {
            lock(&books).change(self.number, change);
        }
    }

    /// So many bytes more wait to be written, if there are not more than `limit` then. False: nothing has changed.
    pub(super) fn queue(&self, length: usize, limit: usize) -> bool {
        let mut fits = true;
        self.change(|account| {
            fits = account.queued + length <= limit;
            if fits {
                account.queued += length;
            }
        });
        fits
    }

    /// So many bytes were written.
    pub(super) fn written(&self, length: usize) {
        self.change(|account| account.queued = account.queued.saturating_sub(length));
    }

    /// The half-read message takes so many bytes now.
    pub(super) fn buffer(&self, length: usize) {
        self.change(|account| account.buffered = length);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(books) = self.ledger.upgrade() {
            let mut books = lock(&books);
            if let Some(account) = books.holders.remove(&self.number) {
                books.total -= account.held();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_budget_the_phone_that_holds_most_goes_and_a_pbx_only_if_no_phone_holds_anything() {
        let ledger = Ledger::new(100);
        let open = |side| {
            let (to, from) = mpsc::unbounded_channel();
            let holding = ledger.open(side, &to);
            (holding, to, from)
        };
        let (pbx, _pbx_to, mut pbx_from) = open(Side::Upstream);
        let (small, _small_to, mut small_from) = open(Side::Phone);
        let (large, _large_to, mut large_from) = open(Side::Phone);
        assert!(pbx.queue(60, 1000) && small.queue(10, 1000));
        large.buffer(20);
        assert_eq!(ledger.total(), 90);
        assert!(!small.queue(1000, 1000), "its own bound");
        large.buffer(40);
        assert!(matches!(large_from.try_recv(), Ok(Order::Yield)));
        assert!(small_from.try_recv().is_err() && pbx_from.try_recv().is_err());
        assert_eq!(ledger.total(), 70);
        large.buffer(41);
        assert_eq!(ledger.total(), 70, "what ends anyway is not counted twice");
        assert!(pbx.queue(40, 1000));
        assert!(matches!(small_from.try_recv(), Ok(Order::Yield)));
        assert_eq!(ledger.total(), 100);
        assert!(pbx.queue(1, 1000));
        assert!(matches!(pbx_from.try_recv(), Ok(Order::Yield)));
        drop((pbx, small, large));
        assert_eq!(ledger.total(), 0);
        assert!(lock(&ledger.0).holders.is_empty());
    }
}
