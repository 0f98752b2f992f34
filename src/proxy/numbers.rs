//! A hasher for tables keyed by numbers that Holdline gave out itself, or that are hashes under its key.
//!
//! No peer chooses them, so nobody can make them collide, and the standard hasher's protection would only cost time.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A table keyed by our own numbers. Never for keys that come off the wire.
pub(super) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// A set of our own numbers, likewise.
pub(super) type NumberSet<K> = HashSet<K, BuildHasherDefault<NumberHasher>>;

/// Multiplies and folds (Fibonacci hashing): one step for each number written.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct NumberHasher(u64);

impl NumberHasher {
    fn step(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(u64::from(*byte));
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.step(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.step(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.step(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.step(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_fall_into_different_places() {
        let places: std::collections::HashSet<u64> = (0..10_000_u64)
            .map(|n| {
                let mut hasher = NumberHasher::default();
                hasher.write_u64(n);
                hasher.finish() & 0xffff
            })
            .collect();
        assert!(places.len() > 8_000, "{}", places.len());
    }
}
