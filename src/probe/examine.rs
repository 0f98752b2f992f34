//! One NAME, examined: its records, their hosts and addresses, and what to enter.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::dial::Probe;
use super::findings::Findings;
use super::plain::plain;
use super::records::{Hosts, outbound_proxy};
use super::report::{Enter, Look, RecordLook, Variation};
use super::settings::{Progress, Settings};
use super::variations::{DTLS, Tried, is_offered, naptr, variations};
use super::{judge, nameservers, records, report};
use crate::dns::{Resolver, SrvSurvey};
use crate::flow::Transport;
use crate::transport::Verify;
use crate::upstream::records::MAX_RECORDS;
use crate::upstream::{LookupFailure, SrvName};

/// Addresses measured of one target.
const MAX_ADDRESSES: usize = 4;

/// What stays the same while one NAME is examined.
pub(super) struct Examination<'a> {
    pub(super) settings: &'a Settings,
    pub(super) resolver: Resolver,
    pub(super) now: u64,
    pub(super) progress: &'a Arc<Progress>,
}

impl Examination<'_> {
    /// A name that says itself what it is.
    pub(super) async fn srv(&self, name: &str, domain: &str, look: &mut Look, findings: &mut Findings) {
        self.progress.begin();
        let survey = self.resolver.survey_srv(name).await;
        self.progress.end();
        self.compare(name, survey.as_ref().ok(), look, findings).await;
        let usable = match SrvName::parse(Some(name), self.settings.transport) {
            Ok(Some(parsed)) => {
                if let Some(warning) = parsed.warning {
                    findings.warning("unusual_name", None, plain(&warning));
                }
                Some(parsed.transport)
            }
            Ok(None) => None,
            Err(error) => {
                let code = if matches!(error, crate::upstream::NameError::Dtls) { "dtls" } else { "protocol" };
                findings.error(code, name.to_owned(), plain(&error.to_string()));
                None
            }
        };
        let offered = match &survey {
            Ok(survey) => is_offered(survey),
            Err(failure) => {
                nothing(name, failure, findings);
                false
            }
        };
        if let Ok(survey) = &survey {
            let seen = self.seen(name, domain, usable, survey).await;
            findings.extend(seen.findings);
            look.enter = seen.enter;
            look.record = Some(seen.record);
        }
        if !offered || usable.is_none() {
            look.enter = None;
            self.vary(domain, Some(name), look, findings).await;
            if let Some(enter) = &look.enter {
                findings.note("enter", None, format!("another name of the same domain is there: {}", enter.flags()));
            }
        }
    }

    /// A domain, or a host: which records has it?
    pub(super) async fn host(
        &self,
        host: &str,
        port: Option<u16>,
        transport: Option<Transport>,
        look: &mut Look,
        findings: &mut Findings,
    ) {
        self.vary(host, None, look, findings).await;
        let chosen = look.record.as_ref().and_then(|record| record.transport);
        if transport == Some(Transport::Tls) && look.enter.is_some() && chosen != Some(Transport::Tls) {
            let text = "what was pasted says TLS, but the only record that Holdline can use sends unencrypted";
            findings.warning("no_tls", host.to_owned(), text);
        }
        if look.enter.is_none() {
            let silent =
                look.variations.iter().filter(|v| matches!(v.outcome.as_str(), "servfail" | "timeout" | "error"));
            if let Some(silent) = silent.min_by_key(|v| v.outcome == "error") {
                findings.error(&silent.outcome, silent.name.clone(), unknowable(&silent.outcome, &silent.text));
            }
            self.proxy(host, port, transport, look, findings).await;
            if look.enter.is_some() {
                let text = "has no SRV record that Holdline can use: it can only be an outbound proxy, with nothing to fail over to";
                findings.warning("no_srv", host.to_owned(), text);
            }
        } else if let Some(port) = port {
            // A pasted host:port is what handsets have now: it is looked at beside the record.
            let mut beside = Findings::default();
            let enter = look.enter.take();
            self.proxy(host, Some(port), transport, look, &mut beside).await;
            look.enter = enter;
            findings.extend(beside.softened());
            findings.note(
                "host_port",
                None,
                format!("{host}:{port} alone would be an outbound proxy without failover; the SRV record is better"),
            );
        }
    }

    /// Tries the variations, takes the first that can be used into the report, and a later one where the first is dead.
    async fn vary(&self, domain: &str, except: Option<&str>, look: &mut Look, findings: &mut Findings) {
        self.progress.begin();
        let (tried, naptrs) =
            tokio::join!(variations(&self.resolver, domain, except), self.resolver.survey_naptr(domain));
        self.progress.end();
        look.naptr_outcome = Some(naptrs.as_ref().map_or_else(LookupFailure::label, |_| "ok").to_owned());
        look.naptr = naptrs.unwrap_or_default().iter().map(naptr).collect();
        if tried.iter().any(|tried| tried.variation.transport.is_none() && tried.variation.outcome == "ok") {
            findings.note("dtls", format!("_sips._udp.{domain}"), DTLS);
        }
        if except.is_none() {
            match tried.iter().find(|tried| tried.variation.usable) {
                Some(first) => self.compare(&first.variation.name, first.survey.as_ref().ok(), look, findings).await,
                None => self.compare(&format!("_sip._tls.{domain}"), None, look, findings).await,
            }
        }
        let best = self.best(domain, &tried).await;
        look.variations = tried.into_iter().map(|tried| tried.variation).collect();
        let Some((place, seen, passed_over)) = best else { return };
        look.variations[place].preferred = true;
        let chosen: &Variation = &look.variations[place];
        for dead in passed_over {
            let text =
                format!("comes before {} in the order of preference, but none of its targets works", chosen.name);
            findings.warning("preferred_fails", dead, text);
        }
        look.enter = seen.enter;
        // The record of the name that was entered stays, where there is one to show.
        if except.is_none() || look.record.is_none() {
            look.record = Some(seen.record);
            findings.extend(seen.findings);
        }
    }

    /// The first usable variation with a target that works, or the first of all; and those passed over.
    async fn best(&self, domain: &str, tried: &[Tried]) -> Option<(usize, Seen, Vec<String>)> {
        let mut first = None;
        let mut dead = Vec::new();
        // `--transport` says which of them are wanted.
        let wanted = |variation: &Variation| {
            variation.usable && self.settings.transport.is_none_or(|wanted| variation.transport == Some(wanted))
        };
        for (place, tried) in tried.iter().enumerate().filter(|(_, tried)| wanted(&tried.variation)) {
            let Ok(survey) = &tried.survey else { continue };
            let seen = self.seen(&tried.variation.name, domain, tried.variation.transport, survey).await;
            if seen.findings.verdict() < report::Verdict::Fails {
                return Some((place, seen, dead));
            }
            dead.push(tried.variation.name.clone());
            first.get_or_insert((place, seen));
        }
        first.map(|(place, seen)| (place, seen, Vec::new()))
    }

    /// A host as outbound proxy.
    pub(super) async fn proxy(
        &self,
        host: &str,
        port: Option<u16>,
        transport: Option<Transport>,
        look: &mut Look,
        findings: &mut Findings,
    ) {
        let over = transport.unwrap_or(if port == Some(5061) { Transport::Tls } else { Transport::Udp });
        self.progress.begin();
        let survey = self.resolver.survey_host(host).await;
        self.progress.end();
        if let Some(failure) = survey.failure.as_ref().filter(|_| survey.addresses.is_empty()) {
            nothing(host, failure, findings);
            return;
        }
        let mut record = outbound_proxy(host, port.unwrap_or(over.default_port()), over, &survey);
        let enter = Enter {
            outbound_proxy: Some(port.map_or(host.to_owned(), |_| record.name.clone())),
            transport: (over != Transport::Udp).then(|| over.as_str().to_owned()),
            ..Enter::default()
        };
        let hosts = Hosts::from([(host.to_owned(), survey)]);
        self.probe(&mut record, &hosts, findings).await;
        look.outbound_proxy = Some(record);
        look.enter = Some(enter);
    }

    /// One SRV record set from its answer to what is to be said of it.
    async fn seen(&self, name: &str, domain: &str, transport: Option<Transport>, survey: &SrvSurvey) -> Seen {
        let mut findings = Findings::default();
        let hosts = self.hosts(survey).await;
        let mut record = records::srv((name, domain), transport, survey, &hosts, &mut findings);
        let recommended = self.probe(&mut record, &hosts, &mut findings).await;
        let verify = recommended.or(self.settings.verify.filter(|verify| *verify != Verify::Domain));
        let said = SrvName::parse(Some(name), None).ok().flatten().map(|name| name.transport);
        let enter = Enter {
            srv: Some(name.to_owned()),
            transport: transport.filter(|t| said != Some(*t)).map(|transport| transport.as_str().to_owned()),
            upstream_verify: verify.filter(|_| transport == Some(Transport::Tls)).map(|v| v.as_str().to_owned()),
            ..Enter::default()
        };
        let usable = transport.is_some() && record.usable().next().is_some();
        Seen { record, findings, enter: usable.then_some(enter) }
    }

    /// The addresses of every different host, side by side.
    async fn hosts(&self, survey: &SrvSurvey) -> Hosts {
        let mut hosts: Vec<&str> = survey.records.iter().map(|r| r.host.as_str()).filter(|h| !h.is_empty()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let mut asking = JoinSet::new();
        for host in hosts.into_iter().take(MAX_RECORDS) {
            let (resolver, host, progress) = (self.resolver.clone(), host.to_owned(), Arc::clone(self.progress));
            progress.begin();
            asking.spawn(async move {
                let found = resolver.survey_host(&host).await;
                progress.end();
                (host, found)
            });
        }
        asking.join_all().await.into_iter().collect()
    }

    /// Measures every address of every target, side by side, and judges.
    async fn probe(&self, record: &mut RecordLook, hosts: &Hosts, findings: &mut Findings) -> Option<Verify> {
        let verify = self.settings.verify.unwrap_or_default();
        let mut probing = JoinSet::new();
        for (place, target) in record.targets.iter_mut().enumerate().filter(|(_, target)| target.order.is_some()) {
            // Hosts are known by their own names, targets by names made plain.
            let Some((host, found)) = hosts.iter().find(|(host, _)| plain(host) == target.host) else { continue };
            for ip in found.addresses.iter().take(MAX_ADDRESSES) {
                let addr = SocketAddr::new(*ip, target.port);
                let (Some(limit), Some(transport)) = (self.settings.limit, record.transport) else {
                    target.addresses.push(unmeasured(addr));
                    continue;
                };
                let probe = Probe {
                    addr,
                    host: host.clone(),
                    domain: record.domain.clone(),
                    transport,
                    verify,
                    inspector: self.settings.inspector.clone(),
                    limit,
                    now: self.now,
                };
                let (progress, places) = (Arc::clone(self.progress), Arc::clone(&self.settings.places));
                let measured = self.settings.measured.cell(&probe);
                progress.begin();
                let turn = probing.len();
                probing.spawn(async move {
                    let measure = || async {
                        // Its time begins with its place. The semaphore is never closed.
                        let _place = places.acquire().await;
                        probe.run().await
                    };
                    let look = measured.get_or_init(measure).await.clone();
                    progress.end();
                    (place, turn, look)
                });
            }
        }
        let mut measured = probing.join_all().await;
        measured.sort_by_key(|(place, turn, _)| (*place, *turn));
        for (place, _, look) in measured {
            record.targets[place].addresses.push(look);
        }
        if self.settings.limit.is_none() || record.transport.is_none() {
            for target in record.targets.iter_mut().filter(|target| target.order.is_some()) {
                let none = target.addresses.is_empty();
                target.state = if none { report::State::Fails } else { report::State::NotMeasured };
                let summary = if none { "no address" } else { "not measured" };
                summary.clone_into(&mut target.summary);
            }
            return None;
        }
        judge::judge(record, verify, self.settings.verify.is_some(), findings)
    }

    /// What each of several name servers says.
    async fn compare(&self, name: &str, known: Option<&SrvSurvey>, look: &mut Look, findings: &mut Findings) {
        if self.settings.nameservers.len() > 1 {
            look.nameservers = nameservers::ask_each(&self.settings.nameservers, name, known).await;
            nameservers::disagreements(&look.nameservers, findings);
        }
    }
}

