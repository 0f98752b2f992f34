//! One look as text for people.

use std::fmt::Write as _;

use super::screen::{Ink, Screen};
use super::table::{ink, table};
use crate::flow::Transport;
use crate::probe::report::{AddressLook, Look, RecordLook, Severity, State, TlsLook, Verdict};
use crate::probe::{day, orders};

/// The whole report of one NAME.
pub(super) fn page(screen: &Screen, look: &Look) -> String {
    let titled = look.variations.is_empty() && look.record.as_ref().is_some_and(|record| record.name == look.input);
    let mut out = if titled { String::new() } else { format!("{}\n", screen.ink(Ink::Bold, &look.input)) };
    variations(screen, look, &mut out);
    for record in [&look.record, &look.outbound_proxy].into_iter().flatten() {
        if !out.is_empty() {
            out.push('\n');
        }
        set(screen, record, &mut out);
    }
    name_servers(screen, look, &mut out);
    findings(screen, look, &mut out);
    result(screen, look, &mut out);
    out
}

fn set(screen: &Screen, record: &RecordLook, out: &mut String) {
    let targets = match record.usable().count() {
        1 => "1 target".to_owned(),
        n => format!("{n} targets"),
    };
    let over = record
        .transport
        .map_or("over DTLS or nothing Holdline speaks".to_owned(), |t| format!("over {}", t.via_token()));
    let ttl = match record.ttl {
        Some(ttl) if record.authoritative => format!(", TTL {ttl} s"),
        Some(ttl) => format!(", TTL {ttl} s (from a cache)"),
        None => ", outbound proxy".to_owned(),
    };
    let head = format!("{targets} {over}{ttl}");
    let _ = writeln!(out, "{}  {}", screen.ink(Ink::Bold, &record.name), screen.ink(Ink::Dim, &head));
    out.push_str(&table(screen, record));
    out.push('\n');
    out.push_str(&screen.paragraph((Ink::Bold, "> "), &record.why));
    for order in orders(record) {
        out.push_str(&screen.paragraph((Ink::Plain, "  "), &order));
    }
    if measures(record) {
        measured(screen, record, out);
    }
}

fn measures(record: &RecordLook) -> bool {
    record.targets.iter().flat_map(|target| &target.addresses).any(|address| address.state != State::NotMeasured)
}

fn measured(screen: &Screen, record: &RecordLook, out: &mut String) {
    let _ = writeln!(out, "\n{}", screen.ink(Ink::Bold, "Measured"));
    for target in record.usable() {
        for (turn, address) in target.addresses.iter().enumerate() {
            let order = if turn == 0 { target.order.unwrap_or_default().to_string() } else { String::new() };
            let first = format!("{order:>3}  {:<15}  ", address.address);
            let indent = " ".repeat(first.chars().count());
            out.push_str(&screen.paragraph((ink(address.state), &first), &one_line(record.transport, address)));
            if let Some(tls) = &address.tls {
                for line in certificate(tls) {
                    out.push_str(&screen.paragraph((Ink::Plain, &indent), &line));
                }
            }
        }
    }
}

/// `TCP 0.4 ms, TLSv1.3, OPTIONS 200 OK in 1.2 ms, Server: Kamailio`.
fn one_line(transport: Option<Transport>, address: &AddressLook) -> String {
    let mut parts = Vec::new();
    match (address.connect_ms, transport) {
        (Some(ms), _) => parts.push(format!("TCP {ms} ms")),
        (None, Some(Transport::Udp)) if address.options.is_some() => parts.push("UDP".to_owned()),
        _ => {}
    }
    parts.extend(address.tls.as_ref().map(|tls| tls.protocol.clone()));
    if let Some(options) = &address.options {
        parts.push(
            format!("OPTIONS {} {} in {} ms", options.status, options.reason, options.round_trip_ms).replace("  ", " "),
        );
        parts.extend(options.server.as_ref().map(|server| format!("Server: {server}")));
    }
    parts.extend(address.failure.as_ref().map(|failure| failure.text.clone()));
    parts.join(", ")
}

