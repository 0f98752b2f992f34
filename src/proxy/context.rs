//! Response contexts (RFC 3261 §16.7): one for each server transaction that was forwarded, with its tries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::bindings::Reach;
use super::contact::Upward;
use super::identity::BindingId;
use super::numbers::NumberMap;
use crate::flow::{ConnId, Flow, Hop, Transport};
use crate::message::{Message, Method};
use crate::transaction::{ClientId, ServerId};
use crate::upstream::Attempt;

/// The number of a response context. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ContextId(pub u64);

/// How a request reached us, and where its answers go.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// The flow it came in on.
    pub flow: Flow,
    /// The peer's address.
    pub source: SocketAddr,
    /// UDP, TCP or TLS.
    pub transport: Transport,
}

/// One response context.
#[derive(Debug)]
pub(super) struct Context {
    pub server: ServerId,
    /// In a box of its own: a context stays small enough for the allocator's quick lists.
    pub request: Box<Message>,
    pub method: Method,
    pub arrival: Arrival,
    pub received_at: Instant,
    /// A `100` went back, or need not.
    pub trying_sent: bool,
    /// The handset has its final answer, or shall have none: nothing more is relayed.
    pub finished: bool,
    /// A CANCEL for this INVITE was received.
    pub cancelled: bool,
    pub tries: SmallVec<[Try; 2]>,
    pub kind: Kind,
    /// The earliest wake-up already in the timer heap.
    pub scheduled: Option<Instant>,
}

/// What the context forwards.
#[derive(Debug)]
pub(super) enum Kind {
    /// A REGISTER, tried again and counted.
    Register(Box<Registering>),
    /// Any other request of a handset.
    Up {
        /// An INVITE nobody answered goes to the next target then.
        alternate: Option<Instant>,
        /// A request in a dialog whose target is not the active one, and silent, ends then.
        give_up: Option<Instant>,
        /// The best failure so far, while another branch may still do better (RFC 3261 §16.7 step 6).
        best: Option<Box<Message>>,
    },
    /// A request of upstream to a handset.
    Down {
        /// The handset's binding.
        id: BindingId,
        /// The handset's own Contact URI, which becomes the Request-URI; `None` where Path left it alone.
        contact: Option<Box<[u8]>>,
    },
}

/// What only a REGISTER has.
#[derive(Debug)]
pub(super) struct Registering {
    /// Tells handsets apart when strikes are counted.
    pub handset: u64,
    /// Call-ID and AOR, hashed: a higher CSeq ends an older one's tries.
    pub call: u64,
    pub cseq: u32,
    pub aor: Arc<str>,
    /// Where the handset is reached.
    pub reach: Reach,
    /// When no further try begins.
    pub deadline: Instant,
    /// When the next try begins; `None` while one runs or when there is none to come.
    pub next_try: Option<Instant>,
    /// Waits for the first record set.
    pub held: bool,
    /// No further try, because of a newer REGISTER of the same call.
    pub superseded: bool,
    /// No further try: the deadline passed, or every target had its turn.
    pub spent: bool,
    /// Instant failures since the target became active: the pace.
    pub instant_failures: u32,
    /// The failure response to relay when all else failed.
    pub last_failure: Option<Box<Message>>,
    /// Targets tried, each with the epoch of its first try.
    pub visited: SmallVec<[(Arc<str>, u64); 4]>,
    /// The target whose answer is relayed.
    pub answered_by: Option<Arc<str>>,
    /// The way that answer came, see [`super::conns::Conn::way`].
    pub answered_over: u64,
    /// What the Contacts became in the newest try.
    pub upward: Option<Upward>,
}

/// One branch of a context.
#[derive(Debug)]
pub(super) struct Try {
    /// Only for a REGISTER.
    pub attempt: Option<Attempt>,
    pub target: Arc<str>,
    pub flow: Option<Flow>,
    /// The hop, where it goes upstream.
    pub hop: Option<Hop>,
    pub client: Option<ClientId>,
    pub state: TryState,
    /// When an attempt without final answer fails.
    pub deadline: Option<Instant>,
    /// A provisional answer came.
    pub provisional: bool,
    /// Another branch has the call, or the caller hung up: only a 2xx of this one is still relayed.
    pub cancelled: bool,
    /// It went out on a connection that had been open before.
    pub reused: bool,
    /// It was sent once more after a reused connection was reset.
    pub resent: bool,
    /// Addresses of the target tried in this attempt.
    pub addresses: u8,
}

/// Where a try stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TryState {
    /// Waits for its connection.
    Opening(ConnId),
    /// Sent, not classed yet.
    Sent,
    /// Classed as failed for silence; a late answer is still welcome.
    Late,
    /// The registrar noticed the same request on an older branch; not an outcome.
    Merged,
    /// Answered, failed or given up.
    Closed,
}

impl Try {
    /// A try at a target that nothing has happened to yet.
    pub fn new(target: Arc<str>) -> Self {
        Try {
            attempt: None,
            target,
            flow: None,
            hop: None,
            client: None,
            state: TryState::Sent,
            deadline: None,
            provisional: false,
            cancelled: false,
            reused: false,
            resent: false,
            addresses: 0,
        }
    }

