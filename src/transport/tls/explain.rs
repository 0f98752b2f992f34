//! TLS failures in words: which name was asked for, which names the certificate has, and which setting would pass.
//!
//! What an untrusted peer's certificate says goes to the log: control characters are taken out and lengths are bounded.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;

use super::super::Verify;
use super::names::{Names, is_name, is_valid_for};

/// Of a certificate's names, at most so many are shown.
const SHOWN: usize = 8;
/// And of each so many characters.
const LENGTH: usize = 100;

/// Why a certificate was not accepted.
pub(super) fn verification(error: &Error, certificate: &CertificateDer<'_>, names: &Names) -> String {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return format!("the certificate cannot be read ({error})");
    };
    if is_name(error) {
        return wrong_name(certificate, &parsed, names);
    }
    let (subject, issuer) = (distinguished(parsed.subject()), distinguished(parsed.issuer()));
    let validity = parsed.validity();
    match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => format!(
            "the certificate ({subject}) or one it depends on has expired; its own end is {}. If that is not past, check this \
             machine's clock; else the upstream's operator must renew it",
            validity.not_after
        ),
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            format!(
                "the certificate ({subject}) is not valid before {}: check this machine's clock",
                validity.not_before
            )
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) if parsed.subject() == parsed.issuer() => format!(
            "the certificate ({subject}) is self-signed; if it is the right one, trust it with --upstream-ca FILE"
        ),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the certificate ({subject}) was issued by {issuer}, which is not trusted; trust that authority with \
             --upstream-ca FILE, or the server does not send its intermediate certificates"
        ),
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => {
            format!("the certificate ({subject}) is not meant for servers (extended key usage)")
        }
        Error::InvalidCertificate(CertificateError::BadSignature) => format!(
            "the certificate ({subject}) is not signed by the trusted authority of the same name ({issuer}); was the \
             authority renewed?"
        ),
        other => {
            format!("the certificate ({subject}, issued by {issuer}) was not accepted: {}", clean(&other.to_string()))
        }
    }
}

fn wrong_name(certificate: &CertificateDer<'_>, parsed: &X509Certificate<'_>, names: &Names) -> String {
    let wanted: Vec<_> = names.wanted().into_iter().map(text).collect();
    let mut detail = format!("the certificate is not valid for {}; ", wanted.join(" or "));
    let has = self::names(parsed);
    if has.is_empty() {
        let subject = distinguished(parsed.subject());
        let _ =
            write!(detail, "it has no subject alternative names at all ({subject}; a common name is not looked at)");
    } else {
        let _ = write!(detail, "it is valid for {}", has.join(", "));
    }
    let Some(domain) = &names.domain else {
        let _ = write!(detail, "; set --outbound-proxy to one of the certificate's names");
        return detail;
    };
    let passing: Vec<_> = [(Verify::Domain, domain), (Verify::Target, &names.target)]
        .into_iter()
        .filter(|(_, name)| is_valid_for(certificate, name))
        .map(|(verify, name)| format!("--upstream-verify {} ({}) would accept it", verify.as_str(), text(name)))
        .collect();
    if passing.is_empty() {
        let _ = write!(
            detail,
            "; no --upstream-verify would accept it, as neither {} (domain) nor {} (target) is among them",
            text(domain),
            text(&names.target)
        );
    } else {
        let _ = write!(detail, "; {}", passing.join("; "));
    }
    detail
}

/// Why a handshake failed that did not get as far as the certificate.
pub(super) fn handshake(error: &io::Error) -> String {
    match rustls_error(error) {
        Some(Error::AlertReceived(alert)) => match alert {
            AlertDescription::CertificateRequired => {
                "the server wants a certificate from us: set --upstream-cert and --upstream-key".to_owned()
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate => {
                format!("the server does not accept our certificate (alert {alert:?}): check --upstream-cert")
            }
            AlertDescription::UnrecognisedName => {
                "the server does not know the name it was asked for (SNI): try another --upstream-verify".to_owned()
            }
            AlertDescription::ProtocolVersion => "the server speaks neither TLS 1.2 nor 1.3".to_owned(),
            other => format!("the server ended the handshake (alert {other:?})"),
        },
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "what answered is not TLS; is this a TCP port?".to_owned()
        }
        Some(Error::PeerIncompatible(what)) => format!("no common TLS version or cipher ({what:?})"),
        Some(other) => clean(&other.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed the connection during the handshake".to_owned()
        }
        None => format!("the connection broke during the handshake: {error}"),
    }
}

/// rustls' own error inside an I/O error.
pub(super) fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// A certificate's names as text, bounded in number and length.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return Vec::new() };
    let all = &alternatives.value.general_names;
    let mut names: Vec<_> = all
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some(clean(name)),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("{more} more"));
    }
    names
}

fn address(bytes: &[u8]) -> Option<String> {
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(ip.to_string())
}

pub(super) fn distinguished(name: &X509Name<'_>) -> String {
    let text = clean(&name.to_string());
    if text.is_empty() { "no subject".to_owned() } else { text }
}

fn text(name: &ServerName<'_>) -> String {
    name.to_str().into_owned()
}

/// Without control characters, and short.
fn clean(text: &str) -> String {
    let mut clean: String = text.chars().take(LENGTH).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(LENGTH).is_some() {
        clean.push('…');
    }
    clean
}
