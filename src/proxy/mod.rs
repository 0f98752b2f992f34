//! The proxy core: RFC 3261 §16, without I/O, clock or chance.
//!
//! ```text
//! intake    who may send, what it is      → request   validated and routed, up or down
//! register  tries, retries, deadlines     → relay     everything else
//! forward   the bytes that go on          → links     the connections they go on
//! answer    the way back                  → observe   what is noted and told
//! history   REGISTER outcomes by minute   → status    what is shown of all that
//! troubled  who does not get registered   → phones    who they are, for the operator alone
//! ```
//!
//! [`Core`] is the only face: see its module for the call order.

mod answer;
mod base32;
pub mod bindings;
pub mod branch;
mod conns;
pub mod contact;
mod context;
mod core;
mod dialog;
mod forward;
mod history;
pub mod identity;
mod intake;
mod keepalive;
mod links;
pub mod names;
mod numbers;
mod observe;
pub mod phones;
pub mod reach;
mod register;
mod relay;
mod reload;
mod reopen;
mod request;
mod settings;
mod siphash;
mod spread;
mod status;
pub mod stun;
mod troubled;

pub use self::core::{Action, Core, Event, Socket};
pub use reload::Fresh;
pub use settings::{Exhausted, Settings, allows, default_allow};
