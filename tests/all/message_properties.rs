//! Properties of `message/` over mutated messages, and over anything at all.

use std::net::SocketAddr;

use bytes::Bytes;
use holdline::flow::Transport;
use holdline::message::{Edit, Frame, Framer, Message, Name, NameAddr, Params, Reply, Span, Uri, Via};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::message_mutations::{PHONES, Pieces, message, name_of, originals, phone};

/// Scanned and checked, as every message that goes on is.
fn read(raw: &[u8]) -> Option<Message> {
    Message::scan(Bytes::copy_from_slice(raw)).ok().filter(|message| message.check(Transport::Udp).is_ok())
}

#[test]
fn the_generator_makes_at_least_nine_in_ten_messages_that_are_read() {
    let mut runner = TestRunner::deterministic();
    let (strategy, total) = (message(), 2000);
    let passed =
        (0..total).filter(|_| read(&strategy.new_tree(&mut runner).expect("a message").current()).is_some()).count();
    println!("{passed} of {total} are read");
    assert!(passed * 10 >= total * 9, "{passed} of {total}");
}

#[test]
fn the_originals_are_all_read() {
    for raw in originals() {
        assert!(read(&raw).is_some(), "{}", String::from_utf8_lossy(&raw));
    }
}

/// rsip cannot read most of the corpus, but of the phones' plain messages it is a second opinion.
#[test]
fn another_parser_sees_the_same_in_the_phones_messages() {
    use rsip::headers::ToTypedHeader;
    use rsip::prelude::{HeadersExt, UntypedHeader};
    for name in PHONES.iter().filter(|name| !name.starts_with("aastra")) {
        let raw = phone(name);
        let ours = read(&raw).expect(name);
        let theirs = rsip::SipMessage::try_from(raw.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(ours.call_id()), theirs.call_id_header().expect(name).value());
        let cseq = theirs.cseq_header().expect(name).typed().expect(name);
        assert_eq!(ours.cseq().map(|cseq| cseq.number), Some(cseq.seq), "{name}");
        assert_eq!(ours.method().as_str(), cseq.method.to_string(), "{name}");
        assert_eq!(text(ours.body()), text(theirs.body()), "{name}");
        let branch = theirs.via_header().expect(name).typed().expect(name).branch().map(ToString::to_string);
        let via = ours.top_via().expect(name);
        assert_eq!(via.branch.map(|branch| text(branch.of(ours.bytes()))), branch, "{name}");
        assert_eq!(ours.from_tag().map(text), tag_of(&theirs.from_header().expect(name).typed().expect(name).params));
    }
}

fn tag_of(params: &[rsip::Param]) -> Option<String> {
    params.iter().find_map(|param| match param {
        rsip::Param::Tag(tag) => Some(tag.value().to_owned()),
        _ => None,
    })
}

