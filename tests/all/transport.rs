//! Transports over real sockets, on loopback only.

pub(crate) mod certificates;
mod tcp;
mod tls;
mod udp;
mod untrusted;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{ConnId, Flow, Hop, NetCommand, NetEvent, Side, Transport};
use holdline::metrics::Metrics;
use holdline::transport::{BoundSocket, Listen, Settings, Transports, UpstreamBind};
use tokio::time::{Instant, timeout};

/// Longer than anything here takes; reached only by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A driver without a core: it hands the events to the test.
pub(crate) struct Rig {
    pub transports: Transports,
    pub metrics: Arc<Metrics>,
    pub events: Vec<NetEvent>,
}

impl Rig {
    pub(crate) async fn new(settings: &Settings) -> Rig {
        let metrics = Metrics::new();
        let transports = Transports::bind(settings, metrics.clone()).await.unwrap();
        Rig { transports, metrics, events: Vec::new() }
    }

    /// Takes the first event that `pick` wants, waiting for it; what it does not want stays.
    pub(crate) async fn event<T>(&mut self, mut pick: impl FnMut(&NetEvent) -> Option<T>) -> T {
        loop {
            if let Some((index, found)) = self.events.iter().enumerate().find_map(|(i, e)| Some((i, pick(e)?))) {
                self.events.remove(index);
                return found;
            }
            let begin = Instant::now();
            let waited = timeout(PATIENCE, self.transports.next(&mut self.events)).await;
            // The end of a time-out polls once more: what comes only then was not woken for.
            let woken = waited.is_ok() && begin.elapsed() < PATIENCE;
            assert!(woken, "nothing came; so far: {:?}", self.events);
        }
    }

    pub(crate) async fn received(&mut self) -> (Flow, Bytes) {
        self.event(|e| match e {
            NetEvent::Received { flow, bytes } => Some((*flow, bytes.clone())),
            _ => None,
        })
        .await
    }

    pub(crate) fn perform(&mut self, command: NetCommand) {
        self.transports.perform(command);
        self.transports.flush();
    }

    pub(crate) fn send(&mut self, flow: Flow, bytes: &[u8]) {
        self.perform(NetCommand::Send { flow, bytes: Bytes::copy_from_slice(bytes) });
    }

    pub(crate) fn bound(&self, side: Side, transport: Transport) -> &BoundSocket {
        self.transports.listeners().iter().find(|b| b.side == side && b.transport == transport).unwrap()
    }

    pub(crate) fn open(&mut self, number: u64, addr: SocketAddr, transport: Transport) -> ConnId {
        let conn = ConnId::Dialled(number);
        let hop = Hop { target: "sip-a.example.com".into(), addr, transport, group: 0 };
        self.perform(NetCommand::Open { conn, hop });
        conn
    }

    pub(crate) async fn opened(&mut self, conn: ConnId) -> SocketAddr {
        self.event(|e| match e {
            NetEvent::Opened { conn: c, local } if *c == conn => Some(*local),
            NetEvent::OpenFailed { conn: c, detail, .. } if *c == conn => panic!("{detail}"),
            _ => None,
        })
        .await
    }
}

/// Listeners on these addresses, upstream on any port of 127.0.0.1.
pub(crate) fn settings(listen: &[(Transport, &str)]) -> Settings {
    let listen = listen
        .iter()
        .map(|(transport, addr)| Listen { transport: *transport, addr: addr.parse().unwrap(), advertise: None })
        .collect();
    let upstream = UpstreamBind { addr: "127.0.0.1:0".parse().unwrap(), advertise: None };
    Settings::new(listen, upstream, Transport::Udp)
}

/// True where the machine has an IPv6 loopback.
pub(crate) fn has_ipv6() -> bool {
    std::net::UdpSocket::bind("[::1]:0").is_ok()
}
