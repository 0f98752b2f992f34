//! A desk phone in virtual time: registers with RFC 3261 client timers, answers challenges, keeps a record.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdline::flow::{ConnId, Flow, Transport};

use super::world::{LISTEN, header, headers, what};
use crate::support::simulated::PHONE_UDP;

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// A REGISTER transaction of the phone.
#[derive(Debug, Clone)]
struct Transaction {
    bytes: Bytes,
    branch: String,
    begun: Instant,
    resend: Option<Instant>,
    interval: Duration,
    gives_up: Instant,
}

/// One phone.
#[derive(Debug)]
pub(crate) struct Phone {
    pub index: usize,
    pub addr: SocketAddr,
    pub transport: Transport,
    conn: Option<ConnId>,
    /// Timer F: 32 s by the RFC, 16 s and 7.5 s by some phones.
    pub patience: Duration,
    /// It has a password, and so answers a challenge.
    pub has_password: bool,
    /// Every final answer: code, and how long it took.
    pub finals: Vec<(u16, Duration)>,
    /// Provisional answers to its REGISTERs, with how long they took.
    pub provisionals: Vec<(u16, Duration)>,
    pub timer_f: usize,
    /// 2xx whose Contact was not its own, and answers to nothing it asked.
    pub surprises: Vec<String>,
    pub granted: Option<u32>,
    /// It asks for what it was granted last, as some do.
    pub asks_for_its_grant: bool,
    /// Requests that reached it.
    pub received: Vec<Bytes>,
    /// The newest response.
    pub answered: Option<Bytes>,
    cseq: u32,
    authorization: Option<String>,
    current: Option<Transaction>,
    branches: u32,
    last_branches: Vec<String>,
}

impl Phone {
    pub(crate) fn new(index: usize, transport: Transport, conn: Option<ConnId>) -> Phone {
        let ip = IpAddr::from([10, 1, (index / 250) as u8, (index % 250) as u8 + 1]);
        Phone {
            index,
            addr: SocketAddr::new(ip, 5060),
            transport,
            conn,
            patience: Duration::from_secs(32),
            has_password: true,
            finals: Vec::new(),
            provisionals: Vec::new(),
            timer_f: 0,
            surprises: Vec::new(),
            granted: None,
            asks_for_its_grant: false,
            received: Vec::new(),
            answered: None,
            cseq: 0,
            authorization: None,
            current: None,
            branches: 0,
            last_branches: Vec::new(),
        }
    }

    /// Final codes only.
    pub(crate) fn codes(&self) -> Vec<u16> {
        self.finals.iter().map(|(code, _)| *code).collect()
    }

    /// Forgets all answers but the last.
    pub(crate) fn forget(&mut self) {
        self.finals.drain(..self.finals.len().saturating_sub(1));
        self.last_branches.drain(..self.last_branches.len().saturating_sub(1));
        self.provisionals.clear();
        self.received.clear();
    }

    /// As a phone that keeps no nonce from one registration to the next.
    pub(crate) fn forget_nonce(&mut self) {
        self.authorization = None;
    }

    /// True if its last REGISTER was answered 200.
    pub(crate) fn registered(&self) -> bool {
        self.current.is_none() && self.finals.last().is_some_and(|(code, _)| *code == 200)
    }

    pub(crate) fn flow(&self) -> Flow {
        match self.conn {
            Some(conn) => Flow::Conn(conn),
            None => Flow::Udp { socket: PHONE_UDP, local: LISTEN.parse().expect("literal"), remote: self.addr },
        }
    }

    /// It lost its connection and opened another.
    pub(crate) fn reconnected(&mut self, conn: ConnId) {
        self.conn = Some(conn);
    }

    pub(crate) fn is_at(&self, flow: Flow) -> bool {
        match flow {
            Flow::Conn(conn) => self.conn == Some(conn),
            Flow::Udp { remote, .. } => self.conn.is_none() && remote == self.addr,
        }
    }

    pub(crate) fn contact(&self) -> String {
        format!("sip:{}@{};transport={}", 200 + self.index, self.addr, self.transport)
    }

