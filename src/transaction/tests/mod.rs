//! The tables with real messages in virtual time.

pub(super) mod clock;
mod limits;
mod matching;
mod pitfalls;
mod properties;

use std::net::SocketAddr;

use bytes::Bytes;

use super::*;
use crate::flow::{ConnId, SocketId};
use crate::message::{Message, Method};

/// The handset's flow, datagrams.
fn phone() -> Flow {
    udp(0, "192.0.2.10:5060")
}

/// The target's flow, datagrams.
fn target() -> Flow {
    udp(1, "203.0.113.1:5060")
}

/// The target's flow, a connection.
fn connection() -> Flow {
    Flow::Conn(ConnId::Dialled(1))
}

fn udp(socket: u16, remote: &str) -> Flow {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Flow::Udp { socket: SocketId(socket), local: address("198.51.100.1:5060"), remote: address(remote) }
}

fn scan(text: &str) -> Message {
    Message::scan(Bytes::copy_from_slice(text.as_bytes())).expect("a message")
}

/// A request as a handset sends it; what a test varies is an argument.
fn request(method: &str, branch: &str, cseq: u32) -> Message {
    scan(&format!(
        "{method} sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.10:5060;branch={branch}\r\n\
         Max-Forwards: 70\r\n\
         Route: <sip:one.example.com;lr>, <sip:two.example.com;lr>\r\n\
         Route: <sip:three.example.com;lr>\r\n\
         From: Alice <sip:alice@example.com>;tag=a1\r\n\
         To: <sip:bob@example.com>\r\n\
         Call-ID: call-1@192.0.2.10\r\n\
         CSeq: {cseq} {method}\r\n\
         Content-Type: text/plain\r\n\
         Content-Length: 2\r\n\r\nhi"
    ))
}

/// The response of a server to a request that was sent, To tag included.
fn response(to: &Message, status: u16, tag: &str) -> Message {
    let branch = to.top_via().and_then(|via| via.branch).expect("a branch").of(to.bytes()).to_vec();
    let cseq = to.cseq().expect("a CSeq").number;
    scan(&format!(
        "SIP/2.0 {status} Whatever\r\n\
         Via: SIP/2.0/UDP 192.0.2.10:5060;branch={}\r\n\
         From: Alice <sip:alice@example.com>;tag=a1\r\n\
         To: <sip:bob@example.com>;tag={tag}\r\n\
         Call-ID: call-1@192.0.2.10\r\n\
         CSeq: {cseq} {}\r\n\
         Content-Length: 0\r\n\r\n",
        String::from_utf8_lossy(&branch),
        String::from_utf8_lossy(to.method_name()),
    ))
}

fn tables() -> Transactions {
    tables_of(1000)
}

/// Tables for so many transactions, with a seed that is no secret.
fn tables_of(limit: usize) -> Transactions {
    Transactions::with_seed(Timers::default(), limit, [0; 16])
}

/// The handset's request reaches the server table, on datagrams.
fn receive(tx: &mut Transactions, msg: &Message, at: u64) -> Inbound {
    tx.receive_request(msg, phone(), phone(), false, clock::ms(at))
}

fn receive_new(tx: &mut Transactions, msg: &Message, at: u64) -> ServerId {
    match receive(tx, msg, at) {
        Inbound::New(id) => id,
        other => panic!("expected a new transaction, got {other:?}"),
    }
}

fn respond(tx: &mut Transactions, id: ServerId, to: &Message, status: u16, at: u64) -> bool {
    tx.respond(id, status, response(to, status, "b1").bytes().clone(), clock::ms(at))
}

/// A request leaves for the target on datagrams.
fn send(tx: &mut Transactions, msg: &Message, at: u64) -> ClientId {
    send_on(tx, msg, target(), false, at).expect("room")
}

fn send_on(tx: &mut Transactions, msg: &Message, flow: Flow, reliable: bool, at: u64) -> Result<ClientId, TableFull> {
    let branch = msg.top_via().and_then(|via| via.branch).expect("a branch").of(msg.bytes()).to_vec();
    let (method, method_name, bytes) = (msg.method(), msg.method_name(), msg.bytes().clone());
    tx.send_request(Outgoing { method, method_name, branch: &branch, flow, bytes, reliable }, clock::ms(at))
}

/// The target answers.
fn answer(tx: &mut Transactions, to: &Message, status: u16, at: u64) -> Option<u16> {
    let msg = response(to, status, "b1");
    take_response(tx, &msg, target(), clock::ms(at)).map(|answer| answer.status)
}

/// A response from where requests on `flow` go: what the caller has to deal with.
fn take_response(tx: &mut Transactions, msg: &Message, flow: Flow, now: Instant) -> Option<Answer> {
    match tx.receive_response_if(msg, now, |sent, _| sent == flow) {
        Received::New(answer) => Some(answer),
        Received::Absorbed | Received::Stray => None,
    }
}

/// What was asked of the caller since the last look, one line each, e.g. `phone← 200`, `target← INVITE`; `again` marks a
/// retransmission.
fn asked(tx: &mut Transactions) -> Vec<String> {
    std::iter::from_fn(|| tx.poll_action()).map(|action| line(&action)).collect()
}

fn line(action: &TxAction) -> String {
    match action {
        TxAction::Send { flow, bytes, retransmission } => {
            let to = match *flow {
                flow if flow == phone() => "phone",
                flow if flow == target() => "target",
                flow if flow == connection() => "connection",
                _ => "elsewhere",
            };
            let msg = Message::scan(bytes.clone()).expect("a message");
            let what = if msg.is_request() {
                String::from_utf8_lossy(msg.method_name()).into_owned()
            } else {
                msg.status().to_string()
            };
            let again = if *retransmission { " again" } else { "" };
            format!("{to}← {what}{again}")
        }
        TxAction::ClientTimeout(_) => "timeout".to_string(),
        TxAction::ClientTimerC(_) => "timer C".to_string(),
        TxAction::ClientTransportError(..) => "transport error".to_string(),
        TxAction::ClientEnded(_) => "client ended".to_string(),
        TxAction::ServerEnded(_) => "server ended".to_string(),
    }
}

/// Time passes up to `until`: what was asked, with its millisecond.
fn pass_time(tx: &mut Transactions, until: u64) -> Vec<String> {
    let mut ladder = vec![];
    while let Some(at) = tx.poll_timeout().filter(|at| *at <= clock::ms(until)) {
        tx.handle_timeout(at);
        ladder.extend(asked(tx).into_iter().map(|line| format!("{} {line}", clock::since(at))));
    }
    ladder
}

/// The bytes of everything sent since the last look.
fn sent(tx: &mut Transactions) -> Vec<Message> {
    let sends = std::iter::from_fn(|| tx.poll_action()).filter_map(|action| match action {
        TxAction::Send { bytes, .. } => Message::scan(bytes).ok(),
        _ => None,
    });
    sends.collect()
}

/// Every timer has run and nothing is left.
fn assert_quiet(tx: &mut Transactions) {
    pass_time(tx, 3_600_000);
    assert_eq!((tx.len(), tx.poll_timeout(), tx.open(), tx.held()), (0, None, 0, 0));
    assert_eq!((tx.open_on(target()), tx.open_on(connection())), (0, 0));
}
