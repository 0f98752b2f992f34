//! Who the phones are, for the operator's control socket (`holdline phones`). No HTTP page shows any of this.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::AttemptOutcome;
use super::status::View;
use super::unregistered::{Caller, Ending, LIMIT, Met, Trouble};
use crate::proxy::registrar::bindings::Binding;
use crate::upstream::TargetId;

/// More phones than this are not listed in one answer.
pub const MAX_LISTED: usize = 1000;

/// Names offered where nothing matches.
const SIMILAR: usize = 5;

/// What is looked for.
///
/// Digits (with `+`, `*` and `#`) are an extension: they match that user part and no other. Any other text matches where it
/// occurs in the address of record, the address, the User-Agent or the target, whatever its case. Blank matches all.
#[derive(Debug, Clone, Default)]
pub struct Query {
    text: String,
    extension: bool,
}

impl Query {
    /// From what the operator typed.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim().to_ascii_lowercase();
        let extension = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b"+*#".contains(&b));
        Query { text, extension }
    }

    /// Whether it matches a phone of these properties.
    #[must_use]
    pub fn matches(&self, aor: &str, source: SocketAddr, user_agent: &str, target: &str) -> bool {
        self.matches_aor(aor)
            || (!self.extension && (self.is_in(user_agent) || self.is_in(target) || self.matches_address(source)))
    }

    /// Whether it matches by the address of record alone.
    #[must_use]
    pub fn matches_aor(&self, aor: &str) -> bool {
        if self.extension {
            return aor.split('@').next() == Some(self.text.as_str());
        }
        self.text.is_empty() || self.is_in(aor)
    }

    /// Whether it is a part of an address, as an address is written: an extension is none.
    #[must_use]
    pub fn matches_address(&self, address: SocketAddr) -> bool {
        !self.extension && SocketAddr::new(address.ip().to_canonical(), address.port()).to_string().contains(&self.text)
    }

    fn is_in(&self, text: &str) -> bool {
        text.as_bytes().windows(self.text.len()).any(|part| part.eq_ignore_ascii_case(self.text.as_bytes()))
    }
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phones {
    /// Those in trouble first, the latest first; then by address of record.
    pub phones: Vec<PhoneShown>,
    /// How many match, listed or not.
    pub matching: usize,
    /// How many of these are registered.
    pub registered: usize,
    /// How many match and are not listed.
    pub more: usize,
    /// All that are known: registered, or in trouble.
    pub known: usize,
    /// Addresses of record that contain the text, where nothing matches it.
    pub similar: Vec<Arc<str>>,
    /// So many phones in trouble can be kept; the one quiet for longest is forgotten first.
    pub trouble_limit: usize,
    /// How many were forgotten since the start.
    pub trouble_forgotten: u64,
}

/// One phone. Texts come off the wire: they must not reach a terminal raw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhoneShown {
    /// `user@host`.
    pub aor: Arc<str>,
    /// Where its last REGISTER came from.
    pub address: SocketAddr,
    /// `udp`, `tcp`, `tls`.
    pub transport: &'static str,
    /// At most 64 bytes; empty without one.
    pub user_agent: Box<str>,
    /// The PBX granted it a binding that has not ended.
    pub registered: bool,
    /// Registered, and calls can be sent to it: its connection is there.
    pub reachable: bool,
    /// Until the binding ends.
    pub expires_seconds: Option<u64>,
    /// The target it is registered at, or asked last; empty before there was one.
    pub target: TargetId,
    /// What its last REGISTER came to: `success`, `challenged`, `rejected`, `failed`, or `refused` by Holdline itself.
    pub outcome: &'static str,
    /// The status, if there was an answer.
    pub code: Option<u16>,
    /// Of `failed`: `timeout`, `refused`, `reset`, `tls`, `unreachable`, `unresolved`, `response`, `no_target`.
    pub cause: Option<&'static str>,
    /// The peer's own words.
    pub detail: Option<Arc<str>>,
    /// How long ago; not known of a success.
    pub outcome_age_seconds: Option<u64>,
    /// Attempts without a success in between.
    pub failures: u32,
}

