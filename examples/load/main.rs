//! A load generator for REGISTER and for calls: phones on one side of a proxy, a PBX that answers everything on the other,
//! and the proxy's processor time read from outside, so that any proxy can stand in the middle.
//!
//! ```text
//! load register --proxy 127.0.0.1:5060 --registrar 127.0.0.1:7060 --pid 4711 --seconds 10 --outstanding 64
//! load register --proxy 127.0.0.1:5060 --registrar 127.0.0.1:7060 --pid 4711 --seconds 10 --rate 2000
//! load register --proxy 127.0.0.1:5060 --registrar 127.0.0.1:7060 --pid 4711 --seconds 600 --rate 166 --phones 10000
//! load register --proxy 127.0.0.1:5061 --tls-ca ca.pem --registrar 127.0.0.1:7060 --pid 4711 --seconds 60 --phones 1000
//! load call     --proxy 127.0.0.1:5060 --registrar 127.0.0.1:7060 --pid 4711 --seconds 10 --outstanding 64
//! load storm    --proxy 127.0.0.1:5060 --tls 127.0.0.1:5061 --tls-ca ca.pem --registrar 127.0.0.1:7060 --pid 4711 --fleet 3000
//! load certificates FOLDER
//! ```
//!
//! `register` and `call` print one line of `key=value` pairs. A call is INVITE, 100, 180, 200, ACK, BYE and 200, of a phone that
//! has registered. Bounded in time by `--seconds`, in size by `--phones` and `--outstanding`.
//! `certificates` writes what a TLS proxy on loopback needs: `ca.pem`, `certificate.pem`, `key.pem`.
#![allow(clippy::disallowed_methods)] // it measures: it has to read the clock

mod call;
mod process;
mod registrar;
mod storm;
mod tally;
mod tls;
mod udp;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// REGISTERs and calls through a proxy.
#[derive(Parser)]
enum Command {
    /// Registers phones and measures.
    Register(Arguments),
    /// Registers phones, has them call, and measures the calls. Over UDP.
    Call(Arguments),
    /// Has a fleet connect over TLS all at once, and measures the phones over UDP beside it.
    Storm {
        /// The listener over TLS.
        #[arg(long)]
        tls: SocketAddr,
        /// How many connect.
        #[arg(long, default_value_t = 3000)]
        fleet: u16,
        #[command(flatten)]
        rest: Arguments,
    },
    /// Writes an authority's certificate, and a certificate for `localhost` with its key.
    Certificates {
        /// Where to.
        folder: PathBuf,
    },
}

#[derive(clap::Args)]
struct Arguments {
    /// Where the phones send to. Loopback only.
    #[arg(long)]
    proxy: SocketAddr,
    /// Where the registrar listens, on UDP. Loopback only.
    #[arg(long)]
    registrar: SocketAddr,
    /// The proxy's process; its children are counted with it.
    #[arg(long)]
    pid: u32,
    /// How long the phones register.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Closed loop: this many REGISTERs are open at any time.
    #[arg(long, default_value_t = 64)]
    outstanding: usize,
    /// Fixed rate instead: this many REGISTERs a second, whatever comes back.
    #[arg(long)]
    rate: Option<u32>,
    /// Phones that take turns, each with its own address of record.
    #[arg(long, default_value_t = 1000)]
    phones: u32,
    /// Measures from the first REGISTER on, without having every phone register before.
    #[arg(long)]
    cold: bool,
    /// The phones connect over TLS, one connection each, and trust this certificate authority.
    #[arg(long)]
    tls_ca: Option<PathBuf>,
}

fn main() -> std::io::Result<()> {
    match Command::parse() {
        Command::Register(arguments) => measure(&arguments, Work::Register),
        Command::Call(arguments) => measure(&arguments, Work::Call),
        Command::Storm { tls, fleet, rest } => storm(tls, fleet, &rest),
        Command::Certificates { folder } => certificates(&folder),
    }
}

fn storm(tls: SocketAddr, fleet: u16, arguments: &Arguments) -> std::io::Result<()> {
    only_loopback(&[arguments.proxy, arguments.registrar, tls])?;
    let ca = arguments.tls_ca.as_deref().ok_or_else(|| std::io::Error::other("--tls-ca is missing"))?;
    let stop = Arc::new(AtomicBool::new(false));
    let registrar = registrar::spawn(arguments.registrar, Arc::clone(&stop))?;
    let storm = storm::Storm {
        udp: arguments.proxy,
        phones: arguments.phones,
        rate: arguments.rate.unwrap_or(300),
        tls,
        ca,
        fleet,
        length: Duration::from_secs(arguments.seconds),
    };
    let (udp, tls, took) = storm.rage()?;
    println!(
        "udp_completed={} udp_lost={} udp_p50_us={} udp_p99_us={} tls_served={} tls_refused={} tls_last_ms={} rss_kib={}",
        udp.completed,
        udp.lost,
        udp.percentile(50).as_micros(),
        udp.percentile(99).as_micros(),
        tls.completed,
        tls.lost,
        took.as_millis(),
        process::resident_kib(arguments.pid)?,
    );
    stop.store(true, Ordering::Relaxed);
    registrar.join().map_err(|_| std::io::Error::other("the registrar's thread ended badly"))
}

