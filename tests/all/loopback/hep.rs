//! Copies of messages in HEP3: to sngrep, and to receivers of our own that decode them by the specification.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use holdline::agents::{Watched, tls};
use holdline::flow::Transport;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::stage::{Setup, Stage, registered};
use crate::support::installed::installed;
use crate::support::ports::free_port;
use crate::support::process::{Process, Signal};
use crate::support::wait::{PATIENCE, until};
use crate::transport::certificates::Authority;

/// A packet's chunks by their type.
type Chunks = BTreeMap<u16, Vec<u8>>;

/// Decodes one packet by the specification; what follows it is handed back.
fn decode(bytes: &[u8]) -> Option<(Chunks, &[u8])> {
    let number = |at: usize| bytes.get(at..at + 2).map(|two| usize::from(two[0]) << 8 | usize::from(two[1]));
    let total = number(4)?;
    if bytes.len() < total {
        return None;
    }
    assert_eq!(&bytes[..4], b"HEP3");
    let (mut chunks, mut at) = (Chunks::new(), 6);
    while at < total {
        assert_eq!(number(at), Some(0), "the vendor");
        let (kind, length) = (number(at + 2).unwrap(), number(at + 4).unwrap());
        assert!(length >= 6 && at + length <= total, "chunk {kind} of {length} bytes");
        assert!(chunks.insert(kind as u16, bytes[at + 6..at + length].to_vec()).is_none(), "chunk {kind} twice");
        at += length;
    }
    assert_eq!(at, total, "the chunks fill it");
    Some((chunks, &bytes[total..]))
}

fn text(chunks: &Chunks, kind: u16) -> String {
    String::from_utf8_lossy(&chunks[&kind]).into_owned()
}

/// Source and destination.
fn addresses(chunks: &Chunks) -> [SocketAddr; 2] {
    [(3, 7), (4, 8)].map(|(address, port)| {
        let address: [u8; 4] = chunks[&address][..].try_into().unwrap();
        let port: [u8; 2] = chunks[&port][..].try_into().unwrap();
        SocketAddr::from((Ipv4Addr::from(address), u16::from_be_bytes(port)))
    })
}

/// First word and method of the message in a packet.
fn message(chunks: &Chunks) -> (String, String) {
    let text = text(chunks, 15);
    let first = text.split(' ').next().unwrap_or_default().to_owned();
    let cseq = text.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or_default();
    (first, cseq.split(' ').next_back().unwrap_or_default().to_owned())
}

/// Collects what a connection brings.
async fn collect(mut stream: impl AsyncRead + Unpin, into: Watched<Vec<Chunks>>) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        while let Some((chunks, rest)) = decode(&bytes) {
            bytes = rest.to_vec();
            into.update(|all| all.push(chunks));
        }
    }
}

async fn received(packets: &Watched<Vec<Chunks>>, many: usize) -> Vec<Chunks> {
    packets.wait("packets", PATIENCE, |all| all.len() >= many).await.unwrap();
    packets.read(Clone::clone)
}

async fn udp() -> (SocketAddr, Watched<Vec<Chunks>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, packets) = (socket.local_addr().unwrap(), Watched::new(Vec::new()));
    let into = packets.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(length) = socket.recv(&mut buffer).await {
            let (chunks, rest) = decode(&buffer[..length]).expect("a whole packet");
            assert!(rest.is_empty(), "one packet a datagram");
            into.update(|all| all.push(chunks));
        }
    });
    (address, packets)
}

#[tokio::test]
async fn hep_has_both_legs_of_a_registration_with_one_correlation_id_and_no_secret() {
    let (address, packets) = udp().await;
    let setup = Setup::tcp().with(&[&format!("--hep=udp://{address}"), "--hep-capture-id=77"]);
    let stage = setup.start().await;
    let phone = stage.phone("204");
    registered(phone.register().await);
    let all = received(&packets, 8).await;
    let calls: BTreeSet<String> = all.iter().map(|chunks| text(chunks, 17)).collect();
    assert_eq!(calls.len(), 1, "both legs of a call have one: {calls:?}");
    for chunks in &all {
        assert!(text(chunks, 15).contains(&format!("Call-ID: {}\r\n", text(chunks, 17))));
        assert_eq!((&chunks[&1][..], &chunks[&11][..], &chunks[&12][..]), (&[2][..], &[1][..], &[0, 0, 0, 77][..]));
        assert_eq!((chunks[&9].len(), chunks[&10].len()), (4, 4));
    }
    let (handset, ours) = (phone.local().await.unwrap(), stage.holdline.socket("phone", Transport::Udp));
    let legs: Vec<(u8, [SocketAddr; 2], String)> =
        all.iter().map(|chunks| (chunks[&2][0], addresses(chunks), message(chunks).0)).collect();
    assert_eq!(legs[0], (17, [handset, ours], "REGISTER".to_owned()));
    assert_eq!((legs[1].0, legs[1].1[1].port(), &*legs[1].2), (6, stage.servers[0].port, "REGISTER"));
    assert_eq!((legs[2].0, legs[2].1[0].port(), &*legs[2].2), (6, stage.servers[0].port, "SIP/2.0"));
    assert_eq!(legs[3], (17, [ours, handset], "SIP/2.0".to_owned()));
    let digest = stage.servers[0].report().await.digests.pop().unwrap();
    assert!(all.iter().all(|chunks| !text(chunks, 15).contains(&digest)), "its digest is masked");
    stage.holdline.until("hep_packets_total{outcome=\"sent\"}", 8).await;
}

