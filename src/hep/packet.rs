//! One HEP3 packet (HEP/EEP revision 12): `HEP3`, the total length, and chunks of vendor, type, length and content, all in network
//! byte order; lengths include their own header.

use std::net::{IpAddr, Ipv6Addr};

use super::Copied;
use crate::flow::Transport;
use crate::proxy::Direction;

/// The vendor whose chunks everybody knows.
const GENERIC: u16 = 0;

const FAMILY: u16 = 0x01;
const PROTOCOL: u16 = 0x02;
const SOURCE_V4: u16 = 0x03;
const DESTINATION_V4: u16 = 0x04;
const SOURCE_V6: u16 = 0x05;
const DESTINATION_V6: u16 = 0x06;
const SOURCE_PORT: u16 = 0x07;
const DESTINATION_PORT: u16 = 0x08;
const SECONDS: u16 = 0x09;
const MICROSECONDS: u16 = 0x0a;
const PAYLOAD_KIND: u16 = 0x0b;
const CAPTURE_ID: u16 = 0x0c;
const PAYLOAD: u16 = 0x0f;
const CORRELATION_ID: u16 = 0x11;

const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SIP: u8 = 1;

/// The packet for a message; `None` where it is too long for one. `call_id` correlates: both legs of a call have the same one.
pub(super) fn packet(copied: &Copied, call_id: &[u8], payload: &[u8], capture_id: u32) -> Option<Vec<u8>> {
    let leg = &copied.leg;
    let (from, to) = match copied.direction {
        Direction::In => (leg.remote, leg.local),
        Direction::Out => (leg.local, leg.remote),
    };
    let mut out = Vec::with_capacity(128 + call_id.len() + payload.len());
    out.extend(b"HEP3\0\0");
    let protocol = if leg.transport == Transport::Udp { UDP } else { TCP };
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            chunk(&mut out, FAMILY, &[INET])?;
            chunk(&mut out, PROTOCOL, &[protocol])?;
            chunk(&mut out, SOURCE_V4, &from.octets())?;
            chunk(&mut out, DESTINATION_V4, &to.octets())?;
        }
        (from, to) => {
            chunk(&mut out, FAMILY, &[INET6])?;
            chunk(&mut out, PROTOCOL, &[protocol])?;
            chunk(&mut out, SOURCE_V6, &v6(from).octets())?;
            chunk(&mut out, DESTINATION_V6, &v6(to).octets())?;
        }
    }
    chunk(&mut out, SOURCE_PORT, &from.port().to_be_bytes())?;
    chunk(&mut out, DESTINATION_PORT, &to.port().to_be_bytes())?;
    chunk(&mut out, SECONDS, &(copied.at.as_secs() as u32).to_be_bytes())?;
    chunk(&mut out, MICROSECONDS, &copied.at.subsec_micros().to_be_bytes())?;
    chunk(&mut out, PAYLOAD_KIND, &[SIP])?;
    chunk(&mut out, CAPTURE_ID, &capture_id.to_be_bytes())?;
    if !call_id.is_empty() {
        chunk(&mut out, CORRELATION_ID, call_id)?;
    }
    chunk(&mut out, PAYLOAD, payload)?;
    let total = u16::try_from(out.len()).ok()?;
    out[4..6].copy_from_slice(&total.to_be_bytes());
    Some(out)
}

fn chunk(out: &mut Vec<u8>, kind: u16, content: &[u8]) -> Option<()> {
    let length = u16::try_from(6 + content.len()).ok()?;
    out.extend(GENERIC.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend(content);
    Some(())
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::flow::Side;
    use crate::proxy::Leg;

    fn copied(transport: Transport, local: &str, remote: &str, direction: Direction) -> Copied {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        let leg = Leg { side: Side::Phone, transport, local, remote, target: None };
        Copied { at: Duration::new(0x692b_1234, 123_456_000), leg, direction, bytes: Bytes::new() }
    }

    #[test]
    fn a_packet_is_byte_for_byte_what_the_specification_says() {
        let copied = copied(Transport::Udp, "192.0.2.1:5060", "[::ffff:192.0.2.7]:5070", Direction::In);
        let packet = packet(&copied, b"c1", b"SIP", 2001).unwrap();
        #[rustfmt::skip]
        let expected = [
            b"HEP3", &[0, 110][..],
            &[0, 0, 0, 1, 0, 7, 2],
            &[0, 0, 0, 2, 0, 7, 17],
            &[0, 0, 0, 3, 0, 10, 192, 0, 2, 7],
            &[0, 0, 0, 4, 0, 10, 192, 0, 2, 1],
            &[0, 0, 0, 7, 0, 8, 0x13, 0xce],
            &[0, 0, 0, 8, 0, 8, 0x13, 0xc4],
            &[0, 0, 0, 9, 0, 10, 0x69, 0x2b, 0x12, 0x34],
            &[0, 0, 0, 10, 0, 10, 0, 1, 0xe2, 0x40],
            &[0, 0, 0, 11, 0, 7, 1],
            &[0, 0, 0, 12, 0, 10, 0, 0, 7, 0xd1],
            &[0, 0, 0, 17, 0, 8, b'c', b'1'],
            &[0, 0, 0, 15, 0, 9, b'S', b'I', b'P'],
        ]
        .concat();
        assert_eq!(packet, expected);
        assert_eq!(packet.len(), 110);
    }

    #[test]
    fn ipv6_tls_and_the_other_direction() {
        let copied = copied(Transport::Tls, "[2001:db8::1]:5061", "[2001:db8::7]:40000", Direction::Out);
        let packet = packet(&copied, b"", b"SIP", 1).unwrap();
        assert_eq!(packet[6..20], [0, 0, 0, 1, 0, 7, 10, 0, 0, 0, 2, 0, 7, 6]);
        assert_eq!(packet[20..26], [0, 0, 0, 5, 0, 22]);
        assert_eq!((packet[41], packet[63]), (1, 7), "from us to the handset");
        assert!(!packet.windows(6).any(|chunk| chunk[..4] == [0, 0, 0, 17]), "nothing to correlate by");
    }

    #[test]
    fn what_no_packet_has_room_for_is_none() {
        let copied = copied(Transport::Tcp, "192.0.2.1:1", "192.0.2.2:2", Direction::In);
        assert!(packet(&copied, b"c", &vec![b'x'; 65_429], 1).is_some());
        assert!(packet(&copied, b"c", &vec![b'x'; 65_430], 1).is_none());
        assert!(packet(&copied, b"c", &vec![b'x'; 70_000], 1).is_none());
    }
}
