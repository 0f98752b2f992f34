//! One binding: the handset an ID stands for, and how it is reached.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::contact::Terms;
use super::keepalive::UdpFlow;
use crate::flow::{ConnId, SocketId, Transport};
use crate::message::{Message, Name};
use crate::proxy::marks::BindingId;
use crate::upstream::TargetId;

/// Bytes kept of a User-Agent.
const USER_AGENT: usize = 64;

/// How a phone is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// By datagrams.
    Udp {
        /// The listener they leave by.
        socket: SocketId,
        /// Our address on it, which they leave from.
        local: SocketAddr,
        /// Where the phone is.
        to: SocketAddr,
        /// It sits behind NAT: kept open by CRLF CRLF.
        nat: bool,
    },
    /// Over the connection it opened, and only that one.
    Conn(ConnId),
    /// Its connection is gone, or it was so before a restart. It is there again with its next REGISTER.
    Lost,
}

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// What the PBX knows it by.
    pub id: BindingId,
    /// The address of record, normalised.
    pub aor: Arc<str>,
    /// The phone's own Contact URI, as it was. May carry URI headers (`?…`), which no Request-URI may.
    pub contact: Box<[u8]>,
    /// How the phone is reached.
    pub reach: Reach,
    /// Where its REGISTER came from.
    pub source: SocketAddr,
    /// What it came over.
    pub transport: Transport,
    /// The target it is registered at (`host:port`).
    pub target: TargetId,
    /// When it ends unless it is confirmed (again).
    pub expires: Instant,
    /// A 2xx was seen. What is given to [`Bindings::upsert`](super::bindings::Bindings::upsert) is unconfirmed, whatever this says.
    pub confirmed: bool,
    /// The phone's User-Agent, see [`user_agent`].
    pub user_agent: Box<str>,
    /// The last final status its REGISTER got, see [`Bindings::note_answer`](super::bindings::Bindings::note_answer).
    pub last_status: Option<u16>,
    /// For how long it asked, and what it was told, with its last 2xx.
    pub terms: Terms,
}

impl Binding {
    /// True if nothing can be sent to the phone until it registers again.
    #[must_use]
    pub fn flow_lost(&self) -> bool {
        self.reach == Reach::Lost
    }

    pub(super) fn kept_open(&self) -> Option<UdpFlow> {
        match self.reach {
            Reach::Udp { socket, local, to, nat: true } => Some((socket, local, to)),
            Reach::Udp { nat: false, .. } | Reach::Conn(_) | Reach::Lost => None,
        }
    }
}

/// A message's User-Agent as it is kept and shown: at most 64 bytes, ASCII, what does not print as `?`. Empty without one.
#[must_use]
pub fn user_agent(msg: &Message) -> Box<str> {
    let value = msg.first(Name::UserAgent).map_or(&[][..], |header| msg.value(header));
    let printable = |&byte: &u8| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' };
    let mut text = String::with_capacity(value.len().min(USER_AGENT));
    text.extend(value.iter().take(USER_AGENT).map(printable));
    text.into()
}
