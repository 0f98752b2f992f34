//! Which system calls the UDP path should use: CPU nanoseconds of an echo server per datagram, loopback.
//!
//! `cargo run --release --example udp_syscalls`. quinn-udp (not here any more) cost as much as nix, and forbids fragmentation.
#![allow(missing_docs)]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket as Std};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use holdline::flow::{NetCommand, NetEvent, Transport};
use holdline::metrics::Metrics;
use holdline::transport::{Listen, Settings, Transports, UpstreamBind};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

const SIZE: usize = 700;
const BATCH: usize = 32;

#[derive(Clone, Copy, Debug)]
enum Way {
    Tokio,
    Recvmmsg,
    RecvmmsgSendmmsg,
    RecvmmsgPktinfo,
    Transports,
}

fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

async fn serve(socket: UdpSocket, way: Way, stop: Arc<AtomicBool>) -> (u64, u64, u64) {
    let mut buffers = vec![vec![0u8; 65_535]; BATCH];
    if matches!(way, Way::RecvmmsgPktinfo) {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).unwrap();
    }
    let cmsg = matches!(way, Way::RecvmmsgPktinfo).then(|| nix::cmsg_space!(nix::libc::in_pktinfo));
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, cmsg);
    let mut out_headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut got: Vec<(SocketAddr, bytes::Bytes, Option<nix::libc::in_pktinfo>)> = Vec::new();
    let (mut count, mut turns) = (0, 0);
    let begin = cpu();
    while !stop.load(Relaxed) {
        if tokio::time::timeout(Duration::from_millis(100), socket.readable()).await.is_err() {
            continue;
        }
        turns += 1;
        got.clear();
        match way {
            Way::Tokio => {
                while got.len() < BATCH {
                    match socket.try_recv_from(&mut buffers[0]) {
                        Ok((n, from)) => got.push((from, bytes::Bytes::copy_from_slice(&buffers[0][..n]), None)),
                        Err(_) => break,
                    }
                }
            }
            Way::Transports => unreachable!(),
            _ => {
                let _ = socket.try_io(Interest::READABLE, || {
                    let mut iovs: Vec<_> = buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
                    let all =
                        recvmmsg(socket.as_raw_fd(), &mut headers, iovs.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
                    for m in all {
                        let info = m.cmsgs().ok().and_then(|mut c| {
                            c.find_map(|c| match c {
                                ControlMessageOwned::Ipv4PacketInfo(i) => Some(i),
                                _ => None,
                            })
                        });
                        let a = m.address.unwrap();
                        let from = SocketAddr::from((a.ip(), a.port()));
                        let bytes = m.iovs().next().map(bytes::Bytes::copy_from_slice).unwrap_or_default();
                        got.push((from, bytes, info));
                    }
                    if got.len() < BATCH { Err(io::Error::from(io::ErrorKind::WouldBlock)) } else { Ok(()) }
                });
            }
        }
        count += got.len() as u64;
        match way {
            Way::Tokio | Way::Recvmmsg => {
                for (to, bytes, _) in &got {
                    let _ = socket.try_send_to(bytes, *to);
                }
            }
            Way::RecvmmsgPktinfo => {
                for (to, bytes, info) in &got {
                    let SocketAddr::V4(v4) = to else { continue };
                    let mut info = info.unwrap();
                    info.ipi_ifindex = 0;
                    let _ = sendmsg(
                        socket.as_raw_fd(),
                        &[IoSlice::new(bytes)],
                        &[ControlMessage::Ipv4PacketInfo(&info)],
                        MsgFlags::MSG_DONTWAIT,
                        Some(&SockaddrIn::from(*v4)),
                    );
                }
            }
            Way::RecvmmsgSendmmsg => {
                let slices: Vec<_> = got.iter().map(|(_, b, _)| [IoSlice::new(b)]).collect();
                let addrs: Vec<_> = got
                    .iter()
                    .map(|(a, _, _)| match a {
                        SocketAddr::V4(v4) => Some(SockaddrIn::from(*v4)),
                        SocketAddr::V6(_) => None,
                    })
                    .collect();
                let _ = sendmmsg(
                    socket.as_raw_fd(),
                    &mut out_headers,
                    slices.iter(),
                    addrs.as_slice(),
                    [],
                    MsgFlags::MSG_DONTWAIT,
                );
            }
            Way::Transports => {}
        }
    }
    (cpu() - begin, count, turns)
}

/// The product's own path, PKTINFO included.
async fn transports(addr: tokio::sync::oneshot::Sender<SocketAddr>) -> (u64, u64, u64) {
    let udp = |addr: &str| Listen { transport: Transport::Udp, addr: addr.parse().unwrap(), advertise: None };
    let upstream = UpstreamBind { addr: "127.0.0.1:0".parse().unwrap(), advertise: None };
    let settings = Settings::new(vec![udp("0.0.0.0:0")], upstream, Transport::Udp);
    let mut transports = Transports::bind(&settings, Metrics::new()).await.unwrap();
    addr.send(SocketAddr::from(([127, 0, 0, 1], transports.listeners()[0].local.port()))).unwrap();
    let mut events = Vec::new();
    let (mut count, mut turns) = (0, 0);
    let begin = cpu();
    loop {
        transports.next(&mut events).await;
        turns += 1;
        for event in events.drain(..) {
            let NetEvent::Received { flow, bytes } = event else { continue };
            if bytes.is_empty() {
                return (cpu() - begin, count, turns);
            }
            count += 1;
            transports.perform(NetCommand::Send { flow, bytes });
        }
        transports.flush();
    }
}

fn main() {
    for window in [1usize, 8, 64] {
        for way in [Way::Tokio, Way::Recvmmsg, Way::RecvmmsgSendmmsg, Way::RecvmmsgPktinfo, Way::Transports] {
            let server = Std::bind("127.0.0.1:0").unwrap();
            server.set_nonblocking(true).unwrap();
            let mut addr = server.local_addr().unwrap();
            let (tell, told) = tokio::sync::oneshot::channel();
            let stop = Arc::new(AtomicBool::new(false));
            let flag = stop.clone();
            let thread = std::thread::spawn(move || {
                let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                rt.block_on(async {
                    match way {
                        Way::Transports => transports(tell).await,
                        _ => serve(UdpSocket::from_std(server).unwrap(), way, flag).await,
                    }
                })
            });
            if matches!(way, Way::Transports) {
                addr = told.blocking_recv().unwrap();
            }
            let client = Std::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            client.connect(addr).unwrap();
            let (message, mut buffer) = ([b'x'; SIZE], [0u8; 2048]);
            for _ in 0..200_000 / if window == 1 { 4 } else { window } {
                for _ in 0..window {
                    client.send(&message).unwrap();
                }
                for _ in 0..window {
                    if client.recv(&mut buffer).is_err() {
                        break;
                    }
                }
            }
            stop.store(true, Relaxed);
            client.send(&[]).unwrap();
            let (cpu, count, turns) = thread.join().unwrap();
            println!(
                "window {window:2} {way:17?} {:5} ns CPU per echo, {:.1} datagrams a turn",
                cpu / count,
                count as f64 / turns as f64
            );
        }
    }
}
