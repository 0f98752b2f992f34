//! What happened, and what was counted.

use super::{Event, Strike};
use crate::cli::terminal::{span, visible};

/// Rollovers shown, the latest ones.
const ROLLOVERS: usize = 5;

/// Other events shown, the latest ones.
const EVENTS: usize = 8;

/// The latest first: rollovers, then the rest, so that nothing pushes a rollover out of sight.
pub(super) fn events(events: &[Event]) -> String {
    let is_rollover = |event: &&Event| matches!(event, Event::Rollover { .. });
    let rollovers = events.iter().rev().filter(is_rollover).take(ROLLOVERS);
    let others =
        events.iter().rev().filter(|event| !is_rollover(event) && !matches!(event, Event::Unknown)).take(EVENTS);
    let mut text = String::new();
    for event in rollovers.chain(others) {
        if text.is_empty() {
            text += "\n";
        }
        match event {
            Event::Rollover {
                age_seconds,
                from,
                to,
                reason,
                failures,
                handsets,
                handsets_failed,
                decided_by,
                decided_for,
                strikes,
            } => {
                text += &format!(
                    "{} ago  rolled over: {} -> {}, {}",
                    span(*age_seconds),
                    visible(from),
                    visible(to),
                    visible(&reason.replace('_', " "))
                );
                if let Some(by) = decided_by {
                    text +=
                        &format!(" (decided by {}: {})", visible(by), visible(decided_for.as_deref().unwrap_or("")));
                }
                if *failures > 0 {
                    let phones = (*handsets).max(*handsets_failed);
                    let plural = if phones == 1 { "" } else { "s" };
                    text += &format!(", {failures} counted, {phones} phone{plural} failed");
                }
                text.push('\n');
                for strikes in collapsed(strikes) {
                    text += &format!("  {strikes}\n");
                }
            }
            Event::TargetsChanged { age_seconds, added, removed } => {
                let list = |sign: &str, labels: &[String]| -> String {
                    labels.iter().fold(String::new(), |text, label| text + " " + sign + &visible(label))
                };
                text += &format!("{} ago  targets:{}{}\n", span(*age_seconds), list("+", added), list("-", removed));
            }
            Event::DnsFailing { age_seconds, outcome, detail } => {
                text += &format!("{} ago  DNS fails: {}: {}\n", span(*age_seconds), visible(outcome), visible(detail));
            }
            Event::DnsRecovered { age_seconds } => text += &format!("{} ago  DNS answers again\n", span(*age_seconds)),
            Event::StrikesVoided { age_seconds, target, failures } => {
                text +=
                    &format!("{} ago  {failures} strikes voided: {} answered\n", span(*age_seconds), visible(target));
            }
            Event::Unknown => {}
        }
    }
    text
}

/// `5 min 20 s ago: response 503 "Service Unavailable"`; of one cause once: `5 min 28 s to 5 min 20 s ago: timeout, 3 times`.
pub(super) fn collapsed(strikes: &[Strike]) -> Vec<String> {
    let mut groups: Vec<Vec<&Strike>> = Vec::new();
    for strike in strikes {
        match groups.iter_mut().find(|group| cause(group[0]) == cause(strike)) {
            Some(group) => group.push(strike),
            None => groups.push(vec![strike]),
        }
    }
    let one = |group: Vec<&Strike>| {
        let (first, last) = (span(group[0].age_seconds), span(group[group.len() - 1].age_seconds));
        let what = cause(group[0]);
        match group.len() {
            1 => format!("{first} ago: {what}"),
            n if first == last => format!("{first} ago: {what}, {n} times"),
            n => format!("{first} to {last} ago: {what}, {n} times"),
        }
    };
    groups.into_iter().map(one).collect()
}

/// `response 503 "Service Unavailable"`.
pub(super) fn cause(strike: &Strike) -> String {
    let mut text = visible(&strike.cause);
    if let Some(code) = strike.code {
        text += &format!(" {code}");
    }
    if let Some(detail) = &strike.detail {
        text += &format!(" \"{}\"", visible(detail));
    }
    text
}
