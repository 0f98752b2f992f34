//! What came in, before any state exists: who may speak on a side, what it is, where it goes, whose answer it may be.

pub(super) mod gate;
pub(super) mod peers;
pub(super) mod rank;
pub(super) mod route;
pub(super) mod stun;
pub(super) mod validate;
