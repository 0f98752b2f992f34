//! What Holdline signs, and knows again as its own: Contact IDs, route marks and branches, all from one key.

mod base32;
mod branch;
mod key;
mod siphash;

pub(crate) use branch::Branch;
pub(crate) use key::{BindingId, IdParts, Key, RouteMark};
