//! From measurements to findings: which targets are of use, and which setting would make more of them so.

use super::findings::Findings;
use super::measure::troubled;
use super::report::{AddressLook, RecordLook, State, TargetLook, TlsLook};
use crate::flow::Transport;
use crate::transport::Verify;

/// A certificate with fewer days than this deserves a word.
const DAYS: i64 = 21;

/// Sums the measured addresses up: states of targets, findings, and the `--upstream-verify` to recommend where the one in
/// use would not do. `chosen`: the operator named the setting, so that no other is recommended.
pub(super) fn judge(record: &mut RecordLook, verify: Verify, chosen: bool, findings: &mut Findings) -> Option<Verify> {
    let recommended = if chosen { None } else { other_setting(record, verify) };
    for target in record.targets.iter_mut().filter(|target| target.order.is_some()) {
        if let Some(other) = recommended {
            forgive(target, other);
        }
        sum_up(target);
    }
    let all_dead = record.usable().all(|target| target.state == State::Fails);
    if let Some(other) = recommended {
        let text = format!(
            "the certificate is valid for the target but not for the domain {}, which RFC 5922 asks for: --upstream-verify {} accepts it",
            record.domain.as_deref().unwrap_or_default(),
            other.as_str()
        );
        let about = record.usable().filter(|target| target.addresses.iter().any(|a| refused(a, verify)));
        for label in about.map(TargetLook::label).collect::<Vec<_>>() {
            findings.warning("certificate_not_for_domain", label, text.clone());
        }
    }
    for target in record.targets.iter().filter(|target| target.order.is_some()) {
        dead_or_odd(target, all_dead, record.transport, findings);
    }
    if record.usable().all(is_useless) {
        findings.error("all_targets_fail", None, why_none_works(record));
    } else if let Some(first) = record.usable().next().filter(|first| first.state == State::Fails) {
        let text = "is the target Holdline would select, and it does not answer: after a start, three REGISTERs must fail before \
                    phones move on";
        findings.warning("first_target_fails", first.label(), text);
    }
    recommended
}

/// It would serve no phone: it cannot be used at all, or answers with nothing but what counts as a failed attempt.
fn is_useless(target: &TargetLook) -> bool {
    target.state == State::Fails || target.addresses.iter().all(|a| a.state == State::Fails || has_trouble(a))
}

fn has_trouble(address: &AddressLook) -> bool {
    address.options.as_ref().is_some_and(|options| troubled(options.status))
}

/// What the measurements have in common where none is good.
fn why_none_works(record: &RecordLook) -> &'static str {
    let measured: Vec<&AddressLook> = record.usable().flat_map(|target| &target.addresses).collect();
    let all = |stage: &str, reasons: &[&str]| {
        measured.iter().all(|address| {
            let failure = address.failure.as_ref();
            failure.is_some_and(|f| f.stage == stage && (reasons.is_empty() || reasons.contains(&f.reason.as_str())))
        })
    };
    let silent = |address: &&AddressLook| {
        address.failure.as_ref().is_some_and(|f| matches!(f.reason.as_str(), "timeout" | "unreachable" | "refused"))
    };
    if measured.is_empty() {
        "no target has an address that could be tried"
    } else if all("certificate", &[]) {
        "every target is there and answers, but none has a certificate that would be accepted: nothing is wrong with the network"
    } else if all("tls", &[]) {
        "every target takes connections, but with none does a TLS handshake succeed: nothing is wrong with the network"
    } else if all("connect", &["refused"]) {
        "every target refuses: nothing listens at these ports, or a firewall rejects what comes from here"
    } else if measured.iter().all(|address| has_trouble(address)) {
        "every target answers, with a status that would count as a failed attempt: the provider's servers are in trouble"
    } else if measured.iter().all(silent) {
        "no target answers from here; a firewall between this machine and the provider would look the same"
    } else {
        "no target is of use, each for its own reason: see below"
    }
}

/// Another setting that accepts every certificate seen, where the one in use refuses some.
fn other_setting(record: &RecordLook, verify: Verify) -> Option<Verify> {
    let seen: Vec<&TlsLook> =
        record.usable().flat_map(|target| &target.addresses).filter_map(|address| address.tls.as_ref()).collect();
    if seen.iter().all(|tls| satisfies(tls, verify)) {
        return None;
    }
    [Verify::Target, Verify::Either].into_iter().find(|other| seen.iter().all(|tls| satisfies(tls, *other)))
}

