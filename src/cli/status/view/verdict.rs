//! The state in a word, why, and where the runbook goes on. The page says the same (`src/admin/page.html`).

use super::{Event, Status, Strike, Target, Upstream, cause};
use crate::cli::terminal::visible;

/// One or two lines.
pub(super) fn lines(status: &Status) -> Vec<String> {
    let (word, why, section) = verdict(status);
    let mut lines = vec![format!("{word:<11}  {why}")];
    lines.extend(section.map(|section| format!("{:<11}  docs/runbook.md#{section}", "runbook")));
    lines
}

fn verdict(status: &Status) -> (&'static str, String, Option<&'static str>) {
    let upstream = &status.upstream;
    let Some(active) = upstream.active.as_deref().map(visible) else {
        return ("ALARM", "no targets yet: the phones wait for DNS".to_owned(), Some("not-ready"));
    };
    if upstream.all_targets_failed {
        let section = if is_about_certificates(upstream) { "certificate" } else { "all-targets-fail" };
        return (
            "ALARM",
            format!("every target has failed since anybody last registered: {}", reasons(upstream)),
            Some(section),
        );
    }
    if status.draining {
        return ("STOPPING", "no new calls are taken".to_owned(), None);
    }
    if !upstream.strikes.is_empty() {
        let count = upstream.strikes.len();
        let why = format!("{count} failed in a row at {active}: {}", causes(&upstream.strikes));
        return ("WATCH", why, Some("active-target-failing"));
    }
    if upstream.dns.stale {
        return ("WATCH", format!("DNS fails; phones stay at {active}"), Some("dns-stale"));
    }
    match upstream.targets.iter().position(|target| target.active) {
        Some(place) if place > 0 => {
            let left = last_rollover(upstream, |_, to| to == upstream.active.as_deref().unwrap_or_default());
            let why = left.map(causes).filter(|why| !why.is_empty()).map_or(String::new(), |why| format!(" ({why})"));
            (
                "ROLLED OVER",
                format!("phones are at {active}, number {} in the order{why}", place + 1),
                Some("rolled-over"),
            )
        }
        _ => ("OK", format!("phones are at {active}, the first choice"), None),
    }
}

/// What each target was left for, and what is counted against the one that is tried.
fn reasons(upstream: &Upstream) -> String {
    let mut told: Vec<String> = Vec::new();
    for target in &upstream.targets {
        let why = if target.active && !upstream.strikes.is_empty() {
            causes(&upstream.strikes)
        } else {
            last_rollover(upstream, |from, _| from == target.label).map(causes).unwrap_or_default()
        };
        if !why.is_empty() {
            told.push(format!("{}: {why}", visible(&target.label)));
        }
    }
    if told.is_empty() { "see below".to_owned() } else { told.join("; ") }
}

/// The strikes of the latest rollover like this.
fn last_rollover(upstream: &Upstream, like: impl Fn(&str, &str) -> bool) -> Option<&[Strike]> {
    upstream.events.iter().rev().find_map(|event| match event {
        Event::Rollover { from, to, strikes, .. } if like(from, to) => Some(strikes.as_slice()),
        _ => None,
    })
}

/// `timeout, response 503 "Busy"`: each once.
fn causes(strikes: &[Strike]) -> String {
    let mut causes: Vec<String> = Vec::new();
    for strike in strikes {
        let cause = cause(strike);
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    causes.join(", ")
}

/// Every target was left because of TLS.
fn is_about_certificates(upstream: &Upstream) -> bool {
    let left_for = |target: &Target| last_rollover(upstream, |from, _| from == target.label);
    let all_tls = |strikes: &[Strike]| !strikes.is_empty() && strikes.iter().all(|strike| strike.cause == "tls");
    upstream.targets.iter().filter(|target| !target.active).all(|target| left_for(target).is_some_and(all_tls))
        && (upstream.strikes.is_empty() || all_tls(&upstream.strikes))
}
