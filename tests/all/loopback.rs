//! The binary over real sockets: Holdline and the registrars in processes of their own, on loopback.
//!
//! The names say what is shown: `selection`, `failover`, `transparency`, `dns`, `restart`, `drain`, `tls`, `seen`, `reload`,
//! `operator`, `page`, `phones`. Nothing here sleeps to wait for something: it waits for a log line, a probe, a metric or an
//! agent's record, each with a bound.

mod attacks;
mod balancer;
mod cluster;
mod descriptors;
mod dns;
mod drain;
mod failover;
mod hep;
mod killed;
mod mocked;
mod notify;
mod operator;
mod page;
mod peer;
mod phones;
pub(crate) mod process;
mod reload;
mod restart;
mod seen;
mod selection;
pub(crate) mod server;
pub(crate) mod stage;
mod tls;
mod trace;
mod transparency;
