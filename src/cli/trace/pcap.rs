//! A capture file of what was traced: packets put together from the messages and their addresses.
//!
//! Every message is one UDP datagram in it, whatever it came over: what came over TCP or TLS is so read as SIP in clear, message by
//! message, by Wireshark (whose SIP heuristics look at UDP on any port) and sngrep. Link type 101: the packets begin with their IP
//! header.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::control::trace::Heading;

/// LINKTYPE_RAW.
const RAW_IP: u32 = 101;
const SNAP: u32 = 262_144;
const UDP: u8 = 17;
const HOPS: u8 = 64;

pub(super) struct Pcap<W> {
    out: W,
}

impl<W: Write> Pcap<W> {
    /// Begins the file.
    pub(super) fn new(mut out: W) -> io::Result<Pcap<W>> {
        let mut head = Vec::with_capacity(24);
        // Microseconds, version 2.4, UTC.
        head.extend(0xa1b2_c3d4_u32.to_le_bytes());
        head.extend(2_u16.to_le_bytes());
        head.extend(4_u16.to_le_bytes());
        head.extend([0; 8]);
        head.extend(SNAP.to_le_bytes());
        head.extend(RAW_IP.to_le_bytes());
        out.write_all(&head)?;
        out.flush()?;
        Ok(Pcap { out })
    }

    /// Adds a message, with one write, so that the file ends behind a whole packet whenever this process is ended. False for one
    /// that no packet has room for.
    pub(super) fn write(&mut self, heading: &Heading, message: &[u8]) -> io::Result<bool> {
        let (local, remote) = (heading.local, heading.remote);
        let (from, to) = if heading.direction == "in" { (remote, local) } else { (local, remote) };
        let Some(packet) = packet(from, to, message) else { return Ok(false) };
        let mut record = Vec::with_capacity(16 + packet.len());
        record.extend(((heading.at / 1_000_000) as u32).to_le_bytes());
        record.extend(((heading.at % 1_000_000) as u32).to_le_bytes());
        record.extend((packet.len() as u32).to_le_bytes());
        record.extend((packet.len() as u32).to_le_bytes());
        record.extend(packet);
        self.out.write_all(&record)?;
        self.out.flush()?;
        Ok(true)
    }
}

/// An IP packet with one UDP datagram (RFC 768, RFC 791, RFC 8200); `None` where the payload is too long for one.
fn packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(8 + payload.len()).ok()?;
    let mut udp = Vec::with_capacity(usize::from(length));
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let mut packet = Vec::with_capacity(40 + udp.len());
    let mut pseudo = Vec::with_capacity(40);
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = length.checked_add(20)?;
            packet.extend([0x45, 0]);
            packet.extend(total.to_be_bytes());
            // No identification, not to be fragmented.
            packet.extend([0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            let sum = checksum(&packet, &[]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            pseudo.extend(&packet[12..20]);
            pseudo.extend([0, UDP]);
            pseudo.extend(length.to_be_bytes());
        }
        (from, to) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([UDP, HOPS]);
            packet.extend(v6(from).octets());
            packet.extend(v6(to).octets());
            pseudo.extend(&packet[8..40]);
            pseudo.extend(u32::from(length).to_be_bytes());
            pseudo.extend([0, 0, 0, UDP]);
        }
    }
    // Zero would mean that there is none.
    let sum = match checksum(&pseudo, &udp) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    Some(packet)
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The Internet checksum (RFC 1071) over two parts, the first of even length.
fn checksum(first: &[u8], second: &[u8]) -> u16 {
    let words = first.chunks(2).chain(second.chunks(2));
    let mut sum: u64 = words.map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::trace::ladder::tests::heading;

    #[test]
    fn packets_have_right_lengths_and_checksums() {
        let v4 = packet("192.0.2.7:5060".parse().unwrap(), "192.0.2.1:5070".parse().unwrap(), b"abc").unwrap();
        assert_eq!(v4.len(), 31);
        assert_eq!(v4[..4], [0x45, 0, 0, 31]);
        assert_eq!(checksum(&v4[..20], &[]), 0, "a right header sums up to nothing");
        assert_eq!(
            (&v4[12..16], &v4[16..20], &v4[20..24]),
            (&[192, 0, 2, 7][..], &[192, 0, 2, 1][..], &[19, 196, 19, 206][..])
        );
        let pseudo = [&v4[12..20], &[0, UDP, 0, 11]].concat();
        assert_eq!(checksum(&pseudo, &v4[20..]), 0);
        let v6 = packet("[2001:db8::7]:5060".parse().unwrap(), "[2001:db8::1]:5070".parse().unwrap(), b"abcd").unwrap();
        assert_eq!((v6.len(), &v6[..8]), (52, &[0x60, 0, 0, 0, 0, 12, UDP, HOPS][..]));
        let pseudo = [&v6[8..40], &[0, 0, 0, 12, 0, 0, 0, UDP]].concat();
        assert_eq!(checksum(&pseudo, &v6[40..]), 0);
        let mapped = packet("[::ffff:192.0.2.7]:1".parse().unwrap(), "192.0.2.1:2".parse().unwrap(), b"").unwrap();
        assert_eq!(mapped[0], 0x45, "a mapped address is an IPv4 one");
    }

    #[test]
    fn a_record_has_its_time_and_what_is_too_long_is_left_out() {
        let mut file = Vec::new();
        let mut pcap = Pcap::new(&mut file).unwrap();
        let mut out = heading("out", "phone");
        out.at = 1_764_421_234_123_456;
        assert!(pcap.write(&out, b"abc").unwrap());
        assert!(!pcap.write(&out, &vec![0; 65_508]).unwrap());
        assert!(pcap.write(&out, &vec![0; 65_507]).unwrap());
        assert_eq!(file[..8], [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(file[24..28], 1_764_421_234_u32.to_le_bytes());
        assert_eq!(file[28..32], 123_456_u32.to_le_bytes());
        assert_eq!(file[40..][12..20], [192, 0, 2, 1, 192, 0, 2, 7], "from us to the handset");
        assert_eq!(file.len(), 24 + 16 + 31 + 16 + 65_535);
    }
}
