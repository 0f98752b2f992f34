//! Which live client transactions stand on which flow.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::BuildHasherDefault;

use smallvec::SmallVec;

use super::table::Id;
use crate::flow::Flow;

/// Client transactions by flow. Each remembers its place in its flow's list, so that leaving costs no search. The flows are
/// looked up and never walked, so that no order depends on their hashes.
///
/// The hasher's key is no secret: flows of client transactions are SRV targets and registered handsets, which no untrusted peer
/// chooses.
#[derive(Debug, Default)]
pub(super) struct Flows(HashMap<Flow, SmallVec<[Id; 2]>, BuildHasherDefault<DefaultHasher>>);

impl Flows {
    /// Adds a transaction. Returns its place, to be kept for [`Flows::leave`].
    pub(super) fn join(&mut self, flow: Flow, id: Id) -> usize {
        let ids = self.0.entry(flow).or_default();
        ids.push(id);
        ids.len() - 1
    }

    /// Gives up the place. Returns the transaction that has moved into it, if one has.
    pub(super) fn leave(&mut self, flow: Flow, place: usize) -> Option<Id> {
        let Entry::Occupied(mut entry) = self.0.entry(flow) else { return None };
        let ids = entry.get_mut();
        if place >= ids.len() {
            return None;
        }
        ids.swap_remove(place);
        let moved = ids.get(place).copied();
        if ids.is_empty() {
            entry.remove();
        }
        moved
    }

    pub(super) fn on(&self, flow: Flow) -> &[Id] {
        self.0.get(&flow).map_or(&[], SmallVec::as_slice)
    }
}
