//! Is this the server we mean? The chain first, then the name (RFC 5922 §7).

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls;

use super::explain;
use super::files::{Trust, provider};
use super::names::{Names, is_name, is_valid_for};

/// Verifies one connection's certificate and remembers, in words, why not.
#[derive(Debug)]
pub(super) struct HopVerifier {
    chain: Arc<WebPkiServerVerifier>,
    given: Arc<[CertificateDer<'static>]>,
    names: Names,
    failure: Mutex<Option<String>>,
    /// The end of the certificate shown, in seconds since 1970.
    not_after: OnceLock<i64>,
}

impl HopVerifier {
    pub(super) fn new(trust: &Trust, names: Names) -> Result<Self, VerifierBuilderError> {
        let chain = WebPkiServerVerifier::builder_with_provider(trust.roots(), provider()).build()?;
        Ok(Self { chain, given: trust.given.clone(), names, failure: Mutex::new(None), not_after: OnceLock::new() })
    }

    /// When the certificate that was shown ends, whether or not it was accepted.
    pub(super) fn not_after(&self) -> Option<i64> {
        self.not_after.get().copied()
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
        if let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) {
            // One handshake shows one certificate.
            let _ = self.not_after.set(parsed.validity().not_after.timestamp());
        }
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
