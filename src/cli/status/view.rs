//! `/status` as text for people.

#![allow(clippy::format_push_string, reason = "a page for people, put together once")]

mod verdict;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::super::terminal::{span, table, visible};
use crate::probe::day;

/// Of `docs/status.md`, what is printed.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    holdline: About,
    upstream: Upstream,
    flows: Vec<Flow>,
    bindings: Bindings,
    registrations: Registrations,
    draining: bool,
    /// A Holdline of an earlier version has none of these.
    #[serde(default)]
    instance: Option<String>,
    #[serde(default)]
    store: Store,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
struct Store {
    failing: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    refused: Option<String>,
}

#[derive(Debug, Deserialize)]
struct About {
    version: String,
    revision: String,
    uptime_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Upstream {
    source: String,
    transport: String,
    selection: String,
    active: Option<String>,
    active_seconds: Option<f64>,
    failing_handsets: usize,
    failover_threshold: usize,
    min_handsets: usize,
    all_targets_failed: bool,
    targets: Vec<Target>,
    strikes: Vec<Strike>,
    dns: Dns,
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Target {
    #[serde(rename = "target")]
    label: String,
    priority: u16,
    weight: u16,
    addresses: Vec<String>,
    active: bool,
    failures: usize,
    struck_out: bool,
    missing_in_dns: bool,
    /// Seconds since 1970; a Holdline of an earlier version does not say it.
    #[serde(default)]
    certificate_not_after: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Strike {
    age_seconds: f64,
    cause: String,
    code: Option<u16>,
    detail: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Dns {
    stale: bool,
    ttl_seconds: Option<f64>,
    age_seconds: Option<f64>,
    next_lookup_seconds: Option<f64>,
    outcome: Option<String>,
    detail: Option<String>,
}

/// One of several kinds; a kind of a later version is left out.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Rollover {
        age_seconds: f64,
        from: String,
        to: String,
        reason: String,
        failures: u32,
        handsets: usize,
        /// A Holdline of an earlier version does not count them.
        #[serde(default)]
        handsets_failed: usize,
        strikes: Vec<Strike>,
    },
    TargetsChanged {
        age_seconds: f64,
        added: Vec<String>,
        removed: Vec<String>,
    },
    DnsFailing {
        age_seconds: f64,
        outcome: String,
        detail: String,
    },
    DnsRecovered {
        age_seconds: f64,
    },
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
struct Flow {
    side: String,
    transport: String,
    connections: usize,
}

#[derive(Debug, Deserialize)]
struct Bindings {
    count: usize,
    orphaned: usize,
}

#[derive(Debug, Deserialize)]
struct Registrations {
    /// Handsets whose last REGISTER came to nothing; a Holdline of an earlier version does not count them.
    #[serde(default)]
    in_trouble: Option<u64>,
    last_hour: Counts,
    latency_last_hour: Latency,
}

#[derive(Debug, Deserialize)]
struct Latency {
    mean_ms: Option<u64>,
    max_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Counts {
    success: u64,
    challenged: u64,
    rejected: u64,
    failed: u64,
}

/// Lamps are drawn up to this threshold; beyond it, numbers.
const LAMPS: usize = 10;

/// Rollovers shown, the latest ones.
const ROLLOVERS: usize = 5;

/// Other events shown, the latest ones.
const EVENTS: usize = 8;

/// The whole page.
pub(super) fn rendered(status: &Status) -> String {
    let Status { holdline, upstream, .. } = status;
    let mut lines = vec![format!(
        "holdline {}{} ({}), up {}{}",
        status.instance.as_deref().map_or(String::new(), |name| format!("{}: ", visible(name))),
        visible(&holdline.version),
        visible(&holdline.revision),
        span(holdline.uptime_seconds),
        if status.draining { ", STOPPING" } else { "" },
    )];
    lines.extend(verdict::lines(status));
    if status.store.failing {
        lines.push(
            "state        NOT KEPT: the state directory cannot be written; see docs/runbook.md#state-not-kept"
                .to_owned(),
        );
    }
    if let Some(why) = &status.config.refused {
        lines.push(format!(
            "settings     REFUSED, the old ones stay: {}; see docs/runbook.md#reload-failed",
            visible(why)
        ));
    }
    lines.push(format!(
        "upstream     {} over {}, {}",
        visible(&upstream.source),
        visible(&upstream.transport),
        visible(&upstream.selection)
    ));
    lines.push(format!("dns          {}", dns(&upstream.dns)));
    lines.push(format!("active       {}", active(upstream)));
    lines.push(format!("phones       {}", phones(status)));
    lines.push(format!("connections  {}", connections(&status.flows)));
    let Counts { success, challenged, rejected, failed } = &status.registrations.last_hour;
    lines.push(format!(
        "REGISTER     last hour: {success} success, {challenged} challenged, {rejected} rejected, {failed} failed"
    ));
    if let Latency { mean_ms: Some(mean), max_ms: Some(longest) } = status.registrations.latency_last_hour {
        lines.push(format!("             answered after {mean} ms on average, {longest} ms at the longest"));
    }
    let mut text = lines.join("\n") + "\n\n" + &targets(upstream);
    for target in &upstream.targets {
        if let Some(end) = target.certificate_not_after {
            text += &format!("  certificate of {}: until {}{}\n", visible(&target.label), day(end), ended(end));
        }
    }
    for strikes in collapsed(&upstream.strikes) {
        text += &format!("  counted: {strikes}\n");
    }
    text + &events(&upstream.events)
}

/// Certificates live by the clock, not by ages.
#[allow(clippy::disallowed_methods, reason = "a certificate ends at a time of day")]
fn ended(end: i64) -> &'static str {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    match end - now {
        left if left < 0 => ", ENDED",
        left if left < SOON => ", soon",
        _ => "",
    }
}

/// As the alert has it.
const SOON: i64 = 14 * 86_400;

fn dns(dns: &Dns) -> String {
    let mut text = match (dns.stale, dns.age_seconds) {
        (_, None) if dns.next_lookup_seconds.is_none() => return "not asked: the target is an address".to_owned(),
        (true, None) => "NO ANSWER YET".to_owned(),
        (true, Some(age)) => format!("STALE: the targets are from {} ago", span(age)),
        (false, age) => format!("ok, {} old", span(age.unwrap_or(0.0))),
    };
    if let Some(ttl) = dns.ttl_seconds {
        text += &format!(", TTL {}", span(ttl));
    }
    if let Some(next) = dns.next_lookup_seconds {
        text += &format!(", next lookup in {}", span(next));
    }
    if let (Some(detail), Some(outcome)) = (&dns.detail, &dns.outcome) {
        text += &format!(" ({}: {})", visible(outcome), visible(detail));
    }
    text
}

fn active(upstream: &Upstream) -> String {
    let Some(active) = &upstream.active else { return "NONE: no targets yet".to_owned() };
    let mut text = format!("{} for {}", visible(active), span(upstream.active_seconds.unwrap_or(0.0)));
    if upstream.all_targets_failed {
        text += "; ALL TARGETS FAILED since anybody last registered";
    }
    text
}

fn phones(status: &Status) -> String {
    let bindings = &status.bindings;
    let mut text = format!("{} registered", bindings.count);
    if let Some(in_trouble) = status.registrations.in_trouble.filter(|in_trouble| *in_trouble > 0) {
        text += &format!(", {in_trouble} in trouble (holdline phones lists them)");
    }
    if bindings.orphaned > 0 {
        text += &format!(", {} of them at another target until their next REGISTER", bindings.orphaned);
    }
    text
}

fn connections(flows: &[Flow]) -> String {
    let told = |flow: &Flow| format!("{} {} {}", visible(&flow.side), visible(&flow.transport), flow.connections);
    let some: Vec<String> = flows.iter().filter(|flow| flow.connections > 0).map(told).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

fn targets(upstream: &Upstream) -> String {
    let heads = ["", "TARGET", "PRIO", "WEIGHT", "FAILURES", "STATE", "ADDRESSES"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for target in &upstream.targets {
        rows.push(vec![
            if target.active { "->" } else { "" }.to_owned(),
            visible(&target.label),
            target.priority.to_string(),
            target.weight.to_string(),
            lamps(target, upstream),
            state(target, upstream),
            if target.addresses.is_empty() { "none".to_owned() } else { visible(&target.addresses.join(" ")) },
        ]);
    }
    table(&rows)
}

/// `[##.]` for two of three.
fn lamps(target: &Target, upstream: &Upstream) -> String {
    // After a full cycle the count begins anew: none of three would read as if all were well.
    if !target.active || (upstream.all_targets_failed && target.failures == 0) {
        return String::new();
    }
    let (count, of) = (target.failures, upstream.failover_threshold);
    let mut text = if of <= LAMPS {
        format!("[{}{}]", "#".repeat(count.min(of)), ".".repeat(of.saturating_sub(count)))
    } else {
        String::new()
    };
    text += &format!(" {count} of {of}");
    if upstream.min_handsets > 1 {
        text += &format!(", from {} of {} phones", upstream.failing_handsets, upstream.min_handsets);
    }
    text.trim_start().to_owned()
}

fn state(target: &Target, upstream: &Upstream) -> String {
    let words = [
        (target.active && upstream.all_targets_failed, "being tried again"),
        (target.active && !upstream.all_targets_failed, "active"),
        (target.struck_out, "failed, nobody succeeded since"),
        (target.missing_in_dns, "missing in DNS"),
    ];
    let words: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    if words.is_empty() { "standby".to_owned() } else { words.join(", ") }
}

/// The latest first: rollovers, then the rest, so that nothing pushes a rollover out of sight.
fn events(events: &[Event]) -> String {
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
            Event::Rollover { age_seconds, from, to, reason, failures, handsets, handsets_failed, strikes } => {
                text += &format!(
                    "{} ago  rolled over: {} -> {}, {}",
                    span(*age_seconds),
                    visible(from),
                    visible(to),
                    visible(&reason.replace('_', " "))
                );
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
            Event::Unknown => {}
        }
    }
    text
}

/// `5 min 20 s ago: response 503 "Service Unavailable"`; of one cause once: `5 min 28 s to 5 min 20 s ago: timeout, 3 times`.
fn collapsed(strikes: &[Strike]) -> Vec<String> {
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
fn cause(strike: &Strike) -> String {
    let mut text = visible(&strike.cause);
    if let Some(code) = strike.code {
        text += &format!(" {code}");
    }
    if let Some(detail) = &strike.detail {
        text += &format!(" \"{}\"", visible(detail));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn strike(age: f64, cause: &str, detail: Option<&str>) -> Value {
        json!({ "age_seconds": age, "cause": cause, "code": null, "detail": detail })
    }

    fn rollover(age: f64, from: &str, to: &str, strikes: &[Value]) -> Value {
        json!({ "event": "rollover", "age_seconds": age, "from": from, "to": to, "reason": "register_failures", "epoch": 2,
                "failures": strikes.len(), "handsets": 1, "handsets_failed": 48, "strikes": strikes })
    }

    /// Two targets, the second active.
    fn status(all_failed: bool, strikes: &[Value], events: &[Value]) -> Value {
        let target = |label: &str, active: bool| {
            json!({ "target": label, "priority": 1, "weight": 1, "addresses": ["192.0.2.1"], "active": active,
                    "failures": if active { strikes.len() } else { 0 }, "struck_out": all_failed, "missing_in_dns": false })
        };
        json!({
            "holdline": { "version": "1", "revision": "x", "uptime_seconds": 60.0 },
            "upstream": {
                "source": "_sip._tls.pbx.example", "transport": "tls", "selection": "highest-weight", "active": "b:5061",
                "active_seconds": 3.0, "failing_handsets": 0, "failover_threshold": 3, "min_handsets": 1,
                "all_targets_failed": all_failed, "targets": [target("a:5061", false), target("b:5061", true)],
                "strikes": strikes, "events": events,
                "dns": { "stale": false, "ttl_seconds": 300.0, "age_seconds": 1.0, "next_lookup_seconds": 299.0,
                         "outcome": "ok", "detail": null },
            },
            "flows": [], "bindings": { "count": 7, "orphaned": 0 },
            "registrations": { "in_trouble": 3, "last_hour": { "success": 0, "challenged": 0, "rejected": 0, "failed": 6 },
                               "latency_last_hour": { "mean_ms": null, "max_ms": null } },
            "draining": false,
            "instance": "branch-berlin", "store": { "configured": true, "failing": all_failed },
            "config": { "refused": all_failed.then_some("failures = \"0\" (holdline.toml:3): must be from 1") },
        })
    }

    fn page(status: Value) -> String {
        rendered(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn in_an_alarm_the_reason_is_told_the_runbook_is_named_and_nothing_contradicts_it() {
        let expired = [7.0, 6.0, 5.0].map(|age| strike(age, "tls", Some("certificate expired")));
        let events = [rollover(5.0, "a:5061", "b:5061", &expired), rollover(4.0, "b:5061", "b:5061", &expired)];
        let text = page(status(true, &[], &events));
        let verdict = text.lines().nth(1).unwrap();
        assert!(verdict.starts_with("ALARM ") && verdict.contains("a:5061: tls \"certificate expired\";"), "{text}");
        assert!(text.contains("docs/runbook.md#certificate"), "{text}");
        assert!(!text.contains("0 of 3"), "{text}");
        assert!(text.contains("being tried again"), "{text}");
        assert!(text.contains("7 s to 5 s ago: tls \"certificate expired\", 3 times\n"), "{text}");
        assert!(text.contains("3 counted, 48 phones failed\n"), "strikes are serial: one handset was counted: {text}");
        assert!(text.contains("7 registered, 3 in trouble"), "{text}");
        assert!(text.starts_with("holdline branch-berlin: 1 (x)"), "{text}");
        assert!(text.contains("NOT KEPT") && text.contains("REFUSED, the old ones stay: failures"), "{text}");
        let silent = [strike(5.0, "timeout", None)];
        let text = page(status(true, &[], &[rollover(5.0, "a:5061", "b:5061", &silent)]));
        assert!(text.contains("docs/runbook.md#all-targets-fail"), "{text}");
    }

    #[test]
    fn a_rollover_stays_in_sight_whatever_dns_does() {
        let mut events = vec![rollover(4000.0, "a:5061", "b:5061", &[strike(4001.0, "timeout", None)])];
        events.extend((0..50).map(|n| json!({ "event": "dns_recovered", "age_seconds": 3000.0 - f64::from(n) })));
        let text = page(status(false, &[], &events));
        assert!(text.contains("rolled over: a:5061 -> b:5061"), "{text}");
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with("ROLLED OVER  phones are at b:5061, number 2 in the order (timeout)"),
            "{text}"
        );
    }
}
