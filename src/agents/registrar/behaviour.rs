//! How a registrar behaves as a whole, and what one request meets.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::agents::sip::Message;
use crate::agents::wire::Admission;

/// The behaviour of a registrar until another one is set.
#[derive(Clone, Default)]
pub enum Behaviour {
    /// As a registrar should.
    #[default]
    Normal,
    /// Like a black hole or a stopped process: sockets stay open, connections are let in, nothing is answered. TLS
    /// handshakes wait.
    Silent,
    /// Every request gets this status.
    Answer(u16),
    /// REGISTERs are challenged as usual; those with good credentials get this status.
    ChallengeThen(u16),
    /// Sockets and connections are closed: datagrams meet ICMP port unreachable, connections are refused.
    Refuse,
    /// As if its network were gone: datagrams and requests on open connections are not answered, new connections meet
    /// no answer to their SYN.
    Unreachable,
    /// Connections are let in and reset; those that are open are reset now. Datagrams are not answered.
    ResetOnAccept,
    /// A request resets the connection it came on. Datagrams are not answered.
    ResetOnRequest,
    /// A request ends the connection it came on, in order, without an answer. Datagrams are not answered.
    CloseOnRequest,
    /// TLS handshakes fail with an alert; open connections are closed now. Datagrams are not answered.
    BreakTls,
    /// As usual, but this much later.
    Late(Duration),
    /// A 100 and then nothing.
    TryingOnly,
    /// Each new request is asked about.
    Custom(Arc<dyn Fn(&Message) -> Reaction + Send + Sync>),
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Behaviour::Normal => f.write_str("Normal"),
            Behaviour::Silent => f.write_str("Silent"),
            Behaviour::Answer(status) => write!(f, "Answer({status})"),
            Behaviour::ChallengeThen(status) => write!(f, "ChallengeThen({status})"),
            Behaviour::Refuse => f.write_str("Refuse"),
            Behaviour::Unreachable => f.write_str("Unreachable"),
            Behaviour::ResetOnAccept => f.write_str("ResetOnAccept"),
            Behaviour::ResetOnRequest => f.write_str("ResetOnRequest"),
            Behaviour::CloseOnRequest => f.write_str("CloseOnRequest"),
            Behaviour::BreakTls => f.write_str("BreakTls"),
            Behaviour::Late(by) => write!(f, "Late({by:?})"),
            Behaviour::TryingOnly => f.write_str("TryingOnly"),
            Behaviour::Custom(_) => f.write_str("Custom"),
        }
    }
}

impl Behaviour {
    /// Whether nobody listens.
    pub(super) fn closes_sockets(&self) -> bool {
        matches!(self, Behaviour::Refuse | Behaviour::Unreachable)
    }

    pub(super) fn admission(&self) -> Admission {
        match self {
            Behaviour::Silent => Admission::Hold,
            Behaviour::ResetOnAccept => Admission::Reset,
            Behaviour::BreakTls => Admission::BreakTls,
            _ => Admission::Serve,
        }
    }

    /// Whether open connections end on turning to this behaviour, and if so, whether by reset.
    pub(super) fn ends_connections(&self) -> Option<bool> {
        match self {
            Behaviour::ResetOnAccept => Some(true),
            Behaviour::Refuse | Behaviour::BreakTls => Some(false),
            _ => None,
        }
    }

    pub(super) fn reaction(&self, message: &Message) -> Reaction {
        match self {
            Behaviour::ChallengeThen(status) if message.method() == "REGISTER" => Reaction::ChallengeThen(*status),
            Behaviour::Normal | Behaviour::ChallengeThen(_) => Reaction::Normal,
            Behaviour::Silent
            | Behaviour::Unreachable
            | Behaviour::Refuse
            | Behaviour::ResetOnAccept
            | Behaviour::BreakTls => Reaction::Nothing,
            Behaviour::Answer(status) => Reaction::Answer(*status),
            Behaviour::ResetOnRequest => Reaction::Reset,
            Behaviour::CloseOnRequest => Reaction::Close,
            Behaviour::Late(by) => Reaction::After(*by, Box::new(Reaction::Normal)),
            Behaviour::TryingOnly => Reaction::TryingThen(Box::new(Reaction::Nothing)),
            Behaviour::Custom(ask) => ask(message),
        }
    }
}

/// What one request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reaction {
    /// What is right.
    Normal,
    /// No answer, to repetitions neither.
    Nothing,
    /// This status.
    Answer(u16),
    /// This status with further headers (`Retry-After` …).
    AnswerWith(u16, Vec<(String, String)>),
    /// A challenge, or with good credentials this status.
    ChallengeThen(u16),
    /// A 100, then something else.
    TryingThen(Box<Reaction>),
    /// Something else, later.
    After(Duration, Box<Reaction>),
    /// Exactly these bytes, to where their top Via says.
    Send(Bytes),
    /// These bytes, then something else.
    Both(Bytes, Box<Reaction>),
    /// The connection ends in order.
    Close,
    /// The connection is reset.
    Reset,
}

impl Reaction {
    /// The final status that goes out, where one does.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Reaction::Send(bytes) => Message::read(bytes).map(|m| m.status()).filter(|s| *s >= 200),
            Reaction::After(_, then) | Reaction::Both(_, then) | Reaction::TryingThen(then) => then.status(),
            _ => None,
        }
    }

    pub(super) fn is_immediate(&self) -> bool {
        match self {
            Reaction::After(..) => false,
            Reaction::Both(_, then) | Reaction::TryingThen(then) => then.is_immediate(),
            _ => true,
        }
    }
}

/// The behaviour, and what comes before it.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) base: Behaviour,
    pub(super) queue: VecDeque<Reaction>,
}
