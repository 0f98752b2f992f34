//! A PBX as cheap as can be: 200 to every REGISTER, echoing the Contact; 100, 180 and 200 to every INVITE; 200 to every BYE.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{T1, bind, sdp};

/// Listens on `address` until `stop`.
pub(crate) fn spawn(address: SocketAddr, stop: Arc<AtomicBool>) -> io::Result<JoinHandle<()>> {
    let socket = bind(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(std::thread::spawn(move || {
        let mut datagram = vec![0; 65536];
        let mut answer = Vec::with_capacity(2048);
        let body = sdp(address);
        let contact = format!("Contact: <sip:callee@{address}>\r\n");
        let mut answered = Answered::default();
        while !stop.load(Ordering::Relaxed) {
            answered.send_again(&socket);
            let Ok((length, source)) = socket.recv_from(&mut datagram) else { continue };
            let request = &datagram[..length];
            let mut send = |status: &str, more: &str, body: &str| {
                answer_to(request, status, more, body, &mut answer);
                // Refused where the proxy has just ended: nothing to be done about it here.
                let _ = socket.send_to(&answer, source);
            };
            if request.starts_with(b"REGISTER ") {
                send("200 OK", "", "");
            } else if request.starts_with(b"INVITE ") {
                send("100 Trying", "", "");
                send("180 Ringing", &contact, "");
                send("200 OK", &(contact.clone() + "Content-Type: application/sdp\r\n"), &body);
                answered.wait_for_ack(request, &answer, source);
            } else if request.starts_with(b"ACK ") {
                answered.acknowledged(request);
            } else if request.starts_with(b"BYE ") {
                send("200 OK", "", "");
            }
        }
    }))
}

/// INVITEs whose 200 is sent again until its ACK comes, RFC 3261 §13.3.1.4.
#[derive(Default)]
struct Answered {
    open: HashMap<Vec<u8>, (Vec<u8>, SocketAddr)>,
    due: VecDeque<(Instant, Vec<u8>)>,
}

impl Answered {
    fn wait_for_ack(&mut self, invite: &[u8], answer: &[u8], to: SocketAddr) {
        let Some(call) = call_id(invite) else { return };
        if self.open.insert(call.to_vec(), (answer.to_vec(), to)).is_none() {
            self.due.push_back((Instant::now() + T1, call.to_vec()));
        }
    }

    fn acknowledged(&mut self, ack: &[u8]) {
        if let Some(call) = call_id(ack) {
            self.open.remove(call);
        }
    }

    fn send_again(&mut self, socket: &UdpSocket) {
        while self.due.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            let Some((at, call)) = self.due.pop_front() else { break };
            if let Some((answer, to)) = self.open.get(&call) {
                let _ = socket.send_to(answer, to);
                self.due.push_back((at + T1, call));
            }
        }
    }
}

fn call_id(request: &[u8]) -> Option<&[u8]> {
    request.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Call-ID: "))
}

/// Writes the response to `request` into `answer`. A Contact that a REGISTER brought comes back with it.
fn answer_to(request: &[u8], status: &str, more: &str, body: &str, answer: &mut Vec<u8>) {
    answer.clear();
    answer.extend_from_slice(b"SIP/2.0 ");
    answer.extend_from_slice(status.as_bytes());
    answer.extend_from_slice(b"\r\n");
    let register = request.starts_with(b"REGISTER ");
    for line in request.split_inclusive(|&byte| byte == b'\n').skip(1) {
        let text = line.trim_ascii_end();
        if text.is_empty() {
            break;
        }
        let copied: [&[u8]; 5] = [b"Via:", b"From:", b"Call-ID:", b"CSeq:", b"Record-Route:"];
        if copied.iter().any(|name| starts(text, name)) {
            answer.extend_from_slice(line);
        } else if starts(text, b"To:") {
            answer.extend_from_slice(text);
            let tagged = text.windows(5).any(|window| window == b";tag=");
            answer.extend_from_slice(if tagged || status.starts_with("100") { b"\r\n" } else { b";tag=r\r\n" });
        } else if register && starts(text, b"Contact:") {
            answer.extend_from_slice(text);
            answer.extend_from_slice(b";expires=3600\r\n");
        }
    }
    answer.extend_from_slice(more.as_bytes());
    answer.extend_from_slice(format!("Server: registrar\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
}

fn starts(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}
