//! What the store will write within a second, appended at once: in the kernel's hands, not yet on the disk.
//!
//! Two parts are used in turn. One that is full rests until the store has everything in it, then it is emptied and used next: see
//! `docs/adr/0026-journal.md`. A part is a header (`HLJ1`, its number) and records: length and CRC-32 of what follows, four bytes
//! each, little endian, then the JSON of a [`Keep`].

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::Keep;

/// The parts' names in the state directory.
pub(super) const PARTS: [&str; 2] = ["holdline.journal.0", "holdline.journal.1"];
/// A part of this size makes room for the other one, if that is free.
const PART: u64 = 1 << 20;
/// No part is longer: a store that cannot be written must not fill the disk.
const LONGEST: u64 = 32 << 20;
/// No record is longer. A binding has two kilobytes at most, a record set some more.
const RECORD: usize = 1 << 20;

const MAGIC: &[u8; 4] = b"HLJ1";
const HEADER: usize = 12;

/// Both parts, one of them in use.
#[derive(Debug)]
pub(super) struct Journal {
    parts: [Part; 2],
    /// Which one is in use.
    active: usize,
    /// Its number in the order of use.
    number: u64,
    /// Nothing can be written.
    failed: bool,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    /// The newest change in it.
    newest: u64,
}

impl Journal {
    /// Opens or makes both parts, and reads what they hold, oldest first. What does not fit is cut off, with a line about it.
    pub(super) fn open(dir: &Path) -> (Journal, Vec<Keep>) {
        let mut found = Vec::new();
        let parts = PARTS.map(|name| {
            let path = dir.join(name);
            let mut part = Part { file: open(&path), path, length: 0, newest: 0 };
            let (number, changes) = part.read();
            found.push((number, changes));
            part
        });
        let active = usize::from(found[1].0 > found[0].0);
        let number = found[active].0;
        found.sort_by_key(|(number, _)| *number);
        let journal = Journal { parts, active, number, failed: false, buffer: Vec::new() };
        (journal, found.into_iter().flat_map(|(_, changes)| changes).collect())
    }

    /// Empties both parts: the store has what was in them, or they must not be believed any more.
    pub(super) fn clear(&mut self) {
        for part in &mut self.parts {
            if part.length > 0
                && let Err(error) = part.empty()
            {
                warn!(file = %part.path.display(), %error, "cannot empty the journal: a restart may bring old bindings back");
            }
        }
    }

    /// False from a write that failed to one that did not.
    pub(super) fn is_writable(&self) -> bool {
        !self.failed
    }

    /// Appends these changes with one `write`. `number` counts the calls; the store has all up to `durable`.
    pub(super) fn append(&mut self, changes: &[Keep], number: u64, durable: u64) {
        let other = 1 - self.active;
        if self.parts[self.active].length >= PART
            && self.parts[other].newest <= durable
            && self.parts[other].empty().is_ok()
        {
            self.active = other;
            self.number += 1;
        }
        let part = &mut self.parts[self.active];
        self.buffer.clear();
        if part.length == 0 {
            self.buffer.extend_from_slice(MAGIC);
            self.buffer.extend_from_slice(&self.number.to_le_bytes());
        }
        for change in changes {
            encode(change, &mut self.buffer);
        }
        match part.write(&self.buffer) {
            Ok(()) => {
                part.newest = number;
                if std::mem::take(&mut self.failed) {
                    info!(file = %part.path.display(), "the journal is written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    warn!(file = %part.path.display(), %error, "cannot write the journal: a kill may cost a second of bindings");
                }
                self.clear();
            }
        }
    }
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).ok()
}

impl Part {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.length + bytes.len() as u64 > LONGEST {
            return Err(std::io::Error::other("it is full, because the store cannot be written"));
        }
        if self.file.is_none() {
            self.file = open(&self.path);
        }
        let file = self.file.as_mut().ok_or_else(|| std::io::Error::other("it cannot be opened"))?;
        // A part of it may be there if this fails: whoever called empties the file.
        self.length += bytes.len() as u64;
        file.write_all(bytes)
    }

    fn empty(&mut self) -> std::io::Result<()> {
        if let Some(file) = &self.file {
            file.set_len(0)?;
        }
        (self.length, self.newest) = (0, 0);
        Ok(())
    }

    /// Number and changes. What is no record of ours is cut off.
    fn read(&mut self) -> (u64, Vec<Keep>) {
        let mut bytes = Vec::new();
        let Some(file) = &mut self.file else { return (0, Vec::new()) };
        if let Err(error) = file.take(LONGEST).read_to_end(&mut bytes) {
            warn!(file = %self.path.display(), %error, "the journal cannot be read: emptied");
            // Appended to as it is, the next start would read old changes and cut the new ones.
            let _ = file.set_len(0);
            return (0, Vec::new());
        }
        let Some((number, mut rest)) = header(&bytes) else {
            if !bytes.is_empty() {
                warn!(file = %self.path.display(), cut = bytes.len(), "this is no journal of ours, or only the beginning of one: emptied");
                let _ = file.set_len(0);
            }
            return (0, Vec::new());
        };
        let mut changes = Vec::new();
        while let Some((change, next)) = record(rest) {
            changes.push(change);
            rest = next;
        }
        self.length = (bytes.len() - rest.len()) as u64;
        self.newest = super::BEFORE;
        if !rest.is_empty() {
            info!(file = %self.path.display(), replayed = changes.len(), cut = rest.len(), "the journal ends in half a record: cut");
            let _ = file.set_len(self.length);
        }
        (number, changes)
    }
}

