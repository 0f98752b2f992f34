//! What Holdline sends of its own accord, beside SIP.

use prometheus::IntCounter;

use super::family::Families;
use super::{Metrics, cross, texts};
use crate::proxy::label;

label! {
    /// What became of a notification.
    Notification {
        /// It was taken.
        Delivered => "delivered",
        /// It was not, as often as it was tried.
        Failed => "failed",
        /// Too many waited already.
        Dropped => "dropped",
    }
}

label! {
    /// What became of a copy for a HEP receiver.
    HepPacket {
        /// It left.
        Sent => "sent",
        /// There was no room for it, or no way to the receiver.
        Dropped => "dropped",
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
            hep_packets: cross(&[&texts(HepPacket::ALL, HepPacket::as_str)], |l| hep.with_label_values(l)),
            notifications: cross(&[&texts(Notification::ALL, Notification::as_str)], |l| {
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
