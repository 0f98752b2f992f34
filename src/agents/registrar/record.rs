//! The record of a registrar.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::agents::sip::Message;
use crate::flow::Transport;

/// One message that arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The time of its arrival.
    pub at: Instant,
    /// The transport it came over.
    pub transport: Transport,
    /// The address it came from.
    pub source: SocketAddr,
    /// Connections are numbered; datagrams have none.
    pub connection: Option<u64>,
    /// The message, its bytes included.
    pub message: Message,
    /// The same request was here before (same branch): RFC 3261 §17.2.3.
    pub repeated: bool,
}

/// Everything that a registrar saw. Lists keep their newest entries only, see [`super::Options::kept`].
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Requests and stray responses, in order.
    pub received: Vec<Received>,
    /// Bytes that are no SIP message.
    pub garbage: Vec<(SocketAddr, Bytes)>,
    /// Final answers to REGISTERs by status.
    pub answered: HashMap<u16, usize>,
    /// CRLF keep-alives.
    pub keep_alives: usize,
    /// Connections accepted or made, in all.
    pub opened: usize,
    /// Connections that ended, in all.
    pub closed: usize,
}

impl Record {
    /// Requests of a method, repetitions left out.
    pub fn requests<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Received> {
        let wanted = move |r: &&Received| r.message.is_request() && r.message.method() == method && !r.repeated;
        self.received.iter().filter(wanted)
    }

    /// How many requests of a method came, repetitions left out.
    pub fn count(&self, method: &str) -> usize {
        self.requests(method).count()
    }
}
