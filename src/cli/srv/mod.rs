//! `holdline srv`: look an SRV record up as Holdline would, probe its targets, and say in words what is right and wrong.
//!
//! [`crate::probe`] does the looking; here are its arguments, its pages, and its memory ([`history`]).

mod args;
mod emit;
mod history;
mod overview;
mod page;
mod progress;
mod recent;
mod screen;
mod table;
mod ticket;
mod watch;

use std::fmt::Write as _;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::task::JoinSet;

pub(super) use args::SrvArgs;
use history::History;
use progress::Line;
use screen::{Screen, complain, print, tame_json};

use super::Failure;
use crate::config::ProbeConfig;
use crate::probe::plain::plain;
use crate::probe::report::{Look, Verdict};
use crate::probe::{self, Measured, Progress, changes, moment};
use crate::transport::tls::Inspector;

/// NAMEs looked at side by side; more wait.
const AT_ONCE: usize = 8;
/// More NAMEs are refused.
const MOST_NAMES: usize = 1000;
/// So many bytes of standard input are read.
const MOST_INPUT: u64 = 1 << 20;

/// Looks, prints, and answers with the exit status: 0 works, 1 a warning, 2 does not work.
pub(super) fn srv(args: &SrvArgs) -> Result<ExitCode, Failure> {
    let args = &SrvArgs { names: names(&args.names)?, ..args.clone() };
    if args.emit_config && args.names.len() != 1 {
        return Err(Failure::Usage(
            "--emit-config takes one NAME: one Holdline serves one record; see holdline srv --help".to_owned(),
        ));
    }
    if args.recent {
        recent::recent(args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = ProbeConfig::build(&args.settings.layers)?;
    let settings = settings(args, &config)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("no runtime")?;
    let verdict = runtime.block_on(async {
        match args.watch {
            Some(every) => watch::watch(args, &settings, every).await,
            None => once(args, &config, &settings).await,
        }
    })?;
    // Probes that were given up are not waited for.
    runtime.shutdown_background();
    Ok(ExitCode::from(verdict.status()))
}

/// The NAMEs given, each once; those of standard input in place of `-`, one a line, without blank ones and comments (`#`).
fn names(given: &[String]) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    };
    for name in given {
        if name != "-" {
            add(name);
            continue;
        }
        let mut text = String::new();
        let read = std::io::stdin().take(MOST_INPUT).read_to_string(&mut text);
        read.context("NAMEs from standard input")?;
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).for_each(&mut add);
    }
    if names.len() > MOST_NAMES {
        return Err(Failure::Usage(format!("{} NAMEs are too many: {MOST_NAMES} at a time", names.len())));
    }
    if names.is_empty() && !given.is_empty() {
        return Err(Failure::Usage("standard input has no NAME in it, one a line".to_owned()));
    }
    Ok(names)
}

fn settings(args: &SrvArgs, config: &ProbeConfig) -> Result<probe::Settings, Failure> {
    let inspector = if args.no_probe {
        None
    } else {
        Some(Inspector::load(&config.tls).map_err(|error| Failure::Other(error.into()))?)
    };
    Ok(probe::Settings {
        nameservers: config.nameservers.clone(),
        transport: config.transport,
        verify: config.verify,
        tls: config.tls.clone(),
        inspector,
        limit: (!args.no_probe).then_some(args.timeout),
        places: probe::places(),
        measured: Measured::default(),
    })
}

async fn once(args: &SrvArgs, config: &ProbeConfig, settings: &probe::Settings) -> Result<Verdict, Failure> {
    let looks = looks(&args.names, settings).await;
    let screen = Screen::of_stdout();
    let earlier = if args.diff { Some(earlier(&looks)) } else { None };
    keep(&looks);
    let text = match (&earlier, args.json, args.emit_config) {
        (_, _, true) => emit::emit(&looks[0], &config.tls, &config.nameservers),
        (Some(earlier), _, _) => diff(&screen, args.json, earlier, &looks)?,
        (None, _, _) => rendered(args, &screen, &looks)?,
    };
    print(&text).context("standard output")?;
    Ok(worst(&looks))
}

/// Looks in the form that was asked for.
fn rendered(args: &SrvArgs, screen: &Screen, looks: &[Look]) -> Result<String, Failure> {
    if args.json {
        return json(looks, true);
    }
    Ok(match (args.markdown, args.csv) {
        (true, _) => ticket::markdown(looks),
        (_, true) => ticket::csv(looks),
        _ => pages(screen, looks),
    })
}

