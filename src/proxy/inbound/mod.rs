//! What came in, before any state exists: who may speak on a side, what it is, where it goes, whose answer it may be.

pub mod gate;
pub mod peers;
pub mod route;
pub mod stun;
pub mod validate;
