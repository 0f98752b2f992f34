//! The same questions, asked by somebody who wants to see all that the answers say: aliases, lifetimes, who answered.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::{RData, RecordType};

use super::{Resolver, absolute, host_name};
use crate::upstream::{LookupFailure, Record};

/// Of one answer, so many SRV or NAPTR records are looked at. More than are ever used, so that a cut can be told.
const MAX_SEEN: usize = 128;

/// The SRV records of a name as they were published: nothing is taken out, nothing is sorted, no address is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvSurvey {
    /// As published; a target `.` has an empty host.
    pub records: Vec<Record>,
    /// The least lifetime of the records and of the aliases that led to them.
    pub ttl: Duration,
    /// The name that really owns the records, where the one asked for is an alias.
    pub alias: Option<String>,
    /// The answer came from a server of the zone; else the lifetime is what is left of it in a cache.
    pub authoritative: bool,
}

/// What is known of one host's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSurvey {
    /// IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
    /// The least lifetime of them.
    pub ttl: Duration,
    /// What the host is an alias of.
    pub alias: Option<String>,
    /// Why there is no address, if there is none.
    pub failure: Option<LookupFailure>,
}

/// A NAPTR record (RFC 3403, RFC 3263 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naptr {
    /// Lower is tried first.
    pub order: u16,
    /// Lower is tried first, within an order.
    pub preference: u16,
    /// `s`: the replacement is an SRV name.
    pub flags: String,
    /// `SIP+D2U`, `SIPS+D2T` …
    pub services: String,
    /// The name to go on with.
    pub replacement: String,
}

impl Resolver {
    /// The SRV records of a name, verbatim and absolute. At most [`QUESTION`](super::QUESTION).
    pub async fn survey_srv(&self, name: &str) -> Result<SrvSurvey, LookupFailure> {
        let answer = self.ask(&absolute(name)?, RecordType::SRV).await?;
        let records = answer.records.iter().filter_map(|data| match data {
            RData::SRV(srv) => Some(Record {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                host: host_name(&srv.target),
                addresses: Vec::new(),
            }),
            _ => None,
        });
        Ok(SrvSurvey {
            records: records.take(MAX_SEEN).collect(),
            ttl: answer.ttl,
            alias: answer.alias.as_ref().map(host_name),
            authoritative: answer.authoritative,
        })
    }

    /// The addresses of a host as `holdline run` would find them, and what led there. At most
    /// [`QUESTION`](super::QUESTION).
    pub async fn survey_host(&self, host: &str) -> HostSurvey {
        let found = self.addresses(host).await;
        HostSurvey { addresses: found.addresses, ttl: found.ttl, alias: found.alias, failure: found.failure }
    }

    /// The NAPTR records of a domain in their order. At most [`QUESTION`](super::QUESTION).
    pub async fn survey_naptr(&self, domain: &str) -> Result<Vec<Naptr>, LookupFailure> {
        let answer = self.ask(&absolute(domain)?, RecordType::NAPTR).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut found: Vec<Naptr> = answer
            .records
            .iter()
            .filter_map(|data| match data {
                RData::NAPTR(naptr) => Some(Naptr {
                    order: naptr.order,
                    preference: naptr.preference,
                    flags: text(&naptr.flags),
                    services: text(&naptr.services),
                    replacement: host_name(&naptr.replacement),
                }),
                _ => None,
            })
            .take(MAX_SEEN)
            .collect();
        found.sort_by(|a, b| (a.order, a.preference, &a.services).cmp(&(b.order, b.preference, &b.services)));
        Ok(found)
    }
}
