//! The names that count for a hop (`--upstream-verify`), and whether a certificate has one of them.

use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls;
use x509_parser::extensions::GeneralName;

use super::super::{TlsSettings, Verify};

/// The names of one hop, and which of them count.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The SRV name's domain; none with a static outbound proxy.
    pub(super) domain: Option<ServerName<'static>>,
    /// The SRV target, or the static outbound proxy's host.
    pub(super) target: ServerName<'static>,
    pub(super) verify: Verify,
}

impl Names {
    /// Err: a name that no certificate can have.
    pub(super) fn of(settings: &TlsSettings, target: &str) -> Result<Self, String> {
        let name = |text: &str| {
            ServerName::try_from(text.to_owned())
                .map_err(|_| format!("`{}` is no name for a certificate", text.escape_debug()))
        };
        let domain = settings.domain.as_deref().map(name).transpose()?;
        Ok(Self { domain, target: name(target)?, verify: settings.verify })
    }

    /// What is sent as SNI (an address is not sent at all, RFC 6066 §3), and asked for first.
    pub(super) fn sni(&self) -> &ServerName<'static> {
        match (self.verify, &self.domain) {
            (Verify::Domain | Verify::Either, Some(domain)) => domain,
            (Verify::Target, _) | (_, None) => &self.target,
        }
    }

    /// What the certificate must be valid for, any of them.
    pub(super) fn wanted(&self) -> Vec<&ServerName<'static>> {
        match (self.verify, &self.domain) {
            (Verify::Either, Some(domain)) if *domain != self.target => vec![domain, &self.target],
            _ => vec![self.sni()],
        }
    }
}

/// The error says that only the name is wrong.
pub(super) fn is_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
    )
}

/// Whether a certificate has this name: as DNS name (wildcards accepted) or address, or as the SIP URI of a domain
/// (RFC 5922 §7.1, exactly).
pub(super) fn is_valid_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    verify_server_name(&parsed, name).is_ok() || has_sip_uri(certificate, name)
}

fn has_sip_uri(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let ServerName::DnsName(name) = name else { return false };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let Ok(Some(alternatives)) = parsed.subject_alternative_name() else { return false };
    alternatives.value.general_names.iter().any(|alternative| match alternative {
        // A URI with a user part names that user, not the domain; one with anything behind the host does not fit either.
        GeneralName::URI(uri) => uri.split_once(':').is_some_and(|(scheme, host)| {
            scheme.eq_ignore_ascii_case("sip") && host.eq_ignore_ascii_case(name.as_ref())
        }),
        _ => false,
    })
}
