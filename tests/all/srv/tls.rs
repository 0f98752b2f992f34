//! Certificates: good, expired, of another name, self-signed; and which setting would accept which.

use std::sync::Arc;

use holdline::agents::dns::Srv;
use holdline::agents::registrar::{Behaviour, Registrar};
use holdline::flow::Transport::Tls;
use rcgen::date_time_ymd;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::ResolvesServerCertUsingSni;
use tokio_rustls::rustls::sign::CertifiedKey;

use super::stage::{Stage, codes, finding, port, registrar, server_config, with_tls};
use crate::transport::certificates::{Authority, Files};

/// Both targets show this certificate.
async fn both(files: &Files) -> (Stage, [Registrar; 2], String) {
    let stage = Stage::open().await;
    let servers = [registrar("a", Some(files)), registrar("b", Some(files))];
    let name = stage.publish(
        "_sip._tls",
        &[
            Srv::new(1, 0, port(&servers[0], Tls), "a.pbx.example"),
            Srv::new(2, 0, port(&servers[1], Tls), "b.pbx.example"),
        ],
    );
    (stage, servers, name)
}

fn tls(look: &Value) -> &Value {
    &look["record"]["targets"][0]["addresses"][0]["tls"]
}

fn trusting(authority: &Authority) -> String {
    format!("--upstream-ca-only={}", authority.file.display())
}

#[tokio::test]
async fn a_good_certificate_is_told_with_names_issuer_and_days() {
    let authority = Authority::new("pbx authority");
    let (stage, _servers, name) = both(&authority.sign("pbx", &["pbx.example", "*.pbx.example"])).await;
    let (status, look) = stage.json(&[&trusting(&authority), &name]).await;
    assert_eq!(status, 0, "{look:#}");
    let seen = tls(&look);
    assert_eq!(
        (&seen["protocol"], &seen["sni"], &seen["accepted"]),
        (&"TLSv1.3".into(), &"pbx.example".into(), &true.into())
    );
    assert_eq!(seen["names"], json!(["pbx.example", "*.pbx.example"]));
    assert_eq!(seen["issuer"], "CN=pbx authority");
    assert_eq!(seen["satisfies"], json!(["domain", "target", "either"]));
    assert!(seen["days_left"].as_i64().unwrap() > 1000);
    let ca = authority.file.display().to_string();
    let server = stage.dns.addr().to_string();
    assert_eq!((&look["enter"]["srv"], &look["enter"]["upstream_verify"]), (&name.as_str().into(), &Value::Null));
    assert_eq!((&look["enter"]["upstream_ca_only"], &look["enter"]["nameserver"]), (&json!(ca), &json!([server])));
    stage.srv(&[&trusting(&authority), &name]).await.says(&[
        "TLSv1.3, OPTIONS 200 OK",
        "certificate for pbx.example, *.pbx.example; issued by CN=pbx authority",
        "satisfies --upstream-verify domain, target, either (SNI pbx.example)",
    ]);
}

#[tokio::test]
async fn a_certificate_for_the_target_but_not_the_domain_works_with_the_setting_that_is_named() {
    let authority = Authority::new("pbx authority");
    let (stage, _servers, name) = both(&authority.sign("pbx", &["a.pbx.example", "b.pbx.example"])).await;
    let (status, look) = stage.json(&[&trusting(&authority), &name]).await;
    assert_eq!((status, codes(&look, "warning")), (1, vec!["certificate_not_for_domain".to_owned()]), "{look:#}");
    assert_eq!(tls(&look)["satisfies"], json!(["target", "either"]));
    assert_eq!(tls(&look)["accepted"], false);
    assert_eq!(look["enter"]["upstream_verify"], "target");
    assert_eq!(look["record"]["targets"][0]["state"], "warning");
    stage.srv(&[&trusting(&authority), &name]).await.says(&[
        "--upstream-verify target accepts it",
        "enter holdline run --srv _sip._tls.pbx.example --upstream-verify target",
    ]);

    // With that setting there is nothing left to say; with the other one given by hand, there is.
    for (verify, status) in [("target", 0), ("either", 0), ("domain", 2)] {
        let (found, look) = stage.json(&[&trusting(&authority), &format!("--upstream-verify={verify}"), &name]).await;
        assert_eq!(found, status, "{verify}: {look:#}");
    }
}

