//! Who is told of a rollover: web hooks that are slow, dead or behind TLS, and a command.

use std::net::SocketAddr;
use std::sync::Arc;

use holdline::agents::{Watched, tls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::stage::{Setup, Stage, registered};
use crate::support::ports::free_port;
use crate::support::wait::{PATIENCE, in_time, until};
use crate::transport::certificates::Authority;

const DELIVERED: &str = "notifications_total{outcome=\"delivered\"}";
const FAILED: &str = "notifications_total{outcome=\"failed\"}";

/// What a receiver got: each request's head and body.
type Got = Watched<Vec<(String, Value)>>;

/// A receiver that answers its requests with these statuses, the last one again and again. 0: never.
fn receive(listener: TcpListener, statuses: &'static [u16], secure: Option<Arc<ServerConfig>>) -> Got {
    let got = Got::new(Vec::new());
    let into = got.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        for n in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let status = statuses[n.min(statuses.len() - 1)];
            match &secure {
                None => kept.extend(answer(stream, status, &into).await),
                Some(config) => {
                    let stream = TlsAcceptor::from(config.clone()).accept(stream).await;
                    if let Ok(stream) = stream {
                        answer(stream, status, &into).await;
                    }
                }
            }
        }
    });
    got
}

/// Reads one request and answers it. A connection that gets no answer is handed back, and so stays open.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, status: u16, got: &Got) -> Option<S> {
    let mut text = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "a whole request");
        text.extend(&buffer[..read]);
        let seen = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = seen.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            break (head.to_owned(), body);
        }
    };
    got.update(|all| all.push((head, body)));
    if status == 0 {
        return Some(stream);
    }
    stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
    stream.shutdown().await.ok();
    None
}

/// Registrar `a` falls silent, and a phone moves to `b`.
async fn roll_over(stage: &Stage) {
    stage.servers[0].behave("refuse").await;
    registered(stage.phone("204").register().await);
    assert_eq!(stage.active().await, 1);
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn notify_insists_until_a_dead_receiver_is_back() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let setup = Setup::new().with(&[
        &format!("--on-rollover=http://{address}/hooks/s3cret"),
        "--log-level=debug",
        "--instance=berlin",
    ]);
    let stage = setup.start().await;
    roll_over(&stage).await;
    let line = stage.holdline.logged("a notification about a rollover is tried again").await;
    assert!(line["error"].as_str().is_some_and(|error| error.contains("refused")), "{line}");
    let got = receive(TcpListener::bind(address).await.unwrap(), &[503, 200], None);
    stage.holdline.until(DELIVERED, 1).await;
    let all = got.read(Clone::clone);
    assert_eq!(all.len(), 2, "503 is no delivery: {all:?}");
    let (head, notice) = &all[1];
    assert!(head.starts_with("POST /hooks/s3cret HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    for (field, value) in [
        ("event", Value::from("rollover")),
        ("from", stage.labels[0].as_str().into()),
        ("to", stage.labels[1].as_str().into()),
        ("reason", "register_failures".into()),
        ("failures", 3.into()),
        ("handsets", 1.into()),
        ("instance", "berlin".into()),
        ("page", format!("http://{}/", stage.holdline.admin()).into()),
    ] {
        assert_eq!(notice[field], value, "{field}: {notice:#}");
    }
    assert!(notice["cause"].as_str().is_some_and(|cause| cause.matches("refused").count() == 3), "{notice:#}");
    let log = stage.holdline.text();
    assert!(!log.contains("s3cret"), "the address's path is a secret: {log}");
}

#[tokio::test]
async fn notify_holds_nobody_up_while_a_receiver_is_slow() {
    let (listener, address) = listener().await;
    let got = receive(listener, &[0], None);
    let stage = Setup::new().with(&[&format!("--on-rollover=http://{address}/")]).start().await;
    roll_over(&stage).await;
    got.wait("a request", PATIENCE, |all| all.len() == 1).await.unwrap();
    // Its receiver does not answer; phones are served, and an operator moves them.
    stage.servers[0].behave("normal").await;
    registered(stage.phone("205").register().await);
    assert_eq!(stage.holdline.metrics().await.get(DELIVERED), 0);
}

#[tokio::test]
async fn notify_gives_up_at_once_where_the_receiver_does_not_want_it() {
    let (listener, address) = listener().await;
    let got = receive(listener, &[404], None);
    let stage = Setup::new().with(&[&format!("--on-rollover=http://{address}/")]).start().await;
    roll_over(&stage).await;
    stage.holdline.until(FAILED, 1).await;
    let line = stage.holdline.logged("a notification about a rollover was not delivered").await;
    assert_eq!((&line["tries"], got.read(Vec::len)), (&1.into(), 1), "{line}");
}

#[tokio::test]
async fn notify_verifies_a_receiver_behind_tls() {
    let authority = Authority::new("hooks authority");
    for (name, trusted) in [("localhost", true), ("elsewhere.example", false)] {
        let files = authority.sign("hooks", &[name]);
        let chain = CertificateDer::pem_file_iter(&files.cert).unwrap().map(Result::unwrap).collect();
        let config = tls::server(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap(), &[]).unwrap();
        let (listener, address) = listener().await;
        let got = receive(listener, &[200], Some(config));
        let setup =
            Setup::new().with(&[&format!("--on-rollover=https://localhost:{}/", address.port()), "--log-level=debug"]);
        // What the system's authorities are, for this one.
        let stage = setup.start_with(|command| _ = command.env("SSL_CERT_FILE", &authority.file)).await;
        roll_over(&stage).await;
        if trusted {
            stage.holdline.until(DELIVERED, 1).await;
        } else {
            let line = stage.holdline.logged("a notification about a rollover is tried again").await;
            assert!(line["error"].as_str().is_some_and(|error| error.contains("TLS")), "{line}");
        }
        assert_eq!(got.read(Vec::len), usize::from(trusted), "{name}");
    }
}

#[tokio::test]
async fn notify_runs_a_command_without_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notice");
    let path = file.display().to_string();
    // The last word would be two for a shell, and a comma parts nothing.
    let words = [
        "/bin/sh",
        "-c",
        "printf '%s\\n' \"$1\" >\"$0.new\"; cat >>\"$0.new\"; mv \"$0.new\" \"$0\"",
        &path,
        "a b, $HOME",
    ];
    let arguments: Vec<String> = words.iter().map(|word| format!("--on-rollover={word}")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let stage = Setup::new().with(&arguments).start().await;
    roll_over(&stage).await;
    let text = in_time("the command", until("its file", async || std::fs::read_to_string(&file).ok())).await;
    let (argument, notice) = text.split_once('\n').unwrap();
    assert_eq!(argument, "a b, $HOME");
    let notice: Value = serde_json::from_str(notice).unwrap();
    assert_eq!(notice["to"], stage.labels[1].as_str());
    stage.holdline.until(DELIVERED, 1).await;
}
