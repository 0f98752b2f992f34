//! What goes into the fleet's machine, and what comes out of it.

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use super::record::{Record, Stored};
use crate::upstream::{Plan, TargetId};

/// What happens to the fleet's machine.
#[derive(Debug, Clone)]
pub enum Event {
    /// The strikes are enough; upstream waits for an answer.
    Decide(Plan),
    /// The active target changed already: DNS or an operator decided.
    Moved(Plan),
    /// A REGISTER succeeded at the active target.
    Served,
    /// This target is active; the set may be another.
    Active(TargetId),
    /// From the shared memory.
    Word(Word),
}

/// What the shared memory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// There is a connection. Nothing was asked yet.
    Linked,
    /// It cannot be used, and why. What was asked is not answered any more.
    Away(Arc<str>),
    /// The answer to a [`Command::Beat`]: what stands there, and which instances were heard of lately.
    Read(Stored, Vec<Arc<str>>),
    /// A message about a move.
    Published(Record),
    /// The answer to a [`Command::Install`].
    Installed(Installed),
    /// The answer to a [`Command::Find`].
    Found(Found),
}

/// What stands in the shared memory of one handset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its ID, as it was asked for.
    pub id: Arc<str>,
    /// As it was written; blank where there is nothing.
    pub value: Vec<u8>,
    /// For how many seconds it is valid yet.
    pub remaining: u64,
    /// This machine has the address that its handset was registered through.
    pub here: bool,
}

/// What became of a [`Command::Install`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// It stands there.
    Won(Record),
    /// Another stands there, with an epoch as high or higher.
    Lost(Stored),
    /// That instance was served by the target after the first strike: nothing was stored.
    Spared(Arc<str>),
}

/// What is asked of the shared memory. At most one of each kind is unanswered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// This instance is there; what stands there?
    Beat {
        /// The last success at the fleet's target, with the epoch it belongs to.
        served: Option<(u64, Instant)>,
    },
    /// What is known of the handset with this ID?
    Find(Arc<str>),
    /// Store this, unless there is an epoch as high.
    Install {
        /// Its epoch is the next one, or the known one where the memory has lost it.
        record: Record,
        /// Not if another instance was served in the epoch before it after this time.
        unless_served_since: Option<Instant>,
    },
}

/// What the fleet's machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// For the shared memory.
    Ask(Command),
    /// Upstream makes the move that it planned.
    CarryOut(Plan),
    /// Upstream goes where the fleet went, and says so by [`Fleet::followed`](super::Fleet::followed).
    Follow(Record),
    /// Attempts need not wait any more.
    Begin,
}

/// Why a `rejoin` was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RejoinError {
    /// There is no `cluster`.
    #[error("this Holdline is alone: the setting cluster is blank")]
    Alone,
    /// Nothing was ever read.
    #[error("where the fleet is was never heard: its shared memory is away")]
    NoWord,
    /// It is where the fleet is.
    #[error("this instance is with the fleet, at {0}")]
    With(String),
    /// The target is not in the set.
    #[error("the fleet's target {0} is not in the set of this instance: its DNS says otherwise")]
    NoSuchTarget(String),
}
