//! Which of a target's addresses has its turn.
//!
//! A target may have several addresses. One that cannot be reached passes the turn to the next, and the next request begins
//! there, too; the one that works keeps it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::flow::{Hop, Transport};
use crate::upstream::{Target, TargetId};

/// Addresses of one target that are tried on one branch.
pub(crate) const MOST_TRIED: usize = 16;

/// The turns, by target. Only targets whose first address failed have an entry.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    turns: BTreeMap<TargetId, usize>,
}

impl Addresses {
    /// The next hop to a target, at the address whose turn it is; `None` where it has none.
    pub(crate) fn hop_to(&self, target: &Target, transport: Transport) -> Option<Hop> {
        let ip = self.turn(target)?;
        Some(Hop { target: target.host.clone(), addr: (ip, target.port).into(), transport, group: 0 })
    }

    /// The address of a target that is tried next.
    pub(crate) fn turn(&self, target: &Target) -> Option<IpAddr> {
        let turn = self.turns.get(&target.label).copied().unwrap_or(0);
        (!target.addresses.is_empty()).then(|| target.addresses[turn % target.addresses.len()])
    }

    /// One of a target's addresses cannot be reached: if it is the one whose turn it is, the next one has it.
    pub(crate) fn pass(&mut self, target: &Target, failed: IpAddr) {
        if self.turn(target) == Some(failed) && target.addresses.len() > 1 {
            let turn = self.turns.entry(target.label.clone()).or_insert(0);
            *turn = (*turn + 1) % target.addresses.len();
        }
    }

    /// Forgets the targets that are gone.
    pub(crate) fn keep_only(&mut self, targets: &[Target]) {
        self.turns.retain(|label, _| targets.iter().any(|target| target.label == *label));
    }

    pub(crate) fn len(&self) -> usize {
        self.turns.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Record;

    fn target(addresses: &[&str]) -> Target {
        let addresses = addresses.iter().map(|ip| ip.parse().expect("literal")).collect();
        Target::from(Record { host: "a.example.com".into(), port: 5060, addresses, ..Record::default() })
    }

    #[test]
    fn the_turn_passes_from_the_address_that_failed_and_comes_round() {
        let (mut turns, target) = (Addresses::default(), target(&["192.0.2.1", "192.0.2.2"]));
        let turn = |turns: &Addresses| turns.turn(&target).expect("an address").to_string();
        assert_eq!(turn(&turns), "192.0.2.1");
        turns.pass(&target, "192.0.2.2".parse().expect("literal"));
        assert_eq!(turn(&turns), "192.0.2.1", "the other one's failure moves nothing");
        turns.pass(&target, "192.0.2.1".parse().expect("literal"));
        assert_eq!(turn(&turns), "192.0.2.2");
        turns.pass(&target, "192.0.2.2".parse().expect("literal"));
        assert_eq!(turn(&turns), "192.0.2.1");
        turns.keep_only(&[]);
        assert_eq!(turns.len(), 0);
    }

    #[test]
    fn a_target_without_address_has_no_hop() {
        assert_eq!(Addresses::default().hop_to(&target(&[]), Transport::Udp), None);
    }
}
