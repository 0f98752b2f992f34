//! Holdline itself, as a child process: `holdline run` with ephemeral ports, which are read from its log.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::config::keys;
use crate::flow::Transport;

/// It binds its sockets within this time, or something is wrong.
const START: Duration = Duration::from_secs(10);

/// A running `holdline run`. It is killed when this is dropped.
pub(super) struct Holdline {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    /// Where handsets connect.
    pub(super) udp: SocketAddr,
    /// Where handsets connect.
    pub(super) tcp: SocketAddr,
    /// Where the PBX's requests arrive.
    pub(super) upstream: SocketAddr,
    /// Where metrics and status are.
    pub(super) admin: SocketAddr,
}

/// A setting by its name in the configuration file, and its value.
pub(super) type Setting = (&'static str, String);

impl Holdline {
    /// Starts this very program as `holdline run` and waits until it listens.
    pub(super) async fn start(settings: &[Setting]) -> anyhow::Result<Holdline> {
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let mut command = Command::new(&program);
        command.arg("run").args(settings.iter().map(|(name, value)| format!("--{}={value}", name.replace('_', "-"))));
        // An operator's own settings are not the demo's.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|n| n.starts_with("HOLDLINE_") || n == "RUST_LOG") {
                command.env_remove(name);
            }
        }
        // Its own group, so that Ctrl-C is ours to handle.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        let stderr = child.stderr.take().context("no log")?;
        let mut log = BufReader::new(stderr).lines();
        let found = tokio::time::timeout(START, addresses(&mut log)).await;
        let found = found.unwrap_or_else(|_| bail!("holdline run does not listen after {START:?}"));
        match found {
            Ok([udp, tcp, upstream, admin]) => Ok(Holdline { child, log, udp, tcp, upstream, admin }),
            Err(error) => {
                let _ = child.kill().await;
                Err(error)
            }
        }
    }

    /// Where handsets connect.
    pub(super) fn phone_side(&self, transport: Transport) -> SocketAddr {
        if transport == Transport::Udp { self.udp } else { self.tcp }
    }

    /// The next line of its log, for people; `None` once it has ended. Safe to cancel.
    pub(super) async fn says(&mut self) -> Option<String> {
        let line = self.log.next_line().await.ok()??;
        Some(serde_json::from_str(&line).map_or(line, |event| text(&event)))
    }

    /// Ends it.
    pub(super) async fn stop(&mut self) {
        let _ = self.child.kill().await;
    }
}

/// Reads the log up to the line about the admin listener: by then every socket is bound.
async fn addresses(log: &mut Lines<BufReader<ChildStderr>>) -> anyhow::Result<[SocketAddr; 4]> {
    let (mut udp, mut tcp, mut upstream) = (None, None, None);
    let mut last = "holdline run ended at once".to_owned();
    while let Some(line) = log.next_line().await? {
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            last = line;
            continue;
        };
        let address = event["address"].as_str().and_then(|a| a.parse::<SocketAddr>().ok());
        let message = event["message"].as_str().unwrap_or("");
        match (event["side"].as_str(), event["transport"].as_str()) {
            (Some("phone"), Some("udp")) => udp = udp.or(address),
            (Some("phone"), Some("tcp")) => tcp = tcp.or(address),
            (Some("upstream"), Some("udp")) => upstream = upstream.or(address),
            _ if message.starts_with("admin") => {
                let admin = address.context("the log does not say where the admin listener is")?;
                let all = udp.zip(tcp).zip(upstream).context("the log does not say where Holdline listens")?;
                return Ok([all.0.0, all.0.1, all.1, admin]);
            }
            _ => {}
        }
    }
    bail!("{last}")
}

/// The level where it is serious, the message, then its fields.
fn text(event: &Value) -> String {
    let level = event["level"].as_str().filter(|level| matches!(*level, "WARN" | "ERROR"));
    let words = level.into_iter().chain(event["message"].as_str()).map(str::to_owned);
    let known = |name: &str| matches!(name, "timestamp" | "level" | "message" | "target");
    let fields = event.as_object().into_iter().flatten().filter(|(name, _)| !known(name));
    let field = |(name, value): (&String, &Value)| match value.as_str() {
        Some(value) => format!("{name}={value}"),
        None => format!("{name}={value}"),
    };
    words.chain(fields.map(field)).collect::<Vec<_>>().join(" ")
}

/// A setting as shipped; empty where it has no default.
pub(super) fn default(name: &str) -> &'static str {
    keys::find(name).map_or("", |key| key.default)
}

/// The settings whose value is not the shipped default, with that default.
pub(super) fn differing(settings: &[Setting]) -> Vec<(Setting, &'static str)> {
    let mut differing: Vec<(Setting, &'static str)> = Vec::new();
    for (name, value) in settings {
        let default = default(name);
        match differing.iter_mut().find(|((known, _), _)| known == name) {
            Some(((_, values), _)) => *values = format!("{values},{value}"),
            None => differing.push(((name, value.clone()), default)),
        }
    }
    differing.retain(|((_, value), default)| value != default);
    differing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_from_the_shipped_default_is_told() {
        let settings =
            [("failures", "3".to_owned()), ("listen", "udp:h:1".to_owned()), ("listen", "tcp:h:2".to_owned())];
        let told = differing(&settings);
        assert_eq!(told, [(("listen", "udp:h:1,tcp:h:2".to_owned()), "udp:0.0.0.0:5060,tcp:0.0.0.0:5060")]);
    }
}
