//! One name server, and the manner in which it can be asked.
//!
//! The best manner is EDNS(0) (RFC 6891) with the letters of the name in mixed case, which an answer must repeat: somebody who
//! forges answers without seeing the question has to guess them, too. Old servers answer FORMERR or NOTIMP to that, and
//! there are firewalls that drop it; others let nothing but TCP pass (RFC 7766). So a server that is silent, or answers
//! nonsense, is asked in the next plainer manner as well. Which one worked is remembered (RFC 6891 §6.2.2), for no longer
//! than [`REMEMBERED`]: firewalls are replaced.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::failures::{failure, telling};
use crate::upstream::LookupFailure;

/// How long an answer in one manner is waited for. Within it a datagram is repeated every 333 ms (hickory's floor) or so.
const TRY: Duration = Duration::from_millis(1500);
/// After this much silence the next manner is tried as well.
const NEXT_MANNER: Duration = Duration::from_millis(500);
/// For so long a server is asked in the manner that worked; then anew in the best one.
const REMEMBERED: Duration = Duration::from_secs(3600);

type Pool = NameServerPool<TokioRuntimeProvider>;

/// How a question is put, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Manner {
    /// EDNS(0) and mixed case, over UDP; over TCP what is truncated.
    Full,
    /// Without EDNS(0), the name as it is, over UDP.
    Plain,
    /// Without EDNS(0), over TCP from the first.
    Tcp,
}

impl Manner {
    const ALL: [Manner; 3] = [Manner::Full, Manner::Plain, Manner::Tcp];

    fn describe(self) -> &'static str {
        match self {
            Manner::Full => "with EDNS(0)",
            Manner::Plain => "without EDNS(0)",
            Manner::Tcp => "over TCP",
        }
    }
}

/// A name server. Each manner has a pool of its own: one pool would take the same question in two manners for one.
pub(super) struct Server {
    address: SocketAddr,
    pools: [Pool; 3],
    memory: Mutex<Memory>,
}

/// What is known of a server.
#[derive(Debug, Clone, Copy)]
struct Memory {
    manner: Manner,
    since: Instant,
    /// Questions in a row that only a plainer manner got an answer to.
    missed: u32,
    /// An answer in the manner has come: a single miss is a lost datagram rather than a firewall.
    proven: bool,
}

impl Memory {
    fn nothing(now: Instant) -> Self {
        Memory { manner: Manner::Full, since: now, missed: 0, proven: false }
    }

    /// The manner to begin with.
    fn manner(&mut self, now: Instant) -> Manner {
        if self.manner != Manner::Full && now.duration_since(self.since) >= REMEMBERED {
            *self = Memory::nothing(now);
        }
        self.manner
    }

    /// Learns that a question got its answer in this manner, and whether a better one was refused in so many words. True
    /// where the server is asked otherwise from now on.
    fn answered(&mut self, manner: Manner, refused: bool, now: Instant) -> bool {
        if manner <= self.manner {
            self.missed = 0;
            self.proven = true;
            return false;
        }
        self.missed += 1;
        if !refused && self.proven && self.missed < 2 {
            return false;
        }
        *self = Memory { manner, since: now, missed: 0, proven: true };
        true
    }
}

