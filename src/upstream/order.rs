//! The order in which targets are tried (RFC 2782).

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;

use super::records::Record;

/// The order of targets within one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Selection {
    /// Highest weight first, ties by name and port: every instance and every refresh finds the same order.
    #[default]
    HighestWeight,
    /// RFC 2782's weighted random order, drawn once: the same set gives the same order for as long as the seed is kept.
    Weighted,
}

impl Selection {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Selection::HighestWeight => "highest-weight",
            Selection::Weighted => "weighted",
        }
    }
}

/// A target's identity and metric label: `host:port`, an IPv6 address in brackets. Cheap to copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TargetId(Arc<str>);

impl Deref for TargetId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TargetId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for TargetId {
    fn from(label: &str) -> Self {
        TargetId(label.into())
    }
}

impl From<String> for TargetId {
    fn from(label: String) -> Self {
        TargetId(label.into())
    }
}

/// One `host:port` of the set, with everything needed to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name, lower case, no trailing dot; or an address literal of a static outbound proxy.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// SRV priority.
    pub priority: u16,
    /// SRV weight.
    pub weight: u16,
    /// Addresses in the order to use them; empty: the target is [`Cause::Unresolved`](crate::flow::Cause::Unresolved).
    pub addresses: Vec<IpAddr>,
    /// `host:port`, the identity of a target and its metric label.
    pub label: TargetId,
}

impl Target {
    /// A number made of the label alone: the same in every process and after every restart, for a mark on a dialog's
    /// route. Two labels of one set share a number once in many millions.
    #[must_use]
    pub fn number(&self) -> u32 {
        scramble(fingerprint(self)) as u32
    }
}

impl From<Record> for Target {
    fn from(record: Record) -> Self {
        let label = if record.host.contains(':') {
            format!("[{}]:{}", record.host, record.port)
        } else {
            format!("{}:{}", record.host, record.port)
        };
        Target {
            host: record.host.into(),
            port: record.port,
            priority: record.priority,
            weight: record.weight,
            addresses: record.addresses,
            label: label.into(),
        }
    }
}

impl From<&Target> for Record {
    fn from(target: &Target) -> Self {
        Record {
            priority: target.priority,
            weight: target.weight,
            port: target.port,
            host: target.host.as_ref().to_owned(),
            addresses: target.addresses.clone(),
        }
    }
}

/// Sorts targets into the order they are tried in. `seed` matters for [`Selection::Weighted`] only.
pub fn arrange(targets: &mut [Target], selection: Selection, seed: u64) {
    match selection {
        Selection::HighestWeight => targets
            .sort_by(|a, b| a.priority.cmp(&b.priority).then(b.weight.cmp(&a.weight)).then_with(|| by_name(a, b))),
        Selection::Weighted => targets.sort_by(|a, b| {
            a.priority
                .cmp(&b.priority)
                .then_with(|| arrival(a, seed).total_cmp(&arrival(b, seed)))
                .then_with(|| by_name(a, b))
        }),
    }
}

fn by_name(a: &Target, b: &Target) -> Ordering {
    a.host.cmp(&b.host).then(a.port.cmp(&b.port))
}

/// A target's exponential arrival time at the rate of its weight. Sorting by it is the same as RFC 2782's repeated
/// weighted draw without replacement (the minimum of such times falls to each with its share of the weights), but each
/// target's number depends on itself alone: a target that comes or goes leaves the others' order as it was.
fn arrival(target: &Target, seed: u64) -> f64 {
    // RFC 2782: a record of weight 0 has a very small chance beside others; among records of weight 0 all are equal.
    let rate = if target.weight == 0 { 0.01 } else { f64::from(target.weight) };
    let bits = scramble(seed ^ fingerprint(target)) >> 11;
    let uniform = (bits as f64 + 1.0) / (1u64 << 53) as f64;
    -uniform.ln() / rate
}

