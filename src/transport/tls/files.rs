//! Certificates, keys and authorities from files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls;

use super::super::TlsSettings;
use super::explain;
use crate::metrics::CertificateRole;

/// Why TLS settings cannot be used: key, file, what is wrong, what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError(String);

impl TlsError {
    pub(in crate::transport) fn no_server_certificate() -> Self {
        Self("a tls listener needs a certificate and its key: set --tls-cert FILE and --tls-key FILE (PEM)".to_owned())
    }

    pub(super) fn library(error: &rustls::Error) -> Self {
        Self(format!("TLS cannot be set up: {error}"))
    }

    fn of_file(key: &str, file: &Path, what: impl fmt::Display) -> Self {
        Self(format!("{key}: {}: {what}", file.display()))
    }
}

impl std::error::Error for TlsError {}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A certificate that Holdline shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// To phones, or to the upstream.
    pub role: CertificateRole,
    /// Where it came from.
    pub file: PathBuf,
    /// Its end, in seconds since 1970.
    pub not_after: i64,
    /// The names it is valid for, as text for people.
    pub names: Vec<String>,
}

/// `ring`, named: with two providers in the tree the default builder would panic.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// A chain and its key, which belong together.
pub(super) struct Pair {
    key: Arc<CertifiedKey>,
    pub(super) about: CertificateInfo,
}

impl Pair {
    /// Both files, or neither.
    pub(super) fn load(
        role: CertificateRole,
        (cert_key, cert): (&str, Option<&Path>),
        (key_key, key): (&str, Option<&Path>),
    ) -> Result<Option<Self>, TlsError> {
        let (cert, key) = match (cert, key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            (Some(cert), None) => {
                return Err(TlsError::of_file(cert_key, cert, format_args!("has no key: set {key_key} FILE, too")));
            }
            (None, Some(key)) => {
                let what = format_args!("has no certificate: set {cert_key} FILE, too");
                return Err(TlsError::of_file(key_key, key, what));
            }
        };
        let chain = certificates(cert_key, cert)?;
        let about = about(role, cert, &chain).map_err(|what| TlsError::of_file(cert_key, cert, what))?;
        let private = private_key(key_key, key)?;
        let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError(format!(
                "{key_key}: the key in {} does not belong to the first certificate in {} ({cert_key}): give the key that was \
                 made with it, and put the server's own certificate first in its chain",
                key.display(),
                cert.display()
            )),
            other => TlsError::of_file(key_key, key, format_args!("not a usable key ({other}); RSA, ECDSA and Ed25519 are")),
        })?;
        Ok(Some(Self { key: Arc::new(certified), about }))
    }

    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.key.clone()))
    }
}

fn about(role: CertificateRole, file: &Path, chain: &[CertificateDer<'_>]) -> Result<CertificateInfo, String> {
    let first = chain.first().ok_or("holds no certificate")?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(first).map_err(|error| format!("not a certificate: {error}"))?;
    let not_after = parsed.validity().not_after.timestamp();
    Ok(CertificateInfo { role, file: file.to_owned(), not_after, names: explain::names(&parsed) })
}

/// Who may have signed an upstream's certificate.
pub(super) struct Trust {
    roots: OnceLock<Arc<RootCertStore>>,
    /// Certificates given by the operator: an upstream that shows one of these very certificates needs no issuer.
    pub(super) given: Arc<[CertificateDer<'static>]>,
    system: bool,
}

impl Trust {
    pub(super) fn load(settings: &TlsSettings, now: bool) -> Result<Self, TlsError> {
        let mut given = Vec::new();
        for (key, file) in [("--upstream-ca", &settings.ca), ("--upstream-ca-only", &settings.ca_only)] {
            let Some(file) = file else { continue };
            for certificate in certificates(key, file)? {
                let usable = RootCertStore::empty().add(certificate.clone());
                usable
                    .map_err(|error| TlsError::of_file(key, file, format_args!("not a usable authority: {error}")))?;
                given.push(certificate);
            }
        }
        let trust = Self { roots: OnceLock::new(), given: given.into(), system: settings.ca_only.is_none() };
        if now {
            trust.roots();
        }
        Ok(trust)
    }

    /// The system's authorities, those built in where the system has none, and those given.
    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        let load = || {
            let mut roots = RootCertStore::empty();
            if self.system {
                let system = rustls_native_certs::load_native_certs();
                for error in &system.errors {
                    tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
                }
                let (added, ignored) = roots.add_parsable_certificates(system.certs);
                tracing::debug!(added, ignored, "certificate authorities of the system");
                if roots.is_empty() {
                    tracing::info!("the system has no certificate authorities: using those built in");
                    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                }
            }
            roots.add_parsable_certificates(self.given.iter().cloned());
            Arc::new(roots)
        };
        self.roots.get_or_init(load).clone()
    }
}

fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| TlsError::of_file(key, file, reading(&error)))?;
    if chain.is_empty() {
        let what = "holds no certificate; expected PEM, that is lines from -----BEGIN CERTIFICATE----- on";
        return Err(TlsError::of_file(key, file, what));
    }
    Ok(chain)
}

fn private_key(key: &str, file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        let encrypted = || std::fs::read_to_string(file).is_ok_and(|text| text.contains("ENCRYPTED"));
        match error {
            pem::Error::NoItemsFound if encrypted() => TlsError::of_file(
                key,
                file,
                "is encrypted; write it without a passphrase: openssl pkey -in FILE -out PLAIN",
            ),
            pem::Error::NoItemsFound => {
                let what = "holds no private key; expected PEM, that is lines from -----BEGIN PRIVATE KEY----- on";
                TlsError::of_file(key, file, what)
            }
            other => TlsError::of_file(key, file, reading(&other)),
        }
    })
}

fn reading(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::NotFound => "no such file: correct the path".to_owned(),
            std::io::ErrorKind::PermissionDenied => "cannot be read: let holdline's user read it".to_owned(),
            _ => format!("cannot be read: {error}"),
        },
        other => format!("is no PEM file: {other}"),
    }
}
