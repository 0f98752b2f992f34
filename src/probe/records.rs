//! A record set as Holdline would use it: which records, in which order, and what is odd about them.

use std::collections::BTreeMap;

use super::findings::Findings;
use super::plain::plain;
use super::report::{RecordLook, State, TargetLook};
use crate::dns::{HostSurvey, SrvSurvey};
use crate::flow::Transport;
use crate::upstream::order::arrange;
use crate::upstream::records::{MAX_RECORDS, validate};
use crate::upstream::{LookupFailure, MAX_TTL, MIN_TTL, Record, Selection, Target};

/// A TTL below this many seconds is reported as short, above the other as long.
const SHORT_TTL: u64 = 30;
const LONG_TTL: u64 = 86_400;

/// What is known of each host.
pub(super) type Hosts = BTreeMap<String, HostSurvey>;

/// The record set of an SRV name. `transport`: what it is used over, if Holdline can.
pub(super) fn srv(
    (name, domain): (&str, &str),
    transport: Option<Transport>,
    survey: &SrvSurvey,
    hosts: &Hosts,
    findings: &mut Findings,
) -> RecordLook {
    let ordered = in_order(survey, hosts);
    let mut targets: Vec<TargetLook> = Vec::new();
    for (place, target) in ordered.iter().enumerate() {
        targets.push(look(target, Some(place as u32 + 1), share(target, &ordered), hosts));
    }
    rejected(survey, &ordered, &mut targets, findings);
    if transport.is_some()
        && let Some(first) = targets.first_mut()
    {
        first.selected = first.order.is_some();
    }
    let look = RecordLook {
        name: plain(name),
        domain: Some(domain.to_owned()),
        transport,
        ttl: Some(survey.ttl.as_secs()),
        authoritative: survey.authoritative,
        alias: survey.alias.as_deref().map(plain),
        why: why(&targets),
        targets,
    };
    shape(&look, findings);
    addresses(&look, hosts, findings);
    look
}

/// A host as a set of one, at this port.
pub(super) fn outbound_proxy(host: &str, port: u16, transport: Transport, survey: &HostSurvey) -> RecordLook {
    let record = Record { port, host: host.to_owned(), addresses: survey.addresses.clone(), ..Record::default() };
    let hosts = Hosts::from([(host.to_owned(), survey.clone())]);
    let target = TargetLook { selected: true, ..look(&record.into(), Some(1), 100.0, &hosts) };
    RecordLook {
        name: target.label(),
        domain: None,
        transport: Some(transport),
        ttl: None,
        authoritative: false,
        alias: None,
        why: format!("{} is the only target: there is nothing to fail over to.", target.label()),
        targets: vec![target],
    }
}

/// What `holdline run` would make of the answer, by the same code.
fn in_order(survey: &SrvSurvey, hosts: &Hosts) -> Vec<Target> {
    let with_addresses = survey.records.iter().cloned().map(|mut record| {
        record.addresses = hosts.get(&record.host).map(|host| host.addresses.clone()).unwrap_or_default();
        record
    });
    let valid = validate(with_addresses.collect());
    let mut targets: Vec<Target> =
        valid.map(|valid| valid.records).unwrap_or_default().into_iter().map(Target::from).collect();
    arrange(&mut targets, Selection::HighestWeight, 0);
    targets
}

fn look(target: &Target, order: Option<u32>, share: f64, hosts: &Hosts) -> TargetLook {
    let host = hosts.get(target.host.as_ref());
    TargetLook {
        order,
        selected: false,
        priority: target.priority,
        weight: target.weight,
        share_percent: order.map(|_| share),
        port: target.port,
        host: plain(&target.host),
        alias: host.and_then(|host| host.alias.as_deref().map(plain)),
        address_ttl: host.filter(|host| !host.addresses.is_empty()).map(|host| host.ttl.as_secs()),
        state: State::NotMeasured,
        summary: String::new(),
        addresses: Vec::new(),
    }
}