#[tokio::test]
async fn certificates_that_no_setting_accepts_are_explained() {
    let authority = Authority::new("pbx authority");
    let stranger = Authority::new("a stranger");
    let table = [
        (authority.expired("old", &["pbx.example"]), "has expired", "ended "),
        (
            authority.sign("other", &["elsewhere.example"]),
            "not valid for pbx.example",
            "certificate for elsewhere.example",
        ),
        (authority.self_signed("self", &["pbx.example"], false), "self-signed", "self-signed"),
        (stranger.sign("foreign", &["pbx.example"]), "which is not trusted", "issued by CN=a stranger"),
    ];
    for (files, words, page) in table {
        let (stage, _servers, name) = both(&files).await;
        let (status, look) = stage.json(&[&trusting(&authority), &name]).await;
        assert_eq!(status, 2, "{look:#}");
        let found = finding(&look, "certificate_refused");
        assert!(found["text"].as_str().unwrap().contains(words), "{words}: {found}");
        assert_eq!(tls(&look)["satisfies"], json!([]), "{words}");
        assert_eq!(tls(&look)["refusal"], look["record"]["targets"][0]["addresses"][0]["failure"]["text"]);
        let seen = stage.srv(&[&trusting(&authority), &name]).await;
        seen.says(&[page, "FAILS, certificate refused", "satisfies no --upstream-verify", "result does not work"]);
    }
}

#[tokio::test]
async fn a_self_signed_certificate_that_was_given_is_good() {
    let authority = Authority::new("unused");
    let files = authority.self_signed("self", &["pbx.example"], false);
    let (stage, _servers, name) = both(&files).await;
    let (status, look) = stage.json(&[&format!("--upstream-ca={}", files.cert.display()), &name]).await;
    assert_eq!((status, codes(&look, "note")), (0, vec!["certificate_self_signed".to_owned()]), "{look:#}");
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_a_warning() {
    let authority = Authority::new("pbx authority");
    let soon = authority.sign_with("soon", &["pbx.example"], |params| {
        #[allow(clippy::disallowed_methods, reason = "a certificate's end is a date")]
        let days = std::time::SystemTime::now() + std::time::Duration::from_secs(10 * 86_400 + 3600);
        params.not_after = days.into();
        params.not_before = date_time_ymd(2020, 1, 1);
    });
    let (stage, _servers, name) = both(&soon).await;
    let (status, look) = stage.json(&[&trusting(&authority), &name]).await;
    assert_eq!((status, codes(&look, "warning")), (1, vec!["certificate_ends_soon".to_owned()]), "{look:#}");
    assert_eq!(tls(&look)["days_left"], 10);
}

#[tokio::test]
async fn ports_that_speak_no_tls_are_told_from_dead_ones() {
    let authority = Authority::new("pbx authority");
    let files = authority.sign("pbx", &["pbx.example"]);
    let stage = Stage::open().await;
    let (plain, silent, broken) =
        (registrar("plain", None), registrar("silent", Some(&files)), registrar("broken", Some(&files)));
    silent.behave(Behaviour::Silent).await.unwrap();
    broken.behave(Behaviour::BreakTls).await.unwrap();
    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web_port = web.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            // Whoever asked may be gone.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"SIP/2.0 400 Bad Request\r\n\r\n").await;
        }
    });
    let name = stage.publish(
        "_sip._tls",
        &[
            Srv::new(1, 0, port(&silent, Tls), "silent.pbx.example"),
            Srv::new(2, 0, port(&broken, Tls), "broken.pbx.example"),
            Srv::new(3, 0, web_port, "web.pbx.example"),
            Srv::new(4, 0, port(&plain, holdline::flow::Transport::Tcp), "plain.pbx.example"),
        ],
    );
    let (status, look) = stage.json(&["--timeout=1s", &trusting(&authority), &name]).await;
    assert_eq!(status, 2, "{look:#}");
    let failures: Vec<_> = (0..3).map(|n| look["record"]["targets"][n]["addresses"][0]["failure"].clone()).collect();
    assert_eq!((&failures[0]["stage"], &failures[0]["reason"]), (&"tls".into(), &"timeout".into()), "{look:#}");
    assert_eq!((&failures[1]["stage"], &failures[1]["reason"]), (&"tls".into(), &"handshake".into()), "{look:#}");
    assert!(failures[2]["text"].as_str().unwrap().contains("not TLS"), "{look:#}");
    assert_eq!(look["record"]["targets"][3]["state"], "fails", "{look:#}");
    assert!(silent.read(|record| record.received.is_empty()));
}