fn only_loopback(addresses: &[SocketAddr]) -> std::io::Result<()> {
    if addresses.iter().all(|address| address.ip().is_loopback()) {
        return Ok(());
    }
    Err(std::io::Error::other("load is made on loopback only"))
}

/// What is measured.
#[derive(Clone, Copy)]
pub enum Work {
    /// A REGISTER and its 200.
    Register,
    /// A call from INVITE to the BYE's 200.
    Call,
}

/// Time after which what is unanswered is sent once more (RFC 3261's T1).
pub const T1: Duration = Duration::from_millis(500);

/// A socket with as large buffers as the system allows, so that a burst is not lost here.
pub fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(8 << 20)?;
    options.set_send_buffer_size(8 << 20)?;
    Ok(socket)
}

/// The body of INVITEs and of their 200s: what a desk phone offers.
pub fn sdp(address: SocketAddr) -> String {
    let ip = address.ip();
    format!(
        "v=0\r\no=- 20518 0 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 16384 RTP/AVP 9 8 0 18 101\r\n\
         a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:18 G729/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}

fn measure(arguments: &Arguments, work: Work) -> std::io::Result<()> {
    only_loopback(&[arguments.proxy, arguments.registrar])?;
    let stop = Arc::new(AtomicBool::new(false));
    let registrar = registrar::spawn(arguments.registrar, Arc::clone(&stop))?;

    let length = Duration::from_secs(arguments.seconds);
    let mut phones = match &arguments.tls_ca {
        Some(ca) => Phones::Tls(tls::Phones::connect(arguments.proxy, ca, arguments.phones)?),
        None => Phones::Udp(udp::Phones::bind(arguments.proxy, arguments.phones)?),
    };
    // Every phone once, so that tables, caches and the allocator are as they will be.
    if !arguments.cold {
        phones.each_once(arguments.outstanding)?;
    }
    match (&mut phones, work) {
        (_, Work::Register) => {}
        // Whatever a first call makes is there before the measurement.
        (Phones::Udp(phones), Work::Call) => {
            phones.turn_to(Work::Call);
            phones.closed_loop(arguments.outstanding, Duration::from_millis(300))?;
        }
        (Phones::Tls(_), Work::Call) => return Err(std::io::Error::other("calls are made over UDP")),
    }

    let cpu = process::cpu_time(arguments.pid)?;
    let started = Instant::now();
    let tally = match (&mut phones, arguments.rate) {
        (Phones::Udp(phones), Some(rate)) => phones.at_rate(rate, length)?,
        (Phones::Udp(phones), None) => phones.closed_loop(arguments.outstanding, length)?,
        (Phones::Tls(phones), _) => phones.refresh(length)?,
    };
    let elapsed = started.elapsed();
    let cpu = process::cpu_time(arguments.pid)?.saturating_sub(cpu);
    println!(
        "completed={} lost={} retransmitted={} per_second={:.0} cpu_us={:.2} p50_us={} p99_us={} rss_kib={}",
        tally.completed,
        tally.lost,
        tally.retransmitted,
        tally.completed as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / tally.completed.max(1) as f64,
        tally.percentile(50).as_micros(),
        tally.percentile(99).as_micros(),
        process::resident_kib(arguments.pid)?,
    );
    stop.store(true, Ordering::Relaxed);
    registrar.join().map_err(|_| std::io::Error::other("the registrar's thread ended badly"))
}

enum Phones {
    Udp(udp::Phones),
    Tls(tls::Phones),
}

impl Phones {
    fn each_once(&mut self, outstanding: usize) -> std::io::Result<()> {
        match self {
            Phones::Udp(phones) => phones.each_once(outstanding),
            Phones::Tls(phones) => phones.each_once(),
        }
    }
}

fn certificates(folder: &Path) -> std::io::Result<()> {
    let authority_key = KeyPair::generate().map_err(std::io::Error::other)?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).map_err(std::io::Error::other)?;
    let key = KeyPair::generate().map_err(std::io::Error::other)?;
    let parameters = CertificateParams::new(vec!["localhost".to_owned()]).map_err(std::io::Error::other)?;
    let issuer = Issuer::new(authority, authority_key);
    let certificate = parameters.signed_by(&key, &issuer).map_err(std::io::Error::other)?;
    std::fs::write(folder.join("ca.pem"), root.pem())?;
    std::fs::write(folder.join("certificate.pem"), certificate.pem())?;
    std::fs::write(folder.join("key.pem"), key.serialize_pem())
}
