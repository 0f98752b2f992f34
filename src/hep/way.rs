//! The way to the receiver: a datagram socket or a connection, opened when there is something to send and opened again, with growing
//! pauses, after it broke. Meanwhile nothing is kept: what comes is dropped.

use std::net::SocketAddr;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::{Instant, timeout};

use super::Settings;
use crate::flow::Transport;
use crate::trust::connector;

/// What UDP over IPv4 carries.
const LONGEST_DATAGRAM: usize = 65_507;
/// For the name, the connection and its handshake.
const OPENING: Duration = Duration::from_secs(5);
/// For one packet to be taken by the connection.
const WRITING: Duration = Duration::from_secs(5);
/// After the first failure; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Way {
    transport: Transport,
    host: String,
    port: u16,
    open: Option<Open>,
    /// Until then it is not opened again.
    rests_until: Option<Instant>,
    pause: Duration,
    /// It was logged that nothing can be sent: once, until something could be.
    warned: bool,
}

enum Open {
    Datagrams(UdpSocket),
    Stream(Box<dyn AsyncWrite + Unpin + Send>),
}

impl Way {
    pub(super) fn new(settings: &Settings) -> Way {
        let Settings { transport, host, port, .. } = settings;
        Way {
            transport: *transport,
            host: host.clone(),
            port: *port,
            open: None,
            rests_until: None,
            pause: FIRST_PAUSE,
            warned: false,
        }
    }

    /// Sends one packet; false if it is lost. One that no datagram holds says nothing about the receiver.
    pub(super) async fn send(&mut self, packet: &[u8]) -> bool {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        if self.transport == Transport::Udp && packet.len() > LONGEST_DATAGRAM {
            return false;
        }
        if self.open.is_none() {
            match timeout(OPENING, self.open()).await {
                Ok(Ok(open)) => self.open = Some(open),
                Ok(Err(error)) => return self.failed(&error),
                Err(_) => return self.failed("no connection in time"),
            }
        }
        let sent = match &mut self.open {
            Some(Open::Datagrams(socket)) => timeout(WRITING, socket.send(packet)).await.map(|sent| sent.map(|_| ())),
            Some(Open::Stream(stream)) => {
                let write = async {
                    stream.write_all(packet).await?;
                    stream.flush().await
                };
                timeout(WRITING, write).await
            }
            None => return false,
        };
        match sent {
            Ok(Ok(())) => {
                self.pause = FIRST_PAUSE;
                self.warned = false;
                true
            }
            Ok(Err(error)) => self.failed(&error.to_string()),
            Err(_) => self.failed("it takes nothing"),
        }
    }

    fn failed(&mut self, error: &str) -> bool {
        let (host, port) = (&self.host, self.port);
        if !self.warned {
            self.warned = true;
            tracing::warn!(error, "nothing can be sent to the HEP receiver {host}:{port}; it is tried again");
        }
        self.open = None;
        self.rests_until = Some(Instant::now() + self.pause);
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        false
    }

    async fn open(&self) -> Result<Open, String> {
        let words = |error: std::io::Error| error.to_string();
        if self.transport == Transport::Udp {
            let mut found = lookup_host((&*self.host, self.port)).await.map_err(words)?;
            let to = found.next().ok_or("the name has no address")?;
            let any = if to.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0; 16], 0)) };
            let socket = UdpSocket::bind(any).await.map_err(words)?;
            socket.connect(to).await.map_err(words)?;
            return Ok(Open::Datagrams(socket));
        }
        let stream = TcpStream::connect((&*self.host, self.port)).await.map_err(words)?;
        stream.set_nodelay(true).map_err(words)?;
        if self.transport == Transport::Tcp {
            return Ok(Open::Stream(Box::new(stream)));
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let stream = connector()?.connect(name, stream).await.map_err(words)?;
        Ok(Open::Stream(Box::new(stream)))
    }
}