fn header(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEADER)?;
    let number = head.strip_prefix(MAGIC)?.try_into().ok().map(u64::from_le_bytes)?;
    Some((number, rest))
}

fn record(bytes: &[u8]) -> Option<(Keep, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= RECORD)?;
    let (body, rest) = rest.split_at_checked(length)?;
    if crc32(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    Some((serde_json::from_slice(body).ok()?, rest))
}

fn encode(change: &Keep, into: &mut Vec<u8>) {
    let begin = into.len();
    into.extend_from_slice(&[0; 8]);
    let body = begin + 8;
    let fits = serde_json::to_writer(&mut *into, change).is_ok() && into.len() - body <= RECORD;
    if !fits {
        into.truncate(begin);
        return;
    }
    let (length, sum) = ((into.len() - body) as u32, crc32(&into[body..]));
    into[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    into[begin + 4..body].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32 as in Ethernet and zip (reflected 0xEDB88320).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8))
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut crc, mut bit) = (n as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(n: usize) -> Keep {
        Keep::Remove(format!("h{n}"))
    }

    #[test]
    fn the_checksum_is_that_of_zip() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn cut_anywhere_the_whole_records_before_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path());
        for n in 0..5 {
            journal.append(&[remove(n)], n as u64 + 1, 0);
        }
        let path = dir.path().join(PARTS[0]);
        let whole = std::fs::read(&path).unwrap();
        let mut seen = 0;
        for length in (0..=whole.len()).rev() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, changes) = Journal::open(dir.path());
            let expected: Vec<Keep> = (0..changes.len()).map(remove).collect();
            assert_eq!(changes, expected, "{length}");
            seen |= 1 << changes.len();
            // What comes after a cut is found, too.
            journal.append(&[remove(changes.len())], 9, 0);
            assert_eq!(Journal::open(dir.path()).1.len(), changes.len() + 1, "{length}");
        }
        assert_eq!(seen, 0b11_1111);
        let mut flipped = whole.clone();
        let last = flipped.len() - 3;
        flipped[last] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert_eq!(Journal::open(dir.path()).1.len(), 4, "a record whose checksum is wrong");
        std::fs::write(&path, b"something else altogether").unwrap();
        assert!(Journal::open(dir.path()).1.is_empty());
    }

    #[test]
    fn a_part_that_cannot_be_read_is_not_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path());
        journal.append(&[remove(1), remove(2)], 1, 0);
        let path = dir.path().join(PARTS[0]);
        // Only written to: what is there gives an error to who reads.
        let file = OpenOptions::new().append(true).open(&path).ok();
        let mut part = Part { path: path.clone(), file, length: 0, newest: 0 };
        assert_eq!(part.read(), (0, Vec::new()));
        assert_eq!(std::fs::metadata(path).unwrap().len(), 0);
    }

    #[test]
    fn parts_take_turns_and_neither_grows_while_the_store_keeps_up() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path());
        let large = Keep::Remove("x".repeat(100_000));
        for n in 1..=100 {
            // The store is thirty behind: what is newer must be found.
            journal.append(&[large.clone(), remove(n)], n as u64, (n as u64).saturating_sub(30));
            let found = Journal::open(dir.path()).1;
            let numbers: Vec<&Keep> = found.iter().filter(|keep| **keep != large).collect();
            let expected: Vec<Keep> = (n + 1 - numbers.len()..=n).map(remove).collect();
            assert!(numbers.len() >= n.min(30) && numbers.into_iter().eq(&expected), "{n}");
        }
        let sizes = PARTS.map(|part| std::fs::metadata(dir.path().join(part)).unwrap().len());
        assert!(sizes.iter().all(|size| *size < 4 * PART), "{sizes:?}");
    }

    #[test]
    fn a_store_that_takes_nothing_does_not_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path());
        let large = Keep::Remove("x".repeat(900_000));
        let mut failed = 0;
        for n in 1..=80 {
            journal.append(std::slice::from_ref(&large), n, 0);
            failed += usize::from(!journal.is_writable());
        }
        let size: u64 = PARTS.iter().map(|part| std::fs::metadata(dir.path().join(part)).unwrap().len()).sum();
        assert!(failed > 0 && size <= 2 * LONGEST, "{failed} {size}");
    }
}
