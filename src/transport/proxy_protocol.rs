//! The PROXY protocol, versions 1 and 2: how a load balancer says whose connection it passes on
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! A header is believed only of the networks in `proxy_protocol`, and is demanded of them: whoever could leave it out could
//! be anybody. It is read to its last byte and no further; what follows is TLS or SIP.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::said::Said;

/// What version 2 begins with (§2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with (§2.1).
const WORD: &[u8] = b"PROXY ";
/// The longest header of version 1, CRLF included.
const LONGEST_LINE: usize = 107;
/// Of version 2, addresses and what is beside them. The addresses of a stream take 36; the rest is nobody's business here.
const LONGEST_BLOCK: usize = 2048;

/// Why what a connection begins with is no header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Something else begins there: TLS, SIP.
    Absent,
    /// It begins like one, and goes wrong.
    Malformed(&'static str),
    /// The connection ended.
    Ended,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Absent => {
                f.write_str("it begins with no PROXY header; let the load balancer send one (send-proxy-v2)")
            }
            Fault::Malformed(what) => write!(f, "its PROXY header is wrong: {what}"),
            Fault::Ended => f.write_str("it ended before its PROXY header did"),
        }
    }
}

/// Whether a connection that begins so begins with a PROXY header, for whoever expects none.
pub(super) fn is_begun(bytes: &[u8]) -> bool {
    bytes.starts_with(WORD) || bytes.starts_with(&SIGNATURE)
}

/// Says that somebody sends a header who is not known to.
pub(super) fn unexpected(said: &Said, source: IpAddr) {
    if let Some(more_like_it) = said.due("unexpected proxy header") {
        tracing::warn!(
            %source,
            more_like_it,
            "a connection begins with a PROXY header and is closed; if it is a load balancer's, add its network to `proxy_protocol`"
        );
    }
}

/// Reads the header and nothing behind it. `None`: the load balancer speaks for itself (LOCAL, UNKNOWN: a health check), or of
/// something that is no stream between two addresses; then the connection's own address counts.
pub(super) async fn source<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<SocketAddr>, Fault> {
    let mut begin = [0; SIGNATURE.len()];
    for at in 0..begin.len() {
        begin[at] = byte(stream).await?;
        let so_far = &begin[..=at];
        if !is_like(so_far, &SIGNATURE) && !is_like(so_far, WORD) {
            return Err(Fault::Absent);
        }
    }
    if begin == SIGNATURE { block(stream).await } else { line(stream, &begin).await }
}

/// One is the beginning of the other.
fn is_like(bytes: &[u8], pattern: &[u8]) -> bool {
    let length = bytes.len().min(pattern.len());
    bytes[..length] == pattern[..length]
}

async fn byte<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u8, Fault> {
    stream.read_u8().await.map_err(|_| Fault::Ended)
}

/// Version 1: `PROXY TCP4 192.0.2.7 192.0.2.1 49152 5060`.
async fn line<S: AsyncRead + Unpin>(stream: &mut S, begin: &[u8]) -> Result<Option<SocketAddr>, Fault> {
    let mut line = begin.to_vec();
    // Its end may be among the first bytes only in a line too short to be one.
    while !line.ends_with(b"\n") {
        if line.len() == LONGEST_LINE {
            return Err(Fault::Malformed("a line of more than 107 bytes"));
        }
        line.push(byte(stream).await?);
    }
    let text = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    let text = text.ok_or(Fault::Malformed("no line of ASCII that ends with CRLF"))?;
    let mut words = text.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let words: Vec<&str> = words.collect();
    let &[from, to, from_port, to_port] = words.as_slice() else {
        return Err(Fault::Malformed("not four words behind the family"));
    };
    let address = |text: &str| text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == (family == "TCP4"));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    match (family, address(from), address(to), port(from_port), port(to_port)) {
        ("TCP4" | "TCP6", Some(ip), Some(_), Some(port), Some(_)) => Ok(Some(SocketAddr::new(ip, port))),
        ("TCP4" | "TCP6", ..) => Err(Fault::Malformed("addresses or ports that are none")),
        _ => Err(Fault::Malformed("a family that is neither TCP4 nor TCP6")),
    }
}

