//! The one form in which a message goes on: no folds, CRLF at the end of every line of the head, and the blank line.
//!
//! Two readers agree about a fold only where both know folds: to a reader that takes a stream line by line, a continuation
//! ` Content-Length: 0` is a header, and the body behind it the next request. RFC 3261 §7.3.1 has both forms mean the same.
//!
//! A head of bare LFs and a head without its blank line are repaired for datagrams only, whose end says where a message ends;
//! [`Message::check`](super::Message::check) refuses them on streams.

use super::is_wsp;

/// `head` bytes of `buf` with each fold (a line end, and the white space that begins the next line) replaced by a space; what
/// stands behind them as it is.
///
/// The head has no faults: every CR in it is part of a CRLF. It ends before the blank line.
pub(super) fn unfolded(buf: &[u8], head: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(buf.len());
    let mut at = 0;
    for cr in memchr::memchr_iter(b'\r', &buf[..head]) {
        let next = (cr + 2).min(head);
        let blanks = buf[next..head].iter().take_while(|byte| is_wsp(**byte)).count();
        if blanks > 0 {
            out.extend_from_slice(&buf[at..cr]);
            out.push(b' ');
            at = next + blanks;
        }
    }
    out.extend_from_slice(&buf[at..]);
    out
}

/// The message with CRLF at the end of every line of its head, which goes up to `body` and uses LF in all of them, and with its
/// blank line. `None` where a CR stands in the head: then some of its lines end in CRLF, or one is broken, and who knows which.
pub(super) fn with_crlf(buf: &[u8], blank: usize, body: usize) -> Option<Vec<u8>> {
    let (head, behind) = (&buf[..body], &buf[body..]);
    let closed = match &buf[blank..body] {
        b"\n" => true,
        b"" => false,
        // The last line does not end.
        _ => return None,
    };
    if memchr::memchr(b'\r', head).is_some() {
        return None;
    }
    let lines = memchr::memchr_iter(b'\n', head).count();
    let mut out = Vec::with_capacity(buf.len() + lines + 2);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        out.extend_from_slice(&line[..line.len() - 1]);
        out.extend_from_slice(b"\r\n");
    }
    if !closed {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(behind);
    Some(out)
}

/// The message, which is all head, with its blank line. `None` where its last line does not end: there something is cut off.
pub(super) fn with_blank_line(buf: &[u8], blank: usize) -> Option<Vec<u8>> {
    (blank == buf.len()).then(|| [buf, b"\r\n"].concat())
}