impl Server {
    /// # Errors
    /// Where the library cannot set up its TLS, which is not used.
    pub(super) fn new(address: SocketAddr) -> Result<Self, LookupFailure> {
        let pool = |manner: Manner| -> Result<Pool, LookupFailure> {
            let mut options = ResolverOpts::default();
            options.timeout = TRY;
            options.os_port_selection = true;
            options.case_randomization = manner == Manner::Full;
            let tls = TlsConfig::new().map_err(failure)?;
            let context = Arc::new(PoolContext::new(options, tls));
            let kinds = match manner {
                Manner::Full | Manner::Plain => vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
                Manner::Tcp => vec![ConnectionConfig::tcp()],
            };
            let connections = kinds.into_iter().map(|mut connection| {
                connection.port = address.port();
                connection
            });
            let server = NameServerConfig::new(address.ip(), true, connections.collect());
            Ok(Pool::from_config([server], context, TokioRuntimeProvider::default()))
        };
        let pools = [pool(Manner::Full)?, pool(Manner::Plain)?, pool(Manner::Tcp)?];
        Ok(Server { address, pools, memory: Mutex::new(Memory::nothing(Instant::now())) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks in the manner that is known to work, and in plainer ones where that is met with silence or nonsense.
    pub(super) async fn ask(self: Arc<Self>, query: Query) -> Result<DnsResponse, LookupFailure> {
        let first = self.memory(|memory| memory.manner(Instant::now()));
        let mut waiting = Manner::ALL.into_iter().filter(|manner| *manner >= first);
        let mut tries = JoinSet::new();
        let (mut worst, mut refused, mut more) = (None, false, true);
        loop {
            if more {
                match waiting.next() {
                    Some(manner) => drop(tries.spawn(self.clone().send(manner, query.clone()))),
                    None if tries.is_empty() => break,
                    None => {}
                }
                more = false;
            }
            tokio::select! {
                Some(ended) = tries.join_next() => match ended {
                    Ok((manner, Ok(response))) => {
                        self.answered(manner, refused);
                        return Ok(response);
                    }
                    Ok((manner, Err(error))) => {
                        let in_vain = is_in_vain(&error);
                        refused |= is_refusal(&error);
                        let failed = failure(error);
                        if !in_vain {
                            self.answered(manner, refused);
                            return Err(failed);
                        }
                        worst = Some(telling(worst, failed));
                        more = true;
                    }
                    Err(panicked) => {
                        worst = Some(telling(worst, LookupFailure::Error(panicked.to_string())));
                        more = true;
                    }
                },
                () = sleep(NEXT_MANNER), if !more => more = true,
            }
        }
        // Nothing works: what was known is out of date.
        self.memory(|memory| *memory = Memory::nothing(Instant::now()));
        Err(worst.unwrap_or(LookupFailure::Timeout))
    }

    async fn send(self: Arc<Self>, manner: Manner, query: Query) -> (Manner, Result<DnsResponse, NetError>) {
        let mut options = DnsRequestOptions::default();
        options.use_edns = manner == Manner::Full;
        let outcome = self.pools[manner as usize].lookup(query, options).first_answer().await;
        (manner, outcome)
    }

    fn answered(&self, manner: Manner, refused: bool) {
        if self.memory(|memory| memory.answered(manner, refused, Instant::now())) {
            let (server, manner) = (self.address, manner.describe());
            tracing::info!(%server, "name server answers only {manner}, and is asked like that for an hour");
        }
    }

    fn memory<R>(&self, look: impl FnOnce(&mut Memory) -> R) -> R {
        look(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The server said that it does not know what it was asked with (RFC 6891 §7).
fn is_refusal(error: &NetError) -> bool {
    let code = match error {
        NetError::Dns(DnsError::ResponseCode(code)) => *code,
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
        _ => return false,
    };
    matches!(code, ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS)
}

/// Nothing has been learned about the name: a plainer question may bring more.
fn is_in_vain(error: &NetError) -> bool {
    !matches!(error, NetError::Dns(_)) || is_refusal(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_lost_datagram_proves_no_firewall_and_two_do() {
        let now = Instant::now();
        let mut memory = Memory::nothing(now);
        assert!(!memory.answered(Manner::Full, false, now));
        assert!(!memory.answered(Manner::Plain, false, now), "once is a lost datagram");
        assert!(!memory.answered(Manner::Full, false, now));
        assert!(!memory.answered(Manner::Plain, false, now), "the count begins anew");
        assert!(memory.answered(Manner::Plain, false, now), "twice in a row is none");
        assert_eq!(memory.manner(now), Manner::Plain);
    }

    #[tokio::test]
    async fn what_worked_is_remembered_for_an_hour() {
        let now = Instant::now();
        let mut memory = Memory::nothing(now);
        assert!(memory.answered(Manner::Plain, false, now), "a server that never answered the best manner");
        assert_eq!(memory.manner(now + REMEMBERED / 2), Manner::Plain);
        assert_eq!(memory.manner(now + REMEMBERED), Manner::Full);
    }

    #[tokio::test]
    async fn a_refusal_in_so_many_words_is_believed_at_once() {
        let now = Instant::now();
        let mut memory = Memory::nothing(now);
        memory.answered(Manner::Full, false, now);
        assert!(memory.answered(Manner::Plain, true, now));
    }
}
