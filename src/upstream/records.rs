//! The records of a DNS answer, and those of them that can be used (RFC 2782).

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most targets of one answer that are used: the first in the order of validation. A hosted PBX publishes two.
pub const MAX_RECORDS: usize = 64;

/// A good answer, in no particular order: one SRV record set, or the addresses of a static outbound proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordSet {
    /// The records.
    pub records: Vec<Record>,
    /// The least lifetime of the SRV record set and of the addresses, as DNS gave it.
    pub ttl: Duration,
    /// Hosts (as in [`Record::host`]) whose addresses could not be asked for this time: silence or SERVFAIL, in contrast
    /// to hosts that have none. What was known of them still holds.
    pub unresolved: Vec<String>,
}

impl RecordSet {
    /// A set all of whose hosts were resolved.
    #[must_use]
    pub fn new(records: Vec<Record>, ttl: Duration) -> Self {
        RecordSet { records, ttl, unresolved: Vec::new() }
    }
}

/// One SRV record with the addresses of its target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Lower is tried first.
    pub priority: u16,
    /// Share within a priority.
    pub weight: u16,
    /// Port of the service. For a static outbound proxy without a port: 0, the transport's default.
    pub port: u16,
    /// The target's name, lower case, without trailing dot; or an address literal.
    pub host: String,
    /// Its addresses, IPv4 before IPv6; empty if it has none.
    pub addresses: Vec<IpAddr>,
}

/// The reason why a lookup brought nothing to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupFailure {
    /// The name does not exist.
    NxDomain,
    /// The name exists without such a record.
    NoData,
    /// The servers could not find out.
    ServFail,
    /// No server answered.
    Timeout,
    /// Anything else: REFUSED, unreachable servers, an answer that cannot be read.
    Error(String),
    /// The only target is `.`: the service is decidedly not available (RFC 2782).
    NoService,
}

impl LookupFailure {
    /// The metric label of `dns_lookups_total{outcome}`. `.` is an answer without data for us.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            LookupFailure::NxDomain => "nxdomain",
            LookupFailure::NoData | LookupFailure::NoService => "nodata",
            LookupFailure::ServFail => "servfail",
            LookupFailure::Timeout => "timeout",
            LookupFailure::Error(_) => "error",
        }
    }
}

impl std::fmt::Display for LookupFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LookupFailure::NxDomain => f.write_str("the name does not exist (NXDOMAIN)"),
            LookupFailure::NoData => f.write_str("the name exists but has no such record (NODATA)"),
            LookupFailure::ServFail => f.write_str("the name servers could not find out (SERVFAIL)"),
            LookupFailure::Timeout => f.write_str("no name server answered in time"),
            LookupFailure::Error(why) => f.write_str(why),
            LookupFailure::NoService => f.write_str("the SRV target is \".\": the service is not offered"),
        }
    }
}

/// The records that passed validation, and the reasons for rejecting the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valid {
    /// Usable records, each `host:port` once, sorted by priority, name and port.
    pub records: Vec<Record>,
    /// One sentence for each record that was rejected.
    pub rejected: Vec<String>,
}

