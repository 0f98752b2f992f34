//! TLS configurations of the agents. The certificates are the caller's.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, ServerConfig};

/// A server's configuration: its chain and key, and the roots that client certificates must come from, if any are asked
/// for.
///
/// # Errors
/// The key does not belong to the certificate, or a root cannot be used.
pub fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_roots: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = if client_roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(client_roots)?.into(), provider());
        builder.with_client_cert_verifier(verifier.build().map_err(|e| Error::General(e.to_string()))?)
    };
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

/// A client's configuration that trusts these roots and has no certificate of its own.
///
/// # Errors
/// A root cannot be used.
pub fn client(trusted: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots(trusted)?).with_no_client_auth()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    certificates.iter().try_for_each(|certificate| store.add(certificate.clone()))?;
    Ok(store)
}
