//! Certificates change the way kubelet changes them, while phones register over TLS.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use holdline::agents::phone::{self, Phone};
use holdline::agents::tls;
use holdline::flow::Transport;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::loopback::stage::{Setup, Stage, cast};
use crate::support::wait::{until, within};
use crate::transport::certificates::{Authority, Files};

const NAME: &str = "phones.example.com";
const PHONES: usize = 4;
/// Files are compared every few seconds, and read again when they stay as they are.
const SWAPPED: Duration = Duration::from_secs(90);

/// A mounted Secret: files that are links through `..data`, which kubelet swaps.
struct Secret {
    folder: tempfile::TempDir,
    version: usize,
}

impl Secret {
    fn mounted(cert: &PathBuf, key: &PathBuf) -> Secret {
        let mut secret = Secret { folder: tempfile::tempdir().unwrap(), version: 0 };
        secret.swap(cert, key);
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), secret.folder.path().join(name)).unwrap();
        }
        secret
    }

    /// A new folder with the new files, a new link to it, renamed over the old one; then the old folder goes.
    fn swap(&mut self, cert: &PathBuf, key: &PathBuf) {
        let at = |name: &str| self.folder.path().join(name);
        let (old, new) = (format!("..version_{}", self.version), format!("..version_{}", self.version + 1));
        fs::create_dir(at(&new)).unwrap();
        fs::copy(cert, at(&new).join("tls.crt")).unwrap();
        fs::copy(key, at(&new).join("tls.key")).unwrap();
        symlink(&new, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        let _ = fs::remove_dir_all(at(&old));
        self.version += 1;
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

fn trust(authority: &Authority) -> (Arc<tokio_rustls::rustls::ClientConfig>, ServerName<'static>) {
    let root = CertificateDer::from_pem_file(&authority.file).unwrap();
    (tls::client(&[root]).unwrap(), ServerName::try_from(NAME).unwrap())
}

/// The certificate that a phone would be shown now.
async fn served(stage: &Stage, authority: &Authority) -> CertificateDer<'static> {
    let (client, name) = trust(authority);
    let tcp = TcpStream::connect(stage.holdline.socket("phone", Transport::Tls)).await.unwrap();
    let stream = TlsConnector::from(client).connect(name, tcp).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn until_served(stage: &Stage, authority: &Authority, files: &Files) {
    let expected = CertificateDer::from_pem_file(&files.cert).unwrap();
    let waited = within(SWAPPED, "the new certificate", async || {
        (served(stage, authority).await == expected).then_some(()).ok_or_else(|| "another one".to_owned())
    });
    waited.await.unwrap_or_else(|late| panic!("{late}; the log:\n{}", stage.holdline.text()));
}

/// Registers again and again, each time over a new connection, until told to stop.
async fn keep_registering(phone: Phone, stop: Arc<AtomicBool>, granted: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let outcome = phone.register().await;
        assert!(outcome.is_registered(), "{outcome:?}");
        granted.fetch_add(1, Ordering::Relaxed);
        phone.disconnect(false).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn after_more(granted: &AtomicUsize) {
    let enough = granted.load(Ordering::Relaxed) + 3 * PHONES;
    until("registrations", async || (granted.load(Ordering::Relaxed) >= enough).then_some(())).await;
}

#[tokio::test]
async fn certificates_swapped_as_kubelet_does_cost_no_registration_and_a_broken_pair_changes_nothing() {
    let authority = Authority::new("phones' authority");
    let [one, two, three] = ["one", "two", "three"].map(|name| authority.sign(name, &[NAME]));
    let mut secret = Secret::mounted(&one.cert, &one.key);
    let setup = Setup::new().served_by(cast(&["a"])).with(&[
        "--listen=udp:127.0.0.1:0,tls:127.0.0.1:0",
        &format!("--tls-cert={}", secret.file("tls.crt")),
        &format!("--tls-key={}", secret.file("tls.key")),
    ]);
    let stage = setup.start().await;
    until_served(&stage, &authority, &one).await;

    let (stop, granted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let phones: Vec<_> = (0..PHONES)
        .map(|number| {
            let phone = stage.phone_like(&format!("{}", 200 + number), |options| {
                phone::Options { tls: Some(trust(&authority)), ..options }.over(Transport::Tls)
            });
            tokio::spawn(keep_registering(phone, stop.clone(), granted.clone()))
        })
        .collect();
    after_more(&granted).await;

    // The swap, under the phones' hands.
    secret.swap(&two.cert, &two.key);
    until_served(&stage, &authority, &two).await;
    after_more(&granted).await;
    assert_eq!(stage.holdline.metrics().await.get("config_last_reload_successful"), 1);

    // A certificate with another one's key: the old pair stays, and it is said.
    secret.swap(&three.cert, &one.key);
    stage.holdline.until("config_last_reload_successful", 0).await;
    let line = stage.holdline.logged("certificates cannot be used; the old ones stay").await;
    assert_eq!((&line["level"], &line["key"]), (&"ERROR".into(), &"tls_key".into()), "{line}");
    until_served(&stage, &authority, &two).await;
    after_more(&granted).await;

    // Repaired.
    secret.swap(&three.cert, &three.key);
    until_served(&stage, &authority, &three).await;
    stage.holdline.until("config_last_reload_successful", 1).await;
    after_more(&granted).await;

    stop.store(true, Ordering::Relaxed);
    for phone in phones {
        phone.await.expect("not one registration failed");
    }
}
