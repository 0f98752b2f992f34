//! The bytes that leave: pure functions of the received message and the two edges it passes between (RFC 3261 §16.6, §16.7).
//! A few splices; nothing is printed anew.

pub(super) mod cancel;
pub(super) mod digest;
pub(super) mod down;
pub(super) mod options;
mod record_route;
pub(super) mod register;
pub(super) mod response;
pub(super) mod up;
mod via;

use std::borrow::Cow;

use bytes::Bytes;

use super::marks::Branch;

/// Max-Forwards of a request that came without (RFC 3261 §16.6 item 3).
const MAX_FORWARDS: u32 = 70;

/// A request as it goes on.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub bytes: Bytes,
    /// The branch of our Via on top.
    pub branch: Branch,
}

/// An answer of our own to a request that is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub phrase: &'static str,
    /// Seconds of Retry-After.
    pub retry_after: Option<u32>,
    /// One header more: its name and value.
    pub header: Option<(&'static str, Cow<'static, str>)>,
}

impl Refusal {
    pub(super) fn new(status: u16, phrase: &'static str) -> Self {
        Refusal { status, phrase, retry_after: None, header: None }
    }

    /// For want of room for one more transaction.
    pub(super) fn table_full() -> Self {
        Refusal { retry_after: Some(10), ..Refusal::new(503, "Transaction table full") }
    }

    /// For a source whose requests never succeed.
    pub(super) fn throttled() -> Self {
        Refusal { retry_after: Some(30), ..Refusal::new(503, "Too many requests that fail") }
    }
}
