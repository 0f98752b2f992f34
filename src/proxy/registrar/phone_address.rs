//! Where a phone is reached, and where its responses go.

use std::net::{IpAddr, SocketAddr};

use super::bindings::Reach;
use crate::flow::Flow;
use crate::message::digits::ip_literal;
use crate::message::{Contact, Message, Scheme, Uri, Via};

/// How the sender of a REGISTER is reached: over its connection; or by datagrams, at its Contact's port if its Via names
/// the address it sends from (old phones send from one port and listen on another, Cisco's 79xx for one), else, behind NAT,
/// where it sends from.
#[must_use]
pub(crate) fn of_register(register: &Message, flow: Flow) -> Reach {
    match flow {
        Flow::Conn(conn) => Reach::Conn(conn),
        Flow::Udp { socket, local, remote } => {
            let nat = behind_nat(register, remote);
            let port = if nat { None } else { contact_port(register) };
            let to = SocketAddr::new(remote.ip(), port.unwrap_or(remote.port()));
            Reach::Udp { socket, local, to, nat }
        }
    }
}

/// Where responses to a request that came as a datagram go: to the source port if the sender asked so with `rport` (RFC
/// 3581 §4) or sits behind NAT, else to the sent-by port (RFC 3261 §18.2.2). Always to the source address: `maddr` is not
/// followed, it would let an untrusted peer aim our responses at others.
#[must_use]
pub(crate) fn reply_address(request: &Message, source: SocketAddr) -> SocketAddr {
    let Some(via) = request.top_via() else { return source };
    if via.rport.is_some() || !names(request, via, source.ip()) {
        return source;
    }
    match via.port_or_default(request.bytes()) {
        0 => source,
        port => SocketAddr::new(source.ip(), port),
    }
}

/// True if the sender does not know the address its packets come from (a sent-by that is a name tells nothing either).
#[must_use]
pub(crate) fn behind_nat(request: &Message, source: SocketAddr) -> bool {
    !request.top_via().is_some_and(|via| names(request, via, source.ip()))
}

fn names(request: &Message, via: &Via, source: IpAddr) -> bool {
    ip_literal(via.host.of(request.bytes())) == Some(source.to_canonical())
}

/// The port of the first Contact, 5060 if it has none. `None` without a Contact that is a SIP URI.
fn contact_port(register: &Message) -> Option<u16> {
    let buf: &[u8] = register.bytes();
    let uri = register.contacts().find_map(|contact| match contact {
        Contact::Star => None,
        Contact::Addr(addr) => Uri::parse(buf, addr.uri),
    })?;
    match uri.scheme {
        Scheme::Sip | Scheme::Sips => Some(uri.port.unwrap_or(5060)).filter(|port| *port != 0),
        Scheme::Tel | Scheme::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;

    use super::{behind_nat, of_register, reply_address};
    use crate::flow::{ConnId, Flow, SocketId};
    use crate::message::Message;
    use crate::proxy::registrar::bindings::Reach;

    fn register(via: &str, contact: &str) -> Message {
        let text = format!(
            "REGISTER sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\n{contact}\
             From: <sip:1001@pbx.example.com>;tag=1\r\nTo: <sip:1001@pbx.example.com>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\r\n"
        );
        Message::scan(Bytes::from(text)).expect("a message")
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn reached(msg: &Message, source: &str) -> (String, bool) {
        let flow = Flow::Udp { socket: SocketId(0), local: address("192.168.1.5:5060"), remote: address(source) };
        match of_register(msg, flow) {
            Reach::Udp { to, nat, .. } => (to.to_string(), nat),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cisco_79xx_that_sends_from_a_random_port_is_answered_at_5060() {
        let cisco = register(
            "192.168.1.20:5060;branch=z9hG4bK2d61b2e5",
            "Contact: <sip:1001@192.168.1.20:5060;transport=udp>;+sip.instance=\"<urn:uuid:0>\"\r\n",
        );
        assert_eq!(reply_address(&cisco, address("192.168.1.20:49162")), address("192.168.1.20:5060"));
        assert_eq!(reached(&cisco, "192.168.1.20:49162"), ("192.168.1.20:5060".into(), false));
    }

    #[test]
    fn a_sent_by_without_port_means_5060() {
        let old = register("192.168.1.20;branch=z9hG4bK1", "Contact: sip:1001@192.168.1.20\r\n");
        assert_eq!(reply_address(&old, address("192.168.1.20:1027")), address("192.168.1.20:5060"));
        assert_eq!(reached(&old, "192.168.1.20:1027"), ("192.168.1.20:5060".into(), false));
    }

    #[test]
    fn a_phone_that_listens_beside_5060_is_reached_there() {
        let snom =
            register("192.168.1.20:2048;branch=z9hG4bK1;rport", "Contact: <sip:1001@192.168.1.20:2051;line=a>\r\n");
        assert_eq!(reply_address(&snom, address("192.168.1.20:2048")), address("192.168.1.20:2048"));
        assert_eq!(reached(&snom, "192.168.1.20:2048"), ("192.168.1.20:2051".into(), false));
    }

    #[test]
    fn behind_nat_all_goes_to_where_it_came_from() {
        for via in
            ["10.0.0.5:5060;branch=z9hG4bK1", "10.0.0.5:5060;branch=z9hG4bK1;rport", "phone.local;branch=z9hG4bK1"]
        {
            let phone = register(via, "Contact: <sip:1001@10.0.0.5:5060>\r\n");
            assert!(behind_nat(&phone, address("192.0.2.9:61000")));
            assert_eq!(reply_address(&phone, address("192.0.2.9:61000")), address("192.0.2.9:61000"));
            assert_eq!(reached(&phone, "192.0.2.9:61000"), ("192.0.2.9:61000".into(), true));
        }
    }

    #[test]
    fn rport_asks_for_the_source_port() {
        let phone = register("192.168.1.20:5060;branch=z9hG4bK1;rport", "Contact: <sip:1001@192.168.1.20:5060>\r\n");
        assert_eq!(reply_address(&phone, address("192.168.1.20:3333")), address("192.168.1.20:3333"));
        assert_eq!(reached(&phone, "192.168.1.20:3333"), ("192.168.1.20:5060".into(), false));
    }

    #[test]
    fn maddr_aims_at_nobody_and_port_0_at_the_source() {
        let odd =
            register("192.168.1.20:0;maddr=203.0.113.1;branch=z9hG4bK1", "Contact: <sip:1001@192.168.1.20:0>\r\n");
        assert_eq!(reply_address(&odd, address("192.168.1.20:3333")), address("192.168.1.20:3333"));
        assert_eq!(reached(&odd, "192.168.1.20:3333"), ("192.168.1.20:3333".into(), false));
    }

    #[test]
    fn a_connection_is_the_only_way_to_who_opened_it() {
        let phone = register("192.168.1.20:5060;branch=z9hG4bK1", "");
        assert_eq!(of_register(&phone, Flow::Conn(ConnId::Accepted(7))), Reach::Conn(ConnId::Accepted(7)));
    }
}
