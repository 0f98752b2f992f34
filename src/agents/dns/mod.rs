//! A DNS server with its zones as data, over UDP and TCP on one ephemeral port of 127.0.0.1.
//!
//! It answers authoritatively for the names it was given and NXDOMAIN for all others, follows CNAMEs inside its data,
//! and is silent, slow, broken or too long for UDP on request, for one name or for all. It records every question it is
//! asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NAPTR, SRV};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::{TimedOut, Watched};
pub use zone::{Edns, Mode, Srv};
use zone::{RecordSets, Zone, dns_name, key, srv_data};

#[cfg(test)]
mod tests;
mod zone;

/// How many questions are kept; older ones stay, newer ones are only counted in [`Server::asked`].
const MAX_QUESTIONS: usize = 100_000;
/// TCP connections served at once.
const MAX_CONNECTIONS: usize = 64;

/// The transport of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// In a datagram.
    Udp,
    /// On a connection.
    Tcp,
}

/// One question as it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name with the case it was asked in, without the final dot (on the wire every name is absolute).
    pub name: String,
    /// `SRV`, `A`, `AAAA` …
    pub record: String,
    /// UDP or TCP.
    pub over: Over,
    /// Whether an OPT record came along (RFC 6891).
    pub edns: bool,
    /// The time of its arrival.
    pub at: Instant,
}

/// A running server. Clones are handles to the same one; it ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Server {
    shared: Arc<Shared>,
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    zone: Mutex<Zone>,
    questions: Watched<Vec<Question>>,
    asked: Watched<u64>,
}

impl Server {
    /// Starts on an ephemeral port, the same for UDP and TCP.
    ///
    /// # Errors
    /// Where no such port can be bound.
    pub async fn start() -> io::Result<Server> {
        let (udp, tcp) = bind_both().await?;
        let shared = Arc::new(Shared {
            addr: udp.local_addr()?,
            zone: Mutex::default(),
            questions: Watched::new(Vec::new()),
            asked: Watched::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(Arc::new(udp), Arc::clone(&shared)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&shared)));
        Ok(Server { shared, _tasks: Arc::new(tasks) })
    }

    /// Where it listens, UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// Replaces the SRV records of a name. An empty list makes the name exist without SRV records.
    ///
    /// # Panics
    /// This and the other setters panic where a name is no DNS name: the zone is the caller's own data.
    pub fn set_srv(&self, name: &str, ttl: u32, records: &[Srv]) {
        self.cycle_srv(name, ttl, &[records]);
    }

    /// As [`Server::set_srv`], but each answer takes the next of several sets, round and round: a resolver that returns
    /// alternating subsets.
    pub fn cycle_srv(&self, name: &str, ttl: u32, sets: &[&[Srv]]) {
        let sets = sets.iter().map(|set| set.iter().map(srv_data).collect()).collect();
        self.put(name, RecordType::SRV, ttl, sets);
    }

    /// Replaces the SRV records of a name by one whose target has these labels, of any bytes: a hostile zone.
    pub fn set_srv_to_labels(&self, name: &str, ttl: u32, port: u16, labels: &[&[u8]]) {
        let target = Name::from_labels(labels.iter().copied()).unwrap_or_else(|e| panic!("labels {labels:?}: {e}"));
        self.put(name, RecordType::SRV, ttl, vec![vec![RData::SRV(SRV::new(1, 0, port, target))]]);
    }

    /// Replaces the NAPTR records of a name: order, preference, flags, services, replacement.
    pub fn set_naptr(&self, name: &str, ttl: u32, records: &[(u16, u16, &str, &str, &str)]) {
        let data = records.iter().map(|(order, preference, flags, services, replacement)| {
            let text = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
            let (flags, services) = (text(flags), text(services));
            RData::NAPTR(NAPTR::new(*order, *preference, flags, services, text(""), dns_name(replacement)))
        });
        let data = data.collect();
        self.put(name, RecordType::NAPTR, ttl, vec![data]);
    }

