//! One question, several name servers, one answer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{DnsResponse, Message, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::failures::{negative, telling};
use super::server::Server;
use crate::upstream::LookupFailure;

/// The longest a question may take, aliases and all servers included.
pub const QUESTION: Duration = Duration::from_secs(2);
/// After this much silence the next server is asked as well.
const NEXT_SERVER: Duration = Duration::from_millis(400);
/// More servers than this are not asked.
pub(super) const MAX_SERVERS: usize = 8;
/// Aliases followed for one question.
const MAX_ALIASES: usize = 8;

/// Name servers in the order they are asked. Each is asked by itself: hickory's pool of several takes SERVFAIL for the
/// final word of all of them.
pub(super) struct Servers {
    addresses: Vec<SocketAddr>,
    servers: Vec<Arc<Server>>,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addresses.fmt(f)
    }
}

/// Records of the type that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub records: Vec<RData>,
    /// The least lifetime of the records and of the aliases that led to them.
    pub ttl: Duration,
    /// Addresses from the additional section.
    pub along: Vec<(Name, IpAddr)>,
    /// Where the aliases led, if the name asked for is one.
    pub alias: Option<Name>,
    /// The server speaks for the zone itself; else the lifetime may be what is left of it in a cache.
    pub authoritative: bool,
}

impl Answer {
    /// Addresses of this host that came along in the additional section.
    pub(super) fn addresses_along(&self, host: &str) -> impl Iterator<Item = IpAddr> {
        self.along.iter().filter(move |(name, _)| super::host_name(name) == host).map(|(_, address)| *address)
    }
}

impl Servers {
    pub(super) fn new(addresses: &[SocketAddr]) -> Result<Self, LookupFailure> {
        let servers: Vec<Arc<Server>> = addresses
            .iter()
            .take(MAX_SERVERS)
            .map(|address| Server::new(*address).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Servers { addresses: servers.iter().map(|server| server.address()).collect(), servers })
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Asks, and follows aliases where the server did not. At most [`QUESTION`].
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Result<Answer, LookupFailure> {
        let deadline = Instant::now() + QUESTION;
        let mut current = name.clone();
        let mut alias_ttl = u32::MAX;
        for _ in 0..=MAX_ALIASES {
            let response = self.ask_in_turn(&current, kind, deadline).await?;
            match read(&response, &current, kind) {
                Reading::Records(mut answer) => {
                    answer.ttl = answer.ttl.min(Duration::from_secs(alias_ttl.into()));
                    if current != *name {
                        answer.alias.get_or_insert(current);
                    }
                    return Ok(answer);
                }
                Reading::Alias { to, ttl } => {
                    alias_ttl = alias_ttl.min(ttl);
                    current = to;
                }
                Reading::Nothing(failure) => return Err(failure),
            }
        }
        Err(LookupFailure::Error(format!("{name} is an alias of an alias, more than {MAX_ALIASES} times")))
    }

    /// The first server's answer; the next one's as well where it is silent or could not find out.
    async fn ask_in_turn(&self, name: &Name, kind: RecordType, end: Instant) -> Result<DnsResponse, LookupFailure> {
        let mut query = Query::query(name.clone(), kind);
        query.set_query_class(DNSClass::IN);
        let mut waiting = self.servers.iter();
        let mut tries = JoinSet::new();
        let mut worst = None;
        loop {
            if tries.is_empty() {
                let Some(server) = waiting.next() else { return Err(worst.unwrap_or(LookupFailure::Timeout)) };
                tries.spawn(server.clone().ask(query.clone()));
            }
            tokio::select! {
                Some(ended) = tries.join_next() => match ended {
                    Ok(Ok(response)) => return Ok(response),
                    Ok(Err(known @ (LookupFailure::NxDomain | LookupFailure::NoData))) => return Err(known),
                    Ok(Err(failure)) => {
                        worst = Some(telling(worst, failure));
                        if let Some(server) = waiting.next() {
                            tries.spawn(server.clone().ask(query.clone()));
                        }
                    }
                    Err(panicked) => worst = Some(telling(worst, LookupFailure::Error(panicked.to_string()))),
                },
                () = sleep(NEXT_SERVER), if waiting.len() > 0 => {
                    if let Some(server) = waiting.next() {
                        tries.spawn(server.clone().ask(query.clone()));
                    }
                }
                () = sleep_until(end) => return Err(worst.unwrap_or(LookupFailure::Timeout)),
            }
        }
    }
}

enum Reading {
    Records(Answer),
    /// The chain of aliases ends outside the answer.
    Alias {
        to: Name,
        ttl: u32,
    },
    Nothing(LookupFailure),
}

/// Reads one response: follows the aliases in it (RFC 1034 §3.6.2) and takes the records at their end.
fn read(response: &Message, name: &Name, kind: RecordType) -> Reading {
    let mut current = name;
    let mut ttl = u32::MAX;
    for _ in 0..=MAX_ALIASES {
        let found: Vec<_> = response
            .answers
            .iter()
            .filter(|r| r.record_type() == kind && r.name == *current && r.dns_class == DNSClass::IN)
            .collect();
        if !found.is_empty() {
            let ttl = found.iter().map(|r| r.ttl).fold(ttl, u32::min);
            let along = response.additionals.iter().filter_map(|r| Some((r.name.clone(), r.data.ip_addr()?))).collect();
            return Reading::Records(Answer {
                records: found.into_iter().map(|r| r.data.clone()).collect(),
                ttl: Duration::from_secs(ttl.into()),
                along,
                alias: (current != name).then(|| current.clone()),
                authoritative: response.metadata.authoritative,
            });
        }
        let alias = response.answers.iter().find_map(|r| match &r.data {
            RData::CNAME(to) if r.name == *current => Some((&to.0, r.ttl)),
            _ => None,
        });
        let Some((to, alias_ttl)) = alias else { break };
        current = to;
        ttl = ttl.min(alias_ttl);
    }
    let is_known = response.metadata.response_code != ResponseCode::NoError
        || response.authorities.iter().any(|r| r.record_type() == RecordType::SOA);
    if current == name || is_known {
        Reading::Nothing(negative(response.metadata.response_code))
    } else {
        Reading::Alias { to: current.clone(), ttl }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME, SRV};

    use super::*;

    fn name(text: &str) -> Name {
        super::super::absolute(text).unwrap()
    }

    fn response(answers: Vec<Record>, code: ResponseCode) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        message.answers = answers;
        message
    }

