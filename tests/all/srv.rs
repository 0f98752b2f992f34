//! `holdline srv` through the binary: what it prints, its JSON, its exit status, what it keeps.
//!
//! A DNS server, registrars and certificates of this process, on loopback; silent and refusing ports; Kamailio where it is
//! installed. Nothing here sleeps to wait for something.

mod explain;
mod hostile;
mod keep;
mod names;
mod probes;
mod shape;
mod stage;
mod ticket;
mod tls;
mod watch;
