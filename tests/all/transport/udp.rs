//! Datagrams.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdline::flow::{Cause, ConnId, Flow, NetCommand, NetEvent, Side, Transport};
use holdline::transport::Transports;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{PATIENCE, Rig, has_ipv6, settings};

async fn peer(addr: &str) -> UdpSocket {
    UdpSocket::bind(addr).await.unwrap()
}

async fn read(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (length, from) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    (buffer, from)
}

#[tokio::test]
async fn a_wildcard_listener_knows_where_each_datagram_arrived_and_answers_from_there() {
    let mut addresses = vec![("0.0.0.0:0", "127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.77")];
    if has_ipv6() {
        addresses.push(("[::]:0", "[::1]:0", "::1"));
    }
    for (listen, from, to) in addresses {
        let mut rig = Rig::new(&settings(&[(Transport::Udp, listen)])).await;
        let bound = rig.bound(Side::Phone, Transport::Udp).clone();
        let phone = peer(from).await;
        let there = SocketAddr::new(to.parse().unwrap(), bound.local.port());
        phone.send_to(b"hello", there).await.unwrap();
        let (flow, bytes) = rig.received().await;
        assert_eq!(&bytes[..], b"hello");
        assert_eq!(flow, Flow::Udp { socket: bound.socket, local: there, remote: phone.local_addr().unwrap() });
        rig.send(flow, b"back");
        assert_eq!(read(&phone).await, (b"back".to_vec(), there));
    }
}

#[tokio::test]
async fn batches_keep_their_order_and_every_byte() {
    let mut rig = Rig::new(&settings(&[(Transport::Udp, "127.0.0.1:0"), (Transport::Udp, "0.0.0.0:0")])).await;
    let listeners = rig.transports.listeners()[..2].to_vec();
    for bound in listeners {
        let phone = peer("127.0.0.1:0").await;
        let there = SocketAddr::new([127, 0, 0, 1].into(), bound.local.port());
        let sent: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; usize::from(n) * 11]).collect();
        for bytes in &sent {
            phone.send_to(bytes, there).await.unwrap();
        }
        for bytes in &sent {
            let (flow, received) = rig.received().await;
            assert_eq!(received, bytes);
            rig.transports.perform(NetCommand::Send { flow, bytes: received });
        }
        rig.transports.flush();
        for bytes in &sent {
            assert_eq!(read(&phone).await, (bytes.clone(), there));
        }
    }
}

/// A full batch leaves the socket marked readable though it is empty; the wait after that must still be woken.
#[tokio::test]
async fn after_a_batch_that_was_exactly_full_the_next_datagram_still_wakes() {
    let mut rig = Rig::new(&settings(&[(Transport::Udp, "127.0.0.1:0")])).await;
    let there = rig.bound(Side::Phone, Transport::Udp).local;
    let phone = std::sync::Arc::new(peer("127.0.0.1:0").await);
    for length in [16, 32, 48, 64] {
        for _ in 0..length {
            phone.send_to(b"batch", there).await.unwrap();
        }
        for _ in 0..length {
            rig.received().await;
        }
        let later = phone.clone();
        // Runs only once the rig waits.
        tokio::spawn(async move { later.send_to(b"later", there).await.unwrap() });
        assert_eq!(rig.received().await.1, &b"later"[..], "after {length}");
    }
}

#[tokio::test]
async fn datagrams_larger_than_the_mtu_empty_ones_and_keep_alives_arrive_as_they_are() {
    let mut rig = Rig::new(&settings(&[(Transport::Udp, "0.0.0.0:0")])).await;
    let port = rig.bound(Side::Phone, Transport::Udp).local.port();
    let phone = peer("127.0.0.1:0").await;
    let longest = vec![b'x'; 65_507];
    for bytes in [&[][..], b"\r\n\r\n", &longest] {
        phone.send_to(bytes, ("127.0.0.1", port)).await.unwrap();
        let (flow, received) = rig.received().await;
        assert_eq!(received, bytes);
        rig.send(flow, bytes);
        assert_eq!(read(&phone).await.0, bytes);
    }
}

