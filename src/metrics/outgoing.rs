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

/// What became of a copy for a HEP receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HepPacket {
    /// It left.
    Sent,
    /// There was no room for it, or no way to the receiver.
    Dropped,
}

impl HepPacket {
    /// In the order of registration.
    pub const ALL: [HepPacket; 2] = [HepPacket::Sent, HepPacket::Dropped];

    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            HepPacket::Sent => "sent",
            HepPacket::Dropped => "dropped",
        }
    }
}

#[derive(Debug)]
pub(super) struct Outgoing {
    hep_packets: Vec<IntCounter>,
    notifications: Vec<IntCounter>,
}

impl Outgoing {
    pub(super) fn new(f: &mut Families) -> Outgoing {
        let notifications =
            f.counters("notifications_total", &["outcome"], "Notifications about rollovers, by what became of them.");
        let hep = f.counters("hep_packets_total", &["outcome"], "Copies of messages for the HEP receiver.");
        Outgoing {
            hep_packets: cross(&[&texts(&HepPacket::ALL, HepPacket::as_str)], |l| hep.with_label_values(l)),
            notifications: cross(&[&texts(&Notification::ALL, Notification::as_str)], |l| {
                notifications.with_label_values(l)
            }),
        }
    }
}

impl Metrics {
    /// `hep_packets_total`.
    pub fn hep_packets(&self, outcome: HepPacket) -> &IntCounter {
        &self.outgoing.hep_packets[outcome as usize]
    }

    /// `notifications_total`.
    pub fn notifications(&self, outcome: Notification) -> &IntCounter {
        &self.outgoing.notifications[outcome as usize]
    }
}
