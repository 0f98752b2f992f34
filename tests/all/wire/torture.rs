//! The 49 messages of RFC 4475, each over UDP and over TCP, from a phone's socket through the real process to the
//! upstream's, held to the rows of the one table.

use super::differ::{self, Hop};
use super::process::{Holdline, Line, Sink};
use crate::message_mutations::phone;
use crate::torture_table::{Change, Does, Layer, STREAM, TABLE, bytes_of};

/// A process with a phone's listener and an upstream, both of one transport.
struct Desk {
    transport: &'static str,
    holdline: Holdline,
    upstream: Line,
}

impl Desk {
    fn new(transport: &'static str) -> Desk {
        let (sink, proxy) = Sink::bind(transport);
        let holdline = Holdline::start(proxy, transport);
        let mut line = Line::to(if transport == "udp" { holdline.udp } else { holdline.tcp }, transport);
        // Something to connect for; and a first look at how it goes.
        line.send(&plain_register(transport, "first"));
        let upstream = sink.line(holdline.upstream);
        let mut desk = Desk { transport, holdline, upstream };
        desk.answer_next(403);
        let answer = line.next().expect("an answer");
        assert!(answer.starts_with(b"SIP/2.0 403 "), "{}", String::from_utf8_lossy(&answer));
        desk
    }

    fn phone(&self) -> Line {
        Line::to(if self.transport == "udp" { self.holdline.udp } else { self.holdline.tcp }, self.transport)
    }

    /// The next request at the upstream; retransmissions and ACKs of what was answered are passed over.
    fn arrives(&mut self) -> Vec<u8> {
        loop {
            let message = self.upstream.next().expect("the upstream's line is open");
            if !message.starts_with(b"ACK ") {
                return message;
            }
        }
    }

    /// Answers the next request at the upstream with this status. Gives the request and the answer as sent.
    fn answer_next(&mut self, status: u16) -> (Vec<u8>, Vec<u8>) {
        let request = self.arrives();
        let answer = response(&request, status);
        self.upstream.send(&answer);
        (request, answer)
    }

    /// Sent, it arrives with what a hop must change and nothing else; so does the answer. Gives what arrived.
    fn forwards(&mut self, file: &str, sent: &[u8], from: &mut Line, hop_via: &str) -> Vec<u8> {
        let upstream = self.holdline.upstream;
        let contact = format!("@{upstream};transport={}", self.transport);
        let (facing, listen) = match self.transport {
            "udp" => ("", self.holdline.udp),
            _ => (";transport=tcp", self.holdline.tcp),
        };
        let record = format!("@{upstream}{facing};lr>,<sip:{listen}{facing};lr>");
        let hop = Hop { source: from.local(), via: hop_via, contact: &contact, ours: &[], record: &record };
        let (arrived, answer) = self.answer_next(404);
        differ::forwarded(sent, &arrived, &hop).unwrap_or_else(|why| panic!("{file} over {}: {why}", self.transport));
        let mut back = from.next().unwrap_or_else(|| panic!("{file}: no answer"));
        while !back.starts_with(b"SIP/2.0 404 ") {
            assert!(back.starts_with(b"SIP/2.0 100 "), "{file}: {}", String::from_utf8_lossy(&back));
            back = from.next().unwrap_or_else(|| panic!("{file}: no answer"));
        }
        differ::relayed(&answer, &back).unwrap_or_else(|why| panic!("{file} back over {}: {why}", self.transport));
        if sent.starts_with(b"INVITE") {
            // Or the answer would be sent again while the other rows are at work.
            from.send(&ack(sent, &back));
        }
        arrived
    }

    /// Our Via on this desk's upstream connection, without branch.
    fn via(&mut self) -> String {
        let mut line = self.phone();
        line.send(&plain_register(self.transport, "via"));
        let (request, _) = self.answer_next(403);
        line.next().expect("an answer");
        let text = String::from_utf8_lossy(&request).into_owned();
        let via = text.lines().find_map(|line| line.strip_prefix("Via: ")).expect("a Via").to_owned();
        via.split(";branch=").next().expect("has one").to_owned()
    }

    /// After everything: an ordinary phone is served as ever.
    fn still_works(&mut self) {
        let mut line = self.phone();
        line.send(&plain_register(self.transport, "last"));
        self.answer_next(403);
        let answer = line.next().expect("an answer");
        assert!(answer.starts_with(b"SIP/2.0 403 "));
        assert!(self.holdline.lives());
    }
}

