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

/// Calls leave no memory behind: what a thousand calls allocated is given back once their timers have run.
#[test]
fn after_the_calls_and_their_timers_memory_is_back() {
    use std::net::SocketAddr;
    use std::time::Duration;

    use holdline::flow::Transport;
    use holdline::proxy::Settings;

    use super::wire::bench::{Bench, is_to_phone, response};

    let mut bench = Bench::new(Transport::Udp, false, Settings::default());
    let round = |bench: &mut Bench, first: u32| {
        for call in first..first + 1_000 {
            let flow = bench.phone(SocketAddr::from(([10, 1, 0, 9], 5060)));
            for (method, cseq) in [("INVITE", 1), ("BYE", 2)] {
                let text = format!(
                    "{method} sip:201@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.9;branch=z9hG4bK{method}{call};rport\r\n\
                     Max-Forwards: 70\r\nFrom: <sip:200@pbx.example.com>;tag={call}\r\nTo: <sip:201@pbx.example.com>\r\n\
                     Call-ID: {call}\r\nCSeq: {cseq} {method}\r\nContact: <sip:200@10.1.0.9>\r\nContent-Length: 0\r\n\r\n"
                );
                bench.receive(flow, text.as_bytes());
                let up = bench.take().into_iter().find(|(flow, _)| !is_to_phone(*flow));
                let (to, request) = up.expect("it was forwarded");
                for status in [180, 200].into_iter().filter(|status| method == "INVITE" || *status == 200) {
                    bench.receive(to, &response(&request, status));
                }
                assert!(bench.take().iter().any(|(_, bytes)| bytes.starts_with(b"SIP/2.0 200")), "it was answered");
            }
        }
        bench.advance(Duration::from_secs(240));
        assert_eq!((bench.core.transactions(), bench.core.contexts()), (0, 0));
    };
    // The first round makes the tables as large as they get.
    round(&mut bench, 0);
    let counted = allocation_counter::measure(|| round(&mut bench, 1_000));
    assert!(counted.count_total > 10_000, "it measures: {counted:?}");
    assert!(counted.bytes_current.abs() < 64 * 1024, "{counted:?}");
    assert!(counted.count_current.abs() < 64, "{counted:?}");
}

/// A refreshing REGISTER up and its 200 back: how often the core asks the heap. The peers' own allocations are not counted.
#[test]
fn a_register_up_and_back_allocates_no_more_than_before() {
    use std::net::SocketAddr;

    use holdline::flow::{NetEvent, Transport};
    use holdline::proxy::{Event, Settings};

    use super::message_mutations::Pieces;
    use super::wire::bench::{Bench, is_to_phone, response};

    /// As counted when this test was written; fewer is better.
    const MOST: u64 = 15;
    let mut bench = Bench::new(Transport::Udp, false, Settings::default());
    let flow = bench.phone(SocketAddr::from(([192, 168, 1, 20], 5060)));
    let mut counted = 0;
    let measure = |bench: &mut Bench, flow, bytes: Bytes| {
        let (event, now) = (Event::Net(NetEvent::Received { flow, bytes }), bench.now);
        let spent = allocation_counter::measure(|| bench.core.handle(event, now));
        bench.handle_nothing();
        spent.count_total
    };
    for round in 0..3 {
        let text = String::from_utf8_lossy(REGISTER).replace("branch=z9hG4bK", &format!("branch=z9hG4bK{round}"));
        let text = text.replace("Call-ID: ", &format!("Call-ID: {round}"));
        let up = measure(&mut bench, flow, text.into());
        let (to, request) = bench.take().into_iter().find(|(flow, _)| !is_to_phone(*flow)).expect("it goes up");
        // An answer's folds would be made spaces, in a copy of it; an ordinary one has none.
        let answer = Pieces::of(&response(&request, 200)).unfolded().join();
        let down = measure(&mut bench, to, answer.into());
        assert!(bench.take().iter().any(|(_, bytes)| bytes.starts_with(b"SIP/2.0 200")), "it comes back");
        counted = up + down;
    }
    assert!(counted <= MOST, "{counted} allocations");
    assert!(counted > 5, "it measures: {counted}");
}
