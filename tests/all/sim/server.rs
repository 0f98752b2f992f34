//! A registrar in virtual time, and the ways in which it may fail.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdline::flow::{Cause, Transport};

use super::world::{header, headers, what};

/// How a server behaves from now on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Manner {
    /// Challenges, then registers.
    Normal,
    /// Takes everything and answers nothing.
    Silent,
    /// Connection refused, ICMP port unreachable.
    Refuse,
    /// Takes a connection and resets it when something comes.
    Reset,
    /// The TLS handshake fails.
    TlsFailure,
    /// A connection cannot be established in time.
    NoConnect,
    /// This status to everything.
    Status(u16),
    /// 401 without credentials, this status with them.
    ChallengeThen(u16),
    /// As normal, but so late.
    Late(Duration),
    /// As normal, but whatever names this user is dropped without a word.
    Drops(&'static str),
    /// 100 at once, then nothing.
    ProvisionalOnly,
    /// 200 so late to the first branch of a request; `code` at once to a second branch of the same request.
    MergeAware(Duration, u16),
}

/// What a message made the server do.
pub(crate) enum Turn {
    Nothing,
    Answers(Vec<(Duration, Bytes)>),
    Refuse,
    Reset,
}

/// One server.
pub(crate) struct Server {
    pub name: String,
    pub manner: Manner,
    /// Everything that arrived, with its time.
    pub received: Vec<(Instant, Bytes)>,
    /// What it answered, by Via branch: replayed to retransmissions.
    answered: HashMap<String, Vec<Bytes>>,
    seen: HashMap<String, String>,
}

impl Server {
    pub(crate) fn new(name: &str) -> Server {
        Server {
            name: name.to_owned(),
            manner: Manner::Normal,
            received: Vec::new(),
            answered: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    /// Forgets what was noted for assertions, and answers that no retransmission asks for any more.
    pub(crate) fn forget(&mut self) {
        self.received.clear();
        self.answered.clear();
        self.seen.clear();
    }

    /// REGISTERs that arrived, retransmissions not counted.
    pub(crate) fn registers(&self) -> usize {
        let mut branches: Vec<String> = self
            .received
            .iter()
            .filter(|(_, bytes)| what(bytes) == "REGISTER")
            .filter_map(|(_, bytes)| header(bytes, "Via"))
            .collect();
        branches.sort();
        branches.dedup();
        branches.len()
    }

    /// The last request that arrived.
    pub(crate) fn last(&self) -> &Bytes {
        &self.received.last().expect("something arrived").1
    }

    pub(crate) fn refuses_open(&self, transport: Transport) -> Option<(Cause, Duration)> {
        if transport == Transport::Udp {
            return None;
        }
        match self.manner {
            Manner::Refuse => Some((Cause::Refused, Duration::ZERO)),
            Manner::TlsFailure => Some((Cause::Tls, Duration::ZERO)),
            Manner::NoConnect => Some((Cause::Timeout, Duration::from_secs(3))),
            _ => None,
        }
    }

    pub(crate) fn receive(&mut self, bytes: &Bytes, now: Instant) -> Turn {
        self.received.push((now, bytes.clone()));
        if what(bytes).parse::<u16>().is_ok() || what(bytes) == "ACK" {
            return Turn::Nothing;
        }
        let via = header(bytes, "Via").unwrap_or_default();
        if let Some(answers) = self.answered.get(&via) {
            return match self.manner {
                Manner::Silent => Turn::Nothing,
                _ => Turn::Answers(answers.iter().map(|answer| (Duration::ZERO, answer.clone())).collect()),
            };
        }
        let authorized = header(bytes, "Authorization").is_some_and(|value| value.contains(&self.nonce()));
        let now = Duration::ZERO;
        let answers = match self.manner.clone() {
            Manner::Silent | Manner::TlsFailure | Manner::NoConnect => return Turn::Nothing,
            Manner::Drops(user) if header(bytes, "From").is_some_and(|from| from.contains(user)) => {
                return Turn::Nothing;
            }
            Manner::Refuse => return Turn::Refuse,
            Manner::Reset => return Turn::Reset,
            Manner::Normal | Manner::Drops(_) if authorized => vec![(now, self.ok(bytes))],
            Manner::Status(code) => vec![(now, self.answer(bytes, code, ""))],
            Manner::ChallengeThen(code) if authorized => vec![(now, self.answer(bytes, code, ""))],
            Manner::Normal | Manner::Drops(_) | Manner::ChallengeThen(_) => vec![(now, self.challenge(bytes))],
            Manner::Late(delay) if authorized => return Turn::Answers(vec![(delay, self.ok(bytes))]),
            Manner::Late(delay) => return Turn::Answers(vec![(delay, self.challenge(bytes))]),
            Manner::ProvisionalOnly => vec![(now, self.answer(bytes, 100, ""))],
            Manner::MergeAware(delay, code) => {
                let request = format!("{:?} {:?}", header(bytes, "Call-ID"), header(bytes, "CSeq"));
                let first = self.seen.entry(request).or_insert_with(|| via.clone());
                if *first == via {
                    return Turn::Answers(vec![(delay, self.ok(bytes))]);
                }
                vec![(now, self.answer(bytes, code, ""))]
            }
        };
        self.answered.insert(via, answers.iter().map(|(_, bytes)| bytes.clone()).collect());
        Turn::Answers(answers)
    }

    fn nonce(&self) -> String {
        format!("nonce-of-{}", self.name)
    }

    pub(crate) fn ok(&self, request: &[u8]) -> Bytes {
        let contacts: Vec<String> = headers(request, "Contact").iter().map(|c| format!("Contact: {c}\r\n")).collect();
        self.answer(request, 200, &contacts.concat())
    }

    fn challenge(&self, request: &[u8]) -> Bytes {
        let challenge = format!("WWW-Authenticate: Digest realm=\"pbx\", nonce=\"{}\"\r\n", self.nonce());
        self.answer(request, 401, &challenge)
    }

    pub(crate) fn answer(&self, request: &[u8], code: u16, extra: &str) -> Bytes {
        let vias: Vec<String> = headers(request, "Via").iter().map(|via| format!("Via: {via}\r\n")).collect();
        let tag = if code == 100 { String::new() } else { format!(";tag=s{}", self.name) };
        format!(
            "SIP/2.0 {code} Said by {}\r\n{}From: {}\r\nTo: {}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{extra}Content-Length: 0\r\n\r\n",
            self.name,
            vias.concat(),
            header(request, "From").unwrap_or_default(),
            header(request, "To").unwrap_or_default(),
            header(request, "Call-ID").unwrap_or_default(),
            header(request, "CSeq").unwrap_or_default(),
        )
        .into()
    }
}
