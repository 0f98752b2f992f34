//! An OPTIONS of our own.

use super::Forwarded;
use crate::flow::Transport;
use crate::proxy::edge::Edge;
use crate::proxy::site::Site;

/// The question whether a target lives (RFC 3261 §11.1), for its `host:port`.
pub(crate) fn ask(target: &str, to: &Edge, site: &Site) -> Forwarded {
    let uri = format!("sip:{target}");
    let serial = site.next_serial();
    let branch = site.key.branch(serial, site.key.loop_hash(to.side, uri.as_bytes()));
    let tag = site.key.response_tag(serial);
    let rport = if to.transport == Transport::Udp { ";rport" } else { "" };
    let (transport, sent_by) = (to.transport.via_token(), &to.sent_by);
    let text = format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {sent_by};branch={branch}{rport}\r\nMax-Forwards: 70\r\n\
         From: <sip:holdline@{sent_by}>;tag={tag}\r\nTo: <{uri}>\r\nCall-ID: {tag}@{sent_by}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    Forwarded { bytes: text.into(), branch }
}
