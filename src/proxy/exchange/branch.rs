//! One branch of an exchange: one try at one target, or at a handset.
//!
//! ```text
//! Launched ──► Opening ──► Sent ──► Closed
//!     │                     ├─────► Late     classed as silent; a late answer is welcome
//!     └────────► Sent       ├─────► Merged   the registrar saw the same request twice
//!                           └─────► Answered an INVITE's: its transaction lives on for more 2xx (RFC 6026)
//! ```
//!
//! Each state owns its deadline and its handles. A target's other addresses, and the one repetition after a reset of a
//! connection that had been open before, belong to the same branch.

use std::time::Instant;

use smallvec::SmallVec;

use super::outlook::{BranchId, Outlook};
use crate::flow::{Cause, ConnId, Flow, Hop};
use crate::proxy::flows::addresses::MOST_TRIED;
use crate::transaction::ClientId;
use crate::upstream::{Attempt, TargetId};

/// Where a branch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Wished for, and carried out next.
    Launched {
        /// When the attempt fails.
        until: Option<Instant>,
    },
    /// Waits for its connection.
    Opening { conn: ConnId, until: Option<Instant> },
    /// Sent, no final answer yet.
    Sent {
        client: ClientId,
        until: Option<Instant>,
        /// A provisional answer came.
        provisional: bool,
    },
    /// Classed as failed for silence; a late answer is still welcome.
    Late { client: ClientId },
    /// An INVITE's final answer came; the transaction waits for more 2xx, or to acknowledge again.
    Answered { client: ClientId },
    /// The registrar noticed the same request on an older branch: not an outcome.
    Merged { until: Option<Instant> },
    /// Answered, failed or given up.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Branch {
    /// The target's label; empty for a handset.
    pub target: TargetId,
    /// Only of a REGISTER.
    pub attempt: Option<Attempt>,
    pub state: State,
    /// What it was sent on last.
    pub flow: Option<Flow>,
    /// Another branch has the call, or the caller hung up: only a 2xx of this one is still relayed.
    pub cancelled: bool,
    /// The hop, where it goes upstream.
    hop: Option<Hop>,
    /// It went out on a connection that had been open before.
    reused: bool,
    /// It was sent once more after a reused connection was reset.
    resent: bool,
    /// An ICMP error was endured.
    endured: bool,
    /// Addresses of the target tried on this branch.
    addresses: u8,
}

impl Branch {
    /// A branch to a target that nothing has happened to yet.
    pub(crate) fn new(target: TargetId, attempt: Option<Attempt>, until: Option<Instant>) -> Self {
        Branch {
            target,
            attempt,
            state: State::Launched { until },
            flow: None,
            cancelled: false,
            hop: None,
            reused: false,
            resent: false,
            endured: false,
            addresses: 0,
        }
    }

    /// It goes to this hop now.
    pub(crate) fn launched(&mut self, hop: &Hop) {
        self.hop = Some(hop.clone());
        self.addresses = self.addresses.saturating_add(1);
    }

    /// Its connection is being opened.
    pub(crate) fn opening(&mut self, conn: ConnId) {
        let until = self.until();
        self.state = State::Opening { conn, until };
    }

    /// Whether it waits for this connection.
    pub(crate) fn waits_for(&self, conn: ConnId) -> bool {
        matches!(self.state, State::Opening { conn: awaited, .. } if awaited == conn)
    }

    /// It went out. `reused`: on a connection that had been open before.
    pub(crate) fn sent(&mut self, client: ClientId, flow: Flow, reused: bool) {
        let until = self.until();
        self.flow = Some(flow);
        self.reused = reused;
        self.state = State::Sent { client, until, provisional: false };
    }

    /// A provisional answer came.
    pub(crate) fn ringing(&mut self) {
        if let State::Sent { provisional, .. } = &mut self.state {
            *provisional = true;
        }
    }

    /// The client transaction that carries it.
    pub(crate) fn client(&self) -> Option<ClientId> {
        match self.state {
            State::Sent { client, .. } | State::Late { client } | State::Answered { client } => Some(client),
            State::Launched { .. } | State::Opening { .. } | State::Merged { .. } | State::Closed => None,
        }
    }

