//! Files named in the configuration, looked at early: a key that does not fit its certificate is a configuration error,
//! not a handshake failure on Monday morning.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error as TlsError, InconsistentKeys};

use super::error::ConfigError;
use super::layers::{Layers, Remedy};

/// At least one certificate is in the file.
pub(super) fn authorities(layers: &Layers, name: &str, path: &Path) -> Result<(), ConfigError> {
    certificates(path).map(|_| ()).map_err(|remedy| layers.error(name, remedy))
}

/// Both files can be read and belong together.
pub(super) fn pair(layers: &Layers, cert: (&str, &Path), key: (&str, &Path)) -> Result<(), ConfigError> {
    let chain = certificates(cert.1).map_err(|remedy| layers.error(cert.0, remedy))?;
    let secret = private_key(key.1).map_err(|remedy| layers.error(key.0, remedy))?;
    match CertifiedKey::from_der(chain, secret, &default_provider()) {
        Ok(_) => Ok(()),
        Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let remedy = format!("does not belong to the certificate in {} ({})", cert.0, cert.1.display());
            Err(layers.error(key.0, remedy))
        }
        Err(error) => Err(layers.error(cert.0, format!("cannot be used with {}: {error}", key.0))),
    }
}

/// A secret of at least `least` bytes, surrounding white space left out.
pub(super) fn secret(layers: &Layers, name: &str, path: &Path, least: usize) -> Result<Vec<u8>, ConfigError> {
    let bytes = fs::read(path).map_err(|error| layers.error(name, unreadable(&error)))?;
    let secret = bytes.trim_ascii();
    if secret.len() < least {
        let remedy = format!("holds {} bytes; make {least} or more, e.g. with openssl rand -hex 32", secret.len());
        return Err(layers.error(name, remedy));
    }
    Ok(secret.to_vec())
}

/// A directory, or a place where one can be made. Nothing is left behind.
pub fn writable_directory(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err("is not a directory".to_owned()),
        Ok(_) => {
            let probe = path.join(format!(".holdline-check-{}", std::process::id()));
            let written = File::create(&probe).map_err(|error| format!("cannot be written to: {error}"));
            // What could not be made need not be removed.
            let _ = fs::remove_file(&probe);
            written.map(|_| ())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                writable_directory(parent).map_err(|why| format!("does not exist, and {} {why}", parent.display()))
            }
            _ => writable_directory(Path::new(".")),
        },
        Err(error) => Err(format!("cannot be reached: {error}")),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Remedy> {
    let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(chain) if chain.is_empty() => Err("holds no PEM certificate (-----BEGIN CERTIFICATE-----)".into()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("is not valid PEM: {error}").into()),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Remedy> {
    let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let encrypted = bytes.windows(9).any(|w| w == b"ENCRYPTED");
        let remedy = if encrypted {
            "is encrypted; decrypt it, e.g. with openssl pkey"
        } else {
            "holds no PEM private key (-----BEGIN PRIVATE KEY-----)"
        };
        remedy.into()
    })
}

fn unreadable(error: &std::io::Error) -> Remedy {
    format!("cannot be read: {error}").into()
}
