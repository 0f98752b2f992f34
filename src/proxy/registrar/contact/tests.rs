//! Contacts of real phones, up and back: what the tests share.

mod down;
mod growth;
mod renewed;
mod same;
mod up;

use std::net::SocketAddr;

use super::{
    Advertised, Bound, ContactRefusal, Granted, Known, MAX_CONTACTS, Mode, Source, Terms, Upward, aor,
    restore_register, rewrite_register, without_headers,
};
use crate::flow::Transport;
use crate::message::{Contact, Edit, Message, Name};
use crate::proxy::marks::{BindingId, IdParts, Key};
use bytes::Bytes;

const ADVERTISED: Advertised<'static> = Advertised { sent_by: "192.0.2.1:5080", transport: Transport::Tls };

fn key() -> Key {
    Key::new([3; 32])
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn from(source: &str, transport: Transport) -> Source<'static> {
    Source { aor: "1001@pbx.example.com", source: address(source), transport }
}

fn message(text: impl Into<Vec<u8>>) -> Message {
    Message::scan(Bytes::from(text.into())).expect("a message")
}

/// A REGISTER of 1001 with these header lines, each with its CRLF.
fn register(headers: &str) -> Message {
    message(format!(
        "REGISTER sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.10:5060;branch=z9hG4bK1\r\n\
         From: <sip:1001@pbx.example.com>;tag=1\r\nTo: <sip:1001@PBX.example.com>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n{headers}\r\n"
    ))
}

fn ok(headers: &str) -> Message {
    message(format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.168.1.10:5060;branch=z9hG4bK1\r\n\
         From: <sip:1001@pbx.example.com>;tag=1\r\nTo: <sip:1001@pbx.example.com>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n{headers}\r\n"
    ))
}

/// Nothing is known of any binding.
fn unknown(parts: &IdParts<'_>, _: &[u8]) -> (BindingId, Known) {
    (key().binding_id(parts), Known::default())
}

fn up_as(msg: &Message, mode: Mode, arrival: &Source<'_>) -> Result<(Upward, Message), ContactRefusal> {
    let mut edit = Edit::new(msg);
    let aor = aor(msg).expect("a good To");
    let arrival = &Source { aor: &aor, ..*arrival };
    let upward = rewrite_register(msg, &mut edit, &key(), mode, arrival, &ADVERTISED, unknown)?;
    Ok((upward, message(edit.finish())))
}

/// Over UDP from the phone's own address, with `contact = rewrite`.
fn go_up(msg: &Message) -> (Upward, Message) {
    up_as(msg, Mode::Rewrite, &from("192.168.1.10:5060", Transport::Udp)).expect("a good REGISTER")
}

fn come_back(msg: &Message, sent: Option<&Upward>, cap: Option<u32>) -> (Granted, Message) {
    let mut edit = Edit::new(msg);
    let restored = restore_register(msg, &mut edit, &key(), sent, cap, |_| None);
    (restored, message(edit.finish()))
}

/// The values of all lines of a name.
fn lines(msg: &Message, name: Name) -> Vec<String> {
    msg.all(name).map(|header| String::from_utf8_lossy(msg.value(header)).into_owned()).collect()
}

fn only_id(upward: &Upward) -> BindingId {
    assert_eq!(upward.bound.len(), 1);
    upward.bound[0].id
}

/// What a PBX that keeps everything answers: the Contacts as they came, none but those.
fn echoed(up: &Message, more: &str) -> Message {
    let contacts: Vec<String> = lines(up, Name::Contact).iter().map(|value| format!("Contact: {value}\r\n")).collect();
    ok(&format!("{}{more}", contacts.concat()))
}
