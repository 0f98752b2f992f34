//! The corpus of RFC 4475 against `message/`: every row of the table, as a datagram and on a stream.

use bytes::Bytes;
use holdline::flow::Transport;
use holdline::message::{Edit, Frame, Framer, Message, Name, Reply, Span};

use crate::message_mutations::Pieces;
use crate::torture_table::{Change, Does, Layer, Row, TABLE, bytes_of};

#[test]
fn the_table_has_a_row_for_every_file() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/torture/rfc4475");
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .expect("corpus")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".dat").map(str::to_owned))
        .collect();
    let mut rows: Vec<String> = TABLE.iter().map(|row| row.file.to_owned()).collect();
    files.sort();
    rows.sort();
    assert_eq!(files, rows);
    assert!(TABLE.iter().all(|row| !row.expects.is_empty()));
    assert!(TABLE[..13].iter().all(|row| row.section.starts_with("3.1.1.") && matches!(row.does, Does::Forward(_))));
}

#[test]
fn every_message_is_read_or_refused_as_the_table_says() {
    for row in &TABLE {
        let scanned = Message::scan(Bytes::from(bytes_of(row.file)));
        let checked = scanned.as_ref().map(|message| message.check(Transport::Udp));
        match row.does {
            Does::Forward(_) | Does::Answer(_, _, Layer::Proxy) | Does::Drop(_, Layer::Proxy) => {
                assert_eq!(checked, Ok(Ok(())), "{row:?}");
            }
            Does::Answer(status, phrase, Layer::Message) => {
                let refusal = checked.expect("scanned").expect_err(row.file);
                assert_eq!((refusal.status(), refusal.phrase()), (status, phrase), "{row:?}");
                assert!(refusal.answerable(), "{row:?}");
                let message = scanned.expect("scanned");
                let reply = Reply::to(&message, refusal.status(), refusal.phrase()).tag(b"t").finish();
                let reply = Message::scan(reply).expect("an answer");
                assert_eq!(reply.status(), status);
                assert_eq!(reply.all(Name::Via).count(), message.all(Name::Via).count(), "{row:?}");
            }
            Does::Drop(reason, Layer::Message) => match checked {
                Err(error) => assert_eq!(error.reason(), reason, "{row:?}"),
                Ok(checked) => {
                    let refusal = checked.expect_err(row.file);
                    assert_eq!((refusal.reason(), refusal.answerable()), (reason, false), "{row:?}");
                }
            },
            Does::Wait | Does::Two => unreachable!("only on streams"),
        }
    }
}

#[test]
fn what_goes_on_is_changed_in_nothing_else() {
    for row in &TABLE {
        let Does::Forward(changes) = row.does else { continue };
        let raw = bytes_of(row.file);
        let message = Message::scan(Bytes::from(raw.clone())).expect(row.file);
        let unfolded = Pieces::of(&raw).unfolded().join();
        assert_eq!(changes.contains(&Change::Unfold), unfolded != raw, "{row:?}");
        assert_eq!(changes.contains(&Change::Cut), message.bytes().len() < unfolded.len(), "{row:?}");
        assert!(unfolded.starts_with(message.bytes()), "{row:?}");
        if changes.contains(&Change::PopVia) {
            arrives_as_it_was(row, &message);
        } else {
            forwards_with_its_changes(row, changes, &message);
        }
    }
}

/// A response reaches us with our Via on top; popped, it is what it was.
fn arrives_as_it_was(row: &Row, message: &Message) {
    let mut edit = Edit::new(message);
    edit.push_via(b"SIP/2.0/UDP ours;branch=z9hG4bKx");
    let received = Message::scan(edit.finish()).expect(row.file);
    assert_eq!(received.check(Transport::Udp), Ok(()), "{row:?}");
    let mut edit = Edit::new(&received);
    edit.pop_via();
    assert_eq!(edit.finish(), message.bytes(), "{row:?}");
}

