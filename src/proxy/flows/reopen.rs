//! Connections that calls come in on are kept there.
//!
//! A PBX calls a phone over the connection its REGISTER went out on. One that is lost is opened again at once while bindings
//! live at its target; a target that does not let it be is asked again after 1 s, 2 s, 4 s … up to a minute. None of it is an
//! attempt: it counts for nothing, and moves nobody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Flows;
use super::table::{Conn, Lease};
use crate::proxy::registrar::Registrar;
use crate::proxy::site::Site;
use crate::upstream::{TargetId, Upstream};

/// The longest pause between two tries to open a connection again.
const LONGEST: Duration = Duration::from_secs(60);
/// A connection that lived for so long is opened again without a pause, as if it were the first time.
const LIVED: Duration = Duration::from_secs(30);

/// How often a target's connection failed or broke soon, and when it is tried again.
#[derive(Debug)]
struct Pause {
    failures: u32,
    until: Instant,
}

/// The targets whose connection was lost. At most one entry for each target with bindings.
#[derive(Debug, Default)]
pub(super) struct Reopening {
    pauses: BTreeMap<TargetId, Pause>,
    /// When to look again.
    next: Option<Instant>,
}

impl Reopening {
    /// When [`Flows::keep_reachable`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// How many targets are waited for.
    pub(super) fn len(&self) -> usize {
        self.pauses.len()
    }

    fn failed(&mut self, label: &TargetId, soon: bool, now: Instant) {
        let pause = self.pauses.entry(label.clone()).or_insert(Pause { failures: 0, until: now });
        if soon {
            pause.until = now + pause_after(pause.failures);
            pause.failures = pause.failures.saturating_add(1);
        } else {
            *pause = Pause { failures: 0, until: now };
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(6)).min(LONGEST)
}

impl Flows {
    /// A connection to a target failed to open, or was lost. True if bindings live there.
    pub(in crate::proxy) fn lost(
        &mut self,
        gone: &Conn,
        upstream: &Upstream,
        registrar: &Registrar,
        now: Instant,
    ) -> bool {
        let Some(hop) = &gone.hop else { return false };
        if !gone.transport.is_reliable() {
            return false;
        }
        let Some(target) = upstream.target_named(&hop.target, hop.addr.port()) else { return false };
        if registrar.bindings().at_target(&target.label) == 0 {
            return false;
        }
        let opened = gone.local.is_some();
        if !opened {
            self.addresses.pass(target, hop.addr.ip());
        }
        let lived = opened && now.saturating_duration_since(gone.since) >= LIVED;
        self.reopening.failed(&target.label, !lived, now);
        true
    }

    /// Whether [`Flows::keep_reachable`] has something to do now.
    pub(in crate::proxy) fn reopen_is_due(&self, now: Instant) -> bool {
        self.reopening.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Opens a connection to each target at which bindings live and which has none, unless it is too early for it.
    pub(in crate::proxy) fn keep_reachable(
        &mut self,
        site: &Site,
        upstream: &Upstream,
        registrar: &Registrar,
        draining: bool,
        now: Instant,
    ) {
        self.reopening.next = None;
        if !site.transport.is_reliable() || draining {
            // Nothing is opened any more, and nobody comes back here to forget who waited.
            self.reopening.pauses.clear();
            return;
        }
        let labels = registrar.bindings().targets();
        self.reopening.pauses.retain(|label, _| labels.contains(label));
        for label in labels {
            let Some(target) = upstream.target(&label) else { continue };
            if self.table.leads_to(&target.host, target.port) {
                continue;
            }
            let Some(hop) = self.addresses.hop_to(target, site.transport) else { continue };
            let until = self.reopening.pauses.get(&label).map_or(now, |pause| pause.until);
            if until > now {
                self.reopening.next = Some(self.reopening.next.map_or(until, |next| next.min(until)));
                continue;
            }
            if let Lease::New(_) = self.lease(&hop, now) {
                tracing::info!(target = %label, "opening a connection again: phones are registered there");
            }
        }
    }

    /// How many bindings the PBX reaches only after their next REGISTER: those at another target than the active one, and
    /// those whose connection is gone, unless it was opened again from the same port.
    pub(in crate::proxy) fn orphans(&self, site: &Site, upstream: &Upstream, registrar: &Registrar) -> usize {
        let Some((active, _)) = upstream.active() else { return 0 };
        if site.transport.is_reliable() {
            registrar.bindings().orphaned_beside(&self.table.paths_to(&active.host, active.port))
        } else {
            registrar.bindings().orphaned(&active.label)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<u64> = (0..9).map(|n| pause_after(n).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause_after(u32::MAX), LONGEST);
    }
}
