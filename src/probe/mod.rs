//! Looking at an SRV record before any handset is plugged in: look up, sort, measure, explain. `holdline srv` prints it.
//!
//! ```text
//! input ─► dns ─► records (order, shares) ─► measure (side by side) ─► judge ─► report::Look
//!            └──► variations, where the name is a bare domain or yields nothing
//! ```
//!
//! Everything is bounded: a question by [`QUESTION`](crate::dns::QUESTION), a probe by the caller's limit, their numbers
//! by constants of these files. Nothing is shared with a running Holdline. Text from untrusted peers goes through
//! [`plain`](plain::plain) where it enters the report.

mod certificate;
mod compare;
mod dial;
mod examine;
mod findings;
mod input;
mod judge;
mod measure;
mod nameservers;
mod options;
pub mod plain;
mod records;
pub mod report;
mod settings;
mod variations;

use std::sync::Arc;

use tokio::time::Instant;

pub use compare::{changes, day, moment};
use examine::Examination;
use findings::Findings;
use input::{Input, Kind};
use plain::plain;
pub use records::{orders, percent};
use report::Look;
pub use settings::{Measured, Progress, Settings, places};
pub use variations::DTLS;

use crate::dns::Resolver;

/// Looks at one NAME. `now`: seconds since 1970.
pub async fn look(settings: &Settings, text: &str, now: u64, progress: &Arc<Progress>) -> Look {
    let started = Instant::now();
    let mut look = Look {
        version: report::VERSION,
        at: now,
        input: plain(text.trim()),
        verdict: report::Verdict::Fails,
        enter: None,
        findings: Vec::new(),
        record: None,
        outbound_proxy: None,
        variations: Vec::new(),
        naptr: Vec::new(),
        naptr_outcome: None,
        asked: Vec::new(),
        nameservers: Vec::new(),
        took_ms: 0,
    };
    let mut findings = Findings::default();
    match Input::parse(text) {
        Ok(input) => {
            for note in input.notes {
                findings.note("input", None, plain(&note));
            }
            let resolver = Resolver::new(&settings.nameservers);
            look.asked = resolver.nameservers().iter().map(ToString::to_string).collect();
            let examination = Examination { settings, resolver, now, progress };
            match input.kind {
                Kind::Srv { name, domain } => examination.srv(&name, &domain, &mut look, &mut findings).await,
                Kind::Host { host, port, transport } => {
                    examination.host(&host, port, settings.transport.or(transport), &mut look, &mut findings).await;
                }
                Kind::Address { ip, port, transport } => {
                    findings.note(
                        "address",
                        None,
                        "is an IP address, which has no SRV record: it can only be an outbound proxy",
                    );
                    examination
                        .proxy(&ip.to_string(), port, settings.transport.or(transport), &mut look, &mut findings)
                        .await;
                }
            }
        }
        Err(error) => findings.error("not_a_name", None, error),
    }
    if let Some(enter) = &mut look.enter {
        settings.beside(enter);
    }
    look.verdict = findings.verdict();
    look.findings = findings.sorted();
    look.took_ms = started.elapsed().as_millis() as u64;
    look
}
