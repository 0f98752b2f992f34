//! What the shared memory does in one step: two scripts, their arguments and their answers.
//!
//! | key | what |
//! |---|---|
//! | `holdline:{NAME}:fleet` | the last move: a string of JSON, see [`Stored`] |
//! | `holdline:{NAME}:instances` | sorted set: the instances by when they were last there |
//! | `holdline:{NAME}:served:EPOCH` | sorted set: the instances by their last success in that epoch; expires |
//! | `holdline:{NAME}:moves` | channel: each move as it is stored |
//!
//! Times are the server's: instances send ages, so that their clocks do not matter.

use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, Value};

use crate::fleet::{Installed, LONGEST, MAX_EPOCH, MAX_INSTANCES, Record, Stored, VERSION, Word, name_of};

/// An instance that was not there for so long is not listed any more.
const ABSENT_MS: u64 = 15_000;
/// What nobody refreshes is gone after this.
const KEPT_MS: u64 = 3_600_000;

/// What takes memory comes first: a server that is full refuses a script by its first write only.
const BEAT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function ours(key)
    local kind = redis.call('TYPE', key).ok
    if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', key) end
end
ours(KEYS[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if ARGV[2] ~= '' then
    ours(KEYS[3])
    redis.call('ZADD', KEYS[3], now - ARGV[2], ARGV[1])
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
local raw = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[5])
if type(raw) ~= 'string' then raw = 'not a string' end
return { raw, redis.call('ZREVRANGE', KEYS[2], 0, ARGV[6]) }
";

const INSTALL: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local version, longest, most, epoch = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local raw = redis.pcall('GETRANGE', KEYS[1], 0, longest)
if type(raw) ~= 'string' then raw = 'not a string' end
local there = 0
if raw ~= '' and raw ~= ARGV[14] and #raw <= longest then
    local read, found = pcall(cjson.decode, raw)
    if read and type(found) == 'table' and type(found.v) == 'number' then
        if found.v > version then return { 'lost', raw } end
        local known = found.epoch
        if type(known) == 'number' and known >= 1 and known <= most then there = known end
    end
end
if there >= epoch then return { 'lost', raw } end
if ARGV[11] ~= '' and redis.call('TYPE', KEYS[2]).ok == 'zset' then
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], now - ARGV[11], '+inf', 'LIMIT', 0, 2)) do
        if other ~= ARGV[12] then return { 'spared', other } end
    end
end
local new = cjson.encode({
    v = version, epoch = epoch, target = ARGV[5], from = ARGV[6], by = ARGV[7], id = ARGV[8],
    reason = ARGV[9], strikes = ARGV[10], at = now
})
redis.call('SET', KEYS[1], new)
redis.call('PUBLISH', ARGV[13], new)
return { 'won', new }
";

/// The keys of one fleet, and who this instance is in them.
#[derive(Debug)]
pub(super) struct Keys {
    name: String,
    /// What tells it from others, and its name.
    member: String,
}

impl Keys {
    pub(super) fn new(name: &str, instance: &str, id: &str) -> Keys {
        Keys { name: name.to_owned(), member: format!("{id} {instance}") }
    }

    /// Where moves are published.
    pub(super) fn channel(&self) -> String {
        self.key("moves")
    }

    /// Where the binding with this ID is.
    pub(super) fn handset(&self, id: &str) -> String {
        self.key(&format!("handset:{id}"))
    }

    /// What tells this instance from others.
    pub(super) fn owner(&self) -> &str {
        self.member.split(' ').next().unwrap_or_default()
    }

    fn key(&self, what: &str) -> String {
        format!("holdline:{{{}}}:{what}", self.name)
    }

    fn served(&self, epoch: u64) -> String {
        self.key(&format!("served:{epoch}"))
    }

    /// This instance is there, and was served so long ago.
    pub(super) fn beat(&self, served: Option<(u64, Instant)>, now: Instant) -> Cmd {
        let epoch = served.map_or(0, |(epoch, _)| epoch);
        let age = served.map(|(_, at)| age(at, now)).unwrap_or_default();
        let mut command = redis::cmd("EVAL");
        command.arg(BEAT).arg(3).arg(self.key("fleet")).arg(self.key("instances")).arg(self.served(epoch));
        command.arg(&self.member).arg(age).arg(ABSENT_MS).arg(KEPT_MS).arg(LONGEST).arg(MAX_INSTANCES - 1);
        command
    }

    /// Stores a record, unless there is an epoch as high. `foreign`: what stands there and may be written over, because no
    /// instance has written it.
    pub(super) fn install(&self, record: &Record, since: Option<Instant>, foreign: &[u8], now: Instant) -> Cmd {
        let Record { epoch, target, from, by, id, reason, strikes, at: _ } = record;
        let mut command = redis::cmd("EVAL");
        command.arg(INSTALL).arg(2).arg(self.key("fleet")).arg(self.served(epoch - 1));
        command.arg(VERSION).arg(LONGEST).arg(MAX_EPOCH).arg(*epoch);
        for text in [&**target, from, by, id, reason, strikes] {
            command.arg(text);
        }
        command
            .arg(since.map(|at| age(at, now)).unwrap_or_default())
            .arg(&self.member)
            .arg(self.channel())
            .arg(foreign);
        command
    }
}

/// In milliseconds, as an argument.
fn age(at: Instant, now: Instant) -> String {
    now.saturating_duration_since(at).as_millis().to_string()
}

/// The answer to [`Keys::beat`].
pub(super) fn read(answer: &Value) -> Option<Word> {
    let Value::Array(parts) = answer else { return None };
    let [raw, Value::Array(members)] = &parts[..] else { return None };
    let mut names: Vec<Arc<str>> = members.iter().take(MAX_INSTANCES).filter_map(bytes).map(member_name).collect();
    names.sort();
    Some(Word::Read(Stored::read(bytes(raw)?), names))
}

/// The answer to [`Keys::install`], with the bytes that stood there if it was lost.
pub(super) fn installed(answer: &Value) -> Option<(Installed, &[u8])> {
    let Value::Array(parts) = answer else { return None };
    let [word, raw] = &parts[..] else { return None };
    let raw = bytes(raw)?;
    let installed = match (bytes(word)?, Stored::read(raw)) {
        (b"won", Stored::Record(record)) => Installed::Won(record),
        (b"lost", stored) => Installed::Lost(stored),
        (b"spared", _) => Installed::Spared(member_name(raw)),
        _ => return None,
    };
    Some((installed, raw))
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// The name behind an identity.
fn member_name(member: &[u8]) -> Arc<str> {
    let name = member.iter().position(|byte| *byte == b' ').map_or(member, |at| &member[at + 1..]);
    name_of(name)
}
