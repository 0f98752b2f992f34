//! The connections of both sides: which are there, which a request to a hop may use, which nobody needs any more.
//!
//! A connected upstream UDP socket counts as a connection here. Upstream connections are found by their whole [`Hop`]
//! (target name, address, port, transport, group), never by address alone. Whatever is done to several of them is done in the
//! order of their numbers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Edge;
use crate::flow::{ConnId, Flow, Hop, Side, Transport};
use crate::proxy::ids::PathId;
use crate::proxy::numbers::NumberMap;

/// One connection.
#[derive(Debug, Clone)]
pub(crate) struct Conn {
    /// The side it lives on.
    pub side: Side,
    /// UDP (upstream only), TCP or TLS.
    pub transport: Transport,
    /// The local address; `None` while it opens.
    pub local: Option<SocketAddr>,
    /// The peer.
    pub remote: SocketAddr,
    /// What it was opened for; `None` for an accepted one.
    pub hop: Option<Hop>,
    /// What goes into Via, Contact and Record-Route on it; empty while it opens.
    pub sent_by: Arc<str>,
    /// An attempt timed out on it: it takes no new request and closes when its open transactions end.
    pub suspect: bool,
    /// When bytes last went either way, our own keep-alives not counted.
    pub last_used: Instant,
    /// When a message last came in.
    pub heard: Instant,
    /// When our last keep-alive or message left.
    pub last_sent: Instant,
    /// When it opened.
    pub since: Instant,
    /// Until then it may carry dialogs, however quiet it is.
    pub dialogs_until: Option<Instant>,
    /// What the upstream can tell it by; `None` for UDP and while it opens.
    pub path: Option<PathId>,
}

impl Conn {
    /// One that a peer opened.
    pub(crate) fn accepted(edge: &Edge, sent_by: Arc<str>, now: Instant) -> Self {
        let local = Some(edge.local);
        Conn { local, sent_by, ..Conn::unopened(edge.side, edge.transport, edge.remote, now) }
    }

    /// One that is being opened to a target.
    fn opening(hop: &Hop, now: Instant) -> Self {
        Conn { hop: Some(hop.clone()), ..Conn::unopened(Side::Upstream, hop.transport, hop.addr, now) }
    }

    fn unopened(side: Side, transport: Transport, remote: SocketAddr, now: Instant) -> Self {
        Conn {
            side,
            transport,
            local: None,
            remote,
            hop: None,
            sent_by: Arc::from(""),
            suspect: false,
            last_used: now,
            heard: now,
            last_sent: now,
            since: now,
            dialogs_until: None,
            path: None,
        }
    }
}

/// What a request to a hop gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lease {
    /// An open connection that was there before.
    Open(ConnId),
    /// One that is being opened already: wait for it.
    Opening(ConnId),
    /// A new one: the caller asks the transports to open it and waits.
    New(ConnId),
    /// Too many.
    Full,
}

/// The table of connections.
#[derive(Debug)]
pub(crate) struct Connections {
    by_id: NumberMap<ConnId, Conn>,
    by_hop: HashMap<Hop, ConnId>,
    next: u64,
    upstream_limit: usize,
}

impl Connections {
    /// An empty table with room for `upstream_limit` connections opened by us.
    #[must_use]
    pub(crate) fn new(upstream_limit: usize) -> Self {
        Connections { by_id: NumberMap::default(), by_hop: HashMap::new(), next: 1, upstream_limit }
    }

    /// A connection to a hop: the current one, or a new one. A suspect one is never given out.
    pub(crate) fn lease(&mut self, hop: &Hop, now: Instant) -> Lease {
        if let Some(&id) = self.by_hop.get(hop)
            && let Some(conn) = self.by_id.get_mut(&id)
        {
            conn.last_used = now;
            return if conn.local.is_some() { Lease::Open(id) } else { Lease::Opening(id) };
        }
        if self.by_id.values().filter(|conn| conn.hop.is_some()).count() >= self.upstream_limit {
            return Lease::Full;
        }
        let id = ConnId::Dialled(self.next);
        self.next += 1;
        self.by_hop.insert(hop.clone(), id);
        self.by_id.insert(id, Conn::opening(hop, now));
        Lease::New(id)
    }

