//! Our Via on top.

use std::io::Write as _;

use smallvec::SmallVec;

use crate::flow::Transport;
use crate::message::{Edit, Message};
use crate::proxy::edge::Edge;
use crate::proxy::marks::Branch;
use crate::proxy::site::Site;

/// Our Via, with a branch nobody used before; and what the flow's transport wants.
pub(super) fn push(request: &Message, from: &Edge, to: &Edge, edit: &mut Edit<'_>, site: &Site) -> Branch {
    let hash = site.key.loop_hash(from.side, request.request_uri().of(request.bytes()));
    let branch = site.key.branch(site.next_serial(), hash);
    let rport = if to.transport == Transport::Udp { ";rport" } else { "" };
    let mut via: SmallVec<[u8; 128]> = SmallVec::new();
    // Writing to memory cannot fail.
    let _ = write!(via, "SIP/2.0/{} {};branch={branch}{rport}", to.transport.via_token(), to.sent_by);
    edit.push_via(&via);
    if to.transport.is_reliable() {
        edit.say_length();
    }
    branch
}
