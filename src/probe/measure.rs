//! One address, measured: does it take a connection, does it shake hands, does it answer SIP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::certificate::Shown;
use super::options::{Options, Silence, millis};
use super::plain::plain;
use super::report::{AddressLook, Failure, OptionsLook, State};
use crate::flow::Transport;
use crate::transport::Verify;
use crate::transport::tls::{Handshaken, Inspector};

/// Everything that one probe needs to know.
#[derive(Clone)]
pub struct Probe {
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
    /// Takes at most the limit.
    pub async fn run(self) -> AddressLook {
        let deadline = Instant::now() + self.limit;
        let mut look = AddressLook {
            address: self.addr.ip().to_string(),
            state: State::Fails,
            summary: String::new(),
            connect_ms: None,
            failure: None,
            tls: None,
            options: None,
        };
        let measured = match self.transport {
            Transport::Udp => self.udp(deadline).await.map(|options| look.options = Some(options)),
            Transport::Tcp | Transport::Tls => self.stream(deadline, &mut look).await,
        };
        look.failure = measured.err();
        sum_up(&mut look);
        look
    }

    async fn udp(&self, deadline: Instant) -> Result<OptionsLook, Failure> {
        let any: IpAddr = if self.addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let connected = async {
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(self.addr).await?;
            let local = socket.local_addr()?;
            Ok((socket, local))
        };
        let (socket, local) = connected.await.map_err(|error| broken("connect", &error))?;
        let options = Options::new(&self.sip_uri(), self.transport, local);
        match timeout_at(deadline, options.over_udp(&socket)).await {
            Ok(answer) => answer.map_err(|silence| silent(&silence)),
            Err(_) => Err(failure("options", "timeout", format!("no answer over UDP within {}", self.seconds()))),
        }
    }

    async fn stream(&self, deadline: Instant, look: &mut AddressLook) -> Result<(), Failure> {
        let mut stream = self.connect(deadline, Some(&mut *look)).await?;
        let local = stream.local_addr().map_err(|error| broken("connect", &error))?;
        let options = Options::new(&self.sip_uri(), self.transport, local);
        let asked = if self.transport == Transport::Tls {
            let Shown { shaken, refused } = self.handshake(deadline, stream).await?;
            let Handshaken { mut stream, protocol, cipher, sni, certificate } = shaken;
            // Side by side: neither takes the other's time.
            let (asked, second) = tokio::join!(
                timeout_at(deadline, options.over_stream(&mut stream)),
                self.second_look(deadline, &certificate)
            );
            look.tls = Some(self.tls_look((protocol, cipher, sni), &certificate, second.as_ref(), refused));
            asked
        } else {
            timeout_at(deadline, options.over_stream(&mut stream)).await
        };
        match asked {
            Ok(Ok(answer)) => look.options = Some(answer),
            Ok(Err(silence)) => return Err(silent(&silence)),
            Err(_) => {
                let text = format!("connected, but OPTIONS was not answered within {}", self.seconds());
                return Err(failure("options", "timeout", text));
            }
        }
        Ok(())
    }

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

    /// The domain, or the outbound proxy itself with its port: a proxy knows itself by both.
    fn sip_uri(&self) -> String {
        match &self.domain {
            Some(domain) => format!("sip:{domain}"),
            None if self.host.contains(':') => format!("sip:[{}]:{}", self.host, self.addr.port()),
            None => format!("sip:{}:{}", self.host, self.addr.port()),
        }
    }

    pub(super) fn seconds(&self) -> String {
        format!("{} s", self.limit.as_secs_f64())
    }
}

pub(super) fn failure(stage: &str, reason: &str, text: String) -> Failure {
    Failure { stage: stage.to_owned(), reason: reason.to_owned(), text }
}

fn broken(stage: &str, error: &io::Error) -> Failure {
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

fn silent(silence: &Silence) -> Failure {
    match silence {
        Silence::Closed => failure("options", "closed", "connected, but closed the connection on OPTIONS".to_owned()),
        Silence::NotSip => failure("options", "not_sip", "what answers is not SIP".to_owned()),
        Silence::Io(error) => match crate::transport::tls::said(error) {
            // A server that wants our certificate says so only after the handshake (TLS 1.3).
            Some(said) => failure("tls", "handshake", format!("TLS: {}", plain(&said))),
            None => broken(if error.kind() == io::ErrorKind::ConnectionRefused { "connect" } else { "options" }, error),
        },
    }
}

/// State and summary from what was measured.
fn sum_up(look: &mut AddressLook) {
    let refused = look.tls.as_ref().is_some_and(|tls| !tls.accepted);
    (look.state, look.summary) = match (&look.options, &look.failure) {
        _ if refused => (State::Fails, "certificate refused".to_owned()),
        (Some(options), _) => {
            let state = if troubled(options.status) { State::Warning } else { State::Ok };
            (state, format!("{} in {} ms", options.status, options.round_trip_ms))
        }
        (None, Some(failure)) => {
            // A connection that stands is worth something: OPTIONS need not be answered, REGISTER must be.
            let quiet = look.connect_ms.is_some() && failure.stage == "options" && failure.reason == "timeout";
            (if quiet { State::Warning } else { State::Fails }, short(failure).to_owned())
        }
        (None, None) => (State::Fails, "no answer".to_owned()),
    };
    if refused && look.failure.is_none() {
        let text = look.tls.as_ref().and_then(|tls| tls.refusal.clone()).unwrap_or_default();
        look.failure = Some(failure("certificate", "refused_certificate", text));
    }
}

/// The codes that count as a failed attempt, were they the answer to a REGISTER (`failure_codes`).
pub(super) fn troubled(status: u16) -> bool {
    crate::upstream::FAILURE_CODES.contains(&status)
}

fn short(failure: &Failure) -> &'static str {
    match (failure.stage.as_str(), failure.reason.as_str()) {
        ("tls", "timeout") => "no TLS",
        ("tls", _) => "TLS fails",
        (_, "refused") => "refused",
        (_, "unreachable") => "no route",
        (_, "reset") => "reset",
        (_, "closed") => "closed",
        (_, "not_sip") => "not SIP",
        ("options" | "connect", "timeout") => "silent",
        _ => "fails",
    }
}