    /// The connection opened: its local address and what to call it in Via and Contact.
    pub(crate) fn opened(
        &mut self,
        id: ConnId,
        local: SocketAddr,
        sent_by: Arc<str>,
        path: Option<PathId>,
        now: Instant,
    ) {
        if let Some(conn) = self.by_id.get_mut(&id) {
            conn.local = Some(local);
            conn.sent_by = sent_by;
            conn.last_used = now;
            conn.since = now;
            conn.path = path;
        }
    }

    /// A dialog that may last until then uses this connection.
    pub(crate) fn carries_dialog(&mut self, id: ConnId, until: Instant) {
        if let Some(conn) = self.by_id.get_mut(&id) {
            conn.dialogs_until = Some(until);
        }
    }

    /// The hop of a connection to a target that is open and takes requests.
    #[must_use]
    pub(crate) fn open_to(&self, host: &str, port: u16, transport: Transport) -> Option<Hop> {
        let open = self.by_hop.iter().filter(|(hop, id)| {
            &*hop.target == host
                && hop.addr.port() == port
                && hop.transport == transport
                && self.by_id.get(id).is_some_and(|conn| conn.local.is_some())
        });
        open.min_by_key(|(_, id)| **id).map(|(hop, _)| hop.clone())
    }

    /// Whether a connection to a target is there that takes requests, or is being opened.
    #[must_use]
    pub(crate) fn leads_to(&self, host: &str, port: u16) -> bool {
        self.by_hop.keys().any(|hop| &*hop.target == host && hop.addr.port() == port)
    }

    /// The paths that connections to a target are open on, each once.
    #[must_use]
    pub(crate) fn paths_to(&self, host: &str, port: u16) -> Vec<PathId> {
        let to = |conn: &Conn| conn.hop.as_ref().is_some_and(|hop| &*hop.target == host && hop.addr.port() == port);
        let mut paths: Vec<PathId> = self.by_id.values().filter(|conn| to(conn)).filter_map(|c| c.path).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// A peer connected to a listener.
    pub(crate) fn accepted(&mut self, id: ConnId, conn: Conn) {
        self.by_id.insert(id, conn);
    }

    /// Every connection that a peer opened, with its side and the peer's address.
    #[must_use]
    pub(crate) fn accepted_from(&self) -> Vec<(ConnId, Side, SocketAddr)> {
        let accepted = self.by_id.iter().filter(|(_, conn)| conn.hop.is_none());
        let mut accepted: Vec<_> = accepted.map(|(id, conn)| (*id, conn.side, conn.remote)).collect();
        accepted.sort_unstable();
        accepted
    }

    /// Takes a connection out of the table, because it closed or failed or shall be closed.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let conn = self.by_id.remove(&id)?;
        if let Some(hop) = &conn.hop
            && self.by_hop.get(hop) == Some(&id)
        {
            self.by_hop.remove(hop);
        }
        Some(conn)
    }

    /// An attempt timed out on this connection: the next one gets another (drachtio #488). A UDP socket has no state
    /// that could be stuck, so it stays.
    pub(crate) fn suspect(&mut self, id: ConnId) {
        let Some(conn) = self.by_id.get_mut(&id) else { return };
        if conn.transport == Transport::Udp {
            return;
        }
        conn.suspect = true;
        if let Some(hop) = &conn.hop
            && self.by_hop.get(hop) == Some(&id)
        {
            self.by_hop.remove(hop);
        }
    }

    /// Bytes came in on this flow.
    pub(crate) fn touch(&mut self, flow: Flow, now: Instant) {
        if let Flow::Conn(id) = flow
            && let Some(conn) = self.by_id.get_mut(&id)
        {
            conn.last_used = now;
            conn.heard = now;
        }
    }

    /// Bytes of a message go out on this flow.
    pub(crate) fn sent(&mut self, flow: Flow, now: Instant) {
        if let Flow::Conn(id) = flow
            && let Some(conn) = self.by_id.get_mut(&id)
        {
            conn.last_used = now;
            conn.last_sent = now;
        }
    }

