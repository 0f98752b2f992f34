//! Untrusted peers on both sides: anything, in any order, at any time. Nothing panics, nothing spins, nothing crosses to where it
//! must not go, and when it is quiet again nothing is left.
//!
//! The fuzz target `core` runs the same script from bytes that coverage guides.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{Cause, ConnId, Flow, NetEvent, SocketId, Transport};
use holdline::proxy::{Event, Exhausted, Settings};
use holdline::upstream::LookupFailure;

use super::bench::{Bench, Opens, is_to_phone, records, response};

/// One thing that happens. Every number is taken modulo what there is.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A phone sends this.
    Phone(u8, Vec<u8>),
    /// Upstream sends this, on its connection (0 … 7) or from its address by datagram.
    Upstream(u8, Vec<u8>),
    /// Somebody else sends this to the upstream socket.
    Untrusted(Vec<u8>),
    /// Upstream answers one of the requests it got so far, perhaps again, perhaps much later.
    Answer(u8, u16),
    /// A phone answers one of the requests it got so far.
    PhoneAnswers(u8, u16),
    /// Upstream calls a Contact it was given.
    Call(u8, u8),
    /// A phone cancels or acknowledges something it sent.
    Follow(u8, bool),
    /// What comes of connecting from now on.
    Opens(u8),
    /// A connection that is being opened is, or is not.
    Resolve(u8, bool),
    /// A connection ends: upstream's, or a phone's, who comes back on a new one.
    Reset(u8),
    PhoneGone(u8),
    /// An ICMP error.
    SendFailed(u8),
    /// A stream that cannot be cut.
    Unframed(u8, Vec<u8>),
    Dns(u8),
    Roll,
    Drain,
    /// So many milliseconds pass.
    Wait(u16),
    /// So many pass while the machine sleeps.
    Sleep(u16),
}

/// What was seen, to answer and to follow up.
struct Stage {
    bench: Bench,
    up: Vec<(Flow, Bytes)>,
    down: Vec<(Flow, Bytes)>,
    from_phones: Vec<(Flow, Vec<u8>)>,
    phone_conns: Vec<u64>,
    next_conn: u64,
}

/// Plays a script. Panics where a promise is broken.
pub(super) fn play(steps: &[Step], choice: u8) {
    let transport = Transport::ALL[usize::from(choice) % 3];
    let proxy = Settings {
        retry: choice & 4 == 0,
        exhausted: if choice & 8 == 0 { Exhausted::Silent } else { Exhausted::Unavailable },
        max_transactions: if choice & 16 == 0 { 65_536 } else { 12 },
        max_bindings: if choice & 32 == 0 { 65_536 } else { 3 },
        max_upstream_connections: if choice & 64 == 0 { 256 } else { 1 },
        domain: Some("pbx.example.com".to_owned()),
        domain_in_aor: choice & 2 == 0,
        ..Settings::default()
    };
    let bench = if choice & 128 == 0 {
        Bench::new(transport, false, proxy)
    } else {
        Bench::without_dns(transport, false, proxy)
    };
    let mut stage = Stage {
        bench,
        up: Vec::new(),
        down: Vec::new(),
        from_phones: Vec::new(),
        phone_conns: Vec::new(),
        next_conn: 1,
    };
    for _ in 0..4 {
        stage.connect_phone();
    }
    for step in steps {
        stage.step(step);
        stage.look(None);
    }
    stage.ends_quietly();
}

impl Stage {
    fn connect_phone(&mut self) {
        let conn = self.next_conn;
        self.next_conn += 1;
        self.bench.accept(conn, SocketAddr::from(([10, 2, 0, (conn % 250) as u8], 40_000)));
        self.phone_conns.push(conn);
    }

    /// Even numbers are UDP phones, odd ones TCP phones.
    fn phone(&self, who: u8) -> Flow {
        if who % 2 == 1 {
            Flow::Conn(ConnId::Accepted(self.phone_conns[usize::from(who / 2) % self.phone_conns.len()]))
        } else {
            self.bench.phone(SocketAddr::from(([10, 1, 0, who], 5060)))
        }
    }

