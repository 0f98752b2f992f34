//! The ladder: handset, Holdline and target as three lines downwards, each message an arrow between two of them. Eighty columns.
//!
//! ```text
//! Call-ID 3c26@192.0.2.7
//!               204@pbx.example 192.0.2.7:5060 udp
//! 12:34:56.789  |--------- REGISTER 1 --------->|                               |
//!                                         a.pbx.example:5061 203.0.113.5:5061 tls
//! 12:34:56.790  |                               |--------- REGISTER 1 --------->|
//! 12:34:56.812  |                               |<------ 401 Unauthorized ------|
//! ```

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::{note, time};
use crate::cli::terminal::visible;
use crate::control::trace::{Frame, Heading};
use crate::message::{Message, Shown};

/// Columns of a line: one is left free, because some terminals wrap at the last.
const WIDTH: usize = 79;
/// Where the handset's line is.
const MARGIN: usize = 14;
/// Between two of the three lines.
const STRETCH: usize = 31;
/// Messages by which one that is sent again is told.
const REMEMBERED: usize = 128;

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";
const CYAN: &str = "36";
const DIM: &str = "2";
const BOLD: &str = "1";

/// What has been shown, so far as the next line depends on it.
pub(super) struct Ladder {
    colours: bool,
    begun: bool,
    call: String,
    /// Who the handset and the target were at last.
    peers: [String; 2],
    shown: VecDeque<u64>,
}

impl Ladder {
    pub(super) fn new(colours: bool) -> Ladder {
        Ladder { colours, begun: false, call: String::new(), peers: Default::default(), shown: VecDeque::new() }
    }

    /// Lines for a terminal.
    pub(super) fn frame(&mut self, frame: &Frame, bytes: &[u8]) -> String {
        match frame {
            Frame::Message(heading) => self.message(heading, bytes),
            other => {
                let Some((at, text)) = note(other) else { return String::new() };
                let time = if at == 0 { String::new() } else { time(at) };
                let lines = folded(&text, WIDTH - MARGIN - 3);
                let mut out = String::new();
                for (n, line) in lines.iter().enumerate() {
                    let (time, mark) = if n == 0 { (time.as_str(), "**") } else { ("", "  ") };
                    let line = format!("{time:MARGIN$}{mark} {line}");
                    out += &self.painted(if matches!(other, Frame::Lost { .. }) { YELLOW } else { RED }, &line);
                }
                out
            }
        }
    }

    fn message(&mut self, heading: &Heading, bytes: &[u8]) -> String {
        let mut out = String::new();
        if !self.begun || heading.call_id != self.call {
            if self.begun {
                out.push('\n');
            }
            self.begun = true;
            self.call.clone_from(&heading.call_id);
            self.peers = Default::default();
            let call = if self.call.is_empty() { "no Call-ID" } else { &self.call };
            out += &self.painted(BOLD, &cut(&format!("Call-ID {}", visible(call)), WIDTH));
        }
        let upstream = heading.side == "upstream";
        let named = if upstream { &heading.target } else { &heading.handset };
        let named = named.as_deref().map_or(String::new(), |name| format!("{} ", visible(name)));
        let peer = cut(&format!("{named}{} {}", heading.remote, heading.transport), WIDTH - MARGIN);
        if self.peers[usize::from(upstream)] != peer {
            let room = WIDTH - MARGIN;
            let line = if upstream { format!("{:MARGIN$}{peer:>room$}", "") } else { format!("{:MARGIN$}{peer}", "") };
            out += &self.painted(DIM, &line);
            self.peers[usize::from(upstream)] = peer;
        }
        let again = self.is_again(heading, bytes);
        let (text, colour) = label(bytes, again);
        let to_the_right = upstream == (heading.direction == "out");
        let (arrow, blank) = (arrow(&text, to_the_right), " ".repeat(STRETCH));
        let (left, right) = if upstream { (&blank, &arrow) } else { (&arrow, &blank) };
        let line = format!("{:MARGIN$}|{left}|{right}|", time(heading.at));
        out + &self.painted(colour, &line)
    }

    fn is_again(&mut self, heading: &Heading, bytes: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        (&heading.side, &heading.direction, heading.remote, bytes).hash(&mut hasher);
        let hash = hasher.finish();
        if self.shown.contains(&hash) {
            return true;
        }
        if self.shown.len() == REMEMBERED {
            self.shown.pop_front();
        }
        self.shown.push_back(hash);
        false
    }

    fn painted(&self, colour: &str, line: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{line}\x1b[0m\n") } else { format!("{line}\n") }
    }
}

/// What stands on the arrow, and its colour.
fn label(bytes: &[u8], again: bool) -> (String, &'static str) {
    let Ok(message) = Message::scan(Bytes::copy_from_slice(bytes)) else {
        return (format!("{} bytes, not SIP", bytes.len()), RED);
    };
    let again = if again { " again" } else { "" };
    if message.is_request() {
        let cseq = message.cseq().map_or(String::new(), |cseq| format!(" {}", cseq.number));
        return (visible(&format!("{}{cseq}{again}", Shown(message.method_name()))), CYAN);
    }
    let status = message.status();
    let colour = match status {
        0..200 => DIM,
        200..300 => GREEN,
        300..500 => YELLOW,
        500.. => RED,
    };
    (visible(&format!("{status} {}{again}", Shown(message.reason()))), colour)
}

/// `---- text ---->`, as wide as a stretch.
fn arrow(text: &str, to_the_right: bool) -> String {
    let text = cut(text, STRETCH - 5);
    let dashes = STRETCH - 3 - text.chars().count();
    let (before, after) = ("-".repeat(dashes / 2), "-".repeat(dashes - dashes / 2));
    if to_the_right { format!("{before} {text} {after}>") } else { format!("<{after} {text} {before}") }
}

/// At most so many characters; what is cut off shows as dots.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 3).chain("...".chars()).collect()
}