    /// Looks one up.
    #[must_use]
    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.by_id.get(&id)
    }

    /// How many there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many connections a side has on a transport.
    #[must_use]
    pub(crate) fn count(&self, side: Side, transport: Transport) -> usize {
        self.by_id.values().filter(|conn| conn.side == side && conn.transport == transport).count()
    }

    /// Connections nobody needs: suspect ones without open transactions, and those idle for `idle` that `needed` does
    /// not hold on to. `open` says how many transactions are open on one. They are not removed yet.
    pub(crate) fn unneeded(
        &self,
        idle: Duration,
        now: Instant,
        open: impl Fn(ConnId) -> usize,
        needed: impl Fn(ConnId, &Conn) -> bool,
    ) -> Vec<ConnId> {
        let mut unneeded: Vec<ConnId> = self
            .by_id
            .iter()
            .filter(|(id, conn)| {
                if conn.local.is_none() || open(**id) > 0 {
                    return false;
                }
                let dialogs = conn.dialogs_until.is_some_and(|until| until > now);
                let idle = now.saturating_duration_since(conn.last_used) >= idle;
                !dialogs && (conn.suspect || (idle && !needed(**id, conn)))
            })
            .map(|(id, _)| *id)
            .collect();
        unneeded.sort_unstable();
        unneeded
    }

    /// Upstream connections on which nothing was sent for `interval`; their clock starts anew.
    pub(crate) fn due_keepalives(&mut self, interval: Duration, now: Instant) -> Vec<ConnId> {
        let mut due = Vec::new();
        for (id, conn) in &mut self.by_id {
            let ours = conn.hop.is_some() && conn.local.is_some();
            if ours && now.saturating_duration_since(conn.last_sent) >= interval {
                conn.last_sent = now;
                due.push(*id);
            }
        }
        due.sort_unstable();
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn hop(target: &str, transport: Transport) -> Hop {
        Hop { target: Arc::from(target), addr: "192.0.2.1:5061".parse().unwrap(), transport, group: 0 }
    }

    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    fn open(table: &mut Connections, id: ConnId, now: Instant) {
        table.opened(id, "192.0.2.9:5080".parse().unwrap(), "192.0.2.9:5080".into(), Some(PathId(1)), now);
    }

    #[test]
    fn a_connection_is_never_shared_between_target_names() {
        let (mut table, now) = (Connections::new(8), start());
        let Lease::New(a) = table.lease(&hop("a.example.com", Transport::Tls), now) else { panic!("a is new") };
        open(&mut table, a, now);
        assert!(matches!(table.lease(&hop("b.example.com", Transport::Tls), now), Lease::New(b) if b != a));
        assert_eq!(table.lease(&hop("a.example.com", Transport::Tls), now), Lease::Open(a));
    }

    #[test]
    fn a_suspect_connection_takes_no_new_request_and_closes_when_quiet() {
        let (mut table, now) = (Connections::new(8), start());
        let Lease::New(a) = table.lease(&hop("a", Transport::Tls), now) else { panic!("a is new") };
        assert_eq!(table.lease(&hop("a", Transport::Tls), now), Lease::Opening(a));
        open(&mut table, a, now);
        table.suspect(a);
        assert!(matches!(table.lease(&hop("a", Transport::Tls), now), Lease::New(b) if b != a));
        let hour = Duration::from_secs(3600);
        assert!(table.unneeded(hour, now, |_| 1, |_, _| true).is_empty(), "a late answer may still come");
        assert_eq!(table.unneeded(hour, now, |_| 0, |_, _| true), vec![a]);
    }

    #[test]
    fn the_number_of_upstream_connections_is_bounded() {
        let (mut table, now) = (Connections::new(1), start());
        assert!(matches!(table.lease(&hop("a", Transport::Tcp), now), Lease::New(_)));
        assert_eq!(table.lease(&hop("b", Transport::Tcp), now), Lease::Full);
    }
}