/// Version 2, from behind its signature on.
async fn block<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<SocketAddr>, Fault> {
    let (command, family) = (byte(stream).await?, byte(stream).await?);
    let length = usize::from(stream.read_u16().await.map_err(|_| Fault::Ended)?);
    if command >> 4 != 2 {
        return Err(Fault::Malformed("a version that is neither 1 nor 2"));
    }
    if length > LONGEST_BLOCK {
        return Err(Fault::Malformed("more than 2048 bytes"));
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await.map_err(|_| Fault::Ended)?;
    match (command & 0x0f, family) {
        (1, 0x11) => {
            let [a, b, c, d, _, _, _, _, port @ .., _, _] = first::<12>(&block)?;
            Ok(Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes(port))))
        }
        (1, 0x21) => {
            let block = first::<36>(&block)?;
            let mut octets = [0; 16];
            octets.copy_from_slice(&block[..16]);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(octets).into(), u16::from_be_bytes([block[32], block[33]]))))
        }
        // LOCAL, whatever the family; Unix sockets, datagrams, unspecified.
        (0 | 1, _) => Ok(None),
        _ => Err(Fault::Malformed("a command that is neither LOCAL nor PROXY")),
    }
}

fn first<const N: usize>(block: &[u8]) -> Result<[u8; N], Fault> {
    block.first_chunk::<N>().copied().ok_or(Fault::Malformed("addresses that are cut short"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was read, and what was left behind it.
    fn read(bytes: &[u8]) -> (Result<Option<SocketAddr>, Fault>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut rest = bytes;
            let result = source(&mut rest).await;
            (result, rest.len())
        })
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, block].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0xc0, 0x00, 0x13, 0xc4];

    #[test]
    fn both_versions_say_whose_connection_it_is_and_nothing_behind_them_is_read() {
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&49152u16.to_be_bytes());
        let extra = [&V4[..], &[0x04, 0, 2, 1, 2]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 49152 5060\r\n".to_vec(), Some("192.0.2.7:49152")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 49152 5060\r\n".to_vec(), Some("[2001:db8::7]:49152")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &V4), Some("192.0.2.7:49152")),
            (v2(0x21, 0x11, &extra), Some("192.0.2.7:49152")),
            (v2(0x21, 0x21, &v6), Some("[2001:db8::7]:49152")),
            (v2(0x20, 0x11, &V4), None),
            (v2(0x21, 0x00, &[]), None),
        ] {
            let followed = [&header[..], b"REGISTER sip:pbx.example SIP/2.0\r\n"].concat();
            let (source, left) = read(&followed);
            assert_eq!(source, Ok(expected.map(|text| text.parse().unwrap())), "{header:?}");
            assert_eq!(left, followed.len() - header.len(), "{header:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_told_from_one_that_is_wrong() {
        for absent in
            [&b"REGISTER sip:pbx.example SIP/2.0\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n\r\n\r\n\r\n\r\n\r\n"]
        {
            assert_eq!(read(absent).0, Err(Fault::Absent), "{absent:?}");
        }
        for wrong in [
            &b"PROXY TCP4 192.0.2.7 192.0.2.1 49152\r\n"[..],
            b"PROXY TCP4 2001:db8::7 2001:db8::1 49152 5060\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 99999 5060\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 049152 5060\r\n",
            b"PROXY SCTP 192.0.2.7 192.0.2.1 49152 5060\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 49152 5060\n",
            &[&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(),
            &v2(0x31, 0x11, &V4),
            &v2(0x22, 0x11, &V4),
            &v2(0x21, 0x11, &V4[..11]),
            &v2(0x21, 0x21, &V4),
            &v2(0x21, 0x11, &[0; 3000]),
        ] {
            assert!(matches!(read(wrong).0, Err(Fault::Malformed(_))), "{wrong:?}: {:?}", read(wrong).0);
        }
        assert_eq!(read(b"PROXY TCP4 192.0.2").0, Err(Fault::Ended));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_are_read_without_end(
            begin in prop_oneof![Just(SIGNATURE.to_vec()), Just(WORD.to_vec()), Just(Vec::new())],
            bytes in prop::collection::vec(any::<u8>(), 0..4096),
        ) {
            let all = [begin, bytes].concat();
            let (_, left) = read(&all);
            prop_assert!(all.len() - left <= SIGNATURE.len() + 4 + LONGEST_BLOCK);
        }
    }
}
