//! What was found: the shape of `holdline srv --json` and of the results that are kept (`docs/srv.md`).
//!
//! Every text in here that came from an untrusted peer has gone through [`plain`](super::plain::plain). Times are seconds since
//! 1970 or milliseconds; fields are added, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::flow::Transport;

/// The version of the shape; it changes if a field ever has to.
pub const VERSION: u32 = 1;

/// One NAME at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// The version of this shape: 1.
    pub version: u32,
    /// When, in seconds since 1970.
    pub at: u64,
    /// The NAME as it was given.
    pub input: String,
    /// `works`, `warning`, `fails`: the worst of the findings.
    pub verdict: Verdict,
    /// What to give `holdline run`; null where nothing is there to give.
    pub enter: Option<Enter>,
    /// Everything worth saying, the worst first.
    pub findings: Vec<Finding>,
    /// The SRV record set that `enter` names, or that was asked for.
    pub record: Option<RecordLook>,
    /// The host itself as static outbound proxy: where a port was given, or there is no SRV record.
    pub outbound_proxy: Option<RecordLook>,
    /// The SRV names tried beside or instead of the one given, in the order of preference.
    pub variations: Vec<Variation>,
    /// NAPTR records of the domain, in their order. They only inform.
    pub naptr: Vec<NaptrLook>,
    /// The outcome of asking for them, as of a variation; null where they were not asked for.
    pub naptr_outcome: Option<String>,
    /// The name servers that were asked, in their order.
    #[serde(default)]
    pub asked: Vec<String>,
    /// What each name server said, where several were given.
    pub nameservers: Vec<ServerLook>,
    /// How long it all took.
    pub took_ms: u64,
}

/// Whether it would work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing to say against it. Exit status 0.
    Works,
    /// It works, and a finding deserves a look. Exit status 1.
    Warning,
    /// Exit status 2.
    Fails,
}

impl Verdict {
    /// The exit status.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Verdict::Works => 0,
            Verdict::Warning => 1,
            Verdict::Fails => 2,
        }
    }

    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Works => "works",
            Verdict::Warning => "works, with warnings",
            Verdict::Fails => "does not work",
        }
    }
}

/// The settings of `holdline run` that fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enter {
    /// `srv`.
    pub srv: Option<String>,
    /// `outbound_proxy`.
    pub outbound_proxy: Option<String>,
    /// `transport`, where the SRV name does not say it.
    pub transport: Option<String>,
    /// `upstream_verify`, where the default would not do.
    pub upstream_verify: Option<String>,
    /// `upstream_ca`, `upstream_ca_only`, `upstream_cert`, `upstream_key`, as the look was given them, where TLS is spoken.
    #[serde(default)]
    pub upstream_ca: Option<String>,
    /// As `upstream_ca`.
    #[serde(default)]
    pub upstream_ca_only: Option<String>,
    /// As `upstream_ca`.
    #[serde(default)]
    pub upstream_cert: Option<String>,
    /// As `upstream_ca`.
    #[serde(default)]
    pub upstream_key: Option<String>,
    /// `nameserver`, as the look was given them.
    #[serde(default)]
    pub nameserver: Vec<String>,
}

impl Enter {
    /// As flags: `--srv _sip._tls.pbx.example.com --upstream-verify target`.
    #[must_use]
    pub fn flags(&self) -> String {
        let flags = [
            ("--srv", &self.srv),
            ("--outbound-proxy", &self.outbound_proxy),
            ("--transport", &self.transport),
            ("--upstream-verify", &self.upstream_verify),
            ("--upstream-ca", &self.upstream_ca),
            ("--upstream-ca-only", &self.upstream_ca_only),
            ("--upstream-cert", &self.upstream_cert),
            ("--upstream-key", &self.upstream_key),
        ];
        let given = flags.into_iter().filter_map(|(flag, value)| Some((flag, value.as_ref()?)));
        let servers = self.nameserver.iter().map(|server| ("--nameserver", server));
        given.chain(servers).map(|(flag, value)| format!("{flag} {}", quoted(value))).collect::<Vec<_>>().join(" ")
    }
}

/// For a shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@%+=,[]".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "'\\''"))
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does not work.
    Error,
    /// It works, but.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// Lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// Something worth saying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How serious: `error`, `warning`, `note`.
    pub severity: Severity,
    /// `nxdomain`, `single_target` …: a word that stays; all of them are below.
    pub code: String,
    /// The targets (`host:port`) or names it is about; may be empty.
    pub about: Vec<String>,
    /// In words.
    pub text: String,
}

/// One record set: an SRV name's, or a static outbound proxy as a set of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordLook {
    /// The SRV name, or `host:port`.
    pub name: String,
    /// The SIP domain: the SRV name without its two labels.
    pub domain: Option<String>,
    /// `udp`, `tcp`, `tls`; null where Holdline speaks none that fits.
    pub transport: Option<Transport>,
    /// Of the record set, in seconds, aliases included; null for an address.
    pub ttl: Option<u64>,
    /// The answer came from a server of the zone; else `ttl` may be what is left in a cache.
    pub authoritative: bool,
    /// The name that really owns the records, where this one is an alias.
    pub alias: Option<String>,
    /// In Holdline's order; records that cannot be used come last, with `order` null.
    pub targets: Vec<TargetLook>,
    /// Which target Holdline selects and why, in one or two sentences.
    pub why: String,
}

