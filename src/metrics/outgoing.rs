//! What Holdline sends of its own accord, beside SIP.

use prometheus::IntCounter;

use super::family::Families;
use super::{Metrics, cross, texts};

/// What became of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notification {
    /// It was taken.
    Delivered,
    /// It was not, as often as it was tried.
    Failed,
    /// Too many waited already.
    Dropped,
}

impl Notification {
    /// In the order of registration.
    pub const ALL: [Notification; 3] = [Notification::Delivered, Notification::Failed, Notification::Dropped];

    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Notification::Delivered => "delivered",
            Notification::Failed => "failed",
            Notification::Dropped => "dropped",
        }
    }
}

#[derive(Debug)]
pub(super) struct Outgoing {
    notifications: Vec<IntCounter>,
}

impl Outgoing {
    pub(super) fn new(f: &mut Families) -> Outgoing {
        let notifications =
            f.counters("notifications_total", &["outcome"], "Notifications about rollovers, by what became of them.");
        Outgoing {
            notifications: cross(&[&texts(&Notification::ALL, Notification::as_str)], |l| {
                notifications.with_label_values(l)
            }),
        }
    }
}

impl Metrics {
    /// `notifications_total`.
    pub fn notifications(&self, outcome: Notification) -> &IntCounter {
        &self.outgoing.notifications[outcome as usize]
    }
}
