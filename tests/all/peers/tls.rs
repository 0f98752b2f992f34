//! Certificates made on the fly, and TLS for a peer that speaks none.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A certificate authority for one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    folder: TempDir,
}

impl Authority {
    /// A fresh one, its certificate in a file ([`Authority::file`]).
    pub(crate) fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "test authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).expect("a certificate").pem();
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("ca.pem"), &certificate).expect("a file");
        Authority { issuer: Issuer::new(parameters, key), certificate, folder }
    }

    /// Its own certificate, PEM.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Certificate and key for these names, PEM.
    pub(crate) fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let parameters = CertificateParams::new(names).expect("names");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// As [`Authority::issue`], in files.
    pub(crate) fn issue_files(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue(names);
        let at = |name: &str| self.folder.path().join(name);
        std::fs::write(at("certificate.pem"), certificate).expect("a file");
        std::fs::write(at("key.pem"), key).expect("a file");
        (at("certificate.pem"), at("key.pem"))
    }
}

/// TCP in here, TLS out there. Dropping it closes its connections.
pub(crate) struct Tunnel {
    entrance: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Tunnel {
    /// Leads to `server`, whose certificate must be `authority`'s, for `name`.
    pub(crate) async fn open(server: SocketAddr, name: &str, authority: &Authority) -> Tunnel {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let listener = TcpListener::bind((server.ip(), 0)).await.expect("a listener");
        let entrance = listener.local_addr().expect("an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut inside, _)) = listener.accept().await {
                let (connector, name) = (connector.clone(), name.clone());
                connections.spawn(async move {
                    let outside = TcpStream::connect(server).await?;
                    let mut outside = connector.connect(name, outside).await?;
                    tokio::io::copy_bidirectional(&mut inside, &mut outside).await
                });
            }
        });
        Tunnel { entrance, _tasks: tasks }
    }

    /// Where TCP goes in.
    pub(crate) fn entrance(&self) -> SocketAddr {
        self.entrance
    }
}
