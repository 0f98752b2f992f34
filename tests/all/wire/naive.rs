//! What leaves on a stream means the same to a reader that knows neither folds nor which of two lengths counts.
//!
//! The core is given what an untrusted peer may send, on both sides and by datagram or stream; everything it sends on one
//! connection, put together, is split again by readers of the simplest kind. They must find the messages that were sent.
//!
//! The fuzz target `naive` plays the same from bytes that coverage guides.

use std::net::SocketAddr;

use holdline::flow::{ConnId, Flow, Transport};
use holdline::message::{Frame, Framer};
use holdline::proxy::Settings;

use super::bench::{Bench, response};

/// How a reader goes about the head of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    /// The last Content-Length counts, not the first.
    last: bool,
    /// A line that begins with white space is a header line like any other.
    continues: bool,
    /// A CR ends a line by itself.
    bare_cr: bool,
}

/// Every kind of reader.
pub(super) fn readers() -> impl Iterator<Item = Reader> {
    (0..8_u8).map(|bits| Reader { last: bits & 1 > 0, continues: bits & 2 > 0, bare_cr: bits & 4 > 0 })
}

impl Reader {
    /// The length of the message at the front of a stream; `None` where its head does not end.
    fn length(self, stream: &[u8]) -> Option<usize> {
        let (mut at, mut body, mut first) = (0, None, true);
        loop {
            let end = at + stream[at..].iter().position(|b| *b == b'\n' || self.bare_cr && *b == b'\r')?;
            let next = if stream[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
            let line = stream[at..end].strip_suffix(b"\r").unwrap_or(&stream[at..end]);
            if line.is_empty() {
                return Some(body.map_or(next, |body: usize| next.saturating_add(body)));
            }
            if !first && let Some(length) = self.content_length(line) {
                body = body.filter(|_| !self.last).or(Some(length));
            }
            (at, first) = (next, false);
        }
    }

    /// The number in a line that may pass for Content-Length, as far as it is one.
    fn content_length(self, line: &[u8]) -> Option<usize> {
        let line = if self.continues { line.trim_ascii_start() } else { line };
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = line[..colon].trim_ascii();
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            return None;
        }
        let value = line[colon + 1..].trim_ascii_start();
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
        Some(digits.fold(0_usize, |n, digit| n.saturating_mul(10).saturating_add(usize::from(digit - b'0'))))
    }
}

/// Every message that was sent, found again by every reader.
fn read_as_sent(stream: &[&[u8]]) -> Result<(), String> {
    for reader in readers() {
        let whole = stream.concat();
        let mut at = 0;
        for message in stream {
            let length = reader.length(&whole[at..]);
            if length != Some(message.len()) {
                let show = String::from_utf8_lossy(message);
                return Err(format!("{reader:?} takes {length:?} of {} bytes for a message: {show:?}", message.len()));
            }
            at += message.len();
        }
    }
    Ok(())
}

const PHONE: ConnId = ConnId::Accepted(1);

/// Gives the core what a phone sends and, for what is forwarded, answers it with these lines in the answer's head. How the
/// phone and the upstream are connected: `choice`. Gives how many messages left on a stream; `Err` says which one can be read in
/// two ways.
pub(super) fn play(bytes: &[u8], answer: &[u8], choice: u8) -> Result<usize, String> {
    let upstream = if choice & 1 == 0 { Transport::Tcp } else { Transport::Udp };
    let mut bench = Bench::new(upstream, false, Settings::default());
    let remote: SocketAddr = SocketAddr::from(([10, 1, 2, 3], 5062));
    if choice & 2 == 0 {
        bench.accept(1, remote);
        for message in framed(bytes) {
            bench.receive(Flow::Conn(PHONE), &message);
        }
    } else {
        let flow = bench.phone(remote);
        bench.receive(flow, bytes);
    }
    let mut sent = bench.take();
    for (flow, request) in sent.clone() {
        if !super::bench::is_to_phone(flow) && !request.starts_with(b"SIP/2.0 ") {
            let response = with_lines(&response(&request, 200), answer);
            if matches!(flow, Flow::Conn(_)) && upstream == Transport::Tcp {
                for message in framed(&response) {
                    bench.receive(flow, &message);
                }
            } else {
                bench.receive(flow, &response);
            }
        }
    }
    sent.extend(bench.take());
    let mut count = 0;
    let mut flows: Vec<Flow> = sent.iter().map(|(flow, _)| *flow).collect();
    flows.sort_by_key(|flow| format!("{flow:?}"));
    flows.dedup();
    for flow in flows {
        let is_stream = match flow {
            Flow::Conn(PHONE) => true,
            Flow::Conn(_) => upstream == Transport::Tcp,
            Flow::Udp { .. } => false,
        };
        if is_stream {
            let stream: Vec<&[u8]> = sent.iter().filter(|(to, _)| *to == flow).map(|(_, bytes)| &bytes[..]).collect();
            read_as_sent(&stream)?;
            count += stream.len();
        }
    }
    Ok(count)
}

