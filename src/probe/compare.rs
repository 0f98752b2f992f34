//! What changed between two looks at one NAME. Round-trip times and what is left of a TTL in a cache are no change.

use std::collections::BTreeSet;

use super::report::{AddressLook, Finding, Look, RecordLook, State, TargetLook, TlsLook};

/// One line for each change, in the order of the report. Empty: nothing changed.
#[must_use]
pub fn changes(old: &Look, new: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |line: String| lines.push(line);
    // A look that measured and one that did not differ in what they know, not in what is there.
    let alike = measures(old) == measures(new);
    if alike && old.verdict != new.verdict {
        say(format!("result: {} -> {}", old.verdict.as_str(), new.verdict.as_str()));
    }
    if alike && old.enter != new.enter {
        let flags = |look: &Look| look.enter.as_ref().map_or("nothing".to_owned(), super::report::Enter::flags);
        say(format!("enter: {} -> {}", flags(old), flags(new)));
    }
    for (what, a, b) in
        [("record", &old.record, &new.record), ("outbound proxy", &old.outbound_proxy, &new.outbound_proxy)]
    {
        match (a, b) {
            (None, None) => {}
            (None, Some(b)) => say(format!("{what}: {} is there now", b.name)),
            (Some(a), None) => say(format!("{what}: {} is gone", a.name)),
            (Some(a), Some(b)) if a.name != b.name => say(format!("{what}: {} -> {}", a.name, b.name)),
            (Some(a), Some(b)) => record(a, b, &mut say),
        }
    }
    for variation in &new.variations {
        let before = old.variations.iter().find(|before| before.name == variation.name);
        if let Some(before) = before.filter(|before| before.outcome != variation.outcome) {
            say(format!("{}: {} -> {}", variation.name, before.outcome, variation.outcome));
        }
    }
    for server in &new.nameservers {
        let before = old.nameservers.iter().find(|before| before.server == server.server && before.name == server.name);
        if let Some(before) = before
            && (&before.outcome, &before.records) != (&server.outcome, &server.records)
        {
            let said = |outcome: &str, records: &[String]| format!("{outcome} [{}]", records.join("; "));
            let (before, now) = (said(&before.outcome, &before.records), said(&server.outcome, &server.records));
            say(format!("name server {}: {before} -> {now}", server.server));
        }
    }
    if alike {
        findings(old, new, &mut say);
    }
    lines
}

/// False where addresses are known and none was measured.
fn measures(look: &Look) -> bool {
    let records = [&look.record, &look.outbound_proxy].into_iter().flatten();
    let mut addresses = records.flat_map(|record| &record.targets).flat_map(|target| &target.addresses).peekable();
    addresses.peek().is_none() || addresses.any(|address| address.state != State::NotMeasured)
}

fn record(old: &RecordLook, new: &RecordLook, say: &mut impl FnMut(String)) {
    if old.alias != new.alias {
        let alias = |look: &RecordLook| look.alias.clone().unwrap_or_else(|| "no alias".to_owned());
        say(format!("{}: {} -> {}", new.name, alias(old), alias(new)));
    }
    // What a cache says counts down.
    if old.authoritative && new.authoritative && old.ttl != new.ttl {
        say(format!("{}: TTL {} s -> {} s", new.name, old.ttl.unwrap_or_default(), new.ttl.unwrap_or_default()));
    }
    let label = |target: &TargetLook| (target.label(), target.order.is_some());
    for target in &old.targets {
        if !new.targets.iter().any(|other| label(other) == label(target)) {
            say(format!("- {} (priority {}, weight {})", target.label(), target.priority, target.weight));
        }
    }
    for target in &new.targets {
        match old.targets.iter().find(|other| label(other) == label(target)) {
            None => say(format!("+ {} (priority {}, weight {})", target.label(), target.priority, target.weight)),
            Some(before) => self::target(before, target, say),
        }
    }
    let selected = |look: &RecordLook| look.targets.iter().find(|target| target.selected).map(TargetLook::label);
    if let (Some(a), Some(b)) = (selected(old), selected(new))
        && a != b
    {
        say(format!("selected: {a} -> {b}"));
    }
}

