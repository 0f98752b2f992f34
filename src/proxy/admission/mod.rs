//! Admission: whether there is room for one request more, and for whom.
//!
//! Three rules, in this order, none of which costs more than a lookup while there is room and nobody is in debt:
//!
//! 1. **Room.** A quarter of the transactions and of the memory is kept for REGISTERs of served handsets and for requests inside
//!    dialogs; everything else is refused beyond three quarters.
//! 2. **Fair shares.** Beyond one half, no source (an IPv4 address, an IPv6 /64) has more than an eighth of either.
//! 3. **Debts.** A source whose requests never succeed is throttled ([`debts`]).
//!
//! Handsets that this PBX has served are exempt from the last two, and the PBX from all but the first: a site behind one NAT
//! address is one source, and what is served there is never throttled. While no handset is known to be served, nobody is in debt.

mod debts;
mod shares;

use std::net::IpAddr;
use std::time::Instant;

use self::debts::Debts;
use self::shares::{Place, Shares};
use crate::flow::source_of;

/// What a request is to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// A REGISTER of a served handset, or a request inside a dialog that was set up through us.
    Reserved,
    /// Anything else of a served handset, or of the PBX.
    Served,
    /// Of a handset, while none is known to be served.
    Alike,
    /// Of a handset that was never served, while others are.
    Unserved,
}

/// How much is in use of what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Transactions that wait for more than retransmissions, and how many there may be.
    pub transactions: (usize, usize),
    /// Bytes of messages that are kept, and how many there may be.
    pub bytes: (usize, usize),
}

impl Load {
    /// More than so many eighths of either are in use.
    fn is_beyond(&self, eighths: usize) -> bool {
        [self.transactions, self.bytes]
            .iter()
            .any(|(used, whole)| used.saturating_mul(8) > whole.saturating_mul(eighths))
    }
}

/// The answer to a request that wants in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admitted,
    /// There is no room, or the source has its share of it.
    Full,
    /// The source's requests do not succeed.
    Throttled,
}

/// What came of a request, as far as its sender's debts are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    /// An answer that a well-meant request gets, too.
    Neutral,
    /// Asked for credentials.
    Challenged,
    Failed,
}

impl End {
    /// By the final answer's status; `None` where there was none.
    pub(crate) fn of(status: Option<u16>) -> Self {
        match status {
            Some(200..=299) => End::Succeeded,
            // Redirected, cancelled, busy, declined: somebody was there.
            Some(300..=399 | 423 | 486 | 487 | 600 | 603) => End::Neutral,
            Some(401 | 407) => End::Challenged,
            Some(_) | None => End::Failed,
        }
    }
}

/// What one request holds of its source's share, until it is given back.
#[derive(Debug)]
pub(crate) struct Seat {
    source: IpAddr,
    place: Place,
    bytes: usize,
    answered: bool,
}

#[derive(Debug)]
pub(super) struct Admission {
    shares: Shares,
    debts: Debts,
}

impl Admission {
    /// `rate`: requests in ten seconds that one source may let fail for good; 0: any number.
    pub(super) fn new(rate: u32) -> Self {
        Admission { shares: Shares::default(), debts: Debts::new(rate) }
    }

    pub(super) fn set_rate(&mut self, rate: u32) {
        self.debts.set_rate(rate);
    }

    /// Whether a request from this address is let in. `rank`, and whether the request carries credentials (`answers`), are
    /// asked only if it matters.
    pub(super) fn admits(
        &mut self,
        from: IpAddr,
        answers: impl FnOnce() -> bool,
        load: Load,
        now: Instant,
        rank: impl FnOnce() -> Rank,
    ) -> Verdict {
        let source = source_of(from);
        let (requests, bytes, unanswered) = self.shares.of(source);
        let in_debt = self.debts.is_throttled(source, unanswered, now);
        if !load.is_beyond(4) && !in_debt {
            return Verdict::Admitted;
        }
        let rank = rank();
        if load.is_beyond(8) || rank != Rank::Reserved && load.is_beyond(6) {
            return Verdict::Full;
        }
        if matches!(rank, Rank::Reserved | Rank::Served) {
            return Verdict::Admitted;
        }
        if rank == Rank::Unserved && in_debt && !(answers() && self.debts.may_answer(source)) {
            return Verdict::Throttled;
        }
        // A request that is forwarded has a transaction on either side.
        let has_its_share = requests * 2 >= (load.transactions.1 / 8).max(2) || bytes >= load.bytes.1 / 8;
        if load.is_beyond(4) && has_its_share { Verdict::Full } else { Verdict::Admitted }
    }

    /// A request was let in, and holds so many bytes.
    pub(super) fn seat(&mut self, from: IpAddr, bytes: usize) -> Seat {
        let source = source_of(from);
        let place = self.shares.take(source, bytes);
        Seat { source, place, bytes, answered: false }
    }

    /// Somebody beyond us has reacted to it.
    pub(super) fn answered(&mut self, seat: &mut Seat) {
        if !std::mem::replace(&mut seat.answered, true) {
            self.shares.answered(seat.place);
        }
    }

    /// It is over.
    pub(super) fn left(&mut self, mut seat: Seat) {
        self.answered(&mut seat);
        self.shares.give_back(seat.place, seat.bytes);
    }

    /// What came of a request. `rank` is asked only if it matters.
    pub(super) fn ended(&mut self, seat: &Seat, end: End, now: Instant, rank: impl FnOnce() -> Rank) {
        let counts = match end {
            End::Succeeded => self.debts.has_any(),
            End::Neutral => false,
            End::Challenged | End::Failed => self.debts.rate() > 0,
        };
        if !counts || rank() != Rank::Unserved {
            return;
        }
        match end {
            End::Succeeded => self.debts.pay(seat.source),
            End::Challenged | End::Failed => self.debts.charge(seat.source, end == End::Challenged, now),
            End::Neutral => {}
        }
    }

    /// Sources that hold something, and sources in debt.
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.shares.len(), self.debts.len()]
    }

    /// Bytes that all requests hold.
    pub(super) fn bytes(&self) -> usize {
        self.shares.bytes()
    }
}

#[cfg(test)]
mod tests;
