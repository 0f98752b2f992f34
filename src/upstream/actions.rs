//! What the machine says: actions for the driver, verdicts for the proxy, refusals for the operator.

use thiserror::Error;

use super::classes::Class;
use super::events::Rollover;
use super::settings::Persisted;

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAction {
    /// Look the source up and feed the result to [`Upstream::handle_lookup`](super::Upstream::handle_lookup). Never more than one at a time.
    Lookup,
    /// Write this to the store, promptly: the active target or the set changed.
    Persist(Persisted),
    /// Another target became active (already logged).
    RolledOver(Rollover),
    /// The target list changed: labels, order, weights or addresses.
    SetChanged,
}

/// What an outcome did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What the outcome means by itself.
    pub class: Class,
    /// It was a strike: the count went up.
    pub counted: bool,
    /// It was the last strike: another target is active now.
    pub rolled_over: bool,
}

/// Why an operator's `roll` was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RollError {
    /// No set yet.
    #[error("there are no targets yet: DNS has not answered")]
    NotReady,
    /// No such target, or a host with several ports.
    #[error("{asked} is not one target of the set; the targets are {known}")]
    NoSuchTarget {
        /// What was asked for.
        asked: String,
        /// Labels in order.
        known: String,
    },
    /// It is active already.
    #[error("{0} is already active")]
    AlreadyActive(String),
}
