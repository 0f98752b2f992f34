//! Earlier looks, kept in the XDG state directory: `$XDG_STATE_HOME/holdline/srv`, else `~/.local/state/holdline/srv`.
//!
//! One file a look, named by time and NAME. Their number and size are bounded, the oldest go first; files of others are
//! left alone. Whatever is wrong with the directory is a warning: a look is worth its answer without a memory.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

use crate::agents::sip::hex;
use crate::probe::report::Look;

/// Looks kept.
pub(super) const KEPT: usize = 200;
/// The longest file written or read, in bytes.
const LONGEST: u64 = 512 * 1024;
/// Entries of the directory that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// Where looks are kept.
#[derive(Debug, Clone)]
pub(super) struct History {
    directory: PathBuf,
}

/// One kept look, not yet read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    /// Seconds since 1970, then a number that distinguishes those of one second.
    at: (u64, u32),
    name: String,
    path: PathBuf,
}

impl History {
    /// From the environment. The error says why there is no place.
    pub(super) fn find() -> Result<History, String> {
        let given = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // The specification has relative paths ignored.
        let state = given("XDG_STATE_HOME").or_else(|| given("HOME").map(|home| home.join(".local/state")));
        match state {
            Some(state) => Ok(History { directory: state.join("holdline/srv") }),
            None => Err("neither XDG_STATE_HOME nor HOME says where: this look is not kept".to_owned()),
        }
    }

    /// The latest look at this NAME. Files that cannot be read count as not there.
    pub(super) fn last(&self, input: &str) -> Result<Option<Look>, String> {
        let name = slug(input);
        let mut kept: Vec<Kept> = self.list()?.into_iter().filter(|kept| kept.name == name).collect();
        kept.sort();
        Ok(kept.iter().rev().filter_map(|kept| read(&kept.path)).find(|look| look.input == input))
    }

    /// All looks, the latest first, of these NAMEs or of all; and how many files could not be read.
    pub(super) fn recent(&self, inputs: &[String]) -> Result<(Vec<Look>, usize), String> {
        let mut kept = self.list()?;
        kept.sort();
        let mut looks = Vec::new();
        let mut unreadable = 0;
        for kept in kept.iter().rev().take(KEPT) {
            match read(&kept.path) {
                Some(look) if inputs.is_empty() || inputs.contains(&look.input) => looks.push(look),
                Some(_) => {}
                None => unreadable += 1,
            }
        }
        Ok((looks, unreadable))
    }

    /// Keeps a look, and lets the oldest go.
    pub(super) fn keep(&self, look: &Look) -> Result<(), String> {
        let refuse = |what: &str, error: &std::io::Error| {
            format!("{}: {what}: {error}; this look is not kept", self.directory.display())
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| refuse("cannot be made", &error))?;
        let json = serde_json::to_vec(look).map_err(|error| error.to_string())?;
        if json.len() as u64 > LONGEST {
            return Err(format!("a look of {} bytes is too long to be kept", json.len()));
        }
        let mut turn = 0;
        loop {
            let path = self.directory.join(format!("{:012}-{turn:04}-{}.json", look.at, slug(&look.input)));
            // Written whole or not at all: it is read only under its final name.
            let draft = path.with_extension("draft");
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft) {
                Ok(mut file) => {
                    let written = file.write_all(&json).and_then(|()| {
                        if path.exists() { Err(ErrorKind::AlreadyExists.into()) } else { fs::rename(&draft, &path) }
                    });
                    match written {
                        Ok(()) => break,
                        Err(error) => {
                            // What is left of it is of no use, whether or not it can be removed.
                            let _ = fs::remove_file(&draft);
                            if error.kind() != ErrorKind::AlreadyExists {
                                return Err(refuse("cannot be written to", &error));
                            }
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(refuse("cannot be written to", &error)),
            }
            turn += 1;
            if turn == 1000 {
                return Err(format!(
                    "{}: too many looks in one second; this one is not kept",
                    self.directory.display()
                ));
            }
        }
        self.prune()
    }

    fn prune(&self) -> Result<(), String> {
        let mut kept = self.list()?;
        kept.sort();
        let surplus = kept.len().saturating_sub(KEPT);
        for old in &kept[..surplus] {
            if let Err(error) = fs::remove_file(&old.path)
                && error.kind() != ErrorKind::NotFound
            {
                return Err(format!("{}: cannot be removed: {error}", old.path.display()));
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<Kept>, String> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("{}: cannot be read: {error}", self.directory.display())),
        };
        Ok(entries.flatten().take(MOST_ENTRIES).filter_map(|entry| Kept::of(&entry.path())).collect())
    }
}

impl Kept {
    /// `None` for a file that is not one of ours.
    fn of(path: &Path) -> Option<Kept> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".json")?;
        let mut parts = stem.splitn(3, '-');
        let (at, turn, name) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(at, 12) || !digits(turn, 4) {
            return None;
        }
        Some(Kept { at: (at.parse().ok()?, turn.parse().ok()?), name: name.to_owned(), path: path.to_owned() })
    }
}

fn read(path: &Path) -> Option<Look> {
    let mut json = Vec::new();
    let file = fs::File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.take(LONGEST + 1).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

/// A NAME as part of a file name: readable, and distinguished from similar ones by a digest.
fn slug(input: &str) -> String {
    let readable: String =
        input.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_')).take(60).collect();
    format!("{readable}-{}", hex(&digest(&SHA256, input.as_bytes()).as_ref()[..4]))
}
