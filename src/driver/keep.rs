//! What outlives the process: in the store, and in the memory that a fleet shares.

use std::time::Instant;

use super::{Driver, unix_now};
use crate::cluster::Written;
use crate::fleet::Word;
use crate::proxy::Event;
use crate::proxy::bindings::Change;
use crate::store::Keep;

/// Bindings that are told again in one turn of the clock.
const AT_ONCE: usize = 2000;

impl Driver {
    /// Hands the store and the fleet what has changed; without either it is forgotten.
    pub(super) fn keep(&mut self, upstream: Option<Keep>, now: Instant) {
        let mut changes: Vec<Keep> = upstream.into_iter().collect();
        while let Some(change) = self.core.poll_change() {
            if self.store.is_none() && self.cluster.is_none() {
                continue;
            }
            let keep = match change {
                Change::Put(id) => self.core.export_binding(&id, now, unix_now().as_secs()).map(Keep::Put),
                Change::Remove(id) => Some(Keep::Remove(id.to_string())),
            };
            if let (Some(cluster), Some(keep)) = (&self.cluster, &keep) {
                match keep {
                    Keep::Put(binding) => {
                        cluster.write(binding.id.clone(), Written::Changed(Box::new(binding.clone())));
                    }
                    Keep::Remove(id) => cluster.write(id.clone(), Written::Removed),
                    Keep::Upstream(_) => {}
                }
            }
            changes.extend(keep);
        }
        if let Some(store) = &mut self.store
            && !changes.is_empty()
        {
            store.keep(changes);
        }
    }

    /// The fleet's memory says something. After each link it may have lost what it had: all bindings are told again, in portions.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn heard(&mut self, word: Word) {
        if word == Word::Linked {
            self.told_again = self.core.bindings().collect();
        }
        self.core.handle(Event::Fleet(word), Instant::now());
    }

    pub(super) fn tell_again(&mut self, now: Instant) {
        let Some(cluster) = &self.cluster else { return };
        let unix = unix_now().as_secs();
        let from = self.told_again.len().saturating_sub(AT_ONCE);
        for id in self.told_again.split_off(from) {
            if let Some(binding) = self.core.export_binding(&id, now, unix) {
                cluster.write(binding.id.clone(), Written::Again(Box::new(binding)));
            }
        }
    }
}
