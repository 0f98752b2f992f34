//! `certs/make.sh`, and what `certs/README.md` says of TLS.

use std::process::{Command, Stdio};

use holdline::agents::phone;
use holdline::agents::tls;
use holdline::flow::Transport;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::crypto::ring;

use super::tools::{installed, output, read, root, said, succeed};
use crate::loopback::stage::{Setup, Stage, cast, registered};

const NAMES: &str = "phones.example.com,127.0.0.1,2001:db8::1,dead.beef.example";

fn make(folder: &std::path::Path, more: &[&str]) -> String {
    let mut script = Command::new(root().join("certs/make.sh"));
    succeed(script.args(["--out", folder.to_str().unwrap()]).args(more).stdin(Stdio::null()))
}

async fn stage(folder: &std::path::Path) -> Stage {
    let at = |name: &str| folder.join(name).display().to_string();
    let setup = Setup::new().served_by(cast(&["a"])).with(&[
        "--listen=udp:127.0.0.1:0,tls:127.0.0.1:0",
        &format!("--tls-cert={}", at("server.crt")),
        &format!("--tls-key={}", at("server.key")),
    ]);
    setup.start().await
}

/// Holdline takes the pair, a phone that trusts the authority registers, by name and by address.
#[tokio::test]
async fn the_scripts_certificates_serve_phones() {
    if !installed("deploy::certs::the_scripts_certificates_serve_phones", &["openssl"]) {
        return;
    }
    for kind in [&[][..], &["--rsa"]] {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &[kind, &[NAMES, "204"]].concat());
        let stage = stage(folder.path()).await;
        let root = CertificateDer::from_pem_file(folder.path().join("ca.crt")).unwrap();
        for (user, name) in [("200", "phones.example.com"), ("201", "127.0.0.1")] {
            let (client, name) =
                (tls::client(std::slice::from_ref(&root)).unwrap(), ServerName::try_from(name).unwrap());
            let phone = stage.phone_like(user, |options| {
                phone::Options { tls: Some((client, name)), ..options }.over(Transport::Tls)
            });
            registered(phone.register().await);
        }
    }
}

/// Run again it keeps the authority that phones trust already, and nobody else reads the keys.
#[test]
fn the_script_keeps_the_authority_and_shuts_the_keys_away() {
    use std::os::unix::fs::PermissionsExt;
    if !installed("deploy::certs::the_script_keeps_the_authority_and_shuts_the_keys_away", &["openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    make(folder.path(), &[NAMES]);
    let (authority, server) = (text("ca.crt"), text("server.crt"));
    make(folder.path(), &["--days", "10", NAMES, "204"]);
    assert_eq!(text("ca.crt"), authority);
    assert_ne!(text("server.crt"), server);
    for key in ["ca.key", "server.key", "phone-204.key"] {
        let mode = std::fs::metadata(folder.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let mut verify = Command::new("openssl");
    verify.current_dir(folder.path()).args(["verify", "-x509_strict", "-CAfile", "ca.crt", "-purpose"]);
    succeed(verify.args(["sslclient", "phone-204.crt"]));
    let usage = output(Command::new(root().join("certs/make.sh")).arg("--help"));
    assert_eq!(usage.status.code(), Some(64));
    assert!(said(&usage).contains("certs/make.sh phones.example.com"), "{}", said(&usage));
}

/// The page lists exactly the suites that the program offers.
#[test]
fn the_page_names_every_cipher_suite_there_is() {
    let page = read("certs/README.md");
    let offered: Vec<String> =
        ring::default_provider().cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
    let listed: Vec<&str> =
        page.split('`').filter(|word| word.starts_with("TLS_") || word.starts_with("TLS13_")).collect();
    assert_eq!(listed.len(), offered.len(), "{listed:?}, {offered:?}");
    for suite in offered {
        assert!(listed.contains(&suite.as_str()), "{suite} is not in certs/README.md");
    }
}

/// What an old phone would try, and what a newer one does.
#[tokio::test]
async fn old_tls_is_refused_as_the_page_says() {
    if !installed("deploy::certs::old_tls_is_refused_as_the_page_says", &["openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &["--rsa", NAMES]);
    let stage = stage(folder.path()).await;
    let listener = stage.holdline.socket("phone", Transport::Tls);
    let handshake = |flags: &'static [&'static str]| {
        let mut client = tokio::process::Command::new("timeout");
        client.args(["30", "openssl", "s_client", "-brief", "-connect", &listener.to_string()]);
        client.args(flags).stdin(Stdio::null()).kill_on_drop(true);
        async move {
            let ran = client.output().await.unwrap();
            let text = said(&ran);
            (ran.status.success() && text.contains("CONNECTION ESTABLISHED"), text)
        }
    };
    for (flags, passes) in [
        (&["-tls1_3"][..], true),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], true),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"], false),
        (&["-tls1_2", "-cipher", "AES128-GCM-SHA256"], false),
        (&["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"], false),
        (&["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"], false),
        (&["-tls1", "-cipher", "DEFAULT:@SECLEVEL=0"], false),
    ] {
        let (passed, text) = handshake(flags).await;
        assert_eq!(passed, passes, "{flags:?}: {text}");
    }
    let failed = "tls_handshakes_total{outcome=\"error\",side=\"phone\"}";
    assert!(stage.holdline.metrics().await.get(failed) >= 3, "they are counted");
}
