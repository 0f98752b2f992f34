//! Whether a response may answer a request: the one rule.
//!
//! - On the flow the request went out on, always.
//! - A datagram may answer from another port than the request went to, and never on the other side: where handsets and PBX
//!   share an address, no handset may speak for the PBX.
//! - From another address of the upstream a datagram may answer if it is of the request's dialog: farms answer from the address of
//!   the machine behind. The gate admitted that address, and nobody guesses our branch. A handset has one address.
//! - Over TCP and TLS an upstream whose connection was lost answers on another one (RFC 3261 §18.2.2): its 2xx again.

use bytes::Bytes;

use crate::flow::{ConnId, Flow, Side, Transport};
use crate::message::Message;
use crate::proxy::edge::Edge;
use crate::proxy::flows::Flows;
use crate::proxy::site::Site;

/// What a response is to a request, by where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// It may answer.
    Yes,
    /// It may if it is of the request's dialog, see [`same_dialog`].
    FromElsewhere,
    No,
}

/// Whether a response that came on `came` may answer a request that was sent on `sent`.
pub(crate) fn may_answer(sent: Flow, came: &Edge, flows: &Flows, site: &Site) -> Answers {
    if sent == came.flow {
        return Answers::Yes;
    }
    let yes = |may| if may { Answers::Yes } else { Answers::No };
    match sent {
        Flow::Udp { socket, remote: asked, .. } => yes(came.transport == Transport::Udp
            && asked.ip() == came.remote.ip()
            && site.socket(socket).is_some_and(|socket| socket.side == came.side)),
        Flow::Conn(id) => match flows.get(id) {
            Some(conn) => {
                let datagrams = conn.transport == Transport::Udp && came.transport == Transport::Udp;
                match (datagrams && conn.side == came.side, conn.remote.ip() == came.remote.ip()) {
                    (true, true) => Answers::Yes,
                    (true, false) if conn.side == Side::Upstream => Answers::FromElsewhere,
                    (true | false, _) => Answers::No,
                }
            }
            None => {
                yes(came.side == Side::Upstream && came.transport.is_reliable() && matches!(id, ConnId::Dialled(_)))
            }
        },
    }
}

/// Whether a response is of the dialog that a request of ours is of, or begins. A request that is not kept any more has had an
/// answer, or is late; its branch, which nobody can guess, has to do.
pub(crate) fn same_dialog(request: &Bytes, response: &Message) -> bool {
    if request.is_empty() {
        return true;
    }
    let Ok(request) = Message::scan(request.clone()) else { return false };
    request.call_id() == response.call_id() && request.from_tag() == response.from_tag()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use super::*;
    use crate::flow::{Hop, SocketId};
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
    fn a_response_answers_from_where_its_request_went_or_from_the_upstreams_other_addresses() {
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
            (Flow::Conn(udp), Flow::Conn(udp), Answers::Yes, "the flow it went out on"),
            (Flow::Conn(udp), datagram(1, "192.0.2.1:9999"), Answers::Yes, "another port of the same address"),
            (Flow::Conn(udp), datagram(1, "192.0.2.9:5060"), Answers::FromElsewhere, "another address of the upstream"),
            (
                Flow::Conn(udp),
                datagram(0, "192.0.2.1:5060"),
                Answers::No,
                "the target's address, but on the handsets' side",
            ),
            (Flow::Conn(udp), Flow::Conn(tcp), Answers::No, "a connection never answers a datagram"),
            (Flow::Conn(tcp), Flow::Conn(udp), Answers::No, "a datagram never answers what went over a connection"),
            (Flow::Conn(tcp), Flow::Conn(again), Answers::No, "another connection while its own is there"),
            (Flow::Conn(lost), Flow::Conn(again), Answers::Yes, "another connection when its own is lost"),
            (Flow::Conn(lost), datagram(1, "192.0.2.3:5060"), Answers::No, "a datagram when its connection is lost"),
            (Flow::Conn(lost), handset, Answers::No, "a handset when the upstream's connection is lost"),
            (Flow::Conn(ConnId::Accepted(7)), Flow::Conn(again), Answers::No, "a handset's connection that is gone"),
            (handset, datagram(0, "10.0.0.9:1024"), Answers::Yes, "another port of the handset"),
            (handset, datagram(0, "10.0.0.8:5060"), Answers::No, "another handset"),
            (handset, datagram(1, "10.0.0.9:5060"), Answers::No, "the handset's address on the upstream side"),
        ] {
            let came = flows.edge(came, &site).expect("it is there");
            assert_eq!(may_answer(sent, &came, &flows, &site), may, "{why}");
        }
    }

    #[test]
    fn what_is_not_kept_any_more_is_told_by_its_branch_alone() {
        let text = "SIP/2.0 200 OK\r\nCall-ID: a\r\nFrom: <sip:a@b>;tag=1\r\nContent-Length: 0\r\n\r\n";
        let response = Message::scan(Bytes::from(text)).expect("a message");
        let request = |call: &str, tag: &str| {
            let text = format!("INVITE sip:a@b SIP/2.0\r\nCall-ID: {call}\r\nFrom: <sip:a@b>;tag={tag}\r\n\r\n");
            Bytes::from(text)
        };
        assert!(same_dialog(&request("a", "1"), &response) && same_dialog(&Bytes::new(), &response));
        assert!(!same_dialog(&request("b", "1"), &response) && !same_dialog(&request("a", "2"), &response));
    }
}