/// The messages of a stream, up to where it cannot be cut.
fn framed(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut framer, mut out) = (Framer::new(65_535), Vec::new());
    framer.buffer().extend_from_slice(stream);
    while let Ok(Some(frame)) = framer.next() {
        if let Frame::Message(bytes) = frame {
            out.push(bytes.to_vec());
        }
    }
    out
}

/// With more lines above the last one of its head.
fn with_lines(message: &[u8], lines: &[u8]) -> Vec<u8> {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(message.len());
    let above = message[..end].windows(2).rposition(|two| two == b"\r\n").unwrap_or(end);
    [&message[..above], lines, &message[above..]].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::message_mutations::{fold_like_a_header, message, phone};

    fn line() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            2 => fold_like_a_header().prop_map(|fold| [b"\r\nX: a\r\n", fold.as_bytes()].concat()),
            1 => Just(Vec::new()),
            1 => proptest::collection::vec(any::<u8>(), 0..40),
        ]
    }

    /// As it came, or with a head of bare LFs, or without the blank line: a datagram may.
    fn shaped(raw: &[u8], shape: u8) -> Vec<u8> {
        let end = raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(raw.len());
        let text = |bytes: &[u8]| bytes.iter().copied().filter(|byte| *byte != b'\r').collect::<Vec<u8>>();
        match shape % 4 {
            0 => [&text(&raw[..end]), b"\n\n".as_slice(), raw.get(end + 4..).unwrap_or_default()].concat(),
            1 => [&raw[..end], b"\r\n"].concat(),
            _ => raw.to_vec(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_leaves_on_a_stream_is_read_in_one_way_alone(
            raw in message(),
            answer in line(),
            shape in any::<u8>(),
            choice in 0..4_u8,
        ) {
            if let Err(why) = play(&shaped(&raw, shape), &answer, choice) {
                return Err(TestCaseError::fail(format!("{why}\n{}", String::from_utf8_lossy(&raw))));
            }
        }
    }

    #[test]
    fn at_least_two_in_three_of_the_generators_messages_leave_on_a_stream() {
        let mut runner = TestRunner::deterministic();
        let (strategy, total) = (message(), 200);
        let left = (0..total)
            .filter(|_| {
                let raw = strategy.new_tree(&mut runner).expect("a message").current();
                play(&raw, b"", 2).is_ok_and(|left| left > 0)
            })
            .count();
        assert!(left * 3 >= total * 2, "{left} of {total}");
    }

    /// The one that was found: an inner REGISTER that no hop had put its Via on.
    #[test]
    fn a_request_in_a_body_does_not_come_out_by_a_length_in_a_fold() {
        let inner = String::from_utf8(phone("yealink-register")).expect("text");
        for fold in ["X: a\r\n Content-Length: 0", "X: a\r\n\tl: 0", "l:\r\n 0\r\nX: y"] {
            let outer = inner.replace("Content-Length: 0\r\n\r\n", "");
            let outer = outer.replace("SIP/2.0/UDP", "SIP/2.0/TCP");
            let length =
                if fold.starts_with('l') { String::new() } else { format!("Content-Length: {}\r\n", inner.len()) };
            let text = format!("{outer}{fold}\r\n{length}\r\n{inner}");
            let left = play(text.as_bytes(), b"", 0).unwrap_or_else(|why| panic!("{why}"));
            assert!(left > 0, "{text}");
        }
    }

    #[test]
    fn readers_of_this_kind_are_fooled_by_what_must_not_leave() {
        let body = "OPTIONS sip:h SIP/2.0\r\n\r\n";
        for head in
            ["X: a\r\n Content-Length: 0\r\nl: 25", "l: 25\r\nX: a\r\n\tl: 0", "l: 0\r\nl: 25", "X: a\rl: 0\r\nl: 25"]
        {
            let text = format!("OPTIONS sip:h SIP/2.0\r\n{head}\r\n\r\n{body}");
            assert!(read_as_sent(&[text.as_bytes()]).is_err(), "{text:?}");
        }
    }
}
