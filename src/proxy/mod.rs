//! The proxy core: RFC 3261 §16, without I/O, clock or chance. This page is the one to read first.
//!
//! ```text
//!            event, now                                                       actions
//!                │                                                               ▲
//!           ┌────▼──────────────────────── core, house ──────────────────────────┴───┐
//!           │ dispatches one event, then pumps until no machine wants anything more  │
//!           └─┬─────────┬───────────┬────────────┬───────────┬───────────┬───────────┘
//!          inbound   exchange      wire       registrar    flows      journal
//! ```
//!
//! | room | what it owns |
//! |---|---|
//! | `core` | the face: [`Core::handle`], [`Core::handle_timeout`], [`Core::poll_timeout`], [`Core::poll_action`] |
//! | `house` | the owners below, and the way of one event between them: dispatch and pump |
//! | `intake` | what the transports report: messages, and connections that come and go |
//! | `site` | settings, key, names and sockets: read by all, changed by a reload only |
//! | `inbound` | what came in, before any state exists: who may speak, what it is, where it goes, whose answer it may be |
//! | `admission` | whether there is room for one request more, and for whom: shares, debts, the reserve |
//! | `exchange` | one exchange for each server transaction (§16.7): its branches and its relay (REGISTER, INVITE, plain) |
//! | `wire` | pure functions: the received message and the two edges it passes between give the bytes that leave |
//! | `registrar` | our shadow of the PBX's registrar: bindings, Contacts, grants, keep-alives |
//! | `flows` | the ways to both sides: connections, which address has its turn, what is opened again |
//! | `inquiry` | the one question of our own: an OPTIONS to the active target, when only unserved handsets speak against it |
//! | `parked` | requests for a handset that is unknown here, while the fleet's memory is asked for it |
//! | `marks` | what we sign: Contact IDs, route marks, branches |
//! | `journal` | what is counted, logged and shown |
//! | `traced` | what is handed out about messages to whoever traces them |
//!
//! The way of a REGISTER up: `core` → `inbound` (gate, route) → `exchange` (a relay, see `exchange::register`, that wishes for a
//! try, carried out by `exchange::rooms`) → `registrar` and `wire` → the transactions below. Its answer comes back through
//! `core` → `inbound` (peers) → `exchange` → `wire` and `registrar`. The facts of a flow are looked up once an event and handed
//! on as an `edge::Edge`.
//!
//! Words: an *exchange* is a response context of §16.7; a *branch* of it is one try at one target; an *attempt* is one REGISTER
//! client transaction on the active target, and nothing else.

mod admission;
mod core;
mod edge;
mod events;
mod exchange;
mod flows;
mod house;
mod ids;
mod inbound;
mod inquiry;
mod intake;
mod journal;
mod marks;
mod numbers;
mod parked;
mod registrar;
mod site;
mod traced;
mod wire;

pub use self::core::Core;
pub use events::{Action, Event, Start};
pub(crate) use journal::label;
pub use journal::status::Levels;
pub use journal::{AttemptOutcome, DURATIONS, Direction, Facts, FailureReason, Origin, TargetFacts, phones};
pub(crate) use marks::BindingId;
pub use parked::{MAX_PARKED, PATIENCE as PARKED_FOR};
pub use registrar::{StoredBinding, bindings, contact};
pub use site::settings::{Exhausted, Settings, Sips, default_allow};
pub use site::{Reload, Socket};
pub use traced::{Failed, Leg, Passed};
