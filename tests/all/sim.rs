//! The core in virtual time: ladders, the failover table, transparency.

mod addresses;
mod admission;
mod answers;
mod calls;
mod dialog;
mod evidence;
mod failover;
mod fleet;
mod instant;
mod interleavings;
mod ladder;
mod links;
mod old_phones;
mod pair;
pub(crate) mod phone;
mod pitfalls;
mod races;
mod recovery;
mod register;
mod renewal;
pub(crate) mod server;
mod services;
mod sips;
mod traced;
mod transparency;
mod ua;
pub(crate) mod world;