fn target(old: &TargetLook, new: &TargetLook, say: &mut impl FnMut(String)) {
    let label = new.label();
    if (old.priority, old.weight) != (new.priority, new.weight) {
        say(format!(
            "{label}: priority {}, weight {} -> priority {}, weight {}",
            old.priority, old.weight, new.priority, new.weight
        ));
    }
    let addresses = |look: &TargetLook| look.addresses.iter().map(|a| a.address.clone()).collect::<BTreeSet<_>>();
    let (before, now) = (addresses(old), addresses(new));
    if before != now {
        let list = |set: &BTreeSet<String>| {
            if set.is_empty() { "none".to_owned() } else { set.iter().cloned().collect::<Vec<_>>().join(", ") }
        };
        say(format!("{label}: addresses {} -> {}", list(&before), list(&now)));
    }
    if old.state == State::NotMeasured || new.state == State::NotMeasured {
        return;
    }
    for address in &new.addresses {
        if let Some(before) = old.addresses.iter().find(|before| before.address == address.address) {
            let place =
                if new.addresses.len() == 1 { label.clone() } else { format!("{label} at {}", address.address) };
            measured(&place, before, address, say);
        }
    }
}

fn measured(place: &str, old: &AddressLook, new: &AddressLook, say: &mut impl FnMut(String)) {
    let state = |look: &AddressLook| match (&look.options, &look.failure) {
        (_, Some(failure)) => failure.text.clone(),
        (Some(options), None) => format!("OPTIONS {} {}", options.status, options.reason).trim_end().to_owned(),
        (None, None) => look.summary.clone(),
    };
    let (before, now) = (state(old), state(new));
    if before != now {
        say(format!("{place}: {before} -> {now}"));
    }
    let server = |look: &AddressLook| look.options.as_ref().and_then(|options| options.server.clone());
    if let (Some(before), Some(now)) = (server(old), server(new))
        && before != now
    {
        say(format!("{place}: Server {before} -> {now}"));
    }
    if let (Some(before), Some(now)) = (&old.tls, &new.tls) {
        certificate(place, before, now, say);
    }
}

fn certificate(place: &str, old: &TlsLook, new: &TlsLook, say: &mut impl FnMut(String)) {
    if (&old.names, &old.issuer, old.not_after) != (&new.names, &new.issuer, new.not_after) {
        let certificate =
            |tls: &TlsLook| format!("[{}] by {} until {}", tls.names.join(", "), tls.issuer, day(tls.not_after));
        say(format!("{place}: certificate {} -> {}", certificate(old), certificate(new)));
    }
    if old.protocol != new.protocol {
        say(format!("{place}: {} -> {}", old.protocol, new.protocol));
    }
    if old.satisfies != new.satisfies {
        let list = |tls: &TlsLook| if tls.satisfies.is_empty() { "none".to_owned() } else { tls.satisfies.join(", ") };
        say(format!("{place}: satisfies --upstream-verify {} -> {}", list(old), list(new)));
    }
}

/// By code and subject: the words may carry numbers that move on their own.
fn findings(old: &Look, new: &Look, say: &mut impl FnMut(String)) {
    let known = |look: &Look, finding: &Finding| {
        look.findings.iter().any(|other| other.code == finding.code && other.about == finding.about)
    };
    let words = |finding: &Finding| {
        let about = if finding.about.is_empty() { String::new() } else { format!("{}: ", finding.about.join(", ")) };
        format!("{} ({}): {about}{}", finding.severity.as_str(), finding.code, finding.text)
    };
    for finding in new.findings.iter().filter(|finding| !known(old, finding)) {
        say(format!("new {}", words(finding)));
    }
    for finding in old.findings.iter().filter(|finding| !known(new, finding)) {
        say(format!("no longer: {}", words(finding)));
    }
}

/// `2026-11-25`, UTC.
#[must_use]
pub fn day(unix: i64) -> String {
    moment(unix).split('T').next().unwrap_or_default().to_owned()
}

/// `2026-11-25T17:03:59Z`.
#[must_use]
pub fn moment(unix: i64) -> String {
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // Civil date from days since 1970, for the proleptic Gregorian calendar: years begin in March, eras have 400 years.
    let day = days + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_626_239, "2026-11-25T17:03:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(moment(unix), text);
        }
    }
}
