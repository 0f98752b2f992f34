//! Addresses and numbers as text, without the standard formatter's machinery: every message has some.

use std::io::Write as _;
use std::net::IpAddr;

use smallvec::{Array, SmallVec};

/// Appends a number in decimal.
pub(crate) fn push_number<A: Array<Item = u8>>(out: &mut SmallVec<A>, number: u32) {
    let mut digits = [0; 10];
    let at = write_back(&mut digits, 10, number);
    out.extend_from_slice(&digits[at..]);
}

/// Writes a number so that it ends at `end`; where it begins.
fn write_back(out: &mut [u8], end: usize, mut number: u32) -> usize {
    let mut at = end;
    loop {
        at -= 1;
        out[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return at;
        }
    }
}

/// Appends an address as the standard library spells it: IPv6 without brackets.
pub(crate) fn push_ip<A: Array<Item = u8>>(out: &mut SmallVec<A>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let mut text = [b'.'; 16];
            let mut at = text.len();
            for octet in ip.octets().into_iter().rev() {
                at = write_back(&mut text, at, u32::from(octet)) - 1;
            }
            out.extend_from_slice(&text[at + 1..]);
        }
        // Writing to memory cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

/// Four numbers of one to three digits with dots between them, none with a zero in front: an IPv4 address has one spelling.
fn ipv4_literal(host: &[u8]) -> Option<[u8; 4]> {
    let mut octets = [0; 4];
    let mut parts = host.split(|byte| *byte == b'.');
    for octet in &mut octets {
        let digits = parts.next()?;
        let leading = digits.len() > 1 && digits[0] == b'0';
        if digits.is_empty() || digits.len() > 3 || leading || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        *octet = u8::try_from(digits.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'))).ok()?;
    }
    parts.next().is_none().then_some(octets)
}

/// An IP address as a host of a URI or Via: IPv6 with or without its brackets, IPv4 in IPv6 as IPv4.
#[must_use]
pub(crate) fn ip_literal(host: &[u8]) -> Option<IpAddr> {
    if let Some(octets) = ipv4_literal(host) {
        return Some(octets.into());
    }
    // Most other hosts are names: no address has a letter beyond `f`.
    if !host.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'[' | b']')) {
        return None;
    }
    let text = std::str::from_utf8(host).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_spelt_as_the_standard_library_does() {
        for number in [0, 1, 9, 10, 70, 255, 5060, 65_535, u32::MAX] {
            let mut out: SmallVec<[u8; 4]> = SmallVec::new();
            push_number(&mut out, number);
            assert_eq!(&*out, number.to_string().as_bytes());
        }
        for text in ["0.0.0.0", "192.0.2.10", "255.255.255.255", "2001:db8::1", "::ffff:192.0.2.1"] {
            let ip: IpAddr = text.parse().expect("an address");
            let mut out: SmallVec<[u8; 4]> = SmallVec::new();
            push_ip(&mut out, ip);
            assert_eq!(&*out, ip.to_string().as_bytes());
        }
    }

    #[test]
    fn a_host_is_an_address_in_every_spelling_of_it() {
        let v4: IpAddr = "192.0.2.1".parse().expect("an address");
        let v6: IpAddr = "2001:db8::1".parse().expect("an address");
        for (host, ip, is) in [
            (&b"192.0.2.1"[..], v4, true),
            (b"::ffff:192.0.2.1", v4, true),
            (b"[::ffff:c000:201]", v4, true),
            (b"192.0.2.10", v4, false),
            (b"192.0.2.01", v4, false),
            (b"pbx.example.com", v4, false),
            (b"", v4, false),
            (b"[2001:DB8:0:0::1]", v6, true),
            (b"2001:db8::1", v6, true),
            (b"[2001:db8::1", v6, false),
            (b"\xff", v6, false),
        ] {
            assert_eq!(ip_literal(host) == Some(ip), is, "{}", host.escape_ascii());
        }
    }
}
