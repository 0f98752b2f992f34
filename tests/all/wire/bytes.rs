//! Whatever is forwarded is what was sent, but for the headers a hop must change; whatever is relayed back is what was
//! answered, but for our Via. Over the torture corpus and real phones' messages, mutated.

use std::net::SocketAddr;

use bytes::Bytes;
use holdline::flow::{Flow, Transport};
use holdline::proxy::Settings;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::bench::{Bench, is_to_phone, response};
use super::differ::{self, Hop};
use crate::message_mutations::{Pieces, message, name_of};

/// What became of a message from a phone.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Fate {
    Forwarded,
    Answered,
    Dropped,
}

fn settings() -> Settings {
    // What an untrusted peer sends is the question here, not who may send.
    Settings {
        allow: vec!["0.0.0.0/0".parse().expect("a network"), "::/0".parse().expect("a network")],
        ..Settings::default()
    }
}

/// Sends one message the whole way, up and back, and holds it to the differ.
fn goes(raw: &[u8], transport: Transport, six: bool, status: u16) -> Result<Fate, String> {
    let mut bench = Bench::new(transport, six, settings());
    let source: SocketAddr = if six { "[fd00::7]:5062" } else { "10.1.2.3:5062" }.parse().expect("literal");
    if raw.trim_ascii_start().starts_with(b"SIP/2.0 ") {
        return comes_back(&mut bench, raw, source);
    }
    let flow = bench.phone(source);
    bench.receive(flow, raw);
    let (mut up, mut down): (Vec<Item>, Vec<Item>) = (Vec::new(), Vec::new());
    for (to, bytes) in bench.take() {
        if is_to_phone(to) { down.push((to, bytes)) } else { up.push((to, bytes)) }
    }
    down.retain(|(_, bytes)| !bytes.starts_with(b"SIP/2.0 100 "));
    if up.len() + down.len() > 1 {
        return Err(format!("{} up and {} down", up.len(), down.len()));
    }
    if let Some((to, answer)) = down.pop() {
        return if answer.starts_with(b"SIP/2.0 ") {
            own_answer(raw, &answer, source, to)
        } else {
            Err("a request to a phone".into())
        };
    }
    let Some((to, arrived)) = up.pop() else { return Ok(Fate::Dropped) };
    let via = format!("SIP/2.0/{} {}", transport.via_token(), bench.bound);
    let contact = format!("@{};transport={transport}", bench.bound);
    let facing = if transport == Transport::Udp { String::new() } else { format!(";transport={transport}") };
    let record = format!("@{}{facing};lr>,<sip:{};lr>", bench.bound, bench.listen);
    let ours = ["10.0.0.1", "[fd00::1]"];
    differ::forwarded(raw, &arrived, &Hop { source, via: &via, contact: &contact, ours: &ours, record: &record })?;
    let answer = response(&arrived, status);
    bench.receive(to, &answer);
    let mut back: Vec<Item> = bench.take().into_iter().filter(|(to, _)| is_to_phone(*to)).collect();
    if arrived.starts_with(b"ACK ") {
        return if back.is_empty() { Ok(Fate::Forwarded) } else { Err("an ACK was answered".into()) };
    }
    let (_, back) = back.pop().ok_or("no answer came back")?;
    differ::relayed(&answer, &back)?;
    Ok(Fate::Forwarded)
}

type Item = (Flow, Bytes);