    fn upstream(&self, who: u8) -> Flow {
        let mut conns: Vec<ConnId> = self.bench.conns.keys().copied().collect();
        conns.sort();
        if who < 8 && !conns.is_empty() {
            return Flow::Conn(conns[usize::from(who) % conns.len()]);
        }
        let remote = SocketAddr::from(([198, 51, 100, b'a' + who % 2], 5070));
        Flow::Udp { socket: SocketId(2), local: self.bench.bound, remote }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Phone(who, bytes) => {
                let flow = self.phone(*who);
                self.from_phones.push((flow, bytes.clone()));
                self.bench.receive(flow, bytes);
                self.look(Some("a phone"));
            }
            Step::Upstream(who, bytes) => {
                self.bench.receive(self.upstream(*who), bytes);
                self.look(Some("upstream"));
            }
            Step::Untrusted(bytes) => {
                let remote = SocketAddr::from(([203, 0, 113, 5], 5060));
                let flow = Flow::Udp { socket: SocketId(2), local: self.bench.bound, remote };
                self.bench.receive(flow, bytes);
                assert!(self.bench.sent.is_empty(), "an untrusted peer at the upstream socket got something");
            }
            Step::Answer(which, status) => {
                if let Some((flow, request)) = pick(&self.up, *which) {
                    self.bench.receive(flow, &answer(&request, *status));
                }
                self.look(None);
            }
            Step::PhoneAnswers(which, status) => {
                if let Some((flow, request)) = pick(&self.down, *which) {
                    self.bench.receive(flow, &answer(&request, *status));
                }
                self.look(None);
            }
            Step::Call(which, method) => self.call(*which, *method),
            Step::Follow(which, cancel) => self.follow(*which, *cancel),
            Step::Opens(how) => {
                self.bench.opens = match how % 4 {
                    0 => Opens::AtOnce,
                    1 => Opens::Never(Cause::Refused),
                    2 => Opens::Never(Cause::Timeout),
                    _ => Opens::Later,
                }
            }
            Step::Resolve(which, opens) => {
                if let Some(index) = usize::from(*which).checked_rem(self.bench.pending.len()) {
                    if *opens { self.bench.opened(index) } else { self.bench.open_failed(index, Cause::Unreachable) }
                }
                self.look(None);
            }
            Step::Reset(which) => {
                let mut conns: Vec<ConnId> = self.bench.conns.keys().copied().collect();
                conns.sort();
                if let Some(index) = usize::from(*which).checked_rem(conns.len()) {
                    let conn = conns[index];
                    self.bench.conns.remove(&conn);
                    self.bench.net(NetEvent::Closed { conn, cause: Cause::Reset });
                }
                self.look(None);
            }
            Step::PhoneGone(which) => {
                let index = usize::from(*which) % self.phone_conns.len();
                let conn = ConnId::Accepted(self.phone_conns.remove(index));
                self.bench.net(NetEvent::Closed { conn, cause: Cause::Reset });
                self.connect_phone();
                self.look(None);
            }
            Step::SendFailed(which) => {
                let all = [&self.up[..], &self.down[..]].concat();
                if let Some((flow, _)) = pick(&all, *which) {
                    self.bench.net(NetEvent::SendFailed { flow, cause: Cause::Refused, quoted: None });
                }
                self.look(None);
            }
            Step::Unframed(who, bytes) => {
                if let Flow::Conn(conn) = self.phone(*who | 1) {
                    let reasons = ["not_sip", "bad_header", "header_too_large", "no_content_length"];
                    let reason = reasons[usize::from(*who) % reasons.len()];
                    self.bench.net(NetEvent::Unframed { conn, bytes: Bytes::copy_from_slice(bytes), reason });
                    self.look(None);
                }
            }
            Step::Dns(what) => {
                self.bench.lookup(match what % 6 {
                    0 => Ok(records(&["a", "b"], false)),
                    1 => Ok(records(&["b", "a"], false)),
                    2 => Ok(records(&["b"], false)),
                    3 => Ok(records(&["c"], false)),
                    4 => Err(LookupFailure::Timeout),
                    _ => Err(LookupFailure::NxDomain),
                });
                // What waited for a target leaves now, whoever speaks next.
                self.look(None);
            }
            Step::Roll => {
                // Without any target there is nowhere to go.
                let _ = self.bench.core.roll(None, self.bench.now);
                self.bench.handle_nothing();
                self.look(None);
            }
            Step::Drain => {
                self.bench.handle(Event::Drain);
                self.look(None);
            }
            Step::Wait(milliseconds) => {
                self.bench.advance(Duration::from_millis(u64::from(*milliseconds)));
                self.look(None);
            }
            Step::Sleep(milliseconds) => self.bench.sleep(Duration::from_millis(u64::from(*milliseconds))),
        }
    }

    /// A request of upstream to a Contact that a REGISTER carried up.
    fn call(&mut self, which: u8, method: u8) {
        let contacts: Vec<String> = self.up.iter().filter_map(|(_, bytes)| our_contact(bytes)).collect();
        let Some(index) = usize::from(which).checked_rem(contacts.len()) else { return };
        let method = ["INVITE", "OPTIONS", "NOTIFY", "MESSAGE", "BYE", "ACK"][usize::from(method) % 6];
        let text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.97;branch=z9hG4bKcall{which}\r\nMax-Forwards: 9\r\n\
             From: <sip:x@h>;tag=1\r\nTo: <sip:y@h>\r\nCall-ID: call{which}\r\nCSeq: 7 {method}\r\nContent-Length: 0\r\n\r\n",
            contacts[index]
        );
        self.bench.receive(self.upstream(which), text.as_bytes());
        self.look(Some("upstream"));
    }

    fn follow(&mut self, which: u8, cancel: bool) {
        let Some(index) = usize::from(which).checked_rem(self.from_phones.len()) else { return };
        let (flow, sent) = self.from_phones[index].clone();
        let text = String::from_utf8_lossy(&sent).replace("INVITE", if cancel { "CANCEL" } else { "ACK" });
        self.bench.receive(flow, text.as_bytes());
        self.look(Some("a phone"));
    }

    /// What was sent: kept for later steps, and held to the two sides.
    fn look(&mut self, from: Option<&str>) {
        for (flow, bytes) in self.bench.take() {
            let to_phone = is_to_phone(flow);
            let request = !bytes.starts_with(b"SIP/2.0 ");
            let hop_by_hop = bytes.starts_with(b"CANCEL ") || bytes.starts_with(b"ACK ");
            if request && !hop_by_hop {
                let wrong = if to_phone { Some("a phone") } else { Some("upstream") };
                assert!(
                    from.is_none() || from != wrong,
                    "a request of {wrong:?} went back to its own side: {}",
                    String::from_utf8_lossy(&bytes)
                );
            }
            let kept = if to_phone { &mut self.down } else { &mut self.up };
            if request && kept.len() < 64 {
                kept.push((flow, bytes));
            }
        }
    }

    fn ends_quietly(&mut self) {
        self.bench.opens = Opens::Never(Cause::Refused);
        while !self.bench.pending.is_empty() {
            self.bench.open_failed(0, Cause::Refused);
        }
        // Timer C is over three minutes, and its INVITE has 32 s more; a binding of the test lives a minute.
        self.bench.advance(Duration::from_secs(400));
        if !self.bench.core.tables().contains(&("bindings", 0)) {
            // One that was made for a dialog lives four hours.
            self.bench.advance(Duration::from_secs(5 * 3600));
        }
        for (table, size) in self.bench.core.tables() {
            let most = match table {
                "connections" => self.phone_conns.len() + self.bench.conns.len(),
                "addresses" => self.bench.core.upstream().targets().len(),
                "summaries" => 64,
                // Kept for a day, and as long as something is owed.
                "served" | "sources in debt" => usize::MAX,
                _ => 0,
            };
            assert!(size <= most, "{size} {table} are left");
        }
    }
}

