//! ICMP errors of connected UDP sockets: refused ports and unreachable hosts.
//!
//! A task of its own sleeps on each socket's error queue, so that the path of the datagrams never looks at it.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::udp::cause;
use crate::flow::{Cause, ConnId, Flow, NetEvent};

/// Reports every ICMP error of this socket until aborted. If the receiver lags behind, errors are dropped: they repeat.
pub(super) fn watch(socket: Arc<UdpSocket>, conn: ConnId, events: mpsc::Sender<NetEvent>) -> AbortHandle {
    let task = tokio::spawn(async move {
        while let Ok(cause) = socket.async_io(Interest::ERROR, || next_error(&socket)).await {
            let _ = events.try_send(NetEvent::SendFailed { flow: Flow::Conn(conn), cause });
        }
    });
    task.abort_handle()
}

/// The next error in the queue that says that the peer cannot be reached; `WouldBlock` when there is none left.
fn next_error(socket: &UdpSocket) -> io::Result<Cause> {
    loop {
        let mut payload = [0; 64];
        let mut slices = [IoSliceMut::new(&mut payload)];
        let mut space = nix::cmsg_space!([u8; 128]);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let errno = match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Ok(message) => message.cmsgs().ok().and_then(|mut cmsgs| {
                cmsgs.find_map(|cmsg| match cmsg {
                    ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                        i32::try_from(error.ee_errno).ok()
                    }
                    _ => None,
                })
            }),
            Err(Errno::EAGAIN) => match socket.take_error()? {
                Some(error) => error.raw_os_error(),
                None => return Err(io::ErrorKind::WouldBlock.into()),
            },
            Err(Errno::EINTR) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(errno) = errno else { continue };
        // "Fragmentation needed": the kernel has learnt the path's MTU and will fragment.
        if errno != libc::EMSGSIZE && errno != 0 {
            return Ok(cause(&io::Error::from_raw_os_error(errno)));
        }
    }
}
