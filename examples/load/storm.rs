//! A fleet that connects over TLS all at once, as after a power cut, beside phones that register over UDP as ever.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::tally::Tally;
use crate::{tls, udp};

/// No phone waits longer for its answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is made of whom.
pub(crate) struct Storm<'a> {
    /// The listener of the phones over UDP.
    pub(crate) udp: SocketAddr,
    /// Registered phones there.
    pub(crate) phones: u32,
    /// Their REGISTERs a second.
    pub(crate) rate: u32,
    /// The listener of those that connect.
    pub(crate) tls: SocketAddr,
    /// Whom they trust.
    pub(crate) ca: &'a Path,
    /// How many they are, each from an address of its own.
    pub(crate) fleet: u16,
    /// How long it is watched.
    pub(crate) length: Duration,
}

impl Storm<'_> {
    /// What came of the phones over UDP, of those over TLS, and when the last of these had its answer.
    pub(crate) fn rage(&self) -> io::Result<(Tally, Tally, Duration)> {
        let mut phones = udp::Phones::bind(self.udp, self.phones)?;
        phones.each_once(64)?;
        let connector = TlsConnector::from(tls::client(self.ca)?);
        let (to, count) = (self.tls, self.fleet);
        let fleet = thread::spawn(move || connect_all(to, &connector, count));
        let beside = phones.at_rate(self.rate, self.length)?;
        let (connected, took) = fleet.join().map_err(|_| io::Error::other("the fleet's thread ended badly"))??;
        Ok((beside, connected, took))
    }
}

fn connect_all(to: SocketAddr, connector: &TlsConnector, count: u16) -> io::Result<(Tally, Duration)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        let mut fleet = JoinSet::new();
        for phone in 0..count {
            let connector = connector.clone();
            fleet.spawn(async move { tokio::time::timeout(PATIENCE, register(to, connector, phone)).await });
        }
        let mut tally = Tally::default();
        // Who has been served stays connected.
        let mut connected = Vec::new();
        while let Some(ended) = fleet.join_next().await {
            match ended {
                Ok(Ok(Ok(stream))) => {
                    tally.complete(begun.elapsed());
                    connected.push(stream);
                }
                Ok(Ok(Err(error))) => {
                    eprintln!("a phone over TLS: {error}");
                    tally.lost += 1;
                }
                Ok(Err(_)) | Err(_) => tally.lost += 1,
            }
        }
        Ok((tally, begun.elapsed()))
    })
}

async fn register(
    to: SocketAddr,
    connector: TlsConnector,
    phone: u16,
) -> io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let [high, low] = phone.to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut stream = connector.connect(name, stream).await?;
    stream.write_all(tls::request(u64::from(phone), 0, local).as_bytes()).await?;
    stream.flush().await?;
    let (mut answer, mut part) = (Vec::new(), [0; 2048]);
    while !answer.trim_ascii_start().windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut part).await? {
            0 => return Err(io::Error::other("the proxy closed a phone's connection")),
            length => answer.extend_from_slice(&part[..length]),
        }
    }
    if answer.trim_ascii_start().starts_with(b"SIP/2.0 200 ") {
        Ok(stream)
    } else {
        Err(io::Error::other("not answered with 200"))
    }
}
