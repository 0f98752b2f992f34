//! What the instances of a fleet share: which target is active, since which move, by whose word.
//!
//! It is one JSON object with a version. Whatever else stands in its place is foreign: it is never followed, and an instance that
//! knows better writes over it. An object of a later version is left alone.

use std::sync::Arc;

use serde::Deserialize;

use crate::upstream::{Decided, MAX_DETAIL, Plan, Reason, TargetId, bounded};

/// The version of what is written. A reader takes unknown fields of the same version as nothing, so that a newer instance may add some.
pub const VERSION: u32 = 1;

/// The longest stored value that is read.
pub const LONGEST: usize = 2048;

/// The highest number of a move that is believed. A fleet that moves every second gets there in thirty thousand years; what is beyond was
/// not written by one.
pub const MAX_EPOCH: u64 = 1_000_000_000_000;

/// The longest label of a target: a DNS name and a port.
const LONGEST_LABEL: usize = 261;

/// One move of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1. The higher one is right.
    pub epoch: u64,
    /// Label of the active target.
    pub target: TargetId,
    /// The target that was left; blank where there was none.
    pub from: Arc<str>,
    /// Name of the instance that decided.
    pub by: Arc<str>,
    /// What tells that instance from one of the same name.
    pub id: Arc<str>,
    /// Why, as in `failovers_total{reason}`; `start` where there was nothing before.
    pub reason: Arc<str>,
    /// The strikes that decided, in words; blank where there were none.
    pub strikes: Arc<str>,
    /// When, in milliseconds since 1970 by the clock of the shared memory; 0 before it is stored.
    pub at: u64,
}

/// What stands in the shared memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// A move.
    Record(Record),
    /// Something that no instance has written; why not.
    Foreign(&'static str),
    /// What a later version of Holdline has written.
    Newer(u32),
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
struct Written {
    epoch: u64,
    target: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    by: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    strikes: String,
    #[serde(default)]
    at: u64,
}

impl Stored {
    /// Reads a stored value. Never panics, and keeps nothing that is not bounded and printable.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Stored {
        if bytes.is_empty() {
            return Stored::Absent;
        }
        if bytes.len() > LONGEST {
            return Stored::Foreign("it is too long");
        }
        match serde_json::from_slice::<Version>(bytes) {
            Err(_) => return Stored::Foreign("it is no object with a version"),
            Ok(Version { v }) if v > VERSION => return Stored::Newer(v),
            Ok(Version { v }) if v < VERSION => return Stored::Foreign("there is no such version"),
            Ok(_) => {}
        }
        let Ok(written) = serde_json::from_slice::<Written>(bytes) else {
            return Stored::Foreign("a field is missing or of another type");
        };
        if !(1..=MAX_EPOCH).contains(&written.epoch) {
            return Stored::Foreign("its epoch is out of range");
        }
        let label = |text: &str| text.len() <= LONGEST_LABEL && text.bytes().all(|byte| byte.is_ascii_graphic());
        if written.target.is_empty() || !label(&written.target) || !label(&written.from) {
            return Stored::Foreign("its target is none");
        }
        let text = |text: String| bounded(text.as_bytes()).unwrap_or_default();
        Stored::Record(Record {
            epoch: written.epoch,
            target: TargetId::from(&*written.target),
            from: written.from.into(),
            by: text(written.by),
            id: text(written.id),
            reason: text(written.reason),
            strikes: text(written.strikes),
            at: written.at,
        })
    }
}

impl Record {
    /// The record of a planned move.
    pub(super) fn of(plan: &Plan, epoch: u64, by: Arc<str>, id: Arc<str>) -> Record {
        Record {
            epoch,
            target: plan.to.clone(),
            from: Arc::from(&*plan.from),
            by,
            id,
            reason: plan.reason.as_str().into(),
            strikes: plan.strikes.clone(),
            at: 0,
        }
    }

    /// The first record of a fleet.
    pub(super) fn first(target: TargetId, by: Arc<str>, id: Arc<str>) -> Record {
        let blank = Arc::<str>::from("");
        Record { epoch: 1, target, from: blank.clone(), by, id, reason: "start".into(), strikes: blank, at: 0 }
    }

    /// Whose word it is, for whoever follows.
    #[must_use]
    pub fn decided(&self) -> Decided {
        let struck_out = *self.reason == *Reason::RegisterFailures.as_str();
        Decided { by: self.by.clone(), strikes: self.strikes.clone(), struck_out }
    }
}

/// A name that others chose, as it is kept: printable and bounded.
#[must_use]
pub fn name_of(bytes: &[u8]) -> Arc<str> {
    bounded(&bytes[..bytes.len().min(MAX_DETAIL)]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_instance_has_written_is_foreign() {
        let written = br#"{"v":1,"epoch":7,"target":"b:5060","from":"a:5060","by":"berlin","id":"1f","reason":"register_failures","strikes":"refused now","at":1764421234567,"more":[1]}"#;
        let Stored::Record(record) = Stored::read(written) else { panic!("{:?}", Stored::read(written)) };
        assert_eq!((record.epoch, &*record.target, &*record.by, record.at), (7, "b:5060", "berlin", 1_764_421_234_567));
        assert_eq!(Stored::read(b""), Stored::Absent);
        assert_eq!(Stored::read(br#"{"v":2,"anything":"else"}"#), Stored::Newer(2));
        for foreign in [
            &b"garbage"[..],
            b"{}",
            b"[1]",
            b"\xff\xfe\x00",
            br#"{"v":0,"epoch":1,"target":"a"}"#,
            br#"{"v":1}"#,
            br#"{"v":1,"epoch":0,"target":"a"}"#,
            br#"{"v":1,"epoch":-1,"target":"a"}"#,
            br#"{"v":1,"epoch":1e300,"target":"a"}"#,
            br#"{"v":1,"epoch":9007199254740993,"target":"a"}"#,
            br#"{"v":1,"epoch":1,"target":""}"#,
            br#"{"v":1,"epoch":1,"target":"a b"}"#,
            "{\"v\":1,\"epoch\":1,\"target\":\"a\\u0000\"}".as_bytes(),
            &[b'['; LONGEST],
            &[b' '; LONGEST + 1],
        ] {
            assert!(matches!(Stored::read(foreign), Stored::Foreign(_)), "{:?}", String::from_utf8_lossy(foreign));
        }
    }

    #[test]
    fn what_others_say_is_bounded_and_printable() {
        let long =
            format!(r#"{{"v":1,"epoch":1,"target":"a:1","by":"x\u001b[31m\n","strikes":"{}"}}"#, "é".repeat(600));
        let Stored::Record(record) = Stored::read(long.as_bytes()) else { panic!("a record") };
        assert!(record.strikes.len() <= 3 * MAX_DETAIL && !record.by.chars().any(char::is_control), "{record:?}");
    }
}
