//! DNS: a question to hickory, records and their lifetime back.
//!
//! - The question is the configured name, verbatim (its letters in mixed case) and absolute: no search list, no `ndots`, no derived names. hickory's
//!   `Resolver` is left out for that reason: its cache would hide refreshes, and its idea of an alias in front of an SRV
//!   record asks for the SRV record of the *target*. Its name-server connections are used as they are.
//! - Answers are not sorted here; the order of targets is [`upstream::order`](crate::upstream::order)'s.
//! - Addresses of targets are asked for one by one, A and AAAA side by side. Those of the additional section serve only where
//!   that fails: such a section may be there in part. IPv4 comes before IPv6, as nobody here knows whether IPv6 works.
//! - `/etc/hosts` is believed first, as everywhere else on the machine; an address literal is never asked for.
//! - Bounded: a question takes at most [`QUESTION`], a lookup two in a row.
//!
//! `ask` asks one question of several servers, `server` one of them, in a manner that it bears; `system` reads
//! `/etc/resolv.conf`; `survey` asks for all there is to know.

mod ask;
mod failures;
mod server;
mod survey;
mod system;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::Hosts;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use ask::QUESTION;
use ask::{Answer, Servers};
pub use survey::{HostSurvey, Naptr, SrvSurvey};
use system::System;

use crate::upstream::{LookupFailure, Record, RecordSet, Source};

/// Lifetime of what was never asked for: address literals.
const LITERAL_TTL: Duration = Duration::from_secs(3600);
/// Lifetime of `/etc/hosts` entries, which say none.
const HOSTS_TTL: Duration = Duration::from_secs(60);
/// While some target lacks addresses the whole is asked for again after this at the latest.
const INCOMPLETE_TTL: Duration = Duration::from_secs(30);
/// The SRV names a SIP host may publish, in the order they are looked for to give a hint.
const HINTS: [&str; 4] = ["_sip._udp", "_sip._tcp", "_sips._tcp", "_sip._tls"];

/// One question that was asked, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// `srv`, `a`, `aaaa`; `naptr` only of a survey.
    pub record: &'static str,
    /// `ok`, or the failure's [`LookupFailure::label`].
    pub outcome: &'static str,
    /// How long it took, retries included.
    pub took: Duration,
}

/// Asks the configured name servers, or the system's. Clones share connections.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    servers: Origin,
    hosts: Hosts,
    observer: Box<dyn Fn(Asked) + Send + Sync>,
}

enum Origin {
    Configured(Result<Arc<Servers>, LookupFailure>),
    System(System),
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.servers {
            Origin::Configured(servers) => f.debug_tuple("Resolver").field(servers).finish(),
            Origin::System(system) => f.debug_tuple("Resolver").field(system).finish(),
        }
    }
}

impl Resolver {
    /// A resolver for these name servers; the system's (`/etc/resolv.conf`, read anew for each lookup) if there are none.
    #[must_use]
    pub fn new(nameservers: &[SocketAddr]) -> Self {
        Resolver::observed(nameservers, |_| {})
    }

    /// As [`Resolver::new`]; `observer` is told of every question once it is answered or given up.
    #[must_use]
    pub fn observed(nameservers: &[SocketAddr], observer: impl Fn(Asked) + Send + Sync + 'static) -> Self {
        let servers = if nameservers.is_empty() {
            Origin::System(System::new(Path::new("/etc/resolv.conf"), 53))
        } else {
            Origin::Configured(Servers::new(nameservers).map(Arc::new))
        };
        Resolver::over(servers, Hosts::from_system().unwrap_or_default(), Box::new(observer))
    }

    /// A resolver for the name servers that a file in the form of `/etc/resolv.conf` lists, at another port than 53: a test
    /// cannot have that one.
    #[doc(hidden)]
    #[must_use]
    pub fn from_resolv_conf(path: &Path, port: u16) -> Self {
        Resolver::over(Origin::System(System::new(path, port)), Hosts::default(), Box::new(|_| {}))
    }

    fn over(servers: Origin, hosts: Hosts, observer: Box<dyn Fn(Asked) + Send + Sync>) -> Self {
        Resolver(Arc::new(Inner { servers, hosts, observer }))
    }

    /// Looks the source up, addresses of its targets included. At most twice [`QUESTION`].
    ///
    /// For a static outbound proxy the one record has priority and weight 0, and port 0 where none was configured.
    pub async fn lookup(&self, source: &Source) -> Result<RecordSet, LookupFailure> {
        match source {
            Source::Srv { name } => self.srv(name).await,
            Source::Static { host, port } => self.host(host, port.unwrap_or(0)).await,
        }
    }

    /// The name servers that are asked now, in their order; none where they cannot be found out.
    #[must_use]
    pub fn nameservers(&self) -> Vec<SocketAddr> {
        let servers = match &self.0.servers {
            Origin::Configured(servers) => servers.clone(),
            Origin::System(system) => system.servers(),
        };
        servers.map(|servers| servers.addresses().to_vec()).unwrap_or_default()
    }

