//! The caller's side of a call over UDP.

use std::net::SocketAddr;

use crate::sdp;

/// What the caller sends when its INVITE is answered.
pub(crate) struct Established {
    /// The 2xx's ACK.
    pub ack: String,
    /// The BYE that follows it.
    pub bye: String,
}

/// An INVITE as a desk phone sends it, about a thousand bytes long.
pub(crate) fn invite(phone: u64, slot: usize, number: u64, local: SocketAddr) -> String {
    let body = sdp(local);
    format!(
        "INVITE sip:callee@pbx.example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};branch=z9hG4bK-{slot}-{number}-i;rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Desk {phone}\" <sip:{phone}@pbx.example.com>;tag=f{number}\r\n\
         To: <sip:callee@pbx.example.com>\r\n\
         Call-ID: c-{number}@{local}\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:{phone}@{local};transport=udp>\r\n\
         Supported: replaces, 100rel, timer\r\n\
         User-Agent: Desk Phone 5.9.7.2 0004f2abcdef\r\n\
         Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REFER, UPDATE, PRACK\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// ACK and BYE for the 2xx of an INVITE, along its Record-Routes; `None` for a response to anything else.
pub(crate) fn established(response: &[u8], slot: usize, number: u64, local: SocketAddr) -> Option<Established> {
    let text = std::str::from_utf8(response).ok()?;
    let header = |name: &str| text.split("\r\n").find_map(|line| line.strip_prefix(name));
    if header("CSeq: ")? != "1 INVITE" {
        return None;
    }
    let contact = header("Contact: ")?.split(['<', '>']).nth(1)?;
    let (from, to, call_id) = (header("From: ")?, header("To: ")?, header("Call-ID: ")?);
    let recorded = text.split("\r\n").filter_map(|line| line.strip_prefix("Record-Route: "));
    let mut routes: Vec<&str> = recorded.flat_map(|line| line.split(',').map(str::trim)).collect();
    routes.reverse();
    let routes = routes.join(",");
    let route = if routes.is_empty() { String::new() } else { format!("Route: {routes}\r\n") };
    let request = |method: &str, cseq: u32, letter: char| {
        format!(
            "{method} {contact} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{slot}-{number}-{letter};rport\r\n\
             Max-Forwards: 70\r\n{route}From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             User-Agent: Desk Phone 5.9.7.2 0004f2abcdef\r\nContent-Length: 0\r\n\r\n"
        )
    };
    Some(Established { ack: request("ACK", 1, 'a'), bye: request("BYE", 2, 'b') })
}
