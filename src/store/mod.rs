//! The embedded store: active target, last good SRV set, bindings, Contact key. One file, `holdline.redb`.
//!
//! Nothing here is worth a lost call: what cannot be read is left out, what cannot be written is tried again, and both
//! are said. Callers never wait for the disk. They leave what is to be written in `pending`, where a newer value replaces an
//! older one; the thread of `writer` takes it from there, at once for the active target, else in batches of a second;
//! `file` knows redb.

mod file;
mod pending;
mod writer;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::{info, warn};

use file::OpenError;
use pending::Pending;
use writer::Writer;

use crate::upstream::Persisted;

/// The name of the file in the state directory. Beside it, with `.damaged` appended, the last one that could not be read.
pub const FILE_NAME: &str = "holdline.redb";

/// What the file held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RestoredState {
    /// Active target and last good set.
    pub upstream: Option<Persisted>,
    /// Bindings, expired ones included: only the caller knows the time.
    pub bindings: Vec<StoredBinding>,
    /// The key that Contact IDs are made with: from the file, or made for it now. `None` only if the system has no
    /// randomness to give.
    pub key: Option<[u8; 32]>,
}

/// One binding, as far as it is needed to reach the handset again after a restart. Plain text, and a clock time instead of
/// a remaining one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBinding {
    /// The user part that Holdline gave it.
    pub id: String,
    /// Address of record.
    pub aor: String,
    /// The handset's own Contact URI.
    pub contact: String,
    /// Label of the target it is registered at.
    pub target: String,
    /// `udp`, `tcp`, `tls`: what the handset speaks.
    pub transport: String,
    /// Where the handset is reached.
    pub remote: SocketAddr,
    /// Holdline's address that it was heard on.
    pub local: SocketAddr,
    /// Number of the listener.
    pub socket: u16,
    /// Seconds since 1970.
    pub expires_at: u64,
    /// Its User-Agent, if it said.
    #[serde(default)]
    pub user_agent: String,
}

/// Why a start with this state directory would do harm.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process has the file open.
    #[error("{path} is in use by another process; give each Holdline a state_dir of its own")]
    InUse {
        /// The file.
        path: String,
    },
}

/// The store. Its methods never wait for the disk, except [`Store::flush`] and dropping it, which write what is pending.
#[derive(Debug)]
pub struct Store {
    pending: Arc<Pending>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens `holdline.redb` in a directory, making both if need be, and reads what is there.
    ///
    /// A file that is damaged or of something else is moved aside and a new one begun. Where nothing can be written (no
    /// permission, read-only, full), the store works in memory and tries again in the background. Each is a logged
    /// warning, once. Error: only if another process has the file open.
    pub fn open(dir: &Path) -> Result<(Store, RestoredState), StoreError> {
        let path = dir.join(FILE_NAME);
        if let Err(error) = std::fs::create_dir_all(dir) {
            warn!(state_dir = %dir.display(), %error, "cannot make the state directory");
        }
        let (database, mut restored) = match file::open_or_replace(&path) {
            Ok((database, restored)) => (Some(database), restored),
            Err(OpenError::InUse) => return Err(StoreError::InUse { path: path.display().to_string() }),
            Err(OpenError::Damaged(why) | OpenError::Io(why)) => {
                warn!(
                    file = %path.display(),
                    error = why,
                    "cannot write the store: going on without; a restart may begin at the primary target"
                );
                (None, file::read_only(&path).unwrap_or_default())
            }
        };
        let fresh_key = restored.key.is_none();
        if fresh_key {
            restored.key = random_key();
        }
        if database.is_some() {
            info!(
                file = %path.display(),
                active = restored.upstream.as_ref().map(|u| u.active.as_str()),
                bindings = restored.bindings.len(),
                "store opened"
            );
        }
        let pending = Arc::new(Pending::default());
        if database.is_none() {
            pending.begins_failing();
        }
        let writer = Writer::new(path, database, restored.key, restored.upstream.clone());
        if fresh_key {
            pending.key_is_new();
        }
        let thread = writer.start(&pending);
        Ok((Store { pending, thread }, restored))
    }

    /// Active target and last good set; written at once.
    pub fn put_upstream(&self, state: Persisted) {
        self.pending.put_upstream(state);
    }

    /// A binding, new or refreshed; written within a second.
    pub fn put_binding(&self, binding: StoredBinding) {
        self.pending.put_binding(binding);
    }

    /// A binding that is gone; written within a second.
    pub fn remove_binding(&self, id: &str) {
        self.pending.remove_binding(id);
    }

    /// Waits until everything is written. False if it could not be.
    #[must_use = "false means that nothing was kept"]
    pub fn flush(&self) -> bool {
        self.thread.is_some() && self.pending.flush()
    }

    /// True while the file cannot be written: a restart would begin without what has happened since.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.thread.is_none() || self.pending.is_failing()
    }

    /// Differences that were thrown away because too many waited for a disk that takes none.
    pub fn dropped(&self) -> u64 {
        self.pending.dropped()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.pending.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the store's thread had died");
        }
    }
}

/// A fresh key for Contact IDs. `None` if the system has no randomness to give.
pub fn random_key() -> Option<[u8; 32]> {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).ok().map(|()| key)
}

#[cfg(test)]
mod tests;
