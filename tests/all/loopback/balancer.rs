//! Behind a load balancer that says whose connection it passes on: HAProxy, with both versions of the PROXY protocol.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use holdline::agents::phone::{self, Phone};
use holdline::flow::Transport;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::stage::{Setup, Stage, registered};
use crate::support::installed::{found, installed};
use crate::support::wait::{PATIENCE, until};

/// HAProxy in front of Holdline's TCP listener, killed when the test ends.
struct Balancer {
    _child: Child,
    at: SocketAddr,
}

impl Balancer {
    /// `send`: the option of HAProxy's `server` line.
    async fn start(folder: &Path, to: SocketAddr, send: &str) -> Balancer {
        // A port that was free a moment ago; nobody else here asks for this one.
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = folder.join("haproxy.cfg");
        let text = format!(
            "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             listen sip\n  bind {at}\n  server holdline {to} {send}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(found("haproxy").unwrap());
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        // There is nothing else to wait for: it says nothing.
        until("HAProxy listens", async || TcpStream::connect(at).await.ok()).await;
        Balancer { _child: child, at }
    }
}

/// Where `holdline phones` says that this extension is.
async fn address_of(folder: &Path, extension: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdline"));
    command.args(["phones", "--json", "--state-dir"]).arg(folder).arg(extension).env_clear();
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    said["phones"][0]["address"].as_str().unwrap().to_owned()
}

async fn start(folder: &Path, proxies: &str) -> Stage {
    Setup::new().with(&[&format!("--state-dir={}", folder.display()), proxies]).start().await
}

/// Everything until the other side closes.
async fn answer(stage: &Stage, said: &[u8]) -> String {
    let mut stream = TcpStream::connect(stage.holdline.socket("phone", Transport::Tcp)).await.unwrap();
    stream.write_all(said).await.unwrap();
    let mut answer = Vec::new();
    // A reset says the same as an end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_handset_behind_haproxy_is_known_by_its_own_address_with_either_version() {
    const TEST: &str = "loopback::balancer::a_handset_behind_haproxy_is_known_by_its_own_address_with_either_version";
    if !installed(TEST, &["haproxy"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let stage = start(folder.path(), "--proxy-protocol=127.0.0.1").await;
    for (extension, send) in [("101", "send-proxy"), ("102", "send-proxy-v2")] {
        let balancer = Balancer::start(folder.path(), stage.holdline.socket("phone", Transport::Tcp), send).await;
        let options = phone::Options::new(extension, balancer.at);
        let handset = Phone::start(phone::Options { transport: Transport::Tcp, ..options }).unwrap();
        registered(handset.register().await);
        let own = handset.local().await.unwrap().to_string();
        assert_eq!(address_of(folder.path(), extension).await, own, "{send}");
    }
}

#[tokio::test]
async fn a_load_balancer_that_must_say_whose_connection_it_is_and_does_not_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let stage = start(folder.path(), "--proxy-protocol=127.0.0.0/8").await;
    assert_eq!(answer(&stage, b"OPTIONS sip:pbx.example SIP/2.0\r\n").await, "");
    let line = stage.holdline.logged("a load balancer's connection is closed").await;
    assert_eq!((&line["level"], &line["source"]), (&"WARN".into(), &"127.0.0.1".into()), "{line}");
    assert!(line["message"].as_str().unwrap().contains("no PROXY header"), "{line}");
    let metrics = stage.holdline.metrics().await;
    assert_eq!(metrics.get("connection_errors_total{reason=\"proxy_protocol\",side=\"phone\",transport=\"tcp\"}"), 1);
}

/// The load balancer itself is not in `allow`, and need not be.
#[tokio::test]
async fn allow_judges_whom_the_header_names_and_not_the_load_balancer() {
    let stage = Setup::new().with(&["--proxy-protocol=127.0.0.1", "--allow=192.0.2.0/24"]).start().await;
    let request = "OPTIONS sip:200@pbx.example SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.7:49152;branch=z9hG4bKproxied\r\nMax-Forwards: 70\r\n\
                   From: <sip:100@pbx.example>;tag=1\r\nTo: <sip:200@pbx.example>\r\nCall-ID: proxied\r\nCSeq: 1 OPTIONS\r\n\
                   Content-Length: 0\r\n\r\n";
    let refused = format!("PROXY TCP4 198.51.100.7 192.0.2.1 49152 5060\r\n{request}");
    assert_eq!(answer(&stage, refused.as_bytes()).await, "");
    let line = stage.holdline.logged("not answered, it is not in `allow`").await;
    assert_eq!(line["source"], "198.51.100.7", "{line}");

    let mut stream = TcpStream::connect(stage.holdline.socket("phone", Transport::Tcp)).await.unwrap();
    let allowed = format!("PROXY TCP4 192.0.2.7 192.0.2.1 49152 5060\r\n{request}");
    stream.write_all(allowed.as_bytes()).await.unwrap();
    let mut begin = [0; 8];
    timeout(PATIENCE, stream.read_exact(&mut begin)).await.expect("an answer").unwrap();
    assert_eq!(&begin, b"SIP/2.0 ");
}

/// The first line of version 1 would make the REGISTER behind it one broken message.
#[tokio::test]
async fn a_header_that_nobody_expects_is_told_in_the_log_and_swallows_nothing() {
    let stage = Setup::new().start().await;
    let headers: [&[u8]; 2] = [
        b"PROXY TCP4 10.1.2.3 10.0.0.1 4000 5060\r\nREGISTER sip:pbx.example SIP/2.0\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x0a\0\0\x01\x0f\xa0\x13\xc4",
    ];
    for header in headers {
        assert_eq!(answer(&stage, header).await, "");
    }
    let line = stage.holdline.logged("a connection begins with a PROXY header and is closed").await;
    assert_eq!((&line["level"], &line["source"]), (&"WARN".into(), &"127.0.0.1".into()), "{line}");
    assert!(line["message"].as_str().unwrap().contains("`proxy_protocol`"), "{line}");
    let metrics = stage.holdline.metrics().await;
    assert_eq!(metrics.get("connection_errors_total{reason=\"proxy_protocol\",side=\"phone\",transport=\"tcp\"}"), 2);
}