    /// When its attempt fails, as far as that is still open.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.state {
            State::Launched { until }
            | State::Opening { until, .. }
            | State::Sent { until, .. }
            | State::Merged { until } => until,
            State::Late { .. } | State::Answered { .. } | State::Closed => None,
        }
    }

    pub(crate) fn is_provisional(&self) -> bool {
        matches!(self.state, State::Sent { provisional: true, .. })
    }

    pub(crate) fn is_late(&self) -> bool {
        matches!(self.state, State::Late { .. })
    }

    /// A first final answer may still come.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, State::Launched { .. } | State::Opening { .. } | State::Sent { .. })
    }

    /// Something may still come.
    pub(crate) fn is_open(&self) -> bool {
        self.is_pending() || matches!(self.state, State::Late { .. } | State::Answered { .. })
    }

    /// Gives it up; the client transaction that is not wanted any more.
    pub(crate) fn close(&mut self) -> Option<ClientId> {
        let client = self.client();
        self.state = State::Closed;
        client
    }

    /// It failed without an answer: where it goes on, if it does. A reset of a reused connection is sent once more on a fresh
    /// one; a target's next address is tried when one cannot be reached.
    pub(crate) fn next_hop(&mut self, cause: Cause, outlook: &mut Outlook<'_>) -> Option<Hop> {
        // What this machine lacks, it lacks for every address.
        if !self.is_pending() || self.is_provisional() || cause == Cause::Local {
            return None;
        }
        let hop = self.hop.clone()?;
        if self.reused && !self.resent && ends_a_connection(cause) {
            self.resent = true;
            self.reused = false;
            self.addresses = self.addresses.saturating_sub(1);
            return Some(hop);
        }
        let target = outlook.upstream.targets().iter().find(|target| target.label == self.target)?;
        // The next request begins with another address, too.
        outlook.addresses.pass(target, hop.addr.ip());
        if usize::from(self.addresses) >= target.addresses.len().min(MOST_TRIED) {
            return None;
        }
        outlook.addresses.hop_to(target, outlook.transport)
    }

    /// An ICMP error came from a target that has not answered yet. It may not last, as while a PBX restarts: where nothing else is to
    /// be tried, the first one is endured, and the request goes on being sent.
    pub(crate) fn endures(&mut self, outlook: &Outlook<'_>) -> bool {
        let target = outlook.upstream.targets().iter().find(|target| target.label == self.target);
        let alone = target.is_none_or(|target| target.addresses.len() < 2);
        alone && !std::mem::replace(&mut self.endured, true)
    }

    /// A whole attempt's silence leaves no time for the target's other addresses: the next attempt begins with another.
    pub(crate) fn pass_over_silent(&self, outlook: &mut Outlook<'_>) {
        if let Some(hop) = self.hop.as_ref().filter(|_| !self.is_provisional())
            && let Some(target) = outlook.upstream.targets().iter().find(|target| target.label == self.target)
        {
            outlook.addresses.pass(target, hop.addr.ip());
        }
    }
}

/// Whether this is how a connection that was open ends: a peer that reset it, fell silent under it, or broke its TLS. A
/// datagram's errors are not among them.
fn ends_a_connection(cause: Cause) -> bool {
    match cause {
        Cause::Reset | Cause::Timeout | Cause::Tls => true,
        Cause::Refused | Cause::Unreachable | Cause::Unresolved | Cause::Local => false,
    }
}

/// The branches of one exchange, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Branches(SmallVec<[Branch; 2]>);

impl Branches {
    pub(crate) fn push(&mut self, branch: Branch) -> BranchId {
        self.0.push(branch);
        BranchId((self.0.len() - 1) as u16)
    }

    pub(crate) fn get(&self, id: BranchId) -> Option<&Branch> {
        self.0.get(usize::from(id.0))
    }

    pub(crate) fn get_mut(&mut self, id: BranchId) -> Option<&mut Branch> {
        self.0.get_mut(usize::from(id.0))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (BranchId, &Branch)> {
        self.0.iter().enumerate().map(|(place, branch)| (BranchId(place as u16), branch))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (BranchId, &mut Branch)> {
        self.0.iter_mut().enumerate().map(|(place, branch)| (BranchId(place as u16), branch))
    }

    pub(crate) fn last(&self) -> Option<&Branch> {
        self.0.last()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// No branch can bring anything any more.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.0.iter().any(Branch::is_open)
    }

    /// A branch whose attempt is no outcome waits for the older one's.
    pub(crate) fn is_merged(&self) -> bool {
        self.0.iter().any(|branch| matches!(branch.state, State::Merged { .. }))
    }

    /// A branch older than this one, sent in the same epoch, may still be answered.
    pub(crate) fn older_is_open(&self, id: BranchId) -> bool {
        let epoch = |branch: &Branch| branch.attempt.as_ref().map(|attempt| attempt.epoch);
        let Some(this) = self.get(id).and_then(epoch) else { return false };
        self.0[..usize::from(id.0)].iter().any(|older| older.is_late() && epoch(older) == Some(this))
    }
}