/// RFC 2782's share of new clients within the priority, in percent with one decimal.
fn share(target: &Target, all: &[Target]) -> f64 {
    let peers: Vec<&Target> = all.iter().filter(|other| other.priority == target.priority).collect();
    let sum: f64 = peers.iter().map(|peer| f64::from(peer.weight)).sum();
    let share = if sum == 0.0 { 1.0 / peers.len() as f64 } else { f64::from(target.weight) / sum };
    (share * 1000.0).round() / 10.0
}

/// The records that are not used, appended, each with its reason.
fn rejected(survey: &SrvSurvey, used: &[Target], targets: &mut Vec<TargetLook>, findings: &mut Findings) {
    let mut seen: Vec<(&str, u16)> = Vec::new();
    let dots = survey.records.iter().filter(|record| record.host.is_empty()).count();
    for record in &survey.records {
        let host = if record.host.is_empty() { "." } else { record.host.as_str() };
        let key = (host, record.port);
        let reason = if host == "." {
            "no service"
        } else if record.port == 0 {
            findings.worse(
                used.is_empty(),
                "port_zero",
                plain(host),
                "has port 0, where nothing can listen: it is left out",
            );
            "port 0"
        } else if seen.contains(&key) {
            let text = "is published more than once: Holdline takes the best priority and weight, and counts it once";
            findings.warning("duplicate", format!("{}:{}", plain(host), record.port), text);
            "duplicate"
        } else if seen.len() >= MAX_RECORDS {
            "beyond 64"
        } else {
            seen.push(key);
            continue;
        };
        let mut look =
            look(&Target::from(Record { host: host.to_owned(), ..record.clone() }), None, 0.0, &Hosts::new());
        reason.clone_into(&mut look.summary);
        look.state = State::Fails;
        targets.push(look);
    }
    if dots > 0 && used.is_empty() && dots == survey.records.len() {
        let text = "its only target is \".\": the provider says that this service is not offered (RFC 2782)";
        findings.error("no_service", None, text);
    } else if dots > 0 {
        findings.warning(
            "dot_beside_others",
            None,
            "a target \".\" beside others means nothing (RFC 2782): it is left out",
        );
    }
    if survey.records.len() > MAX_RECORDS {
        findings.warning("too_many", None, format!("only the first {MAX_RECORDS} targets are used"));
    }
}

/// What the set as a whole is like.
fn shape(look: &RecordLook, findings: &mut Findings) {
    let usable: Vec<&TargetLook> = look.usable().collect();
    if let [only] = usable[..] {
        findings.warning("single_target", only.label(), "is the only target: no failover is possible");
    }
    if let Some(alias) = &look.alias {
        findings.note("srv_alias", look.name.clone(), format!("is an alias of {alias}; Holdline follows it"));
    }
    let Some(ttl) = look.ttl.filter(|_| !usable.is_empty()) else { return };
    if ttl < SHORT_TTL {
        let text = format!(
            "the TTL is very short ({ttl} s): every instance asks again that often{}",
            if ttl < MIN_TTL.as_secs() { ", Holdline not before 5 s" } else { "" }
        );
        if look.authoritative {
            findings.warning("ttl_short", None, text);
        } else {
            findings.note("ttl_short", None, format!("{text}; a cache may just be about to ask again"));
        }
    } else if ttl > LONG_TTL {
        let text = format!(
            "the TTL is very long ({} h): a change of the record takes that long to reach everybody; Holdline asks again after {} h \
             but may be told what a cache still holds",
            ttl / 3600,
            MAX_TTL.as_secs() / 3600
        );
        findings.warning("ttl_long", None, text);
    }
}

