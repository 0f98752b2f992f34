//! One datagram through everything that reads and changes a message.
#![no_main]

use bytes::Bytes;
use holdline::flow::Transport;
use holdline::message::{Edit, Message, Name, Params, Reply, Span, Uri};
use libfuzzer_sys::fuzz_target;

const LISTS: [Name; 6] = [Name::Via, Name::Contact, Name::Route, Name::RecordRoute, Name::Path, Name::Supported];

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::scan(Bytes::copy_from_slice(data)) else { return };
    read(&message);
    let source = "[2001:db8::1]:5099".parse().expect("an address");
    let reply = Reply::to(&message, 400, "Bad Request").tag(b"t").stamp(source).finish();
    Message::scan(reply).expect("an answer is a message");
    every_edit(&message);
    if message.check(Transport::Udp).is_ok() {
        forward_and_back(&message);
        // What was repaired and unfolded needs neither again.
        let again = Message::scan(message.bytes().clone()).expect("a message");
        assert_eq!((again.bytes(), again.check(Transport::Udp)), (message.bytes(), Ok(())));
    }
});

fn read(message: &Message) {
    let buf: &[u8] = message.bytes();
    assert!(data_ends_with_body(message));
    for header in message.headers() {
        assert!(header.line.start <= header.name_span.start && header.value.end <= header.line.end);
        let _ = Params::new(buf, header.value).count();
    }
    for name in LISTS {
        for element in message.list(name) {
            assert!(element.line.start <= element.whole.start && element.whole.end <= element.line.end);
            assert!(element.whole.start <= element.span.start && element.span.end <= element.whole.end);
            let _ = Uri::parse(buf, element.span);
        }
    }
    for contact in message.contacts() {
        if let holdline::message::Contact::Addr(addr) = contact {
            let _ = Uri::parse(buf, addr.uri);
        }
    }
    let _ = Uri::parse(buf, message.request_uri());
    let _ = (message.from_tag(), message.to_tag(), message.cseq(), message.max_forwards(), message.expires());
    let _ = (message.check(Transport::Tcp), message.vias().count(), message.named(b"contact").count());
}

fn data_ends_with_body(message: &Message) -> bool {
    message.bytes().ends_with(message.body()) && message.body_span().to() == message.bytes().len()
}

/// All at once: the ranges overlap, and no edit may panic for it.
fn every_edit(message: &Message) {
    let mut edit = Edit::new(message);
    edit.stamp_via("192.0.2.1:5060".parse().expect("an address"), true);
    edit.push_via(b"SIP/2.0/UDP h");
    edit.pop_via();
    edit.set_max_forwards(1);
    edit.set_request_uri(b"sip:h");
    for name in LISTS {
        for element in message.list(name).step_by(2) {
            edit.cut(&element);
        }
    }
    edit.remove_option(Name::Supported, b"path");
    edit.restore_vias_from(message, "192.0.2.1:5060".parse().expect("an address"));
    edit.add_after_vias("A", b"b");
    edit.add_last("C", b"d");
    for header in message.headers() {
        edit.set_header(header, b"x");
    }
    edit.remove(Span::new(3, 1_000_000));
    let _ = edit.finish();
}

fn forward_and_back(message: &Message) {
    let mut edit = Edit::new(message);
    edit.push_via(b"SIP/2.0/TLS h:5061;branch=z9hG4bKx;rport");
    let pushed = Message::scan(edit.finish()).expect("still a message");
    assert_eq!(pushed.check(Transport::Udp), Ok(()));
    let mut edit = Edit::new(&pushed);
    edit.pop_via();
    assert_eq!(edit.finish(), message.bytes());

    let mut edit = Edit::new(message);
    edit.push_via(b"SIP/2.0/TLS h:5061;branch=z9hG4bKx;rport");
    edit.stamp_via("192.0.2.1:5060".parse().expect("an address"), true);
    edit.set_max_forwards(69);
    for element in message.list(Name::Route) {
        edit.cut(&element);
    }
    let sent = Message::scan(edit.finish()).expect("still a message");
    assert_eq!(sent.check(Transport::Udp), Ok(()));
    assert_eq!(sent.body(), message.body());
    assert_eq!(sent.call_id(), message.call_id());
    assert_eq!(sent.list(Name::Route).count(), 0);
}
