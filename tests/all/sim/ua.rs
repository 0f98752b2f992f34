//! A user agent in virtual time: the client and server transactions of RFC 3261 with their timers, dialogs, and a record of
//! all it saw. It stands for a phone behind Holdline or for a PBX before it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdline::flow::Transport;

use super::world::{header, headers, what};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_secs(32);
/// How long a caller lets it ring.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where an agent lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Phone(usize),
    Pbx(SocketAddr),
}

/// What an agent does with an INVITE outside a dialog.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manner {
    /// 180 after so long.
    pub rings: Option<Duration>,
    /// This status after so long; never without.
    pub answers: Option<(Duration, u16)>,
    /// 183 that wants a PRACK (RFC 3262) instead of the 180.
    pub reliable: bool,
    /// 407 to who shows no credentials.
    pub challenges: bool,
    /// A Contact for a redirection.
    pub elsewhere: Option<String>,
    /// It adds a Record-Route of its own, as a PBX that is a proxy does.
    pub records: bool,
}

/// A request it sent.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub method: String,
    pub bytes: Bytes,
    pub provisionals: Vec<u16>,
    /// Each final answer once: status and To tag.
    pub finals: Vec<(u16, String)>,
    /// The last final answer.
    pub answer: Option<Bytes>,
    pub timed_out: bool,
    branch: String,
    resend: Option<(Instant, Duration)>,
    end: Instant,
    acks: Vec<(String, Bytes)>,
    pracked: Vec<String>,
    ack_body: String,
}

/// A request it got.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub method: String,
    pub request: Bytes,
    pub status: Option<u16>,
    pub ack: Option<Bytes>,
    branch: String,
    last: Option<Bytes>,
    resend: Option<(Instant, Duration)>,
    end: Instant,
}

/// One end of a dialog.
#[derive(Debug, Clone)]
pub(crate) struct Dialog {
    pub call_id: String,
    pub local: String,
    pub remote: String,
    pub target: String,
    pub routes: Vec<String>,
    pub cseq: u32,
}

/// The agent.
#[derive(Debug)]
pub(crate) struct Ua {
    pub place: Place,
    pub manner: Manner,
    pub asked: Vec<Asked>,
    pub got: Vec<Got>,
    pub dialogs: Vec<Dialog>,
    /// Answers to nothing it asked, ACKs of nothing it answered.
    pub surprises: Vec<String>,
    name: String,
    addr: SocketAddr,
    uri: String,
    transport: Transport,
    planned: Vec<(Instant, usize, u16)>,
    serial: u32,
}