/// Header lines whose names are not among `touched`, and the body.
fn untouched(raw: &[u8], touched: &[&str]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let pieces = Pieces::of(raw);
    let lines = pieces.headers.into_iter().filter(|line| !touched.contains(&name_of(line).as_str())).collect();
    (lines, pieces.body)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn push_then_pop_is_the_identity(raw in message()) {
        let Some(message) = read(&raw) else { return Ok(()) };
        let mut edit = Edit::new(&message);
        edit.push_via(b"SIP/2.0/TLS [2001:db8::5]:5061;branch=z9hG4bKabc;rport");
        let pushed = read(&edit.finish()).expect("still a message");
        prop_assert_eq!(pushed.vias().count(), message.vias().count() + 1);
        let mut edit = Edit::new(&pushed);
        edit.pop_via();
        prop_assert_eq!(edit.finish(), message.bytes());
    }

    #[test]
    fn forwarding_changes_only_the_headers_it_must(raw in message(), hops in 0_u32..256) {
        let Some(message) = read(&raw) else { return Ok(()) };
        let source: SocketAddr = "198.51.100.7:5099".parse().expect("address");
        let mut edit = Edit::new(&message);
        edit.push_via(b"SIP/2.0/UDP h;branch=z9hG4bKabc");
        edit.stamp_via(source, true);
        edit.set_max_forwards(hops);
        edit.add_after_vias("Record-Route", b"<sip:h;lr>");
        edit.add_last("Path", b"<sip:h;lr>");
        let out = read(&edit.finish()).expect("still a message");
        let touched = ["via", "max-forwards", "record-route", "path"];
        prop_assert_eq!(untouched(message.bytes(), &touched), untouched(out.bytes(), &touched));
        prop_assert_eq!(Pieces::of(message.bytes()).start, Pieces::of(out.bytes()).start);
        prop_assert_eq!(out.max_forwards(), Some(hops));
        prop_assert_eq!(out.vias().count(), message.vias().count() + 1);
        let below = out.vias().nth(1).flatten().expect("the Via below");
        let received = below.received.and_then(|param| param.value).map(|value| value.of(out.bytes()));
        prop_assert_eq!(received, Some(&b"198.51.100.7"[..]));
        let was = message.vias().next().flatten().expect("a Via");
        prop_assert_eq!(below.branch.map(|b| b.of(out.bytes())), was.branch.map(|b| b.of(message.bytes())));
        prop_assert_eq!(below.rport.is_some(), was.rport.is_some());
        for (at, via) in message.vias().enumerate().skip(1) {
            let now = out.vias().nth(at + 1).flatten().map(|via| via.whole.of(out.bytes()).to_vec());
            prop_assert_eq!(now, via.map(|via| via.whole.of(message.bytes()).to_vec()));
        }
    }

    #[test]
    fn a_cut_takes_its_elements_and_nothing_else(raw in message(), mask in any::<u16>()) {
        let Some(message) = read(&raw) else { return Ok(()) };
        for (name, text) in [(Name::Contact, "contact"), (Name::Route, "route"), (Name::Supported, "supported")] {
            let mut stays = Vec::new();
            let mut edit = Edit::new(&message);
            for (index, element) in message.list(name).enumerate() {
                if mask & (1 << (index % 16)) == 0 {
                    stays.push(element.span.of(message.bytes()).to_vec());
                } else {
                    edit.cut(&element);
                }
            }
            let out = read(&edit.finish()).expect("still a message");
            let left: Vec<_> = out.list(name).map(|element| element.span.of(out.bytes()).to_vec()).collect();
            prop_assert_eq!(left, stays);
            prop_assert_eq!(untouched(message.bytes(), &[text]), untouched(out.bytes(), &[text]));
        }
    }

    #[test]
    fn splices_do_what_splicing_a_vector_does(raw in message(), cuts in vec((any::<u16>(), 0_usize..20, "[a-z]{0,8}"), 0..10)) {
        let Some(message) = read(&raw) else { return Ok(()) };
        let len = message.bytes().len();
        let mut ranges: Vec<_> = cuts.iter().map(|(at, n, text)| {
            let start = usize::from(*at) % len;
            (start, (start + n).min(len), text.as_bytes())
        }).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| next.0 <= kept.1);
        let mut want = message.bytes().to_vec();
        for (start, end, text) in ranges.iter().rev() {
            want.splice(start..end, text.iter().copied());
        }
        let mut edit = Edit::new(&message);
        for (start, end, text) in ranges.iter().rev() {
            edit.replace(Span::new(*start, *end), text);
        }
        prop_assert_eq!(edit.finish(), want);
    }

    #[test]
    fn every_answer_is_a_message(raw in message(), status in 100_u16..700) {
        let Ok(message) = Message::scan(Bytes::copy_from_slice(&raw)) else { return Ok(()) };
        if !message.is_request() {
            return Ok(());
        }
        let bytes = Reply::to(&message, status, "Why Not").tag(b"abc").header("X", b"y").finish();
        let reply = Message::scan(bytes).expect("a response");
        prop_assert_eq!(reply.status(), status);
        prop_assert!(reply.body().is_empty());
        if message.check(Transport::Udp).is_ok() {
            prop_assert_eq!(reply.check(Transport::Tcp), Ok(()));
            prop_assert_eq!(reply.from_tag(), message.from_tag());
            prop_assert_eq!(reply.vias().count(), message.vias().count());
            prop_assert_eq!(reply.to_tag().is_some(), status != 100 || message.to_tag().is_some());
        }
    }

    #[test]
    fn nothing_makes_the_scanner_panic(bytes in vec(any::<u8>(), 0..600)) {
        exercise(&bytes);
    }

    #[test]
    fn nothing_sip_like_makes_the_scanner_panic(text in "(OPTIONS|SIP/2.0|[\r\n :;,<>\"=/\\\\]|Via|CSeq|Contact|l:|[0-9]{1,3}|sip:|\r\n){0,80}") {
        exercise(text.as_bytes());
        exercise(format!("OPTIONS sip:h SIP/2.0\r\nVia: {text}\r\nContact: {text}\r\nTo: {text}\r\n\r\n").as_bytes());
    }

    #[test]
    fn a_stream_gives_the_same_frames_however_it_is_split(
        parts in vec(message(), 1..4),
        crlfs in vec(0_usize..4, 4),
        reads in vec(1_usize..300, 1..40),
    ) {
        let mut stream = Vec::new();
        for (raw, crlf) in parts.iter().zip(&crlfs) {
            stream.extend_from_slice(&b"\r\n".repeat(*crlf));
            stream.extend_from_slice(read(raw).as_ref().map_or(&raw[..], |message| message.bytes()));
        }
        stream.extend_from_slice(&b"\r\n".repeat(crlfs[3]));
        let whole = frames(&stream, std::iter::once(stream.len()));
        prop_assert_eq!(&frames(&stream, reads.iter().copied().cycle()), &whole);
        prop_assert_eq!(&frames(&stream, std::iter::repeat(1)), &whole);
    }
}

