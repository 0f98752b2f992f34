//! `/status` as text for people.

#![allow(clippy::format_push_string, reason = "a page for people, put together once")]

use serde::Deserialize;

use super::super::terminal::{span, table, visible};

/// Of `docs/status.md`, what is printed.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    holdline: About,
    upstream: Upstream,
    flows: Vec<Flow>,
    bindings: Bindings,
    registrations: Registrations,
    draining: bool,
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
}

#[derive(Debug, Deserialize)]
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
    StrikesVoided {
        age_seconds: f64,
        target: String,
        failures: u32,
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

/// What one line has room for.
pub(super) struct Overview<'a> {
    pub(super) source: &'a str,
    pub(super) active: Option<&'a str>,
    pub(super) active_seconds: Option<f64>,
    pub(super) handsets: usize,
    /// The worst that there is to say, in a few words.
    pub(super) state: String,
}

/// The same report in one line.
pub(super) fn overview(status: &Status) -> Overview<'_> {
    let upstream = &status.upstream;
    let failures = upstream.targets.iter().find(|target| target.active).map_or(0, |target| target.failures);
    let first = upstream.targets.first().is_none_or(|target| target.active);
    let state = if status.draining {
        "STOPPING".to_owned()
    } else if upstream.active.is_none() {
        "NO TARGETS YET".to_owned()
    } else if upstream.all_targets_failed {
        "ALL TARGETS FAIL".to_owned()
    } else if failures > 0 {
        format!("{failures} of {} failures", upstream.failover_threshold)
    } else if upstream.dns.stale {
        "DNS stale".to_owned()
    } else if first {
        "ok".to_owned()
    } else {
        "rolled over".to_owned()
    };
    Overview {
        source: &upstream.source,
        active: upstream.active.as_deref(),
        active_seconds: upstream.active_seconds,
        handsets: status.bindings.count,
        state,
    }
}

/// Lamps are drawn up to this threshold; beyond it, numbers.
const LAMPS: usize = 10;

/// Events shown, the latest ones.
const EVENTS: usize = 8;

/// The whole page.
pub(super) fn rendered(status: &Status) -> String {
    let Status { holdline, upstream, .. } = status;
    let mut lines = vec![format!(
        "holdline {} ({}), up {}{}",
        visible(&holdline.version),
        visible(&holdline.revision),
        span(holdline.uptime_seconds),
        if status.draining { ", STOPPING" } else { "" },
    )];
    lines.push(format!(
        "upstream     {} over {}, {}",
        visible(&upstream.source),
        visible(&upstream.transport),
        visible(&upstream.selection)
    ));
    lines.push(format!("dns          {}", dns(&upstream.dns)));
    lines.push(format!("active       {}", active(upstream)));
    lines.push(format!("phones       {}", phones(&status.bindings)));
    lines.push(format!("connections  {}", connections(&status.flows)));
    let Counts { success, challenged, rejected, failed } = &status.registrations.last_hour;
    lines.push(format!(
        "REGISTER     last hour: {success} success, {challenged} challenged, {rejected} rejected, {failed} failed"
    ));
    if let Latency { mean_ms: Some(mean), max_ms: Some(longest) } = status.registrations.latency_last_hour {
        lines.push(format!("             answered after {mean} ms on average, {longest} ms at the longest"));
    }
    let mut text = lines.join("\n") + "\n\n" + &targets(upstream);
    for strike in &upstream.strikes {
        text += &format!("  counted: {}\n", cause_of(strike));
    }
    text + &events(&upstream.events)
}

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

fn phones(bindings: &Bindings) -> String {
    let mut text = format!("{} registered", bindings.count);
    if bindings.orphaned > 0 {
        text += &format!(", {} of them at another target until their next REGISTER", bindings.orphaned);
    }
    text
}

fn connections(flows: &[Flow]) -> String {
    let words = |flow: &Flow| format!("{} {} {}", visible(&flow.side), visible(&flow.transport), flow.connections);
    let some: Vec<String> = flows.iter().filter(|flow| flow.connections > 0).map(words).collect();
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
            state(target),
            if target.addresses.is_empty() { "none".to_owned() } else { visible(&target.addresses.join(" ")) },
        ]);
    }
    table(&rows)
}

/// `[##.]` for two of three.
fn lamps(target: &Target, upstream: &Upstream) -> String {
    if !target.active {
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

fn state(target: &Target) -> String {
    let words = [
        (target.active, "active"),
        (target.struck_out, "failed, nobody succeeded since"),
        (target.missing_in_dns, "missing in DNS"),
    ];
    let words: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    if words.is_empty() { "standby".to_owned() } else { words.join(", ") }
}

/// The latest first.
fn events(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events.iter().rev().filter(|event| !matches!(event, Event::Unknown)).take(EVENTS) {
        if text.is_empty() {
            text += "\n";
        }
        match event {
            Event::Rollover { age_seconds, from, to, reason, failures, handsets, strikes } => {
                text += &format!(
                    "{} ago  rolled over: {} -> {}, {}",
                    span(*age_seconds),
                    visible(from),
                    visible(to),
                    visible(&reason.replace('_', " "))
                );
                if *failures > 0 {
                    text +=
                        &format!(", {failures} counted from {handsets} phone{}", if *handsets == 1 { "" } else { "s" });
                }
                text.push('\n');
                for strike in strikes {
                    text += &format!("  {}\n", cause_of(strike));
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

/// `5 min 20 s ago: response 503 "Service Unavailable"`.
fn cause_of(strike: &Strike) -> String {
    let mut text = format!("{} ago: {}", span(strike.age_seconds), visible(&strike.cause));
    if let Some(code) = strike.code {
        text += &format!(" {code}");
    }
    if let Some(detail) = &strike.detail {
        text += &format!(" \"{}\"", visible(detail));
    }
    text
}
