//! STUN binding requests on the SIP port (RFC 5626 §4.4.2, RFC 5389): a phone's keep-alive, and how it learns its address.
//!
//! Only a binding request is answered, with nothing but the address it came from: at most 36 bytes for the 20 of a request,
//! to that address. Phones of RFC 3489, which knew no magic cookie, get the plain address.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const BINDING_ERROR: [u8; 2] = [1, 0x11];
const MAPPED_ADDRESS: u16 = 0x0001;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// From here on an attribute may be ignored (RFC 5389 §15).
const OPTIONAL: u16 = 0x8000;
/// USERNAME, MESSAGE-INTEGRITY, REALM, NONCE: understood, and not needed here.
const IGNORED: [u16; 4] = [0x0006, 0x0008, 0x0014, 0x0015];
/// So many attributes that are not understood are named.
const MAX_NAMED: usize = 4;

/// What a datagram is to STUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stun {
    /// No STUN: SIP, or garbage.
    No,
    /// STUN that is not answered.
    Dropped,
    /// A binding request and its answer.
    Answer(Bytes),
}

/// Looks at a datagram from `source`. A SIP message never begins with a byte below 4, STUN always does.
#[must_use]
pub(crate) fn receive(bytes: &[u8], source: SocketAddr) -> Stun {
    if bytes.len() < HEADER || bytes[0] & 0xc0 != 0 {
        return Stun::No;
    }
    let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    let fits = length.is_multiple_of(4) && length == bytes.len() - HEADER;
    let modern = bytes[4..8] == COOKIE;
    if !fits || bytes[..2] != BINDING_REQUEST {
        return if modern { Stun::Dropped } else { Stun::No };
    }
    let transaction = &bytes[4..HEADER];
    if !modern {
        // RFC 3489 has attributes of its own; none of them changes what the answer says here (RFC 5389 §12.2).
        return Stun::Answer(message(BINDING_SUCCESS, transaction, &address(MAPPED_ADDRESS, source, &[0; 16])));
    }
    match unknown(&bytes[HEADER..]) {
        None => Stun::Dropped,
        Some(named) if named.is_empty() => {
            Stun::Answer(message(BINDING_SUCCESS, transaction, &address(XOR_MAPPED_ADDRESS, source, transaction)))
        }
        Some(named) => {
            let mut body = attribute(ERROR_CODE, &[0, 0, 4, 20]);
            body.extend(attribute(UNKNOWN_ATTRIBUTES, &named));
            Stun::Answer(message(BINDING_ERROR, transaction, &body))
        }
    }
}

/// The first attributes that must be understood and are not, as they are named in the answer. `None`: cut short.
fn unknown(mut attributes: &[u8]) -> Option<Vec<u8>> {
    let mut named = Vec::new();
    while !attributes.is_empty() {
        let [a, b, c, d, rest @ ..] = attributes else { return None };
        let kind = u16::from_be_bytes([*a, *b]);
        let padded = usize::from(u16::from_be_bytes([*c, *d])).next_multiple_of(4);
        attributes = rest.get(padded..)?;
        if kind < OPTIONAL && !IGNORED.contains(&kind) && named.len() < 2 * MAX_NAMED {
            named.extend_from_slice(&kind.to_be_bytes());
        }
    }
    Some(named)
}

/// An address, with port and address under `mask`: cookie and transaction ID for XOR-MAPPED-ADDRESS (RFC 5389 §15.2).
fn address(kind: u16, source: SocketAddr, mask: &[u8]) -> Vec<u8> {
    let port = source.port().to_be_bytes();
    let (family, ip) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family, port[0] ^ mask[0], port[1] ^ mask[1]];
    value.extend(ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    attribute(kind, &value)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn message(kind: [u8; 2], transaction: &[u8], body: &[u8]) -> Bytes {
    let mut out = kind.to_vec();
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(transaction);
    out.extend_from_slice(body);
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The transaction ID of RFC 5769's test vectors.
    const ID: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn request(attributes: &[u8]) -> Vec<u8> {
        message(BINDING_REQUEST, &[&COOKIE[..], &ID].concat(), attributes).to_vec()
    }

    fn answer(bytes: &[u8], source: &str) -> Vec<u8> {
        match receive(bytes, source.parse().expect("an address")) {
            Stun::Answer(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_binding_request_learns_the_address_of_rfc_5769_section_2_2() {
        let got = answer(&request(&[]), "192.0.2.1:32853");
        assert_eq!(got[..4], [1, 1, 0, 12]);
        assert_eq!(got[4..20], [&COOKIE[..], &ID].concat());
        assert_eq!(got[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
    }

    #[test]
    fn an_ipv6_one_that_of_section_2_3() {
        let got = answer(&request(&[]), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
        let expected = [
            0, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5,
            0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(got[20..], expected);
    }

    #[test]
    fn a_phone_of_rfc_3489_gets_its_plain_address() {
        let mut old = request(&[0, 3, 0, 4, 0, 0, 0, 6]);
        old[4..8].copy_from_slice(&[1, 2, 3, 4]);
        let got = answer(&old, "192.0.2.1:32853");
        assert_eq!(got[20..], [0, 1, 0, 8, 0, 1, 0x80, 0x55, 192, 0, 2, 1]);
        assert_eq!(got[4..20], old[4..20]);
    }

    #[test]
    fn what_must_be_understood_and_is_not_is_named() {
        let got = answer(&request(&[0, 3, 0, 4, 0, 0, 0, 6, 0x80, 0x22, 0, 1, b'x', 0, 0, 0]), "192.0.2.1:1");
        assert_eq!(got[..4], [1, 0x11, 0, 16]);
        assert_eq!(got[20..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 10, 0, 2, 0, 3, 0, 0]);
        let user = [0, 6, 0, 2, b'a', b'b', 0, 0];
        assert_eq!(answer(&request(&user), "192.0.2.1:1")[..2], BINDING_SUCCESS);
    }

    #[test]
    fn other_stun_is_dropped_and_sip_is_none() {
        let from = "192.0.2.1:1".parse().expect("an address");
        let mut indication = request(&[]);
        indication[1] = 0x11;
        assert_eq!(receive(&indication, from), Stun::Dropped);
        let mut cut = request(&[0, 6, 0, 8]);
        assert_eq!(receive(&cut, from), Stun::Dropped, "an attribute that is cut short");
        cut[3] = 8;
        assert_eq!(receive(&cut, from), Stun::Dropped, "a length that lies");
        assert_eq!(receive(b"OPTIONS sip:a SIP/2.0\r\n\r\n", from), Stun::No);
        assert_eq!(receive(&[0; 20], from), Stun::No);
    }

    proptest! {
        #[test]
        fn no_answer_is_much_longer_than_its_question(bytes in prop::collection::vec(any::<u8>(), 0..200), modern: bool) {
            let mut bytes = bytes;
            if bytes.len() >= HEADER {
                bytes[..2].copy_from_slice(&BINDING_REQUEST);
                let length = ((bytes.len() - HEADER) as u16).to_be_bytes();
                bytes[2..4].copy_from_slice(&length);
                if modern {
                    bytes[4..8].copy_from_slice(&COOKIE);
                }
            }
            if let Stun::Answer(answer) = receive(&bytes, "[2001:db8::1]:5060".parse().expect("an address")) {
                prop_assert!(answer.len() <= bytes.len() + 24);
            }
        }
    }
}
