//! Numbers that stand for something, each of its own type.

/// A series of REGISTERs: one Call-ID of one address of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CallKey(pub u64);

/// A pair of addresses of a connection: what a PBX can tell it by. One that is lost and opened again from the same port has
/// the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub u64);
