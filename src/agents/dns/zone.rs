//! The zones' data, and the answer that they give to a question.

use std::collections::HashMap;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// CNAME links followed within one answer.
const MAX_CNAMES: usize = 8;

/// The treatment of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// From the zone data.
    #[default]
    Answer,
    /// No answer at all.
    Silent,
    /// SERVFAIL.
    ServFail,
    /// NXDOMAIN, whatever the data says.
    NxDomain,
    /// The name exists, without a record of this type.
    NoData,
    /// Over UDP an empty answer with the TC bit, over TCP the whole one.
    Truncate,
    /// From the zone data, after this long.
    Delay(Duration),
}

/// How the server bears EDNS(0) (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edns {
    /// It does not mind.
    #[default]
    Borne,
    /// FORMERR, with the question in it.
    FormErr,
    /// FORMERR, the header alone: what servers from before RFC 2671 answer.
    BareFormErr,
    /// NOTIMP.
    NotImp,
    /// Silence, as a firewall makes it.
    Dropped,
}

/// One SRV record's data (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// Share within the priority.
    pub weight: u16,
    /// Port.
    pub port: u16,
    /// Host name, or `.` for "no service".
    pub target: String,
}

impl Srv {
    /// In the order of the zone file: priority, weight, port, target.
    pub fn new(priority: u16, weight: u16, port: u16, target: &str) -> Self {
        Srv { priority, weight, port, target: target.to_owned() }
    }
}

/// Everything the server knows. Keys are lower case, without the final dot.
#[derive(Debug, Default)]
pub(super) struct Zone {
    /// Sets of records for a name and type; several sets are handed out in turn.
    pub(super) sets: HashMap<(String, RecordType), RecordSets>,
    pub(super) mode: Mode,
    pub(super) modes: HashMap<String, Mode>,
    pub(super) additional: bool,
    pub(super) edns: Edns,
    /// Nothing in a datagram gets an answer.
    pub(super) tcp_only: bool,
    /// The question comes back in lower case.
    pub(super) folds_case: bool,
}

#[derive(Debug)]
pub(super) struct RecordSets {
    pub(super) ttl: u32,
    pub(super) turn: usize,
    pub(super) sets: Vec<Vec<RData>>,
}

impl Zone {
    /// Fills in the answer from the data: CNAMEs, then the records asked for, or NXDOMAIN.
    pub(super) fn fill(&mut self, reply: &mut Message, name: &str, record: RecordType) {
        let mut owner = key(name);
        for _ in 0..MAX_CNAMES {
            if record == RecordType::CNAME {
                break;
            }
            let Some(link) = self.take_turn(&owner, RecordType::CNAME) else { break };
            let Some(RData::CNAME(CNAME(target))) = link.first().map(|link| &link.data) else { break };
            owner = key(&target.to_ascii());
            reply.add_answers(link);
        }
        match self.take_turn(&owner, record) {
            Some(records) => {
                if self.additional {
                    self.add_addresses(reply, &records);
                }
                reply.add_answers(records);
            }
            None if self.sets.keys().any(|(known, _)| *known == owner) => {}
            None => reply.metadata.response_code = ResponseCode::NXDomain,
        }
    }

    fn add_addresses(&mut self, reply: &mut Message, records: &[Record]) {
        for record in records {
            if let RData::SRV(srv) = &record.data {
                for family in [RecordType::A, RecordType::AAAA] {
                    reply.add_additionals(self.take_turn(&key(&srv.target.to_ascii()), family).unwrap_or_default());
                }
            }
        }
    }

    /// The set whose turn it is.
    fn take_turn(&mut self, owner: &str, record: RecordType) -> Option<Vec<Record>> {
        let sets = self.sets.get_mut(&(owner.to_owned(), record))?;
        let set = sets.sets.get(sets.turn % sets.sets.len().max(1))?;
        sets.turn = sets.turn.wrapping_add(1);
        let ttl = sets.ttl;
        let record = |data: &RData| {
            let mut record = Record::from_rdata(dns_name(owner), ttl, data.clone());
            record.dns_class = DNSClass::IN;
            record
        };
        Some(set.iter().map(record).collect())
    }
}

pub(super) fn srv_data(srv: &Srv) -> RData {
    RData::SRV(SRV::new(srv.priority, srv.weight, srv.port, dns_name(&srv.target)))
}

pub(super) fn dns_name(text: &str) -> Name {
    // DNS carries any byte in a label; what is no host name is given as it is.
    let raw = || Name::from_labels(text.trim_end_matches('.').split('.').map(str::as_bytes));
    let mut name = Name::from_ascii(text)
        .or_else(|_| raw())
        .unwrap_or_else(|e| panic!("{text:?} in the zone data is no DNS name: {e}"));
    name.set_fqdn(true);
    name
}

pub(super) fn key(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