fn pick(list: &[(Flow, Bytes)], which: u8) -> Option<(Flow, Bytes)> {
    let index = usize::from(which).checked_rem(list.len())?;
    Some(list[index].clone())
}

/// An answer that registers for a minute what asked for more.
fn answer(request: &[u8], status: u16) -> Vec<u8> {
    let text = response(request, status);
    let Some(contact) = our_contact(request) else { return text };
    let line = format!("\r\nContact: <{contact}>;expires=60\r\nx-ODD");
    let Some(at) = text.windows(7).position(|window| window == b"\r\nx-ODD") else { return text };
    [&text[..at], line.as_bytes(), &text[at + 7..]].concat()
}

/// The first Contact of ours in a REGISTER.
fn our_contact(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    if !text.starts_with("REGISTER") {
        return None;
    }
    let at = text.find("<sip:h")? + 1;
    Some(text[at..].split('>').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{Step, play};
    use crate::message_mutations::{message, phone};

    /// Requests that belong together, so that retransmissions, merges and newer CSeqs come about.
    fn ordinary() -> impl Strategy<Value = Vec<u8>> {
        let methods = ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE"];
        (0..methods.len(), 0..4_u32, 1..5_u32, 0..3_u32, any::<bool>()).prop_map(move |(method, call, cseq, branch, old)| {
            let method = methods[method];
            let branch = if old { String::new() } else { format!(";branch=z9hG4bK{call}{cseq}{branch}") };
            format!(
                "{method} sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.{call}{branch};rport\r\nMax-Forwards: 70\r\n\
                 From: <sip:{call}@pbx.example.com>;tag=1\r\nTo: <sip:{call}@pbx.example.com>\r\nCall-ID: {call}\r\n\
                 CSeq: {cseq} {method}\r\nContact: <sip:{call}@10.1.0.{call}>\r\nContent-Length: 0\r\n\r\n"
            )
            .into_bytes()
        })
    }

    fn anything() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![6 => ordinary(), 4 => message(), 1 => vec(any::<u8>(), 0..200)]
    }

    fn status() -> impl Strategy<Value = u16> {
        prop_oneof![
            4 => Just(200_u16),
            6 => prop::sample::select(vec![100_u16, 180, 183, 400, 401, 408, 423, 482, 486, 500, 503, 603]),
            1 => 100..700_u16,
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        let n = any::<u8>;
        prop_oneof![
            12 => (n(), anything()).prop_map(|(who, bytes)| Step::Phone(who, bytes)),
            3 => (n(), anything()).prop_map(|(who, bytes)| Step::Upstream(who, bytes)),
            1 => anything().prop_map(Step::Untrusted),
            8 => (n(), status()).prop_map(|(which, status)| Step::Answer(which, status)),
            3 => (n(), status()).prop_map(|(which, status)| Step::PhoneAnswers(which, status)),
            3 => (n(), n()).prop_map(|(which, method)| Step::Call(which, method)),
            2 => (n(), any::<bool>()).prop_map(|(which, cancel)| Step::Follow(which, cancel)),
            2 => n().prop_map(Step::Opens),
            3 => (n(), any::<bool>()).prop_map(|(which, opens)| Step::Resolve(which, opens)),
            2 => n().prop_map(Step::Reset),
            1 => n().prop_map(Step::PhoneGone),
            2 => n().prop_map(Step::SendFailed),
            1 => (n(), anything()).prop_map(|(who, bytes)| Step::Unframed(who, bytes)),
            1 => n().prop_map(Step::Dns),
            1 => Just(Step::Roll),
            1 => (0..20_u8).prop_map(|n| if n == 0 { Step::Drain } else { Step::Wait(u16::from(n)) }),
            8 => (0..20_000_u16).prop_map(Step::Wait),
            1 => (0..20_000_u16).prop_map(Step::Sleep),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            // Each plays up to eighty steps and then seven minutes.
            cases: ProptestConfig::default().cases / 2,
            max_shrink_iters: 4000,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_flood_from_untrusted_peers_leaves_nothing_behind(steps in vec(step(), 1..80), choice in any::<u8>()) {
            play(&steps, choice);
        }
    }

    #[test]
    fn dns_is_down_for_an_hour_and_phones_keep_asking() {
        let register = phone("yealink-register");
        let text = String::from_utf8(register).expect("text");
        let steps: Vec<Step> = (0..240)
            .flat_map(|n| {
                let bytes = text.replace("CSeq: 4", &format!("CSeq: {n}")).replace("2746301998", &n.to_string());
                [Step::Phone(2, bytes.into_bytes()), Step::Wait(15_000)]
            })
            .collect();
        play(&steps, 128);
    }
}
