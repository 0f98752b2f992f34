//! What an untrusted peer can take of the transports: nothing that lasts, nothing that shuts others out.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{Cause, Flow, NetEvent, Side, Transport};
use holdline::metrics::Handshake;
use holdline::transport::{Settings, TlsSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::certificates::Authority;
use super::{PATIENCE, Rig, settings};

const MESSAGE: &[u8] = b"OPTIONS sip:pbx.example.com SIP/2.0\r\nCall-ID: a\r\nContent-Length: 0\r\n\r\n";

/// A connection from 127.0.0.`source`.
async fn connect_from(source: u8, addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, source], 0))).unwrap();
    timeout(PATIENCE, socket.connect(addr)).await.unwrap().unwrap()
}

fn tls() -> (Authority, Settings) {
    let ca = Authority::new("ca");
    let files = ca.sign("holdline", &["holdline.example.com"]);
    let tls = TlsSettings { server_cert: Some(files.cert), server_key: Some(files.key), ..TlsSettings::default() };
    (ca, Settings { tls, ..settings(&[(Transport::Tls, "127.0.0.1:0")]) })
}

/// Whether the peer ends the connection within this time, having written nothing.
async fn ends(stream: &mut TcpStream, within: Duration) -> bool {
    let mut bytes = Vec::new();
    match timeout(within, stream.read_to_end(&mut bytes)).await {
        Ok(_) => bytes.is_empty(),
        Err(_) => false,
    }
}

/// Lets the transports run until this is over.
async fn while_running<T>(rig: &mut Rig, story: impl Future<Output = T>) -> T {
    let Rig { transports, events, .. } = rig;
    let mut story = std::pin::pin!(story);
    loop {
        tokio::select! {
            result = &mut story => return result,
            () = transports.next(events) => {}
        }
    }
}

#[tokio::test]
async fn a_peer_outside_allow_is_closed_before_its_handshake_begins_and_counted() {
    let (_ca, mut settings) = tls();
    settings.allow = vec!["127.0.0.2/32".parse().unwrap()];
    let mut rig = Rig::new(&settings).await;
    let addr = rig.bound(Side::Phone, Transport::Tls).local;
    let mut refused = connect_from(3, addr).await;
    let closed = while_running(&mut rig, ends(&mut refused, PATIENCE)).await;
    assert!(closed, "no handshake, no alert: nothing");
    assert_eq!(rig.metrics.dropped(Side::Phone, "not_allowed").get(), 1);
    let handshakes: u64 =
        Handshake::ALL.iter().map(|outcome| rig.metrics.handshakes(Side::Phone, *outcome).get()).sum();
    assert_eq!((handshakes, rig.events.len()), (0, 0));

    rig.transports.set_bounds(Duration::from_secs(3), 100, &["127.0.0.3/32".parse().unwrap()]);
    let mut admitted = connect_from(3, addr).await;
    let closed = while_running(&mut rig, ends(&mut admitted, Duration::from_millis(200))).await;
    assert!(!closed, "the list is read for every connection");
}

#[tokio::test]
async fn an_accepted_connection_without_a_message_is_closed_and_one_with_a_message_is_not() {
    let mut settings = settings(&[(Transport::Tcp, "127.0.0.1:0")]);
    settings.limits.silent_timeout = Duration::from_millis(300);
    let mut rig = Rig::new(&settings).await;
    let addr = rig.bound(Side::Phone, Transport::Tcp).local;
    let mut silent = connect_from(2, addr).await;
    let mut pinging = connect_from(3, addr).await;
    let mut speaking = connect_from(4, addr).await;
    speaking.write_all(MESSAGE).await.unwrap();
    let begun = Instant::now();
    let story = async {
        pinging.write_all(b"\r\n\r\n").await.unwrap();
        assert!(ends(&mut silent, PATIENCE).await);
        let mut pong = Vec::new();
        timeout(PATIENCE, pinging.read_to_end(&mut pong)).await.expect("a keep-alive is no message").unwrap();
        assert_eq!(pong, b"\r\n");
        assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
        assert!(!ends(&mut speaking, Duration::from_millis(500)).await, "it has spoken, and may be silent now");
    };
    while_running(&mut rig, story).await;
    let closed = rig.events.iter().filter(|event| matches!(event, NetEvent::Closed { cause: Cause::Timeout, .. }));
    assert_eq!(closed.count(), 2);
    assert_eq!(rig.metrics.connection_errors(Side::Phone, Transport::Tcp, "silent").get(), 2);
}