    /// A final answer may still come.
    pub fn is_open(&self) -> bool {
        matches!(self.state, TryState::Opening(_) | TryState::Sent | TryState::Late)
    }
}

impl Context {
    /// True if a branch older than `index`, sent in the same epoch, may still be answered.
    pub fn older_branch_open(&self, index: usize) -> bool {
        let Some(epoch) = self.tries.get(index).and_then(|t| t.attempt.as_ref()).map(|a| a.epoch) else { return false };
        self.tries[..index]
            .iter()
            .any(|t| t.state == TryState::Late && t.attempt.as_ref().is_some_and(|a| a.epoch == epoch))
    }

    /// The handset has its final answer, or shall have none: no further try begins.
    pub fn finish(&mut self) {
        self.finished = true;
        if let Kind::Register(state) = &mut self.kind {
            state.next_try = None;
            state.held = false;
        }
    }

    /// True while the final answer may still come from a branch. One that lost the call to another is not waited for.
    pub fn is_pending(&self) -> bool {
        let waits = |this: &Try| matches!(this.state, TryState::Opening(_) | TryState::Sent);
        self.tries.iter().any(|this| waits(this) && (self.cancelled || !this.cancelled))
    }

    /// True if no branch can bring anything any more.
    pub fn is_quiet(&self) -> bool {
        !self.tries.iter().any(Try::is_open)
    }
}

/// All response contexts, and which one a client transaction belongs to.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    table: NumberMap<ContextId, Box<Context>>,
    by_client: NumberMap<ClientId, (ContextId, u8)>,
    by_server: NumberMap<ServerId, ContextId>,
    waiting: NumberMap<ConnId, Vec<(ContextId, u8)>>,
    next: u64,
}

impl Contexts {
    /// A number for a new context, which its server transaction leads to. The context itself comes with [`Self::put`].
    pub fn begin(&mut self, server: ServerId) -> ContextId {
        self.next += 1;
        let id = ContextId(self.next);
        self.by_server.insert(server, id);
        id
    }

    /// Takes a context out to work on it; it goes back with [`Self::put`] or ends with [`Self::end`].
    pub fn take(&mut self, id: ContextId) -> Option<Box<Context>> {
        self.table.remove(&id)
    }

    /// Puts a context (back) into the table.
    pub fn put(&mut self, id: ContextId, context: Box<Context>) {
        self.table.insert(id, context);
    }

    /// Forgets what led to a context that was taken out. Its client transactions must have been dropped or have ended.
    pub fn end(&mut self, context: &Context) {
        self.by_server.remove(&context.server);
        for client in context.tries.iter().filter_map(|t| t.client) {
            self.by_client.remove(&client);
        }
    }

    pub fn get(&self, id: ContextId) -> Option<&Context> {
        self.table.get(&id).map(Box::as_ref)
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Those whose sender still waits for a final answer.
    pub fn unanswered(&self) -> usize {
        self.table.values().filter(|context| !context.finished).count()
    }

    /// The table's size, and those of what leads to it: by client, by server, by connection waited for.
    pub fn sizes(&self) -> [usize; 4] {
        [self.table.len(), self.by_client.len(), self.by_server.len(), self.waiting.len()]
    }

    pub fn ids(&self) -> Vec<ContextId> {
        self.table.keys().copied().collect()
    }

    pub fn of_server(&self, server: ServerId) -> Option<ContextId> {
        self.by_server.get(&server).copied()
    }

    /// A client transaction carries the try `index` of a context.
    pub fn bind(&mut self, client: ClientId, id: ContextId, index: usize) {
        self.by_client.insert(client, (id, index as u8));
    }

    pub fn of_client(&self, client: ClientId) -> Option<(ContextId, usize)> {
        self.by_client.get(&client).map(|(id, index)| (*id, usize::from(*index)))
    }

    pub fn unbind(&mut self, client: ClientId) -> Option<(ContextId, usize)> {
        self.by_client.remove(&client).map(|(id, index)| (id, usize::from(index)))
    }

    /// A try waits for a connection to open.
    pub fn wait_for(&mut self, conn: ConnId, id: ContextId, index: usize) {
        self.waiting.entry(conn).or_default().push((id, index as u8));
    }

    /// The tries that waited for this connection, once.
    pub fn waited_for(&mut self, conn: ConnId) -> Vec<(ContextId, usize)> {
        let waiting = self.waiting.remove(&conn).unwrap_or_default();
        waiting.into_iter().map(|(id, index)| (id, usize::from(index))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// glibc keeps freed blocks of up to 1032 bytes at hand; larger ones cost a search and a merge each time.
    #[test]
    fn what_every_register_allocates_stays_small() {
        for (what, size) in [
            ("context", size_of::<Context>()),
            ("registering", size_of::<Registering>()),
            ("message", size_of::<Message>()),
        ] {
            assert!(size <= 1_032, "{what}: {size} bytes");
        }
    }
}
