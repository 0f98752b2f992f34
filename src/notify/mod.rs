//! What somebody is told when the fleet moves: a POST to a web hook, or a command.
//!
//! The driver hands a notice over and goes on; a thread of its own delivers them, one after the other. Nothing waits for it: the
//! queue is bounded, each try and the whole have a time, and what is not delivered by then is logged and counted.
//!
//! A notice has names of targets, numbers, and words of ours. Nothing in it was sent by a handset or a PBX, and nothing is secret.

mod command;
mod webhook;

use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

pub use webhook::Url;

use crate::metrics::{Metrics, Notification};
use crate::upstream::{Reason, Rollover};

/// Notices that wait; one more is dropped.
pub const QUEUE: usize = 32;

/// The time in which one notice is tried again. Longer than most restarts of a receiver, shorter than anybody's patience.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// Between the first try and the second; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A JSON POST goes there.
    Webhook(Url),
    /// A program and its arguments: it is run without a shell and gets the JSON on its standard input.
    Command(Vec<String>),
}

/// What every notice says about this Holdline.
#[derive(Debug, Clone)]
pub struct About {
    /// The name of this instance.
    pub instance: String,
    /// The address of its status page.
    pub page: String,
}

/// The driver's end.
#[derive(Debug, Clone)]
pub struct Notices {
    about: About,
    waiting: mpsc::Sender<Value>,
    metrics: Arc<Metrics>,
}

/// Delivers from now on, on a thread of its own, until the process ends.
pub fn start(target: Target, about: About, metrics: Arc<Metrics>) -> io::Result<Notices> {
    let (waiting, notices) = mpsc::channel(QUEUE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counted = metrics.clone();
    let deliver = move || runtime.block_on(deliver(target, notices, counted));
    thread::Builder::new().name("notify".to_owned()).spawn(deliver)?;
    Ok(Notices { about, waiting, metrics })
}

impl Notices {
    /// Another target is active. `unix`: since 1970. Never waits.
    pub fn rolled_over(&self, rollover: &Rollover, unix: Duration) {
        if self.waiting.try_send(notice(rollover, &self.about, unix)).is_err() {
            self.metrics.notifications(Notification::Dropped).inc();
            tracing::warn!(limit = QUEUE, "a notification about a rollover was dropped: too many wait already");
        }
    }
}

/// The JSON of a notice; `docs/runbook.md` describes it.
fn notice(rollover: &Rollover, about: &About, unix: Duration) -> Value {
    let Rollover { from, to, epoch, reason, count, strikes, handsets, failed, decided } = rollover;
    let cause = match reason {
        Reason::RegisterFailures => rollover.failures(),
        Reason::TargetRemoved => "the target was missing from two DNS answers in a row".to_owned(),
        Reason::Manual => "an operator asked for it".to_owned(),
        // The other instance's strikes, in its words.
        Reason::Cluster => decided.as_ref().map_or_else(String::new, |decided| decided.strikes.to_string()),
    };
    let strike = |strike: &crate::upstream::Strike| {
        json!({
            "age_seconds": strike.age.as_millis() as f64 / 1000.0,
            "cause": strike.outcome.reason(),
            "code": strike.outcome.code(),
        })
    };
    json!({
        "event": "rollover",
        "at_unix_seconds": unix.as_secs(),
        "instance": about.instance,
        "page": about.page,
        "from": &**from,
        "to": &**to,
        "epoch": epoch,
        "reason": reason.as_str(),
        "decided_by": decided.as_ref().map(|decided| &*decided.by),
        "cause": cause,
        "failures": count,
        "strikes": strikes.iter().map(strike).collect::<Vec<_>>(),
        "handsets": handsets,
        "handsets_failed": failed,
    })
}

/// Why a try failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Undelivered {
    what: String,
    /// Another try may succeed.
    again: bool,
}

async fn deliver(target: Target, mut notices: mpsc::Receiver<Value>, metrics: Arc<Metrics>) {
    while let Some(notice) = notices.recv().await {
        let body = notice.to_string();
        let delivered = match &target {
            Target::Webhook(url) => insist(LIFETIME, pauses(), async || webhook::post(url, &body).await).await,
            // Whether to try again is for the command to say: half of its work may be done.
            Target::Command(words) => command::run(words, &body).await.map_err(|error| (error, 1)),
        };
        match delivered {
            Ok(()) => {
                metrics.notifications(Notification::Delivered).inc();
                tracing::debug!("a notification about a rollover was delivered");
            }
            Err((error, tries)) => {
                metrics.notifications(Notification::Failed).inc();
                tracing::warn!(%error, tries, "a notification about a rollover was not delivered");
            }
        }
    }
}

/// Tries until it succeeds, until that makes no sense any more, or until the time is over. With the error: how many tries
/// there were.
async fn insist(
    lifetime: Duration,
    mut pauses: impl Iterator<Item = Duration>,
    mut attempt: impl AsyncFnMut() -> Result<(), Undelivered>,
) -> Result<(), (Undelivered, u32)> {
    let end = Instant::now() + lifetime;
    let mut tries = 0;
    loop {
        tries += 1;
        let tried = timeout_at(end, attempt()).await;
        let over = || Undelivered { what: format!("not within {lifetime:?}"), again: false };
        let Err(error) = tried.unwrap_or_else(|_| Err(over())) else { return Ok(()) };
        let pause = pauses.next().filter(|pause| error.again && Instant::now() + *pause < end);
        let Some(pause) = pause else { return Err((error, tries)) };
        tracing::debug!(%error, tries, "a notification about a rollover is tried again");
        sleep(pause).await;
    }
}

/// Between tries: each twice as long as the one before, up to a minute.
fn pauses() -> impl Iterator<Item = Duration> {
    successors(Some(FIRST_PAUSE), |pause| Some((2 * *pause).min(LONGEST_PAUSE)))
}

#[cfg(test)]
mod tests;
