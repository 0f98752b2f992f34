//! The binding table: which phone an ID stands for, and how that phone is reached.
//!
//! The registrar owns the bindings (RFC 3261 §10); this table observes them. An entry comes with a REGISTER on its way up
//! ([`Bindings::upsert`]: unconfirmed, there for what the PBX sends before its 2xx), and counts from the 2xx on
//! ([`Bindings::confirm`]). A confirmed binding moves to a phone's new address only with a 2xx, so nobody who merely
//! *asks* takes a phone's calls.
//!
//! Call [`Bindings::handle_timeout`] when [`Bindings::poll_timeout`] says so, then [`Bindings::poll_keepalive`] and
//! [`Bindings::poll_change`] until they are empty. Everything is bounded by the limit, the changes by what happened since they
//! were last asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use super::binding::{Binding, Reach, user_agent};
use super::contact::Terms;
use super::keepalive::{KeepAlives, UdpFlow};
use crate::flow::ConnId;
use crate::proxy::ids::PathId;
use crate::proxy::marks::BindingId;
use crate::proxy::numbers::{NumberMap, NumberSet};
use crate::upstream::TargetId;

/// How many bindings one address of record may have. A PBX allows far fewer.
pub const MAX_PER_AOR: usize = 32;

/// No grant is taken for longer than this: a month.
pub(super) const LONGEST: u32 = 30 * 24 * 3600;

/// Expired bindings go in sweeps at least this far apart.
const SWEEP: Duration = Duration::from_secs(1);

/// The table is full of bindings that are alive: `503` for the REGISTER, or relay it unobserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the binding table is full")]
pub struct BindingsFull;

/// A difference between this table and what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Store this one, see [`Bindings::export`].
    Put(BindingId),
    /// Forget this one. It may never have been stored.
    Remove(BindingId),
}

#[derive(Debug)]
struct Entry {
    binding: Binding,
    /// What a confirmed binding becomes with the next 2xx.
    pending: Option<Box<Binding>>,
    /// The path its 2xx came by, over which its PBX reaches it; `None` if any will do. Only of a confirmed one.
    path: Option<PathId>,
}

impl Entry {
    /// The connections it depends on: the one it is reached over, the one it will be.
    fn conns(&self) -> [Option<ConnId>; 2] {
        let conn = |binding: &Binding| match binding.reach {
            Reach::Conn(conn) => Some(conn),
            Reach::Udp { .. } | Reach::Lost => None,
        };
        [conn(&self.binding), self.pending.as_deref().and_then(conn)]
    }
}

/// The table.
#[derive(Debug)]
pub struct Bindings {
    limit: usize,
    entries: NumberMap<BindingId, Entry>,
    confirmed: BTreeSet<(Instant, BindingId)>,
    unconfirmed: BTreeSet<(Instant, BindingId)>,
    by_aor: BTreeSet<(Arc<str>, BindingId)>,
    by_conn: BTreeSet<(ConnId, BindingId)>,
    /// Confirmed bindings per target.
    targets: BTreeMap<TargetId, usize>,
    /// Confirmed bindings per path.
    paths: BTreeMap<PathId, usize>,
    keepalives: KeepAlives,
    changed: VecDeque<BindingId>,
    /// What is in `changed`, which so names each binding once.
    dirty: NumberSet<BindingId>,
    swept: Option<Instant>,
}

