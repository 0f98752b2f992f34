//! The pages for operators say what the code does: log lines, metrics, subcommands and anchors that they name exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use holdline::cli::Cli;
use holdline::metrics::Metrics;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, ending, found),
            false if path.to_string_lossy().ends_with(ending) => found.push(path),
            false => {}
        }
    }
    found.sort();
}

/// Name and text of each page.
fn pages() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    files(&root().join("docs"), ".md", &mut paths);
    paths.extend(["README.md", "ARCHITECTURE.md"].map(|name| root().join(name)));
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    paths.into_iter().map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
}

/// One event of the log as the code writes it.
struct Told {
    level: &'static str,
    /// The format string's text between its placeholders.
    pieces: Vec<String>,
    /// The whole call: the fields' names are in it.
    call: String,
}

const LEVELS: [(&str, &str); 5] =
    [("error!(", "ERROR"), ("warn!(", "WARN"), ("info!(", "INFO"), ("debug!(", "DEBUG"), ("trace!(", "TRACE")];

/// Every event in the sources.
fn told() -> Vec<Told> {
    let mut paths = Vec::new();
    files(&root().join("src"), ".rs", &mut paths);
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path).unwrap();
        for (opening, level) in LEVELS {
            for (at, _) in text.match_indices(opening) {
                let call = &text[at + opening.len()..];
                let call = &call[..end_of_call(call)];
                // The message is the last string that is an argument by itself.
                let Some(message) = strings(call).pop() else { continue };
                let pieces = message.split('{').enumerate().map(|(n, piece)| match n {
                    0 => piece.to_owned(),
                    _ => piece.split_once('}').map_or(String::new(), |(_, rest)| rest.to_owned()),
                });
                all.push(Told { level, pieces: pieces.collect(), call: call.to_owned() });
            }
        }
    }
    all
}

