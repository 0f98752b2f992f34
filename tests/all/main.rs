//! Everything that is tested from outside: one binary, so that it links once.

mod allocations;
mod boot;
mod config;
mod demo;
mod deploy;
mod dns;
mod docs;
mod logs;
mod loopback;
mod message_mutations;
mod message_properties;
mod peers;
mod reference;
mod sim;
mod srv;
mod support;
mod tidy;
mod torture;
mod torture_table;
mod transport;
mod wire;
mod work;
