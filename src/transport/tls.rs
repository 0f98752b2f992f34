//! TLS 1.2 and 1.3 with rustls and `ring`: listeners, upstream connections, and which certificates are believed.
//!
//! Sessions of upstream connections are never resumed: a resumed session would skip the check of the name, and targets share
//! an SNI (setting `domain`). Connections live long; the full handshakes are few.

mod explain;
mod files;
mod inspect;
mod names;
mod verify;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::Resumption;
use rustls::{AlertDescription, ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls};

pub use files::{CertificateInfo, TlsError};
pub use inspect::{Certificate, Handshaken, Inspector, SniName};

use super::{Settings, TlsSettings};
use crate::flow::{Hop, HostPort, Transport};
use crate::metrics::{CertificateRole, Handshake, Metrics};
use files::{Pair, Trust};
use names::Names;
use verify::HopVerifier;

/// Loads and validates everything that TLS needs, and binds nothing. Returns the certificates that would be shown.
pub fn check(settings: &Settings) -> Result<Vec<CertificateInfo>, TlsError> {
    let loaded = Loaded::load(&settings.tls, settings.upstream_transport == Transport::Tls)?;
    if loaded.server.is_none() && settings.listen.iter().any(|listen| listen.transport == Transport::Tls) {
        return Err(TlsError::no_server_certificate());
    }
    Ok(loaded.shown)
}

/// What is loaded now; connections take it when they begin. Clones share it.
#[derive(Clone)]
pub(super) struct Tls(Arc<RwLock<Arc<Loaded>>>);

struct Loaded {
    settings: TlsSettings,
    server: Option<Arc<ServerConfig>>,
    trust: Trust,
    client: Option<Pair>,
    shown: Vec<CertificateInfo>,
}

impl Loaded {
    /// `upstream`: authorities will be needed, so that they are read now and not with the first connection.
    fn load(settings: &TlsSettings, upstream: bool) -> Result<Self, TlsError> {
        let server = Pair::load(
            CertificateRole::Listener,
            ("--tls-cert", settings.server_cert.as_deref()),
            ("--tls-key", settings.server_key.as_deref()),
        )?;
        let client = Pair::load(
            CertificateRole::Client,
            ("--upstream-cert", settings.client_cert.as_deref()),
            ("--upstream-key", settings.client_key.as_deref()),
        )?;
        let trust = Trust::load(settings, upstream)?;
        let shown = [&server, &client].into_iter().flatten().map(|pair| pair.about.clone()).collect();
        let server = server.map(|pair| server_config(&pair)).transpose()?;
        Ok(Self { settings: settings.clone(), server, trust, client, shown })
    }
}

/// Certificates, keys and authorities that were read and fit together, ready to take the place of those in use. Reading waits
/// for the disk: do it where nobody waits for you.
pub struct Certificates(Loaded);

impl Certificates {
    /// Reads and checks every file of these settings.
    pub fn read(settings: &TlsSettings, upstream: Transport) -> Result<Self, TlsError> {
        Loaded::load(settings, upstream == Transport::Tls).map(Self)
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Certificates").field(&self.0.shown).finish()
    }
}

impl Tls {
    pub(super) fn load(settings: &TlsSettings, upstream: bool) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(Loaded::load(settings, upstream)?)))))
    }

    /// All of it, or nothing.
    pub(super) fn renew(&self, fresh: Certificates) -> Result<(), TlsError> {
        if fresh.0.server.is_none() && self.can_accept() {
            return Err(TlsError::no_server_certificate());
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh.0);
        Ok(())
    }

    fn now(&self) -> Arc<Loaded> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn can_accept(&self) -> bool {
        self.now().server.is_some()
    }

    /// `tls_certificate_not_after_timestamp_seconds`.
    pub(super) fn publish(&self, metrics: &Metrics) {
        for certificate in &self.now().shown {
            metrics.set_certificate_not_after(certificate.role, certificate.not_after as f64);
        }
    }

    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.now().server.clone().map(TlsAcceptor::from)
    }

    /// The client's half of a handshake; an error says what was wrong in words.
    pub(super) async fn connect(
        &self,
        hop: &Hop,
        stream: TcpStream,
        metrics: &Metrics,
    ) -> Result<TlsStream<TcpStream>, (Handshake, String)> {
        let loaded = self.now();
        let refuse = |detail: String| format!("TLS with {} ({}): {detail}", hop.addr, hop.target);
        let (config, name, verifier) = client_config(&loaded, hop).map_err(|text| (Handshake::Error, refuse(text)))?;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        if let Some(not_after) = verifier.not_after() {
            metrics.set_shown_certificate(&label(hop), not_after);
        }
        shaken.map_err(|error| {
            let detail = verifier.take_failure().unwrap_or_else(|| explain::handshake(&error));
            (handshake_outcome(&error), refuse(detail))
        })
    }
}

/// `host:port`, as the target is known in metrics.
fn label(hop: &Hop) -> String {
    HostPort { host: hop.target.to_string(), port: Some(hop.addr.port()) }.to_string()
}

fn server_config(pair: &Pair) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(files::provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| TlsError::library(&error))?
        .with_no_client_auth()
        .with_cert_resolver(pair.resolver());
    // Phones that reconnect all at once, after a power cut, resume.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| TlsError::library(&error))?;
    Ok(Arc::new(config))
}

type Client = (Arc<ClientConfig>, ServerName<'static>, Arc<HopVerifier>);

/// A configuration for one connection: its verifier knows the names of this hop and keeps what went wrong.
fn client_config(loaded: &Loaded, hop: &Hop) -> Result<Client, String> {
    let names = Names::of(&loaded.settings, &hop.target)?;
    let sni = names.sni().clone();
    let verifier = Arc::new(HopVerifier::new(&loaded.trust, names).map_err(|error| error.to_string())?);
    let builder = ClientConfig::builder_with_provider(files::provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone());
    let mut config = match &loaded.client {
        Some(pair) => builder.with_client_cert_resolver(pair.resolver()),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok((Arc::new(config), sni, verifier))
}

/// rustls' own error inside an I/O error.
pub(super) fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    explain::rustls_error(error)
}

/// An error of a TLS connection in words.
pub(super) fn explain(error: &io::Error) -> String {
    explain::handshake(error)
}

/// What a TLS peer said by an alert, or did against the protocol, in words; `None` for an error of another kind.
pub fn said(error: &io::Error) -> Option<String> {
    explain::rustls_error(error).map(|_| explain::handshake(error))
}

/// How a failed handshake is counted.
pub(super) fn handshake_outcome(error: &io::Error) -> Handshake {
    match explain::rustls_error(error) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => Handshake::Certificate,
        Some(rustls::Error::AlertReceived(alert)) if is_about_certificates(*alert) => Handshake::Certificate,
        _ => Handshake::Error,
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::NoCertificate
    )
}