#[tokio::test]
async fn hep_sends_the_wanted_methods_over_tcp_and_over_verified_tls() {
    let authority = Authority::new("homer authority");
    let files = authority.sign("homer", &["localhost"]);
    let chain = CertificateDer::pem_file_iter(&files.cert).unwrap().map(Result::unwrap).collect();
    let config = tls::server(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap(), &[]).unwrap();
    for scheme in ["tcp", "tls"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, packets) = (listener.local_addr().unwrap().port(), Watched::new(Vec::new()));
        let (into, config) = (packets.clone(), config.clone());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            match scheme {
                "tcp" => collect(stream, into).await,
                _ => collect(TlsAcceptor::from(config).accept(stream).await.unwrap(), into).await,
            }
        });
        let setup = Setup::new().with(&[&format!("--hep={scheme}://localhost:{port}"), "--hep-methods=OPTIONS,INFO"]);
        let stage = setup.start_with(|command| _ = command.env("SSL_CERT_FILE", &authority.file)).await;
        let phone = stage.phone("204");
        registered(phone.register().await);
        assert_eq!(stage.servers[0].send("OPTIONS", "204@pbx.example").await, 200);
        let all: Vec<_> = received(&packets, 4).await.iter().map(message).collect();
        let (request, answer) = (("OPTIONS", "OPTIONS"), ("SIP/2.0", "OPTIONS"));
        let all: Vec<(&str, &str)> = all.iter().map(|(first, method)| (&**first, &**method)).collect();
        assert_eq!(all, [request, request, answer, answer], "{scheme}");
    }
}

#[tokio::test]
async fn hep_has_nothing_of_those_who_may_not_talk_to_holdline() {
    let (address, packets) = udp().await;
    let stage = Setup::new().with(&[&format!("--hep=udp://{address}"), "--allow=127.0.0.2"]).start().await;
    let ours = stage.holdline.socket("phone", Transport::Udp);
    for (host, name) in [("127.0.0.1", "outsider"), ("127.0.0.2", "insider")] {
        let socket = UdpSocket::bind((host, 0)).await.unwrap();
        let request = format!(
            "OPTIONS sip:{ours} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{name};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{name}@pbx.example>;tag=1\r\nTo: <sip:{ours}>\r\nCall-ID: {name}\r\nCSeq: 1 OPTIONS\r\n\r\n",
            socket.local_addr().unwrap()
        );
        socket.send_to(request.as_bytes(), ours).await.unwrap();
    }
    let calls: Vec<String> = received(&packets, 2).await.iter().map(|chunks| text(chunks, 17)).collect();
    assert_eq!(calls, ["insider", "insider"]);
}

#[tokio::test]
async fn hep_that_nobody_receives_is_dropped_and_counted_and_delays_nothing() {
    // One port where nobody is, and one where somebody accepts and never reads.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for receiver in [format!("tcp://127.0.0.1:{}", free_port()), format!("tls://{}", listener.local_addr().unwrap())] {
        let stage = Setup::new().with(&[&format!("--hep={receiver}")]).start().await;
        registered(stage.phone("204").register().await);
        stage.holdline.logged("nothing can be sent to the HEP receiver").await;
        registered(stage.phone("205").register().await);
        until("what was dropped", async || {
            let dropped = stage.holdline.metrics().await.get("hep_packets_total{outcome=\"dropped\"}");
            (dropped >= 8).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn hep_is_received_by_sngrep() {
    let test = "loopback::hep::hep_is_received_by_sngrep";
    if !installed(test, &["sngrep", "tshark"]) {
        return;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let file = folder.path().join("out.pcap");
    let arguments = ["-N", "-L", &format!("udp:127.0.0.1:{port}"), "-O", &file.display().to_string()];
    let mut sngrep = Process::start(folder, "sngrep", &arguments.map(str::to_owned)).unwrap();
    until("sngrep's socket", async || {
        let bound = format!(":{port:04X} ");
        std::fs::read_to_string("/proc/net/udp").unwrap().contains(&bound).then_some(())
    })
    .await;
    let stage: Stage = Setup::new().with(&[&format!("--hep=udp://127.0.0.1:{port}")]).start().await;
    registered(stage.phone("204").register().await);
    stage.holdline.until("hep_packets_total{outcome=\"sent\"}", 8).await;
    until("a dialog in sngrep", async || {
        assert!(sngrep.ended().is_none(), "{}", sngrep.output());
        let size = std::fs::metadata(sngrep.file("out.pcap")).map_or(0, |file| file.len());
        (size > 3000 || sngrep.output().contains("Dialog count: 1")).then_some(())
    })
    .await;
    sngrep.signal(Signal::Interrupt);
    until("sngrep's end", async || sngrep.ended()).await;
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(sngrep.file("out.pcap")).args(["-Y", "sip", "-T", "fields", "-e", "sip.CSeq.method"]);
    let output = tshark.env("HOME", sngrep.folder()).stdin(Stdio::null()).output().unwrap();
    let read = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(read.lines().filter(|line| *line == "REGISTER").count(), 8, "{read}\n{}", sngrep.output());
}