/// A server that knows its certificates by SNI, and ends the handshake at any other name.
fn by_sni(certificates: &[(&str, &Files)]) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut resolver = ResolvesServerCertUsingSni::new();
    for (name, files) in certificates {
        let chain = vec![CertificateDer::from_pem_file(&files.cert).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        resolver.add(name, CertifiedKey::from_der(chain, key, &provider).unwrap()).unwrap();
    }
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver)))
}

#[tokio::test]
async fn a_server_that_only_knows_its_targets_name_is_seen_by_that_name() {
    let authority = Authority::new("pbx authority");
    let stranger = Authority::new("a stranger");
    let target = authority.sign("target", &["a.pbx.example"]);
    let foreign = stranger.sign("domain", &["pbx.example"]);
    // Without any certificate for the domain, and with one that is not trusted.
    for certificates in [&[("a.pbx.example", &target)][..], &[("a.pbx.example", &target), ("pbx.example", &foreign)]] {
        let stage = Stage::open().await;
        let a = with_tls("a", Some(by_sni(certificates)));
        let name = stage.publish("_sip._tls", &[Srv::new(1, 0, port(&a, Tls), "a.pbx.example")]);
        let (status, look) = stage.json(&[&trusting(&authority), &name]).await;
        assert_eq!((status, &look["enter"]["upstream_verify"]), (1, &"target".into()), "{look:#}");
        assert_eq!(
            (&tls(&look)["accepted"], &tls(&look)["satisfies"]),
            (&false.into(), &json!(["target"])),
            "{look:#}"
        );
        let (status, look) = stage.json(&[&trusting(&authority), "--upstream-verify=domain", &name]).await;
        assert_eq!(status, 2, "{look:#}");
        let (status, look) = stage.json(&[&trusting(&authority), "--upstream-verify=target", &name]).await;
        assert_eq!((status, &tls(&look)["sni"]), (1, &"a.pbx.example".into()), "one target only: {look:#}");
        assert_eq!(codes(&look, "warning"), ["single_target"]);
    }
}

#[tokio::test]
async fn a_server_that_wants_our_certificate_says_so_and_gets_it() {
    let authority = Authority::new("pbx authority");
    let ours = authority.sign("ours", &["holdline.example"]);
    let stage = Stage::open().await;
    let config = server_config(&authority.sign("pbx", &["pbx.example"]), Some(&authority.file));
    let a = with_tls("a", Some(config));
    let name = stage.publish("_sip._tls", &[Srv::new(1, 0, port(&a, Tls), "a.pbx.example")]);
    let (status, look) = stage.json(&[&trusting(&authority), &name]).await;
    assert_eq!(status, 2, "{look:#}");
    assert!(finding(&look, "target_fails")["text"].as_str().unwrap().contains("--upstream-cert"), "{look:#}");
    let pair = [format!("--upstream-cert={}", ours.cert.display()), format!("--upstream-key={}", ours.key.display())];
    let (status, look) = stage.json(&[&trusting(&authority), &pair[0], &pair[1], &name]).await;
    assert_eq!((status, &look["record"]["targets"][0]["state"]), (1, &"ok".into()), "{look:#}");
}