/// The text in lines of at most so many characters, broken between words where that can be done.
fn folded(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.len() > most {
            lines.push(String::new());
        } else if line > 0
            && let Some(last) = lines.last_mut()
        {
            last.push(' ');
        }
        while word.len() > most {
            let rest = word.split_off(most);
            lines.extend([word.iter().collect(), String::new()]);
            word = rest;
        }
        if let Some(last) = lines.last_mut() {
            last.extend(word);
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::trace) fn heading(direction: &str, side: &str) -> Heading {
        let upstream = side == "upstream";
        Heading {
            at: ((12 * 3600 + 34 * 60 + 56) * 1000 + 789) * 1000,
            direction: direction.to_owned(),
            side: side.to_owned(),
            transport: if upstream { "tls" } else { "udp" }.to_owned(),
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: if upstream { "203.0.113.5:5061" } else { "192.0.2.7:5060" }.parse().unwrap(),
            target: upstream.then(|| "a.pbx.example:5061".to_owned()),
            handset: Some("204@pbx.example".to_owned()),
            call_id: "3c26@192.0.2.7".to_owned(),
            bytes: 0,
        }
    }

    fn shown(ladder: &mut Ladder, direction: &str, side: &str, start: &str) -> String {
        let bytes = format!("{start}\r\nCSeq: 7 REGISTER\r\n\r\n");
        ladder.frame(&Frame::Message(heading(direction, side)), bytes.as_bytes())
    }

    #[test]
    fn a_registration_is_a_ladder() {
        let mut ladder = Ladder::new(false);
        let mut text = shown(&mut ladder, "in", "phone", "REGISTER sip:pbx.example SIP/2.0");
        text += &shown(&mut ladder, "out", "upstream", "REGISTER sip:pbx.example SIP/2.0");
        text += &shown(&mut ladder, "out", "upstream", "REGISTER sip:pbx.example SIP/2.0");
        text += &shown(&mut ladder, "in", "upstream", "SIP/2.0 401 Unauthorized");
        text += &shown(&mut ladder, "out", "phone", "SIP/2.0 401 Unauthorized");
        let expected = "\
Call-ID 3c26@192.0.2.7
              204@pbx.example 192.0.2.7:5060 udp
12:34:56.789  |--------- REGISTER 7 --------->|                               |
                                        a.pbx.example:5061 203.0.113.5:5061 tls
12:34:56.789  |                               |--------- REGISTER 7 --------->|
12:34:56.789  |                               |------ REGISTER 7 again ------>|
12:34:56.789  |                               |<------ 401 Unauthorized ------|
12:34:56.789  |<------ 401 Unauthorized ------|                               |
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn nothing_is_wider_than_a_terminal_and_nothing_obeyed() {
        let mut ladder = Ladder::new(false);
        let mut long = heading("in", "phone");
        long.call_id = "c".repeat(200);
        long.handset = Some(format!("{}@\u{1b}[2J", "h".repeat(200)));
        let bytes = format!("{} sip:b SIP/2.0\r\n\r\n", "M".repeat(60));
        let mut text = ladder.frame(&Frame::Message(long), bytes.as_bytes());
        text += &ladder.frame(&Frame::Message(heading("in", "phone")), b"\x1b[2J");
        text += &ladder.frame(&Frame::Lost { items: 17 }, b"");
        let at = 1;
        let (from, to, reason) = ("a".repeat(90), "b.pbx.example:5060".to_owned(), "register_failures".to_owned());
        text += &ladder.frame(&Frame::Rollover { at, from, to, reason }, b"");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "\n{text}");
        assert!(
            !text.contains('\u{1b}') && text.contains("17 messages lost here") && text.contains("not SIP"),
            "{text}"
        );
    }

    #[test]
    fn colours_are_for_a_terminal_and_end_with_the_line() {
        let text = shown(&mut Ladder::new(true), "in", "upstream", "SIP/2.0 503 Service Unavailable");
        assert!(text.lines().all(|line| line.starts_with("\x1b[") && line.ends_with("\x1b[0m")), "{text:?}");
        assert!(text.contains("\x1b[31m12:34"), "{text:?}");
    }

    #[test]
    fn a_note_says_what_it_counted_for() {
        let attempt = |outcome: &str, strike, strikes| Frame::Attempt {
            at: 0,
            handset: Some("204@pbx".to_owned()),
            target: "a:5060".to_owned(),
            outcome: outcome.to_owned(),
            strike,
            strikes,
        };
        for (frame, text) in [
            (attempt("timeout", true, 2), "REGISTER of 204@pbx failed at a:5060: no answer in time, strike 2"),
            (attempt("503", true, 0), "REGISTER of 204@pbx failed at a:5060: answered 503, the last strike"),
            (attempt("refused", false, 1), "REGISTER of 204@pbx failed at a:5060: refused, no strike"),
        ] {
            assert_eq!(note(&frame).unwrap().1, text);
        }
    }
}
