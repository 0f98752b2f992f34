//! The thread that writes. redb blocks, and so does a disk.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::Database;
use tracing::{info, warn};

use super::RestoredState;
use super::file::{self, OpenError};
use super::pending::{Batch, Pending, Work};
use crate::upstream::Persisted;

/// A failing disk is said to fail this often at most.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// A disk that failed is left alone this long, then twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The file, and what every new one must begin with.
pub(super) struct Writer {
    path: PathBuf,
    /// None after an error: redb refuses everything after one until the file is opened anew.
    database: Option<Database>,
    key: Option<[u8; 32]>,
    upstream: Option<Persisted>,
    failures: u64,
    said: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        database: Option<Database>,
        key: Option<[u8; 32]>,
        upstream: Option<Persisted>,
    ) -> Self {
        Writer { path, database, key, upstream, failures: 0, said: None }
    }

    /// None if the system has no thread to give.
    pub(super) fn start(mut self, pending: &Arc<Pending>) -> Option<JoinHandle<()>> {
        let shared = pending.clone();
        let run = move || {
            let ended = std::panic::catch_unwind(AssertUnwindSafe(|| self.run(&shared)));
            shared.dead();
            if ended.is_err() {
                warn!(file = %self.path.display(), "the store's thread died: nothing is kept any more");
            }
        };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(run)
            .inspect_err(|error| {
                pending.dead();
                warn!(%error, "no thread for the store: nothing is kept");
            })
            .ok()
    }

    fn run(&mut self, pending: &Pending) {
        let mut pause = None;
        loop {
            let (work, flush) = pending.wait(pause);
            let (batch, last) = match work {
                Work::Write(batch) => (batch, false),
                Work::Last(batch) => (batch, true),
            };
            if let Some(upstream) = &batch.upstream {
                self.upstream = Some(upstream.clone());
            }
            match self.write(&batch) {
                Ok(()) => {
                    self.recovered();
                    pending.done(flush);
                    pause = None;
                }
                Err(why) => {
                    self.failed(&why);
                    pending.failed(batch, flush);
                    pause = Some(pause.map_or(FIRST_PAUSE, |pause| LONGEST_PAUSE.min(pause * 2)));
                }
            }
            if last {
                return;
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), String> {
        let reopened = self.database.is_none();
        let database = match self.database.take() {
            Some(database) => database,
            None if batch.is_empty() => return Err("the file is not open".to_owned()),
            None => self.reopen()?,
        };
        if !batch.is_empty() || reopened {
            // A file begun anew lacks these; writing them once too often does no harm.
            let key = if batch.key || reopened { self.key } else { None };
            let upstream = if reopened { self.upstream.as_ref() } else { batch.upstream.as_ref() };
            file::apply(&database, &batch.bindings, upstream, key)?;
        }
        self.database = Some(database);
        Ok(())
    }

    fn reopen(&self) -> Result<Database, String> {
        match file::open_or_replace(&self.path) {
            Ok((database, RestoredState { .. })) => Ok(database),
            Err(OpenError::InUse) => Err("in use by another process".to_owned()),
            Err(OpenError::Damaged(why) | OpenError::Io(why)) => Err(why),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the store's thread paces its own warnings; no behaviour hangs on it")]
    fn failed(&mut self, why: &str) {
        self.failures += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            warn!(file = %self.path.display(), error = why, failures = self.failures, "cannot write the store, trying on");
            self.said = Some(Instant::now());
        }
    }

    fn recovered(&mut self) {
        if self.failures > 0 {
            info!(file = %self.path.display(), failures = self.failures, "the store is written again");
            self.failures = 0;
            self.said = None;
        }
    }
}
