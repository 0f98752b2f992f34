//! Transactions: RFC 3261 §17 with RFC 6026 (the Accepted state, Timers L and M) and RFC 4320 (what a non-INVITE may be
//! answered, and when).
//!
//! ```text
//!  request  ─► receive_request ─► Inbound::New ─► the caller routes it ─► send_request ─► TxAction::Send ─►
//!  ◄─ TxAction::Send ◄─ respond ◄─ the caller relays ◄─ Answer ◄─ receive_response_if ◄─ response
//! ```
//!
//! [`Transactions`] holds both tables, finds the transaction of a message, and does what the four machines (one file
//! each) ask: it retransmits, absorbs retransmissions, acknowledges failures of an INVITE and forgets in time. It reads
//! no clock: after every call drain [`Transactions::poll_action`], and call [`Transactions::handle_timeout`] once the
//! time of [`Transactions::poll_timeout`] has come. `now` must not go backwards.
//!
//! Bounded: server and client transactions together never exceed the limit. At the limit the oldest *completed* one
//! (which only waits for retransmissions) goes, then the INVITE that was answered longest ago, if that is two seconds; if
//! all others are open, the newcomer is refused.

mod action;
mod client;
mod fingerprint;
mod flows;
mod hop_by_hop;
mod invite_client;
mod invite_server;
mod key;
mod non_invite_client;
mod non_invite_server;
mod queue;
mod server;
mod table;
mod timers;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::client::Client;
pub use self::client::Outgoing;
use self::fingerprint::Seed;
use self::flows::Flows;
use self::queue::{Queue, Wake};
use self::server::Server;
use self::table::{Id, Table};
pub use self::timers::{Letter, Timers};
use crate::flow::{Cause, Flow};

/// A server transaction: a request that came in. Never used twice; a number kept too long is ignored everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(Id);

/// A client transaction: a request that was sent. Never used twice; a number kept too long is ignored everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Id);

/// The result of receiving a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// Never seen before: answer it with [`Transactions::respond`], or [`Transactions::abandon`] it.
    New(ServerId),
    /// Absorbed. The last response was sent again, if there is one.
    Retransmission,
    /// An ACK of a 2xx, or of nothing known: the caller routes it end to end.
    Ack,
    /// An ACK of a non-2xx answer: hop by hop, it ends here.
    AckAbsorbed,
    /// A CANCEL: a transaction of its own, to be answered 200 (or 481 if it cancels nothing).
    Cancel {
        /// The CANCEL's own transaction.
        own: ServerId,
        /// The INVITE it cancels, in whatever state it is.
        invite: Option<ServerId>,
    },
    /// The table is full of live transactions: 503 without one.
    Full,
}

/// A response that is new to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The client transaction it answers.
    pub client: ClientId,
    /// Its status code, 100–699.
    pub status: u16,
}

/// The result of receiving a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The caller has to deal with it.
    New(Answer),
    /// A retransmission, or the answer to a CANCEL of our own: its transaction took it.
    Absorbed,
    /// It matches no transaction, or comes from where its request did not go.
    Stray,
}

/// The table is full of live transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableFull;

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the transaction table is full")
    }
}

impl std::error::Error for TableFull {}

/// What [`Transactions`] asks of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxAction {
    /// Send these bytes.
    Send {
        /// Where to.
        flow: Flow,
        /// A whole message.
        bytes: Bytes,
        /// It has been sent before.
        retransmission: bool,
    },
    /// No final answer in time (Timer B or F, or 64·T1 after a CANCEL). `ClientEnded` follows.
    ClientTimeout(ClientId),
    /// Timer C ran out: the INVITE rings for more than three minutes and is to be ended by [`Transactions::cancel`], RFC 3261
    /// §16.8.
    ClientTimerC(ClientId),
    /// The transport failed so before a final answer. `ClientEnded` follows.
    ClientTransportError(ClientId, Cause),
    /// The last action about a client transaction that was not dropped.
    ClientEnded(ClientId),
    /// The last action about a server transaction.
    ServerEnded(ServerId),
}

/// Both transaction tables of one element.
#[derive(Debug)]
pub struct Transactions {
    timers: Timers,
    limit: usize,
    seed: Seed,
    servers: Table<Server>,
    clients: Table<Client>,
    live: Flows,
    wakes: Queue<Owner>,
    /// In the order of their completion; those that have ended since are recognised by their dead number.
    completed: VecDeque<Owner>,
    /// INVITEs that have their final answer, in the order of that; as above.
    answered: VecDeque<(Instant, Owner)>,
    /// Those that wait for more than retransmissions.
    open: usize,
    /// Bytes of the messages kept.
    held: usize,
    actions: VecDeque<TxAction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Server(Id),
    Client(Id),
}

/// An answered INVITE is not evicted before this: its ACK, and an answer that was lost, come within three retransmissions.
const ANSWERED_STAYS: Duration = Duration::from_secs(2);

/// Fewer dead entries in a queue than this are not worth sweeping.
const SLACK: usize = 1024;

