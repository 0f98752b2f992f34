//! The way to the shared memory: opened, used, and opened again after it broke.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use redis::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Settings;
use super::bindings::{self, Waiting, Written};
use super::open::{ANSWER, Open, words};
use super::scripts::{self, Keys};
use crate::fleet::{Command, Installed, Record, Stored, Word};
use crate::metrics::Metrics;
use crate::summaries::Summaries;

/// After the first failure; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: a fleet is to agree again soon after the memory is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(super) struct Link {
    settings: Settings,
    keys: Keys,
    commands: mpsc::Receiver<Command>,
    words: mpsc::Sender<Word>,
    waiting: Waiting,
    /// What is being written.
    in_flight: Arc<[(String, Written)]>,
    metrics: Arc<Metrics>,
    /// A foreign value stands there until somebody writes over it: one line about it in a while is enough.
    summaries: Summaries,
}

/// Bindings that wait are written this often.
const FLUSH: Duration = Duration::from_secs(1);
/// For one batch of them.
const WRITING: Duration = Duration::from_secs(5);

const STRANGE: &str = "it answers what no Redis would";

/// The driver has ended.
struct Over;

impl Link {
    pub(super) fn new(
        settings: Settings,
        id: &str,
        (commands, words): (mpsc::Receiver<Command>, mpsc::Sender<Word>),
        waiting: Waiting,
        metrics: Arc<Metrics>,
    ) -> Link {
        let keys = Keys::new(&settings.name, &settings.instance, id);
        let in_flight = Arc::default();
        Link { settings, keys, commands, words, waiting, in_flight, metrics, summaries: Summaries::default() }
    }

    /// Until the driver ends.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let why = match self.settings.open(&self.keys.channel()).await {
                Ok(open) => match self.serve(open, &mut pause).await {
                    Ok(why) => why,
                    Err(Over) => return,
                },
                Err(why) => why,
            };
            self.waiting.give_back(&std::mem::take(&mut self.in_flight));
            if self.say(Word::Away(why.into())).await.is_err() || self.rest(pause).await.is_err() {
                return;
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    async fn say(&self, word: Word) -> Result<(), Over> {
        self.words.send(word).await.map_err(|_| Over)
    }

    /// Waits. What is asked meanwhile is not answered: whoever asked has heard that the memory is away.
    async fn rest(&mut self, pause: Duration) -> Result<(), Over> {
        let rested = timeout(pause, async { while self.commands.recv().await.is_some() {} }).await;
        // The channel is closed when that ends before the time.
        if rested.is_ok() { Err(Over) } else { Ok(()) }
    }

    /// Serves until something breaks, and says what.
    async fn serve(&mut self, open: Open, pause: &mut Duration) -> Result<String, Over> {
        let Open { mut commands, messages, place, .. } = open;
        let (_sink, mut messages) = messages.split();
        while self.commands.try_recv().is_ok() {}
        self.say(Word::Linked).await?;
        let mut flush = interval(FLUSH);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Beside the loop, on the same connection: a decision waits for no more than a batch that is on its way already.
        let mut writing: JoinSet<Result<(), String>> = JoinSet::new();
        // As many as there are requests that wait.
        let mut finding: JoinSet<Result<Word, String>> = JoinSet::new();
        loop {
            tokio::select! {
                _ = flush.tick(), if writing.is_empty() && !self.waiting.is_empty() => {
                    let mut connection = commands.clone();
                    self.in_flight = self.waiting.take().into();
                    let pipeline =
                        bindings::write(|id| self.keys.handset(id), self.keys.owner(), &self.in_flight, unix());
                    writing.spawn(async move {
                        let written = pipeline.query_async::<()>(&mut connection);
                        match timeout(WRITING, written).await {
                            Ok(written) => written.map_err(words),
                            Err(_) => Err(format!("bindings were not written within {WRITING:?}")),
                        }
                    });
                }
                Some(written) = writing.join_next() => {
                    match written {
                        Ok(Ok(())) => self.in_flight = Arc::default(),
                        Ok(Err(error)) => return Ok(format!("{place}: {error}")),
                        Err(_) => {}
                    }
                }
                Some(found) = finding.join_next() => {
                    match found {
                        Ok(Ok(word)) => self.say(word).await?,
                        Ok(Err(error)) => return Ok(format!("{place}: {error}")),
                        Err(_) => {}
                    }
                }
                command = self.commands.recv() => {
                    match command.ok_or(Over)? {
                        Command::Find(id) => {
                            let (question, connection) = (bindings::find(&self.keys.handset(&id)), commands.clone());
                            finding.spawn(find(id, question, connection));
                        }
                        Command::Beat { served } => match self.beat(served, &mut commands).await {
                            Ok(word) => self.say(word).await?,
                            Err(error) => return Ok(format!("{place}: {error}")),
                        },
                        Command::Install { record, unless_served_since } => {
                            match self.install(&record, unless_served_since, &mut commands).await {
                                Ok(word) => self.say(word).await?,
                                Err(error) => return Ok(format!("{place}: {error}")),
                            }
                        }
                    }
                    *pause = FIRST_PAUSE;
                }
                message = messages.next() => {
                    let Some(message) = message else { return Ok(format!("{place}: the connection ended")) };
                    match Stored::read(message.get_payload_bytes()) {
                        Stored::Record(record) => self.say(Word::Published(record)).await?,
                        Stored::Foreign(why) => self.ignored("a message", why),
                        Stored::Absent | Stored::Newer(_) => {}
                    }
                }
            }
        }
    }

    async fn beat<C: redis::aio::ConnectionLike>(
        &mut self,
        served: Option<(u64, Instant)>,
        connection: &mut C,
    ) -> Result<Word, String> {
        let answer = ask(self.keys.beat(served, now()), connection).await?;
        let word = scripts::read(&answer).ok_or(STRANGE)?;
        if let Word::Read(Stored::Foreign(why), _) = &word {
            self.ignored("what stands in the shared memory", why);
        }
        Ok(word)
    }

    async fn install<C: redis::aio::ConnectionLike>(
        &self,
        record: &Record,
        unless_served_since: Option<Instant>,
        connection: &mut C,
    ) -> Result<Word, String> {
        let mut foreign = Vec::new();
        loop {
            let answer = ask(self.keys.install(record, unless_served_since, &foreign, now()), connection).await?;
            match scripts::installed(&answer).ok_or(STRANGE)? {
                // The script reads less strictly than we do: it is told what may be written over, once.
                (Installed::Lost(Stored::Foreign(_)), raw) if foreign.is_empty() => foreign = raw.to_vec(),
                (installed, _) => return Ok(Word::Installed(installed)),
            }
        }
    }

    fn ignored(&mut self, what: &str, why: &str) {
        self.metrics.cluster_ignored.inc();
        if let Some(more_like_it) = self.summaries.due(what, now()) {
            tracing::warn!(why, more_like_it, "{what} was not written by a Holdline: it is ignored");
        }
    }
}

async fn find<C: redis::aio::ConnectionLike>(
    id: Arc<str>,
    question: redis::Cmd,
    mut connection: C,
) -> Result<Word, String> {
    let answer = ask(question, &mut connection).await?;
    Ok(Word::Found(bindings::found(&id, &answer).ok_or(STRANGE)?))
}

async fn ask<C: redis::aio::ConnectionLike>(command: redis::Cmd, connection: &mut C) -> Result<Value, String> {
    match timeout(ANSWER, command.query_async::<Value>(connection)).await {
        Ok(answer) => answer.map_err(words),
        Err(_) => Err(format!("no answer within {ANSWER:?}")),
    }
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