/// A response: put behind a request of its method, with our Via on top, it arrives as it was.
fn comes_back(bench: &mut Bench, raw: &[u8], source: SocketAddr) -> Result<Fate, String> {
    let proper = differ::proper(raw);
    let pieces = Pieces::of(&closed(&proper));
    let Some(cseq) = pieces.headers.iter().find(|line| name_of(line) == "cseq") else { return Ok(Fate::Dropped) };
    let method = String::from_utf8_lossy(cseq).split_whitespace().last().unwrap_or_default().to_owned();
    let request = format!(
        "{method} sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bKours\r\nCSeq: 1 {method}\r\n\
         From: <sip:1@h>;tag=1\r\nTo: <sip:1@h>\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n"
    );
    let flow = bench.phone(source);
    bench.receive(flow, request.as_bytes());
    let sent: Vec<Item> = bench.take().into_iter().filter(|(to, _)| !is_to_phone(*to)).collect();
    // A damaged CSeq is no method.
    let Some((to, up)) = sent.first() else { return Ok(Fate::Dropped) };
    let text = String::from_utf8_lossy(up).into_owned();
    let via = text.split("\r\n").find(|line| line.starts_with("Via: ")).ok_or("our Via")?;
    let sent = differ::whole(raw);
    let end = sent.windows(2).position(|two| two == b"\r\n").ok_or("a start line")? + 2;
    bench.receive(*to, &[&sent[..end], via.as_bytes(), b"\r\n", &sent[end..]].concat());
    let back: Vec<Item> = bench.take().into_iter().filter(|(to, _)| is_to_phone(*to)).collect();
    let status = &proper[8..11];
    match back.first() {
        // RFC 3261 §16.7 step 5.
        None if status == b"100" => Ok(Fate::Forwarded),
        None => Ok(Fate::Dropped),
        Some((_, back)) if *back == proper => Ok(Fate::Forwarded),
        Some((_, back)) => Err(format!("came {} arrived {}", show(&proper), show(back))),
    }
}

/// Our own answer has the phone's Vias, From, Call-ID and CSeq, and goes to the address it came from.
fn own_answer(raw: &[u8], answer: &[u8], source: SocketAddr, to: Flow) -> Result<Fate, String> {
    let Flow::Udp { remote, .. } = to else { return Err("over a connection".into()) };
    if remote.ip() != source.ip() {
        return Err(format!("answered to {remote}"));
    }
    let text = String::from_utf8_lossy(raw).replace("\r\n", "");
    if text.contains(['\r', '\n']) {
        // Where its lines end is what is wrong with it.
        return Ok(Fate::Answered);
    }
    let sent = Pieces::of(&differ::proper(&closed(raw)));
    let answer = Pieces::of(answer);
    for name in ["from", "call-id", "cseq"] {
        let value =
            |pieces: &Pieces| pieces.headers.iter().find(|line| name_of(line) == name).map(|line| value_of(line));
        if value(&sent).is_some() && value(&answer).is_some() && value(&sent) != value(&answer) {
            return Err(format!("another {name}"));
        }
    }
    Ok(Fate::Answered)
}

/// With a blank line where there is none.
fn closed(raw: &[u8]) -> Vec<u8> {
    if raw.windows(4).any(|four| four == b"\r\n\r\n") { raw.to_vec() } else { [raw, b"\r\n\r\n"].concat() }
}

/// A value without white space: an answer of ours may unfold it.
fn value_of(line: &[u8]) -> Vec<u8> {
    let colon = line.iter().position(|byte| *byte == b':').map_or(line.len(), |colon| colon + 1);
    line[colon..].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
}

fn show(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

#[test]
fn at_least_nine_in_ten_of_what_the_generator_makes_are_forwarded_or_answered() {
    let mut runner = TestRunner::deterministic();
    let (strategy, total) = (message(), 400);
    let mut fates = Vec::new();
    for _ in 0..total {
        let raw = strategy.new_tree(&mut runner).expect("a message").current();
        fates.push(goes(&raw, Transport::Udp, false, 404).unwrap_or_else(|why| panic!("{why}: {}", show(&raw))));
    }
    let count = |fate| fates.iter().filter(|f| **f == fate).count();
    println!("{} forwarded, {} answered of {total}", count(Fate::Forwarded), count(Fate::Answered));
    assert!(count(Fate::Forwarded) * 10 >= total * 8, "{}", count(Fate::Forwarded));
    assert!((count(Fate::Forwarded) + count(Fate::Answered)) * 10 >= total * 9);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hop_changes_only_what_it_must_and_the_way_back_nothing(
        raw in message(),
        transport in prop::sample::select(vec![Transport::Udp, Transport::Tcp, Transport::Tls]),
        six in any::<bool>(),
        status in prop::sample::select(vec![200_u16, 202, 302, 401, 404, 423, 486, 501, 603, 699]),
    ) {
        if let Err(why) = goes(&raw, transport, six, status) {
            return Err(TestCaseError::fail(format!("{why}\n{}", String::from_utf8_lossy(&raw))));
        }
    }
}