impl Ua {
    pub(crate) fn new(place: Place, name: &str, addr: SocketAddr, transport: Transport, user: usize) -> Ua {
        let manner = Manner { rings: Some(T1 / 5), answers: Some((Duration::from_secs(2), 200)), ..Manner::default() };
        Ua {
            place,
            manner,
            asked: Vec::new(),
            got: Vec::new(),
            dialogs: Vec::new(),
            surprises: Vec::new(),
            name: name.to_owned(),
            addr,
            uri: format!("sip:{user}@pbx.example.com"),
            transport,
            planned: Vec::new(),
            serial: 0,
        }
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}{}>", self.name, self.addr, transport_parameter(self.transport))
    }

    /// A request outside a dialog. The answer's number in `asked` is the last one.
    pub(crate) fn outside(&mut self, method: &str, uri: &str, extra: &str, body: &str, now: Instant) -> Vec<Bytes> {
        self.serial += 1;
        let call = format!("{}-{}@{}", self.name, self.serial, self.addr.ip());
        let dialog = Dialog {
            call_id: call,
            local: format!("<{}>;tag={}{}", self.uri, self.name, self.serial),
            remote: "<sip:201@pbx.example.com>".into(),
            target: uri.to_owned(),
            routes: Vec::new(),
            cseq: 1,
        };
        vec![self.ask(&dialog, method, extra, body, now)]
    }

    /// The same request again with these headers more, as after a challenge or a redirection: same call, next CSeq.
    pub(crate) fn again(&mut self, asked: usize, uri: &str, extra: &str, body: &str, now: Instant) -> Vec<Bytes> {
        let before = self.asked[asked].bytes.clone();
        let dialog = Dialog {
            call_id: header(&before, "Call-ID").expect("a Call-ID"),
            local: header(&before, "From").expect("a From"),
            remote: header(&before, "To").expect("a To"),
            target: uri.to_owned(),
            routes: Vec::new(),
            cseq: cseq(&before).0 + 1,
        };
        let method = self.asked[asked].method.clone();
        vec![self.ask(&dialog, &method, extra, body, now)]
    }

    /// A request inside a dialog.
    pub(crate) fn inside(&mut self, dialog: usize, method: &str, extra: &str, body: &str, now: Instant) -> Vec<Bytes> {
        self.dialogs[dialog].cseq += 1;
        let dialog = self.dialogs[dialog].clone();
        vec![self.ask(&dialog, method, extra, body, now)]
    }

    /// CANCEL of an INVITE it sent.
    pub(crate) fn cancel(&mut self, asked: usize, now: Instant) -> Vec<Bytes> {
        let invite = self.asked[asked].clone();
        let bytes = Self::hop_by_hop(&invite.bytes, "CANCEL", None);
        vec![self.keep("CANCEL", &invite.branch, bytes, now)]
    }

    /// The same, with header lines of its own.
    pub(crate) fn cancel_saying(&mut self, asked: usize, lines: &str, now: Instant) -> Vec<Bytes> {
        let invite = self.asked[asked].clone();
        let bytes = Self::hop_by_hop(&invite.bytes, "CANCEL", None);
        let text = String::from_utf8_lossy(&bytes).replace("Content-Length", &format!("{lines}Content-Length"));
        vec![self.keep("CANCEL", &invite.branch, text.into(), now)]
    }

    /// What goes into the ACK of a 2xx, for an INVITE that made no offer.
    pub(crate) fn answer_in_ack(&mut self, body: &str) {
        if let Some(asked) = self.asked.last_mut() {
            body.clone_into(&mut asked.ack_body);
        }
    }

    fn ask(&mut self, dialog: &Dialog, method: &str, extra: &str, body: &str, now: Instant) -> Bytes {
        self.serial += 1;
        let branch = format!("z9hG4bK{}x{}", self.name, self.serial);
        let bytes = self.write(dialog, method, dialog.cseq, &branch, extra, body);
        self.keep(method, &branch, bytes, now)
    }

    fn write(&self, dialog: &Dialog, method: &str, cseq: u32, branch: &str, extra: &str, body: &str) -> Bytes {
        let routes = lines("Route", &dialog.routes);
        let rport = if matches!(self.place, Place::Phone(_)) { ";rport" } else { "" };
        let contact = if matches!(method, "BYE" | "ACK" | "MESSAGE" | "PUBLISH") {
            String::new()
        } else {
            format!("Contact: {}\r\n", self.contact())
        };
        format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/{} {};branch={branch}{rport}\r\nMax-Forwards: 70\r\n{routes}\
             From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n{contact}{extra}Content-Length: {}\r\n\r\n{body}",
            dialog.target,
            self.transport.via_token(),
            self.addr,
            dialog.local,
            dialog.remote,
            dialog.call_id,
            body.len(),
        )
        .into()
    }

    fn keep(&mut self, method: &str, branch: &str, bytes: Bytes, now: Instant) -> Bytes {
        let udp = self.transport == Transport::Udp;
        self.asked.push(Asked {
            method: method.to_owned(),
            bytes: bytes.clone(),
            provisionals: Vec::new(),
            finals: Vec::new(),
            answer: None,
            timed_out: false,
            branch: branch.to_owned(),
            resend: udp.then_some((now + T1, T1)),
            end: now + LONG,
            acks: Vec::new(),
            pracked: Vec::new(),
            ack_body: String::new(),
        });
        bytes
    }

    /// ACK of a failure, or CANCEL: what RFC 3261 §17.1.1.3 and §9.1 take from the INVITE.
    fn hop_by_hop(invite: &[u8], method: &str, to: Option<String>) -> Bytes {
        let line = String::from_utf8_lossy(invite.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
        let uri = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let take = |name: &str| header(invite, name).unwrap_or_default();
        let routes = lines("Route", &headers(invite, "Route"));
        format!(
            "{method} {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\n{routes}From: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
             CSeq: {} {method}\r\nContent-Length: 0\r\n\r\n",
            take("Via"),
            take("From"),
            to.unwrap_or_else(|| take("To")),
            take("Call-ID"),
            cseq(invite).0,
        )
        .into()
    }

    /// Takes a message; what it sends at once.
    pub(crate) fn receive(&mut self, bytes: &Bytes, now: Instant) -> Vec<Bytes> {
        match what(bytes).parse::<u16>() {
            Ok(status) => self.response(status, bytes, now),
            Err(_) => self.request(bytes, now),
        }
    }

    fn response(&mut self, status: u16, bytes: &Bytes, now: Instant) -> Vec<Bytes> {
        let via = header(bytes, "Via").unwrap_or_default();
        let (_, method) = cseq(bytes);
        let mine = |asked: &Asked| asked.method == method && via.contains(&format!("branch={}", asked.branch));
        let Some(index) = self.asked.iter().position(|asked| mine(asked) && is_whole(&via, &asked.branch)) else {
            self.surprises.push(format!("stray {status} {method}"));
            return Vec::new();
        };
        if headers(bytes, "Via").len() != 1 {
            self.surprises.push(format!("{status} with {} Vias", headers(bytes, "Via").len()));
        }
        let invite = method == "INVITE";
        let tag = tag_of(&header(bytes, "To").unwrap_or_default());
        if status < 200 {
            let asked = &mut self.asked[index];
            asked.provisionals.push(status);
            asked.resend = asked.resend.filter(|_| !invite).map(|_| (now + T2, T2));
            if invite && asked.finals.is_empty() {
                asked.end = now + PATIENCE;
            }
            return self.acknowledge_reliable(index, bytes, now);
        }
        let asked = &mut self.asked[index];
        asked.resend = None;
        asked.end = now + PATIENCE;
        if !asked.finals.iter().any(|(known, of)| *known == status && *of == tag) {
            asked.finals.push((status, tag.clone()));
            asked.answer = Some(bytes.clone());
            if status < 300 && matches!(&*method, "INVITE" | "SUBSCRIBE") {
                self.dialog_from_answer(index, bytes, &tag);
            }
        }
        if !invite {
            return Vec::new();
        }
        let asked = &self.asked[index];
        if let Some((_, ack)) = asked.acks.iter().find(|(of, _)| *of == tag) {
            return vec![ack.clone()];
        }
        let ack = if status < 300 {
            let dialog = self.dialogs.iter().rfind(|dialog| tag_of(&dialog.remote) == tag).expect("made above").clone();
            self.serial += 1;
            let branch = format!("z9hG4bK{}ack{}", self.name, self.serial);
            self.write(&dialog, "ACK", cseq(&asked.bytes).0, &branch, "", &asked.ack_body)
        } else {
            Self::hop_by_hop(&asked.bytes.clone(), "ACK", header(bytes, "To"))
        };
        self.asked[index].acks.push((tag, ack.clone()));
        vec![ack]
    }

    fn dialog_from_answer(&mut self, index: usize, answer: &Bytes, tag: &str) {
        let call_id = header(answer, "Call-ID").unwrap_or_default();
        let target = uri_of(&header(answer, "Contact").unwrap_or_default());
        let known = |dialog: &&mut Dialog| dialog.call_id == call_id && tag_of(&dialog.remote) == tag;
        if let Some(dialog) = self.dialogs.iter_mut().find(known) {
            dialog.target = target;
            return;
        }
        let mut routes = record_routes(answer);
        routes.reverse();
        self.dialogs.push(Dialog {
            call_id,
            local: header(answer, "From").unwrap_or_default(),
            remote: header(answer, "To").unwrap_or_default(),
            target,
            routes,
            cseq: cseq(&self.asked[index].bytes).0,
        });
    }

    /// PRACK, RFC 3262 §4, once for each reliable provisional.
    fn acknowledge_reliable(&mut self, index: usize, bytes: &Bytes, now: Instant) -> Vec<Bytes> {
        let Some(rseq) = header(bytes, "RSeq") else { return Vec::new() };
        if self.asked[index].pracked.contains(&rseq) {
            return Vec::new();
        }
        self.asked[index].pracked.push(rseq.clone());
        let number = cseq(&self.asked[index].bytes).0;
        let mut routes = record_routes(bytes);
        routes.reverse();
        let early = Dialog {
            call_id: header(bytes, "Call-ID").unwrap_or_default(),
            local: header(bytes, "From").unwrap_or_default(),
            remote: header(bytes, "To").unwrap_or_default(),
            target: uri_of(&header(bytes, "Contact").unwrap_or_default()),
            routes,
            cseq: number + 1,
        };
        vec![self.ask(&early, "PRACK", &format!("RAck: {rseq} {number} INVITE\r\n"), "", now)]
    }

    fn request(&mut self, bytes: &Bytes, now: Instant) -> Vec<Bytes> {
        let (number, method) = cseq(bytes);
        let call = header(bytes, "Call-ID");
        let branch = header(bytes, "Via").and_then(|via| via.split("branch=").nth(1).map(str::to_owned));
        let branch = branch.unwrap_or_default().split([';', ',']).next().unwrap_or_default().to_owned();
        if method == "ACK" {
            let invite = |got: &&mut Got| {
                got.method == "INVITE" && cseq(&got.request).0 == number && header(&got.request, "Call-ID") == call
            };
            match self.got.iter_mut().rev().find(invite) {
                Some(got) => (got.resend, got.ack) = (None, Some(bytes.clone())),
                None => self.surprises.push("ACK of nothing".into()),
            }
            return Vec::new();
        }
        let same = |got: &Got| got.branch == branch && got.method == method && cseq(&got.request).0 == number;
        if let Some(got) = self.got.iter().find(|got| same(got)) {
            return got.last.clone().into_iter().collect();
        }
        self.got.push(Got {
            method: method.clone(),
            request: bytes.clone(),
            status: None,
            ack: None,
            branch: branch.clone(),
            last: None,
            resend: None,
            end: now + LONG,
        });
        let index = self.got.len() - 1;
        let inside = header(bytes, "To").is_some_and(|to| to.contains(";tag="));
        match &*method {
            "INVITE" if inside => self.respond(index, 200, now),
            "INVITE" => self.invited(index, bytes, now),
            "CANCEL" => {
                let mut out = self.respond(index, 200, now);
                let invite = self.got.iter().position(|got| got.method == "INVITE" && got.branch == branch);
                if let Some(invite) = invite.filter(|invite| self.got[*invite].status.is_none_or(|s| s < 200)) {
                    self.planned.retain(|(_, of, _)| *of != invite);
                    out.extend(self.respond(invite, 487, now));
                }
                out
            }
            "PRACK" => {
                let reliable = |got: &&mut Got| got.method == "INVITE" && header(&got.request, "Call-ID") == call;
                if let Some(got) = self.got.iter_mut().find(reliable).filter(|got| got.status < Some(200)) {
                    got.resend = None;
                }
                self.respond(index, 200, now)
            }
            "REFER" => self.respond(index, 202, now),
            _ => self.respond(index, 200, now),
        }
    }

    fn invited(&mut self, index: usize, bytes: &Bytes, now: Instant) -> Vec<Bytes> {
        if self.manner.challenges && header(bytes, "Proxy-Authorization").is_none() {
            return self.respond(index, 407, now);
        }
        if let Some(after) = self.manner.rings {
            self.planned.push((now + after, index, if self.manner.reliable { 183 } else { 180 }));
        }
        if let Some((after, status)) = self.manner.answers {
            self.planned.push((now + after, index, status));
        }
        // A PBX says at once that it has it; a phone as soon as it rings.
        if matches!(self.place, Place::Pbx(_)) { self.respond(index, 100, now) } else { Vec::new() }
    }

    /// Answers a request it got.
    pub(crate) fn respond(&mut self, index: usize, status: u16, now: Instant) -> Vec<Bytes> {
        let request = self.got[index].request.clone();
        let (number, method) = cseq(&request);
        let to = header(&request, "To").unwrap_or_default();
        let tagged = to.contains(";tag=");
        let local = if tagged || status == 100 { to } else { format!("{to};tag={}got{index}", self.name) };
        let mut extra = lines("Via", &headers(&request, "Via"));
        let mut recorded = headers(&request, "Record-Route");
        if self.manner.records && !tagged {
            recorded.insert(0, format!("<sip:{};lr>", self.addr));
        }
        if status > 100 && status < 300 && begins_dialog(&method) {
            extra += &lines("Record-Route", &recorded);
            extra += &lines("Contact", &[self.contact()]);
        }
        match status {
            183 if self.manner.reliable => extra += "Require: 100rel\r\nRSeq: 1\r\n",
            407 => extra += "Proxy-Authenticate: Digest realm=\"pbx\", nonce=\"n\"\r\n",
            300..400 => {
                extra += &lines("Contact", &[format!("<{}>", self.manner.elsewhere.clone().unwrap_or_default())]);
            }
            _ => {}
        }
        if method == "SUBSCRIBE" {
            extra += &lines("Expires", &headers(&request, "Expires"));
        }
        let from = header(&request, "From").unwrap_or_default();
        let call_id = header(&request, "Call-ID").unwrap_or_default();
        let bytes: Bytes = format!(
            "SIP/2.0 {status} Said by {}\r\n{extra}From: {from}\r\nTo: {local}\r\nCall-ID: {call_id}\r\n\
             CSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
            self.name
        )
        .into();
        if (200..300).contains(&status) && !tagged && begins_dialog(&method) {
            let routes = recorded.iter().flat_map(|line| line.split(',').map(|r| r.trim().to_owned())).collect();
            let target = uri_of(&header(&request, "Contact").unwrap_or_default());
            self.dialogs.push(Dialog { call_id, local, remote: from, target, routes, cseq: 100 });
        }
        let udp = self.transport == Transport::Udp;
        let got = &mut self.got[index];
        // A transaction has one final answer, and that is what it repeats: whatever its user says afterwards is said once.
        if got.status.is_some_and(|said| said >= 200) {
            return vec![bytes];
        }
        (got.status, got.last) = (Some(status), Some(bytes.clone()));
        let until_ack = method == "INVITE" && status >= 200 && (udp || status < 300);
        if until_ack || (status == 183 && self.manner.reliable) {
            (got.resend, got.end) = (Some((now + T1, T1)), now + LONG);
        }
        vec![bytes]
    }

    /// What it sends when a timer fires.
    pub(crate) fn timeout(&mut self, now: Instant) -> Vec<Bytes> {
        let mut out = Vec::new();
        let (due, later): (Vec<_>, Vec<_>) = self.planned.drain(..).partition(|(at, _, _)| *at <= now);
        self.planned = later;
        for (_, index, status) in due {
            out.extend(self.respond(index, status, now));
        }
        for asked in self.asked.iter_mut().filter(|asked| asked.finals.is_empty() && !asked.timed_out) {
            if asked.end <= now {
                (asked.timed_out, asked.resend) = (true, None);
            } else if let Some((_, interval)) = asked.resend.filter(|(at, _)| *at <= now) {
                let next = if asked.method == "INVITE" { interval * 2 } else { (interval * 2).min(T2) };
                asked.resend = Some((now + next, next));
                out.push(asked.bytes.clone());
            }
        }
        for got in &mut self.got {
            if got.end <= now {
                got.resend = None;
            } else if let Some((_, interval)) = got.resend.filter(|(at, _)| *at <= now) {
                let next = (interval * 2).min(T2);
                got.resend = Some((now + next, next));
                out.extend(got.last.clone());
            }
        }
        out
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waits = self.asked.iter().filter(|asked| asked.finals.is_empty() && !asked.timed_out);
        let asked = waits.map(|asked| asked.resend.map_or(asked.end, |(at, _)| at.min(asked.end)));
        let got = self.got.iter().filter_map(|got| got.resend.map(|(at, _)| at.min(got.end)));
        asked.chain(got).chain(self.planned.iter().map(|(at, _, _)| *at)).min()
    }

    /// The final status of a request it sent; 0 while there is none.
    pub(crate) fn status(&self, asked: usize) -> u16 {
        self.asked.get(asked).and_then(|asked| asked.finals.first()).map_or(0, |(status, _)| *status)
    }

    /// How many requests with this method arrived.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.got.iter().filter(|got| got.method == method).count()
    }
}

