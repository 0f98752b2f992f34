//! Ports for programs that cannot be told "any port".

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Below the range from which the kernel gives ephemeral ports, so that nobody is given one before its program has bound it.
const FIRST: u16 = 20_000;
const PAIRS: u16 = 5_000;

/// An even port of 127.0.0.1 that nobody has, for UDP and TCP, and with it the odd one above (where baresip puts its TLS).
///
/// It stays this process's until the process ends: a locked file stands for it, since nobody can bind the port on behalf of the
/// program that will. Two test processes on one machine, from whatever folder, so never get the same one.
pub(crate) fn free_port() -> u16 {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let locks = std::env::temp_dir().join("holdline-test-ports");
    fs::create_dir_all(&locks).expect("a folder for the ports' locks");
    for pair in 0..PAIRS {
        let port = FIRST + 2 * pair;
        // Another user's lock cannot be opened: the port is not ours.
        let lock = File::options().create(true).append(true).open(locks.join(port.to_string()));
        let Ok(lock) = lock else { continue };
        if lock.try_lock().is_ok() && is_free(port) && is_free(port + 1) {
            held.push(lock);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + 2 * PAIRS);
}

/// The same as an address.
pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}

#[test]
fn a_port_that_another_process_holds_is_not_given() {
    let port = free_port();
    let lock = File::options().append(true).open(std::env::temp_dir().join(format!("holdline-test-ports/{port}")));
    // Another open file of the same process is as good as another process's.
    assert!(lock.expect("its lock").try_lock().is_err(), "{port} is held");
    let others: Vec<u16> = (0..10).map(|_| free_port()).collect();
    assert!(!others.contains(&port), "{port} is among {others:?}");
}
