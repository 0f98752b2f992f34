//! `--recent`: earlier looks, the latest first; `--recent N` opens one of them.

use anyhow::Context;

use super::history::History;
use super::overview::{ink, targets};
use super::screen::{Ink, Screen, complain, print};
use super::{SrvArgs, known_as, rendered, written};
use crate::cli::Failure;
use crate::probe::moment;
use crate::probe::report::{Look, VERSION};

/// Prints the list, or one look of it. Nothing is looked up.
pub(super) fn recent(args: &SrvArgs) -> Result<(), Failure> {
    // No NAME consists of digits alone.
    let (numbers, names): (Vec<&String>, Vec<&String>) =
        args.names.iter().partition(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()));
    let names: Vec<String> = names.into_iter().cloned().collect();
    let found = History::find().and_then(|history| history.recent(&known_as(&names)));
    let (looks, unreadable) = found.unwrap_or_else(|why| {
        complain(&format!("warning: {why}"));
        (Vec::new(), 0)
    });
    if unreadable > 0 {
        complain(&format!("warning: {unreadable} earlier looks cannot be read"));
    }
    let screen = Screen::of_stdout();
    let text = match numbers.as_slice() {
        [] if args.json => written(&serde_json::json!({ "version": VERSION, "names": looks }), true)?,
        [] if looks.is_empty() => "no earlier look is kept\n".to_owned(),
        [] if args.markdown || args.csv => rendered(args, &screen, &looks)?,
        [] => looks.iter().enumerate().map(|(place, look)| row(&screen, place + 1, look)).collect(),
        [number] => {
            let place = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let Some(look) = place.and_then(|place| looks.get(place)) else {
                let kept = looks.len();
                return Err(Failure::Usage(format!(
                    "--recent {number}: there are {kept} looks, from 1, the latest; holdline srv --recent lists them"
                )));
            };
            rendered(args, &screen, std::slice::from_ref(look))?
        }
        _ => return Err(Failure::Usage("--recent opens one look at a time; see holdline srv --help".to_owned())),
    };
    print(&text).context("standard output")?;
    Ok(())
}

/// `  1  2026-11-25T17:03:59Z  works  3 of 3 targets  _sip._tls.pbx.example.com`.
fn row(screen: &Screen, number: usize, look: &Look) -> String {
    format!(
        "{number:>3}  {}  {}  {:<16}  {}\n",
        moment(look.at as i64),
        screen.ink(ink(look.verdict), &format!("{:<20}", look.verdict.as_str())),
        targets(look),
        screen.ink(Ink::Plain, &look.input)
    )
}
