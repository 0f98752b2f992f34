//! What the core hands out for whoever looks at messages: on which leg bytes pass, and what belongs to a failure.
//!
//! The core keeps none of it for a trace. Bytes pass through the driver, which asks for a [`Leg`] only while somebody looks; a
//! [`Failed`] is put together when a request fails, from what its exchange holds in any case.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::edge::Edge;
use super::journal::Direction;
use crate::flow::{Side, Transport};
use crate::upstream::{Outcome, TargetId};

/// One of the two stretches between a handset and a target: between Holdline and one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Towards the handset, or towards the upstream.
    pub side: Side,
    /// UDP, TCP or TLS.
    pub transport: Transport,
    /// Our address on it.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// The target that the peer is, where that is known.
    pub target: Option<TargetId>,
}

impl Leg {
    pub(super) fn new(edge: &Edge, target: Option<TargetId>) -> Leg {
        Leg { side: edge.side, transport: edge.transport, local: edge.local, remote: edge.remote, target }
    }
}

/// A message that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// When.
    pub at: Instant,
    /// Where.
    pub leg: Leg,
    /// To us, or from us.
    pub direction: Direction,
    /// The whole of it.
    pub bytes: Bytes,
}

/// A request that failed: an attempt of a REGISTER, or any request that was answered with a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What the handset is called, where that is known: `user@host`.
    pub handset: Option<Arc<str>>,
    /// The target at which an attempt failed; empty for a failure that is no attempt's.
    pub target: TargetId,
    /// A status, or why there was no answer.
    pub outcome: Outcome,
    /// What the three-strike rule made of an attempt: whether it was a strike, and the number of strikes by then. `None` for a
    /// failure that is no attempt's.
    pub strike: Option<(bool, u32)>,
    /// The request as it came, as it went on as far as that is known, and the answer if there was one.
    pub passed: Vec<Passed>,
}

/// A REGISTER as it left for a target. It is kept with the exchange until that ends.
#[derive(Debug)]
pub(super) struct Sent {
    pub at: Instant,
    pub to: Edge,
    pub bytes: Bytes,
}