impl RecordLook {
    /// The targets that Holdline would use, in its order.
    pub fn usable(&self) -> impl Iterator<Item = &TargetLook> {
        self.targets.iter().filter(|target| target.order.is_some())
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Answers SIP.
    Ok,
    /// Answers, but.
    Warning,
    /// Of no use.
    Fails,
    /// It was not measured.
    NotMeasured,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetLook {
    /// 1 for the first that is used; null for a record that cannot be used.
    pub order: Option<u32>,
    /// The one Holdline would select.
    pub selected: bool,
    /// SRV priority.
    pub priority: u16,
    /// SRV weight.
    pub weight: u16,
    /// RFC 2782's share within the priority, in percent; null for a record that cannot be used.
    pub share_percent: Option<f64>,
    /// Port.
    pub port: u16,
    /// Host name, lower case, without trailing dot; `.` for "no service".
    pub host: String,
    /// What the host is an alias of.
    pub alias: Option<String>,
    /// The lifetime of its addresses, in seconds.
    pub address_ttl: Option<u64>,
    /// `ok`, `warning`, `fails`, `not_measured`: the sum of the addresses.
    pub state: State,
    /// The state in a few words.
    pub summary: String,
    /// Its addresses in the order Holdline tries them.
    pub addresses: Vec<AddressLook>,
}

impl TargetLook {
    /// `host:port`, as in Holdline's metrics.
    #[must_use]
    pub fn label(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// One address of a target, probed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddressLook {
    /// The IPv4 or IPv6 address.
    pub address: String,
    /// `ok`, `warning`, `fails`, `not_measured`.
    pub state: State,
    /// The state in a few words.
    pub summary: String,
    /// Time to a TCP connection; null over UDP and where there is none.
    pub connect_ms: Option<f64>,
    /// What went wrong, if something did.
    pub failure: Option<Failure>,
    /// The TLS handshake.
    pub tls: Option<TlsLook>,
    /// The answer to OPTIONS.
    pub options: Option<OptionsLook>,
}

/// Where a probe ended early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `connect`, `tls`, `certificate`, `options`.
    pub stage: String,
    /// `timeout`, `refused`, `unreachable`, `reset`, `closed`, `handshake`, `refused_certificate`, `not_sip`, `error`.
    pub reason: String,
    /// In words.
    pub text: String,
}

/// A TLS handshake and its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsLook {
    /// `TLSv1.3`.
    pub protocol: String,
    /// The cipher suite.
    pub cipher: String,
    /// What was sent as SNI; null for an address.
    pub sni: Option<String>,
    /// The names the certificate is valid for.
    pub names: Vec<String>,
    /// The distinguished name of its owner.
    pub subject: String,
    /// The distinguished name of who signed it.
    pub issuer: String,
    /// Signed by itself.
    pub self_signed: bool,
    /// Its beginning, in seconds since 1970.
    pub not_before: i64,
    /// Its end, in seconds since 1970.
    pub not_after: i64,
    /// Whole days until the end; negative once past.
    pub days_left: i64,
    /// Whether the setting in use accepts it.
    pub accepted: bool,
    /// The settings of `--upstream-verify` that would accept it.
    pub satisfies: Vec<String>,
    /// Why the setting in use does not accept it.
    pub refusal: Option<String>,
}

/// An answer to OPTIONS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptionsLook {
    /// The status, 200 … 699.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// From the request to the final response.
    pub round_trip_ms: f64,
    /// The Server header, or the User-Agent header some send instead.
    pub server: Option<String>,
}

/// An SRV name that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variation {
    /// The SRV name.
    pub name: String,
    /// `udp`, `tcp`, `tls`; null for `_sips._udp`, which would be DTLS.
    pub transport: Option<Transport>,
    /// `ok`, `nxdomain`, `nodata`, `servfail`, `timeout`, `error`, `no_service`.
    pub outcome: String,
    /// How many records there are.
    pub records: usize,
    /// It is there, and Holdline can use it.
    pub usable: bool,
    /// The one to enter.
    pub preferred: bool,
    /// The outcome in words.
    pub text: String,
}

/// A NAPTR record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NaptrLook {
    /// Lower is tried first.
    pub order: u16,
    /// Lower is tried first, within an order.
    pub preference: u16,
    /// `s`, mostly.
    pub flags: String,
    /// `SIPS+D2T` …
    pub services: String,
    /// The SRV name it leads to.
    pub replacement: String,
}

/// One name server's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLook {
    /// Address and port.
    pub server: String,
    /// The name asked for.
    pub name: String,
    /// As of a variation.
    pub outcome: String,
    /// `priority weight port target`, sorted.
    pub records: Vec<String>,
    /// The addresses of each target, sorted.
    pub addresses: BTreeMap<String, Vec<String>>,
}
