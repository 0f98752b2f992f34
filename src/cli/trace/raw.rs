//! Whole messages, each under a line that says where it passed.

use std::fmt::Write as _;

use super::{note, time};
use crate::cli::terminal::visible;
use crate::control::trace::{Frame, Heading};

/// Text for a terminal: what a terminal would obey is shown as an escape.
pub(super) fn frame(frame: &Frame, bytes: &[u8]) -> String {
    match frame {
        Frame::Message(heading) => message(heading, bytes),
        other => note(other).map_or(String::new(), |(_, text)| format!("** {text}\n\n")),
    }
}

fn message(heading: &Heading, bytes: &[u8]) -> String {
    let Heading { at, direction, side, transport, local, remote, target, handset, .. } = heading;
    let peer = match side.as_str() {
        "phone" => handset,
        _ => target,
    };
    let arrow = if direction == "in" { "->" } else { "<-" };
    let mut text = format!("{} {side} {remote} {arrow} {local} {transport}", time(*at));
    if let Some(peer) = peer {
        let _ = write!(text, " {}", visible(peer));
    }
    text.push('\n');
    let message = String::from_utf8_lossy(bytes);
    for line in message.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        text.push_str(&visible(line));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::trace::ladder::tests::heading;

    #[test]
    fn whole_messages_are_shown_and_a_terminal_obeys_nothing_in_them() {
        let shown =
            frame(&Frame::Message(heading("in", "phone")), b"INVITE sip:b SIP/2.0\r\nX: \x1b[2J\xff\r\n\r\nv=0");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "12:34:56.789 phone 192.0.2.7:5060 -> 192.0.2.1:5060 udp 204@pbx.example");
        assert_eq!(lines[1..], ["INVITE sip:b SIP/2.0", "X: \\u{1b}[2J\u{fffd}", "", "v=0"]);
    }
}
