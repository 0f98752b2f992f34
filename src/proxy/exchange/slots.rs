//! Places with numbers that are never used twice: a slab, gone through in the order of its places.

/// A place in [`Slots`]. A number kept too long finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SlotId {
    place: u32,
    generation: u32,
}

/// Below this many places it is not worth giving memory back.
const KEEP: usize = 1024;

#[derive(Debug)]
pub(super) struct Slots<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    /// Counts up with each value.
    generation: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { places: Vec::new(), free: Vec::new(), generation: 0 }
    }
}

impl<T> Slots<T> {
    pub(super) fn insert(&mut self, value: T) -> SlotId {
        self.generation = self.generation.wrapping_add(1);
        let taken = (self.generation, Some(value));
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = taken;
                place
            }
            None => {
                self.places.push(taken);
                (self.places.len() - 1) as u32
            }
        };
        SlotId { place, generation: self.generation }
    }

    pub(super) fn get(&self, id: SlotId) -> Option<&T> {
        let (generation, value) = self.places.get(id.place as usize)?;
        value.as_ref().filter(|_| *generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut T> {
        let (generation, value) = self.places.get_mut(id.place as usize)?;
        value.as_mut().filter(|_| *generation == id.generation)
    }

    pub(super) fn remove(&mut self, id: SlotId) -> Option<T> {
        let (generation, value) = self.places.get_mut(id.place as usize)?;
        if *generation != id.generation {
            return None;
        }
        let value = value.take()?;
        self.free.push(id.place);
        if self.free.len() == self.places.len() && self.places.len() > KEEP {
            // Empty after a burst: the burst's memory goes back.
            (self.places, self.free) = (Vec::new(), Vec::new());
        }
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &T)> {
        self.places.iter().enumerate().filter_map(|(place, (generation, value))| {
            Some((SlotId { place: place as u32, generation: *generation }, value.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_kept_too_long_finds_nothing() {
        let mut slots = Slots::default();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!((slots.get(first), slots.get(second)), (None, Some(&'b')));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn after_a_burst_memory_goes_back() {
        let mut slots = Slots::default();
        let ids: Vec<SlotId> = (0..3 * KEEP).map(|n| slots.insert(n)).collect();
        let in_order: Vec<usize> = slots.iter().map(|(_, n)| *n).collect();
        assert!(in_order.is_sorted());
        assert!(ids.iter().all(|id| slots.remove(*id).is_some()));
        assert_eq!((slots.len(), slots.places.capacity()), (0, 0));
        let again = slots.insert(7);
        assert!(ids.iter().all(|id| slots.get(*id).is_none()));
        assert_eq!(slots.get(again), Some(&7));
    }
}