    fn cname(from: &str, ttl: u32, to: &str) -> Record {
        Record::from_rdata(name(from), ttl, RData::CNAME(CNAME(name(to))))
    }

    fn a(from: &str, ttl: u32) -> Record {
        Record::from_rdata(name(from), ttl, RData::A(A([192, 0, 2, 1].into())))
    }

    #[test]
    fn an_alias_in_front_of_srv_records_is_followed_to_the_srv_records() {
        let srv = RData::SRV(SRV::new(0, 0, 5060, name("a.example.com")));
        let answers = vec![
            cname("_sip._udp.example.com", 30, "_sip._udp.example.net"),
            Record::from_rdata(name("_sip._udp.example.net"), 300, srv.clone()),
        ];
        let message = response(answers, ResponseCode::NoError);
        let Reading::Records(answer) = read(&message, &name("_sip._udp.example.com"), RecordType::SRV) else {
            panic!("records expected")
        };
        assert_eq!(answer.records, vec![srv]);
        assert_eq!(answer.ttl, Duration::from_secs(30), "the alias lives shorter");
        assert_eq!(answer.alias, Some(name("_sip._udp.example.net")));
    }

    #[test]
    fn names_compare_without_case_and_foreign_records_are_left_out() {
        let message = response(vec![a("evil.example.com", 1), a("A.Example.COM", 60)], ResponseCode::NoError);
        let Reading::Records(answer) = read(&message, &name("a.example.com"), RecordType::A) else {
            panic!("records expected")
        };
        assert_eq!((answer.records.len(), answer.ttl), (1, Duration::from_secs(60)));
    }

    #[test]
    fn a_chain_that_leaves_the_answer_is_asked_on() {
        let message =
            response(vec![cname("a.test", 30, "b.test"), cname("b.test", 20, "c.test")], ResponseCode::NoError);
        assert!(matches!(
            read(&message, &name("a.test"), RecordType::A),
            Reading::Alias { to, ttl: 20 } if to == name("c.test")
        ));
    }

    #[test]
    fn an_alias_to_nowhere_is_nxdomain_and_a_loop_ends() {
        let nowhere = response(vec![cname("a.test", 30, "b.test")], ResponseCode::NXDomain);
        assert!(matches!(read(&nowhere, &name("a.test"), RecordType::A), Reading::Nothing(LookupFailure::NxDomain)));
        let round = response(vec![cname("a.test", 30, "b.test"), cname("b.test", 30, "a.test")], ResponseCode::NoError);
        assert!(!matches!(read(&round, &name("a.test"), RecordType::A), Reading::Records(_)));
    }

    #[test]
    fn servfail_tells_more_than_silence_and_silence_more_than_the_rest() {
        let error = || LookupFailure::Error("refused".to_owned());
        assert_eq!(telling(None, error()), error());
        assert_eq!(telling(Some(error()), LookupFailure::Timeout), LookupFailure::Timeout);
        assert_eq!(telling(Some(LookupFailure::Timeout), LookupFailure::ServFail), LookupFailure::ServFail);
        assert_eq!(telling(Some(LookupFailure::ServFail), LookupFailure::Timeout), LookupFailure::ServFail);
    }
}
