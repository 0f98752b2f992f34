//! Several name servers, each asked by itself, and where they disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tokio::task::JoinSet;

use super::findings::Findings;
use super::plain::plain;
use super::report::ServerLook;
use crate::dns::{Resolver, SrvSurvey};
use crate::upstream::LookupFailure;
use crate::upstream::records::MAX_RECORDS;

/// Asks each server for the record set and its targets' addresses, side by side. `known`: what they said together, so that
/// no server need be asked for hosts it does not name. At most two questions' time.
pub(super) async fn ask_each(servers: &[SocketAddr], name: &str, known: Option<&SrvSurvey>) -> Vec<ServerLook> {
    let known: Vec<String> = hosts(known);
    let mut asking = JoinSet::new();
    for (place, server) in servers.iter().copied().enumerate() {
        let (name, known) = (name.to_owned(), known.clone());
        asking.spawn(async move { (place, ask(server, name, known).await) });
    }
    let mut looks = asking.join_all().await;
    looks.sort_by_key(|(place, _)| *place);
    looks.into_iter().map(|(_, look)| look).collect()
}

async fn ask(server: SocketAddr, name: String, known: Vec<String>) -> ServerLook {
    let resolver = Resolver::new(&[server]);
    let survey = resolver.survey_srv(&name).await;
    let named: BTreeSet<String> = hosts(survey.as_ref().ok()).into_iter().chain(known).collect();
    let mut addresses = BTreeMap::new();
    if survey.is_ok() {
        let mut asking = JoinSet::new();
        for host in named.into_iter().take(MAX_RECORDS) {
            let resolver = resolver.clone();
            asking.spawn(async move { (plain(&host), resolver.survey_host(&host).await) });
        }
        for (host, found) in asking.join_all().await {
            let mut found: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
            found.sort();
            addresses.insert(host, found);
        }
    }
    let mut records: Vec<String> = survey.iter().flat_map(|survey| &survey.records).map(row).collect();
    records.sort();
    let outcome = survey.as_ref().map_or_else(LookupFailure::label, |_| "ok").to_owned();
    ServerLook { server: server.to_string(), name: plain(&name), outcome, records, addresses }
}

fn hosts(survey: Option<&SrvSurvey>) -> Vec<String> {
    let all: BTreeSet<&str> =
        survey.iter().flat_map(|survey| &survey.records).map(|r| r.host.as_str()).filter(|h| !h.is_empty()).collect();
    all.into_iter().take(MAX_RECORDS).map(str::to_owned).collect()
}

fn row(record: &crate::upstream::Record) -> String {
    let host = if record.host.is_empty() { "." } else { record.host.as_str() };
    format!("{} {} {} {}", record.priority, record.weight, record.port, plain(host))
}

/// One finding for each server that says something else than the first.
pub(super) fn disagreements(looks: &[ServerLook], findings: &mut Findings) {
    let Some((first, others)) = looks.split_first() else { return };
    for other in others {
        if let Some(difference) = difference(first, other) {
            let text = format!("name servers disagree about {}: {difference}", first.name);
            findings.warning("resolvers_disagree", other.server.clone(), text);
        }
    }
}

fn difference(first: &ServerLook, other: &ServerLook) -> Option<String> {
    if first.outcome != other.outcome {
        return Some(format!(
            "{} says {}, {} says {}",
            first.server,
            said(&first.outcome),
            other.server,
            said(&other.outcome)
        ));
    }
    let only = |a: &ServerLook, b: &ServerLook| -> Vec<String> {
        a.records.iter().filter(|record| !b.records.contains(record)).cloned().collect()
    };
    let (gone, new) = (only(first, other), only(other, first));
    if !gone.is_empty() || !new.is_empty() {
        let list = |server: &ServerLook, records: &[String]| match records {
            [] => format!("{} has nothing more", server.server),
            _ => format!("only {} has [{}]", server.server, records.join("; ")),
        };
        return Some(format!("{}, {}", list(first, &gone), list(other, &new)));
    }
    let (host, addresses) = first.addresses.iter().find(|(host, found)| other.addresses.get(*host) != Some(found))?;
    let others = other.addresses.get(host).cloned().unwrap_or_default();
    let list = |found: &[String]| if found.is_empty() { "no address".to_owned() } else { found.join(", ") };
    Some(format!("{host} is {} for {}, {} for {}", list(addresses), first.server, list(&others), other.server))
}

fn said(outcome: &str) -> &str {
    match outcome {
        "ok" => "that it is there",
        "nxdomain" => "NXDOMAIN",
        "nodata" => "that there is no such record",
        "servfail" => "SERVFAIL",
        "timeout" => "nothing",
        other => other,
    }
}