fn satisfies(tls: &TlsLook, verify: Verify) -> bool {
    tls.satisfies.iter().any(|setting| setting == verify.as_str())
}

fn refused(address: &AddressLook, verify: Verify) -> bool {
    address.tls.as_ref().is_some_and(|tls| !satisfies(tls, verify))
}

/// With the recommended setting, this certificate is no reason to fail.
fn forgive(target: &mut TargetLook, other: Verify) {
    for address in &mut target.addresses {
        let Some(tls) = &address.tls else { continue };
        if tls.accepted || !satisfies(tls, other) || address.options.is_none() {
            continue;
        }
        address.state = State::Warning;
        address.summary = format!("with --upstream-verify {}", other.as_str());
        address.failure = None;
    }
}

/// Holdline goes from one address of a target to the next within one attempt: one that answers is enough.
fn sum_up(target: &mut TargetLook) {
    let best = |wanted: State| target.addresses.iter().find(|address| address.state == wanted);
    let (state, summary) = match (best(State::Ok), best(State::Warning), target.addresses.first()) {
        (Some(ok), _, _) => {
            let reachable = target.addresses.iter().filter(|a| !no_route(a));
            let spoilt = reachable.into_iter().any(|address| address.state == State::Fails);
            (if spoilt { State::Warning } else { State::Ok }, ok.summary.clone())
        }
        (None, Some(odd), _) => (State::Warning, odd.summary.clone()),
        (None, None, Some(first)) => (State::Fails, first.summary.clone()),
        (None, None, None) => (State::Fails, "no address".to_owned()),
    };
    target.state = state;
    target.summary = summary;
}

/// IPv6 where this machine has none says nothing about the target.
fn no_route(address: &AddressLook) -> bool {
    address.address.contains(':') && address.failure.as_ref().is_some_and(|failure| failure.reason == "unreachable")
}

fn dead_or_odd(target: &TargetLook, all_dead: bool, transport: Option<Transport>, findings: &mut Findings) {
    let label = target.label();
    for address in &target.addresses {
        let whole = target.addresses.len() == 1;
        let at = |text: &str| if whole { text.to_owned() } else { format!("{text} (at {})", address.address) };
        if let Some(tls) = &address.tls {
            certificate(tls, &label, findings);
        }
        match &address.failure {
            _ if no_route(address) => {
                let text = "has an IPv6 address that cannot be reached from here; Holdline tries IPv4 first";
                findings.note("no_ipv6", label.clone(), text);
            }
            Some(failure) if failure.stage == "certificate" => {
                findings.worse(all_dead, "certificate_refused", label.clone(), at(&failure.text));
            }
            Some(failure) if address.state == State::Warning => {
                let text = format!("{}; REGISTER may be answered all the same", at(&failure.text));
                findings.warning("options_unanswered", label.clone(), text);
            }
            Some(failure) => {
                let hint = match (transport, failure.stage.as_str(), failure.reason.as_str()) {
                    (Some(Transport::Udp), "options", "timeout") => ": it is down, filtered, or ignores OPTIONS",
                    (_, "connect", "timeout") => ": it is down or filtered",
                    _ => "",
                };
                findings.worse(all_dead, "target_fails", label.clone(), format!("{}{hint}", at(&failure.text)));
            }
            None => {}
        }
        if let Some(options) = address.options.as_ref().filter(|options| troubled(options.status)) {
            let text = format!(
                "answers OPTIONS with {} {}; to a REGISTER that would count as a failed attempt",
                options.status, options.reason
            );
            findings.warning("options_trouble", label.clone(), at(&text));
        }
    }
}