    /// Whether a host (of a static outbound proxy) publishes SRV records: the first such name.
    pub async fn srv_hint(&self, host: &str) -> Option<String> {
        if host.parse::<IpAddr>().is_ok() {
            return None;
        }
        let mut asking = JoinSet::new();
        for (place, labels) in HINTS.into_iter().enumerate() {
            let (resolver, name) = (self.clone(), format!("{labels}.{host}"));
            asking.spawn(async move {
                let answer = resolver.ask(&absolute(&name).ok()?, RecordType::SRV).await.ok()?;
                let offered = |data: &RData| matches!(data, RData::SRV(srv) if !srv.target.is_root());
                answer.records.iter().any(offered).then_some((place, name))
            });
        }
        let published: Vec<(usize, String)> = asking.join_all().await.into_iter().flatten().collect();
        published.into_iter().min().map(|(_, name)| name)
    }

    async fn srv(&self, name: &str) -> Result<RecordSet, LookupFailure> {
        let answer = self.ask(&absolute(name)?, RecordType::SRV).await?;
        let mut records: Vec<Record> = Vec::with_capacity(answer.records.len());
        for data in &answer.records {
            let RData::SRV(srv) = data else { continue };
            records.push(Record {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                host: host_name(&srv.target),
                addresses: Vec::new(),
            });
        }
        if records.iter().all(|record| record.host.is_empty()) {
            return Err(LookupFailure::NoService);
        }
        let mut set = RecordSet { records, ttl: answer.ttl, unresolved: Vec::new() };
        let found = self.addresses_of_all(&set.records).await;
        for record in &mut set.records {
            if let Some(found) = found.get(&record.host) {
                record.addresses.clone_from(&found.addresses);
            }
        }
        for (host, mut found) in found {
            if found.unresolved {
                // Second best: what came along with the SRV records.
                found.addresses.extend(answer.addresses_along(&host));
                for record in set.records.iter_mut().filter(|r| r.host == host && r.addresses.is_empty()) {
                    record.addresses.clone_from(&found.addresses);
                }
                set.unresolved.push(host);
            }
            set.ttl = set.ttl.min(found.ttl);
        }
        Ok(set)
    }

    async fn host(&self, host: &str, port: u16) -> Result<RecordSet, LookupFailure> {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let found = self.addresses(&name).await;
        if found.addresses.is_empty() {
            return Err(found.failure.unwrap_or(LookupFailure::NoData));
        }
        let unresolved = if found.unresolved { vec![name.clone()] } else { Vec::new() };
        let record = Record { port, host: name, addresses: found.addresses, ..Record::default() };
        Ok(RecordSet { records: vec![record], ttl: found.ttl, unresolved })
    }

