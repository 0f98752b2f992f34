//! The address that is probed, and the connection to it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::options::millis;
use super::plain::plain;
use super::report::{AddressLook, Failure};
use crate::flow::Transport;
use crate::transport::Verify;
use crate::transport::tls::Inspector;

/// Everything that one probe needs to know.
#[derive(Clone)]
pub(super) struct Probe {
    /// Where.
    pub addr: SocketAddr,
    /// The SRV target, or the static outbound proxy's host.
    pub host: String,
    /// The SIP domain; none for a static outbound proxy.
    pub domain: Option<String>,
    /// Over what.
    pub transport: Transport,
    /// The setting the certificate is judged by.
    pub verify: Verify,
    /// TLS; loaded if any target is to be reached over it.
    pub inspector: Option<Inspector>,
    /// For connection, handshake and answer together.
    pub limit: Duration,
    /// Seconds since 1970, for the days a certificate has left.
    pub now: u64,
}

impl Probe {
    pub(super) async fn connect(
        &self,
        deadline: Instant,
        look: Option<&mut AddressLook>,
    ) -> Result<TcpStream, Failure> {
        let started = Instant::now();
        match timeout_at(deadline, TcpStream::connect(self.addr)).await {
            Ok(Ok(stream)) => {
                if let Some(look) = look {
                    look.connect_ms = Some(millis(started.elapsed()));
                }
                Ok(stream)
            }
            Ok(Err(error)) => Err(broken("connect", &error)),
            Err(_) => Err(failure("connect", "timeout", format!("no TCP connection within {}", self.seconds()))),
        }
    }

    pub(super) fn seconds(&self) -> String {
        format!("{} s", self.limit.as_secs_f64())
    }
}

pub(super) fn failure(stage: &str, reason: &str, text: String) -> Failure {
    Failure { stage: stage.to_owned(), reason: reason.to_owned(), text }
}

pub(super) fn broken(stage: &str, error: &io::Error) -> Failure {
    let (reason, text) = match error.kind() {
        io::ErrorKind::ConnectionRefused => ("refused", "refused: nothing listens there".to_owned()),
        io::ErrorKind::ConnectionReset => ("reset", "the connection was reset".to_owned()),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable => {
            ("unreachable", "no route from here".to_owned())
        }
        io::ErrorKind::TimedOut => ("timeout", "timed out".to_owned()),
        _ => ("error", plain(&error.to_string())),
    };
    failure(stage, reason, text)
}
