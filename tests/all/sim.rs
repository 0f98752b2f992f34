//! The core in virtual time: ladders, the failover table, transparency.

mod addresses;
mod answers;
mod calls;
mod dialog;
mod failover;
mod interleavings;
mod links;
mod old_phones;
mod pair;
mod phone;
mod races;
mod recovery;
mod register;
mod server;
mod services;
mod transparency;
mod traps;
mod ua;
mod world;