    /// The addresses of every different host, side by side.
    async fn addresses_of_all(&self, records: &[Record]) -> HashMap<String, Found> {
        let mut asking = JoinSet::new();
        let mut hosts: Vec<&str> = records.iter().map(|r| r.host.as_str()).filter(|h| !h.is_empty()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        // More targets than are ever used need no addresses.
        for host in hosts.into_iter().take(crate::upstream::records::MAX_RECORDS) {
            let (resolver, host) = (self.clone(), host.to_owned());
            asking.spawn(async move {
                let found = resolver.addresses(&host).await;
                (host, found)
            });
        }
        asking.join_all().await.into_iter().collect()
    }

    async fn addresses(&self, host: &str) -> Found {
        if let Ok(literal) = host.parse::<IpAddr>() {
            return Found::known(vec![literal], LITERAL_TTL);
        }
        let name = match absolute(host) {
            Ok(name) => name,
            Err(failure) => return Found::nothing(failure),
        };
        let local = self.in_hosts(&name);
        if !local.is_empty() {
            return Found::known(local, HOSTS_TTL);
        }
        let (v4, v6) = tokio::join!(self.ask(&name, RecordType::A), self.ask(&name, RecordType::AAAA));
        Found::of(v4, v6)
    }

    fn in_hosts(&self, name: &Name) -> Vec<IpAddr> {
        let lookup = |kind| self.0.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let mut found: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(lookup)
            .flat_map(|lookup| lookup.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>())
            .collect();
        if found.is_empty() && name.iter().next_back().is_some_and(|label| label.eq_ignore_ascii_case(b"localhost")) {
            // RFC 6761 §6.3: never asked for.
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        found
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Answer, LookupFailure> {
        let started = Instant::now();
        let answer = match &self.0.servers {
            Origin::Configured(servers) => servers.clone(),
            Origin::System(system) => system.servers(),
        };
        let answer = match answer {
            Ok(servers) => servers.ask(name, kind).await,
            Err(failure) => Err(failure),
        };
        let record = match kind {
            RecordType::SRV => "srv",
            RecordType::AAAA => "aaaa",
            RecordType::NAPTR => "naptr",
            _ => "a",
        };
        let outcome = answer.as_ref().map_or_else(LookupFailure::label, |_| "ok");
        tracing::debug!(%name, record, outcome, "DNS question");
        (self.0.observer)(Asked { record, outcome, took: started.elapsed() });
        answer
    }
}

/// What is known of one host's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// IPv4 before IPv6.
    addresses: Vec<IpAddr>,
    ttl: Duration,
    /// Silence or SERVFAIL kept the whole truth away.
    unresolved: bool,
    /// Why there is none, if there is none.
    failure: Option<LookupFailure>,
    /// What the host is an alias of.
    alias: Option<String>,
}

impl Found {
    fn known(addresses: Vec<IpAddr>, ttl: Duration) -> Self {
        Found { addresses, ttl, unresolved: false, failure: None, alias: None }
    }

    fn nothing(failure: LookupFailure) -> Self {
        let unresolved = is_passing(&failure);
        Found { addresses: Vec::new(), ttl: INCOMPLETE_TTL, unresolved, failure: Some(failure), alias: None }
    }

    /// The answers to the questions for A and AAAA put together.
    fn of(v4: Result<Answer, LookupFailure>, v6: Result<Answer, LookupFailure>) -> Self {
        let ips = |answer: Answer| -> Vec<IpAddr> { answer.records.iter().filter_map(RData::ip_addr).collect() };
        let alias = [&v4, &v6].into_iter().flatten().find_map(|answer| answer.alias.as_ref().map(host_name));
        let found = match (v4, v6) {
            (Ok(v4), Ok(v6)) => {
                let ttl = v4.ttl.min(v6.ttl);
                let mut addresses = ips(v4);
                addresses.extend(ips(v6));
                Found::known(addresses, ttl)
            }
            // No matter why there is no AAAA: servers that stumble over the question are common.
            (Ok(v4), Err(_)) => Found { ttl: v4.ttl, ..Found::known(ips(v4), Duration::ZERO) },
            (Err(failure), Ok(v6)) => {
                let unresolved = is_passing(&failure);
                let ttl = if unresolved { v6.ttl.min(INCOMPLETE_TTL) } else { v6.ttl };
                Found { unresolved, ..Found::known(ips(v6), ttl) }
            }
            (Err(v4), Err(v6)) => match (is_passing(&v4), is_passing(&v6)) {
                (false, true) => Found::nothing(v6),
                (true, _) | (false, false) => Found::nothing(v4),
            },
        };
        Found { alias, ..found }
    }
}

/// True where another try may bring what this one did not; false where the servers know that there is nothing.
fn is_passing(failure: &LookupFailure) -> bool {
    match failure {
        LookupFailure::NxDomain | LookupFailure::NoData | LookupFailure::NoService => false,
        LookupFailure::ServFail | LookupFailure::Timeout | LookupFailure::Error(_) => true,
    }
}

/// The name as written, made absolute.
fn absolute(name: &str) -> Result<Name, LookupFailure> {
    // The library's error repeats the label with its escapes undone.
    let why = |error: &dyn fmt::Display| format!("{name} is not a DNS name: {}", error.to_string().escape_debug());
    let mut name = Name::from_ascii(name).map_err(|error| LookupFailure::Error(why(&error)))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Lower case, without the trailing dot; empty for the root.
fn host_name(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str], ttl: u64) -> Answer {
        Answer {
            records: addresses.iter().map(|a| RData::from(a.parse::<IpAddr>().unwrap())).collect(),
            ttl: Duration::from_secs(ttl),
            along: Vec::new(),
            alias: None,
            authoritative: true,
        }
    }

    #[test]
    fn ipv4_comes_first_and_the_shorter_lifetime_counts() {
        let found = Found::of(Ok(answer(&["192.0.2.1"], 60)), Ok(answer(&["2001:db8::1"], 20)));
        assert_eq!(found.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert_eq!((found.ttl, found.unresolved), (Duration::from_secs(20), false));
    }

    #[test]
    fn a_server_that_stumbles_over_aaaa_does_no_harm() {
        for failure in [LookupFailure::ServFail, LookupFailure::Timeout, LookupFailure::NoData] {
            let found = Found::of(Ok(answer(&["192.0.2.1"], 60)), Err(failure));
            assert_eq!((found.ttl, found.unresolved, found.failure), (Duration::from_secs(60), false, None));
        }
    }

    #[test]
    fn no_address_and_no_answer_are_told_apart() {
        let none = Found::of(Err(LookupFailure::NoData), Err(LookupFailure::NoData));
        assert_eq!((none.unresolved, none.failure), (false, Some(LookupFailure::NoData)));
        let silent = Found::of(Err(LookupFailure::Timeout), Err(LookupFailure::NoData));
        assert_eq!((silent.unresolved, silent.failure), (true, Some(LookupFailure::Timeout)));
        let half = Found::of(Err(LookupFailure::Timeout), Ok(answer(&["2001:db8::1"], 600)));
        assert!(half.unresolved, "the IPv4 address may still be there");
        assert_eq!(half.ttl, INCOMPLETE_TTL);
    }

    #[test]
    fn names_are_absolute_and_keep_their_case() {
        let name = absolute("_SIP._udp.Example.com").unwrap();
        assert!(name.is_fqdn());
        assert_eq!(name.to_ascii(), "_SIP._udp.Example.com.");
        assert_eq!(host_name(&name), "_sip._udp.example.com");
        assert_eq!(host_name(&Name::root()), "");
        assert!(absolute(&"a".repeat(64)).is_err());
    }
}
