//! Holdline, a SIP outbound proxy that gives desk phones DNS SRV failover.
//!
//! The way of the data, out: a handset's datagram comes through [`transport`] to the [`driver`], which has [`message`] find its
//! spans, [`transaction`] distinguish a new request from a retransmission, and [`proxy`] decide where it goes; [`upstream`] says
//! which target is active; a new client transaction goes out through the driver and the transport again. And back: the client
//! transaction hands the response to its context in [`proxy`], which relays it or begins the next try; our Via comes
//! off, and the server transaction sends it to the handset.
//!
//! ```text
//! cli ─► config ─► driver ◄──► transport          bytes ↔ flows (words of both: flow)
//!                    │ ▲ ▲
//!                    │ │ └──── dns, store         what may take its time comes back as an event
//!                    ▼ │
//!                  proxy ──► message              pure from here on: (event, now) in, actions out
//!                    ▲ ├───► transaction
//!                    │ ├───► upstream
//!                    │ └───► fleet            several instances act as one
//!        metrics, store                           read what the core counted and what it keeps
//!
//! admin, control, metrics, logging, systemd       what an operator sees and does
//! hep                                             copies of messages for a Homer
//! cluster                                         the memory that several instances share (Redis, Valkey)
//! notify                                          who is told of a rollover
//! tap                                             the messages that pass, for whoever traces them
//! probe                                           an SRV record looked at before any handset is plugged in
//! agents                                          our own handsets, registrars and DNS, for demo and tests
//! ```
//!
//! `ARCHITECTURE.md` says more, `docs/adr` says why.

pub mod admin;
pub mod agents;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod dns;
pub mod driver;
pub mod fleet;
pub mod flow;
pub mod hep;
pub mod logging;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod notify;
pub mod probe;
pub mod proxy;
pub mod store;
pub mod summaries;
pub mod systemd;
pub mod tap;
pub mod transaction;
pub mod transport;
mod trust;
pub mod upstream;