/// Takes `.` and port 0 out and collapses duplicates of one `host:port` (best priority, then highest weight, all addresses).
///
/// Errors: [`LookupFailure::NoService`] if `.` was all there is, [`LookupFailure::NoData`] for an empty answer,
/// [`LookupFailure::Error`] if nothing usable is left.
pub fn validate(records: Vec<Record>) -> Result<Valid, LookupFailure> {
    if records.is_empty() {
        return Err(LookupFailure::NoData);
    }
    let mut kept: Vec<Record> = Vec::with_capacity(records.len());
    let mut rejected = Vec::new();
    let mut dots = 0;
    let total = records.len();
    for mut record in records {
        record.host = record.host.trim_end_matches('.').to_ascii_lowercase();
        if record.host.is_empty() {
            dots += 1;
            continue;
        }
        if record.port == 0 {
            rejected.push(format!("target {} has port 0, where nothing can listen", record.host));
            continue;
        }
        match kept.iter_mut().find(|k| k.host == record.host && k.port == record.port) {
            Some(twin) => collapse(twin, record),
            None => kept.push(record),
        }
    }
    if dots == total {
        return Err(LookupFailure::NoService);
    }
    if dots > 0 {
        rejected.push("target \".\" beside others means nothing (RFC 2782 allows it only alone)".to_owned());
    }
    if kept.is_empty() {
        return Err(LookupFailure::Error(format!("no usable target: {}", rejected.join("; "))));
    }
    kept.sort_by(|a, b| (a.priority, &a.host, a.port).cmp(&(b.priority, &b.host, b.port)));
    if kept.len() > MAX_RECORDS {
        rejected.push(format!("{} targets beyond the first {MAX_RECORDS}", kept.len() - MAX_RECORDS));
        kept.truncate(MAX_RECORDS);
    }
    Ok(Valid { records: kept, rejected })
}

fn collapse(twin: &mut Record, other: Record) {
    let better = (other.priority, std::cmp::Reverse(other.weight)) < (twin.priority, std::cmp::Reverse(twin.weight));
    if better {
        twin.priority = other.priority;
        twin.weight = other.weight;
    }
    for address in other.addresses {
        if !twin.addresses.contains(&address) {
            twin.addresses.push(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, port: u16, host: &str) -> Record {
        Record { priority, weight, port, host: host.to_owned(), addresses: vec![[192, 0, 2, 1].into()] }
    }

    #[test]
    fn a_lone_dot_means_no_service() {
        assert_eq!(validate(vec![record(0, 0, 0, ".")]), Err(LookupFailure::NoService));
        assert_eq!(validate(vec![record(0, 0, 0, "")]), Err(LookupFailure::NoService));
        assert_eq!(LookupFailure::NoService.label(), "nodata");
    }

    #[test]
    fn a_dot_beside_others_is_ignored() {
        let valid = validate(vec![record(0, 0, 0, "."), record(1, 0, 5060, "a.example.com")]).unwrap();
        assert_eq!(valid.records.len(), 1);
        assert_eq!(valid.rejected.len(), 1);
    }

    #[test]
    fn port_zero_is_rejected() {
        let valid = validate(vec![record(0, 0, 0, "a.example.com"), record(1, 0, 5060, "b.example.com")]).unwrap();
        assert_eq!(valid.records, vec![record(1, 0, 5060, "b.example.com")]);
        assert!(valid.rejected[0].contains("port 0"));
        assert!(matches!(validate(vec![record(0, 0, 0, "a.example.com")]), Err(LookupFailure::Error(_))));
    }

    #[test]
    fn duplicates_collapse_and_case_and_dot_do_not_matter() {
        let mut twin = record(5, 10, 5060, "A.Example.com.");
        twin.addresses = vec![[192, 0, 2, 2].into()];
        let valid = validate(vec![record(10, 90, 5060, "a.example.com"), twin]).unwrap();
        let expected = Record {
            addresses: vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()],
            ..record(5, 10, 5060, "a.example.com")
        };
        assert_eq!(valid.records, vec![expected]);
    }

    #[test]
    fn one_host_with_two_ports_is_two_targets() {
        let valid = validate(vec![record(0, 0, 5060, "a.example.com"), record(0, 0, 5070, "a.example.com")]).unwrap();
        assert_eq!(valid.records.len(), 2);
    }

    #[test]
    fn an_absurd_answer_is_cut() {
        let records = (1..=100).map(|port| record(0, 0, port, "a.example.com")).collect();
        let valid = validate(records).unwrap();
        assert_eq!(valid.records.len(), MAX_RECORDS);
        assert!(valid.rejected[0].contains("36 targets"));
    }
}
