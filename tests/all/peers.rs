//! Real peers on loopback: SIPp as phones, Kamailio as the PBX, baresip and linphonec as handsets.
//!
//! Each test says what it needs (`support::installed`) and does not run where that is missing; with `CI` set that is a failure.
//! Every wait is for a condition and has a bound (`support::wait`); every peer is ended by its own process (`support::process`), with its
//! files in a directory of its own.
#![allow(clippy::disallowed_methods, reason = "real peers live in real time")]

pub(crate) mod baresip;
mod calls;
mod capture;
mod direct;
pub(crate) mod holdline;
pub(crate) mod kamailio;
pub(crate) mod line;
mod linphone;
mod load;
mod matrix;
mod rollover;
mod signalling;
pub(crate) mod sipp;
pub(crate) mod tls;

/// The domain all phones belong to.
pub(crate) const DOMAIN: &str = "pbx.example.com";

/// A file of this folder's configurations and scenarios.
pub(crate) fn file(name: &str) -> String {
    format!("{}/tests/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}
