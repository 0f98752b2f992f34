//! Who may send what where, one rule a test: sides, addresses, limits of a hop, and requests for Holdline itself.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{Cause, ConnId, Flow, NetEvent, SocketId, Transport};
use holdline::proxy::contact::Mode;
use holdline::proxy::{Event, Settings};

use super::bench::{Bench, Opens, is_to_phone, response};

const PHONE: &str = "10.1.2.3:5060";

fn bench() -> Bench {
    Bench::new(Transport::Udp, false, Settings::default())
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A request as a phone at `via` would send it.
fn request(method: &str, uri: &str, via: &str, more: &str) -> Vec<u8> {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nFrom: <sip:1@pbx.example.com>;tag=1\r\n\
         To: <sip:1@pbx.example.com>\r\nCall-ID: {method}{uri}\r\nCSeq: 1 {method}\r\nContact: <sip:1@10.1.2.3>\r\n{more}\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn plain(method: &str, uri: &str, more: &str) -> Vec<u8> {
    request(method, uri, &format!("{PHONE};branch=z9hG4bK{method}"), more)
}

fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}

/// What a phone's message makes Holdline send: start lines, with who gets them.
fn says(bench: &mut Bench, message: &[u8]) -> Vec<String> {
    let flow = bench.phone(at(PHONE));
    bench.receive(flow, message);
    sent(bench)
}

fn sent(bench: &mut Bench) -> Vec<String> {
    bench
        .take()
        .iter()
        .map(|(to, bytes)| format!("{} {}", if is_to_phone(*to) { "phone" } else { "up" }, start(bytes)))
        .collect()
}

/// Registers the phone, and gives the Contact that upstream has, and upstream's flow.
fn registered(bench: &mut Bench, from: Flow) -> (String, Flow) {
    bench.receive(from, &plain("REGISTER", "sip:pbx.example.com", "Expires: 60\r\n"));
    let (to, up) = bench.take().pop().expect("it goes up");
    let text = String::from_utf8_lossy(&up).into_owned();
    let contact = text.lines().find_map(|line| line.strip_prefix("Contact: ")).expect("a Contact").to_owned();
    let ok = response(&up, 200);
    let line = format!("\r\nContact: {contact}\r\nExpires: 60\r\nx-ODD");
    let place = ok.windows(7).position(|window| window == b"\r\nx-ODD").expect("there");
    bench.receive(to, &[&ok[..place], line.as_bytes(), &ok[place + 7..]].concat());
    assert_eq!(sent(bench), ["phone SIP/2.0 200 "]);
    (contact.trim_matches(['<', '>']).to_owned(), to)
}

fn from_upstream(method: &str, uri: &str, more: &str) -> Vec<u8> {
    request(method, uri, &format!("198.51.100.97:5060;branch=z9hG4bKup{method}"), more)
}

#[test]
fn max_forwards_0_is_483_but_a_ping_of_ours_is_answered() {
    let mut bench = bench();
    let zero = "Max-Forwards: 0\r\n";
    assert_eq!(says(&mut bench, &plain("MESSAGE", "sip:2@pbx.example.com", zero)), ["phone SIP/2.0 483 Too Many Hops"]);
    assert_eq!(says(&mut bench, &plain("OPTIONS", "sip:2@10.0.0.1", zero)), ["phone SIP/2.0 483 Too Many Hops"]);
    assert_eq!(says(&mut bench, &plain("OPTIONS", "sip:10.0.0.1", zero)), ["phone SIP/2.0 200 OK"]);
}

#[test]
fn proxy_require_is_420_and_require_is_the_endpoints() {
    let mut bench = bench();
    let flow = bench.phone(at(PHONE));
    bench.receive(flow, &plain("MESSAGE", "sip:2@pbx.example.com", "Proxy-Require: a, b\r\n"));
    let (_, answer) = bench.take().pop().expect("an answer");
    assert_eq!(start(&answer), "SIP/2.0 420 Bad Extension");
    assert!(String::from_utf8_lossy(&answer).contains("\r\nUnsupported: a, b\r\n"));
    assert_eq!(says(&mut bench, &plain("INFO", "sip:2@pbx.example.com", "Require: a\r\n")).len(), 1);
}

#[test]
fn a_target_that_is_ourselves_ends_with_482_and_no_storm() {
    let mut bench = bench();
    let flow = bench.phone(at(PHONE));
    bench.receive(flow, &plain("REGISTER", "sip:pbx.example.com", ""));
    let (up, forwarded) = bench.take().pop().expect("it goes up");
    // It comes in at our own listener, from our own upstream socket.
    let own = Flow::Udp { socket: SocketId(0), local: bench.listen, remote: at("10.0.0.1:5080") };
    bench.receive(own, &forwarded);
    let (_, answer) = bench.take().pop().expect("an answer");
    assert_eq!(start(&answer), "SIP/2.0 482 Loop Detected");
    bench.receive(up, &answer);
    assert_eq!(sent(&mut bench), ["phone SIP/2.0 482 Loop Detected"]);
    bench.advance(Duration::from_secs(120));
    assert_eq!(sent(&mut bench), [""; 0], "no storm");
    assert_eq!(bench.core.upstream().consecutive_failures(), 0);
}

#[test]
fn no_phone_reaches_another_phone() {
    let mut bench = bench();
    let other = bench.phone(at("10.1.2.4:5060"));
    let (contact, up) = registered(&mut bench, other);
    let route = format!("Route: <{contact};lr>\r\n");
    for (method, uri, route) in
        [("MESSAGE", &*contact, ""), ("INFO", "sip:10.1.2.4:5060", ""), ("NOTIFY", "sip:1@10.1.2.4", &*route)]
    {
        let up = format!("up {method} {uri} SIP/2.0");
        assert_eq!(says(&mut bench, &plain(method, uri, route)), [up], "to the PBX and nowhere else");
    }
    // The PBX does, by the same Contact.
    bench.receive(up, &from_upstream("MESSAGE", &contact, ""));
    assert_eq!(sent(&mut bench), ["phone MESSAGE sip:1@10.1.2.3 SIP/2.0"]);
}

#[test]
fn only_upstream_may_speak_for_upstream() {
    let mut bench = bench();
    let flow = bench.phone(at(PHONE));
    let (contact, up) = registered(&mut bench, flow);
    let untrusted = Flow::Udp { socket: SocketId(2), local: bench.bound, remote: at("203.0.113.9:5060") };
    bench.receive(untrusted, &from_upstream("OPTIONS", &contact, ""));
    assert_eq!(sent(&mut bench), [""; 0], "dropped, not even answered");
    // The target itself, from another port than its own: RFC 3261 has no rule against it.
    let port = Flow::Udp { socket: SocketId(2), local: bench.bound, remote: at("198.51.100.97:6060") };
    bench.receive(port, &from_upstream("MESSAGE", &contact, ""));
    assert_eq!(sent(&mut bench), ["phone MESSAGE sip:1@10.1.2.3 SIP/2.0"]);
    bench.receive(up, &from_upstream("NOTIFY", &contact, ""));
    assert_eq!(sent(&mut bench), ["phone NOTIFY sip:1@10.1.2.3 SIP/2.0"]);
    // The connected socket reaches one port; an answer asked for at another leaves by the unconnected one.
    bench.receive(up, &request("OPTIONS", "sip:192.0.2.1:5080", "198.51.100.97:7070;branch=z9hG4bKx", ""));
    let (to, answer) = bench.take().pop().expect("an answer");
    assert_eq!(start(&answer), "SIP/2.0 200 OK");
    assert!(
        matches!(to, Flow::Udp { socket: SocketId(2), remote, .. } if remote == at("198.51.100.97:7070")),
        "{to:?}"
    );
}

#[test]
fn an_answer_may_come_from_another_address_of_the_upstream_in_the_requests_dialog() {
    for (address, call_id, passes) in [
        ("198.51.100.98:5060", "", true),
        ("198.51.100.98:5060", "x", false),
        ("198.51.100.97:49152", "", true),
        ("203.0.113.66:5060", "", false),
    ] {
        let mut bench = bench();
        assert_eq!(says(&mut bench, &plain("REGISTER", "sip:pbx.example.com", "")).len(), 1);
        let flow = bench.phone(at("10.1.2.9:5060"));
        bench.receive(flow, &plain("OPTIONS", "sip:2@pbx.example.com", ""));
        let (_, up) = bench.take().pop().expect("it goes up");
        let answer = response(&up, 200);
        let answer = String::from_utf8_lossy(&answer).replace("Call-ID: ", &format!("Call-ID: {call_id}"));
        let from = Flow::Udp { socket: SocketId(2), local: at("192.0.2.1:5080"), remote: at(address) };
        bench.receive(from, answer.as_bytes());
        let expected: &[&str] = if passes { &["phone SIP/2.0 200 "] } else { &[] };
        assert_eq!(sent(&mut bench), expected, "{address} {call_id}");
    }
}

#[test]
fn a_phone_whose_connection_is_gone_is_480_or_430_by_path() {
    for (contact, status) in [(Mode::Rewrite, "480"), (Mode::Path, "430")] {
        let mut bench = Bench::new(Transport::Udp, false, Settings { contact, ..Settings::default() });
        bench.accept(1, at("10.2.0.1:40000"));
        let (uri, up) = registered(&mut bench, Flow::Conn(ConnId::Accepted(1)));
        bench.receive(up, &from_upstream("INFO", &uri, ""));
        assert!(sent(&mut bench)[0].starts_with("phone INFO "));
        bench.net(NetEvent::Closed { conn: ConnId::Accepted(1), cause: Cause::Reset });
        assert!(sent(&mut bench)[0].starts_with(&format!("up SIP/2.0 {status} ")), "what was under way");
        bench.receive(up, &from_upstream("INVITE", &uri, ""));
        let answers = sent(&mut bench);
        assert!(answers.last().expect("one").starts_with(&format!("up SIP/2.0 {status} ")), "{answers:?}");
    }
}

#[test]
fn old_phones_without_a_branch_are_told_apart() {
    let mut bench = bench();
    let invite = request("INVITE", "sip:2@pbx.example.com", "10.1.2.3", "");
    assert_eq!(says(&mut bench, &invite), ["phone SIP/2.0 100 Trying", "up INVITE sip:2@pbx.example.com SIP/2.0"]);
    assert_eq!(says(&mut bench, &invite), ["phone SIP/2.0 100 Trying"], "a retransmission");
    let other = String::from_utf8_lossy(&invite).replace("CSeq: 1", "CSeq: 2").into_bytes();
    assert_eq!(says(&mut bench, &other).len(), 2, "another transaction");
    let cancel =
        String::from_utf8_lossy(&invite).replace("INVITE", "CANCEL").replace("Call-ID: CANCEL", "Call-ID: INVITE");
    assert_eq!(says(&mut bench, cancel.as_bytes()), ["phone SIP/2.0 200 OK"], "held back until upstream has answered");
}

#[test]
fn a_cancel_before_the_connection_is_there_stops_the_invite() {
    let mut bench = Bench::new(Transport::Tcp, false, Settings::default());
    bench.opens = Opens::Later;
    let invite = plain("INVITE", "sip:2@pbx.example.com", "");
    assert_eq!(says(&mut bench, &invite), ["phone SIP/2.0 100 Trying"]);
    let cancel = String::from_utf8_lossy(&invite).replace("1 INVITE", "1 CANCEL").replacen("INVITE", "CANCEL", 1);
    let answers = says(&mut bench, cancel.as_bytes());
    assert_eq!(answers, ["phone SIP/2.0 200 OK", "phone SIP/2.0 487 Request Terminated"]);
    bench.opened(0);
    assert_eq!(sent(&mut bench), [""; 0], "nothing goes up");
    let stray = cancel.replace("Call-ID: INVITE", "Call-ID: other");
    assert_eq!(says(&mut bench, stray.as_bytes()), ["phone SIP/2.0 481 Call/Transaction Does Not Exist"]);
}

#[test]
fn answers_go_to_the_port_in_the_via_unless_the_phone_asks_otherwise() {
    let mut bench = bench();
    let from = bench.phone(at("10.1.2.3:49170"));
    for (via, to) in [
        ("10.1.2.3:5062;branch=z9hG4bKa", "10.1.2.3:5062"),
        ("10.1.2.3:5062;branch=z9hG4bKb;rport", "10.1.2.3:49170"),
        ("192.168.9.9:5062;branch=z9hG4bKc", "10.1.2.3:49170"),
    ] {
        bench.receive(from, &request("OPTIONS", "sip:10.0.0.1", via, ""));
        let (flow, _) = bench.take().pop().expect("an answer");
        assert!(matches!(flow, Flow::Udp { remote, .. } if remote == at(to)), "{via}: {flow:?}");
    }
}

#[test]
fn a_phone_that_knows_only_us_gets_its_own_names_back() {
    let domain = Some("pbx.example.com".to_owned());
    let mut bench = Bench::new(Transport::Udp, false, Settings { domain, domain_in_aor: true, ..Settings::default() });
    let register = String::from_utf8(plain("REGISTER", "sip:10.0.0.1", "")).expect("text");
    let register = register.replace("sip:1@pbx.example.com", "sip:1@10.0.0.1:5060");
    let flow = bench.phone(at(PHONE));
    bench.receive(flow, register.as_bytes());
    let (to, up) = bench.take().pop().expect("it goes up");
    let text = String::from_utf8_lossy(&up).into_owned();
    assert!(text.starts_with("REGISTER sip:pbx.example.com SIP/2.0\r\n"), "{text}");
    assert!(text.contains("From: <sip:1@pbx.example.com>") && text.contains("To: <sip:1@pbx.example.com>"), "{text}");
    bench.receive(to, &response(&up, 401));
    let (_, back) = bench.take().pop().expect("it comes back");
    let text = String::from_utf8_lossy(&back).into_owned();
    assert!(text.contains("From: <sip:1@10.0.0.1:5060>") && text.contains("To: <sip:1@10.0.0.1:5060>"), "{text}");
}

#[test]
fn a_draining_holdline_takes_registers_and_no_new_dialogs() {
    let mut bench = bench();
    bench.handle(Event::Drain);
    assert_eq!(
        says(&mut bench, &plain("INVITE", "sip:2@pbx.example.com", "")),
        ["phone SIP/2.0 503 Holdline is stopping"]
    );
    assert_eq!(says(&mut bench, &plain("REGISTER", "sip:pbx.example.com", "")).len(), 1);
    assert!(!bench.core.is_quiet());
}

#[test]
fn without_retry_one_attempt_is_answered_as_it_comes() {
    let retry = Settings { retry: false, ..Settings::default() };
    let mut bench = Bench::new(Transport::Udp, false, retry.clone());
    let flow = bench.phone(at(PHONE));
    bench.receive(flow, &plain("REGISTER", "sip:pbx.example.com", ""));
    let (to, up) = bench.take().pop().expect("it goes up");
    bench.receive(to, &response(&up, 503));
    assert_eq!(sent(&mut bench), ["phone SIP/2.0 500 "], "RFC 3261 §16.7");
    // Silence is silence, but for the 100 at 3.5 s.
    let mut bench = Bench::new(Transport::Udp, false, retry);
    bench.receive(flow, &plain("REGISTER", "sip:pbx.example.com", ""));
    let (to, up) = bench.take().pop().expect("it goes up");
    bench.advance(Duration::from_secs(10));
    let said = bench.take();
    assert_eq!(said.iter().filter(|(to, _)| is_to_phone(*to)).count(), 1, "{said:?}");
    let branches: Vec<Bytes> =
        said.iter().filter(|(to, _)| !is_to_phone(*to)).map(|(_, bytes)| bytes.clone()).collect();
    assert_eq!(branches, [&up[..]; 3], "one attempt only, repeated after 0.5, 1.5 and 3.5 s");
    bench.receive(to, &response(&up, 403));
    assert_eq!(sent(&mut bench), ["phone SIP/2.0 403 "], "late, but an answer");
}

#[test]
fn who_may_not_talk_to_the_phones_side_is_not_answered() {
    let mut bench = bench();
    let flow = bench.phone(at("203.0.113.7:5060"));
    bench.receive(flow, &plain("OPTIONS", "sip:10.0.0.1", ""));
    assert_eq!(sent(&mut bench), [""; 0]);
    bench.accept(1, at("203.0.113.7:40000"));
    bench.receive(Flow::Conn(ConnId::Accepted(1)), &plain("OPTIONS", "sip:10.0.0.1", ""));
    assert_eq!(sent(&mut bench), [""; 0]);
    assert_eq!(says(&mut bench, &plain("OPTIONS", "sip:10.0.0.1", "")), ["phone SIP/2.0 200 OK"], "who may is");
}

/// A call that a registered phone began: the Routes that upstream has of it, and upstream's flow.
fn called(bench: &mut Bench) -> (String, Flow) {
    let flow = bench.phone(at(PHONE));
    registered(bench, flow);
    bench.receive(flow, &plain("INVITE", "sip:2@pbx.example.com", ""));
    let (to, up) = bench.take().pop().expect("it goes up");
    let text = String::from_utf8_lossy(&up).into_owned();
    let route = text.lines().find_map(|line| line.strip_prefix("Record-Route: ")).expect("ours").to_owned();
    (format!("Route: {route}\r\n"), to)
}

#[test]
fn max_forwards_0_ends_inside_a_dialog_too() {
    let mut bench = bench();
    let (routes, up) = called(&mut bench);
    let bye = String::from_utf8(from_upstream("BYE", "sip:1@10.1.2.3", &routes)).expect("text");
    let bye = bye.replace("To: <sip:1@pbx.example.com>", "To: <sip:1@pbx.example.com>;tag=2");
    let last = bye.replace("Content-Length", "Max-Forwards: 0\r\nContent-Length").replace("z9hG4bKup", "z9hG4bKlast");
    bench.receive(up, last.as_bytes());
    assert_eq!(sent(&mut bench), ["up SIP/2.0 483 Too Many Hops"]);
    bench.receive(up, bye.as_bytes());
    assert_eq!(sent(&mut bench), ["phone BYE sip:1@10.1.2.3 SIP/2.0"]);
}

#[test]
fn a_mark_that_we_did_not_make_moves_nothing() {
    let mut bench = bench();
    let (routes, up) = called(&mut bench);
    let (mark, rest) = routes.split_once('@').expect("a mark");
    let last = if mark.ends_with('a') { "b" } else { "a" };
    let altered = format!("{}{last}@{rest}", &mark[..mark.len() - 1]);
    bench.receive(up, &from_upstream("NOTIFY", "sip:x@192.0.2.1:5080", &altered));
    assert_eq!(sent(&mut bench), ["up SIP/2.0 403 Not a Route of this Holdline"]);
    assert_eq!(
        says(&mut bench, &plain("INFO", "sip:2@pbx.example.com", &altered)),
        ["phone SIP/2.0 403 Not a Route of this Holdline"]
    );
    // What has not a mark's length is a Route to our address, and comes off.
    let longer = format!("{mark}a@{rest}");
    bench.receive(up, &from_upstream("MESSAGE", "sip:x@192.0.2.1:5080", &longer));
    assert_eq!(sent(&mut bench), ["up SIP/2.0 404 Not one of this Holdline's handsets"]);
    assert_eq!(
        says(&mut bench, &plain("MESSAGE", "sip:2@pbx.example.com", &longer)),
        ["up MESSAGE sip:2@pbx.example.com SIP/2.0"]
    );
}

/// The end of a datagram says where its message ends: the blank line that it lacks is put back, and its lines get their CRs.
#[test]
fn a_datagram_without_its_blank_line_or_with_bare_lfs_goes_on_as_if_it_were_whole_in_both_directions() {
    type Shape = fn(&[u8]) -> Vec<u8>;
    let shapes: [Shape; 4] = [
        <[u8]>::to_vec,
        |whole| whole[..whole.len() - 2].to_vec(),
        |whole| whole.iter().copied().filter(|byte| *byte != b'\r').collect(),
        |whole| String::from_utf8_lossy(whole).replace("X: a b", "X: a\r\n\t b").into_bytes(),
    ];
    let passed = shapes.map(|shape| {
        let mut bench = bench();
        let flow = bench.phone(at(PHONE));
        bench.receive(flow, &shape(&plain("REGISTER", "sip:pbx.example.com", "X: a b\r\n")));
        let up = bench.take();
        let (to, request) = up.first().expect("it goes up");
        let answer =
            String::from_utf8_lossy(&response(request, 403)).replace("l: 3\r\n\r\n\0\r\n", "X: a b\r\nl: 0\r\n\r\n");
        let answer = answer.replace(" folded\r\n\t value", " value").replace('\u{fffd}', "x");
        bench.receive(*to, &shape(answer.as_bytes()));
        (up, bench.take())
    });
    assert_eq!(passed[0].1.len(), 1, "{passed:?}");
    assert!(
        passed[0].0[0].1.ends_with(b"\r\n\r\n") && passed[0].1[0].1.ends_with(b"X: a b\r\nl: 0\r\n\r\n"),
        "{passed:?}"
    );
    assert!(passed.iter().all(|each| *each == passed[0]), "{passed:?}");
}
