//! The file: its tables, opening it whatever state it is in, writing one batch.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError,
};
use tracing::warn;

use super::{RestoredState, StoredBinding};
use crate::upstream::Persisted;

/// The layout written below; a file that says another number is moved aside like a damaged one.
const VERSION: &[u8] = b"1";
/// `version`, `key` (32 bytes), `upstream` (JSON of [`Persisted`]).
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// ID → JSON of [`StoredBinding`].
const BINDINGS: TableDefinition<&str, &[u8]> = TableDefinition::new("bindings");
/// redb's own default is a gigabyte. Ten thousand bindings are a few megabytes, read once.
const CACHE: usize = 2 * 1024 * 1024;

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Another process has it open.
    InUse,
    /// It is no store of ours, or one that is broken.
    Damaged(String),
    /// The system does not let us.
    Io(String),
}

/// Opens the file, or moves a damaged one aside and begins a new one.
pub(super) fn open_or_replace(path: &Path) -> Result<(Database, RestoredState), OpenError> {
    match open(path) {
        Err(OpenError::Damaged(why)) => {
            let aside = aside(path);
            warn!(file = %path.display(), error = why, aside = %aside.display(), "the store is damaged: beginning a new one");
            std::fs::rename(path, &aside).map_err(|error| OpenError::Io(format!("{why}; moving it aside: {error}")))?;
            open(path)
        }
        other => other,
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    PathBuf::from(name)
}

fn open(path: &Path) -> Result<(Database, RestoredState), OpenError> {
    // The Contact key is in it: for our own eyes only. redb takes an empty file for a new one.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| OpenError::Io(error.to_string()))?;
    guarded(|| {
        let database =
            Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).create(path).map_err(sort_out)?;
        prepare(&database)?;
        let restored = read(&database)?;
        Ok((database, restored))
    })
}

/// What can be read where nothing can be written.
pub(super) fn read_only(path: &Path) -> Option<RestoredState> {
    guarded(|| read(&Builder::new().set_cache_size(CACHE).open_read_only(path).map_err(sort_out)?)).ok()
}

/// A file altered behind redb's back may make it panic.
fn guarded<T>(action: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    std::panic::catch_unwind(AssertUnwindSafe(action))
        .unwrap_or_else(|_| Err(OpenError::Damaged("reading it panicked".to_owned())))
}

fn sort_out(error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => OpenError::InUse,
        DatabaseError::Storage(error) => sort_out_storage(&error),
        other => OpenError::Damaged(other.to_string()),
    }
}

fn sort_out_storage(error: &StorageError) -> OpenError {
    match error {
        StorageError::Io(io) if !matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            OpenError::Io(error.to_string())
        }
        other => OpenError::Damaged(other.to_string()),
    }
}

fn damaged(error: &impl std::fmt::Display) -> OpenError {
    OpenError::Damaged(error.to_string())
}

/// Makes the tables of a new file.
fn prepare(database: &Database) -> Result<(), OpenError> {
    let known = {
        let reading = database.begin_read().map_err(|e| damaged(&e))?;
        match reading.open_table(META) {
            Ok(meta) => {
                let version = meta.get("version").map_err(|e| sort_out_storage(&e))?;
                version.map(|v| v.value().to_vec())
            }
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(damaged(&error)),
        }
    };
    match known {
        Some(version) if version == VERSION => Ok(()),
        Some(version) => {
            Err(OpenError::Damaged(format!("its layout is version {:?}", String::from_utf8_lossy(&version))))
        }
        None => {
            let io = |error: redb::Error| OpenError::Io(error.to_string());
            let writing = database.begin_write().map_err(|e| io(e.into()))?;
            {
                let mut meta = writing.open_table(META).map_err(|e| damaged(&e))?;
                meta.insert("version", VERSION).map_err(|e| io(e.into()))?;
                writing.open_table(BINDINGS).map_err(|e| damaged(&e))?;
            }
            writing.commit().map_err(|e| io(e.into()))
        }
    }
}

fn read(database: &impl ReadableDatabase) -> Result<RestoredState, OpenError> {
    let reading = database.begin_read().map_err(|e| damaged(&e))?;
    let meta = reading.open_table(META).map_err(|e| damaged(&e))?;
    let bytes = |name: &str| -> Result<Option<Vec<u8>>, OpenError> {
        let value = meta.get(name).map_err(|e| sort_out_storage(&e))?;
        Ok(value.map(|v| v.value().to_vec()))
    };
    let key = bytes("key")?.and_then(|key| key.try_into().ok());
    let upstream = bytes("upstream")?.and_then(|json| {
        serde_json::from_slice(&json)
            .inspect_err(|error| warn!(%error, "the stored upstream state cannot be read: not used"))
            .ok()
    });
    let mut bindings = Vec::new();
    let mut unreadable = 0;
    let table = reading.open_table(BINDINGS).map_err(|e| damaged(&e))?;
    for entry in table.iter().map_err(|e| sort_out_storage(&e))? {
        let (_, json) = entry.map_err(|e| sort_out_storage(&e))?;
        match serde_json::from_slice(json.value()) {
            Ok(binding) => bindings.push(binding),
            Err(_) => unreadable += 1,
        }
    }
    if unreadable > 0 {
        warn!(unreadable, "stored bindings that cannot be read are left out");
    }
    Ok(RestoredState { upstream, bindings, key })
}

/// Writes everything in one transaction, durable when this returns. Whatever goes wrong, a panic included, is an error.
pub(super) fn apply(
    database: &Database,
    bindings: &HashMap<String, Option<StoredBinding>>,
    upstream: Option<&Persisted>,
    key: Option<[u8; 32]>,
) -> Result<(), String> {
    let write = || {
        let mut writing = database.begin_write().map_err(redb::Error::from)?;
        writing.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
        {
            let mut meta = writing.open_table(META).map_err(redb::Error::from)?;
            if let Some(key) = key {
                meta.insert("key", key.as_slice())?;
            }
            if let Some(json) = upstream.and_then(|upstream| serde_json::to_vec(upstream).ok()) {
                meta.insert("upstream", json.as_slice())?;
            }
            let mut table = writing.open_table(BINDINGS).map_err(redb::Error::from)?;
            for (id, binding) in bindings {
                match binding.as_ref().and_then(|binding| serde_json::to_vec(binding).ok()) {
                    Some(json) => table.insert(id.as_str(), json.as_slice())?,
                    None => table.remove(id.as_str())?,
                };
            }
        }
        writing.commit().map_err(redb::Error::from)
    };
    match std::panic::catch_unwind(AssertUnwindSafe(write)) {
        Ok(result) => result.map_err(|error: redb::Error| error.to_string()),
        Err(_) => Err("writing it panicked".to_owned()),
    }
}
