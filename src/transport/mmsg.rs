//! Many datagrams with one system call: `recvmmsg` and `sendmmsg` through nix's safe face.
//!
//! Why these: `cargo run --release --example udp_syscalls` compares the candidates. The scratch space belongs to the thread:
//! the headers hold raw pointers, and one set serves every socket.

use std::array;
use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use bytes::Bytes;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg,
    sendmmsg,
};

/// Datagrams in one system call.
pub(super) const BATCH: usize = 32;
/// Room for the longest datagram; no power of two, so that the buffers do not compete for the same cache lines.
const STRIDE: usize = 65_536 + 14 * 64;

/// One datagram as received.
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    /// The address it was sent to, on sockets that report it.
    pub(super) to: Option<IpAddr>,
    pub(super) bytes: Bytes,
}

/// One datagram to send. `from` is set on wildcard sockets, `to` is not on connected ones.
pub(super) struct Outgoing {
    pub(super) to: Option<SocketAddr>,
    pub(super) from: Option<IpAddr>,
    pub(super) bytes: Bytes,
}

struct Scratch {
    buffers: Vec<u8>,
    v4: Headers<SockaddrIn>,
    v6: Headers<SockaddrIn6>,
}

/// With and without room for the packet information: the kernel shortens what it does not use and nobody lengthens it again.
struct Headers<A> {
    receive: MultiHeaders<A>,
    receive_info: MultiHeaders<A>,
    send: MultiHeaders<A>,
    send_info: MultiHeaders<A>,
}

impl<A: SockaddrLike + Copy> Headers<A> {
    fn new(space: &[u8]) -> Self {
        let info = || Some(Vec::with_capacity(space.len()));
        Self {
            receive: MultiHeaders::preallocate(BATCH, None),
            receive_info: MultiHeaders::preallocate(BATCH, info()),
            send: MultiHeaders::preallocate(BATCH, None),
            send_info: MultiHeaders::preallocate(BATCH, info()),
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        buffers: vec![0; STRIDE * BATCH],
        v4: Headers::new(&[0; SPACE_V4]),
        v6: Headers::new(&[0; SPACE_V6]),
    });
}

/// `CMSG_SPACE` of `in_pktinfo` and `in6_pktinfo`: a 16-byte header, the structure, padded to 8.
const SPACE_V4: usize = 16 + (size_of::<libc::in_pktinfo>()).next_multiple_of(8);
const SPACE_V6: usize = 16 + (size_of::<libc::in6_pktinfo>()).next_multiple_of(8);

/// Receives up to `limit` datagrams without waiting and hands each to `sink`. Returns how many; fewer than asked means that the
/// socket is empty now.
pub(super) fn receive(
    socket: &impl AsRawFd,
    v6: bool,
    info: bool,
    limit: usize,
    sink: impl FnMut(Datagram),
) -> io::Result<usize> {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { buffers, v4: four, v6: six } = scratch;
        if v6 {
            receive_with(socket, if info { &mut six.receive_info } else { &mut six.receive }, buffers, limit, sink)
        } else {
            receive_with(socket, if info { &mut four.receive_info } else { &mut four.receive }, buffers, limit, sink)
        }
    })
}

fn receive_with<A: Address>(
    socket: &impl AsRawFd,
    headers: &mut MultiHeaders<A>,
    buffers: &mut [u8],
    limit: usize,
    mut sink: impl FnMut(Datagram),
) -> io::Result<usize> {
    let mut rooms = buffers.chunks_mut(STRIDE);
    let mut slices: [[IoSliceMut; 1]; BATCH] = array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
    let limit = limit.min(BATCH);
    let received = recvmmsg(socket.as_raw_fd(), headers, slices[..limit].iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    let mut count = 0;
    for message in received {
        count += 1;
        let Some(from) = message.address.and_then(Address::to_std) else { continue };
        let to = message.cmsgs().ok().and_then(|mut cmsgs| cmsgs.find_map(|cmsg| destination(&cmsg)));
        let bytes = message.iovs().next().map(Bytes::copy_from_slice).unwrap_or_default();
        sink(Datagram { from, to, bytes });
    }
    Ok(count)
}

/// Where an answer to a datagram leaves from: `ipi_spec_dst`, since the destination itself may be a broadcast address.
fn destination(cmsg: &ControlMessageOwned) -> Option<IpAddr> {
    match cmsg {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    }
}

/// Sends the first of these datagrams and as many of the next as fit in one system call, without waiting. All have the same
/// `from`, and all or none a `to`. Returns how many left (at least one); an error is the first one's.
pub(super) fn send(socket: &impl AsRawFd, v6: bool, datagrams: &[Outgoing]) -> io::Result<usize> {
    let datagrams = &datagrams[..datagrams.len().min(BATCH)];
    let Some(first) = datagrams.first() else { return Ok(0) };
    SCRATCH.with_borrow_mut(|scratch| match first.from {
        None if v6 => send_with(socket, &mut scratch.v6.send, datagrams, []),
        None => send_with(socket, &mut scratch.v4.send, datagrams, []),
        Some(IpAddr::V4(ip)) => {
            let s_addr = u32::from_ne_bytes(ip.octets());
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            send_with(socket, &mut scratch.v4.send_info, datagrams, [ControlMessage::Ipv4PacketInfo(&info)])
        }
        Some(IpAddr::V6(ip)) => {
            let ipi6_addr = libc::in6_addr { s6_addr: ip.octets() };
            let info = libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr };
            send_with(socket, &mut scratch.v6.send_info, datagrams, [ControlMessage::Ipv6PacketInfo(&info)])
        }
    })
}

fn send_with<A: Address, const N: usize>(
    socket: &impl AsRawFd,
    headers: &mut MultiHeaders<A>,
    datagrams: &[Outgoing],
    info: [ControlMessage<'_>; N],
) -> io::Result<usize> {
    let slices: [[IoSlice; 1]; BATCH] =
        array::from_fn(|i| [IoSlice::new(datagrams.get(i).map_or(&[], |datagram| &datagram.bytes))]);
    let addrs: [Option<A>; BATCH] =
        array::from_fn(|i| datagrams.get(i).and_then(|datagram| datagram.to).and_then(A::from_std));
    let sent = sendmmsg(
        socket.as_raw_fd(),
        headers,
        slices[..datagrams.len()].iter(),
        &addrs[..datagrams.len()],
        info,
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
    )?;
    Ok(sent.count())
}

/// A socket address of one family.
trait Address: SockaddrLike + Copy {
    fn to_std(self) -> Option<SocketAddr>;
    fn from_std(addr: SocketAddr) -> Option<Self>;
}

impl Address for SockaddrIn {
    fn to_std(self) -> Option<SocketAddr> {
        Some(self.into())
    }

    fn from_std(addr: SocketAddr) -> Option<Self> {
        match addr {
            SocketAddr::V4(v4) => Some(v4.into()),
            SocketAddr::V6(_) => None,
        }
    }
}

impl Address for SockaddrIn6 {
    fn to_std(self) -> Option<SocketAddr> {
        Some(self.into())
    }

    fn from_std(addr: SocketAddr) -> Option<Self> {
        match addr {
            SocketAddr::V6(v6) => Some(v6.into()),
            SocketAddr::V4(_) => None,
        }
    }
}