impl Bindings {
    /// An empty table that never holds more than `limit` bindings.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Bindings {
            limit,
            entries: NumberMap::default(),
            confirmed: BTreeSet::new(),
            unconfirmed: BTreeSet::new(),
            by_aor: BTreeSet::new(),
            by_conn: BTreeSet::new(),
            targets: BTreeMap::new(),
            paths: BTreeMap::new(),
            keepalives: KeepAlives::default(),
            changed: VecDeque::new(),
            dirty: NumberSet::default(),
            swept: None,
        }
    }

    /// A REGISTER goes up. A binding that is not confirmed yet is replaced; a confirmed one becomes this with the next
    /// [`Bindings::confirm`]. For a new one that finds no room, expired ones go first, then the unconfirmed one that ends
    /// first (of an address of record that has [`MAX_PER_AOR`]: one of its unconfirmed ones, then one that is lost).
    ///
    /// Call it again before `confirm`, with the target that answered: it costs little, and an unconfirmed binding may have
    /// had to go in between.
    pub fn upsert(&mut self, binding: Binding, now: Instant) -> Result<(), BindingsFull> {
        let binding = Binding { confirmed: false, ..binding };
        match self.entries.get_mut(&binding.id) {
            Some(entry) if entry.binding.confirmed => {
                let id = binding.id;
                let before = entry.conns();
                entry.pending = Some(Box::new(binding));
                let after = entry.conns();
                self.reindex_conns(id, before, after);
                return Ok(());
            }
            Some(_) => {
                self.take(&binding.id);
            }
            None => {
                self.make_room_in_aor(&binding.aor)?;
                self.make_room(now)?;
            }
        }
        self.put(binding, now);
        Ok(())
    }

    /// A 2xx: the PBX granted this many seconds, from now on. None: it removed the binding. False if there is no such binding.
    pub fn confirm(&mut self, id: &BindingId, granted: u32, now: Instant) -> bool {
        let granted = granted.min(LONGEST);
        let expires = now + Duration::from_secs(u64::from(granted));
        if granted > 0 && self.refresh(id, expires) {
            self.mark(*id);
            return true;
        }
        let Some(entry) = self.take(id) else { return false };
        if entry.binding.confirmed || granted > 0 {
            self.mark(*id);
        }
        if granted > 0 {
            let known = entry.binding.last_status;
            let binding = entry.pending.map_or(entry.binding, |pending| *pending);
            let last_status = binding.last_status.or(known);
            self.put(Binding { expires, confirmed: true, last_status, ..binding }, now);
        }
        true
    }

    /// Takes a binding out.
    pub fn remove(&mut self, id: &BindingId) -> Option<Binding> {
        let entry = self.take(id)?;
        if entry.binding.confirmed {
            self.mark(*id);
        }
        Some(entry.binding)
    }

    /// A 2xx to `Contact: *`: takes out all bindings of an address of record. How many they were.
    pub fn remove_aor(&mut self, aor: &str) -> usize {
        let ids: Vec<BindingId> = self.of_aor(aor).map(|binding| binding.id).collect();
        ids.iter().filter(|id| self.remove(id).is_some()).count()
    }

    /// A connection is gone: nobody on it is reached before he registers again. How many they were.
    pub fn connection_lost(&mut self, conn: ConnId) -> usize {
        let ids: Vec<BindingId> = self.on_conn(conn).collect();
        for id in &ids {
            self.by_conn.remove(&(conn, *id));
            if let Some(entry) = self.entries.get_mut(id) {
                let both = std::iter::once(&mut entry.binding).chain(entry.pending.as_deref_mut());
                both.filter(|binding| binding.reach == Reach::Conn(conn))
                    .for_each(|binding| binding.reach = Reach::Lost);
            }
        }
        ids.len()
    }

    /// The final status that a handset's REGISTER got, its terms, and the path: the upstream connection's pair of addresses.
    pub fn note_answer(&mut self, id: &BindingId, status: u16, terms: Terms, path: Option<PathId>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        (entry.binding.last_status, entry.binding.terms) = (Some(status), terms);
        if entry.path != path && entry.binding.confirmed {
            let before = std::mem::replace(&mut entry.path, path);
            if let Some(before) = before {
                leave(&mut self.paths, &before);
            }
            if let Some(path) = path {
                *self.paths.entry(path).or_default() += 1;
            }
        }
    }

    /// The binding an ID stands for.
    #[must_use]
    pub fn get(&self, id: &BindingId) -> Option<&Binding> {
        self.entries.get(id).map(|entry| &entry.binding)
    }

    /// The same as it will be with the next 2xx.
    pub(super) fn newest(&self, id: &BindingId) -> Option<&Binding> {
        self.entries.get(id).map(|entry| entry.pending.as_deref().unwrap_or(&entry.binding))
    }

    /// The bindings of an address of record, at most [`MAX_PER_AOR`], in the order of their IDs.
    pub fn of_aor(&self, aor: &str) -> impl Iterator<Item = &Binding> {
        let aor: Arc<str> = aor.into();
        self.by_aor.range((aor.clone(), BindingId::FIRST)..=(aor, BindingId::LAST)).filter_map(|(_, id)| self.get(id))
    }

    /// All bindings, ordered by address of record, then ID.
    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.by_aor.iter().filter_map(|(_, id)| self.get(id))
    }

    /// How many bindings are reached over a connection, or will be with the next 2xx.
    #[must_use]
    pub fn on_connection(&self, conn: ConnId) -> usize {
        self.on_conn(conn).count()
    }

    /// How many there are, unconfirmed ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Another limit from now on. Where more are there already, no further phone finds room until enough have ended.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many there may be.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many a PBX confirmed.
    #[must_use]
    pub fn confirmed_len(&self) -> usize {
        self.confirmed.len()
    }

    /// How many confirmed bindings are at another target than this one: phones that a rollover left behind until their next
    /// REGISTER.
    #[must_use]
    pub fn orphaned(&self, active: &str) -> usize {
        self.confirmed.len() - self.at_target(active)
    }

    /// How many confirmed bindings were granted over none of these paths.
    #[must_use]
    pub fn orphaned_beside(&self, paths: &[PathId]) -> usize {
        let reached = |path: &PathId| self.paths.get(path).copied().unwrap_or(0);
        self.confirmed.len() - paths.iter().map(reached).sum::<usize>()
    }

    /// The targets at which there are confirmed bindings, in the order of their labels.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetId> {
        self.targets.keys().cloned().collect()
    }

    /// How many confirmed bindings are at a target. Requests are taken from its addresses while there are any.
    #[must_use]
    pub fn at_target(&self, target: &str) -> usize {
        self.targets.get(target).copied().unwrap_or(0)
    }

    /// When [`Bindings::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, BindingId)>| set.first().map(|(at, _)| *at);
        let expiry = first(&self.confirmed).into_iter().chain(first(&self.unconfirmed)).min();
        let sweep = expiry.map(|at| self.swept.map_or(at, |swept| at.max(swept + SWEEP)));
        sweep.into_iter().chain(self.keepalives.poll_timeout()).min()
    }

    /// Takes out what expired and finds the keep-alives that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sweep(now);
        self.keepalives.handle_timeout(now);
    }

    /// The next UDP flow that a CRLF CRLF is due on: socket, our address, the phone's.
    pub fn poll_keepalive(&mut self, now: Instant) -> Option<UdpFlow> {
        self.keepalives.handle_timeout(now);
        self.keepalives.next()
    }

    /// How many UDP flows are kept open.
    #[must_use]
    pub fn kept_open(&self) -> usize {
        self.keepalives.len()
    }

    /// The next binding whose stored form is out of date, each once however often it changed.
    pub fn poll_change(&mut self) -> Option<Change> {
        let id = self.changed.pop_front()?;
        self.dirty.remove(&id);
        Some(match self.get(&id) {
            Some(binding) if binding.confirmed => Change::Put(id),
            Some(_) | None => Change::Remove(id),
        })
    }

    fn on_conn(&self, conn: ConnId) -> impl Iterator<Item = BindingId> {
        self.by_conn.range((conn, BindingId::FIRST)..=(conn, BindingId::LAST)).map(|(_, id)| *id)
    }

    /// The usual case, at little cost: a confirmed binding stays where it is and only lives longer. False for any other.
    fn refresh(&mut self, id: &BindingId, expires: Instant) -> bool {
        let Some(Entry { binding, pending, .. }) = self.entries.get_mut(id) else { return false };
        let stays =
            |new: &Binding| new.reach == binding.reach && new.target == binding.target && new.aor == binding.aor;
        if !binding.confirmed || !pending.as_deref().is_none_or(stays) {
            return false;
        }
        if let Some(pending) = pending.take() {
            let (before, last_status) = (binding.expires, pending.last_status.or(binding.last_status));
            *binding = Binding { expires: before, confirmed: true, last_status, ..*pending };
        }
        self.confirmed.remove(&(binding.expires, *id));
        binding.expires = expires;
        self.confirmed.insert((expires, *id));
        true
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        while let Some(&(_, id)) = self.confirmed.first().filter(|(at, _)| *at <= now) {
            self.remove(&id);
        }
        while let Some(&(_, id)) = self.unconfirmed.first().filter(|(at, _)| *at <= now) {
            self.remove(&id);
        }
    }

    fn make_room(&mut self, now: Instant) -> Result<(), BindingsFull> {
        if self.len() < self.limit {
            return Ok(());
        }
        self.sweep(now);
        while self.len() >= self.limit {
            let (_, id) = *self.unconfirmed.first().ok_or(BindingsFull)?;
            self.remove(&id);
        }
        Ok(())
    }

    pub(super) fn make_room_in_aor(&mut self, aor: &str) -> Result<(), BindingsFull> {
        let rank = |binding: &Binding| match (binding.confirmed, binding.reach) {
            (false, _) => Some(0),
            (true, Reach::Lost) => Some(1),
            (true, Reach::Udp { .. } | Reach::Conn(_)) => None,
        };
        if self.of_aor(aor).count() < MAX_PER_AOR {
            return Ok(());
        }
        let last = self.of_aor(aor).filter_map(|binding| Some((rank(binding)?, binding.expires, binding.id))).min();
        let (_, _, id) = last.ok_or(BindingsFull)?;
        self.remove(&id);
        Ok(())
    }

    fn reindex_conns(&mut self, id: BindingId, before: [Option<ConnId>; 2], after: [Option<ConnId>; 2]) {
        for conn in before.into_iter().flatten() {
            self.by_conn.remove(&(conn, id));
        }
        for conn in after.into_iter().flatten() {
            self.by_conn.insert((conn, id));
        }
    }

    /// Its stored form is out of date.
    pub(super) fn mark(&mut self, id: BindingId) {
        if self.dirty.insert(id) {
            self.changed.push_back(id);
        }
    }

    /// Into the map and every index. The ID is not there.
    pub(super) fn put(&mut self, binding: Binding, now: Instant) {
        let id = binding.id;
        self.by_aor.insert((binding.aor.clone(), id));
        if binding.confirmed {
            self.confirmed.insert((binding.expires, id));
            *self.targets.entry(binding.target.clone()).or_default() += 1;
        } else {
            self.unconfirmed.insert((binding.expires, id));
        }
        if let Some(flow) = binding.kept_open() {
            self.keepalives.add(flow, id.spread(), now);
        }
        let entry = Entry { binding, pending: None, path: None };
        self.reindex_conns(id, [None; 2], entry.conns());
        self.entries.insert(id, entry);
    }

    /// Out of the map and every index.
    fn take(&mut self, id: &BindingId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.reindex_conns(*id, entry.conns(), [None; 2]);
        let binding = &entry.binding;
        self.by_aor.remove(&(binding.aor.clone(), *id));
        if binding.confirmed {
            self.confirmed.remove(&(binding.expires, *id));
            leave(&mut self.targets, &binding.target);
            if let Some(path) = &entry.path {
                leave(&mut self.paths, path);
            }
        } else {
            self.unconfirmed.remove(&(binding.expires, *id));
        }
        if let Some(flow) = binding.kept_open() {
            self.keepalives.remove(flow);
        }
        Some(entry)
    }
}

/// One binding less there.
fn leave<K: Ord>(counts: &mut BTreeMap<K, usize>, there: &K) {
    if let Some(count) = counts.get_mut(there) {
        *count -= 1;
        if *count == 0 {
            counts.remove(there);
        }
    }
}

#[cfg(test)]
mod tests;
