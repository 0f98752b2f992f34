//! Our Via on top.

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
    let rport: &[u8] = if to.transport == Transport::Udp { b";rport" } else { b"" };
    let mut via: SmallVec<[u8; 128]> = SmallVec::new();
    let (token, sent_by) = (to.transport.via_token().as_bytes(), to.sent_by.as_bytes());
    for part in [b"SIP/2.0/", token, b" ", sent_by, b";branch=", branch.as_bytes(), rport] {
        via.extend_from_slice(part);
    }
    edit.push_via(&via);
    if to.transport.is_reliable() {
        edit.say_length();
    }
    branch
}
