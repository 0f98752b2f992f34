//! The properties of a handset.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::agents::wire::Timers;
use crate::flow::Transport;

/// The properties of a handset.
#[derive(Debug, Clone)]
pub struct Options {
    /// The user part of its address, and its digest username.
    pub user: String,
    /// The domain of its address.
    pub domain: String,
    /// Its password.
    pub password: String,
    /// The address that everything is sent to.
    pub proxy: SocketAddr,
    /// The transport.
    pub transport: Transport,
    /// For TLS: the roots, and the name that is asked for and checked.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// T1, T2 and Timer F.
    pub timers: Timers,
    /// The expiry it asks for, in seconds.
    pub expires: u32,
    /// When it registers again after success.
    pub refresh: Refresh,
    /// When it registers again after a failure, unless on demand only.
    pub retry: Duration,
    /// Whether its Via asks with `rport` (RFC 3581).
    pub rport: bool,
    /// A `Supported` header, `path` for one.
    pub supported: Option<String>,
    /// Its User-Agent header.
    pub user_agent: String,
    /// Sends from one port and listens on another, which Via and Contact name (Cisco 79xx). UDP only.
    pub split_ports: bool,
    /// A preloaded Route, `<sip:holdline;lr>` for one.
    pub route: Option<String>,
    /// The Request-URI of its REGISTER where that is not `sip:` and the domain (handsets with only a "server" field).
    pub registrar_uri: Option<String>,
    /// Header parameters of its Contact, each with its semicolon (`;+sip.instance="<urn:uuid:…>";reg-id=1`).
    pub contact_params: String,
    /// Sends its credentials again without being asked, as most handsets do.
    pub remembers_nonce: bool,
    /// Further headers of its REGISTER.
    pub headers: Vec<(String, String)>,
}

impl Options {
    /// A handset of this user at `pbx.example`, by the RFC, over UDP, registering on demand.
    pub fn new(user: &str, proxy: SocketAddr) -> Options {
        Options {
            user: user.to_owned(),
            domain: "pbx.example".to_owned(),
            password: "secret".to_owned(),
            proxy,
            transport: Transport::Udp,
            tls: None,
            timers: Timers::default(),
            expires: 3600,
            refresh: Refresh::OnDemand,
            retry: Duration::from_secs(30),
            rport: true,
            supported: None,
            user_agent: "Holdline-Agent-Phone/1".to_owned(),
            split_ports: false,
            route: None,
            registrar_uri: None,
            contact_params: String::new(),
            remembers_nonce: true,
            headers: Vec::new(),
        }
    }

    /// The same over another transport.
    #[must_use]
    pub fn over(self, transport: Transport) -> Options {
        Options { transport, ..self }
    }

    /// `user@domain`.
    pub fn aor(&self) -> String {
        format!("{}@{}", self.user, self.domain)
    }
}

/// The time at which a handset registers again after success.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Refresh {
    /// Only on demand.
    OnDemand,
    /// After this fraction of what was granted.
    Fraction(f64),
    /// After this long, whatever was granted.
    Every(Duration),
}

/// The answer of a handset to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// Nothing.
    Silence,
}
