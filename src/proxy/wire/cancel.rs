//! What a CANCEL says beside its hop-by-hop part.

use crate::message::{Message, Name};
use crate::proxy::exchange::outlook::Reason;

/// Bytes of header lines that a CANCEL carries on. What no longer fits stays behind: it goes by datagram, and waits for a
/// provisional answer.
const LONGEST: usize = 2048;

/// The header lines that go with a CANCEL of ours. `received`: the sender's, if it cancels.
pub(crate) fn lines(reason: Reason, received: Option<&Message>) -> Vec<u8> {
    match (reason, received) {
        (Reason::Status(status), _) => format!("Reason: SIP;cause={status}\r\n").into_bytes(),
        (Reason::Sender, Some(cancel)) => carried(cancel),
        (Reason::Sender, None) => Vec::new(),
    }
}

/// What the sender's CANCEL says to whoever is called: Reason (RFC 3326), which keeps a call that was answered elsewhere out of
/// the lists of missed calls, Privacy, P-Asserted-Identity, and whatever else is not the hop's.
fn carried(cancel: &Message) -> Vec<u8> {
    let buf = cancel.bytes();
    let mut lines: Vec<u8> = Vec::new();
    for header in cancel.headers() {
        let goes_on = match header.name {
            // Of the INVITE, not of the CANCEL (RFC 3261 §9.1); it makes no dialog and has no body.
            Name::Via
            | Name::From
            | Name::To
            | Name::CallId
            | Name::CSeq
            | Name::MaxForwards
            | Name::Route
            | Name::RecordRoute
            | Name::Path
            | Name::ServiceRoute
            | Name::Contact
            | Name::ContentLength
            | Name::Require
            | Name::ProxyRequire => false,
            Name::Expires
            | Name::MinExpires
            | Name::Supported
            | Name::Unsupported
            | Name::UserAgent
            | Name::RetryAfter
            | Name::Authorization
            | Name::ProxyAuthorization => true,
            Name::Other => !is_of_a_body(header.name_span.of(buf)),
        };
        let line = header.line.of(buf);
        if goes_on && lines.len() + line.len() <= LONGEST {
            lines.extend_from_slice(line);
        }
    }
    lines
}

fn is_of_a_body(name: &[u8]) -> bool {
    let begins = name.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case(b"Content-"));
    begins || [&b"c"[..], b"e", b"MIME-Version"].iter().any(|other| name.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn cancel(lines: &str) -> Message {
        let text = format!(
            "CANCEL sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nRoute: <sip:h;lr>\r\n\
             f: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\ni: 1\r\nCSeq: 1 CANCEL\r\n{lines}l: 4\r\n\r\nbody"
        );
        Message::scan(Bytes::from(text)).expect("a message")
    }

    fn carried_of(text: &str) -> String {
        String::from_utf8(lines(Reason::Sender, Some(&cancel(text)))).expect("text")
    }

    #[test]
    fn a_cancel_says_on_what_is_not_the_hops() {
        let said = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\nreason : Q.850;cause=26\r\nPrivacy: id\r\n\
                    P-Asserted-Identity: <sip:a@h>\r\nUser-Agent: x\r\nX-Own:\r\n";
        assert_eq!(carried_of(said), said);
        assert_eq!(carried_of(""), "");
        for hops in ["Require: x\r\n", "Proxy-Require: x\r\n", "m: <sip:a@h>\r\n", "Record-Route: <sip:h;lr>\r\n"] {
            assert_eq!(carried_of(hops), "", "{hops}");
        }
        for body in ["Content-Type: text/plain\r\n", "c: text/plain\r\n", "content-disposition: x\r\n", "e: gzip\r\n"] {
            assert_eq!(carried_of(body), "", "{body}");
        }
    }

    #[test]
    fn a_cancel_carries_two_kilobytes_of_lines_and_whole_ones() {
        let line = format!("X-Long: {}\r\n", "x".repeat(900));
        let reason = "Reason: SIP;cause=200\r\n";
        assert_eq!(carried_of(&format!("{line}{line}{line}{reason}")), format!("{line}{line}{reason}"));
    }

    #[test]
    fn a_cancel_of_ours_says_what_the_other_branch_was_answered() {
        assert_eq!(lines(Reason::Status(200), None), b"Reason: SIP;cause=200\r\n");
        assert_eq!(lines(Reason::Status(603), Some(&cancel("Reason: x\r\n"))), b"Reason: SIP;cause=603\r\n");
        assert!(lines(Reason::Sender, None).is_empty());
    }
}
