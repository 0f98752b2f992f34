//! What `/status` and the metrics show of an instance's part in its fleet.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::{Apart, Fleet, Link};
use crate::upstream::TargetId;

/// How an instance stands to its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its active target is the fleet's.
    With,
    /// Its strikes moved it alone, because another instance was served meanwhile.
    Diverged,
    /// The fleet's target is not in its set.
    NoSuchTarget,
    /// It moved while the shared memory was away, and the fleet does not know yet.
    Unheard,
}

/// The object `cluster` of `/status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetShown {
    /// The shared memory can be used.
    pub usable: bool,
    /// Why not.
    pub away: Option<Arc<str>>,
    /// For how long not.
    pub away_seconds: Option<f64>,
    /// How this instance stands to the fleet.
    pub standing: Standing,
    /// Whose success made it `diverged`.
    pub served_meanwhile: Option<Arc<str>>,
    /// Number of the fleet's last move that was heard of; 0: none.
    pub epoch: u64,
    /// Where that went.
    pub target: Option<TargetId>,
    /// Who decided it.
    pub decided_by: Option<Arc<str>>,
    /// Why, as in `failovers_total{reason}`, or `start`.
    pub reason: Option<Arc<str>>,
    /// The strikes behind it, in words.
    pub strikes: Option<Arc<str>>,
    /// When, in seconds since 1970 by the clock of the shared memory.
    pub decided_at: Option<u64>,
    /// The instances that were heard of lately.
    pub instances: Vec<Arc<str>>,
}

impl Fleet {
    /// How this instance stands to the fleet.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (&self.apart, &self.unsent) {
            (Some(Apart::Diverged(_)), _) => Standing::Diverged,
            (Some(Apart::NoSuchTarget), _) => Standing::NoSuchTarget,
            (None, Some(_)) => Standing::Unheard,
            (None, None) => Standing::With,
        }
    }

    /// The shared memory can be used.
    #[must_use]
    pub fn usable(&self) -> bool {
        matches!(self.link, Link::Usable)
    }

    /// Number of the fleet's last move that was heard of; 0: none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.epoch)
    }

    /// The fleet's target, as far as it was heard of.
    #[must_use]
    pub fn target(&self) -> Option<&TargetId> {
        self.known.as_ref().map(|known| &known.target)
    }

    /// What `/status` shows.
    #[must_use]
    pub fn shown(&self, now: Instant) -> FleetShown {
        let known = self.known.as_ref();
        let away = match &self.link {
            Link::Away { since, why } => Some((why.clone(), now.saturating_duration_since(*since))),
            Link::Usable => None,
        };
        FleetShown {
            usable: self.usable(),
            away: away.as_ref().map(|(why, _)| why.clone()),
            away_seconds: away.map(|(_, age)| age.as_millis() as f64 / 1000.0),
            standing: self.standing(),
            served_meanwhile: match &self.apart {
                Some(Apart::Diverged(by)) => Some(by.clone()),
                Some(Apart::NoSuchTarget) | None => None,
            },
            epoch: self.epoch(),
            target: self.target().cloned(),
            decided_by: known.map(|known| known.by.clone()),
            reason: known.map(|known| known.reason.clone()),
            strikes: known.map(|known| known.strikes.clone()),
            decided_at: known.map(|known| known.at / 1000),
            instances: self.instances.clone(),
        }
    }
}
