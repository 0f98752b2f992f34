//! Handsets' bindings in the shared memory: written behind, so that another instance finds them.
//!
//! | key | what |
//! |---|---|
//! | `holdline:{NAME}:handset:ID` | sixteen digits that tell the instance which wrote it, then the JSON of a [`StoredBinding`]; expires with the binding |
//!
//! The driver leaves what has changed in a map and goes on; the link takes it from there, at most once a second and a thousand at a
//! time. A binding that changes again meanwhile is written once. Nobody waits for any of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use redis::{Pipeline, Value};

use crate::fleet::Found;
use crate::proxy::StoredBinding;

/// Bindings that wait to be written; one more is not, until it is refreshed or the memory is linked anew.
pub const MAX_WAITING: usize = 65_536;
/// Written in one go.
const AT_ONCE: usize = 1000;
/// The longest value that is taken for a binding.
const LONGEST: usize = 8192;
/// What tells the instance that wrote it.
const OWNER: usize = 16;

/// Takes a binding off only if this instance wrote it: a handset that moved is another's by now.
const REMOVE: &str = r"
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return 0 end
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
";

const FIND: &str = r"
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'string' then return { '', 0 } end
return { redis.call('GETRANGE', KEYS[1], 0, ARGV[1]), redis.call('TTL', KEYS[1]) }
";

/// What is to become of one binding there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It changed: it is written, whatever stands there.
    Changed(Box<StoredBinding>),
    /// The memory may have lost it: it is written if nothing stands there.
    Again(Box<StoredBinding>),
    /// It is gone.
    Removed,
}

/// What waits to be written, between the driver and the link.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<BTreeMap<String, Written>>>);

impl Waiting {
    /// Leaves it there. False where there is no room.
    pub(super) fn leave(&self, id: String, written: Written) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING && !waiting.contains_key(&id) {
            return false;
        }
        match (waiting.get(&id), &written) {
            // What changed is newer than what is only told again.
            (Some(Written::Changed(_) | Written::Removed), Written::Again(_)) => {}
            _ => {
                waiting.insert(id, written);
            }
        }
        true
    }

    pub(super) fn take(&self) -> Vec<(String, Written)> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::with_capacity(waiting.len().min(AT_ONCE));
        while taken.len() < AT_ONCE
            && let Some(first) = waiting.pop_first()
        {
            taken.push(first);
        }
        taken
    }

    /// Whether it was written is not known: it waits once more, unless something newer does. What is told again with each link is.
    pub(super) fn give_back(&self, taken: &[(String, Written)]) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, written) in taken.iter().filter(|(_, written)| !matches!(written, Written::Again(_))) {
            let newer = matches!(waiting.get(id), Some(Written::Changed(_) | Written::Removed));
            if !newer && (waiting.len() < MAX_WAITING || waiting.contains_key(id)) {
                waiting.insert(id.clone(), written.clone());
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// The commands that write these. `unix`: now, in seconds since 1970.
pub(super) fn write(key: impl Fn(&str) -> String, owner: &str, taken: &[(String, Written)], unix: u64) -> Pipeline {
    let mut pipeline = redis::pipe();
    for (id, written) in taken {
        match written {
            Written::Removed => pipeline.cmd("EVAL").arg(REMOVE).arg(1).arg(key(id)).arg(owner).ignore(),
            Written::Changed(binding) | Written::Again(binding) => {
                let remaining = binding.expires_at.saturating_sub(unix).max(1);
                let value = format!("{owner}{}", serde_json::to_string(binding).unwrap_or_default());
                let set = pipeline.cmd("SET").arg(key(id)).arg(value).arg("EX").arg(remaining);
                if matches!(written, Written::Again(_)) { set.arg("NX").ignore() } else { set.ignore() }
            }
        };
    }
    pipeline
}

/// The question for one binding.
pub(super) fn find(key: &str) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(FIND).arg(1).arg(key).arg(LONGEST);
    command
}

/// Its answer. What is too long to be a binding, or has no end, is none.
pub(super) fn found(id: &Arc<str>, answer: &Value) -> Option<Found> {
    let Value::Array(parts) = answer else { return None };
    let [Value::BulkString(value), Value::Int(remaining)] = &parts[..] else { return None };
    let fits = value.len() > OWNER && value.len() <= LONGEST && *remaining > 0;
    let value = if fits { value[OWNER..].to_vec() } else { Vec::new() };
    let here = serde_json::from_slice::<Through>(&value).is_ok_and(|through| has(through.local.ip()));
    Some(Found { id: id.clone(), value, remaining: (*remaining).max(0) as u64, here })
}

/// The part of a stored binding that says through which address of Holdline's its handset came.
#[derive(serde::Deserialize)]
struct Through {
    local: SocketAddr,
}

/// Whether this machine has an address now: a listener on a wildcard would take any for its own.
fn has(ip: IpAddr) -> bool {
    let is_it = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let ip = ip.to_canonical();
    ip.is_loopback() || nix::ifaddrs::getifaddrs().is_ok_and(|mut all| all.any(|one| is_it(one) == Some(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(id: &str) -> Box<StoredBinding> {
        Box::new(StoredBinding {
            id: id.to_owned(),
            aor: "sip:204@pbx.example".to_owned(),
            contact: "sip:204@192.0.2.7".to_owned(),
            target: "a:5060".to_owned(),
            transport: "udp".to_owned(),
            remote: ([192, 0, 2, 7], 5060).into(),
            local: ([192, 0, 2, 1], 5060).into(),
            socket: 0,
            expires_at: 1_000,
            user_agent: String::new(),
            wanted: 0,
            told: 0,
        })
    }

    #[test]
    fn what_may_not_have_been_written_waits_once_more_unless_something_newer_does() {
        let waiting = Waiting::default();
        let changed = |id: &str| (id.to_owned(), Written::Changed(binding(id)));
        let taken = [
            changed("a"),
            ("b".to_owned(), Written::Removed),
            changed("c"),
            ("d".to_owned(), Written::Again(binding("d"))),
        ];
        waiting.leave("a".to_owned(), Written::Removed);
        waiting.leave("c".to_owned(), Written::Again(binding("c")));
        waiting.give_back(&taken);
        let removed = |id: &str| (id.to_owned(), Written::Removed);
        assert_eq!(waiting.take(), [removed("a"), removed("b"), changed("c")]);
    }

    #[test]
    fn what_waits_is_bounded_and_the_newest_of_each() {
        let waiting = Waiting::default();
        assert!(waiting.leave("h1".to_owned(), Written::Changed(binding("h1"))));
        assert!(waiting.leave("h1".to_owned(), Written::Again(binding("h1"))));
        assert!(waiting.leave("h2".to_owned(), Written::Changed(binding("h2"))));
        assert!(waiting.leave("h2".to_owned(), Written::Removed));
        let taken = waiting.take();
        assert!(matches!(&taken[..], [(_, Written::Changed(_)), (_, Written::Removed)]), "{taken:?}");
        assert!(waiting.is_empty());
        for n in 0..MAX_WAITING {
            assert!(waiting.leave(format!("h{n}"), Written::Removed));
        }
        assert!(!waiting.leave("another".to_owned(), Written::Removed));
        assert!(waiting.leave("h1".to_owned(), Written::Changed(binding("h1"))), "one that waits may change");
        assert_eq!(waiting.take().len(), AT_ONCE);
    }
}
