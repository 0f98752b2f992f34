//! TLS: who is believed, what is said when somebody is not, and what is loaded.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{Cause, ConnId, Flow, Hop, NetCommand, NetEvent, Side, Transport};
use holdline::metrics::{Handshake, Metrics};
use holdline::transport::tls::TlsError;
use holdline::transport::{Certificates, Settings, TlsSettings, Transports, Verify, tls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls};

use super::certificates::{Authority, Files};
use super::{PATIENCE, Rig, settings};

const DOMAIN: &str = "pbx.example.com";
const TARGET: &str = "sip-a.example.com";
const MESSAGE: &[u8] = b"OPTIONS sip:pbx.example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn chain(file: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect()
}

/// Notes the SNI of every handshake.
#[derive(Debug)]
struct Witness {
    key: Arc<CertifiedKey>,
    heard: Arc<Mutex<Vec<Option<String>>>>,
}

impl ResolvesServerCert for Witness {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.heard.lock().unwrap().push(hello.server_name().map(str::to_owned));
        Some(self.key.clone())
    }
}

/// A TLS PBX that echoes.
struct Pbx {
    addr: SocketAddr,
    heard: Arc<Mutex<Vec<Option<String>>>>,
}

impl Pbx {
    async fn new(files: &Files) -> Pbx {
        Pbx::with(files, None, rustls::ALL_VERSIONS).await
    }

