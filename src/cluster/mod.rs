//! The memory that several instances share: Redis or Valkey, alone or behind Sentinel.
//!
//! What is decided with it is in [`fleet`](crate::fleet), which is pure; here are the connection, and the scripts that make one step of
//! what several commands would do. A thread of its own serves it. The driver hands over commands and takes words, both through
//! bounded queues, and waits for neither.

mod address;
mod bindings;
mod link;
mod open;
mod scripts;

use std::sync::Arc;
use std::{fmt, io, thread};

use tokio::sync::mpsc;

pub use address::Address;
use bindings::Waiting;
pub use bindings::{MAX_WAITING, Written};

use crate::fleet::{Command, Word};
use crate::metrics::Metrics;
use link::Link;

/// Commands and words that wait. The fleet's machine has at most two commands unanswered; beside them there is a question for each
/// request that waits ([`MAX_PARKED`](crate::proxy::MAX_PARKED)).
const QUEUE: usize = 512;
/// Of those, kept for what is no question about a handset.
const RESERVED: usize = 8;

/// Where the shared memory is, and as whom it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The server, or the Sentinels that know it.
    pub address: Address,
    /// The password, where there is one.
    pub password: Option<Password>,
    /// The fleet's name: what stands in the keys.
    pub name: String,
    /// The name of this instance.
    pub instance: String,
}

/// A password, which nothing shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The driver's end.
#[derive(Debug)]
pub struct Cluster {
    commands: mpsc::Sender<Command>,
    words: mpsc::Receiver<Word>,
    waiting: Waiting,
}

/// Serves from now on, on a thread of its own, until the process ends. `id` tells this instance from any other.
pub fn start(settings: Settings, id: &str, metrics: Arc<Metrics>) -> io::Result<Cluster> {
    let (to_link, commands) = mpsc::channel(QUEUE);
    let (to_driver, words) = mpsc::channel(QUEUE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let waiting = Waiting::default();
    let link = Link::new(settings, id, (commands, to_driver), waiting.clone(), metrics);
    thread::Builder::new().name("cluster".to_owned()).spawn(move || runtime.block_on(link.run()))?;
    Ok(Cluster { commands: to_link, words, waiting })
}

impl Cluster {
    /// Hands a command over. Never waits.
    pub fn ask(&self, command: Command) {
        // Questions about handsets, which anybody may cause, leave room for what the fleet's machine asks: it waits for its answers.
        let room = if matches!(command, Command::Find(_)) { self.commands.capacity() > RESERVED } else { true };
        if !room || self.commands.try_send(command).is_err() {
            // Whoever asked has a time of its own, and goes on without an answer.
            tracing::warn!(limit = QUEUE, "a command for the fleet's shared memory was dropped: too many wait already");
        }
    }

    /// A handset's binding changed, or is to be told again; it is written within a second or two, if there is a way. Never waits.
    pub fn write(&self, id: String, written: Written) {
        if !self.waiting.leave(id, written) {
            tracing::debug!(limit = MAX_WAITING, "a binding is not written for the fleet: too many wait already");
        }
    }

    /// The next word. Never, where the thread has ended.
    pub async fn word(&mut self) -> Word {
        match self.words.recv().await {
            Some(word) => word,
            None => std::future::pending().await,
        }
    }
}