fn certificate(tls: &TlsLook, label: &str, findings: &mut Findings) {
    if tls.accepted && tls.days_left < DAYS {
        let text = format!("its certificate ends in {} days; the upstream's operator must renew it", tls.days_left);
        findings.warning("certificate_ends_soon", label.to_owned(), text);
    }
    if !tls.accepted && tls.self_signed {
        let text = "its certificate is self-signed: it vouches for itself, as no authority does, so that anybody could have made it. \
                    If it is the provider's (compare its SHA-256 fingerprint with what the provider says), save it as a file and \
                    give that to --upstream-ca: that very certificate is trusted then, and no other";
        findings.note("certificate_self_signed", label.to_owned(), text);
    }
    if tls.accepted && tls.self_signed {
        findings.note(
            "certificate_self_signed",
            label.to_owned(),
            "its certificate is self-signed, and trusted by --upstream-ca",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::report::{Failure, OptionsLook, Verdict};

    fn address(address: &str, state: State, failure: Option<(&str, &str)>) -> AddressLook {
        AddressLook {
            address: address.to_owned(),
            state,
            summary: String::new(),
            connect_ms: None,
            failure: failure.map(|(stage, reason)| Failure {
                stage: stage.to_owned(),
                reason: reason.to_owned(),
                text: reason.to_owned(),
            }),
            tls: None,
            options: (state == State::Ok).then(|| OptionsLook {
                status: 200,
                reason: "OK".to_owned(),
                round_trip_ms: 1.0,
                server: None,
            }),
        }
    }

    fn record(addresses: Vec<AddressLook>) -> RecordLook {
        let target = TargetLook {
            order: Some(1),
            selected: true,
            priority: 0,
            weight: 0,
            share_percent: None,
            port: 5060,
            host: "a".to_owned(),
            alias: None,
            address_ttl: None,
            state: State::NotMeasured,
            summary: String::new(),
            addresses,
        };
        RecordLook {
            name: "_sip._udp.example".to_owned(),
            domain: Some("example".to_owned()),
            transport: Some(Transport::Udp),
            ttl: None,
            authoritative: false,
            alias: None,
            targets: vec![target],
            why: String::new(),
        }
    }

    fn judged(addresses: Vec<AddressLook>) -> (State, Verdict, Vec<String>) {
        let mut record = record(addresses);
        let mut findings = Findings::default();
        assert_eq!(judge(&mut record, Verify::Domain, false, &mut findings), None);
        let verdict = findings.verdict();
        (record.targets[0].state, verdict, findings.sorted().into_iter().map(|finding| finding.code).collect())
    }

    #[test]
    fn ipv6_without_a_route_from_here_says_nothing_about_the_target() {
        let v6 = || address("2001:db8::1", State::Fails, Some(("connect", "unreachable")));
        let good = address("192.0.2.1", State::Ok, None);
        assert_eq!(judged(vec![good, v6()]), (State::Ok, Verdict::Works, vec!["no_ipv6".to_owned()]));
        let (state, verdict, codes) = judged(vec![v6()]);
        assert_eq!((state, verdict), (State::Fails, Verdict::Fails), "{codes:?}");
    }

    fn answers(status: u16) -> AddressLook {
        let mut look = address("192.0.2.7", State::Ok, None);
        look.state = State::Warning;
        look.options.as_mut().unwrap().status = status;
        look
    }

    #[test]
    fn a_silent_target_and_one_in_trouble_do_not_work_together_either() {
        let silent = || address("192.0.2.2", State::Fails, Some(("options", "timeout")));
        let (_, verdict, codes) = judged(vec![silent(), answers(503)]);
        assert_eq!((verdict, codes.contains(&"all_targets_fail".to_owned())), (Verdict::Fails, true), "{codes:?}");
        let (_, verdict, _) = judged(vec![answers(503)]);
        assert_eq!(verdict, Verdict::Fails);
        let (_, verdict, _) = judged(vec![answers(404)]);
        assert_eq!(verdict, Verdict::Works, "it speaks SIP");
    }

    #[test]
    fn what_is_wrong_with_all_is_told_by_its_cause() {
        let told = |stage: &str, reason: &str| {
            let mut findings = Findings::default();
            let mut record = record(vec![address("192.0.2.2", State::Fails, Some((stage, reason)))]);
            judge(&mut record, Verify::Domain, true, &mut findings);
            let all = findings.sorted();
            all.into_iter().find(|finding| finding.code == "all_targets_fail").unwrap().text
        };
        let certificate = told("certificate", "refused_certificate");
        assert!(certificate.contains("certificate") && !certificate.contains("firewall"), "{certificate}");
        assert!(told("options", "timeout").contains("firewall"));
        assert!(told("connect", "refused").contains("nothing listens"));
    }

    #[test]
    fn one_address_of_two_is_enough_and_the_other_is_told() {
        let dead = address("192.0.2.2", State::Fails, Some(("options", "timeout")));
        let (state, verdict, codes) = judged(vec![dead, address("192.0.2.1", State::Ok, None)]);
        assert_eq!((state, verdict), (State::Warning, Verdict::Warning));
        assert_eq!(codes, ["target_fails"]);
    }
}
