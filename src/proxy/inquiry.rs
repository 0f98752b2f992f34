//! The one question that Holdline asks of its own accord: does the *active* target live?
//!
//! Three strikes by handsets that this PBX never served are no evidence while others are served: before a rollover on their word
//! alone, the active target gets an OPTIONS. Never another target: there is no probing for a way back.

use std::time::Instant;

use crate::flow::ConnId;
use crate::transaction::ClientId;

/// An OPTIONS under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    /// The activation that it is about.
    epoch: u64,
    /// Until then it is answered, or the target is taken for dead.
    until: Instant,
    /// Waits for this connection.
    conn: Option<ConnId>,
    /// Sent.
    client: Option<ClientId>,
    /// It was sent once more after a transport error.
    again: bool,
}

/// At most one question at a time.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    asked: Option<Asked>,
}

impl Inquiry {
    /// A question is to be asked. What was asked before is of no interest any more: its client transaction.
    pub(super) fn begin(&mut self, epoch: u64, until: Instant) -> Option<ClientId> {
        self.asked.replace(Asked { epoch, until, conn: None, client: None, again: false })?.client
    }

    /// It waits for a connection.
    pub(super) fn wait_for(&mut self, conn: ConnId) {
        if let Some(asked) = &mut self.asked {
            asked.conn = Some(conn);
        }
    }

    /// It went out.
    pub(super) fn sent(&mut self, client: ClientId) {
        if let Some(asked) = &mut self.asked {
            (asked.conn, asked.client) = (None, Some(client));
        }
    }

    /// Its connection failed: whether it may be sent once more. Then it waits for another.
    pub(super) fn once_more(&mut self) -> bool {
        let Some(asked) = self.asked.as_mut().filter(|asked| !asked.again) else { return false };
        (asked.again, asked.client) = (true, None);
        true
    }

    /// Whether it waits for this connection.
    pub(super) fn waits_for(&self, conn: ConnId) -> bool {
        self.asked.is_some_and(|asked| asked.conn == Some(conn))
    }

    /// Whether this client transaction carries it.
    pub(super) fn is_carried_by(&self, client: ClientId) -> bool {
        self.asked.is_some_and(|asked| asked.client == Some(client))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.asked.map(|asked| asked.until)
    }

    /// Ends it: the activation that it was about, and the client transaction that is not wanted any more.
    pub(super) fn end(&mut self) -> Option<(u64, Option<ClientId>)> {
        self.asked.take().map(|asked| (asked.epoch, asked.client))
    }
}
