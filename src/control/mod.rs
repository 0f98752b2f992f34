//! The operator's Unix socket: what `holdline phones`, `holdline roll` and `holdline trace` talk to.
//!
//! One line of JSON in, one line of JSON out, and the connection ends:
//!
//! ```text
//! → {"command":"phones","query":"204","limit":100}      ← {"ok":{"phones":[…],…}}
//! → {"command":"roll","target":"b.pbx.example.com"}     ← {"ok":{"from":"…","to":"…","epoch":3}}
//! → {"command":"rejoin"}                                ← {"ok":{"from":"…","to":"…"}}
//! → {"command":"status"}                                ← {"ok":{…}}            as the page /status
//!                                                       ← {"error":{"kind":"no_such_target","message":"…"}}
//! ```
//!
//! One question has an answer that goes on: `trace`, see [`trace`].
//!
//! Whoever may open the socket's file may ask: it belongs to the user Holdline runs as, mode 0600. It has a thread of its
//! own, like the admin listener; the driver answers through its [`Request`](crate::driver::Request) channel. Clients,
//! the length of a question and the time for everything are bounded.

mod client;
mod server;
mod socket;
pub mod trace;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use client::{AskError, ask, open};
pub use server::serve;
pub use socket::{Control, ControlBindError, LONGEST_PATH, Place, could_bind};

/// The name of the socket in the state directory, where no other path is configured.
pub const DEFAULT_NAME: &str = "control.sock";

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// What the page `/status` says.
    Status {},
    /// Handsets that match, see [`Query`](crate::proxy::phones::Query).
    Phones {
        /// What is looked for; blank: all.
        #[serde(default)]
        query: String,
        /// List at most so many; bounded by [`MAX_LISTED`](crate::proxy::phones::MAX_LISTED).
        limit: Option<usize>,
    },
    /// What passes from now on, or what failed; see [`trace`].
    Trace {
        /// An extension, a part of an address of record or of an address, or a Call-ID; blank: everything.
        #[serde(default)]
        what: String,
        /// Only what fails.
        #[serde(default)]
        failures: bool,
        /// Not what passes: what failed within so many seconds.
        #[serde(default)]
        last_seconds: Option<u64>,
        /// Leave the answers of Digest and the keys of media as they are.
        #[serde(default)]
        secrets: bool,
    },
    /// Make another target active.
    Roll {
        /// `host:port`, or a host that has one port only; the next target where there is none.
        target: Option<String>,
    },
    /// Back to where the fleet is.
    Rejoin {},
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Error {
        /// For programs.
        kind: CommandRefusal,
        /// For people: one line.
        message: String,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandRefusal {
    /// The line is no question.
    BadRequest,
    /// There are no targets yet.
    NotReady,
    /// No such target, or a host with several ports.
    NoSuchTarget,
    /// The target is active already.
    AlreadyActive,
    /// It does not stand apart from a fleet, or cannot go where the fleet is.
    NotApart,
    /// As many traces run as may run.
    Busy,
    /// The driver does not answer.
    Silent,
}

#[cfg(test)]
mod tests;
