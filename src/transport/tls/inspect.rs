//! A handshake for looking: what a server shows, and which `--upstream-verify` would accept it.
//!
//! The handshake is completed whatever the certificate says, so that all of it can be told; the judgement is the very one
//! that `holdline run` passes, by the same code. Nothing secret may be sent over such a connection.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

use super::super::{TlsSettings, Verify};
use super::names::Names;
use super::verify::HopVerifier;
use super::{Loaded, TlsError, explain, files};

/// Authorities and our own certificate, loaded once for any number of handshakes.
#[derive(Clone)]
pub struct Inspector(Arc<Loaded>);

/// Which of the two names is sent as SNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SniName {
    /// The SRV name's domain: what `domain` and `either` send.
    Domain,
    /// The SRV target: what `target` sends.
    Target,
}

/// A completed handshake.
pub struct Handshaken {
    /// The connection, certificate accepted or not.
    pub stream: TlsStream<TcpStream>,
    /// `TLSv1.3` …
    pub protocol: String,
    /// The cipher suite's name.
    pub cipher: String,
    /// What was sent as SNI; none for an address.
    pub sni: Option<String>,
    /// What the server showed.
    pub certificate: Certificate,
}

/// What a server's certificate says, and what would be made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// DNS names, addresses and URIs, as text for people, bounded in number and length.
    pub names: Vec<String>,
    /// Distinguished name.
    pub subject: String,
    /// Distinguished name of who signed it.
    pub issuer: String,
    /// Beginning and end in seconds since 1970.
    pub validity: (i64, i64),
    /// Subject and issuer are the same.
    pub self_signed: bool,
    /// For each setting of `--upstream-verify`: `Ok`, or why it would refuse, in words.
    pub judgements: Vec<(Verify, Result<(), String>)>,
}

impl Certificate {
    /// What this setting would say.
    pub fn judged(&self, verify: Verify) -> Option<&Result<(), String>> {
        self.judgements.iter().find(|(by, _)| *by == verify).map(|(_, judgement)| judgement)
    }
}

impl Inspector {
    /// Reads every file that the settings name.
    pub fn load(settings: &TlsSettings) -> Result<Inspector, TlsError> {
        Ok(Inspector(Arc::new(Loaded::load(settings, true)?)))
    }

    /// The client's half of a handshake with `target` of an SRV name with this `domain` (none: a static outbound proxy).
    /// The error says in words what went wrong.
    pub async fn connect(
        &self,
        domain: Option<&str>,
        target: &str,
        sni: SniName,
        stream: TcpStream,
    ) -> Result<Handshaken, String> {
        let settings = TlsSettings {
            domain: domain.map(str::to_owned),
            verify: match sni {
                SniName::Domain => Verify::Domain,
                SniName::Target => Verify::Target,
            },
            ..self.0.settings.clone()
        };
        let name = Names::of(&settings, target)?.sni().clone();
        let chain = WebPkiServerVerifier::builder_with_provider(self.0.trust.roots(), files::provider())
            .build()
            .map_err(|error| error.to_string())?;
        let witness = Arc::new(Witness {
            chain,
            loaded: self.0.clone(),
            settings,
            target: target.to_owned(),
            seen: Mutex::default(),
        });
        let builder = ClientConfig::builder_with_provider(files::provider())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(witness.clone());
        let mut config = match &self.0.client {
            Some(pair) => builder.with_client_cert_resolver(pair.resolver()),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        let sni = match &name {
            ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| explain::handshake(&error))?;
        let certificate = witness.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let certificate = certificate.ok_or("the server showed no certificate that can be read")?;
        let (_, connection) = stream.get_ref();
        let protocol = connection.protocol_version().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let cipher =
            connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
        Ok(Handshaken { protocol: protocol.replace('_', "."), cipher, sni, certificate, stream })
    }
}

/// Accepts every chain, and keeps what each setting would have said. Signatures are checked all the same: whoever cannot
/// prove that a certificate is its own has shown nothing.
#[derive(Debug)]
struct Witness {
    chain: Arc<WebPkiServerVerifier>,
    loaded: Arc<Loaded>,
    settings: TlsSettings,
    target: String,
    seen: Mutex<Option<Certificate>>,
}

impl Witness {
    fn judge(
        &self,
        verify: Verify,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), String> {
        let names = Names::of(&TlsSettings { verify, ..self.settings.clone() }, &self.target)?;
        let verifier = HopVerifier::new(&self.loaded.trust, names.clone()).map_err(|error| error.to_string())?;
        verifier
            .judge(certificate, intermediates, ocsp, now)
            .map_err(|error| explain::verification(&error, certificate, &names))
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) {
            let validity = parsed.validity();
            let judge = |verify| (verify, self.judge(verify, certificate, intermediates, ocsp, now));
            let seen = Certificate {
                names: explain::names(&parsed),
                subject: explain::distinguished(parsed.subject()),
                issuer: explain::distinguished(parsed.issuer()),
                validity: (validity.not_before.timestamp(), validity.not_after.timestamp()),
                self_signed: parsed.subject() == parsed.issuer(),
                judgements: [Verify::Domain, Verify::Target, Verify::Either].map(judge).into(),
            };
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
        Ok(ServerCertVerified::assertion())
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

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("settings", &self.settings).finish_non_exhaustive()
    }
}
