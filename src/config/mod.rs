//! Configuration: flags, then `HOLDLINE_*`, then the TOML file, then defaults.
//!
//! [`keys`] lists every setting once; [`mod@reference`] makes the pages about them. [`Layers`] collects what was written, as text that remembers where it came from;
//! [`Config::build`] parses it, once, into the settings of the modules: types that cannot be invalid. What is wrong is
//! one [`ConfigError`]: one line with the key, the value, where it came from and what would be right.

mod cluster;
mod error;
mod files;
mod hep;
mod intervals;
pub mod keys;
mod layers;
mod limits;
mod listen;
mod notify;
mod probe;
pub mod reference;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, Origin};
pub use files::writable_directory;
pub use layers::{Layers, misspelt_variables};
pub use probe::{PROBE_KEYS, ProbeConfig, duration};

use crate::admin::{Admitted, Token};
use crate::cluster::Settings as ClusterSettings;
use crate::control::{DEFAULT_NAME, LONGEST_PATH};
use crate::flow::Transport;
use crate::hep::Settings as HepSettings;
use crate::logging;
use crate::notify::Target;
use crate::proxy::contact::Mode;
use crate::proxy::{Exhausted, Settings as ProxySettings, Sips};
use crate::transport::{Limits, Listen, Settings as TransportSettings, TlsSettings, Verify};
use crate::upstream::name::SrvName;
use crate::upstream::{Selection, Settings as UpstreamSettings, Source};

/// RFC 3261 §17.1.2.2: no handset's REGISTER outlives Timer F.
const TIMER_F: Duration = Duration::from_secs(32);

/// Everything `holdline run` needs to know, valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which targets, in which order, and when to leave one.
    pub upstream: UpstreamSettings,
    /// Sockets and TLS.
    pub transport: TransportSettings,
    /// What happens to requests.
    pub proxy: ProxySettings,
    /// Name servers to ask; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Where state survives a restart.
    pub state_dir: Option<PathBuf>,
    /// The secret behind the user parts handed out, where the operator gives it.
    pub contact_key: Option<[u8; 32]>,
    /// The operator's Unix socket.
    pub control: Option<ControlPath>,
    /// Time to leave after SIGTERM.
    pub drain_timeout: Duration,
    /// The admin listener.
    pub admin: SocketAddr,
    /// Whom it answers.
    pub admitted: Admitted,
    /// The name of this instance.
    pub instance: String,
    /// The memory that it shares with others, if it is one of several.
    pub cluster: Option<ClusterSettings>,
    /// The log's form and level.
    pub log: logging::Settings,
    /// Where copies of messages go.
    pub hep: Option<HepSettings>,
    /// Who is told of a rollover.
    pub on_rollover: Option<Target>,
    /// Remarks about this configuration for the operator: one log line each.
    pub notes: Vec<Note>,
}

/// Where the operator's socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPath {
    /// Short enough for a socket's address.
    pub path: PathBuf,
    /// Nobody asked for it: it follows from `state_dir`.
    pub default: bool,
}

/// Something about a valid configuration that deserves a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether it is likely to be a mistake.
    pub warning: bool,
    /// One line.
    pub text: String,
}

