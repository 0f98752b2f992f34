//! Certificates made on the fly.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// An authority, and a directory for what it signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: tempfile::TempDir,
    pub file: PathBuf,
}

/// A certificate and its key in PEM files.
#[derive(Clone)]
pub(crate) struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir, file }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A good certificate for these names or addresses.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> Files {
        self.sign_with(file, names, |_| {})
    }

    pub(crate) fn expired(&self, file: &str, names: &[&str]) -> Files {
        self.sign_with(file, names, |params| params.not_after = date_time_ymd(2020, 1, 1))
    }

    pub(crate) fn sip_uri(&self, file: &str, uri: &str) -> Files {
        self.sign_with(file, &[], |params| params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())])
    }

    pub(crate) fn sign_with(&self, file: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Files {
        let mut params = params(file, names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        write(self.dir.path(), file, &cert.pem(), &key.serialize_pem())
    }

    /// A certificate that nobody signed but itself.
    pub(crate) fn self_signed(&self, file: &str, names: &[&str], ca: bool) -> Files {
        let mut params = params(file, names);
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        write(self.dir.path(), file, &params.self_signed(&key).unwrap().pem(), &key.serialize_pem())
    }
}

fn params(file: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, format!("{file}\u{7}"));
    params
}

fn write(dir: &Path, name: &str, cert: &str, key: &str) -> Files {
    let files = Files { cert: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
    std::fs::write(&files.cert, cert).unwrap();
    std::fs::write(&files.key, key).unwrap();
    files
}
