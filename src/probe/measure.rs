//! One address, measured: does it take a connection, does it shake hands, does it answer SIP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::certificate::Shown;
use super::dial::{Probe, broken, failure};
use super::options::{Options, Silence};
use super::plain::plain;
use super::report::{AddressLook, Failure, OptionsLook, State};
use crate::flow::Transport;
use crate::transport::tls::Handshaken;

impl Probe {
    /// Takes at most the limit.
    pub(super) async fn run(self) -> AddressLook {
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

    /// The domain, or the outbound proxy itself with its port: a proxy knows itself by both.
    fn sip_uri(&self) -> String {
        match &self.domain {
            Some(domain) => format!("sip:{domain}"),
            None if self.host.contains(':') => format!("sip:[{}]:{}", self.host, self.addr.port()),
            None => format!("sip:{}:{}", self.host, self.addr.port()),
        }
    }
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
