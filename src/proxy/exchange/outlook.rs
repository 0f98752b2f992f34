//! What a relay sees of the world, and what it wishes for. No bytes, no sockets, no log: a relay is tested in a table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::flow::{Cause, Flow, Hop, Transport};
use crate::proxy::flows::addresses::Addresses;
use crate::proxy::journal::AttemptEnded;
use crate::proxy::site::settings::{Exhausted, Settings};
use crate::transaction::ClientId;
use crate::upstream::Upstream;

/// The place of a branch in its exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BranchId(pub u16);

/// How long and how often is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Try again within the handset's transaction.
    pub retry: bool,
    pub attempt_timeout: Duration,
    pub exhausted: Exhausted,
    pub invite_alternate: bool,
}

impl From<&Settings> for Policy {
    fn from(settings: &Settings) -> Self {
        Policy {
            retry: settings.retry,
            attempt_timeout: settings.attempt_timeout,
            exhausted: settings.exhausted,
            invite_alternate: settings.invite_alternate,
        }
    }
}

/// What a relay looks at while it decides: whose turn it is, what an outcome counts as, and the time.
#[derive(Debug)]
pub(crate) struct Outlook<'c> {
    pub upstream: &'c mut Upstream,
    pub addresses: &'c mut Addresses,
    /// What the upstream side speaks.
    pub transport: Transport,
    pub policy: Policy,
    pub now: Instant,
}

/// Why a branch failed without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub cause: Cause,
    /// The transports' words for it.
    pub detail: Option<Arc<str>>,
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Failure { cause, detail: None }
    }
}

/// What happens to a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum In {
    /// It may begin.
    Begin,
    /// A branch failed without an answer.
    Lost(BranchId, Failure),
    /// A branch failed, by an ICMP error, at a target that has answered before: it may yet be answered.
    Unreached(BranchId, Failure),
    /// A provisional answer.
    Provisional(BranchId, u16),
    /// A final answer: its status and the peer's words. The answer itself is at hand.
    Answered(BranchId, u16, Option<Arc<str>>),
    /// Timer B or F: this branch will not be answered any more. Its client transaction is gone.
    Over(BranchId),
    /// Another target is active.
    RolledOver,
    /// The first record set is there.
    TargetsKnown,
    /// A newer REGISTER of the same call came.
    Superseded,
    /// The sender cancels its INVITE.
    Cancelled,
    /// Time has passed.
    Timeout,
}

/// Why an INVITE is cancelled, which its CANCEL says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The sender cancels: what it said itself, in the CANCEL at hand.
    Sender,
    /// This is what another branch was answered, or what the sender is told.
    Status(u16),
}

/// What a relay wishes for. The wishes are carried out in their order, before anything else happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Out {
    /// Send a branch to this hop.
    Launch(BranchId, Hop),
    /// Send a branch on this flow.
    Send(BranchId, Flow),
    /// No more retransmissions.
    Hush(ClientId),
    /// No more requests on this connection, unless something was heard on it since: an attempt timed out on it.
    Suspect(Flow, Instant),
    /// A client transaction whose answers nobody wants.
    Forget(ClientId),
    /// CANCEL it, and say why.
    Cancel(ClientId, Reason),
    /// Wake it when the first record set is there.
    Hold,
    /// This flow carries a dialog from now on; `None`: the one the request came on.
    Dialog(Option<Flow>),
    /// Relay the answer at hand, which came on this branch.
    Relay(BranchId),
    /// Keep the answer at hand.
    Keep,
    /// Relay the answer that was kept.
    RelayKept,
    /// Answer it ourselves; where there is a number, with so many seconds of Retry-After.
    Answer(u16, &'static str, Option<u32>),
    /// No final answer at all (RFC 4320 §4.2).
    Abandon,
    /// An attempt ended.
    Ended(BranchId, AttemptEnded),
    /// A REGISTER is tried again.
    Retried,
    /// Every try failed.
    Exhausted,
    /// There was no target before the deadline.
    NoTarget,
}

/// Wishes in their order: one buffer, used again for every event.
pub(crate) type Outbox = SmallVec<[Out; 8]>;