    async fn with(files: &Files, clients: Option<&Path>, versions: &[&'static SupportedProtocolVersion]) -> Pbx {
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let key = Arc::new(CertifiedKey::from_der(chain(&files.cert), key, &provider()).unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(chain(ca));
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_cert_resolver(Arc::new(Witness { key, heard: heard.clone() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        if stream.write_all(&buffer[..count]).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Pbx { addr, heard }
    }

    fn heard(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

fn upstream(tls: TlsSettings) -> Settings {
    let mut settings = settings(&[]);
    settings.upstream_transport = Transport::Tls;
    settings.tls = tls;
    settings
}

fn trusting(ca: &Authority, verify: Verify) -> TlsSettings {
    TlsSettings { domain: Some(DOMAIN.into()), verify, ca_only: Some(ca.file.clone()), ..TlsSettings::default() }
}

/// Opened, or the cause and the detail.
async fn open(rig: &mut Rig, number: u64, target: &str, addr: SocketAddr) -> Result<ConnId, (Cause, String)> {
    let conn = ConnId::Dialled(number);
    let hop = Hop { target: target.into(), addr, transport: Transport::Tls, group: 0 };
    rig.perform(NetCommand::Open { conn, hop });
    rig.event(|e| match e {
        NetEvent::Opened { conn: c, .. } if *c == conn => Some(Ok(conn)),
        NetEvent::OpenFailed { conn: c, cause, detail } if *c == conn => Some(Err((*cause, detail.to_string()))),
        _ => None,
    })
    .await
}

async fn try_once(tls: TlsSettings, target: &str, pbx: &Pbx) -> Result<ConnId, (Cause, String)> {
    let mut rig = Rig::new(&upstream(tls)).await;
    let result = open(&mut rig, 2, target, pbx.addr).await;
    if let Ok(conn) = result {
        rig.send(Flow::Conn(conn), MESSAGE);
        assert_eq!(rig.received().await, (Flow::Conn(conn), Bytes::from_static(MESSAGE)));
        assert_eq!(rig.metrics.handshakes(Side::Upstream, Handshake::Ok).get(), 1);
    }
    result
}

#[tokio::test]
async fn domain_target_and_either_each_accept_their_names_and_send_their_sni() {
    let ca = Authority::new("Example CA");
    let certificates: [(&str, &[&str]); 5] = [
        ("domain", &[DOMAIN]),
        ("target", &[TARGET]),
        ("both", &[DOMAIN, TARGET]),
        ("wildcard", &["*.example.com"]),
        ("neither", &["other.example.net"]),
    ];
    for (file, names) in certificates {
        let pbx = Pbx::new(&ca.sign(file, names)).await;
        for verify in [Verify::Domain, Verify::Target, Verify::Either] {
            let result = try_once(trusting(&ca, verify), TARGET, &pbx).await;
            let passes = match verify {
                Verify::Domain => file != "target" && file != "neither",
                Verify::Target => file != "domain" && file != "neither",
                Verify::Either => file != "neither",
            };
            assert_eq!(result.is_ok(), passes, "{file} with {verify:?}: {result:?}");
            let sni = if verify == Verify::Target { TARGET } else { DOMAIN };
            assert_eq!(pbx.heard(), [Some(sni.to_owned())], "{file} with {verify:?}");
            let Err((cause, detail)) = result else { continue };
            assert_eq!(cause, Cause::Tls);
            for part in names.iter().chain([&sni, &TARGET]) {
                assert!(detail.contains(part), "{part} in: {detail}");
            }
            match file {
                "domain" => assert!(detail.contains("--upstream-verify domain (pbx.example.com) would"), "{detail}"),
                "target" => assert!(detail.contains("--upstream-verify target (sip-a.example.com) would"), "{detail}"),
                _ => assert!(detail.contains("no --upstream-verify would accept it"), "{detail}"),
            }
        }
    }
}

#[tokio::test]
async fn a_sip_uri_of_the_domain_names_the_domain_and_one_of_a_user_does_not() {
    let ca = Authority::new("Example CA");
    for (uri, passes) in [
        ("sip:pbx.example.com", true),
        ("SIP:PBX.example.com", true),
        ("sip:a@pbx.example.com", false),
        ("sip:example.com", false),
    ] {
        let pbx = Pbx::new(&ca.sip_uri("uri", uri)).await;
        let result = try_once(trusting(&ca, Verify::Domain), TARGET, &pbx).await;
        assert_eq!(result.is_ok(), passes, "{uri}: {result:?}");
    }
}

#[tokio::test]
async fn expired_self_signed_and_foreign_certificates_are_refused_in_words() {
    let ca = Authority::new("Example CA");
    let other = Authority::new("Other CA");
    let cases = [
        (ca.expired("old", &[DOMAIN]), ["has expired", "clock"]),
        (ca.self_signed("self", &[DOMAIN], false), ["is self-signed", "--upstream-ca"]),
        (other.sign("foreign", &[DOMAIN]), ["Other CA", "not trusted"]),
        (ca.sign("nameless", &[]), ["no subject alternative names", "common name"]),
    ];
    for (files, parts) in cases {
        let pbx = Pbx::new(&files).await;
        let mut rig = Rig::new(&upstream(trusting(&ca, Verify::Domain))).await;
        let (cause, detail) = open(&mut rig, 2, TARGET, pbx.addr).await.unwrap_err();
        assert_eq!(cause, Cause::Tls);
        for part in parts.iter().copied().chain([TARGET]).chain([&*pbx.addr.to_string()]) {
            assert!(detail.contains(part), "{part} in: {detail}");
        }
        assert!(!detail.contains(char::is_control), "{detail:?}");
        assert_eq!(rig.metrics.handshakes(Side::Upstream, Handshake::Certificate).get(), 1);
        assert_eq!(rig.metrics.connection_errors(Side::Upstream, Transport::Tls, "tls").get(), 1);
    }
}

#[tokio::test]
async fn a_self_signed_certificate_given_as_authority_is_believed_but_its_name_still_counts() {
    let ca = Authority::new("Example CA");
    for is_ca in [false, true] {
        let files = ca.self_signed("self", &[DOMAIN], is_ca);
        let pbx = Pbx::new(&files).await;
        let mut tls = trusting(&ca, Verify::Domain);
        tls.ca = Some(files.cert.clone());
        try_once(tls.clone(), TARGET, &pbx).await.unwrap();
        tls.verify = Verify::Target;
        let (_, detail) = try_once(tls, TARGET, &pbx).await.unwrap_err();
        assert!(detail.contains("not valid for sip-a.example.com"), "{detail}");
    }
}

#[tokio::test]
async fn a_static_outbound_proxy_is_verified_by_its_own_name_or_address_and_an_address_is_never_an_sni() {
    let ca = Authority::new("Example CA");
    let by_address = Pbx::new(&ca.sign("address", &["127.0.0.1"])).await;
    let by_name = Pbx::new(&ca.sign("name", &["proxy.example.com"])).await;
    for verify in [Verify::Domain, Verify::Target, Verify::Either] {
        let tls = TlsSettings { domain: None, ..trusting(&ca, verify) };
        try_once(tls.clone(), "127.0.0.1", &by_address).await.unwrap();
        assert_eq!(by_address.heard(), [None]);
        try_once(tls.clone(), "proxy.example.com", &by_name).await.unwrap();
        assert_eq!(by_name.heard(), [Some("proxy.example.com".to_owned())]);
        let (_, detail) = try_once(tls, "127.0.0.1", &by_name).await.unwrap_err();
        assert!(detail.contains("--outbound-proxy"), "{detail}");
        assert_eq!(by_name.heard(), [None]);
    }
}

#[tokio::test]
async fn a_later_connection_to_another_target_is_checked_anew() {
    let ca = Authority::new("Example CA");
    let a = Pbx::new(&ca.sign("a", &[TARGET])).await;
    let b = Pbx::new(&ca.sign("b", &["sip-b.example.com"])).await;
    let mut rig = Rig::new(&upstream(trusting(&ca, Verify::Either))).await;
    open(&mut rig, 2, TARGET, a.addr).await.unwrap();
    open(&mut rig, 4, TARGET, b.addr).await.unwrap_err();
    open(&mut rig, 6, "sip-b.example.com", a.addr).await.unwrap_err();
    open(&mut rig, 8, "sip-b.example.com", b.addr).await.unwrap();
}

#[tokio::test]
async fn both_versions_are_spoken() {
    let ca = Authority::new("Example CA");
    let files = ca.sign("pbx", &[DOMAIN]);
    for version in [&version::TLS12, &version::TLS13] {
        let pbx = Pbx::with(&files, None, &[version]).await;
        try_once(trusting(&ca, Verify::Domain), TARGET, &pbx).await.unwrap();
    }
}

#[tokio::test]
async fn mutual_tls() {
    let ca = Authority::new("Example CA");
    let pbx = Pbx::with(&ca.sign("pbx", &[DOMAIN]), Some(&ca.file), rustls::ALL_VERSIONS).await;
    let mine = ca.sign("holdline", &["holdline.example.com"]);
    let mut tls = trusting(&ca, Verify::Domain);
    (tls.client_cert, tls.client_key) = (Some(mine.cert), Some(mine.key));
    try_once(tls, TARGET, &pbx).await.unwrap();

    // Without one: TLS 1.2 fails in the handshake, 1.3 right after it.
    let old = Pbx::with(&ca.sign("pbx", &[DOMAIN]), Some(&ca.file), &[&version::TLS12]).await;
    let (cause, detail) = try_once(trusting(&ca, Verify::Domain), TARGET, &old).await.unwrap_err();
    assert_eq!(cause, Cause::Tls, "{detail}");
    let mut rig = Rig::new(&upstream(trusting(&ca, Verify::Domain))).await;
    let conn = open(&mut rig, 2, TARGET, pbx.addr).await.unwrap();
    let cause = rig
        .event(|e| match e {
            NetEvent::Closed { conn: c, cause } if *c == conn => Some(*cause),
            _ => None,
        })
        .await;
    assert_eq!(cause, Cause::Tls);
}

#[tokio::test]
async fn a_peer_that_never_answers_the_handshake_times_out_and_one_without_tls_is_told_apart() {
    let ca = Authority::new("Example CA");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = upstream(trusting(&ca, Verify::Domain));
    settings.connect_timeout = Duration::from_millis(100);
    let mut rig = Rig::new(&settings).await;
    let (cause, detail) = open(&mut rig, 2, TARGET, silent.local_addr().unwrap()).await.unwrap_err();
    assert_eq!(cause, Cause::Timeout);
    assert!(detail.contains("TLS handshake") && detail.contains("100ms"), "{detail}");
    assert_eq!(rig.metrics.handshakes(Side::Upstream, Handshake::Timeout).get(), 1);

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = plain.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"SIP/2.0 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    });
    let (cause, detail) = open(&mut rig, 4, TARGET, addr).await.unwrap_err();
    assert_eq!(cause, Cause::Tls);
    assert!(detail.contains("not TLS"), "{detail}");
    drop(server);
}

/// A TLS phone that believes this authority.
async fn phone(ca: &Authority, addr: SocketAddr) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    shake_hands(ca, TcpStream::connect(addr).await?).await
}

/// Its part of the handshake, on a connection that is open.
pub(super) async fn shake_hands(
    ca: &Authority,
    stream: TcpStream,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(&ca.file));
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("holdline.example.com").unwrap();
    timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}

fn serving(files: &Files) -> Settings {
    let mut settings = settings(&[(Transport::Tls, "127.0.0.1:0")]);
    (settings.tls.server_cert, settings.tls.server_key) = (Some(files.cert.clone()), Some(files.key.clone()));
    settings
}

/// Connects a phone while the driver runs.
async fn connected(
    rig: &mut Rig,
    ca: &Authority,
) -> Result<(tokio_rustls::client::TlsStream<TcpStream>, ConnId), std::io::Error> {
    let addr = rig.bound(Side::Phone, Transport::Tls).local;
    let stream = phone(ca, addr).await?;
    let conn = rig.event(|e| if let NetEvent::Accepted { conn, .. } = e { Some(*conn) } else { None }).await;
    Ok((stream, conn))
}

#[tokio::test]
async fn phones_over_tls_both_ways() {
    let ca = Authority::new("Example CA");
    let mut rig = Rig::new(&serving(&ca.sign("holdline", &["holdline.example.com"]))).await;
    let (mut stream, conn) = connected(&mut rig, &ca).await.unwrap();
    for _ in 0..3 {
        stream.write_all(MESSAGE).await.unwrap();
        assert_eq!(rig.received().await, (Flow::Conn(conn), Bytes::from_static(MESSAGE)));
        rig.send(Flow::Conn(conn), MESSAGE);
        let mut back = vec![0; MESSAGE.len()];
        timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, MESSAGE);
    }
    assert_eq!(rig.metrics.connections(Side::Phone, Transport::Tls).get(), 1);
    rig.perform(NetCommand::Close { conn });
    let end = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    assert_eq!(end.unwrap(), 0, "closed in good order");
}

#[tokio::test]
async fn a_phone_that_dawdles_over_its_handshake_is_closed() {
    let ca = Authority::new("Example CA");
    let mut settings = serving(&ca.sign("holdline", &["holdline.example.com"]));
    settings.limits.handshake_timeout = Duration::from_millis(50);
    settings.limits.handshakes = 1;
    let mut rig = Rig::new(&settings).await;
    let mut dawdler = TcpStream::connect(rig.bound(Side::Phone, Transport::Tls).local).await.unwrap();
    // It holds the only place: the next phone waits, but is served.
    connected(&mut rig, &ca).await.unwrap();
    assert_eq!(timeout(PATIENCE, dawdler.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    assert_eq!(rig.metrics.handshakes(Side::Phone, Handshake::Timeout).get(), 1);
}

fn renew(rig: &mut Rig, settings: &TlsSettings) -> Result<(), TlsError> {
    rig.transports.renew(Certificates::read(settings, Transport::Udp)?)
}

#[tokio::test]
async fn reload_takes_a_new_pair_and_keeps_the_old_one_if_the_new_one_is_bad() {
    let (old, new) = (Authority::new("Old CA"), Authority::new("New CA"));
    let first = old.sign("first", &["holdline.example.com"]);
    let second = new.sign("second", &["holdline.example.com"]);
    let mut rig = Rig::new(&serving(&first)).await;
    assert!(rig.metrics.render().contains("tls_certificate_not_after_timestamp_seconds{role=\"listener\"}"));
    let pair = |cert: &Path, key: &Path| TlsSettings {
        server_cert: Some(cert.to_owned()),
        server_key: Some(key.to_owned()),
        ..TlsSettings::default()
    };
    let half = new.path("half.pem");
    std::fs::write(&half, "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    for (bad, part) in [
        (pair(&second.cert, &first.key), "does not belong"),
        (pair(&half, &second.key), "half.pem"),
        (pair(&new.path("none.pem"), &second.key), "no such file"),
        (TlsSettings::default(), "--tls-cert"),
    ] {
        let error = renew(&mut rig, &bad).unwrap_err().to_string();
        assert!(error.contains(part), "{part} in: {error}");
        connected(&mut rig, &old).await.expect("the old pair is still shown");
    }
    let (mut before, conn) = connected(&mut rig, &old).await.unwrap();
    renew(&mut rig, &pair(&second.cert, &second.key)).unwrap();
    connected(&mut rig, &new).await.unwrap();
    assert!(connected(&mut rig, &old).await.is_err(), "the old one is gone");
    before.write_all(MESSAGE).await.unwrap();
    assert_eq!(rig.received().await.0, Flow::Conn(conn), "open connections stay");
}

#[tokio::test]
async fn bad_settings_name_key_file_and_remedy() {
    let ca = Authority::new("Example CA");
    let good = ca.sign("good", &["holdline.example.com"]);
    let empty = ca.path("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let locked = ca.path("locked.key");
    std::fs::write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    let server = |cert: Option<&Path>, key: Option<&Path>| TlsSettings {
        server_cert: cert.map(Path::to_owned),
        server_key: key.map(Path::to_owned),
        ..TlsSettings::default()
    };
    let missing = ca.path("missing.pem");
    let cases: [(TlsSettings, &[&str]); 7] = [
        (server(Some(&good.cert), None), &["--tls-cert", "good.pem", "--tls-key"]),
        (server(None, Some(&good.key)), &["--tls-key", "good.key", "--tls-cert"]),
        (server(Some(&empty), Some(&good.key)), &["--tls-cert", "empty.pem", "BEGIN CERTIFICATE"]),
        (server(Some(&good.cert), Some(&empty)), &["--tls-key", "empty.pem", "BEGIN PRIVATE KEY"]),
        (server(Some(&good.cert), Some(&locked)), &["--tls-key", "locked.key", "encrypted", "openssl"]),
        (
            TlsSettings { ca: Some(missing.clone()), ..TlsSettings::default() },
            &["--upstream-ca", "missing.pem", "no such file"],
        ),
        (TlsSettings { ca_only: Some(empty.clone()), ..TlsSettings::default() }, &["--upstream-ca-only", "empty.pem"]),
    ];
    for (bad, parts) in cases {
        let mut settings = settings(&[]);
        settings.tls = bad;
        let error = tls::check(&settings).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part} in: {error}");
        }
    }
    let none = settings(&[(Transport::Tls, "127.0.0.1:0")]);
    let error = Transports::bind(&none, Metrics::new()).await.err().unwrap().to_string();
    assert!(error.contains("--tls-cert"), "{error}");
    let shown = tls::check(&serving(&good)).unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].names, ["holdline.example.com"]);
    assert!(shown[0].not_after > 60_000_000_000, "4096-01-01");
}

#[tokio::test]
async fn an_upstream_that_dials_us_over_tls_is_accepted() {
    let ca = Authority::new("Example CA");
    let files = ca.sign("holdline", &["holdline.example.com"]);
    let mut settings = upstream(trusting(&ca, Verify::Domain));
    (settings.tls.server_cert, settings.tls.server_key) = (Some(files.cert), Some(files.key));
    let mut rig = Rig::new(&settings).await;
    let mut stream = phone(&ca, rig.bound(Side::Upstream, Transport::Tls).local).await.unwrap();
    stream.write_all(MESSAGE).await.unwrap();
    assert_eq!(rig.received().await.1, MESSAGE);
}