/// FNV-1a over the label: the same in every build, unlike the standard library's hashers.
fn fingerprint(target: &Target) -> u64 {
    target
        .label
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The finaliser of SplitMix64: spreads every input bit over all output bits.
fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(priority: u16, weight: u16, host: &str, port: u16) -> Target {
        Record { priority, weight, port, host: host.to_owned(), addresses: Vec::new() }.into()
    }

    fn labels(mut targets: Vec<Target>, selection: Selection, seed: u64) -> Vec<String> {
        arrange(&mut targets, selection, seed);
        targets.iter().map(|t| t.label.to_string()).collect()
    }

    #[test]
    fn priority_beats_weight_and_weight_beats_name() {
        let set = vec![target(20, 500, "a", 1), target(10, 50, "b", 1), target(10, 100, "c", 1)];
        assert_eq!(labels(set, Selection::HighestWeight, 0), ["c:1", "b:1", "a:1"]);
    }

    #[test]
    fn weights_50_and_100_give_all_to_100_whatever_the_seed() {
        for seed in 0..100 {
            let set = vec![target(0, 50, "a", 1), target(0, 100, "b", 1)];
            assert_eq!(labels(set, Selection::HighestWeight, seed)[0], "b:1");
        }
    }

    #[test]
    fn ties_are_broken_by_name_then_port_whatever_order_dns_answers_in() {
        let set = vec![target(0, 0, "b", 2), target(0, 0, "a", 9), target(0, 0, "b", 1)];
        let expected = ["a:9", "b:1", "b:2"];
        let mut reversed = set.clone();
        reversed.reverse();
        assert_eq!(labels(set, Selection::HighestWeight, 0), expected);
        assert_eq!(labels(reversed, Selection::HighestWeight, 0), expected);
    }

    #[test]
    fn the_weighted_draw_is_stable_for_one_set_and_seed() {
        let set = vec![target(0, 1, "a", 1), target(0, 2, "b", 1), target(0, 3, "c", 1), target(0, 0, "d", 1)];
        for seed in 0..100 {
            let mut shuffled = set.clone();
            shuffled.rotate_left((seed % 4) as usize);
            assert_eq!(
                labels(set.clone(), Selection::Weighted, seed),
                labels(shuffled, Selection::Weighted, seed),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn the_weighted_draw_follows_the_weights() {
        let mut first = [0u32; 3];
        for seed in 0..10_000 {
            let order = labels(
                vec![target(0, 30, "a", 1), target(0, 60, "b", 1), target(0, 10, "c", 1)],
                Selection::Weighted,
                seed,
            );
            first[["a:1", "b:1", "c:1"].iter().position(|l| *l == order[0]).unwrap()] += 1;
        }
        for (count, expected) in first.into_iter().zip([3000, 6000, 1000]) {
            assert!(count.abs_diff(expected) < 300, "{first:?}");
        }
    }

    #[test]
    fn weight_zero_is_drawn_seldom_beside_others_and_fairly_among_its_like() {
        let won =
            |set: Vec<Target>| (0..1000).filter(|s| labels(set.clone(), Selection::Weighted, *s)[0] == "a:1").count();
        assert!(won(vec![target(0, 0, "a", 1), target(0, 10, "b", 1)]) < 20);
        assert!((400..600).contains(&won(vec![target(0, 0, "a", 1), target(0, 0, "b", 1)])));
    }

    #[test]
    fn a_target_that_leaves_does_not_disturb_the_draw_of_the_others() {
        let set: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|h| target(0, 10, h, 1)).collect();
        for seed in 0..50 {
            let all = labels(set.clone(), Selection::Weighted, seed);
            let without = labels(set[1..].to_vec(), Selection::Weighted, seed);
            let expected: Vec<_> = all.into_iter().filter(|l| l != "a:1").collect();
            assert_eq!(without, expected);
        }
    }

    #[test]
    fn priority_comes_first_in_the_weighted_order_too() {
        for seed in 0..50 {
            let set = vec![target(2, 60000, "a", 1), target(1, 0, "b", 1)];
            assert_eq!(labels(set, Selection::Weighted, seed), ["b:1", "a:1"]);
        }
    }

    #[test]
    fn the_number_of_a_target_never_changes() {
        // Marks on the routes of existing dialogs carry it: a new release must still know the old one's.
        assert_eq!(target(1, 2, "sip1.example.com", 5060).number(), 3_888_159_064);
        assert_ne!(target(0, 0, "a", 1).number(), target(0, 0, "a", 2).number());
    }

    #[test]
    fn an_address_literal_is_bracketed_in_the_label() {
        assert_eq!(&*target(0, 0, "2001:db8::1", 5060).label, "[2001:db8::1]:5060");
    }
}