#[tokio::test]
async fn an_icmp_error_reaches_the_connected_socket_it_belongs_to_and_no_other() {
    let mut rig = Rig::new(&settings(&[])).await;
    let dead = peer("127.0.0.1:0").await;
    let gone = dead.local_addr().unwrap();
    drop(dead);
    let alive = peer("127.0.0.1:0").await;
    let other = rig.open(2, alive.local_addr().unwrap(), Transport::Udp);
    let refused = rig.open(4, gone, Transport::Udp);
    rig.opened(other).await;
    rig.opened(refused).await;
    for _ in 0..3 {
        rig.send(Flow::Conn(refused), b"anybody?");
        let (flow, cause, quoted) = rig
            .event(|e| match e {
                NetEvent::SendFailed { flow, cause, quoted } => Some((*flow, *cause, quoted.clone())),
                _ => None,
            })
            .await;
        assert_eq!((flow, cause), (Flow::Conn(refused), Cause::Refused));
        assert_eq!(quoted.as_deref(), Some(&b"anybody?"[..]), "what the error is about");
        rig.send(Flow::Conn(other), b"hello");
        let (bytes, from) = read(&alive).await;
        assert_eq!(bytes, b"hello");
        alive.send_to(b"answer", from).await.unwrap();
        assert_eq!(rig.received().await.0, Flow::Conn(other));
    }
    // To an unconnected socket, errors of whomever mean nothing.
    let bound = rig.bound(Side::Upstream, Transport::Udp).clone();
    rig.send(Flow::Udp { socket: bound.socket, local: bound.local, remote: gone }, b"anybody?");
    rig.send(Flow::Conn(other), b"last");
    assert_eq!(read(&alive).await.0, b"last");
    assert!(rig.events.is_empty(), "{:?}", rig.events);
}

#[tokio::test]
async fn every_upstream_socket_shares_one_port_and_gets_its_own_peers_packets() {
    for upstream in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut settings = settings(&[]);
        settings.upstream_bind.addr = upstream.parse().unwrap();
        let mut rig = Rig::new(&settings).await;
        let bound = rig.bound(Side::Upstream, Transport::Udp).clone();
        let here = SocketAddr::new([127, 0, 0, 1].into(), bound.local.port());
        let targets = [peer("127.0.0.1:0").await, peer("127.0.0.1:0").await, peer("127.0.0.1:0").await];
        let mut conns = Vec::new();
        for (n, target) in targets.iter().enumerate() {
            let conn = rig.open(2 * n as u64, target.local_addr().unwrap(), Transport::Udp);
            assert_eq!(rig.opened(conn).await, here, "never a wildcard");
            conns.push(conn);
        }
        for (conn, target) in conns.iter().zip(&targets) {
            rig.send(Flow::Conn(*conn), b"REGISTER");
            assert_eq!(read(target).await, (b"REGISTER".to_vec(), here));
        }
        for round in 0..20 {
            let stranger = peer("127.0.0.1:0").await;
            stranger.send_to(b"stranger", here).await.unwrap();
            let (flow, _) = rig.received().await;
            let remote = stranger.local_addr().unwrap();
            assert_eq!(flow, Flow::Udp { socket: bound.socket, local: here, remote }, "round {round}");
            rig.send(flow, b"answer");
            assert_eq!(read(&stranger).await, (b"answer".to_vec(), here));
            for (conn, target) in conns.iter().zip(&targets) {
                target.send_to(b"target", here).await.unwrap();
                assert_eq!(rig.received().await.0, Flow::Conn(*conn));
            }
        }
        // Closed: what the target still sends arrives on the unconnected socket.
        rig.perform(NetCommand::Close { conn: conns[0] });
        tokio::task::yield_now().await;
        targets[0].send_to(b"late", here).await.unwrap();
        let (flow, _) = rig.received().await;
        assert_eq!(flow, Flow::Udp { socket: bound.socket, local: here, remote: targets[0].local_addr().unwrap() });
    }
}

