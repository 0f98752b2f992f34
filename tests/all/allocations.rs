//! How often the heap is asked on the wire path.

use bytes::Bytes;
use holdline::message::{Edit, Message};

const REGISTER: &[u8] = include_bytes!("../data/phones/yealink-register.sip");

/// Scan, push a Via, decrement Max-Forwards, serialise: at most three allocations (the outcome is one of them).
#[test]
fn forwarding_a_667_byte_register_allocates_at_most_three_times() {
    assert_eq!(REGISTER.len(), 667);
    let received = Bytes::copy_from_slice(REGISTER);
    let mut sent = 0;
    let counted = allocation_counter::measure(|| {
        let message = Message::scan(received).expect("a REGISTER");
        let hops = message.max_forwards().unwrap_or(70);
        let mut edit = Edit::new(&message);
        edit.push_via(b"SIP/2.0/TLS 203.0.113.7:5080;branch=z9hG4bKq7w3e5r1t9y2u4i6o8p0;rport");
        edit.set_max_forwards(hops - 1);
        sent = edit.finish().len();
    });
    assert!(sent > REGISTER.len());
    assert!(counted.count_total <= 3, "{counted:?}");
}