/// Up to the parenthesis that closes the call.
fn end_of_call(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// String literals, line continuations joined.
fn strings(call: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current: Option<String> = None;
    let mut chars = call.chars().peekable();
    while let Some(c) = chars.next() {
        match (&mut current, c) {
            (None, '"') => current = Some(String::new()),
            (Some(_), '"') => found.extend(current.take()),
            (Some(text), '\\') => match chars.next() {
                Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                Some(escaped) => text.push(escaped),
                None => {}
            },
            (Some(text), c) => text.push(c),
            (None, _) => {}
        }
    }
    found
}

impl Told {
    /// Whether this event may print that line (level left out).
    fn prints(&self, line: &str) -> bool {
        // One that is all placeholder could print anything: it proves nothing.
        if self.pieces.iter().all(String::is_empty) {
            return false;
        }
        let Some(mut rest) = line.strip_prefix(&*self.pieces[0]) else { return false };
        for piece in &self.pieces[1..] {
            let Some(at) = rest.find(piece.as_str()) else { return false };
            rest = &rest[at + piece.len()..];
        }
        // A message that ends with a placeholder has its fields somewhere in the rest.
        let open_end = self.pieces.len() > 1 && self.pieces.last().is_some_and(String::is_empty);
        (open_end || rest.is_empty() || rest.starts_with(' '))
            && fields(rest).iter().all(|field| self.call.contains(field.as_str()))
    }
}

/// Names of ` name=value` in a line; values in quotes are skipped.
fn fields(text: &str) -> Vec<String> {
    let mut unquoted = String::new();
    for (n, part) in text.split('"').enumerate() {
        unquoted.push_str(if n % 2 == 0 { part } else { "…" });
    }
    unquoted
        .split(' ')
        .filter_map(|word| word.split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect()
}

/// Blocks fenced with this info string.
fn blocks<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    text.split(&format!("```{kind}\n")).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
fn docs_quote_log_lines_as_the_code_prints_them() {
    let told = told();
    assert!(told.len() > 50, "only {} events were found in the sources", told.len());
    let (mut quoted, mut wrong) = (0, String::new());
    for (page, text) in pages() {
        for line in blocks(&text, "log").iter().flat_map(|block| block.lines()) {
            quoted += 1;
            let (level, rest) = line.split_once(' ').unwrap_or_default();
            if !told.iter().any(|told| told.level == level && told.prints(rest)) {
                writeln!(wrong, "{page}: {line}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "no event prints:\n{wrong}");
    assert!(quoted > 10, "only {quoted} lines are quoted");
}

#[test]
fn docs_name_metrics_that_exist() {
    let metrics = Metrics::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for family in metrics.families() {
        known.insert(family.name.clone());
        known.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", family.name)));
    }
    let mut wrong = String::new();
    for (page, text) in pages() {
        for (at, _) in text.match_indices("holdline_") {
            if text[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || "_/.:".contains(c)) {
                continue;
            }
            let name: String = text[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            // The prefix by itself.
            if name != "holdline_" && !known.contains(&name) {
                writeln!(wrong, "{page}: {name}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "no such metric:\n{wrong}");
}

#[test]
fn docs_name_commands_that_exist() {
    let known: BTreeSet<String> = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let mut wrong = String::new();
    for (page, text) in pages() {
        // A record of a decision may speak of what was to come.
        if page.contains("/adr/") {
            continue;
        }
        let in_blocks = text.split("```").skip(1).step_by(2).flat_map(str::lines);
        let prose: String = text.split("```").step_by(2).collect();
        let in_line: Vec<String> = prose.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        for line in in_blocks.map(str::to_owned).chain(in_line) {
            let Some(rest) = line.strip_prefix("holdline ") else { continue };
            let command: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            if !command.is_empty() && !known.contains(&command) {
                writeln!(wrong, "{page}: holdline {command}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "no such subcommand:\n{wrong}");
}

#[test]
fn docs_link_to_headings_that_exist() {
    let pages = pages();
    let anchors: BTreeMap<&str, BTreeSet<String>> =
        pages.iter().map(|(page, text)| (page.as_str(), text.lines().filter_map(anchor).collect())).collect();
    let mut wrong = String::new();
    for (page, text) in &pages {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((file, heading)) = target.split_once('#') else { continue };
            if target.contains("://") {
                continue;
            }
            let of = match file {
                "" => page.clone(),
                file => Path::new(page).with_file_name(file).display().to_string(),
            };
            if anchors.get(of.as_str()).is_some_and(|anchors| !anchors.contains(heading)) {
                writeln!(wrong, "{page}: {target}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "no such heading:\n{wrong}");
}

/// `## Rolled over` → `rolled-over`.
fn anchor(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect())
}

/// Names of the fields in a call: `name = …`, `%name`, `?name`, `name`.
fn fields_of(call: &str) -> Vec<String> {
    let (mut arguments, mut depth, mut quoted, mut escaped) = (vec![String::new()], 0, false, false);
    for c in call.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().unwrap().push(c);
    }
    let name = |argument: &String| {
        let argument = argument.trim();
        let name = argument.split_once(" = ").map_or(argument, |(name, _)| name).trim_start_matches(['%', '?']);
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        plain.then(|| name.to_owned())
    };
    arguments.iter().filter_map(name).collect()
}

#[test]
fn docs_describe_every_field_of_the_log() {
    let page = fs::read_to_string(root().join("docs/logs.md")).unwrap();
    let described: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|line| {
            line.split('|')
                .next()
                .unwrap_or_default()
                .split('`')
                .filter(|part| !part.trim_matches([',', ' ']).is_empty())
        })
        .collect();
    let used: BTreeSet<String> = told().iter().flat_map(|told| fields_of(&told.call)).collect();
    assert!(used.len() > 30, "only {} fields were found in the sources", used.len());
    let missing: Vec<&String> = used.iter().filter(|name| !described.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/logs.md does not describe {missing:?}");
    let always = ["timestamp", "level", "message", "module"];
    let gone: Vec<&&str> = described.iter().filter(|name| !always.contains(*name) && !used.contains(**name)).collect();
    assert!(gone.is_empty(), "no line has {gone:?}");
}

/// The first number of the row that begins with `| what |`, in the table of `docs/limits.md`.
fn bound_in(page: &str, what: &str) -> usize {
    let row = page.lines().find(|line| line.starts_with(&format!("| {what} |")));
    let row = row.unwrap_or_else(|| panic!("docs/limits.md has no row for {what}"));
    let bound = row.split('|').nth(2).unwrap();
    let digits: String = bound.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number in: {row}"))
}

#[test]
fn docs_limits_are_those_of_the_code() {
    use holdline::upstream::{MAX_ADDRESSES, MAX_PAST_TARGETS, events, failover, records};
    let page = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let default = |name: &str| -> usize {
        holdline::config::keys::KEYS.iter().find(|key| key.name == name).unwrap().default.parse().unwrap()
    };
    let transport = holdline::transport::Limits::default();
    let rows = [
        ("transactions", default("limit_transactions")),
        ("bindings", default("limit_bindings")),
        ("bindings of one address of record", holdline::proxy::bindings::MAX_PER_AOR),
        ("Contacts in one REGISTER", holdline::proxy::contact::MAX_CONTACTS),
        ("TCP and TLS connections accepted", default("limit_connections")),
        ("TLS handshakes with handsets at one time", transport.handshakes),
        ("connections to the upstream", holdline::proxy::Settings::default().max_upstream_connections),
        ("bytes waiting on one connection", transport.queue_bytes / 1024),
        ("SRV records of one answer", records::MAX_RECORDS),
        ("addresses of one target", MAX_ADDRESSES),
        ("targets of earlier record sets, for their dialogs and bindings", MAX_PAST_TARGETS),
        ("targets with metrics of their own", holdline::metrics::MAX_TARGETS),
        ("events in `/status`", events::MAX_EVENTS),
        ("rollovers in `/status`", events::MAX_ROLLOVERS),
        ("handsets that failed before a rollover, told apart", failover::MAX_HANDSETS),
        ("strikes reported with a rollover", failover::MAX_STRIKES),
        ("a peer's own words kept with a failure", events::MAX_DETAIL),
        ("handsets in one answer of the control socket", holdline::proxy::phones::MAX_LISTED),
        ("copies for the HEP receiver that wait", holdline::hep::HELD_ITEMS),
        ("requests of the PBX that wait for the fleet's memory", holdline::proxy::MAX_PARKED),
        ("bindings that wait to be written for the fleet", holdline::cluster::MAX_WAITING),
        ("instances of a fleet that are listed", holdline::fleet::MAX_INSTANCES),
        ("one value or message in the shared memory", holdline::fleet::LONGEST),
        ("time that a rollover waits for the fleet's shared memory", holdline::fleet::PATIENCE.as_millis() as usize),
        ("notifications about rollovers that wait", holdline::notify::QUEUE),
        ("time for one notification", holdline::notify::LIFETIME.as_secs() as usize / 60),
        ("traces at one time", holdline::tap::TRACES),
        ("messages that wait for one trace", holdline::tap::HELD_ITEMS),
        ("failures kept for `holdline trace --last`", holdline::tap::KEPT),
        ("calls that one trace follows", holdline::tap::FOLLOWED),
    ];
    for (what, bound) in rows {
        assert_eq!(bound_in(&page, what), bound, "{what}");
    }
    let row = page.lines().find_map(|line| line.strip_prefix("| elements in one list of a request (")).unwrap();
    let (names, bound) = row.split_once(") | ").unwrap();
    assert!(bound.starts_with(&format!("{} |", holdline::message::MAX_ELEMENTS)), "{bound}");
    let mut bounded: Vec<&str> = holdline::message::BOUNDED_LISTS.iter().map(|name| name.as_str()).collect();
    let mut named: Vec<&str> = names.split(", ").collect();
    bounded.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, bounded);
    assert!(page.contains(&format!("64 KiB, {} header lines", holdline::message::MAX_HEADER_LINES)));
}

#[test]
fn docs_limits_name_metrics_that_exist() {
    let page = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let metrics = Metrics::new();
    let known: BTreeSet<String> = metrics.families().iter().map(|family| family.name.clone()).collect();
    let rows = page.lines().skip_while(|line| *line != "## Bounds").filter(|line| line.starts_with("| "));
    let mut named = 0;
    for metric in rows.filter_map(|row| row.split('|').nth(4)).flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        let name = metric.split('{').next().unwrap();
        assert!(known.contains(&format!("holdline_{name}")), "{metric}");
        named += 1;
    }
    assert!(named > 12, "only {named} metrics were found");
}
