//! The core in virtual time: ladders, the failover table, transparency.

mod answers;
mod dialog;
mod failover;
mod phone;
mod register;
mod server;
mod transparency;
mod traps;
mod world;
