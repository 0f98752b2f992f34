//! Holdline at the wire: what an untrusted peer may send, and exactly which bytes come out of it.
//!
//! `torture` sends RFC 4475 over real sockets to the real process. `bytes`, `flood` and `naive` run the core in virtual time,
//! on the `bench`. `differ` says what a hop may change, without any of the proxy's own code.

pub(crate) mod bench;
mod bytes;
mod differ;
mod edges;
mod flood;
mod naive;
mod process;
mod torture;
