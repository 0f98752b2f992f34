//! Ports that are ours although no socket serves them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpStream;

use crate::flow::Transport;

/// Keeps a port ours while nothing listens there: a datagram socket that is connected elsewhere receives nothing from
/// others, and a stream socket that does not listen refuses, so senders learn that the port is closed, and no other program
/// can take the port in the meantime. The sockets that serve are bound beside it.
#[derive(Debug)]
pub struct PortHold {
    _socket: socket2::Socket,
    /// The port and its address.
    pub addr: SocketAddr,
}

impl PortHold {
    /// Takes a port; 0 for any.
    ///
    /// # Errors
    /// Where another process has the port.
    pub fn new(transport: Transport, addr: SocketAddr) -> io::Result<PortHold> {
        let datagrams = transport == Transport::Udp;
        let kind = if datagrams { socket2::Type::DGRAM } else { socket2::Type::STREAM };
        let socket = socket2::Socket::new(socket2::Domain::for_address(addr), kind, None)?;
        // For streams before, since connections of an earlier owner may linger; for datagrams after, so that no port is
        // taken that another process shares.
        if !datagrams {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&addr.into())?;
        let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        if datagrams {
            // The discard port: no peer sends from there.
            socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, 9)).into())?;
            socket.set_reuse_address(true)?;
        }
        Ok(PortHold { _socket: socket, addr })
    }
}

/// A port where connecting leads to no answer at all: Linux passes over a SYN while the accept queue is full.
#[derive(Debug)]
pub struct Pit {
    _listener: socket2::Socket,
    _filler: TcpStream,
}

impl Pit {
    /// Beside a [`PortHold`], when nothing listens.
    ///
    /// # Errors
    /// Where a socket listens.
    pub async fn new(addr: SocketAddr) -> io::Result<Pit> {
        let listener = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
        listener.set_reuse_address(true)?;
        listener.bind(&addr.into())?;
        // A queue of length 0 has room for one.
        listener.listen(0)?;
        let filler = TcpStream::connect(addr).await?;
        Ok(Pit { _listener: listener, _filler: filler })
    }
}
