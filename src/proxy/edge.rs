//! An edge of the house: the flow that something came in on, or leaves by.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::flow::{Flow, Side, Transport};

/// The facts of a flow, looked up once for an event.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub flow: Flow,
    pub side: Side,
    pub transport: Transport,
    /// Our address on it.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// What stands in Via, Contact and Record-Route on it: host and port, never a wildcard.
    pub sent_by: Arc<str>,
}
