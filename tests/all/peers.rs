//! Real peers on loopback: SIPp as phones, Kamailio as the PBX, baresip and linphonec as handsets.
//!
//! Each test says what it needs ([`installed`]) and does not run where that is missing; with `CI` set that is a failure.
//! Every wait is for a condition and has a bound ([`until`]); every peer is ended by its own process ([`process`]), with its
//! files in a directory of its own.
#![allow(clippy::disallowed_methods, reason = "real peers live in real time")]

pub(crate) mod baresip;
mod calls;
mod capture;
mod direct;
pub(crate) mod holdline;
pub(crate) mod kamailio;
mod linphone;
mod load;
mod matrix;
pub(crate) mod process;
mod rollover;
pub(crate) mod sipp;
pub(crate) mod tls;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The domain all phones belong to.
pub const DOMAIN: &str = "pbx.example.com";

/// Long enough for a busy machine; whoever waits this long has failed.
pub const BOUND: Duration = Duration::from_secs(60);

/// True where every program is installed. Where one is missing, says so in the form that `scripts/test.sh` collects, or
/// fails if `CI` is set.
pub fn installed(test: &str, programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !on_path(program)).collect();
    missing.is_empty() || not_run(test, &missing)
}

/// Says that a test does not run for want of these; false.
pub fn not_run(test: &str, missing: &[&str]) -> bool {
    let line = format!("NOT RUN: {test} (needs {})", missing.join(", "));
    assert!(std::env::var_os("CI").is_none(), "{line}: make test-deps installs it");
    // Past the test framework, which keeps what a passing test prints.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
    false
}

fn on_path(program: &str) -> bool {
    found(program).is_some()
}

/// Where a program is.
pub fn found(program: &str) -> Option<PathBuf> {
    // Kamailio lives in /usr/sbin, which not every user has on the path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}

/// Waits until `condition` gives something, at most [`BOUND`].
///
/// # Panics
/// When the time is over, with `what` was waited for.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {BOUND:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An even port of 127.0.0.1 that nobody has, for UDP and TCP, and with it the odd one above (where baresip puts its TLS).
/// For peers that cannot be told "any port". It lies below the range from which the kernel gives ephemeral ports, so that
/// nobody is given it before the peer has bound it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const PAIRS: u16 = 5_000;
    // Two runs on one machine start at different places.
    let start = (std::process::id() % u32::from(PAIRS)) as u16;
    for _ in 0..PAIRS {
        let pair = (start + NEXT.fetch_add(1, Ordering::Relaxed) % PAIRS) % PAIRS;
        let port = FIRST + 2 * pair;
        let free = |port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
        };
        if free(port) && free(port + 1) {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + 2 * PAIRS);
}

/// A file of this folder's configurations and scenarios.
pub fn file(name: &str) -> String {
    format!("{}/tests/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}