impl View<'_> {
    /// The handsets that match, at most `limit` of them.
    pub(in crate::proxy) fn phones(&self, query: &Query, limit: usize) -> Phones {
        let limit = limit.min(MAX_LISTED);
        let (unregistered, bindings, now) = (&self.journal.unregistered, self.registrar.bindings(), self.now);
        let mut phones = Vec::new();
        let (mut matching, mut registered, mut unregistered_known) = (0, 0, 0);
        for (_, trouble) in unregistered.iter(now) {
            let Caller { aor, source, user_agent, .. } = &trouble.caller;
            let binding = self.registered_at(aor, source.ip());
            unregistered_known += usize::from(binding.is_none());
            if !query.matches(aor, *source, user_agent, &trouble.met.target) {
                continue;
            }
            matching += 1;
            registered += usize::from(binding.is_some());
            if phones.len() < limit {
                phones.push(in_trouble(trouble, binding, now));
            }
        }
        for binding in bindings.iter().filter(|binding| binding.confirmed) {
            if !query.matches(&binding.aor, binding.source, &binding.user_agent, &binding.target) {
                continue;
            }
            // Listed above already, with what its last REGISTER met.
            let handset = || self.site.handset(&binding.aor, binding.source.ip());
            if unregistered.len() > 0 && unregistered.get(handset(), now).is_some() {
                continue;
            }
            matching += 1;
            registered += 1;
            if phones.len() < limit {
                phones.push(confirmed(binding, now));
            }
        }
        Phones {
            more: matching - phones.len(),
            similar: if matching == 0 { self.similar(query) } else { Vec::new() },
            phones,
            matching,
            registered,
            known: bindings.confirmed_len() + unregistered_known,
            trouble_limit: LIMIT,
            trouble_forgotten: unregistered.forgotten(),
        }
    }

    fn similar(&self, query: &Query) -> Vec<Arc<str>> {
        let in_trouble = self.journal.unregistered.iter(self.now).map(|(_, trouble)| &trouble.caller.aor);
        let bound = self.registrar.bindings().iter().filter(|binding| binding.confirmed).map(|binding| &binding.aor);
        first_different(bound.chain(in_trouble).filter(|aor| query.is_in(aor)))
    }

    /// The confirmed binding of a handset at this address.
    fn registered_at(&self, aor: &str, ip: IpAddr) -> Option<&Binding> {
        self.registrar.bindings().of_aor(aor).find(|binding| binding.confirmed && binding.source.ip() == ip)
    }
}

/// The first few that differ: a user with several handsets is one of them.
fn first_different<'a>(aors: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    let mut first: Vec<Arc<str>> = Vec::new();
    for aor in aors {
        if !first.contains(aor) {
            first.push(aor.clone());
        }
        if first.len() == SIMILAR {
            break;
        }
    }
    first
}

fn confirmed(binding: &Binding, now: Instant) -> PhoneShown {
    PhoneShown {
        aor: binding.aor.clone(),
        address: SocketAddr::new(binding.source.ip().to_canonical(), binding.source.port()),
        transport: binding.transport.as_str(),
        user_agent: binding.user_agent.clone(),
        registered: true,
        reachable: !binding.flow_lost(),
        expires_seconds: Some(binding.expires.saturating_duration_since(now).as_secs()),
        target: binding.target.clone(),
        outcome: AttemptOutcome::Success.as_str(),
        code: binding.last_status,
        cause: None,
        detail: None,
        outcome_age_seconds: None,
        failures: 0,
    }
}

fn in_trouble(trouble: &Trouble, binding: Option<&Binding>, now: Instant) -> PhoneShown {
    let Trouble { caller, met: Met { ending, detail, target }, at, times, .. } = trouble;
    let (outcome, code, cause) = match ending {
        Ending::Attempt(outcome, ended) => {
            let cause = (*ended == AttemptOutcome::Failed).then(|| outcome.reason());
            (ended.as_str(), outcome.code(), cause)
        }
        Ending::Refused(status) => ("refused", Some(*status), None),
        Ending::NoTarget => (AttemptOutcome::Failed.as_str(), None, Some("no_target")),
    };
    PhoneShown {
        aor: caller.aor.clone(),
        address: SocketAddr::new(caller.source.ip().to_canonical(), caller.source.port()),
        transport: caller.transport.as_str(),
        user_agent: caller.user_agent.clone(),
        registered: binding.is_some(),
        reachable: binding.is_some_and(|binding| !binding.flow_lost()),
        expires_seconds: binding.map(|binding| binding.expires.saturating_duration_since(now).as_secs()),
        target: binding.map_or(target, |binding| &binding.target).clone(),
        outcome,
        code,
        cause,
        detail: detail.clone(),
        outcome_age_seconds: Some(now.saturating_duration_since(*at).as_secs()),
        failures: *times,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_many_handsets_is_proposed_once() {
        let aors = ["204", "1204", "204", "204", "204", "2040", "1204", "2041", "2042", "2043"].map(Arc::<str>::from);
        assert_eq!(first_different(aors.iter()), ["204", "1204", "2040", "2041", "2042"].map(Arc::<str>::from));
    }

    #[test]
    fn an_extension_is_that_extension_and_other_text_is_searched_for() {
        let source = SocketAddr::from(([10, 0, 0, 204], 50_204));
        let phone = |query: &str, aor: &str| {
            Query::new(query).matches(aor, source, "Yealink SIP-T46S 66.85.0.204", "a.pbx.example.com:5060")
        };
        for (query, aor, found) in [
            ("204", "204@pbx.example.com", true),
            (" 204 ", "204@pbx.example.com", true),
            ("204", "1204@pbx.example.com", false),
            ("204", "2045@pbx.example.com", false),
            ("204", "100@pbx.example.com", false),
            ("*98", "*98@pbx.example.com", true),
            ("+4930", "+4930@pbx.example.com", true),
            ("", "anybody@pbx.example.com", true),
            ("PBX.example", "100@pbx.example.com", true),
            ("yealink", "100@pbx.example.com", true),
            ("10.0.0.204", "100@pbx.example.com", true),
            ("a.pbx", "100@other.example", true),
            ("polycom", "100@pbx.example.com", false),
            ("a much longer text than anything there is to be searched through, in any of the fields", "1@p", false),
        ] {
            assert_eq!(phone(query, aor), found, "{query} in {aor}");
        }
    }
}