/// A REGISTER like a phone's, of a call of its own.
fn plain_register(transport: &str, call: &str) -> Vec<u8> {
    let text = String::from_utf8(phone("yealink-register")).expect("text");
    let text = text.replace("SIP/2.0/UDP", &format!("SIP/2.0/{}", transport.to_uppercase()));
    let branch = format!("z9hG4bK{call}");
    text.replace("z9hG4bK2746301998", &branch).replace("0_1681692777", call).into_bytes()
}

/// What an upstream answers: Vias, From, To, Call-ID and CSeq as they came, and some headers of its own.
fn response(request: &[u8], status: u16) -> Vec<u8> {
    use crate::message_mutations::{Pieces, name_of};
    let pieces = Pieces::of(request);
    let mut out = format!("SIP/2.0 {status} Said By The Upstream").into_bytes();
    for line in &pieces.headers {
        if ["via", "from", "to", "call-id", "cseq"].contains(&name_of(line).as_str()) {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"\r\nx-ODD :  \xff\xfe folded\r\n\t value\r\nl: 3\r\n\r\n\0\r\n");
    out
}

/// RFC 3261 §17.1.1.3: Request-URI, top Via, From, Call-ID and CSeq number of the INVITE, To of the response.
fn ack(invite: &[u8], answer: &[u8]) -> Vec<u8> {
    use crate::message_mutations::{Pieces, name_of};
    let proper = differ::proper(invite);
    let (invite, answer) = (Pieces::of(&proper), Pieces::of(answer));
    let mut out = invite.start.clone();
    out.splice(..b"INVITE".len(), *b"ACK");
    let find = |pieces: &Pieces, name: &str| pieces.headers.iter().find(|line| name_of(line) == name).cloned();
    for line in [
        find(&invite, "via"),
        find(&invite, "from"),
        find(&answer, "to"),
        find(&invite, "call-id"),
        find(&invite, "cseq").map(|line| String::from_utf8_lossy(&line).replace("INVITE", "ACK").into_bytes()),
    ] {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&line.expect("mandatory"));
    }
    out.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
    out
}

/// What the table says of a row on a transport, and with which reason drops are counted.
fn outcome(file: &str, does: Does, transport: &str) -> Does {
    let stream = STREAM.iter().find(|row| row.file == file).filter(|_| transport == "tcp");
    stream.map_or(does, |row| row.does)
}

/// The edits that the table names are those that were made.
fn changes_are(file: &str, changes: &[Change], raw: &[u8], arrived: &[u8]) {
    use crate::message_mutations::{Pieces, name_of};
    let proper = differ::proper(raw);
    let (sent, arrived) = (Pieces::of(&proper), Pieces::of(arrived));
    let lines = |pieces: &Pieces, name: &str| -> Vec<Vec<u8>> {
        pieces.headers.iter().filter(|line| name_of(line) == name).cloned().collect()
    };
    let differs = |name: &str| lines(&sent, name) != lines(&arrived, name);
    assert_eq!(differs("contact"), changes.contains(&Change::Contact), "{file}: Contact");
    assert_eq!(differs("route"), changes.contains(&Change::Route), "{file}: Route");
    let whole = differ::whole(raw);
    assert_eq!(whole.len() < raw.len(), changes.contains(&Change::Cut), "{file}: bytes behind it");
    assert_eq!(proper != whole, changes.contains(&Change::Unfold), "{file}: folds");
    assert!(differs("via") && changes.contains(&Change::Via), "{file}: Via");
    let added = lines(&sent, "max-forwards").is_empty();
    assert_eq!(added, changes.contains(&Change::AddMaxForwards), "{file}: Max-Forwards added");
    assert_eq!(!added, changes.contains(&Change::MaxForwards), "{file}: Max-Forwards");
}

