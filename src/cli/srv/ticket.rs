//! Looks for somebody else's eyes: Markdown for a ticket, CSV for a spreadsheet.

use std::fmt::Write as _;

use super::overview::targets;
use super::table::state;
use crate::probe::report::{AddressLook, Look, RecordLook, TargetLook};
use crate::probe::{moment, percent};

/// A heading, a table and a list for each look.
pub(super) fn markdown(looks: &[Look]) -> String {
    looks.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(look: &Look) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "### {}: {}\n", code(&look.input), look.verdict.as_str());
    let asked = match look.asked.as_slice() {
        [] => String::new(),
        asked => format!(", asked of {}", asked.iter().map(|server| code(server)).collect::<Vec<_>>().join(", ")),
    };
    let _ = writeln!(out, "{}{asked}: {}\n", moment(look.at as i64), targets(look));
    for record in [&look.record, &look.outbound_proxy].into_iter().flatten() {
        let ttl = record.ttl.map_or(String::new(), |ttl| format!(", TTL {ttl} s"));
        let _ = writeln!(out, "{}{ttl}\n", code(&record.name));
        out.push_str("| # | prio | weight | share | target | addresses | state |\n|---|---|---|---|---|---|---|\n");
        for target in &record.targets {
            let _ = writeln!(out, "| {} |", cells(target).join(" | "));
        }
        out.push('\n');
    }
    for finding in &look.findings {
        let about: Vec<String> = finding.about.iter().map(|about| code(about)).collect();
        let about = if about.is_empty() { String::new() } else { format!("{}: ", about.join(", ")) };
        let _ = writeln!(out, "- **{}** {about}{}", finding.severity.as_str(), prose(&finding.text));
    }
    if !look.findings.is_empty() {
        out.push('\n');
    }
    match &look.enter {
        Some(enter) => {
            let _ = writeln!(out, "Enter: {}", code(&format!("holdline run {}", enter.flags())));
        }
        None => out.push_str("Enter: nothing that would work was found\n"),
    }
    out
}

fn cells(target: &TargetLook) -> [String; 7] {
    let addresses: Vec<String> = target.addresses.iter().map(|address| code(&address.address)).collect();
    [
        target.order.map_or("-".to_owned(), |order| order.to_string()),
        target.priority.to_string(),
        target.weight.to_string(),
        target.share_percent.map_or("-".to_owned(), percent),
        code(&target.label()),
        if addresses.is_empty() { "-".to_owned() } else { addresses.join(" ") },
        prose(&state(target)),
    ]
}

/// Text that Markdown shows as it is. A `|` ends a cell even within code.
fn code(text: &str) -> String {
    format!("`{}`", text.replace(['`', '|'], "'").replace('\n', " "))
}

/// Every punctuation mark may be escaped (CommonMark 0.31 §2.4); these would mean something.
fn prose(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' | '!' | '~' | '@' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

const HEAD: [&str; 15] = [
    "name",
    "at",
    "result",
    "record",
    "transport",
    "ttl",
    "order",
    "selected",
    "priority",
    "weight",
    "target",
    "port",
    "address",
    "state",
    "detail",
];

/// One line for each address of each target (RFC 4180, with bare line feeds), under a head. A NAME without targets has
/// one line.
pub(super) fn csv(looks: &[Look]) -> String {
    let mut out = row(&HEAD.map(str::to_owned));
    for look in looks {
        let mut any = false;
        for record in [&look.record, &look.outbound_proxy].into_iter().flatten() {
            for target in &record.targets {
                for address in target.addresses.iter().map(Some).chain(target.addresses.is_empty().then_some(None)) {
                    out.push_str(&row(&measured(look, record, target, address)));
                    any = true;
                }
            }
        }
        if !any {
            let why = look.findings.first().map(|finding| finding.text.clone()).unwrap_or_default();
            let mut cells = HEAD.map(|_| String::new());
            cells[..3].clone_from_slice(&about(look));
            cells[14] = why;
            out.push_str(&row(&cells));
        }
    }
    out
}

fn about(look: &Look) -> [String; 3] {
    [look.input.clone(), moment(look.at as i64), look.verdict.as_str().to_owned()]
}

fn measured(look: &Look, record: &RecordLook, target: &TargetLook, address: Option<&AddressLook>) -> [String; 15] {
    let [name, at, result] = about(look);
    let failure = address.and_then(|address| address.failure.as_ref()).map(|failure| failure.text.clone());
    let state = address.map_or(target.state, |address| address.state);
    let detail = failure.unwrap_or_else(|| address.map_or(&target.summary, |address| &address.summary).clone());
    [
        name,
        at,
        result,
        record.name.clone(),
        record.transport.map_or("", |transport| transport.as_str()).to_owned(),
        record.ttl.map_or(String::new(), |ttl| ttl.to_string()),
        target.order.map_or(String::new(), |order| order.to_string()),
        target.selected.to_string(),
        target.priority.to_string(),
        target.weight.to_string(),
        target.host.clone(),
        target.port.to_string(),
        address.map_or(String::new(), |address| address.address.clone()),
        word(state).to_owned(),
        detail,
    ]
}

fn word(state: crate::probe::report::State) -> &'static str {
    use crate::probe::report::State;
    match state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Fails => "fails",
        State::NotMeasured => "not_measured",
    }
}

fn row(cells: &[String; 15]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| field(cell)).collect();
    format!("{}\n", cells.join(","))
}

/// What begins like a formula would be one in a spreadsheet: untrusted peers write some of this.
fn field(text: &str) -> String {
    let guarded = if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text.to_owned() };
    if guarded.contains([',', '"', '\n', '\r']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula_and_never_two() {
        for (text, cell) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("=1+1", "'=1+1"),
            ("@a, b", "\"'@a, b\""),
        ] {
            assert_eq!(field(text), cell);
        }
    }

    #[test]
    fn words_of_untrusted_peers_are_no_markdown() {
        assert_eq!(prose("[x](http://evil) *a* <b> | #"), "\\[x\\](http://evil) \\*a\\* \\<b\\> \\| \\#");
        assert_eq!(code("a`b|c"), "`a'b'c`");
    }
}
