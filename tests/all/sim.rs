//! The core in virtual time: ladders, the failover table, transparency.

mod addresses;
mod answers;
mod calls;
mod dialog;
mod failover;
mod links;
mod pair;
mod phone;
mod races;
mod register;
mod server;
mod services;
mod transparency;
mod traps;
mod ua;
mod world;
