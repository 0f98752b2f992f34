//! Small SIP agents and a DNS server of our own, for the demo and for tests.
//!
//! They run in real time on real sockets, on 127.0.0.1 only. Their messages are built and read with `rsip`, never with
//! [`crate::message`]: what Holdline sends is judged by a second opinion. Every agent keeps a record of what it did and
//! saw, and every wait is a wait for a condition on such a record ([`Watched`]), with a bound.
//!
//! - [`dns`]: a DNS server with zones as data, and with failures on request
//! - [`registrar`]: a registrar with digest authentication that can be silent, refuse, reset, answer late …
//! - [`phone`]: a desk phone that registers through an outbound proxy
//! - [`sip`], [`digest`], [`wire`], [`tls`]: what the two SIP agents share: messages, RFC 8760 digests, sockets and
//!   transactions, certificates
#![allow(clippy::disallowed_methods, reason = "agents live in real time: their record says when a thing happened")]

pub mod digest;
pub mod dns;
pub mod phone;
pub mod registrar;
pub mod sip;
pub mod tls;
pub mod wire;

#[cfg(test)]
mod tests;
mod watched;

pub use watched::{TimedOut, Watched};

/// Adds to a list that keeps at least the newest `kept` entries, and never twice as many.
fn keep<T>(list: &mut Vec<T>, kept: usize, entry: T) {
    if list.len() >= kept * 2 {
        list.drain(..kept);
    }
    list.push(entry);
}