fn holds(transport: &'static str) {
    let mut desk = Desk::new(transport);
    let via = desk.via();
    for row in &TABLE {
        // Shown when it fails.
        println!("{} over {transport}", row.file);
        let raw = bytes_of(row.file);
        let mut line = desk.phone();
        match outcome(row.file, row.does, transport) {
            // A response that a phone sends of its own accord answers nothing.
            Does::Forward(changes) if changes.contains(&Change::PopVia) => {
                let before = desk.holdline.dropped("phone", "stray_response");
                line.send(&raw);
                desk.holdline.until(row.file, |h| h.dropped("phone", "stray_response") == before + 1);
            }
            Does::Forward(changes) => {
                line.send(&raw);
                let arrived = desk.forwards(row.file, &raw, &mut line, &via);
                changes_are(row.file, changes, &raw, &arrived);
            }
            Does::Answer(status, phrase, layer) => {
                line.send(&raw);
                let answer = line.next().unwrap_or_else(|| panic!("{} over {transport}: no answer", row.file));
                let text = String::from_utf8_lossy(&answer).into_owned();
                assert!(
                    text.starts_with(&format!("SIP/2.0 {status} {phrase}\r\n")),
                    "{row:?} over {transport}: {text}"
                );
                if row.file == "bext01" {
                    assert!(text.contains("\r\nUnsupported: noProxiesSupportThis, norDoAnyProxiesSupportThis\r\n"));
                }
                if raw.starts_with(b"INVITE") && layer == Layer::Proxy {
                    line.send(&ack(&raw, &answer));
                }
            }
            Does::Drop(reason, _) => {
                let before = desk.holdline.dropped("phone", reason);
                line.send(&raw);
                desk.holdline.until(row.file, |h| h.dropped("phone", reason) == before + 1);
            }
            Does::Wait => {
                line.send(&raw);
                line.finish();
                assert_eq!(line.next(), None, "{row:?} over {transport}");
            }
            Does::Two => {
                let length = differ::whole(&raw).len();
                let second = length + raw[length..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                // The second one's own Content-Length is too short by six: what is left over would be no message.
                let both = [&raw[..second], &differ::whole(&raw[second..])].concat();
                line.send(&both);
                desk.forwards(row.file, &both[..length], &mut line, &via);
                desk.forwards(row.file, &both[second..], &mut line, &via);
            }
        }
    }
    desk.still_works();
}

#[test]
fn each_of_the_49_over_udp_is_forwarded_answered_or_dropped_as_the_table_says() {
    holds("udp");
}

#[test]
fn each_of_the_49_over_tcp_is_forwarded_answered_or_dropped_as_the_table_says() {
    holds("tcp");
}

/// RFC 4475 §3.1.1.12 and §3.1.1.13 as answers to a request of ours: odd and empty reason phrases arrive as they were. A
/// `100` ends here (RFC 3261 §16.7 step 5), so the empty phrase is shown with a `180`.
#[test]
fn the_corpus_responses_come_back_byte_for_byte() {
    for transport in ["udp", "tcp"] {
        let mut desk = Desk::new(transport);
        let mut line = desk.phone();
        let invite = String::from_utf8(phone("snom-invite")).expect("text");
        line.send(invite.replace("SIP/2.0/UDP", &format!("SIP/2.0/{}", transport.to_uppercase())).as_bytes());
        let request = desk.arrives();
        let text = String::from_utf8_lossy(&request).into_owned();
        let via = text.split("\r\n").find(|line| line.starts_with("Via: ")).expect("our Via").to_owned();
        let above = |raw: &[u8]| {
            let end = raw.windows(2).position(|two| two == b"\r\n").expect("a start line") + 2;
            [&raw[..end], via.as_bytes(), b"\r\n", &raw[end..]].concat()
        };
        let trying = bytes_of("noreason");
        let ringing = [b"SIP/2.0 180 ", &trying[b"SIP/2.0 100 ".len()..]].concat();
        let ok = bytes_of("unreason");
        for response in [&trying, &ringing, &ok] {
            desk.upstream.send(&above(response));
        }
        assert!(line.next().expect("our own").starts_with(b"SIP/2.0 100 Trying\r\n"));
        assert_eq!(line.next().expect("180"), ringing);
        assert_eq!(line.next().expect("200"), ok);
        assert_eq!(desk.holdline.dropped("upstream", "stray_response"), 0);
    }
}

/// The last answer of a drain is written before the process ends: over TCP it waits in a queue of the connection.
#[test]
fn a_drain_does_not_swallow_the_last_answer_over_tcp() {
    for round in 0..10 {
        let mut desk = Desk::new("tcp");
        let mut line = desk.phone();
        line.send(&plain_register("tcp", "drained"));
        let request = desk.arrives();
        desk.holdline.terminate();
        desk.holdline.until("it drains", |holdline| holdline.metric("holdline_draining") == 1);
        desk.upstream.send(&response(&request, 403));
        let answer = line.next().unwrap_or_else(|| panic!("closed without an answer in round {round}"));
        assert!(answer.starts_with(b"SIP/2.0 403 "), "{}", String::from_utf8_lossy(&answer));
    }
}