impl Config {
    /// Parses and checks everything. Files that are named are looked at, so that one that is missing or does not fit is
    /// found here; the transports read certificates again when they bind, and when they change.
    pub fn build(layers: &Layers) -> Result<Config, ConfigError> {
        let mut notes = Vec::new();
        let Chosen { source, transport, srv_domain, domain } = upstream(layers, &mut notes)?;
        let listeners = listen::listeners(layers, transport)?;
        let failover = failover(layers, source, transport)?;
        let tls = tls(layers, transport, srv_domain, &listeners.listen, &mut notes)?;
        let connect_timeout = layers.need("connect_timeout", |t| value::duration(t, MILLIS_100, TIMER_F))?;
        let memory = limits::memory(layers)?;
        let proxy = ProxySettings { max_bytes: memory.messages, ..proxy(layers, domain, &listeners, &mut notes)? };
        if connect_timeout > proxy.attempt_timeout {
            notes.push(Note::warning("connect_timeout is longer than attempt_timeout, which ends a connect first"));
        }
        if !matches!(failover.source, Source::Srv { .. }) && failover.selection == Selection::Weighted {
            notes.push(Note::warning("selection has no effect without an SRV record"));
        }
        let state_dir = state_dir(layers)?;
        let control = control(layers, state_dir.as_deref(), &mut notes)?;
        let connections = layers.need("limit_connections", |t| value::number(t, 1, 1_000_000))?;
        let instance = layers.one("instance", value::label)?.unwrap_or_else(machine);
        let cluster = cluster::settings(layers, &failover.source, &instance, &mut notes)?;
        Ok(Config {
            transport: TransportSettings {
                listen: listeners.listen,
                upstream_bind: listeners.upstream_bind,
                proxy_protocol: layers.many("proxy_protocol", value::network)?,
                tls,
                io_threads: layers.one("io_threads", |t| value::number(t, 1, 64))?,
                connect_timeout,
                limits: Limits { connections, held_bytes: memory.connections, ..Limits::default() },
                allow: proxy.allow.clone(),
                upstream_transport: transport,
            },
            upstream: failover,
            proxy,
            nameservers: layers.many("nameserver", |t| value::ip_port(t, 53))?,
            state_dir,
            contact_key: contact_key(layers)?,
            control,
            drain_timeout: layers
                .need("drain_timeout", |t| value::duration(t, Duration::ZERO, Duration::from_secs(3600)))?,
            admin: listeners.admin,
            admitted: Admitted {
                hosts: layers.many("admin_host", value::host)?,
                token: admin_token(layers)?.map(|token| Token::new(token.as_bytes())),
            },
            instance,
            cluster,
            log: logging::Settings {
                format: layers.need("log_format", |t| {
                    value::choice(t, &[("text", logging::Format::Text), ("json", logging::Format::Json)])
                })?,
                level: layers.need("log_level", |t| {
                    value::choice(t, &["error", "warn", "info", "debug", "trace"].map(|level| (level, level)))
                        .map(str::to_owned)
                })?,
            },
            hep: hep::settings(layers, &mut notes)?,
            on_rollover: notify::on_rollover(layers, &mut notes)?,
            notes,
        })
    }
}

const MILLIS_100: Duration = Duration::from_millis(100);

impl Note {
    fn warning(text: impl Into<String>) -> Self {
        Note { warning: true, text: text.into() }
    }

    fn info(text: impl Into<String>) -> Self {
        Note { warning: false, text: text.into() }
    }
}

/// The machine's own name.
pub(crate) fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    value::label(name.trim()).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "holdline".to_owned())
}

/// What srv, outbound_proxy, transport and domain say together.
struct Chosen {
    source: Source,
    transport: Transport,
    /// The SRV name without its two labels.
    srv_domain: Option<String>,
    /// The SIP domain, where it is known.
    domain: Option<String>,
}

fn upstream(layers: &Layers, notes: &mut Vec<Note>) -> Result<Chosen, ConfigError> {
    let chosen = layers.one("transport", value::transport)?;
    let domain = layers.one("domain", value::host)?;
    // Parsed even where SRV wins: a mistake in it would surface on the day the SRV record is taken out.
    let proxy = layers.one("outbound_proxy", |text| match SrvName::parse(Some(text), Some(Transport::Udp)) {
        Ok(Some(name)) if name.name.starts_with('_') => Err("is an SRV name; give it as srv".into()),
        _ => value::host_port(text),
    })?;
    let srv = layers.one("srv", |text| SrvName::parse(Some(text), chosen).map_err(|error| error.to_string().into()))?;
    match (srv.flatten(), proxy) {
        (Some(srv), proxy) => {
            if let Some(proxy) = proxy {
                notes.push(Note::info(format!(
                    "srv and outbound_proxy are both given: the SRV record {} wins, {proxy} gets no packet",
                    srv.name
                )));
            }
            notes.extend(srv.warning.map(Note::warning));
            Ok(Chosen {
                source: Source::Srv { name: srv.name },
                transport: srv.transport,
                domain: domain.or_else(|| Some(srv.domain.clone())),
                srv_domain: Some(srv.domain),
            })
        }
        (None, Some(proxy)) => {
            let source = Source::Static { host: proxy.host, port: proxy.port };
            Ok(Chosen { source, transport: chosen.unwrap_or(Transport::Udp), srv_domain: None, domain })
        }
        (None, None) => Err(layers.error(
            "srv",
            "blank, and so is outbound_proxy; name the PBX, for example --srv _sip._udp.pbx.example.com or \
             --outbound-proxy pbx.example.com",
        )),
    }
}

fn failover(layers: &Layers, source: Source, transport: Transport) -> Result<UpstreamSettings, ConfigError> {
    let code = |text: &str| match value::number(text, 300, 699)? {
        401 | 407 => Err("a challenge is how every registration begins: it cannot be a failure".into()),
        code => Ok(code),
    };
    Ok(UpstreamSettings {
        source,
        transport,
        selection: layers.need("selection", |t| {
            value::choice(t, &[("highest-weight", Selection::HighestWeight), ("weighted", Selection::Weighted)])
        })?,
        failures: layers.need("failures", |t| value::number(t, 1, 1_000_000))?,
        failure_codes: layers.many("failure_codes", code)?,
        min_handsets: layers.need("min_handsets", |t| value::number(t, 1, 1_000_000))?,
    })
}