/// CSeq number and method.
pub(super) fn cseq(bytes: &[u8]) -> (u32, String) {
    let value = header(bytes, "CSeq").unwrap_or_default();
    let mut words = value.split_whitespace();
    (words.next().and_then(|n| n.parse().ok()).unwrap_or(0), words.next().unwrap_or_default().to_owned())
}

/// A header line for each value.
fn lines(name: &str, values: &[String]) -> String {
    values.iter().fold(String::new(), |lines, value| lines + name + ": " + value + "\r\n")
}

fn begins_dialog(method: &str) -> bool {
    matches!(method, "INVITE" | "SUBSCRIBE" | "UPDATE")
}

fn is_whole(via: &str, branch: &str) -> bool {
    via.split("branch=").nth(1).is_some_and(|rest| rest.split(';').next() == Some(branch))
}

fn tag_of(value: &str) -> String {
    value.split(";tag=").nth(1).unwrap_or_default().split(';').next().unwrap_or_default().to_owned()
}

fn uri_of(contact: &str) -> String {
    contact.split(['<', '>']).nth(1).unwrap_or(contact).to_owned()
}

/// Each element of every Record-Route, top first.
pub(super) fn record_routes(message: &[u8]) -> Vec<String> {
    headers(message, "Record-Route").iter().flat_map(|line| line.split(',').map(|r| r.trim().to_owned())).collect()
}

fn transport_parameter(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
    }
}