    pub(crate) fn begin_register(&mut self, now: Instant) -> Bytes {
        self.cseq += 1;
        self.branches += 1;
        let (n, user, addr) = (self.index, 200 + self.index, self.addr);
        let branch = format!("z9hG4bKphone{n}x{}", self.branches);
        let expires = self.granted.filter(|_| self.asks_for_its_grant).unwrap_or(3600);
        let authorization = self.authorization.as_ref().map(|value| format!("Authorization: {value}\r\n"));
        let bytes: Bytes = format!(
            "REGISTER sip:pbx.example.com SIP/2.0\r\n\
             Via: SIP/2.0/{} {addr};branch={branch};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@pbx.example.com>;tag=f{n}\r\n\
             To: <sip:{user}@pbx.example.com>\r\n\
             Call-ID: call{n}@{}\r\n\
             CSeq: {} REGISTER\r\n\
             Contact: <{}>;expires={expires}\r\n\
             {}Content-Length: 0\r\n\r\n",
            self.transport.via_token(),
            addr.ip(),
            self.cseq,
            self.contact(),
            authorization.unwrap_or_default(),
        )
        .into();
        self.last_branches.push(branch.clone());
        self.current = Some(Transaction {
            bytes: bytes.clone(),
            branch,
            begun: now,
            resend: (self.transport == Transport::Udp).then(|| now + T1),
            interval: T1,
            gives_up: now + self.patience,
        });
        bytes
    }

    /// Takes a message; what the phone sends back at once.
    pub(crate) fn receive(&mut self, bytes: &Bytes, now: Instant) -> Option<Bytes> {
        let code: Result<u16, _> = what(bytes).parse();
        let Ok(code) = code else {
            self.received.push(bytes.clone());
            return Some(self.ok(bytes));
        };
        self.answered = Some(bytes.clone());
        let via = header(bytes, "Via").unwrap_or_default();
        let Some(current) = &self.current else {
            if !self.last_branches.iter().any(|branch| via.contains(branch.as_str())) {
                self.surprises.push(format!("stray {code}: {via}"));
            }
            return None;
        };
        if !via.contains(&format!("branch={}", current.branch)) {
            return None;
        }
        if headers(bytes, "Via").len() != 1 {
            self.surprises.push(format!("{code} with a Via that is not the phone's"));
        }
        let took = now - current.begun;
        if code < 200 {
            self.provisionals.push((code, took));
            return None;
        }
        self.finals.push((code, took));
        self.current = None;
        if code == 401 && self.has_password {
            let nonce = header(bytes, "WWW-Authenticate").unwrap_or_default();
            self.authorization = Some(nonce);
            return Some(self.begin_register(now));
        }
        if code == 200 {
            let contact = header(bytes, "Contact").unwrap_or_default();
            if !contact.contains(&format!("<{}>", self.contact())) {
                self.surprises.push(format!("200 with Contact {contact}"));
            }
            self.granted = contact.split("expires=").nth(1).and_then(|value| value.parse().ok());
        }
        None
    }

    /// What the phone sends when its timer fires.
    pub(crate) fn timeout(&mut self, now: Instant) -> Option<Bytes> {
        let current = self.current.as_mut()?;
        if current.gives_up <= now {
            self.timer_f += 1;
            self.current = None;
            return None;
        }
        if current.resend.is_some_and(|at| at <= now) {
            current.interval = (current.interval * 2).min(T2);
            current.resend = Some(now + current.interval);
            return Some(current.bytes.clone());
        }
        None
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let current = self.current.as_ref()?;
        Some(current.resend.map_or(current.gives_up, |at| at.min(current.gives_up)))
    }

    fn ok(&self, request: &[u8]) -> Bytes {
        let vias: Vec<String> = headers(request, "Via").iter().map(|via| format!("Via: {via}\r\n")).collect();
        format!(
            "SIP/2.0 200 OK\r\n{}From: {}\r\nTo: {};tag=p{}\r\nCall-ID: {}\r\nCSeq: {}\r\nContent-Length: 0\r\n\r\n",
            vias.concat(),
            header(request, "From").unwrap_or_default(),
            header(request, "To").unwrap_or_default(),
            self.index,
            header(request, "Call-ID").unwrap_or_default(),
            header(request, "CSeq").unwrap_or_default(),
        )
        .into()
    }
}
