//! `--watch`: look again and again, and print what changed. Ctrl-C, SIGTERM and SIGHUP end it.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::screen::{Ink, Screen, print};
use super::{SrvArgs, json, keep, looks, now, pages, worst};
use crate::cli::Failure;
use crate::probe::report::{Look, Verdict};
use crate::probe::{Settings, changes, moment};

/// Until a signal comes; the verdict is that of the last look.
pub(super) async fn watch(args: &SrvArgs, settings: &Settings, every: Duration) -> Result<Verdict, Failure> {
    let signal = |kind| signal(kind).context("signals cannot be received");
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let screen = Screen::of_stdout();
    let mut before: Option<Vec<Look>> = None;
    let mut verdict = None;
    loop {
        let look = async {
            ticks.tick().await;
            looks(&args.names, settings).await
        };
        let seen = tokio::select! {
            seen = look => seen,
            _ = int.recv() => break,
            _ = term.recv() => break,
            _ = hangup.recv() => break,
        };
        verdict = Some(worst(&seen));
        let news = before.as_ref().map(|before| news(&screen, before, &seen));
        // The memory is for looks that differ: a night of watching must not push everything else out.
        if news.as_ref().is_none_or(|news| !news.is_empty()) {
            keep(&seen);
        }
        let text = match (args.json, news) {
            (true, _) => json(&seen, false)?,
            (false, None) => {
                let pages = pages(&screen, &seen);
                format!("{pages}\nwatching every {} s; changes follow, Ctrl-C ends\n", every.as_secs())
            }
            (false, Some(news)) => news,
        };
        print(&text).context("standard output")?;
        before = Some(seen);
    }
    verdict.ok_or_else(|| Failure::Other(anyhow::anyhow!("stopped before the first look was over")))
}

/// What changed, one line each behind the time; empty if nothing did.
fn news(screen: &Screen, before: &[Look], seen: &[Look]) -> String {
    let mut out = String::new();
    let time = moment(now() as i64);
    for (old, new) in before.iter().zip(seen) {
        for change in changes(old, new) {
            let name = if seen.len() > 1 { format!("{}: ", new.input) } else { String::new() };
            out.push_str(&screen.paragraph((Ink::Dim, &format!("{time}  ")), &format!("{name}{change}")));
        }
    }
    out
}