/// One page each; of several a table first.
fn pages(screen: &Screen, looks: &[Look]) -> String {
    let mut pages: Vec<String> = looks.iter().map(|look| page::page(screen, look)).collect();
    if looks.len() > 1 {
        pages.insert(0, overview::overview(screen, looks));
    }
    pages.join("\n")
}

/// All NAMEs, side by side, in the order given.
async fn looks(names: &[String], settings: &probe::Settings) -> Vec<Look> {
    // What one NAME has led to is not measured again for another one.
    let settings = probe::Settings { measured: Measured::default(), ..settings.clone() };
    let progress = Arc::new(Progress::default());
    let line = Line::show(&progress);
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut looking = JoinSet::new();
    for (place, name) in names.iter().cloned().enumerate() {
        let (settings, progress, places) = (settings.clone(), Arc::clone(&progress), Arc::clone(&places));
        looking.spawn(async move {
            let _held = places.acquire().await;
            (place, probe::look(&settings, &name, now(), &progress).await)
        });
    }
    let mut looks = looking.join_all().await;
    drop(line);
    looks.sort_by_key(|(place, _)| *place);
    looks.into_iter().map(|(_, look)| look).collect()
}

fn worst(looks: &[Look]) -> Verdict {
    looks.iter().map(|look| look.verdict).max().unwrap_or(Verdict::Works)
}

/// The same shape for one NAME as for several.
fn json(looks: &[Look], pretty: bool) -> Result<String, Failure> {
    let report = serde_json::json!({
        "version": probe::report::VERSION,
        "exit_status": worst(looks).status(),
        "verdict": worst(looks),
        "names": looks,
    });
    written(&report, pretty)
}

fn written(report: &serde_json::Value, pretty: bool) -> Result<String, Failure> {
    let text = if pretty { serde_json::to_string_pretty(report) } else { serde_json::to_string(report) };
    Ok(format!("{}\n", tame_json(&text.context("JSON")?)))
}

/// The last look at each NAME before this one.
fn earlier(looks: &[Look]) -> Vec<Option<Look>> {
    let history = match History::find() {
        Ok(history) => history,
        Err(why) => {
            complain(&format!("warning: {why}"));
            return vec![None; looks.len()];
        }
    };
    let last = |look: &Look| {
        history.last(&look.input).unwrap_or_else(|why| {
            complain(&format!("warning: {why}"));
            None
        })
    };
    looks.iter().map(last).collect()
}

fn keep(looks: &[Look]) {
    let kept = History::find().and_then(|history| looks.iter().try_for_each(|look| history.keep(look)));
    if let Err(why) = kept {
        complain(&format!("warning: {why}"));
    }
}

fn diff(screen: &Screen, json: bool, earlier: &[Option<Look>], looks: &[Look]) -> Result<String, Failure> {
    if json {
        let one = |(old, new): (&Option<Look>, &Look)| {
            serde_json::json!({
                "input": new.input,
                "since": old.as_ref().map(|old| old.at),
                "changes": old.as_ref().map(|old| changes(old, new)),
                "verdict": new.verdict,
            })
        };
        let names: Vec<_> = earlier.iter().zip(looks).map(one).collect();
        return written(
            &serde_json::json!({
                "version": probe::report::VERSION,
                "exit_status": worst(looks).status(),
                "verdict": worst(looks),
                "names": names,
            }),
            true,
        );
    }
    let mut out = String::new();
    for (old, new) in earlier.iter().zip(looks) {
        out.push_str(&screen.ink(screen::Ink::Bold, &new.input));
        match old {
            None => {
                let _ = writeln!(out, "  {}: the first look at this name, nothing to compare", new.verdict.as_str());
            }
            Some(old) => {
                let changes = changes(old, new);
                let since = moment(old.at as i64);
                let what = if changes.is_empty() { "nothing changed" } else { "changed" };
                let _ = writeln!(out, "  {}: {what} since {since}", new.verdict.as_str());
                for change in changes {
                    out.push_str(&screen.paragraph((screen::Ink::Plain, "  "), &change));
                }
            }
        }
    }
    Ok(out)
}

/// NAMEs as looks know them.
fn known_as(names: &[String]) -> Vec<String> {
    names.iter().map(|name| plain(name.trim())).collect()
}

/// Seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "a look says when it was")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