    /// Replaces the A and AAAA records of a name.
    pub fn set_addresses(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        let v4 = addresses.iter().filter_map(|a| if let IpAddr::V4(a) = a { Some(RData::A(A(*a))) } else { None });
        let v6 =
            addresses.iter().filter_map(|a| if let IpAddr::V6(a) = a { Some(RData::AAAA(AAAA(*a))) } else { None });
        self.put(name, RecordType::A, ttl, vec![v4.collect()]);
        self.put(name, RecordType::AAAA, ttl, vec![v6.collect()]);
    }

    /// Makes the name resolve to 127.0.0.1, as every agent's does.
    pub fn set_loopback(&self, name: &str, ttl: u32) {
        self.set_addresses(name, ttl, &[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }

    /// Makes `name` an alias; takes every other record of that name away.
    pub fn set_cname(&self, name: &str, ttl: u32, target: &str) {
        self.remove(name);
        self.put(name, RecordType::CNAME, ttl, vec![vec![RData::CNAME(CNAME(dns_name(target)))]]);
    }

    /// Takes every record of a name away: NXDOMAIN from now on.
    pub fn remove(&self, name: &str) {
        let key = key(name);
        self.zone(|zone| zone.sets.retain(|(owner, _), _| *owner != key));
    }

    /// Sets the treatment of questions for names that have no mode of their own.
    pub fn set_mode(&self, mode: Mode) {
        self.zone(|zone| zone.mode = mode);
    }

    /// Sets the treatment of questions for one name; `None` returns it to the common mode.
    pub fn set_mode_for(&self, name: &str, mode: Option<Mode>) {
        self.zone(|zone| match mode {
            Some(mode) => {
                zone.modes.insert(key(name), mode);
            }
            None => {
                zone.modes.remove(&key(name));
            }
        });
    }

    /// Whether SRV answers carry their targets' addresses in the additional section. Off at first.
    pub fn set_additional(&self, on: bool) {
        self.zone(|zone| zone.additional = on);
    }

    /// How questions with EDNS(0) are answered from now on.
    pub fn set_edns(&self, edns: Edns) {
        self.zone(|zone| zone.edns = edns);
    }

    /// Whether datagrams get no answer, as behind a firewall that lets only TCP pass.
    pub fn set_tcp_only(&self, on: bool) {
        self.zone(|zone| zone.tcp_only = on);
    }

    /// Whether names come back in lower case, however they were asked for.
    pub fn set_folds_case(&self, on: bool) {
        self.zone(|zone| zone.folds_case = on);
    }

    /// Every question so far, in order.
    pub fn questions(&self) -> Vec<Question> {
        self.shared.questions.read(Clone::clone)
    }

    /// How many questions were asked for this name (any case) and record type (`SRV`, `A` …).
    pub fn count(&self, name: &str, record: &str) -> usize {
        self.shared.questions.read(|all| count(all, name, record))
    }

    /// How many questions were asked in all, those beyond the limit of the record included.
    pub fn asked(&self) -> u64 {
        self.shared.asked.read(|n| *n)
    }

    /// Waits until a name and record type have been asked for at least `times` times in all.
    ///
    /// # Errors
    /// After `within`.
    pub async fn wait_for_question(
        &self,
        name: &str,
        record: &str,
        times: usize,
        within: Duration,
    ) -> Result<(), TimedOut> {
        let what = format!("question {times} for {record} {name}");
        self.shared.questions.wait(&what, within, |all| count(all, name, record) >= times).await
    }

    fn put(&self, name: &str, record: RecordType, ttl: u32, sets: Vec<Vec<RData>>) {
        let sets = RecordSets { ttl, turn: 0, sets };
        self.zone(|zone| zone.sets.insert((key(&dns_name(name).to_ascii()), record), sets));
    }

    fn zone<R>(&self, change: impl FnOnce(&mut Zone) -> R) -> R {
        self.shared.zone(change)
    }
}

impl Shared {
    fn zone<R>(&self, change: impl FnOnce(&mut Zone) -> R) -> R {
        change(&mut self.zone.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer to one query and how long to wait with it; `None` for silence and for what is no query.
    fn answer(&self, query: &[u8], over: Over) -> Option<(Vec<u8>, Duration)> {
        let query = Message::from_vec(query).ok()?;
        if query.metadata.message_type != MessageType::Query || query.metadata.op_code != OpCode::Query {
            return None;
        }
        let question = query.queries.first()?;
        let name = question.name().to_ascii();
        let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
        let record = question.query_type().to_string();
        self.note(Question { name: name.clone(), record, over, edns: query.edns.is_some(), at: Instant::now() });

        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.metadata = Metadata::response_from_request(&query.metadata);
        reply.metadata.authoritative = true;
        reply.metadata.recursion_available = true;
        reply.add_query(question.clone());
        let mut delay = Duration::ZERO;
        self.zone(|zone| {
            if zone.tcp_only && over == Over::Udp {
                return None;
            }
            if query.edns.is_some() {
                let refusal = match zone.edns {
                    Edns::Borne => None,
                    Edns::Dropped => return None,
                    Edns::NotImp => Some(ResponseCode::NotImp),
                    Edns::FormErr => Some(ResponseCode::FormErr),
                    Edns::BareFormErr => {
                        reply.queries.clear();
                        Some(ResponseCode::FormErr)
                    }
                };
                if let Some(code) = refusal {
                    reply.metadata.response_code = code;
                    return Some(());
                }
            }
            if zone.folds_case {
                for query in &mut reply.queries {
                    query.set_name(query.name().to_lowercase());
                }
            }
            match zone.modes.get(&key(&name)).copied().unwrap_or(zone.mode) {
                Mode::Silent => return None,
                Mode::ServFail => reply.metadata.response_code = ResponseCode::ServFail,
                Mode::NxDomain => reply.metadata.response_code = ResponseCode::NXDomain,
                Mode::NoData => {}
                Mode::Truncate if over == Over::Udp => reply.metadata.truncation = true,
                Mode::Answer | Mode::Truncate => zone.fill(&mut reply, &name, question.query_type()),
                Mode::Delay(by) => {
                    delay = by;
                    zone.fill(&mut reply, &name, question.query_type());
                }
            }
            Some(())
        })?;
        Some((reply.to_vec().ok()?, delay))
    }

    fn note(&self, question: Question) {
        self.questions.update(|all| {
            if all.len() < MAX_QUESTIONS {
                all.push(question);
            }
        });
        self.asked.update(|n| *n += 1);
    }
}

async fn bind_both() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..16 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(taken) => last = Some(taken),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; 4096];
    let mut late = JoinSet::new();
    loop {
        // An error here is an ICMP report about an answer that is no longer waited for.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let Some((reply, delay)) = shared.answer(&buffer[..length], Over::Udp) else { continue };
        if delay.is_zero() {
            let _ = socket.send_to(&reply, peer).await;
        } else {
            let socket = Arc::clone(&socket);
            late.spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = socket.send_to(&reply, peer).await;
            });
        }
        while late.try_join_next().is_some() {}
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await
            && connections.len() < MAX_CONNECTIONS
        {
            connections.spawn(serve_connection(stream, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Messages with a two-byte length in front, RFC 1035 §4.2.2. Ends with the peer.
async fn serve_connection(mut stream: TcpStream, shared: Arc<Shared>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let Some((reply, delay)) = shared.answer(&query, Over::Tcp) else { continue };
        tokio::time::sleep(delay).await;
        let Ok(length) = u16::try_from(reply.len()) else { return };
        let framed = [&length.to_be_bytes()[..], &reply].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

fn count(all: &[Question], name: &str, record: &str) -> usize {
    let key = key(name);
    all.iter().filter(|q| q.name.eq_ignore_ascii_case(&key) && q.record.eq_ignore_ascii_case(record)).count()
}
