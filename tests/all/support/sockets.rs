//! Sockets on loopback with a bound on every read.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use super::wait::PATIENCE;

/// A UDP socket on any port, as a phone's or a server's.
pub(crate) fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket
}

/// A TCP listener on any port.
pub(crate) fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

/// A connection to this listener.
pub(crate) fn connected(address: SocketAddr) -> TcpStream {
    bounded(TcpStream::connect(address).expect("the listener"))
}

/// The next connection that comes.
pub(crate) fn accepted(listener: &TcpListener) -> TcpStream {
    bounded(listener.accept().expect("a connection").0)
}

fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}
