//! TLS towards the PBX: whom it trusts, which name it asks for, and what it says when that is not it.

use std::path::PathBuf;

use holdline::agents::phone::{self, RegisterOutcome};
use holdline::agents::tls;
use holdline::flow::Transport;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::server::Cast;
use super::stage::{Setup, registered};
use crate::support::wait::until;
use crate::transport::certificates::{Authority, Files};

const HANDSHAKES: &str = "tls_handshakes_total{outcome=\"ok\",side=\"upstream\"}";

fn behind_tls(authority: &Authority, files: &Files, client_ca: Option<PathBuf>) -> Setup {
    let tls = Some((files.cert.clone(), files.key.clone()));
    let servers = vec![Cast { name: "a".to_owned(), tls, client_ca, ..Cast::default() }];
    Setup { name: "_sip._tls.pbx.example", transport: Transport::Tls, servers, ..Setup::new() }.with(&[
        &format!("--upstream-ca-only={}", authority.file.display()),
        "--retry=false",
        "--exhausted=503",
    ])
}

#[tokio::test]
async fn tls_udp_and_tls_phones_share_one_verified_connection() {
    let authority = Authority::new("pbx authority");
    let files = authority.sign("pbx", &["pbx.example"]);
    let ours = authority.sign("holdline", &["holdline.example"]);
    let setup = behind_tls(&authority, &files, None).with(&[
        "--listen=udp:127.0.0.1:0,tls:127.0.0.1:0",
        &format!("--tls-cert={}", ours.cert.display()),
        &format!("--tls-key={}", ours.key.display()),
    ]);
    let stage = setup.start().await;
    let root = CertificateDer::from_pem_file(&authority.file).unwrap();
    let client = tls::client(&[root]).unwrap();
    let name = ServerName::try_from("holdline.example").unwrap();
    let secure =
        stage.phone_like("200", |options| phone::Options { tls: Some((client, name)), ..options }.over(Transport::Tls));
    let phones: Vec<_> = (0..5).map(|number| stage.phone(&format!("{}", 100 + number))).collect();
    for phone in &phones {
        registered(phone.register().await);
    }
    registered(secure.register().await);
    let report = stage.servers[0].report().await;
    assert_eq!((report.registered.len(), report.connections), (6, 1));
    assert_eq!(report.transports.into_iter().collect::<Vec<_>>(), ["tls"]);
    assert_eq!(stage.holdline.metrics().await.get(HANDSHAKES), 1);
    for user in ["100", "200"] {
        assert_eq!(stage.servers[0].send("OPTIONS", &format!("{user}@pbx.example")).await, 200, "{user}");
    }
}

#[tokio::test]
async fn tls_a_certificate_of_another_name_is_refused_and_the_log_says_what_would_pass() {
    let authority = Authority::new("pbx authority");
    let files = authority.sign("pbx", &["a.pbx.example", "cluster.example"]);
    let setup = behind_tls(&authority, &files, None);
    let stage = setup.clone().start().await;
    assert_eq!(stage.phone("100").register().await, RegisterOutcome::Rejected(503));
    let line = stage.holdline.logged("cannot connect to upstream").await;
    let detail = line["detail"].as_str().unwrap();
    assert_eq!((&line["cause"], &line["level"]), (&"tls".into(), &"WARN".into()), "{line}");
    for part in [
        "not valid for pbx.example",
        "valid for a.pbx.example, cluster.example",
        "--upstream-verify target (a.pbx.example) would accept it",
    ] {
        assert!(detail.contains(part), "{part:?} in {detail}");
    }
    let metrics = stage.holdline.metrics().await;
    let tls = format!("register_failures_total{{reason=\"tls\",target=\"{}\"}}", stage.labels[0]);
    assert_eq!(metrics.get(&tls), 1);
    assert_eq!(metrics.get("tls_handshakes_total{outcome=\"certificate\",side=\"upstream\"}"), 1);
    assert_eq!(stage.servers[0].report().await.registers(), 0, "not a byte of SIP to an untrusted peer");
    drop(stage);

    // The remedy works, as it says.
    for verify in ["target", "either"] {
        let stage = setup.clone().with(&[&format!("--upstream-verify={verify}")]).start().await;
        registered(stage.phone("100").register().await);
    }
}

#[tokio::test]
async fn tls_an_authority_that_is_not_trusted_is_named() {
    let (theirs, ours) = (Authority::new("their authority"), Authority::new("our authority"));
    let files = theirs.sign("pbx", &["pbx.example"]);
    let stage = behind_tls(&ours, &files, None).start().await;
    assert_eq!(stage.phone("100").register().await, RegisterOutcome::Rejected(503));
    let line = stage.holdline.logged("cannot connect to upstream").await;
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("their authority") && detail.contains("--upstream-ca"), "{detail}");
}

