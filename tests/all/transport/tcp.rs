//! Connections, framing and their limits.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{Cause, ConnId, Flow, NetCommand, NetEvent, Side, Transport};
use holdline::transport::{Settings, Transports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{PATIENCE, Rig, settings};

const MESSAGE: &[u8] = b"OPTIONS sip:pbx.example.com SIP/2.0\r\nCall-ID: a\r\nContent-Length: 4\r\n\r\nbody";

fn tcp() -> Settings {
    settings(&[(Transport::Tcp, "127.0.0.1:0")])
}

/// A phone's connection, and what Holdline calls it.
async fn phone(rig: &mut Rig) -> (TcpStream, ConnId) {
    let addr = rig.bound(Side::Phone, Transport::Tcp).local;
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let me = stream.local_addr().unwrap();
    let conn = rig
        .event(|e| match e {
            NetEvent::Accepted { conn, side: Side::Phone, transport: Transport::Tcp, local, remote, .. } => {
                assert_eq!((*local, *remote), (addr, me));
                Some(*conn)
            }
            _ => None,
        })
        .await;
    assert!(matches!(conn, ConnId::Accepted(_)), "{conn}");
    (stream, conn)
}

async fn closed(rig: &mut Rig, conn: ConnId) -> Cause {
    rig.event(|e| match e {
        NetEvent::Closed { conn: c, cause } if *c == conn => Some(*cause),
        _ => None,
    })
    .await
}

async fn failed(rig: &mut Rig, conn: ConnId) -> (Cause, String) {
    rig.event(|e| match e {
        NetEvent::OpenFailed { conn: c, cause, detail } if *c == conn => Some((*cause, detail.to_string())),
        NetEvent::Opened { conn: c, .. } if *c == conn => panic!("opened"),
        _ => None,
    })
    .await
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

/// Until the end of the stream, or a reset.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection stays open");
    bytes
}

#[tokio::test]
async fn a_message_split_at_every_byte_arrives_whole() {
    let mut rig = Rig::new(&tcp()).await;
    let (mut stream, conn) = phone(&mut rig).await;
    for at in 1..MESSAGE.len() {
        stream.write_all(&MESSAGE[..at]).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(&MESSAGE[at..]).await.unwrap();
        assert_eq!(rig.received().await, (Flow::Conn(conn), Bytes::from_static(MESSAGE)));
    }
    for byte in MESSAGE {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.received().await.1, MESSAGE);
}

#[tokio::test]
async fn several_messages_in_one_write_arrive_in_order_and_answers_go_back() {
    let mut rig = Rig::new(&tcp()).await;
    let (mut stream, conn) = phone(&mut rig).await;
    stream.write_all(&MESSAGE.repeat(200)).await.unwrap();
    for _ in 0..200 {
        assert_eq!(rig.received().await.1, MESSAGE);
    }
    for n in 0..200u8 {
        rig.transports.perform(NetCommand::Send { flow: Flow::Conn(conn), bytes: Bytes::from(vec![n; 100]) });
    }
    rig.transports.flush();
    let expected: Vec<u8> = (0..200u8).flat_map(|n| [n; 100]).collect();
    assert_eq!(read(&mut stream, expected.len()).await, expected);
}

#[tokio::test]
async fn a_ping_is_answered_here_and_told() {
    let mut rig = Rig::new(&tcp()).await;
    let (mut stream, conn) = phone(&mut rig).await;
    stream.write_all(b"\r\n\r\n").await.unwrap();
    assert_eq!(read(&mut stream, 2).await, b"\r\n");
    let told = |e: &NetEvent| matches!(e, NetEvent::KeepAlive { conn: c } if *c == conn).then_some(());
    rig.event(told).await;
    stream.write_all(&[b"\r\n", MESSAGE, b"\r\n\r\n", MESSAGE].concat()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(rig.received().await.1, MESSAGE);
        rig.event(told).await;
    }
}

#[tokio::test]
async fn an_unframed_stream_is_closed_after_the_cores_answer() {
    let mut rig = Rig::new(&tcp()).await;
    let (mut stream, conn) = phone(&mut rig).await;
    stream.write_all(b"OPTIONS sip:x SIP/2.0\r\nCall-ID: a\r\n\r\n").await.unwrap();
    let reason = rig
        .event(|e| match e {
            NetEvent::Unframed { conn: c, reason, bytes } if *c == conn => {
                assert!(bytes.starts_with(b"OPTIONS"));
                Some(*reason)
            }
            _ => None,
        })
        .await;
    assert_eq!(reason, "no_content_length");
    rig.send(Flow::Conn(conn), b"SIP/2.0 400 Missing Content-Length\r\n\r\n");
    assert_eq!(read_to_end(&mut stream).await, b"SIP/2.0 400 Missing Content-Length\r\n\r\n");
    assert_eq!(closed(&mut rig, conn).await, Cause::Reset);
    assert_eq!(rig.metrics.connection_errors(Side::Phone, Transport::Tcp, "framing").get(), 1);
}

#[tokio::test]
async fn half_a_message_and_then_nothing_is_cut_off() {
    let mut settings = tcp();
    settings.limits.message_timeout = Duration::from_millis(50);
    let mut rig = Rig::new(&settings).await;
    let (mut stream, conn) = phone(&mut rig).await;
    stream.write_all(&MESSAGE[..30]).await.unwrap();
    assert_eq!(closed(&mut rig, conn).await, Cause::Timeout);
    assert_eq!(read_to_end(&mut stream).await, b"");
    assert_eq!(rig.metrics.connection_errors(Side::Phone, Transport::Tcp, "idle").get(), 1);
}

#[tokio::test]
async fn a_slow_drip_does_not_lengthen_a_messages_time_and_silence_between_messages_is_free() {
    let mut settings = tcp();
    settings.limits.message_timeout = Duration::from_millis(200);
    let mut rig = Rig::new(&settings).await;
    let (_idle, _) = phone(&mut rig).await;
    let (mut stream, conn) = phone(&mut rig).await;
    let drip = tokio::spawn(async move {
        let mut turns = tokio::time::interval(Duration::from_millis(20));
        for byte in MESSAGE.iter().cycle() {
            turns.tick().await;
            if stream.write_all(&[*byte; 1]).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(closed(&mut rig, conn).await, Cause::Timeout);
    assert!(!rig.events.iter().any(|e| matches!(e, NetEvent::Closed { .. })), "the silent one stays");
    drip.abort();
}

#[tokio::test]
async fn beyond_the_connection_limit_one_more_is_closed_at_once_and_counted() {
    let mut settings = tcp();
    settings.limits.connections = 2;
    let mut rig = Rig::new(&settings).await;
    let (first, conn) = phone(&mut rig).await;
    let (_second, _) = phone(&mut rig).await;
    assert_eq!(rig.metrics.connections(Side::Phone, Transport::Tcp).get(), 2);
    let addr = rig.bound(Side::Phone, Transport::Tcp).local;
    let mut third = TcpStream::connect(addr).await.unwrap();
    assert_eq!(read_to_end(&mut third).await, b"");
    assert_eq!(rig.metrics.connection_errors(Side::Phone, Transport::Tcp, "limit").get(), 1);
    drop(first);
    assert_eq!(closed(&mut rig, conn).await, Cause::Reset);
    phone(&mut rig).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_when_its_queue_is_full() {
    let mut rig = Rig::new(&tcp()).await;
    let (stream, conn) = phone(&mut rig).await;
    let message = Bytes::from(vec![b'x'; 16 * 1024]);
    let mut written = 0;
    while !rig.events.iter().any(|e| matches!(e, NetEvent::Closed { .. })) {
        rig.perform(NetCommand::Send { flow: Flow::Conn(conn), bytes: message.clone() });
        written += message.len();
        assert!(written < 64 << 20, "there is no limit");
        // Lets the connection's task fill the socket's buffers.
        let _ = timeout(Duration::ZERO, rig.transports.next(&mut rig.events)).await;
    }
    assert_eq!(closed(&mut rig, conn).await, Cause::Timeout);
    assert_eq!(rig.metrics.connection_errors(Side::Phone, Transport::Tcp, "queue_full").get(), 1);
    drop(stream);
}

#[tokio::test]
async fn close_writes_what_is_queued_first_and_is_not_reported() {
    let mut rig = Rig::new(&tcp()).await;
    let (mut stream, conn) = phone(&mut rig).await;
    rig.send(Flow::Conn(conn), &vec![b'x'; 100_000]);
    rig.perform(NetCommand::Close { conn });
    assert_eq!(read_to_end(&mut stream).await.len(), 100_000);
    let (_other, _) = phone(&mut rig).await;
    assert!(rig.events.is_empty(), "{:?}", rig.events);
}

#[tokio::test]
async fn an_upstream_connection_leaves_from_the_bound_port_and_a_second_one_from_another() {
    for upstream in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut settings = settings(&[]);
        settings.upstream_bind.addr = upstream.parse().unwrap();
        settings.upstream_transport = Transport::Tcp;
        let mut rig = Rig::new(&settings).await;
        let port = rig.bound(Side::Upstream, Transport::Tcp).local.port();
        let pbx = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = pbx.local_addr().unwrap();
        let first = rig.open(2, addr, Transport::Tcp);
        let local = rig.opened(first).await;
        let (mut stream, from) = pbx.accept().await.unwrap();
        assert_eq!((local, from), (from, SocketAddr::new([127, 0, 0, 1].into(), port)));
        // The same target again, while the first connection lives: the port pair is taken.
        let second = rig.open(4, addr, Transport::Tcp);
        let local = rig.opened(second).await;
        let (_stream, from) = pbx.accept().await.unwrap();
        assert_eq!(local, from);
        assert_ne!(from.port(), port);

        stream.write_all(MESSAGE).await.unwrap();
        assert_eq!(rig.received().await, (Flow::Conn(first), Bytes::from_static(MESSAGE)));
        drop(stream);
        assert!(matches!(closed(&mut rig, first).await, Cause::Reset));
        assert_eq!(rig.metrics.connections(Side::Upstream, Transport::Tcp).get(), 1);
    }
}

#[tokio::test]
async fn an_upstream_that_dials_us_is_accepted_on_the_upstream_side() {
    let mut rig = Rig::new(&settings(&[])).await;
    let addr = rig.bound(Side::Upstream, Transport::Tcp).local;
    assert_eq!(addr, rig.bound(Side::Upstream, Transport::Udp).local, "one port for both");
    let mut pbx = TcpStream::connect(addr).await.unwrap();
    pbx.write_all(MESSAGE).await.unwrap();
    let side = rig.event(|e| if let NetEvent::Accepted { side, .. } = e { Some(*side) } else { None }).await;
    assert_eq!(side, Side::Upstream);
    assert_eq!(rig.received().await.1, MESSAGE);
}

#[tokio::test]
async fn connect_refused() {
    let mut rig = Rig::new(&settings(&[])).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let conn = rig.open(2, addr, Transport::Tcp);
    let (cause, detail) = failed(&mut rig, conn).await;
    assert_eq!(cause, Cause::Refused);
    assert!(detail.contains(&addr.to_string()) && detail.contains("sip-a.example.com"), "{detail}");
    assert_eq!(rig.metrics.connection_errors(Side::Upstream, Transport::Tcp, "refused").get(), 1);
}

#[tokio::test]
async fn connect_timeout_when_the_backlog_is_full() {
    let mut settings = settings(&[]);
    settings.connect_timeout = Duration::from_millis(200);
    let mut rig = Rig::new(&settings).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    // Nobody accepts: the first fills the queue, further ones are ignored by the kernel.
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(addr)).await {
        waiting.push(stream);
    }
    let conn = rig.open(2, addr, Transport::Tcp);
    let (cause, detail) = failed(&mut rig, conn).await;
    assert_eq!(cause, Cause::Timeout);
    assert!(detail.contains("200ms"), "{detail}");
}

#[tokio::test]
async fn a_connection_closed_while_it_is_being_opened_is_never_heard_of_again() {
    let mut rig = Rig::new(&settings(&[])).await;
    let pbx = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let conn = rig.open(2, pbx.local_addr().unwrap(), Transport::Tcp);
    rig.perform(NetCommand::Close { conn });
    let (mut stream, _) = pbx.accept().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, b"");
    let other = rig.open(4, pbx.local_addr().unwrap(), Transport::Tcp);
    rig.opened(other).await;
    assert!(rig.events.is_empty(), "{:?}", rig.events);
}

#[tokio::test]
async fn what_is_sent_before_the_connection_is_open_leaves_afterwards() {
    let mut rig = Rig::new(&settings(&[])).await;
    let pbx = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let conn = rig.open(2, pbx.local_addr().unwrap(), Transport::Tcp);
    rig.send(Flow::Conn(conn), MESSAGE);
    let (mut stream, _) = pbx.accept().await.unwrap();
    assert_eq!(read(&mut stream, MESSAGE.len()).await, MESSAGE);
}

#[tokio::test]
async fn a_flood_on_one_connection_leaves_the_others_their_turn() {
    let mut rig = Rig::new(&tcp()).await;
    let (mut loud, _) = phone(&mut rig).await;
    let (mut quiet, conn) = phone(&mut rig).await;
    let flood = tokio::spawn(async move { while loud.write_all(&MESSAGE.repeat(100)).await.is_ok() {} });
    rig.received().await;
    quiet.write_all(MESSAGE).await.unwrap();
    let mut others = 0;
    while rig.received().await.0 != Flow::Conn(conn) {
        others += 1;
        assert!(others < 100_000, "starved");
    }
    flood.abort();
}

#[tokio::test]
async fn a_listener_in_use_is_an_error() {
    let rig = Rig::new(&tcp()).await;
    let addr = rig.bound(Side::Phone, Transport::Tcp).local.to_string();
    let error = Transports::bind(&settings(&[(Transport::Tcp, &addr)]), rig.metrics.clone()).await.err().unwrap();
    assert!(error.to_string().starts_with(&format!("cannot bind the tcp listener {addr}")), "{error}");
}