#[tokio::test]
async fn packets_of_others_that_fall_on_a_new_socket_before_it_is_connected_keep_their_source() {
    let mut rig = Rig::new(&settings(&[])).await;
    let bound = rig.bound(Side::Upstream, Transport::Udp).clone();
    let target = peer("127.0.0.1:0").await;
    // A flood while sockets come and go: all of it must be told as from the flooder.
    let flooder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = flooder.local_addr().unwrap();
    let here = bound.local;
    let over = Arc::new(AtomicBool::new(false));
    let until = over.clone();
    let flood = std::thread::spawn(move || {
        for n in 0..2000u32 {
            flooder.send_to(&n.to_be_bytes(), here).unwrap();
            if n % 16 == 0 {
                std::thread::yield_now();
            }
        }
        // Any one of them may fall on a socket that is closed before it is read.
        while !until.load(Ordering::Relaxed) {
            flooder.send_to(b"end", here).unwrap();
            std::thread::park_timeout(Duration::from_millis(1));
        }
    });
    let mut number = 0;
    let mut seen = HashSet::new();
    'all: loop {
        number += 2;
        let conn = rig.open(number, target.local_addr().unwrap(), Transport::Udp);
        timeout(PATIENCE, rig.transports.next(&mut rig.events)).await.unwrap();
        for event in rig.events.drain(..) {
            match event {
                NetEvent::Received { flow, bytes } => {
                    assert_eq!(flow, Flow::Udp { socket: bound.socket, local: here, remote: from });
                    if &bytes[..] == b"end" {
                        break 'all;
                    }
                    assert!(seen.insert(bytes), "no datagram twice");
                }
                NetEvent::Opened { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        rig.perform(NetCommand::Close { conn });
        tokio::task::yield_now().await;
    }
    over.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_listener_address_cause_and_remedy() {
    let taken = peer("127.0.0.1:0").await;
    let addr = taken.local_addr().unwrap();
    let text = addr.to_string();
    let metrics = holdline::metrics::Metrics::new();
    let error = Transports::bind(&settings(&[(Transport::Udp, &text)]), metrics.clone()).await.err().unwrap();
    let error = error.to_string();
    for part in ["udp listener", &text, "in use", "--listen"] {
        assert!(error.contains(part), "{part} in: {error}");
    }
    let mut other = settings(&[]);
    other.upstream_bind.addr = addr;
    let error = Transports::bind(&other, metrics.clone()).await.err().unwrap().to_string();
    assert!(error.contains("upstream socket") && error.contains("--upstream-bind"), "{error}");
    let error = Transports::bind(&settings(&[(Transport::Tcp, "192.0.2.1:0")]), metrics).await.err().unwrap();
    assert!(error.to_string().contains("no interface of this machine has the address 192.0.2.1"), "{error}");
}

#[tokio::test]
async fn a_second_holdline_does_not_share_the_upstream_port() {
    let rig = Rig::new(&settings(&[])).await;
    let mut second = settings(&[]);
    second.upstream_bind.addr = rig.bound(Side::Upstream, Transport::Udp).local;
    assert!(Transports::bind(&second, rig.metrics.clone()).await.is_err());
    // Not for TCP either, should only the TCP port be in the way.
    assert_eq!(rig.bound(Side::Upstream, Transport::Tcp).local, second.upstream_bind.addr);
}

#[tokio::test]
async fn an_upstream_bound_to_the_ipv4_wildcard_reaches_ipv6_targets_too() {
    if !has_ipv6() {
        return;
    }
    let mut settings = settings(&[]);
    settings.upstream_bind.addr = "0.0.0.0:0".parse().unwrap();
    let mut rig = Rig::new(&settings).await;
    let target = peer("[::1]:0").await;
    let conn = rig.open(2, target.local_addr().unwrap(), Transport::Udp);
    let local = rig.opened(conn).await;
    assert_eq!(local, SocketAddr::new("::1".parse().unwrap(), rig.bound(Side::Upstream, Transport::Udp).local.port()));
    rig.send(Flow::Conn(conn), b"hello");
    assert_eq!(read(&target).await, (b"hello".to_vec(), local));
    target.send_to(b"back", local).await.unwrap();
    assert_eq!(rig.received().await.0, Flow::Conn(conn));
}

#[tokio::test]
async fn a_target_of_the_other_family_is_unreachable_and_the_detail_says_why() {
    let mut rig = Rig::new(&settings(&[])).await;
    for (number, transport) in [(2, Transport::Udp), (4, Transport::Tcp)] {
        let conn = rig.open(number, "[::1]:5060".parse().unwrap(), transport);
        let (cause, detail) = rig
            .event(|e| match e {
                NetEvent::OpenFailed { conn: c, cause, detail } if *c == conn => Some((*cause, detail.clone())),
                _ => None,
            })
            .await;
        assert_eq!(cause, Cause::Unreachable);
        assert!(detail.contains("--upstream-bind"), "{detail}");
    }
}

#[tokio::test]
async fn sending_to_a_flow_that_is_gone_is_counted_and_harmless() {
    let mut rig = Rig::new(&settings(&[])).await;
    rig.send(Flow::Conn(ConnId::Dialled(49)), b"x");
    assert_eq!(rig.metrics.dropped(Side::Upstream, "no_flow").get(), 1);
}
