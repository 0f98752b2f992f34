//! What the upstream's machine hands out: actions for the driver, verdicts for the proxy, refusals for the operator.

use thiserror::Error;

use super::classes::Class;
use super::events::Rollover;
use super::fleet::Plan;
use super::order::TargetId;
use super::settings::Persisted;

/// A task for the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAction {
    /// Look the source up and feed the result to [`Upstream::handle_lookup`](super::Upstream::handle_lookup). Never more than one at a time.
    Lookup,
    /// Write this to the store, promptly: the active target or the set changed.
    Persist(Persisted),
    /// Another target became active (already logged).
    RolledOver(Rollover),
    /// Ask the active target whether it lives, with an OPTIONS, and hand what came of it to
    /// [`Upstream::asked`](super::Upstream::asked).
    Ask {
        /// Its label.
        target: TargetId,
        /// The activation.
        epoch: u64,
    },
    /// The target list changed: labels, order, weights or addresses.
    SetChanged,
    /// The strikes are enough, and the fleet is asked before they move anything; see [`Upstream::join_fleet`](super::Upstream::join_fleet).
    Decide(Plan),
    /// A REGISTER succeeded at the active target. At most once a second, and only in a fleet.
    Served,
}

/// The effect of an outcome on the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The class of the outcome by itself.
    pub class: Class,
    /// The outcome was a strike: the count went up.
    pub counted: bool,
    /// The outcome was the last strike: another target is active now.
    pub rolled_over: bool,
}

/// The reason why an operator's `roll` was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RollError {
    /// No lookup has brought a set yet.
    #[error("there are no targets yet: DNS has not answered")]
    NotReady,
    /// No target has this name, or a host was named that has several ports.
    #[error("{asked} is not one target of the set; the targets are {known}")]
    NoSuchTarget {
        /// The name that was asked for.
        asked: String,
        /// The labels of all targets, in order.
        known: String,
    },
    /// The target is active already.
    #[error("{0} is already active")]
    AlreadyActive(String),
}
