//! Holdline itself, as its operator starts it, with its SRV record in a DNS server of the test's own.

use std::net::SocketAddr;

use holdline::agents::dns::{Server, Srv};
use holdline::flow::Transport;

use super::DOMAIN;
use super::kamailio::Kamailio;
use super::tls::Authority;
use crate::support::http;
use crate::support::ports::free_address;
use crate::support::process::{Process, Signal};
use crate::support::wait::until;

/// A running Holdline.
pub(crate) struct Holdline {
    process: Process,
    arguments: Vec<String>,
    /// Its listener for UDP and TCP phones.
    pub sip: SocketAddr,
    /// Its listener for TLS phones; its certificate is for `localhost` and 127.0.0.1.
    pub sips: SocketAddr,
    /// Where the PBX reaches it: what it gives out as its Contact.
    pub upstream: SocketAddr,
    /// Its metrics and status.
    pub admin: SocketAddr,
    _dns: Server,
}

impl Holdline {
    /// Starts one for the SRV record that `pbxs` make up, in this order of priority, and waits until it is ready.
    pub(crate) async fn start(
        pbxs: &[&Kamailio],
        transport: Transport,
        authority: &Authority,
        options: &[&str],
    ) -> Holdline {
        let port = |pbx: &&Kamailio| if transport == Transport::Tls { pbx.sips.port() } else { pbx.sip.port() };
        Self::before(&pbxs.iter().map(port).collect::<Vec<_>>(), transport, authority, options).await
    }

    /// The same for whatever listens at these ports of 127.0.0.1.
    pub(crate) async fn before(
        ports: &[u16],
        transport: Transport,
        authority: &Authority,
        options: &[&str],
    ) -> Holdline {
        let dns = Server::start().await.expect("a DNS server");
        let name = format!("_sip._{transport}.{DOMAIN}");
        let mut records = Vec::new();
        for (index, &port) in ports.iter().enumerate() {
            let host = format!("pbx{index}.{DOMAIN}");
            dns.set_loopback(&host, 300);
            records.push(Srv::new(10 * (index as u16 + 1), 100, port, &host));
        }
        dns.set_srv(&name, 300, &records);

        let local = free_address;
        let (sip, sips, upstream, admin) = (local(), local(), local(), local());
        let (certificate, key) = authority.issue_files(&["localhost", "127.0.0.1"]);
        let mut arguments = vec!["run".to_owned()];
        let mut set = |flag: &str, value: String| arguments.extend([format!("--{flag}"), value]);
        set("srv", name);
        set("nameserver", dns.addr().to_string());
        set("listen", format!("udp:{sip}"));
        set("listen", format!("tcp:{sip}"));
        set("listen", format!("tls:{sips}"));
        set("tls-cert", certificate.display().to_string());
        set("tls-key", key.display().to_string());
        set("upstream-bind", upstream.to_string());
        if transport == Transport::Tls {
            set("upstream-ca-only", authority.file().display().to_string());
        }
        set("admin", admin.to_string());
        arguments.extend(options.iter().map(|word| (*word).to_owned()));

        let folder = tempfile::tempdir().expect("a temporary folder");
        let process = Process::start(folder, env!("CARGO_BIN_EXE_holdline"), &arguments).expect("holdline starts");
        let mut holdline = Holdline { process, arguments, sip, sips, upstream, admin, _dns: dns };
        holdline.is_ready().await;
        holdline
    }

    async fn is_ready(&mut self) {
        until("Holdline is ready", async || {
            self.assert_alive();
            http::get(self.admin, "/readyz").await.ok().filter(|(status, _)| *status == 200)
        })
        .await;
    }

    /// Tells it to end; it drains first.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::Terminate);
    }

    /// Waits for its end, and returns its exit code.
    pub(crate) async fn ended(&mut self) -> i32 {
        until("Holdline's end", async || self.process.ended()).await
    }

    /// Starts `program` in its place, on the same addresses and state.
    pub(crate) async fn start_again(&mut self, program: &str) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        self.process = Process::start(folder, program, &self.arguments).expect("holdline starts");
        self.is_ready().await;
    }

    /// What it has logged since it was started last.
    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// Where phones of this transport find it.
    pub(crate) fn listener(&self, transport: Transport) -> SocketAddr {
        if transport == Transport::Tls { self.sips } else { self.sip }
    }

    /// The sum of a metric over all its labels that contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = http::get(self.admin, "/metrics").await.expect("metrics");
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until it has rolled over `times` times because REGISTERs failed.
    pub(crate) async fn rolled_over(&mut self, times: f64) {
        until("a rollover", async || {
            self.assert_alive();
            let count = self.metric("holdline_failovers_total", "reason=\"register_failures\"").await;
            (count >= times).then_some(())
        })
        .await;
    }

    /// What it has logged as a warning or an error.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let output = self.process.output();
        output.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).map(str::to_owned).collect()
    }

    fn assert_alive(&mut self) {
        let ended = self.process.ended();
        assert!(ended.is_none(), "Holdline ended with {ended:?}: {}", self.process.output());
    }
}
