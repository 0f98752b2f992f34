//! The real process between a phone's socket and an upstream's, both in the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use crate::support::binary::{self, Running, bound};
use crate::support::http::get_blocking;
use crate::support::sockets;
use crate::support::wait::until_blocking;

/// A Holdline of its own, killed when the test ends.
pub(super) struct Holdline {
    running: Running,
    /// Where phones send to.
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    /// The upstream side's socket.
    pub upstream: SocketAddr,
    admin: SocketAddr,
}

impl Holdline {
    /// Starts it before an outbound proxy.
    pub(super) fn start(proxy: SocketAddr, transport: &str) -> Holdline {
        let upstream = [format!("--outbound-proxy={proxy}"), format!("--transport={transport}")];
        let mut running = Running::start(binary::run(&upstream));
        let (lines, admin) = running.until_bound();
        running.ignore_log();
        Holdline {
            udp: bound(&lines, "phone", "udp").expect("a UDP listener"),
            tcp: bound(&lines, "phone", "tcp").expect("a TCP listener"),
            upstream: bound(&lines, "upstream", transport).expect("an upstream socket"),
            admin,
            running,
        }
    }

    /// The value of a metric, by its whole name with labels.
    pub(super) fn metric(&self, series: &str) -> u64 {
        let (_, answer) = get_blocking(self.admin, "/metrics").expect("metrics");
        let value = answer.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series}")).trim().parse().expect("a number")
    }

    /// How many messages one side dropped for a reason.
    pub(super) fn dropped(&self, side: &str, reason: &str) -> u64 {
        self.metric(&format!("holdline_messages_dropped_total{{reason=\"{reason}\",side=\"{side}\"}}"))
    }

    /// Waits until a counter is there.
    #[track_caller]
    pub(super) fn until(&self, what: &str, done: impl Fn(&Holdline) -> bool) {
        until_blocking(what, || done(self));
    }

    /// SIGTERM.
    pub(super) fn terminate(&self) {
        self.running.signal("TERM");
    }

    /// True while the process runs.
    pub(super) fn lives(&mut self) -> bool {
        matches!(self.running.child.try_wait(), Ok(None))
    }
}

/// One end of a conversation in SIP, on a datagram socket or on a stream.
pub(super) enum Line {
    /// Datagrams to and from anybody; sends to the last it heard from, at first to this address.
    Udp(UdpSocket, SocketAddr),
    Tcp(TcpStream, Vec<u8>),
}

impl Line {
    /// A phone's end.
    pub(super) fn to(address: SocketAddr, transport: &str) -> Line {
        if transport == "udp" {
            return Line::Udp(sockets::udp(), address);
        }
        Line::Tcp(sockets::connected(address), Vec::new())
    }

    /// Our own address, which the other side sees.
    pub(super) fn local(&self) -> SocketAddr {
        match self {
            Line::Udp(socket, _) => socket.local_addr().expect("bound"),
            Line::Tcp(stream, _) => stream.local_addr().expect("connected"),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        match self {
            Line::Udp(socket, to) => {
                socket.send_to(bytes, *to).expect("sent");
            }
            Line::Tcp(stream, _) => stream.write_all(bytes).expect("sent"),
        }
    }

    /// No more will be sent; what comes can still be read.
    pub(super) fn finish(&mut self) {
        if let Line::Tcp(stream, _) = self {
            stream.shutdown(std::net::Shutdown::Write).expect("shut");
        }
    }

    /// The next message; keep-alives are passed over. `None` at the end of a stream.
    #[track_caller]
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        match self {
            Line::Udp(socket, from) => loop {
                let mut buffer = vec![0; 65_535];
                let (length, source) = socket.recv_from(&mut buffer).expect("a datagram in time");
                buffer.truncate(length);
                *from = source;
                if buffer.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                    return Some(buffer);
                }
            },
            Line::Tcp(stream, buffer) => loop {
                let skip = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                buffer.drain(..skip);
                if let Some(length) = framed(buffer) {
                    return Some(buffer.drain(..length).collect());
                }
                let mut more = [0; 4096];
                match stream.read(&mut more) {
                    Ok(0) => return None,
                    Ok(length) => buffer.extend_from_slice(&more[..length]),
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                    Err(error) => panic!("nothing in time: {error}; so far {}", String::from_utf8_lossy(buffer)),
                }
            },
        }
    }
}

/// The length of the message at the front of a stream, once it is whole. No header of what the test sends or gets is so
/// odd that this would not find its Content-Length.
fn framed(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let pieces = crate::message_mutations::Pieces::of(buffer);
    let line = pieces.headers.iter().find(|line| crate::message_mutations::name_of(line) == "content-length")?;
    let text = String::from_utf8_lossy(line).into_owned();
    let length: usize = text.split_once(':')?.1.trim().parse().ok()?;
    (buffer.len() >= head + length).then_some(head + length)
}

/// The upstream: bound before Holdline starts, so that it can be told where.
pub(super) enum Sink {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

impl Sink {
    pub(super) fn bind(transport: &str) -> (Sink, SocketAddr) {
        if transport == "udp" {
            let socket = sockets::udp();
            let address = socket.local_addr().expect("bound");
            return (Sink::Udp(socket), address);
        }
        let listener = sockets::listener();
        let address = listener.local_addr().expect("bound");
        (Sink::Tcp(listener), address)
    }

    /// The line to Holdline, once it has connected.
    pub(super) fn line(self, holdline: SocketAddr) -> Line {
        match self {
            Sink::Udp(socket) => Line::Udp(socket, holdline),
            Sink::Tcp(listener) => Line::Tcp(sockets::accepted(&listener), Vec::new()),
        }
    }
}
