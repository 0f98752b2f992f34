//! The way to the shared memory: opened, used, and opened again after it broke.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use redis::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Settings;
use super::open::{ANSWER, Open, words};
use super::scripts::{self, Keys};
use crate::fleet::{Command, Installed, Stored, Word};
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
    metrics: Arc<Metrics>,
    /// A foreign value stands there until somebody writes over it: one line about it in a while is enough.
    summaries: Summaries,
}

/// The driver has ended.
struct Over;

impl Link {
    pub(super) fn new(
        settings: Settings,
        id: &str,
        commands: mpsc::Receiver<Command>,
        words: mpsc::Sender<Word>,
        metrics: Arc<Metrics>,
    ) -> Link {
        let keys = Keys::new(&settings.name, &settings.instance, id);
        Link { settings, keys, commands, words, metrics, summaries: Summaries::default() }
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
        loop {
            tokio::select! {
                command = self.commands.recv() => {
                    let command = command.ok_or(Over)?;
                    match self.answer(command, &mut commands).await {
                        Ok(word) => self.say(word).await?,
                        Err(error) => return Ok(format!("{place}: {error}")),
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

    async fn answer<C: redis::aio::ConnectionLike>(
        &mut self,
        command: Command,
        connection: &mut C,
    ) -> Result<Word, String> {
        const STRANGE: &str = "it answers what no Redis would";
        match command {
            Command::Beat { served } => {
                let answer = ask(self.keys.beat(served, now()), connection).await?;
                let word = scripts::read(&answer).ok_or(STRANGE)?;
                if let Word::Read(Stored::Foreign(why), _) = &word {
                    self.ignored("what stands in the shared memory", why);
                }
                Ok(word)
            }
            Command::Install { record, unless_served_since } => {
                let mut foreign = Vec::new();
                loop {
                    let asked = self.keys.install(&record, unless_served_since, &foreign, now());
                    let answer = ask(asked, connection).await?;
                    match scripts::installed(&answer).ok_or(STRANGE)? {
                        // The script reads less strictly than we do: it is told what may be written over, once.
                        (Installed::Lost(Stored::Foreign(_)), raw) if foreign.is_empty() => foreign = raw.to_vec(),
                        (installed, _) => return Ok(Word::Installed(installed)),
                    }
                }
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