/// One record set, measured.
struct Seen {
    record: RecordLook,
    findings: Findings,
    enter: Option<Enter>,
}

fn unmeasured(addr: SocketAddr) -> report::AddressLook {
    report::AddressLook {
        address: addr.ip().to_string(),
        state: report::State::NotMeasured,
        summary: "not measured".to_owned(),
        connect_ms: None,
        failure: None,
        tls: None,
        options: None,
    }
}

/// A lookup that brought nothing, in words.
fn nothing(name: &str, failure: &LookupFailure, findings: &mut Findings) {
    let text = match failure {
        LookupFailure::NxDomain => {
            "does not exist (NXDOMAIN): a typing mistake, or the provider publishes another name".to_owned()
        }
        LookupFailure::NoData | LookupFailure::NoService => {
            "exists, but has no record of this type (NODATA): the provider publishes the service under another name"
                .to_owned()
        }
        other => unknowable(other.label(), &plain(&other.to_string())),
    };
    let code = if matches!(failure, LookupFailure::Error(_)) { "dns_error" } else { failure.label() };
    findings.error(code, plain(name), text);
}

fn unknowable(outcome: &str, text: &str) -> String {
    match outcome {
        "servfail" => "cannot be looked up (SERVFAIL): the name servers of the zone are broken, unreachable, or fail DNSSEC; that \
                       says nothing about the record itself"
            .to_owned(),
        "timeout" => "cannot be looked up: no name server answered in time; check the network, or name others with --nameserver"
            .to_owned(),
        _ => format!("cannot be looked up: {text}"),
    }
}
