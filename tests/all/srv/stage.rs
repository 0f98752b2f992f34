//! A DNS server, servers behind it, a state directory, and the command in front of them.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use holdline::agents::dns::{self, Srv};
use holdline::agents::registrar::{Behaviour, Options, Registrar};
use holdline::agents::tls;
use holdline::flow::Transport;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_rustls::rustls::ServerConfig;

use crate::support::binary;
use crate::support::wait::in_time;
use crate::transport::certificates::Files;

/// The domain of every name here.
pub(super) const DOMAIN: &str = "pbx.example";

pub(super) struct Stage {
    pub dns: dns::Server,
    state: TempDir,
}

/// What one call gave.
#[derive(Debug)]
pub(super) struct Seen {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Stage {
    pub(super) async fn open() -> Stage {
        Stage { dns: dns::Server::start().await.unwrap(), state: tempfile::tempdir().unwrap() }
    }

    /// Publishes these targets; each host is on loopback.
    pub(super) fn publish(&self, labels: &str, records: &[Srv]) -> String {
        let name = format!("{labels}.{DOMAIN}");
        self.dns.set_srv(&name, 300, records);
        for record in records.iter().filter(|record| record.target != ".") {
            self.dns.set_loopback(&record.target, 300);
        }
        name
    }

    /// Where looks are kept.
    pub(super) fn kept(&self) -> PathBuf {
        self.state.path().join("holdline/srv")
    }

    pub(super) fn state(&self) -> &Path {
        self.state.path()
    }

    /// A command that asks this stage's DNS server and keeps its looks here, without the caller's environment.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::from(binary::holdline([&["srv"], arguments].concat()));
        command.env("XDG_STATE_HOME", self.state.path());
        if !arguments.iter().any(|argument| argument.starts_with("--nameserver") || *argument == "--recent") {
            command.arg(format!("--nameserver={}", self.dns.addr()));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(super) async fn srv(&self, arguments: &[&str]) -> Seen {
        run(self.command(arguments)).await
    }

    /// The JSON of one NAME, and the exit status, which must be what the JSON says.
    pub(super) async fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let seen = self.srv(&[&["--json"], arguments].concat()).await;
        let report = seen.json();
        assert_eq!(report["exit_status"], seen.status, "{report:#}");
        (seen.status, report["names"][0].clone())
    }
}

pub(super) async fn run(mut command: Command) -> Seen {
    let started = Instant::now();
    let Output { status, stdout, stderr } = in_time("its end by itself", command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Seen {
        status: status.code().expect("an exit status"),
        stdout: text(stdout),
        stderr: text(stderr),
        took: started.elapsed(),
    }
}

impl Seen {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Standard output must have all these parts; line ends count as spaces, so that wrapping does not matter.
    #[track_caller]
    pub(super) fn says(&self, parts: &[&str]) {
        let text = self.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(text.contains(part), "no {part:?} in\n{}\n{}", self.stdout, self.stderr);
        }
    }
}

/// Codes of all findings of this severity.
pub(super) fn codes(look: &Value, severity: &str) -> Vec<String> {
    let findings = look["findings"].as_array().unwrap();
    let of = findings.iter().filter(|finding| finding["severity"] == severity);
    of.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

/// The finding with this code.
#[track_caller]
pub(super) fn finding<'a>(look: &'a Value, code: &str) -> &'a Value {
    let findings = look["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["code"] == code).unwrap_or_else(|| panic!("no {code} in {look:#}"))
}

/// A registrar that answers, on UDP and TCP, and on TLS with this certificate.
pub(super) fn registrar(name: &str, files: Option<&Files>) -> Registrar {
    with_tls(name, files.map(|files| server_config(files, None)))
}

pub(super) fn with_tls(name: &str, tls: Option<Arc<ServerConfig>>) -> Registrar {
    Registrar::start(Options { tls, ..Options::named(name) }).unwrap()
}

/// This certificate, and where those of clients must come from.
pub(super) fn server_config(files: &Files, clients: Option<&Path>) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(&files.cert).unwrap()];
    let roots: Vec<_> = clients.iter().map(|file| CertificateDer::from_pem_file(file).unwrap()).collect();
    tls::server(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap(), &roots).unwrap()
}

/// A registrar that behaves so.
pub(super) async fn behaving(name: &str, behaviour: Behaviour) -> Registrar {
    let registrar = registrar(name, None);
    registrar.behave(behaviour).await.unwrap();
    registrar
}

/// The port for a transport.
pub(super) fn port(registrar: &Registrar, transport: Transport) -> u16 {
    registrar.addr(transport).port()
}