/// Messages, pings, and the reason it ended; a pong may be the first half of a ping (see [`Framer`]).
fn frames(stream: &[u8], reads: impl Iterator<Item = usize>) -> (Vec<Frame>, Option<&'static str>) {
    let (mut framer, mut out, mut at) = (Framer::new(65_535), Vec::new(), 0);
    for read in reads {
        let to = (at + read).min(stream.len());
        framer.buffer().extend_from_slice(&stream[at..to]);
        at = to;
        loop {
            match framer.next() {
                Ok(Some(Frame::Pong)) => {}
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(error) => return (out, Some(error.reason())),
            }
        }
        if at == stream.len() {
            break;
        }
    }
    (out, None)
}

/// Everything that reads and edits, over bytes of any kind.
fn exercise(bytes: &[u8]) {
    let whole = Span::new(0, bytes.len());
    let _ = (Via::parse(bytes, whole), NameAddr::parse(bytes, whole), Uri::parse(bytes, whole));
    let _ = Params::new(bytes, whole).count();
    let _ = frames(bytes, std::iter::repeat(7));
    let Ok(message) = Message::scan(Bytes::copy_from_slice(bytes)) else { return };
    let _ = Transport::ALL.map(|transport| message.check(transport));
    let _ = (message.contacts().count(), message.vias().count(), message.from_tag(), message.to_tag(), message.cseq());
    let mut edit = Edit::new(&message);
    edit.stamp_via("192.0.2.1:5060".parse().expect("address"), true);
    edit.push_via(b"SIP/2.0/UDP h");
    edit.pop_via();
    edit.set_max_forwards(1);
    for element in message.list(Name::Contact) {
        edit.cut(&element);
    }
    edit.remove_option(Name::Supported, b"path");
    edit.add_after_vias("A", b"b");
    edit.add_last("C", b"d");
    let _ = edit.finish();
    let _ =
        Reply::to(&message, 400, "Bad Request").tag(b"t").stamp("192.0.2.1:5060".parse().expect("address")).finish();
}
