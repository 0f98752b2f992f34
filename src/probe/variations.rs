//! The names under which hosted PBXs publish the same service, tried side by side.

use tokio::task::JoinSet;

use super::plain::plain;
use super::report::{NaptrLook, Variation};
use crate::dns::{Naptr, Resolver, SrvSurvey};
use crate::flow::Transport;
use crate::upstream::LookupFailure;

/// In the order of preference: `_sip._tls` first, then `_sip._tcp`, then other TLS, then UDP. `_sips._udp` would be DTLS.
pub(super) const LABELS: [(&str, Option<Transport>); 7] = [
    ("_sip._tls", Some(Transport::Tls)),
    ("_sip._tcp", Some(Transport::Tcp)),
    ("_sip2._tls", Some(Transport::Tls)),
    ("_sips._tcp", Some(Transport::Tls)),
    ("_sips._tls", Some(Transport::Tls)),
    ("_sip._udp", Some(Transport::Udp)),
    ("_sips._udp", None),
];

/// What is said of a record that Holdline cannot use.
pub const DTLS: &str = "DTLS: Holdline cannot use this";

/// One variation with all that its answer said.
pub(super) struct Tried {
    /// For the report.
    pub variation: Variation,
    /// The answer.
    pub survey: Result<SrvSurvey, LookupFailure>,
}

/// Asks for all variations of a domain but `except`, in the order of preference. At most one question's time.
pub(super) async fn variations(resolver: &Resolver, domain: &str, except: Option<&str>) -> Vec<Tried> {
    let mut asking = JoinSet::new();
    for (place, (labels, transport)) in LABELS.into_iter().enumerate() {
        let (resolver, name) = (resolver.clone(), format!("{labels}.{domain}"));
        if except.is_some_and(|except| except.eq_ignore_ascii_case(&name)) {
            continue;
        }
        asking.spawn(async move {
            let survey = resolver.survey_srv(&name).await;
            (place, Tried { variation: variation(name, transport, &survey), survey })
        });
    }
    let mut tried = asking.join_all().await;
    tried.sort_by_key(|(place, _)| *place);
    tried.into_iter().map(|(_, tried)| tried).collect()
}

fn variation(name: String, transport: Option<Transport>, survey: &Result<SrvSurvey, LookupFailure>) -> Variation {
    let records = survey.as_ref().map_or(0, |survey| survey.records.len());
    let offered = survey.as_ref().is_ok_and(is_offered);
    let outcome = match survey {
        Ok(_) if !offered => "no_service",
        Ok(_) => "ok",
        Err(failure) => failure.label(),
    };
    let text = match survey {
        Ok(_) if !offered => LookupFailure::NoService.to_string(),
        Ok(survey) => {
            let targets = if records == 1 { "1 target".to_owned() } else { format!("{records} targets") };
            let text = format!("{targets}, TTL {} s", survey.ttl.as_secs());
            if transport.is_none() { format!("{text}; {DTLS}") } else { text }
        }
        Err(failure) => plain(&failure.to_string()),
    };
    let usable = offered && transport.is_some();
    Variation { name, transport, outcome: outcome.to_owned(), records, usable, preferred: false, text }
}

/// There is a target other than `.`, with a port.
pub(super) fn is_offered(survey: &SrvSurvey) -> bool {
    survey.records.iter().any(|record| !record.host.is_empty())
}

/// A NAPTR record for the report.
pub(super) fn naptr(record: &Naptr) -> NaptrLook {
    NaptrLook {
        order: record.order,
        preference: record.preference,
        flags: plain(&record.flags),
        services: plain(&record.services),
        replacement: plain(&record.replacement),
    }
}