fn certificate(tls: &TlsLook) -> [String; 2] {
    let names = if tls.names.is_empty() { "no name at all".to_owned() } else { tls.names.join(", ") };
    let issuer = if tls.self_signed { "self-signed".to_owned() } else { format!("issued by {}", tls.issuer) };
    let left = match tls.days_left {
        days if days < 0 => format!("ended {} days ago ({})", -days, day(tls.not_after)),
        days => format!("{days} days left (until {})", day(tls.not_after)),
    };
    let verify = match tls.satisfies.as_slice() {
        [] => "satisfies no --upstream-verify".to_owned(),
        some => format!("satisfies --upstream-verify {}", some.join(", ")),
    };
    let sni = tls.sni.as_ref().map_or("no SNI".to_owned(), |sni| format!("SNI {sni}"));
    [format!("certificate for {names}; {issuer}; {left}"), format!("{verify} ({sni})")]
}

fn variations(screen: &Screen, look: &Look, out: &mut String) {
    if look.variations.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", screen.ink(Ink::Bold, "Names tried, in the order of preference"));
    let longest = look.variations.iter().map(|variation| variation.name.chars().count()).max().unwrap_or(0);
    for variation in &look.variations {
        let mark = if variation.preferred { "> " } else { "  " };
        let ink = match (variation.preferred, variation.outcome.as_str()) {
            (true, _) => Ink::Green,
            (false, "ok") => Ink::Plain,
            (false, "servfail" | "timeout" | "error") => Ink::Yellow,
            (false, _) => Ink::Dim,
        };
        let first = format!("{mark}{:<longest$}  ", variation.name);
        out.push_str(&screen.paragraph((ink, &first), &variation.text));
    }
    for naptr in &look.naptr {
        let first = format!("  {:<longest$}  ", "NAPTR");
        let text = format!(
            "{} {} \"{}\" {} -> {} (only informs)",
            naptr.order, naptr.preference, naptr.flags, naptr.services, naptr.replacement
        );
        out.push_str(&screen.paragraph((Ink::Dim, &first), &text));
    }
    if look.naptr.is_empty() {
        let first = format!("  {:<longest$}  ", "NAPTR");
        let text = match look.naptr_outcome.as_deref() {
            Some("servfail" | "timeout" | "error") => "cannot be found out (would only inform)",
            _ => "none (would only inform)",
        };
        out.push_str(&screen.paragraph((Ink::Dim, &first), text));
    }
}

fn name_servers(screen: &Screen, look: &Look, out: &mut String) {
    if look.nameservers.is_empty() {
        if !look.asked.is_empty() {
            let _ = writeln!(
                out,
                "\n{}  {}",
                screen.ink(Ink::Bold, "Name server"),
                screen.ink(Ink::Plain, &look.asked.join(", "))
            );
        }
        return;
    }
    let _ = writeln!(out, "\n{}", screen.ink(Ink::Bold, "Name servers, each asked by itself"));
    let longest = look.nameservers.iter().map(|server| server.server.chars().count()).max().unwrap_or(0);
    for server in &look.nameservers {
        let first = format!("  {:<longest$}  ", server.server);
        let records =
            if server.records.is_empty() { String::new() } else { format!(" [{}]", server.records.join("; ")) };
        out.push_str(&screen.paragraph((Ink::Plain, &first), &format!("{} {}{records}", server.name, server.outcome)));
    }
}

fn findings(screen: &Screen, look: &Look, out: &mut String) {
    if !look.findings.is_empty() {
        out.push('\n');
    }
    for finding in &look.findings {
        let ink = match finding.severity {
            Severity::Error => Ink::Red,
            Severity::Warning => Ink::Yellow,
            Severity::Note => Ink::Dim,
        };
        let first = format!("{:<9}", finding.severity.as_str());
        let about = if finding.about.is_empty() { String::new() } else { format!("{}: ", finding.about.join(", ")) };
        out.push_str(&screen.paragraph((ink, &first), &format!("{about}{}", finding.text)));
    }
}

fn result(screen: &Screen, look: &Look, out: &mut String) {
    let ink = super::overview::ink(look.verdict);
    let unmeasured = match look.record.as_ref().or(look.outbound_proxy.as_ref()) {
        Some(record) if !measures(record) && look.verdict != Verdict::Fails => "  (by DNS alone: nothing was measured)",
        _ => "",
    };
    let _ = writeln!(out, "\nresult   {}{unmeasured}", screen.ink(ink, look.verdict.as_str()));
    match &look.enter {
        Some(enter) => {
            let flags = screen.ink(Ink::Bold, &format!("holdline run {}", enter.flags()));
            let but = if look.verdict == Verdict::Fails { "  (see the errors above)" } else { "" };
            let _ = writeln!(out, "enter    {flags}{but}");
        }
        None => out.push_str("enter    nothing that would work was found\n"),
    }
}