fn proxy(
    layers: &Layers,
    domain: Option<String>,
    listeners: &listen::Listeners,
    notes: &mut Vec<Note>,
) -> Result<ProxySettings, ConfigError> {
    let domain_in_aor = layers.need("domain_in_aor", value::boolean)?;
    if domain_in_aor && domain.is_none() {
        return Err(layers.error("domain_in_aor", "needs domain, because an outbound proxy does not say one"));
    }
    let attempt_timeout = layers.need("attempt_timeout", |t| value::duration(t, MILLIS_100, TIMER_F))?;
    let retry_deadline = layers.need("retry_deadline", |t| value::duration(t, MILLIS_100, TIMER_F))?;
    if attempt_timeout > retry_deadline {
        let remedy =
            format!("must not be longer than retry_deadline ({retry_deadline:?}), or nothing is ever tried again");
        return Err(layers.error("attempt_timeout", remedy));
    }
    let allow = layers.many("allow", value::network)?;
    if allow.is_empty() {
        return Err(
            layers.error("allow", "an empty list admits nobody; name the phones' networks, e.g. 192.168.0.0/16")
        );
    }
    if allow.iter().any(|net| net.prefix_len() == 0) {
        notes.push(Note::warning("allow admits the whole internet to the phone side"));
    }
    Ok(ProxySettings {
        aliases: layers.many("alias", value::host)?,
        domain,
        domain_in_aor,
        contact: layers.need("contact", |t| value::choice(t, &[("rewrite", Mode::Rewrite), ("path", Mode::Path)]))?,
        sips: layers.need("sips", |t| value::choice(t, &[("downgrade", Sips::Downgrade), ("refuse", Sips::Refuse)]))?,
        upstream_advertise: listeners.upstream_bind.advertise.clone(),
        register_interval: intervals::register_interval(layers)?,
        retry: layers.need("retry", value::boolean)?,
        upstream_keepalive: intervals::upstream_keepalive(layers)?,
        attempt_timeout,
        retry_deadline,
        exhausted: layers.need("exhausted", |t| {
            value::choice(t, &[("silent", Exhausted::Silent), ("503", Exhausted::Unavailable)])
        })?,
        invite_alternate: layers.need("invite_alternate", value::boolean)?,
        allow,
        upstream_allow: layers.many("upstream_allow", value::network)?,
        max_transactions: layers.need("limit_transactions", |t| value::number(t, 16, 10_000_000))?,
        max_bindings: layers.need("limit_bindings", |t| value::number(t, 1, 10_000_000))?,
        max_failing: layers.need("limit_failing", |t| value::number(t, 0, 100_000))?,
        max_datagram: layers.need("limit_datagram", |t| value::number(t, 1024, 65_535))?,
        ..ProxySettings::default()
    })
}

/// Certificates, by file name; they are read when the sockets are bound, and again when they change.
fn tls(
    layers: &Layers,
    upstream: Transport,
    srv_domain: Option<String>,
    listen: &[Listen],
    notes: &mut Vec<Note>,
) -> Result<TlsSettings, ConfigError> {
    let (server_cert, server_key) = key_pair(layers, "tls_cert", "tls_key")?;
    let (client_cert, client_key) = key_pair(layers, "upstream_cert", "upstream_key")?;
    let (ca, ca_only) = authorities(layers)?;
    let listens_tls = listen.iter().any(|l| l.transport == Transport::Tls);
    if listens_tls && server_cert.is_none() {
        return Err(layers.error("tls_cert", "missing, but listen has a tls entry; give tls_cert and tls_key"));
    }
    if server_cert.is_some() && !listens_tls {
        notes.push(Note::warning("tls_cert has no effect: listen has no tls entry"));
    }
    let upstream_files = client_cert.is_some() || ca.is_some() || ca_only.is_some();
    if upstream != Transport::Tls && (upstream_files || layers.has("upstream_verify")) {
        let text = format!("upstream_ca, upstream_cert and upstream_verify have no effect over {upstream}");
        notes.push(Note::warning(text));
    }
    Ok(TlsSettings {
        domain: srv_domain,
        verify: layers.need("upstream_verify", verify)?,
        ca,
        ca_only,
        client_cert,
        client_key,
        server_cert,
        server_key,
    })
}

