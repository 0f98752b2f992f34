//! TLS handshakes with handsets that fail, summed up by cause and source: a handset that offers an old version tries for ever, and
//! says nothing itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{AlertDescription, Error, PeerIncompatible, PeerMisbehaved};
use tokio::time::Instant;
use tokio_rustls::rustls;

use super::tls::rustls_error;
use crate::summaries::QUIET;

/// Sources that are told apart within it; more are counted as further ones.
const SOURCES: usize = 1024;
/// Sources that a line names.
const NAMED: usize = 8;

/// What was held back since the last line, by cause. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Refusals(Arc<Mutex<BTreeMap<&'static str, Held>>>);

#[derive(Default)]
struct Held {
    until: Option<Instant>,
    sources: BTreeMap<IpAddr, u64>,
    further: u64,
}

impl Refusals {
    /// Says so in the log, or keeps it for the next line.
    pub(super) fn note(&self, remote: SocketAddr, error: &io::Error) {
        let cause = cause(error);
        let Some((failures, sources)) = self.due(cause, remote.ip(), Instant::now()) else { return };
        tracing::warn!(cause, failures, sources, "TLS handshakes with handsets fail");
    }

    /// How many there were since the last line, and from where; `None` while the next one is not due.
    fn due(&self, cause: &'static str, source: IpAddr, now: Instant) -> Option<(u64, String)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry(cause).or_default();
        if held.sources.len() < SOURCES || held.sources.contains_key(&source) {
            *held.sources.entry(source).or_default() += 1;
        } else {
            held.further += 1;
        }
        if held.until.is_some_and(|until| now < until) {
            return None;
        }
        let failures = held.sources.values().sum::<u64>() + held.further;
        let mut most: Vec<(IpAddr, u64)> = held.sources.iter().map(|(source, count)| (*source, *count)).collect();
        most.sort_by_key(|(source, count)| (std::cmp::Reverse(*count), *source));
        let mut text = String::new();
        for (source, count) in most.iter().take(NAMED) {
            let gap = if text.is_empty() { "" } else { ", " };
            // Writing to memory cannot fail.
            let _ = write!(text, "{gap}{source} ({count})");
        }
        if most.len() > NAMED {
            let _ = write!(text, " and {} more", most.len() - NAMED);
        }
        *held = Held { until: Some(now + QUIET), ..Held::default() };
        Some((failures, text))
    }
}

/// One of few: what a handset offered, or said.
fn cause(error: &io::Error) -> &'static str {
    match rustls_error(error) {
        Some(Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // What TLS 1.1 does not have is missed first (RFC 5246 §7.4.1.4.1).
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        )) => "it offers TLS 1.1 at most; 1.2 is the least (certs/README.md)",
        Some(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)) => {
            "no cipher suite in common (certs/README.md lists them)"
        }
        Some(Error::PeerIncompatible(_)) => {
            "no key exchange or signature in common; an ECDSA certificate asks more of it than RSA"
        }
        Some(Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked,
        )) => "it does not accept the certificate in tls_cert: install its authority there, and see its clock",
        Some(Error::AlertReceived(_)) => "it ended the handshake",
        Some(Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName)) => {
            "the name it asks for (SNI) is none: a port in it, or a label of more than 63 characters"
        }
        Some(Error::InvalidMessage(_)) => "what it sends is not TLS: plain SIP to a TLS port",
        Some(_) => "it keeps to no version of TLS",
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it ended the connection in the middle of the handshake"
        }
        None => "the connection broke in the middle of the handshake",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fleet_that_fails_is_one_line_with_its_sources() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        assert_eq!(refusals.due("old", ip(1), now), Some((1, "192.0.2.1 (1)".to_owned())), "the first at once");
        for n in 1..=20 {
            assert_eq!(refusals.due("old", ip(n), now), None);
        }
        assert_eq!(refusals.due("suites", ip(9), now), Some((1, "192.0.2.9 (1)".to_owned())), "each cause for itself");
        let (failures, sources) = refusals.due("old", ip(7), now + QUIET).unwrap();
        assert_eq!(failures, 21);
        assert!(
            sources.starts_with("192.0.2.7 (2), 192.0.2.1 (1), ") && sources.ends_with(" and 12 more"),
            "{sources}"
        );
    }

    #[tokio::test]
    async fn sources_without_end_are_counted_and_not_kept() {
        let refusals = Refusals::default();
        let now = Instant::now();
        refusals.due("old", IpAddr::from([127, 0, 0, 1]), now);
        for n in 0..3000u32 {
            assert_eq!(refusals.due("old", IpAddr::from(n.to_be_bytes()), now), None);
        }
        assert_eq!(refusals.0.lock().unwrap()["old"].sources.len(), SOURCES);
        assert_eq!(refusals.due("old", IpAddr::from([127, 0, 0, 1]), now + QUIET).unwrap().0, 3001);
    }
}
