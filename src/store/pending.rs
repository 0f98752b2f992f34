//! What waits to be written. Bounded: one value per binding, and not more bindings than [`MAX_BINDINGS`].

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Keep, StoredBinding};
use crate::upstream::Persisted;

/// More bindings than this do not wait: a disk that takes nothing must not fill the memory.
const MAX_BINDINGS: usize = 200_000;
/// So many bindings are written without waiting for the second to pass.
const FULL_BATCH: usize = 4096;
/// How long differences are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// Differences between the memory and the file.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The newest state of each binding that changed; `None`: gone.
    pub bindings: HashMap<String, Option<StoredBinding>>,
    pub upstream: Option<Persisted>,
    /// The key was made just now.
    pub key: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.upstream.is_none() && !self.key
    }

    /// Newer changes replace older ones.
    pub(super) fn take(&mut self, changes: Vec<Keep>) -> u64 {
        let mut dropped = 0;
        for change in changes {
            let (id, binding) = match change {
                Keep::Upstream(upstream) => {
                    self.upstream = Some(upstream);
                    continue;
                }
                Keep::Put(binding) => (binding.id.clone(), Some(binding)),
                Keep::Remove(id) => (id, None),
            };
            if self.bindings.len() >= MAX_BINDINGS && !self.bindings.contains_key(&id) {
                dropped += 1;
            } else {
                self.bindings.insert(id, binding);
            }
        }
        dropped
    }

    fn is_urgent(&self) -> bool {
        self.upstream.is_some() || self.key || self.bindings.len() >= FULL_BATCH
    }
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    closing: bool,
    /// The thread is gone: nothing will ever be written.
    dead: bool,
    /// Numbers of the flush asked for last, and of the last one that is done.
    flush_asked: u64,
    flush_done: u64,
    /// Whether the last write succeeded.
    healthy: bool,
    /// Whether it failed, or there was nothing to write to.
    failing: bool,
    dropped: u64,
    /// Numbers of the newest change here, of the newest one that the thread has taken, and of the newest that is written.
    newest: u64,
    taken: u64,
    durable: u64,
}

/// The meeting point of callers and the writer's thread.
#[derive(Debug, Default)]
pub(super) struct Pending {
    state: Mutex<State>,
    to_write: Condvar,
    written: Condvar,
}

/// What the writer's thread shall do.
pub(super) enum Work {
    Write(Batch),
    /// Write this, and end.
    Last(Batch),
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn key_is_new(&self) {
        self.lock().batch.key = true;
        self.to_write.notify_one();
    }

    pub(super) fn put_upstream(&self, upstream: Persisted) {
        self.lock().batch.upstream = Some(upstream);
        self.to_write.notify_one();
    }

    pub(super) fn put_binding(&self, binding: StoredBinding) {
        self.put_all(vec![Keep::Put(binding)], 0);
    }

    pub(super) fn remove_binding(&self, id: &str) {
        self.put_all(vec![Keep::Remove(id.to_owned())], 0);
    }

    /// Changes with this number, which grows, or 0 where nobody asks for them.
    pub(super) fn put_all(&self, changes: Vec<Keep>, number: u64) {
        let mut state = self.lock();
        let before = (state.batch.is_empty(), state.batch.is_urgent());
        let dropped = state.batch.take(changes);
        state.dropped += dropped;
        state.newest = state.newest.max(number);
        // The thread wakes for the first one, then gathers on its own; and again when a batch is full.
        let wake = before != (state.batch.is_empty(), state.batch.is_urgent());
        drop(state);
        if wake {
            self.to_write.notify_one();
        }
    }

    /// All changes up to this number are written.
    pub(super) fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// There is no file to write to, and this for it.
    pub(super) fn cannot_write(&self, batch: Batch) {
        let mut state = self.lock();
        state.failing = true;
        state.batch = batch;
        state.newest = super::BEFORE;
    }

    /// Whether what waits is not being written.
    pub(super) fn fails(&self) -> bool {
        let state = self.lock();
        state.failing || state.dead
    }

    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits until what is pending now has been tried. True if it was written.
    pub(super) fn flush(&self) -> bool {
        let mut state = self.lock();
        state.flush_asked += 1;
        let mine = state.flush_asked;
        self.to_write.notify_one();
        let state = self
            .written
            .wait_while(state, |state| state.flush_done < mine && !state.dead)
            .unwrap_or_else(PoisonError::into_inner);
        state.healthy && state.flush_done >= mine
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.to_write.notify_one();
    }

    /// For the thread: waits for something to do. `pause`: how long to leave a disk alone that failed.
    pub(super) fn wait(&self, pause: Option<Duration>) -> (Work, u64) {
        let mut state = self.lock();
        let hurry = |state: &State| state.closing || state.flush_asked > state.flush_done;
        if let Some(pause) = pause {
            state = self
                .to_write
                .wait_timeout_while(state, pause, |state| !hurry(state))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state = self
            .to_write
            .wait_while(state, |state| state.batch.is_empty() && !hurry(state))
            .unwrap_or_else(PoisonError::into_inner);
        state = self
            .to_write
            .wait_timeout_while(state, GATHER, |state| !state.batch.is_urgent() && !hurry(state))
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let batch = std::mem::take(&mut state.batch);
        state.taken = state.newest;
        let work = if state.closing { Work::Last(batch) } else { Work::Write(batch) };
        (work, state.flush_asked)
    }

    /// For the thread: a batch is written. `flush`: the number it got with the batch.
    pub(super) fn done(&self, flush: u64) {
        self.ended(flush, true);
    }

    /// For the thread: a batch could not be written; newer values that came in since replace its own.
    pub(super) fn failed(&self, batch: Batch, flush: u64) {
        let mut state = self.lock();
        for (id, binding) in batch.bindings {
            state.batch.bindings.entry(id).or_insert(binding);
        }
        state.batch.key |= batch.key;
        if state.batch.upstream.is_none() {
            state.batch.upstream = batch.upstream;
        }
        drop(state);
        self.ended(flush, false);
    }

    fn ended(&self, flush: u64, healthy: bool) {
        let mut state = self.lock();
        state.flush_done = state.flush_done.max(flush);
        state.healthy = healthy;
        state.failing = !healthy;
        if healthy {
            state.durable = state.taken;
        }
        drop(state);
        self.written.notify_all();
    }

    /// For the thread: it ends.
    pub(super) fn dead(&self) {
        self.lock().dead = true;
        self.written.notify_all();
    }
}
