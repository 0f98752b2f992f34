//! Several looks in one table: what works, how much of it, and what to enter.

use super::screen::{Ink, Screen};
use crate::probe::report::{Enter, Look, State, Verdict};

const GAP: &str = "  ";

/// One line for each look, in the order given, under a head.
pub(super) fn overview(screen: &Screen, looks: &[Look]) -> String {
    let rows: Vec<[String; 4]> = looks
        .iter()
        .map(|look| [look.input.clone(), look.verdict.as_str().to_owned(), targets(look), enter(look)])
        .collect();
    let heads = ["name", "result", "targets", "enter"].map(str::to_owned);
    let width = |n: usize| rows.iter().chain([&heads]).map(|row| row[n].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |cells: &[String; 4], inks: [Ink; 4]| {
        let mut out = String::new();
        for (n, cell) in cells.iter().enumerate() {
            out.push_str(&screen.ink(inks[n], cell));
            if let Some(width) = widths.get(n) {
                out.push_str(&" ".repeat(width.saturating_sub(cell.chars().count())));
                out.push_str(GAP);
            }
        }
        out.push('\n');
        out
    };
    let mut out = line(&heads, [Ink::Dim; 4]);
    for (cells, look) in rows.iter().zip(looks) {
        out.push_str(&line(cells, [Ink::Bold, ink(look.verdict), Ink::Plain, Ink::Plain]));
    }
    out
}

/// For a verdict.
pub(super) fn ink(verdict: Verdict) -> Ink {
    match verdict {
        Verdict::Works => Ink::Green,
        Verdict::Warning => Ink::Yellow,
        Verdict::Fails => Ink::Red,
    }
}

/// `2 of 3 targets`.
pub(super) fn targets(look: &Look) -> String {
    let Some(record) = look.record.as_ref().or(look.outbound_proxy.as_ref()) else { return "no target".to_owned() };
    let good = record.usable().filter(|target| matches!(target.state, State::Ok | State::Warning)).count();
    let all = record.usable().count();
    let measured = record.usable().any(|target| target.state != State::NotMeasured);
    if measured { format!("{good} of {all} targets") } else { format!("{all} targets, not measured") }
}

fn enter(look: &Look) -> String {
    look.enter.as_ref().map_or_else(|| "-".to_owned(), Enter::flags)
}
