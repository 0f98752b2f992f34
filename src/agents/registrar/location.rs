//! The location table: address-of-record → Contacts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::agents::wire::Link;

/// One registered Contact.
#[derive(Debug, Clone)]
pub struct Binding {
    /// `user@domain`.
    pub aor: String,
    /// The Contact URI, to the letter.
    pub contact: String,
    /// The Contact's header parameters but `expires`.
    pub params: Vec<(String, Option<String>)>,
    /// When it ends.
    pub expires: Instant,
    /// Path values in order, each with its angle brackets (RFC 3327).
    pub path: Vec<String>,
    /// The REGISTER's Call-ID.
    pub call_id: String,
    /// The REGISTER's CSeq.
    pub cseq: u32,
    /// Which way the REGISTER came.
    pub link: Link,
    /// When it was last confirmed.
    pub since: Instant,
}

impl Binding {
    /// Whole seconds it still has.
    pub fn seconds_left(&self, now: Instant) -> u64 {
        // Rounded, so that what was just granted is not one less.
        (self.expires.saturating_duration_since(now) + Duration::from_millis(500)).as_secs()
    }
}

/// All bindings. Those that have expired stay out of sight.
#[derive(Debug, Clone, Default)]
pub struct Locations {
    all: BTreeMap<String, Vec<Binding>>,
}

impl Locations {
    /// The live bindings of `user@domain`, oldest first.
    pub fn of(&self, aor: &str, now: Instant) -> impl Iterator<Item = &Binding> {
        self.all.get(aor).into_iter().flatten().filter(move |b| b.expires > now)
    }

    /// Every address-of-record with a live binding.
    pub fn registered(&self, now: Instant) -> Vec<String> {
        let live = |(_, bindings): &(&String, &Vec<Binding>)| bindings.iter().any(|b| b.expires > now);
        self.all.iter().filter(live).map(|(aor, _)| aor.clone()).collect()
    }

    pub(super) fn put(&mut self, binding: Binding) {
        let bindings = self.all.entry(binding.aor.clone()).or_default();
        let now = binding.since;
        bindings.retain(|b| b.expires > now);
        match bindings.iter_mut().find(|b| b.contact == binding.contact) {
            Some(known) => *known = binding,
            None => bindings.push(binding),
        }
    }

    pub(super) fn remove(&mut self, aor: &str, contact: Option<&str>) {
        if let Some(bindings) = self.all.get_mut(aor) {
            bindings.retain(|b| contact.is_some_and(|c| b.contact != c));
        }
    }
}
