//! `/status` as text for people.

#![allow(clippy::format_push_string, reason = "a page for people, put together once")]

mod events;
mod fleet;
mod verdict;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::super::terminal::{span, table, visible};
use crate::probe::day;
use events::{cause, collapsed, events};

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
    /// `None` for one that is alone.
    #[serde(default)]
    cluster: Option<fleet::Cluster>,
}

#[derive(Debug, Default, Deserialize)]
struct Store {
    /// `None` without a state directory.
    writable: Option<bool>,
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
        #[serde(default)]
        decided_by: Option<String>,
        #[serde(default)]
        decided_for: Option<String>,
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
    if status.store.writable == Some(false) {
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
    lines.extend(status.cluster.iter().flat_map(fleet::lines));
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

#[cfg(test)]
mod tests;