/// upstream_ca and upstream_ca_only: one of them at most.
fn authorities(layers: &Layers) -> Result<(Option<PathBuf>, Option<PathBuf>), ConfigError> {
    let ca = layers.one("upstream_ca", value::path)?;
    let ca_only = layers.one("upstream_ca_only", value::path)?;
    if ca.is_some() && ca_only.is_some() {
        let remedy = "contradicts upstream_ca_only; one adds to the system's authorities, the other replaces them";
        return Err(layers.error("upstream_ca", remedy));
    }
    for (name, file) in [("upstream_ca", &ca), ("upstream_ca_only", &ca_only)] {
        if let Some(file) = file {
            files::authorities(layers, name, file)?;
        }
    }
    Ok((ca, ca_only))
}

fn verify(text: &str) -> Result<Verify, layers::Remedy> {
    value::choice(text, &[("domain", Verify::Domain), ("target", Verify::Target), ("either", Verify::Either)])
}

/// Both files or neither.
fn key_pair(layers: &Layers, cert: &str, key: &str) -> Result<(Option<PathBuf>, Option<PathBuf>), ConfigError> {
    match (layers.one(cert, value::path)?, layers.one(key, value::path)?) {
        (None, None) => Ok((None, None)),
        (Some(cert_file), Some(key_file)) => {
            files::pair(layers, (cert, &cert_file), (key, &key_file))?;
            Ok((Some(cert_file), Some(key_file)))
        }
        (Some(_), None) => Err(layers.error(cert, format!("needs {key} beside it"))),
        (None, Some(_)) => Err(layers.error(key, format!("needs {cert} beside it"))),
    }
}

/// Damaged or full, a state directory is a warning at the start; but a file in its place is a mistake.
fn state_dir(layers: &Layers) -> Result<Option<PathBuf>, ConfigError> {
    let path = layers.one("state_dir", value::path)?;
    match &path {
        Some(path) if path.exists() && !path.is_dir() => Err(layers.error("state_dir", "is not a directory")),
        _ => Ok(path),
    }
}

/// The settings that say where a running Holdline is reached.
pub const WHEREABOUTS: [&str; 4] = ["admin", "admin_token_file", "control", "state_dir"];

/// The admin listener of a Holdline that runs with such settings, as it is bound. Nothing else is looked at.
pub fn admin_address(layers: &Layers) -> Result<SocketAddr, ConfigError> {
    listen::admin(layers)
}

/// The control socket of a Holdline that runs with such settings, if there is one. Nothing else is looked at.
pub fn control_path(layers: &Layers) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = layers.one("control", value::path)? {
        return Ok(Some(path));
    }
    Ok(layers.one("state_dir", value::path)?.map(|dir| dir.join(DEFAULT_NAME)))
}

/// The path given, else the one in the state directory, if there is one.
fn control(
    layers: &Layers,
    state_dir: Option<&Path>,
    notes: &mut Vec<Note>,
) -> Result<Option<ControlPath>, ConfigError> {
    let fits = |path: &Path| path.as_os_str().len() <= LONGEST_PATH;
    if let Some(path) = layers.one("control", value::path)? {
        if !fits(&path) {
            return Err(layers.error("control", format!("a socket's path has at most {LONGEST_PATH} bytes")));
        }
        return Ok(Some(ControlPath { path, default: false }));
    }
    let Some(path) = state_dir.map(|dir| dir.join(DEFAULT_NAME)) else { return Ok(None) };
    if !fits(&path) {
        notes.push(Note::warning(format!(
            "state_dir is too long a path for a socket in it (at most {LONGEST_PATH} bytes): give control, or do without the \
             operator's commands"
        )));
        return Ok(None);
    }
    Ok(Some(ControlPath { path, default: true }))
}

/// What every page of the admin listener but the probes' asks for.
pub fn admin_token(layers: &Layers) -> Result<Option<String>, ConfigError> {
    const LEAST: usize = 16;
    let Some(path) = layers.one("admin_token_file", value::path)? else { return Ok(None) };
    let secret = files::secret(layers, "admin_token_file", &path, LEAST)?;
    match String::from_utf8(secret) {
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(token)),
        _ => {
            let remedy = "holds more than one word of visible ASCII; make one, e.g. with openssl rand -hex 32";
            Err(layers.error("admin_token_file", remedy))
        }
    }
}

/// Any file of at least 16 bytes: its digest is the key.
fn contact_key(layers: &Layers) -> Result<Option<[u8; 32]>, ConfigError> {
    const LEAST: usize = 16;
    let Some(path) = layers.one("contact_key", value::path)? else { return Ok(None) };
    let secret = files::secret(layers, "contact_key", &path, LEAST)?;
    let mut key = [0; 32];
    key.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &secret).as_ref());
    Ok(Some(key))
}