#[tokio::test]
async fn one_source_that_opens_handshakes_and_leaves_them_keeps_nobody_else_out() {
    let (ca, mut settings) = tls();
    settings.limits.handshakes = 64;
    let mut rig = Rig::new(&settings).await;
    let addr = rig.bound(Side::Phone, Transport::Tls).local;
    let story = async {
        let mut half_open = Vec::new();
        for _ in 0..200 {
            half_open.push(connect_from(2, addr).await);
        }
        let begun = Instant::now();
        for source in 3..11 {
            let stream = connect_from(source, addr).await;
            super::tls::shake_hands(&ca, stream).await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let mut still = 0;
        for stream in &mut half_open {
            still += usize::from(!ends(stream, Duration::from_millis(1)).await);
        }
        still
    };
    let still = while_running(&mut rig, story).await;
    assert_eq!(still, 32, "half of them all, and no more");
    assert_eq!(rig.metrics.connection_errors(Side::Phone, Transport::Tls, "source_limit").get(), 168);
    assert_eq!(rig.metrics.handshakes(Side::Phone, Handshake::Ok).get(), 8);
}

#[tokio::test]
async fn half_messages_together_stay_within_their_budget_and_the_largest_goes_first() {
    const BUDGET: usize = 2 << 20;
    let mut settings = settings(&[(Transport::Tcp, "127.0.0.1:0")]);
    settings.limits.held_bytes = BUDGET;
    settings.limits.message_timeout = PATIENCE * 6;
    let mut rig = Rig::new(&settings).await;
    let addr = rig.bound(Side::Phone, Transport::Tcp).local;
    let mut modest = connect_from(3, addr).await;
    modest.write_all(&MESSAGE[..60]).await.unwrap();
    let half = [b"OPTIONS sip:x SIP/2.0\r\nX: ".as_slice(), &vec![b'a'; 60_000]].concat();
    let mut open = Vec::new();
    let mut most = 0;
    for _ in 0..200 {
        let mut stream = connect_from(2, addr).await;
        while_running(&mut rig, async { timeout(PATIENCE, stream.write_all(&half)).await.unwrap().unwrap() }).await;
        most = most.max(rig.transports.buffered_bytes());
        open.push(stream);
    }
    // What was written last is read by now, or will be: the tasks run on.
    let mut still = 0;
    for stream in &mut open {
        still += usize::from(!while_running(&mut rig, ends(stream, Duration::from_millis(5))).await);
    }
    assert!(most <= BUDGET && rig.transports.buffered_bytes() <= BUDGET, "{most}");
    assert!(most > BUDGET / 2, "{most}");
    assert!((10..=35).contains(&still), "{still} of 200 are left");
    assert_eq!(rig.metrics.connection_errors(Side::Phone, Transport::Tcp, "memory").get(), 200 - still as u64);
    modest.write_all(&MESSAGE[60..]).await.unwrap();
    assert_eq!(rig.received().await.1, MESSAGE, "who holds little is left alone");
    drop(open);
    let begun = Instant::now();
    while rig.transports.buffered_bytes() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} bytes are never given back", rig.transports.buffered_bytes());
        while_running(&mut rig, tokio::time::sleep(Duration::from_millis(5))).await;
    }
}

/// An ICMP "port unreachable" that quotes a datagram from one address to another; RFC 792, with the checksums it needs.
fn port_unreachable(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else { panic!("IPv4 only") };
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(source.octets());
    ip.extend(destination.octets());
    let total = 28 + payload.len() as u16;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
    icmp.extend(ip);
    icmp.extend(from.port().to_be_bytes());
    icmp.extend(to.port().to_be_bytes());
    icmp.extend((total - 20).to_be_bytes());
    icmp.extend([0, 0]);
    icmp.extend(payload);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    icmp
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The kernel takes a forged ICMP error whose addresses and ports are right. What it quotes is what the core can tell it by.
#[tokio::test]
async fn a_forged_icmp_error_shows_what_it_quotes_and_stops_no_datagram() {
    let Ok(raw) = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::ICMPV4))
    else {
        println!("not run: needs a raw socket (CAP_NET_RAW)");
        return;
    };
    let mut rig = Rig::new(&settings(&[])).await;
    let target = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = target.local_addr().unwrap();
    let conn = rig.open(2, to, Transport::Udp);
    let from = rig.opened(conn).await;
    let forge = |payload: &[u8]| {
        raw.send_to(&port_unreachable(from, to, payload), &SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    };
    for (payload, expected) in [(&b"REGISTER forged"[..], Some(Bytes::from_static(b"REGISTER forged"))), (b"", None)] {
        forge(payload);
        let (flow, cause, quoted) = rig
            .event(|event| match event {
                NetEvent::SendFailed { flow, cause, quoted } => Some((*flow, *cause, quoted.clone())),
                _ => None,
            })
            .await;
        assert_eq!((flow, cause, quoted), (Flow::Conn(conn), Cause::Refused, expected));
    }
    // Each send first meets the error of a forged one.
    for n in 0..50u8 {
        forge(b"REGISTER forged");
        forge(b"");
        rig.send(Flow::Conn(conn), &[n; 10]);
        let mut bytes = [0; 64];
        let (length, _) = timeout(PATIENCE, target.recv_from(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(bytes[..length], [n; 10]);
    }
}
