//! Transactions by number and by fingerprint: a slab with generations beside an index.

use std::collections::HashMap;

use super::fingerprint::{AlreadyHashed, Fingerprint};

/// A place in a [`Table`]. The generation is never used twice, so that a number kept too long finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    place: u32,
    generation: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Free { next: Option<u32> },
    Taken { generation: u32, key: Fingerprint, value: T },
}

#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    generation: u32,
    len: usize,
    index: HashMap<Fingerprint, Id, AlreadyHashed>,
}

/// Below this many places a table is not worth shrinking.
const KEEP: usize = 1024;

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Table { slots: Vec::new(), free: None, generation: 0, len: 0, index: HashMap::with_hasher(AlreadyHashed(0)) }
    }

    /// A key that is there already then leads to the new value; the old one is found by its number only.
    pub(super) fn insert(&mut self, key: Fingerprint, value: T) -> Id {
        self.generation = self.generation.wrapping_add(1);
        let taken = Slot::Taken { generation: self.generation, key, value };
        let place = if let Some(place) = self.free {
            let slot = &mut self.slots[place as usize];
            if let Slot::Free { next } = slot {
                self.free = *next;
            }
            *slot = taken;
            place
        } else {
            self.slots.push(taken);
            (self.slots.len() - 1) as u32
        };
        let id = Id { place, generation: self.generation };
        self.index.insert(key, id);
        self.len += 1;
        id
    }

    pub(super) fn find(&self, key: Fingerprint) -> Option<Id> {
        self.index.get(&key).copied()
    }

    pub(super) fn get(&self, id: Id) -> Option<&T> {
        match self.slots.get(id.place as usize)? {
            Slot::Taken { generation, value, .. } if *generation == id.generation => Some(value),
            Slot::Taken { .. } | Slot::Free { .. } => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        match self.slots.get_mut(id.place as usize)? {
            Slot::Taken { generation, value, .. } if *generation == id.generation => Some(value),
            Slot::Taken { .. } | Slot::Free { .. } => None,
        }
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        self.get(id)?;
        let slot = &mut self.slots[id.place as usize];
        let Slot::Taken { key, value, .. } = std::mem::replace(slot, Slot::Free { next: self.free }) else {
            return None;
        };
        self.free = Some(id.place);
        self.len -= 1;
        if self.index.get(&key) == Some(&id) {
            self.index.remove(&key);
        }
        if self.len == 0 && self.slots.len() > KEEP {
            self.give_back();
        }
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Empty after a burst: the burst's memory goes back.
    fn give_back(&mut self) {
        self.slots = Vec::new();
        self.free = None;
        self.index.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::Seed;
    use super::*;

    fn key(n: u8) -> Fingerprint {
        Seed::new([0; 16]).fingerprint(&[n])
    }

    #[test]
    fn a_number_kept_too_long_finds_nothing() {
        let mut table = Table::new();
        let first = table.insert(key(1), 'a');
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert(key(2), 'b');
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&'b'));
        assert_eq!((table.find(key(1)), table.find(key(2)), table.len()), (None, Some(second), 1));
    }

    #[test]
    fn a_key_used_again_leads_to_the_newer_and_survives_the_older() {
        let mut table = Table::new();
        let older = table.insert(key(1), 'a');
        let newer = table.insert(key(1), 'b');
        assert_eq!(table.find(key(1)), Some(newer));
        assert_eq!(table.remove(older), Some('a'));
        assert_eq!(table.find(key(1)), Some(newer));
    }

    #[test]
    fn memory_goes_back_and_old_numbers_stay_dead() {
        let mut table = Table::new();
        let ids: Vec<_> = (0..=KEEP).map(|n| table.insert(key((n % 251) as u8), n)).collect();
        for id in &ids {
            table.remove(*id);
        }
        assert_eq!((table.len(), table.slots.capacity(), table.index.len()), (0, 0, 0));
        table.insert(key(0), 0);
        assert!(ids.iter().all(|id| table.get(*id).is_none()));
    }
}
