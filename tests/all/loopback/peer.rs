//! A peer made of one socket and a closure: for what needs no SIP stack, and must not be slowed down by one.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Enough for what these peers hear: a line that begins so, without the name.
pub(crate) fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// An answer to a request, with its Via, From, To, Call-ID and CSeq.
pub(crate) fn answer(request: &str, status: &str, more: &str) -> String {
    let copied = |line: &&str| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
    let head = request.lines().filter(copied).collect::<Vec<_>>().join("\r\n");
    let to = header(request, "To:").unwrap_or_default();
    format!("SIP/2.0 {status}\r\n{head}\r\nTo: {to};tag=t\r\n{more}Content-Length: 0\r\n\r\n")
}

/// A socket whose datagrams are handled by a thread until this is dropped.
pub(crate) struct Peer {
    pub socket: Arc<UdpSocket>,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Peer {
    pub(crate) fn new(mut handle: impl FnMut(&UdpSocket, SocketAddr, &str) + Send + 'static) -> Peer {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, end) = (socket.clone(), over.clone());
        let thread = thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            while !end.load(Ordering::Relaxed) {
                if let Ok((length, from)) = theirs.recv_from(&mut bytes) {
                    handle(&theirs, from, &String::from_utf8_lossy(&bytes[..length]));
                }
            }
        });
        Peer { socket, over, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}
