//! A registrar that says 200 to every REGISTER, echoing the Contact, as cheaply as can be.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Listens on `address` until `stop`.
pub fn spawn(address: SocketAddr, stop: Arc<AtomicBool>) -> io::Result<JoinHandle<()>> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(std::thread::spawn(move || {
        let mut datagram = vec![0; 65536];
        let mut answer = Vec::with_capacity(2048);
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, source)) = socket.recv_from(&mut datagram) else { continue };
            if answer_to(&datagram[..length], &mut answer) {
                // Refused where the proxy has just ended: nothing to be done about it here.
                let _ = socket.send_to(&answer, source);
            }
        }
    }))
}

/// Writes the 200 to `request` into `answer`; false for what is no REGISTER.
fn answer_to(request: &[u8], answer: &mut Vec<u8>) -> bool {
    if !request.starts_with(b"REGISTER ") {
        return false;
    }
    answer.clear();
    answer.extend_from_slice(b"SIP/2.0 200 OK\r\n");
    for line in request.split_inclusive(|&byte| byte == b'\n').skip(1) {
        let text = line.trim_ascii_end();
        if starts(text, b"Via:") || starts(text, b"From:") || starts(text, b"Call-ID:") || starts(text, b"CSeq:") {
            answer.extend_from_slice(line);
        } else if starts(text, b"To:") {
            answer.extend_from_slice(text);
            answer.extend_from_slice(b";tag=r\r\n");
        } else if starts(text, b"Contact:") {
            answer.extend_from_slice(text);
            answer.extend_from_slice(b";expires=3600\r\n");
        }
    }
    answer.extend_from_slice(b"Server: registrar\r\nContent-Length: 0\r\n\r\n");
    true
}

fn starts(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}
