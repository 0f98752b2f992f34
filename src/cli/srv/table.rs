//! The records as a table: one line each where there is room, else two.

use std::fmt::Write as _;

use super::screen::{Ink, Screen};
use crate::probe::percent;
use crate::probe::report::{RecordLook, State, TargetLook};

/// Between two columns.
const GAP: usize = 2;

/// Head and rows. The one Holdline would select is marked with `>`.
pub(super) fn table(screen: &Screen, record: &RecordLook) -> String {
    let rows: Vec<Row> = record.targets.iter().map(|target| Row::of(record, target)).collect();
    let whole = Row::head();
    let widths: Vec<usize> = (0..COLUMNS)
        .map(|n| rows.iter().chain([&whole]).map(|row| row.cells[n].chars().count()).max().unwrap_or(0))
        .collect();
    let width: usize = widths.iter().map(|width| width + GAP).sum();
    if screen.table.is_none_or(|columns| width <= columns) {
        wide(screen, &rows, &widths)
    } else {
        narrow(screen, &rows, &widths)
    }
}

const COLUMNS: usize = 11;
/// Numbers stand at the right.
const RIGHT: [bool; COLUMNS] = [false, true, true, true, true, false, true, false, false, true, false];
const TARGET: usize = 7;
const ADDRESSES: usize = 8;
const TTL: usize = 9;
const STATE: usize = 10;

struct Row {
    cells: [String; COLUMNS],
    state: State,
    /// One for each address, for the narrow form.
    addresses: Vec<String>,
}

impl Row {
    fn head() -> Row {
        let cells = ["", "#", "prio", "weight", "share", "via", "port", "target", "addresses", "ttl", "state"]
            .map(str::to_owned);
        Row { cells, state: State::NotMeasured, addresses: Vec::new() }
    }

    fn of(record: &RecordLook, target: &TargetLook) -> Row {
        let addresses: Vec<String> = target.addresses.iter().map(|address| address.address.clone()).collect();
        let is_proxy = record.domain.is_none();
        let number = |n: u16| if is_proxy { "-".to_owned() } else { n.to_string() };
        let cells = [
            if target.selected { ">" } else { "" }.to_owned(),
            target.order.map_or("-".to_owned(), |order| order.to_string()),
            number(target.priority),
            number(target.weight),
            target.share_percent.filter(|_| !is_proxy).map_or("-".to_owned(), percent),
            record.transport.map_or("-", |transport| transport.as_str()).to_owned(),
            target.port.to_string(),
            target.host.clone(),
            if addresses.is_empty() { "-".to_owned() } else { addresses.join(", ") },
            record.ttl.or(target.address_ttl).map_or("-".to_owned(), |ttl| ttl.to_string()),
            state(target),
        ];
        Row { cells, state: target.state, addresses }
    }
}

/// `ok, 200 in 12.3 ms` · `FAILS, refused` · `not measured`.
pub(super) fn state(target: &TargetLook) -> String {
    let word = match target.state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Fails if target.order.is_some() => "FAILS",
        State::Fails => "unusable",
        State::NotMeasured => return target.summary.clone(),
    };
    if target.summary.is_empty() { word.to_owned() } else { format!("{word}, {}", target.summary) }
}

/// The ink for a state.
pub(super) fn ink(state: State) -> Ink {
    match state {
        State::Ok => Ink::Green,
        State::Warning => Ink::Yellow,
        State::Fails => Ink::Red,
        State::NotMeasured => Ink::Plain,
    }
}

fn wide(screen: &Screen, rows: &[Row], widths: &[usize]) -> String {
    let mut out = String::new();
    let all: Vec<usize> = (0..COLUMNS).collect();
    out.push_str(&line(screen, &Row::head(), widths, &all, true));
    for row in rows {
        out.push_str(&line(screen, row, widths, &all, false));
    }
    out
}

/// Numbers and state on the first line, the name and its addresses below.
fn narrow(screen: &Screen, rows: &[Row], widths: &[usize]) -> String {
    let first = [0, 1, 2, 3, 4, 5, 6, TTL, STATE];
    let indent: usize = widths[0] + GAP + widths[1] + GAP;
    let mut out = line(screen, &Row::head(), widths, &first, true);
    let _ = writeln!(out, "{:indent$}{}", "", screen.ink(Ink::Dim, "target  addresses"));
    for row in rows {
        out.push_str(&line(screen, row, widths, &first, false));
        let (target, addresses) = (&row.cells[TARGET], &row.cells[ADDRESSES]);
        let fits = indent + target.chars().count() + GAP + addresses.chars().count() <= screen.width;
        let lines = if fits { vec![addresses.clone()] } else { row.addresses.clone() };
        let _ = write!(
            out,
            "{:indent$}{}",
            "",
            screen.ink(if row.cells[0] == ">" { Ink::Bold } else { Ink::Plain }, target)
        );
        for address in lines {
            let gap = if fits { "  ".to_owned() } else { format!("\n{:indent$}  ", "") };
            out.extend([gap, screen.ink(Ink::Plain, &address)]);
        }
        out.push('\n');
    }
    out
}

fn line(screen: &Screen, row: &Row, widths: &[usize], columns: &[usize], head: bool) -> String {
    let mut out = String::new();
    for (place, &column) in columns.iter().enumerate() {
        let text = &row.cells[column];
        let pad = " ".repeat(widths[column].saturating_sub(text.chars().count()));
        let ink = match column {
            _ if head => Ink::Dim,
            0 => Ink::Bold,
            STATE => ink(row.state),
            TARGET if row.cells[0] == ">" => Ink::Bold,
            _ => Ink::Plain,
        };
        let inked = screen.ink(ink, text);
        let last = place + 1 == columns.len();
        let (before, after) = match (RIGHT[column], last) {
            (true, _) => (pad.as_str(), ""),
            (false, true) => ("", ""),
            (false, false) => ("", pad.as_str()),
        };
        out.extend([before, &inked, after]);
        if !last {
            out.push_str("  ");
        }
    }
    out.push('\n');
    out
}
