//! What goes into the core, and what comes out of it.

use super::site::{Reload, Settings, Socket};
use super::traced::Failed;
use crate::fleet::{self, Fleet};
use crate::flow::{NetCommand, NetEvent, Transport};
use crate::upstream::{LookupFailure, Persisted, RecordSet, Rollover, Upstream};

/// What happens to the core.
#[derive(Debug)]
pub enum Event {
    /// From the transports.
    Net(NetEvent),
    /// The answer to an [`Action::Lookup`].
    Lookup(Result<RecordSet, LookupFailure>),
    /// SIGTERM: no new dialogs, finish what is open.
    Drain,
    /// Other settings from now on, as far as they may change.
    Settings(Box<Reload>),
    /// What the fleet's shared memory says.
    Fleet(fleet::Word),
}

/// What the core wants done.
#[derive(Debug)]
pub enum Action {
    /// For the transports.
    Net(NetCommand),
    /// Ask DNS for the configured source, and answer with [`Event::Lookup`].
    Lookup,
    /// Keep the upstream's state for the next start.
    Persist(Persisted),
    /// A request failed: for whoever looks at recent failures.
    Failed(Box<Failed>),
    /// Another target is active (logged already): for whoever wants to know.
    RolledOver(Box<Rollover>),
    /// For the fleet's shared memory.
    Fleet(fleet::Command),
}

/// What a core is made of.
#[derive(Debug)]
pub struct Start {
    /// The proxy's settings.
    pub settings: Settings,
    /// The targets, and which is active.
    pub upstream: Upstream,
    /// What the upstream side speaks.
    pub transport: Transport,
    /// The sockets, bound already.
    pub sockets: Vec<Socket>,
    /// Marks what is ours in Contacts, routes and branches.
    pub key: [u8; 32],
    /// Must differ between two starts with the same key.
    pub first_branch: u64,
    /// This instance's part in its fleet; `None`: it is alone.
    pub fleet: Option<Fleet>,
}
