//! Is this the server we mean? The chain first, then the name (RFC 5922 §7, DESIGN §4 `--upstream-verify`).

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls;
use x509_parser::extensions::GeneralName;

use super::super::{TlsSettings, Verify};
use super::explain;
use super::files::{Trust, provider};

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

/// Verifies one connection's certificate and remembers, in words, why not.
#[derive(Debug)]
pub(super) struct HopVerifier {
    chain: Arc<WebPkiServerVerifier>,
    given: Arc<[CertificateDer<'static>]>,
    names: Names,
    failure: Mutex<Option<String>>,
}

impl HopVerifier {
    pub(super) fn new(trust: &Trust, names: Names) -> Result<Self, VerifierBuilderError> {
        let chain = WebPkiServerVerifier::builder_with_provider(trust.roots(), provider()).build()?;
        Ok(Self { chain, given: trust.given.clone(), names, failure: Mutex::new(None) })
    }

    /// Why verification failed, if it did.
    pub(super) fn take_failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The verdict on a certificate, as a handshake meets it.
    pub(super) fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let wanted = self.names.wanted();
        if self.given.iter().any(|given| given == certificate) {
            // The operator gave this very certificate: there is no issuer to ask, but time and name count.
            in_time(certificate, now)?;
        } else {
            match self.chain.verify_server_cert(certificate, intermediates, wanted[0], ocsp, now) {
                // Names are looked at last: the chain is good.
                Err(error) if is_name(&error) => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
        if wanted.into_iter().any(|name| is_valid_for(certificate, name)) {
            Ok(())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }
}

impl ServerCertVerifier for HopVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(certificate, intermediates, ocsp, now).map(|()| ServerCertVerified::assertion()).inspect_err(
            |error| {
                let text = explain::verification(error, certificate, &self.names);
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
            },
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
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

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| Error::from(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}