impl Transactions {
    /// `limit`: server and client transactions together, at least one. `seed`: sixteen secret random bytes, under which
    /// the identities of transactions are hashed, so that no untrusted peer can make two of them collide.
    #[must_use]
    pub fn with_seed(timers: Timers, limit: usize, seed: [u8; 16]) -> Self {
        Transactions {
            timers,
            limit: limit.max(1),
            seed: Seed::new(seed),
            servers: Table::new(),
            clients: Table::new(),
            live: Flows::default(),
            wakes: Queue::new(&timers.durations()),
            completed: VecDeque::new(),
            answered: VecDeque::new(),
            open: 0,
            held: 0,
            actions: VecDeque::new(),
        }
    }

    /// Runs every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(wake) = self.wakes.pop_if(|wake| wake.at <= now) {
            if !is_current(&self.servers, &self.clients, &wake) {
                continue;
            }
            match wake.owner {
                Owner::Server(id) => self.server_timeout(id, now),
                Owner::Client(id) => self.client_timeout(id, now),
            }
        }
        // An entry whose timer was cancelled meanwhile wakes nothing.
        let (servers, clients) = (&self.servers, &self.clients);
        while self.wakes.pop_if(|wake| !is_current(servers, clients, wake)).is_some() {}
    }

    /// The time at which [`Transactions::handle_timeout`] is to be called; there may turn out to be nothing to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wakes.next()
    }

    /// The next action, in order.
    pub fn poll_action(&mut self) -> Option<TxAction> {
        self.actions.pop_front()
    }

    /// Whether [`Transactions::poll_action`] has something to hand out.
    #[must_use]
    pub fn wants_something(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Server and client transactions in every state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// Server and client transactions that wait for more than retransmissions: what cannot be evicted, but for INVITEs answered
    /// within two seconds.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Bytes of the requests, responses, ACKs and CANCELs that are kept to be sent again.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// No transaction is left, not even one that waits for retransmissions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn wake(&mut self, owner: Owner, at: Option<Instant>, now: Instant) {
        let Some(at) = at else { return };
        self.wakes.push(owner, at, now);
        if self.wakes.len() > 2 * self.len() + SLACK {
            let (servers, clients) = (&self.servers, &self.clients);
            self.wakes.retain(|wake| is_current(servers, clients, wake));
        }
    }

    fn completed(&mut self, owner: Owner) {
        self.completed.push_back(owner);
        if self.completed.len() > 2 * self.len() + SLACK {
            let (servers, clients) = (&self.servers, &self.clients);
            self.completed.retain(|owner| is_there(servers, clients, *owner));
            self.completed.shrink_to(2 * self.completed.len());
        }
    }

    fn answered(&mut self, owner: Owner, now: Instant) {
        self.answered.push_back((now, owner));
        if self.answered.len() > 2 * self.len() + SLACK {
            let (servers, clients) = (&self.servers, &self.clients);
            self.answered.retain(|(_, owner)| is_there(servers, clients, *owner));
            self.answered.shrink_to(2 * self.answered.len());
        }
    }

    /// Sets another limit. Where there are more transactions already, the completed ones go first; the live ones end in their own
    /// time.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Makes room for one more, if need be by ending the transactions that completed first, then those answered first. False:
    /// all are needed.
    fn make_room(&mut self, now: Instant) -> bool {
        while self.len() >= self.limit {
            let completed = self.completed.pop_front();
            let Some(owner) = completed.or_else(|| self.answered_long_ago(now)) else { return false };
            // Those that have ended since are not there any more.
            let _ended = self.end(owner);
        }
        true
    }

    /// Ends those that completed first while all together keep more bytes than this.
    pub fn relieve(&mut self, most: usize) {
        while self.held > most
            && let Some(owner) = self.completed.pop_front()
        {
            self.end(owner);
        }
    }

    /// False if it had ended already.
    fn end(&mut self, owner: Owner) -> bool {
        match owner {
            Owner::Server(id) => self.end_server(id),
            Owner::Client(id) => self.end_client(id),
        }
    }

    fn answered_long_ago(&mut self, now: Instant) -> Option<Owner> {
        let (at, _) = self.answered.front()?;
        (now.saturating_duration_since(*at) >= ANSWERED_STAYS)
            .then(|| self.answered.pop_front())?
            .map(|(_, owner)| owner)
    }
}

fn is_there(servers: &Table<Server>, clients: &Table<Client>, owner: Owner) -> bool {
    match owner {
        Owner::Server(id) => servers.get(id).is_some(),
        Owner::Client(id) => clients.get(id).is_some(),
    }
}

/// Whether an entry of the timer queue is still what its owner waits for.
fn is_current(servers: &Table<Server>, clients: &Table<Client>, wake: &Wake<Owner>) -> bool {
    let deadline = match wake.owner {
        Owner::Server(id) => servers.get(id).and_then(Server::poll_timeout),
        Owner::Client(id) => clients.get(id).and_then(Client::poll_timeout),
    };
    deadline == Some(wake.at)
}

#[cfg(test)]
mod tests;