/// A request goes on with our Via and one hop less; with both undone by hand it is what it was.
fn forwards_with_its_changes(row: &Row, changes: &[Change], message: &Message) {
    let hops = message.max_forwards();
    assert_eq!(hops.is_none(), changes.contains(&Change::AddMaxForwards), "{row:?}");
    let mut edit = Edit::new(message);
    edit.push_via(b"SIP/2.0/UDP ours;branch=z9hG4bKx");
    edit.set_max_forwards(hops.map_or(70, |hops| hops - 1));
    let sent = edit.finish();
    let mut undone = replace_once(&sent, b"Via: SIP/2.0/UDP ours;branch=z9hG4bKx\r\n", b"");
    match message.first(Name::MaxForwards) {
        None => undone = replace_once(&undone, b"Max-Forwards: 70\r\n", b""),
        Some(header) => {
            let line = header.line.of(message.bytes());
            let was = message.value(header);
            let now = (hops.expect("a number") - 1).to_string();
            let changed = replace_once(line, was, now.as_bytes());
            undone = replace_once(&undone, &changed, line);
        }
    }
    assert_eq!(undone, message.bytes()[..], "{row:?}");
    let forwarded = Message::scan(sent).expect(row.file);
    assert_eq!(forwarded.check(Transport::Udp), Ok(()), "{row:?}");
    assert_eq!(forwarded.body(), message.body(), "{row:?}");
}

fn replace_once(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = text.windows(from.len()).position(|window| window == from).expect("is there");
    [&text[..at], to, &text[at + from.len()..]].concat()
}

#[test]
fn parts_of_the_valid_messages_are_found() {
    let scan = |file: &str| Message::scan(Bytes::from(bytes_of(file))).expect("scan");
    let wsinv = scan("wsinv");
    let buf = wsinv.bytes();
    let vias: Vec<_> = wsinv.vias().map(|via| via.expect("via")).collect();
    let hosts: Vec<_> = vias.iter().map(|via| via.host.of(buf)).collect();
    assert_eq!(hosts, [&b"192.0.2.2"[..], b"spindle.example.com", b"192.168.255.111"]);
    let branches: Vec<_> = vias.iter().map(|via| via.branch.map(|branch| branch.of(buf))).collect();
    assert_eq!(branches, [Some(&b"390skdjuw"[..]), Some(b"z9hG4bK9ikj8"), Some(b"z9hG4bK30239")]);
    assert_eq!((wsinv.from_tag(), wsinv.to_tag()), (Some(&b"98asjd8"[..]), Some(&b"1918181833n"[..])));
    assert_eq!(wsinv.max_forwards(), Some(68));
    assert_eq!(wsinv.contacts().count(), 1);
    let intmeth = scan("intmeth");
    assert_eq!(intmeth.method_name(), b"!interesting-Method0123456789_*+`.%indeed'~");
    assert_eq!(intmeth.from_tag(), Some(&b"_token~1'+`*%!-."[..]));
    assert_eq!(scan("esc02").contacts().count(), 2);
    assert_eq!(scan("escnull").contacts().count(), 2);
    assert_eq!(scan("transports").vias().flatten().count(), 5);
    assert_eq!(scan("longreq").vias().flatten().count(), 34);
    assert_eq!(scan("mpart01").body().len(), 553);
    assert_eq!(scan("unreason").reason().len(), 74);
    assert_eq!(scan("dblreq").body(), b"");
    assert_eq!(scan("badbranch").top_via().and_then(|via| via.branch).map(Span::len), Some(7));
    assert_eq!(scan("inv2543").top_via().and_then(|via| via.branch), None);
}

/// On a stream: how many messages come out, and what is said of the rest.
#[test]
fn on_a_stream_what_cannot_be_framed_ends_the_connection() {
    for row in &TABLE {
        let mut framer = Framer::new(65_535);
        framer.buffer().extend_from_slice(&bytes_of(row.file));
        let mut messages = 0;
        let end = loop {
            match framer.next() {
                Ok(Some(Frame::Message(_))) => messages += 1,
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break if framer.is_partial() { "partial" } else { "clean" },
                Err(error) => break error.reason(),
            }
        };
        let want = match row.file {
            // Its end is not there: the stream waits, and its peer is cut off in time.
            "clerr" | "baddn" => (0, "partial"),
            "ncl" | "mcl01" => (0, "bad_content_length"),
            "inv2543" => (0, "no_content_length"),
            // Here the second request counts, and the rest of its body is longer than it says.
            "dblreq" => (2, "no_content_length"),
            _ => (1, "clean"),
        };
        assert_eq!((messages, end), want, "{row:?}");
    }
}
