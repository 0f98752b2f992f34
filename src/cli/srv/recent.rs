//! `--recent`: earlier looks, the latest first.

use anyhow::Context;

use super::history::History;
use super::screen::{Ink, Screen, complain, print};
use super::{SrvArgs, known_as, written};
use crate::cli::Failure;
use crate::probe::moment;
use crate::probe::report::{Look, State, VERSION, Verdict};

/// Prints the list. Nothing is looked up.
pub fn recent(args: &SrvArgs) -> Result<(), Failure> {
    let found = History::find().and_then(|history| history.recent(&known_as(&args.names)));
    let (looks, unreadable) = found.unwrap_or_else(|why| {
        complain(&format!("warning: {why}"));
        (Vec::new(), 0)
    });
    if unreadable > 0 {
        complain(&format!("warning: {unreadable} earlier looks cannot be read"));
    }
    let text = if args.json {
        written(&serde_json::json!({ "version": VERSION, "names": looks }), true)?
    } else if looks.is_empty() {
        "no earlier look is kept\n".to_owned()
    } else {
        let screen = Screen::of_stdout();
        looks.iter().map(|look| row(&screen, look)).collect()
    };
    print(&text).context("standard output")?;
    Ok(())
}

/// `2026-11-25T17:03:59Z  works  3 of 3 targets  _sip._tls.pbx.example.com`.
fn row(screen: &Screen, look: &Look) -> String {
    let ink = match look.verdict {
        Verdict::Works => Ink::Green,
        Verdict::Warning => Ink::Yellow,
        Verdict::Fails => Ink::Red,
    };
    let targets = match look.record.as_ref().or(look.outbound_proxy.as_ref()) {
        None => "no target".to_owned(),
        Some(record) => {
            let good = record.usable().filter(|target| matches!(target.state, State::Ok | State::Warning)).count();
            let all = record.usable().count();
            let measured = record.usable().any(|target| target.state != State::NotMeasured);
            if measured { format!("{good} of {all} targets") } else { format!("{all} targets, not measured") }
        }
    };
    format!(
        "{}  {}  {targets:<16}  {}\n",
        moment(look.at as i64),
        screen.ink(ink, &format!("{:<20}", look.verdict.as_str())),
        screen.ink(Ink::Plain, &look.input)
    )
}
