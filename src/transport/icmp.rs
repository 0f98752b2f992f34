//! ICMP errors of connected UDP sockets: refused ports and unreachable hosts.
//!
//! A task of its own sleeps on each socket's error queue, so that the path of the datagrams never looks at it. The kernel has
//! compared addresses and ports of the quoted datagram with the socket's (RFC 8085 §5.2). Both are easily guessed, so the quoted
//! bytes go to the core, which alone knows what it has sent.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::cause;
use crate::flow::{Cause, ConnId, Flow, NetEvent};

/// Bytes taken of a quoted datagram: more than an ICMPv6 error, which is the longer one, has room for (RFC 4443 §2.4).
const QUOTE: usize = 1280;

/// Reports every ICMP error of this socket until aborted. If the receiver lags behind, errors are dropped: they repeat.
pub(super) fn watch(socket: Arc<AsyncFd<UdpSocket>>, conn: ConnId, events: mpsc::Sender<NetEvent>) -> AbortHandle {
    let task = tokio::spawn(async move {
        while let Ok((cause, quoted)) = socket.async_io(Interest::ERROR, next_error).await {
            let _ = events.try_send(NetEvent::SendFailed { flow: Flow::Conn(conn), cause, quoted });
        }
    });
    task.abort_handle()
}

/// The next error in the queue that says that the peer cannot be reached, and the beginning of the datagram it quotes; `WouldBlock`
/// when there is none left.
fn next_error(socket: &UdpSocket) -> io::Result<(Cause, Option<Bytes>)> {
    loop {
        let mut payload = [0; QUOTE];
        let mut slices = [IoSliceMut::new(&mut payload)];
        let mut space = nix::cmsg_space!([u8; 128]);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let (errno, length) = match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)
        {
            Ok(message) => {
                (message.cmsgs().ok().and_then(|mut cmsgs| cmsgs.find_map(|cmsg| icmp_error(&cmsg))), message.bytes)
            }
            // The socket's pending error is that of an entry in the queue, or of one that the queue had no room for and of which
            // nothing is known. Taken, it wakes nobody again.
            Err(Errno::EAGAIN) if socket.take_error()?.is_none() => return Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(errno) = errno else { continue };
        // "Fragmentation needed": the kernel has learnt the path's MTU and will fragment.
        if errno != libc::EMSGSIZE && errno != 0 {
            let quoted = Bytes::copy_from_slice(&payload[..length.min(QUOTE)]);
            let cause = cause::of_datagram(&io::Error::from_raw_os_error(errno));
            return Ok((cause, Some(quoted).filter(|quoted| !quoted.is_empty())));
        }
    }
}

/// The error number of what came by ICMP; errors of this machine's own are reported where it sends.
fn icmp_error(cmsg: &ControlMessageOwned) -> Option<i32> {
    match cmsg {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
            let icmp = matches!(error.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
            i32::try_from(error.ee_errno).ok().filter(|_| icmp)
        }
        _ => None,
    }
}
