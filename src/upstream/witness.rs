//! Whose word a strike is.

/// A handset, told from others by its address of record and its source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandsetId(pub u64);

/// A network that REGISTERs come from: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u64);

/// What a handset's failure is worth as evidence about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// This PBX gave it a 2xx within a day.
    Served,
    /// It did not, and gave one to others: it may be dropped on purpose.
    Unserved,
    /// No handset is known to be served: all count alike.
    Alike,
}

/// Whose REGISTER an attempt carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Witness {
    /// The handset.
    pub handset: HandsetId,
    /// Where it sends from.
    pub source: SourceId,
    /// What its word is worth.
    pub standing: Standing,
}