/// What is odd about the targets' addresses.
fn addresses(look: &RecordLook, hosts: &Hosts, findings: &mut Findings) {
    let usable: Vec<&TargetLook> = look.usable().collect();
    let found = |target: &TargetLook| hosts.iter().find(|(host, _)| plain(host) == target.host).map(|(_, found)| found);
    let all_without = usable.iter().all(|t| found(t).is_none_or(|found| found.addresses.is_empty()));
    let mut owners: BTreeMap<(std::net::IpAddr, u16), Vec<String>> = BTreeMap::new();
    for target in usable {
        let Some(found) = found(target) else { continue };
        if let Some(alias) = &target.alias {
            let text = format!(
                "is an alias (CNAME) of {alias}, which RFC 2782 forbids for a target; Holdline follows it, others may not"
            );
            findings.warning("target_alias", target.label(), text);
        }
        for address in &found.addresses {
            owners.entry((*address, target.port)).or_default().push(target.label());
        }
        let Some(failure) = found.failure.as_ref().filter(|_| found.addresses.is_empty()) else { continue };
        let (code, text) = match failure {
            LookupFailure::NxDomain => {
                ("target_no_address", "has no address: the name does not exist (NXDOMAIN)".to_owned())
            }
            LookupFailure::NoData | LookupFailure::NoService => {
                ("target_no_address", "has no address: the name exists without A or AAAA record".to_owned())
            }
            LookupFailure::ServFail => ("target_unresolved", "its address cannot be found out (SERVFAIL)".to_owned()),
            LookupFailure::Timeout => {
                ("target_unresolved", "its address cannot be found out: no name server answered".to_owned())
            }
            LookupFailure::Error(why) => {
                ("target_unresolved", format!("its address cannot be found out: {}", plain(why)))
            }
        };
        findings.worse(all_without, code, target.label(), text);
    }
    for ((address, _), labels) in owners.into_iter().filter(|(_, labels)| labels.len() > 1) {
        let text = format!("share the address {address}: moving from one to the other changes nothing");
        findings.add_about("same_address", labels, text);
    }
}

/// Why the first is the first, and what both orders mean here.
fn why(targets: &[TargetLook]) -> String {
    let usable: Vec<&TargetLook> = targets.iter().filter(|target| target.order.is_some()).collect();
    let Some(first) = usable.first() else { return "There is no target that Holdline could select.".to_owned() };
    let label = first.label();
    if usable.len() == 1 {
        return format!("Holdline would select {label}: it is the only target.");
    }
    let peers: Vec<&&TargetLook> = usable.iter().filter(|target| target.priority == first.priority).collect();
    let reason = if peers.len() == 1 {
        format!("it alone has the lowest priority ({})", first.priority)
    } else if peers.iter().filter(|peer| peer.weight == first.weight).count() > 1 {
        format!(
            "of the lowest priority ({}) it has the highest weight ({}), which it shares with others; ties go by name and port",
            first.priority, first.weight
        )
    } else {
        format!("of the lowest priority ({}) it has the highest weight ({})", first.priority, first.weight)
    };
    format!(
        "Holdline would select {label}: {reason}. It keeps all requests until three REGISTERs in a row have failed; {} is next.",
        usable[1].label()
    )
}

/// Both orders in words, for people.
#[must_use]
pub fn orders(look: &RecordLook) -> Vec<String> {
    let usable: Vec<&TargetLook> = look.usable().collect();
    if usable.len() < 2 {
        return Vec::new();
    }
    let mut orders = vec![
        "Holdline's order (selection = \"highest-weight\", the default) is that of the table: priority, then highest weight, then \
         name. It is the same on every instance; weights only rank."
            .to_owned(),
    ];
    let top = usable[0].priority;
    let peers: Vec<&&TargetLook> = usable.iter().filter(|target| target.priority == top).collect();
    let shares: Vec<String> = peers
        .iter()
        .map(|peer| format!("{} {}", peer.label(), percent(peer.share_percent.unwrap_or_default())))
        .collect();
    orders.push(if peers.len() == 1 {
        format!(
            "RFC 2782's order (selection = \"weighted\") begins with {} too: priority comes before weight, and priority {top} has one \
             target.",
            usable[0].label()
        )
    } else {
        format!(
            "RFC 2782's order (selection = \"weighted\") is drawn by weight: over many instances, priority {top} is shared {}.",
            shares.join(", ")
        )
    });
    orders
}

