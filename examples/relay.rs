//! The least that a relay could cost: datagrams from one socket to another and back, four system calls for a request and its
//! response, nothing looked at. What `make bench` measures Holdline against.
//!
//! `relay LISTEN TARGET`, both on loopback. It serves one peer, the last one heard.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::thread;

fn main() -> io::Result<()> {
    let mut addresses = std::env::args().skip(1).map(|text| text.parse::<SocketAddr>().map_err(io::Error::other));
    let (Some(listen), Some(target)) = (addresses.next().transpose()?, addresses.next().transpose()?) else {
        return Err(io::Error::other("relay LISTEN TARGET"));
    };
    if !listen.ip().is_loopback() || !target.ip().is_loopback() {
        return Err(io::Error::other("on loopback only"));
    }
    let near = UdpSocket::bind(listen)?;
    let far = UdpSocket::bind((target.ip(), 0))?;
    far.connect(target)?;
    for socket in [&near, &far] {
        let options = socket2::SockRef::from(socket);
        options.set_recv_buffer_size(8 << 20)?;
        options.set_send_buffer_size(8 << 20)?;
    }
    let peer = Mutex::new(None);
    // What cannot be sent is lost, as on any network.
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut datagram = vec![0; 65_536];
            loop {
                let Ok((length, from)) = near.recv_from(&mut datagram) else { continue };
                if let Ok(mut peer) = peer.lock() {
                    *peer = Some(from);
                }
                let _ = far.send(&datagram[..length]);
            }
        });
        scope.spawn(|| {
            let mut datagram = vec![0; 65_536];
            loop {
                let Ok(length) = far.recv(&mut datagram) else { continue };
                let to = peer.lock().ok().and_then(|peer| *peer);
                if let Some(to) = to {
                    let _ = near.send_to(&datagram[..length], to);
                }
            }
        });
    });
    Ok(())
}
