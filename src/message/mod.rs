//! Messages: spans over the received bytes (RFC 3261 §7, §25), and splices that change only what they must.
//!
//! The way of a message: a stream is cut into messages by [`Framer`] (a datagram is one already), [`Message::scan`] finds
//! the start line, the header lines and the body, [`Message::check`] refuses what two parsers could read in two ways, and
//! [`Edit`] makes the outgoing bytes. What Holdline does not understand is never touched: compact names, odd case, unknown
//! methods, any body, UTF-8 or not. Folds alone become spaces, before anything is looked at. [`Reply`] builds Holdline's own
//! answers.
//!
//! Everything here is pure: no clock, no I/O, no chance. All [`Span`]s are absolute offsets into [`Message::bytes`].
//!
//! | file | what it holds |
//! |---|---|
//! | `scan` | [`Message`]: structure, found in one pass |
//! | `start_line`, `block` | its two parts: the start line, the header lines |
//! | `normal` | the one form in which a message goes on: no folds, CRLF, the blank line |
//! | `header` | [`Name`], [`Method`], [`Header`], compact names |
//! | `list` | comma lists ([`Element`]) and parameters ([`Params`]) |
//! | `uri`, `via`, `name_addr` | the three grammars that are looked into |
//! | `parts` | what every message is asked for several times, read once |
//! | `access` | what the rest asks of a message: tags, lists, Contacts … |
//! | `check`, `fault` | the shapes that are refused; the answer of each |
//! | `edit`, `reply` | bytes out |
//! | `digits` | addresses and numbers as text |
//! | `shown` | what of a message may stand in a log |
//! | `masked` | a message whose secrets are overwritten |
//! | `framing` | streams into messages (RFC 3261 §18.3) |

mod access;
mod block;
mod check;
pub(crate) mod digits;
mod edit;
mod fault;
mod framing;
mod header;
mod list;
mod masked;
mod name_addr;
mod normal;
mod parts;
mod reply;
mod scan;
mod shown;
mod start_line;
mod uri;
mod via;

pub use access::{CSeq, Contact};
pub use block::MAX_HEADER_LINES;
pub use check::{BOUNDED_LISTS, MAX_ELEMENTS, Malformed};
pub use edit::Edit;
pub use fault::Fault;
pub use framing::{Frame, Framer, FramingError, framing_status};
pub use header::{Header, Method, Name};
pub use list::{Element, Param, Params};
pub use masked::masked;
pub use name_addr::NameAddr;
pub use reply::{Reply, standard_phrase};
pub use scan::{MAX_MESSAGE, Message, ScanError};
pub use shown::{Packet, Shown};
pub use uri::{Scheme, Uri};
pub use via::Via;

/// A range of bytes of a message: absolute offsets, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte; never below `start`.
    pub end: u32,
}

impl Span {
    /// The range from `start` up to `end`. An `end` below `start` gives an empty span at `start`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end.max(start) as u32 }
    }

    /// The empty span at `at`.
    #[must_use]
    pub fn empty(at: usize) -> Span {
        Span::new(at, at)
    }

    /// The bytes it covers; what lies beyond `buf` is left out.
    #[must_use]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        let end = self.to().min(buf.len());
        &buf[self.at().min(end)..end]
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// True for a span of no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The first offset, for indexing.
    #[must_use]
    pub fn at(self) -> usize {
        self.start as usize
    }

    /// The end offset, for indexing.
    #[must_use]
    pub fn to(self) -> usize {
        self.end as usize
    }

    /// Without the white space (folding included) at both ends.
    #[must_use]
    pub fn trim(self, buf: &[u8]) -> Span {
        let (mut start, mut end) = (self.at(), self.to().min(buf.len()));
        while start < end && is_lws(buf[start]) {
            start += 1;
        }
        while end > start && is_lws(buf[end - 1]) {
            end -= 1;
        }
        Span::new(start, end)
    }
}

/// Space, tab, or part of a folding line end (LWS, RFC 3261 §25.1).
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Space or tab (WSP, RFC 5234 §B.1): what begins a continuation line.
pub(crate) fn is_wsp(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Characters of a `token` (RFC 3261 §25.1).
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric()
            || matches!(c, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        byte += 1;
    }
    table
};

/// An unsigned decimal number of any length; `None` unless there are digits and nothing else. Too large: `u64::MAX`.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut n: u64 = 0;
    for &d in digits {
        if !d.is_ascii_digit() {
            return None;
        }
        n = n.saturating_mul(10).saturating_add(u64::from(d - b'0'));
    }
    Some(n)
}