/// `60 %`, `<1 %`, `33.3 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    if share == 0.0 {
        "0 %".to_owned()
    } else if share < 1.0 {
        "<1 %".to_owned()
    } else if (share - share.round()).abs() < 0.05 {
        format!("{share:.0} %")
    } else {
        format!("{share:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn survey(records: &[(u16, u16, u16, &str)], ttl: u64) -> (SrvSurvey, Hosts) {
        let record = |(priority, weight, port, host): &(u16, u16, u16, &str)| Record {
            priority: *priority,
            weight: *weight,
            port: *port,
            host: (*host).to_owned(),
            addresses: Vec::new(),
        };
        let mut hosts = Hosts::new();
        for (n, (_, _, _, host)) in records.iter().enumerate() {
            hosts.entry((*host).to_owned()).or_insert(HostSurvey {
                addresses: vec![[192, 0, 2, n as u8].into()],
                ttl: Duration::from_secs(60),
                alias: None,
                failure: None,
            });
        }
        let records = records.iter().map(record).collect();
        (SrvSurvey { records, ttl: Duration::from_secs(ttl), alias: None, authoritative: true }, hosts)
    }

    fn looked(records: &[(u16, u16, u16, &str)], ttl: u64) -> (RecordLook, Vec<String>) {
        let (survey, hosts) = survey(records, ttl);
        let mut findings = Findings::default();
        let name = ("_sip._udp.pbx.example", "pbx.example");
        let look = srv(name, Some(Transport::Udp), &survey, &hosts, &mut findings);
        (look, findings.sorted().into_iter().map(|finding| finding.code).collect())
    }

    #[test]
    fn order_share_and_selection() {
        let (look, codes) = looked(&[(20, 0, 1, "d"), (10, 30, 1, "b"), (10, 60, 1, "a"), (10, 1, 1, "c")], 300);
        let table: Vec<_> = look
            .targets
            .iter()
            .map(|t| (t.order.unwrap(), t.selected, t.host.as_str(), t.share_percent.unwrap()))
            .collect();
        assert_eq!(table, [(1, true, "a", 65.9), (2, false, "b", 33.0), (3, false, "c", 1.1), (4, false, "d", 100.0)]);
        assert!(look.why.contains("a:1: of the lowest priority (10) it has the highest weight (60)"), "{}", look.why);
        assert!(look.why.contains("b:1 is next"), "{}", look.why);
        assert_eq!(codes, [""; 0]);
        let orders = orders(&look);
        assert!(orders[0].contains("highest weight, then name"), "{orders:?}");
        assert!(orders[1].contains("a:1 65.9 %, b:1 33 %, c:1 1.1 %"), "{orders:?}");
    }

    #[test]
    fn what_cannot_be_used_is_listed_last_with_its_reason() {
        let (look, codes) =
            looked(&[(1, 0, 0, "zero"), (1, 0, 5, "a"), (2, 9, 5, "a"), (3, 0, 5, ""), (4, 0, 5, "b")], 300);
        let table: Vec<_> = look.targets.iter().map(|t| (t.order, t.host.as_str(), t.summary.as_str())).collect();
        assert_eq!(
            table,
            [
                (Some(1), "a", ""),
                (Some(2), "b", ""),
                (None, "zero", "port 0"),
                (None, "a", "duplicate"),
                (None, ".", "no service")
            ]
        );
        assert_eq!(codes, ["port_zero", "duplicate", "dot_beside_others"]);
    }

    #[test]
    fn odd_shapes_have_their_codes() {
        assert_eq!(looked(&[(1, 0, 5, "a")], 300).1, ["single_target"]);
        assert_eq!(looked(&[(1, 0, 5, "")], 300).1, ["no_service"]);
        assert_eq!(looked(&[(1, 0, 5, "a"), (2, 0, 5, "b")], 3).1, ["ttl_short"]);
        assert_eq!(looked(&[(1, 0, 5, "a"), (2, 0, 5, "b")], 604_800).1, ["ttl_long"]);
        assert_eq!(looked(&[(1, 0, 5, "a"), (2, 0, 5, "b")], 86_400).1, [""; 0]);
    }

    #[test]
    fn targets_without_weights_share_equally() {
        let (look, _) = looked(&[(1, 0, 5, "b"), (1, 0, 5, "a"), (1, 0, 5, "c")], 300);
        assert!(look.targets.iter().all(|t| t.share_percent == Some(33.3)));
        assert!(look.why.contains("ties go by name"), "{}", look.why);
        assert_eq!(
            (percent(33.3), percent(0.0), percent(0.4), percent(60.0)),
            ("33.3 %".into(), "0 %".into(), "<1 %".into(), "60 %".into())
        );
    }
}
