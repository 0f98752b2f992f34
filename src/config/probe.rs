//! The settings of `holdline srv`: a part of those of `holdline run`, by the same names, with the same meaning.

use std::net::SocketAddr;
use std::time::Duration;

use super::error::ConfigError;
use super::layers::Layers;
use super::{key_pair, value};
use crate::flow::Transport;
use crate::transport::{TlsSettings, Verify};

/// The keys that apply.
pub const PROBE_KEYS: [&str; 7] =
    ["transport", "nameserver", "upstream_verify", "upstream_ca", "upstream_ca_only", "upstream_cert", "upstream_key"];

/// What of a configuration a look at an SRV record needs.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// Name servers to ask; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Where it was given.
    pub transport: Option<Transport>,
    /// Where it was given.
    pub verify: Option<Verify>,
    /// The upstream's half.
    pub tls: TlsSettings,
}

impl ProbeConfig {
    /// Parses what was given of [`PROBE_KEYS`].
    pub fn build(layers: &Layers) -> Result<ProbeConfig, ConfigError> {
        let (client_cert, client_key) = key_pair(layers, "upstream_cert", "upstream_key")?;
        let (ca, ca_only) = super::authorities(layers)?;
        let verify = layers.one("upstream_verify", super::verify)?;
        Ok(ProbeConfig {
            nameservers: layers.many("nameserver", |text| value::ip_port(text, 53))?,
            transport: layers.one("transport", value::transport)?,
            verify,
            tls: TlsSettings {
                verify: verify.unwrap_or_default(),
                ca,
                ca_only,
                client_cert,
                client_key,
                ..TlsSettings::default()
            },
        })
    }
}

/// `4s`, `500ms`, `1m` or plain seconds, up to a day: for flags that are no settings. The error says what would be right.
pub fn duration(text: &str, least: Duration) -> Result<Duration, String> {
    value::duration(text, least, Duration::from_secs(86_400)).map_err(std::borrow::Cow::into_owned)
}
