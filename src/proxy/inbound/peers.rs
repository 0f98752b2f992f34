//! Whether a response may answer a request: the one rule.
//!
//! - On the flow the request went out on, always.
//! - A datagram may answer from another port than the request went to, never from another address, and never on the other
//!   side: where handsets and PBX share an address, no handset may speak for the PBX.
//! - Over TCP and TLS an upstream whose connection was lost answers on another one (RFC 3261 §18.2.2): its 2xx again.

use crate::flow::{ConnId, Flow, Side, Transport};
use crate::proxy::edge::Edge;
use crate::proxy::flows::Flows;
use crate::proxy::site::Site;

/// Whether a response that came on `came` may answer a request that was sent on `sent`.
pub(crate) fn may_answer(sent: Flow, came: &Edge, flows: &Flows, site: &Site) -> bool {
    if sent == came.flow {
        return true;
    }
    match sent {
        Flow::Udp { socket, remote: asked, .. } => {
            came.transport == Transport::Udp
                && asked.ip() == came.remote.ip()
                && site.socket(socket).is_some_and(|socket| socket.side == came.side)
        }
        Flow::Conn(id) => match flows.get(id) {
            Some(conn) => {
                let datagrams = conn.transport == Transport::Udp && came.transport == Transport::Udp;
                datagrams && conn.side == came.side && conn.remote.ip() == came.remote.ip()
            }
            None => came.side == Side::Upstream && came.transport.is_reliable() && matches!(id, ConnId::Dialled(_)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use super::*;
    use crate::flow::{ConnId, Hop, SocketId};
    use crate::proxy::flows::table::Lease;
    use crate::proxy::marks::Key;
    use crate::proxy::site::{Settings, Socket};

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("literal")
    }

    fn site() -> Site {
        let socket = |id, side, local: &str| Socket {
            id: SocketId(id),
            side,
            transport: Transport::Udp,
            local: address(local),
            advertise: None,
        };
        let sockets = vec![socket(0, Side::Phone, "10.0.0.1:5060"), socket(1, Side::Upstream, "10.0.0.1:5080")];
        Site::new(Settings::default(), Key::new([1; 32]), Transport::Udp, sockets, 1)
    }

    /// A connection to a target, opened.
    fn dial(flows: &mut Flows, site: &Site, to: &str, transport: Transport, now: Instant) -> ConnId {
        let hop = Hop { target: "a".into(), addr: address(to), transport, group: 0 };
        let Lease::New(conn) = flows.lease(&hop, now) else { panic!("it is new") };
        flows.opened(conn, address("10.0.0.1:5080"), site, now);
        conn
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_response_answers_from_where_its_request_went_and_from_nowhere_else() {
        let (site, now) = (site(), Instant::now());
        let mut flows = Flows::new(8, now);
        let udp = dial(&mut flows, &site, "192.0.2.1:5060", Transport::Udp, now);
        let tcp = dial(&mut flows, &site, "192.0.2.1:5060", Transport::Tcp, now);
        let again = dial(&mut flows, &site, "192.0.2.2:5060", Transport::Tcp, now);
        let lost = dial(&mut flows, &site, "192.0.2.3:5060", Transport::Tcp, now);
        flows.remove(lost);
        let datagram = |socket, remote: &str| Flow::Udp {
            socket: SocketId(socket),
            local: address("10.0.0.1:5060"),
            remote: address(remote),
        };
        let handset = datagram(0, "10.0.0.9:5060");
        for (sent, came, may, why) in [
            (Flow::Conn(udp), Flow::Conn(udp), true, "the flow it went out on"),
            (Flow::Conn(udp), datagram(1, "192.0.2.1:9999"), true, "another port of the same address"),
            (Flow::Conn(udp), datagram(1, "192.0.2.9:5060"), false, "another address"),
            (Flow::Conn(udp), datagram(0, "192.0.2.1:5060"), false, "the target's address, but on the handsets' side"),
            (Flow::Conn(udp), Flow::Conn(tcp), false, "a connection never answers a datagram"),
            (Flow::Conn(tcp), Flow::Conn(udp), false, "a datagram never answers what went over a connection"),
            (Flow::Conn(tcp), Flow::Conn(again), false, "another connection while its own is there"),
            (Flow::Conn(lost), Flow::Conn(again), true, "another connection when its own is lost"),
            (Flow::Conn(lost), datagram(1, "192.0.2.3:5060"), false, "a datagram when its connection is lost"),
            (Flow::Conn(lost), handset, false, "a handset when the upstream's connection is lost"),
            (Flow::Conn(ConnId::Accepted(7)), Flow::Conn(again), false, "a handset's connection that is gone"),
            (handset, datagram(0, "10.0.0.9:1024"), true, "another port of the handset"),
            (handset, datagram(0, "10.0.0.8:5060"), false, "another handset"),
            (handset, datagram(1, "10.0.0.9:5060"), false, "the handset's address on the upstream side"),
        ] {
            let came = flows.edge(came, &site).expect("it is there");
            assert_eq!(may_answer(sent, &came, &flows, &site), may, "{why}");
        }
    }
}