#[tokio::test]
async fn tls_mutual() {
    let authority = Authority::new("pbx authority");
    let files = authority.sign("pbx", &["pbx.example"]);
    let ours = authority.sign("holdline", &["holdline.example"]);
    let setup = behind_tls(&authority, &files, Some(authority.file.clone()));
    let stage = setup.clone().start().await;
    assert!(!stage.phone("100").register().await.is_registered(), "without a certificate of our own");
    assert_eq!(stage.servers[0].report().await.registers(), 0);
    let line = stage.holdline.logged("an upstream TLS connection broke").await;
    assert!(line["detail"].as_str().unwrap().contains("--upstream-cert"), "{line}");
    let tls = format!("register_failures_total{{reason=\"tls\",target=\"{}\"}}", stage.labels[0]);
    assert_eq!(stage.holdline.metrics().await.get(&tls), 1);
    drop(stage);

    let pair =
        [&*format!("--upstream-cert={}", ours.cert.display()), &*format!("--upstream-key={}", ours.key.display())];
    let stage = setup.with(&pair).start().await;
    registered(stage.phone("100").register().await);
    let end = "tls_certificate_not_after_timestamp_seconds{role=\"client\"}";
    assert!(stage.holdline.metrics().await.get(end) > 0);
}

#[allow(clippy::disallowed_methods, reason = "a certificate ends at a time of day")]
#[tokio::test]
async fn tls_the_end_of_the_upstreams_certificate_is_known_whether_or_not_it_is_accepted() {
    let authority = Authority::new("pbx authority");
    let good = authority.sign("pbx", &["pbx.example"]);
    let expired = authority.expired("old", &["pbx.example"]);
    for (files, accepted) in [(good, true), (expired, false)] {
        let stage = behind_tls(&authority, &files, None).start().await;
        assert_eq!(stage.phone("100").register().await.is_registered(), accepted);
        let label = &stage.labels[0];
        let series = format!("tls_certificate_not_after_timestamp_seconds{{role=\"upstream\",target=\"{label}\"}}");
        let end = stage.holdline.metrics().await.get(&series);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(end > now, accepted, "{end}");
        let status = stage.holdline.status().await;
        assert_eq!(status["upstream"]["targets"][0]["certificate_not_after"], end, "{status:#}");
    }
}

/// Nobody needs to open the log.
#[tokio::test]
async fn tls_expired_certificates_of_every_target_are_told_with_their_reason_by_the_status() {
    let authority = Authority::new("pbx authority");
    let files = authority.expired("old", &["pbx.example"]);
    let stage = behind_tls(&authority, &files, None).start().await;
    for _ in 0..3 {
        assert!(!stage.phone("100").register().await.is_registered());
    }
    stage.holdline.until("all_targets_failed", 1).await;
    let admin = stage.holdline.admin().to_string();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_holdline"));
    let output = command.args(["status", "--admin", &admin]).env_clear().output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let verdict = said.lines().nth(1).unwrap();
    assert!(verdict.starts_with("ALARM ") && verdict.contains("tls ") && verdict.contains("expired"), "{said}");
    assert!(said.contains("docs/runbook.md#certificate") && said.contains(", ENDED"), "{said}");
    assert!(!said.contains("0 of 3"), "{said}");
}

#[tokio::test]
async fn tls_handshakes_with_handsets_that_fail_are_summed_up_by_cause_and_source() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = Authority::new("ours");
    let ours = authority.sign("holdline", &["holdline.example"]);
    let stage = Setup::new()
        .with(&[
            "--listen=udp:127.0.0.1:0,tls:127.0.0.1:0",
            &format!("--tls-cert={}", ours.cert.display()),
            &format!("--tls-key={}", ours.key.display()),
        ])
        .start()
        .await;
    let at = stage.holdline.socket("phone", Transport::Tls);
    // A ClientHello of TLS 1.1 (RFC 4346 §7.4.1.2): version, random, no session, one suite, no compression.
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let hello = [&[0x16, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8][..], &body].concat();
    let sip = b"REGISTER sip:pbx.example SIP/2.0\r\n".to_vec();
    for (bytes, cause) in [(hello, "TLS 1.1 at most"), (sip, "not TLS")] {
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // A reset says the same as an end.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let like = |line: &serde_json::Value| line["cause"].as_str().is_some_and(|said| said.contains(cause));
        let line = stage.holdline.until_lines(1, like).await.remove(0);
        assert_eq!((&line["level"], &line["sources"]), (&"WARN".into(), &"127.0.0.1 (1)".into()), "{line}");
    }
}

/// How many threads of the process are called so.
fn threads(stage: &super::stage::Stage, name: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", stage.holdline.pid())).unwrap();
    let comm = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.map(|task| comm(task.unwrap())).filter(|comm| comm.trim() == name).count()
}

#[tokio::test]
async fn tls_has_the_threads_that_the_settings_say_and_without_tls_there_are_none() {
    let authority = Authority::new("pbx authority");
    let ours = authority.sign("holdline", &["holdline.example"]);
    let plain = Setup::new().with(&["--io-threads=3"]).start().await;
    registered(plain.phone("100").register().await);
    assert_eq!(threads(&plain, "holdline-tls"), 0);
    let listens = Setup::new().with(&[
        "--io-threads=3",
        "--listen=udp:127.0.0.1:0,tls:127.0.0.1:0",
        &format!("--tls-cert={}", ours.cert.display()),
        &format!("--tls-key={}", ours.key.display()),
    ]);
    let listens = listens.start().await;
    until("three threads", async || (threads(&listens, "holdline-tls") == 3).then_some(())).await;
}
