//! New settings for a running Holdline: what can change while it runs is handed to the driver, what cannot is logged.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::args::RunArgs;
use super::contents::Contents;
use super::notes;
use crate::admin::Access;
use crate::config::keys::find;
use crate::config::{Config, ConfigError, Layers};
use crate::driver::{Live, Request};
use crate::flow::Transport;
use crate::logging;
use crate::metrics::Metrics;
use crate::proxy::Reload;
use crate::transport::tls::TlsError;
use crate::transport::{Certificates, TlsSettings};

/// The driver takes no more requests: the process ends.
pub(super) struct Stopped;

/// Reads the settings again, and knows what the running ones are.
pub(super) struct Reloader {
    args: RunArgs,
    /// At the start: what needs a restart is compared with these.
    start: Layers,
    contact_key: Option<[u8; 32]>,
    upstream: Transport,
    /// In force now.
    layers: Layers,
    tls: TlsSettings,
    notes: Vec<String>,
    contents: Contents,
    /// Files of the settings read last, whether or not they could be used.
    files: Vec<PathBuf>,
    /// The mistake that was found when they were read last, so that it is logged once.
    complaint: Option<String>,
    /// The settings that were logged as needing a restart.
    frozen: Vec<&'static str>,
    running: Running,
}

/// What takes other settings while it runs.
pub(super) struct Running {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) access: Access,
    pub(super) metrics: Arc<Metrics>,
}

/// Why new settings are not taken.
enum Refused {
    Config(ConfigError),
    Tls(TlsError),
}

/// New settings, valid, and their certificates.
struct Read {
    layers: Layers,
    config: Config,
    tls: TlsSettings,
    certificates: Certificates,
}

impl Reloader {
    /// For a Holdline that runs with this configuration, made from these arguments.
    pub(super) fn new(args: RunArgs, layers: Layers, config: &Config, running: Running) -> Self {
        Reloader {
            files: files(&args, &layers),
            args,
            start: layers.clone(),
            contact_key: config.contact_key,
            upstream: config.upstream.transport,
            layers,
            tls: config.transport.tls.clone(),
            notes: config.notes.iter().map(|note| note.text.clone()).collect(),
            contents: Contents::new(),
            complaint: None,
            frozen: Vec::new(),
            running,
        }
    }

    /// What to look at: the configuration file and every file that is named.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    /// What the files held at the start.
    pub(super) fn began_with(&mut self, contents: Contents) {
        self.contents = contents;
    }

    /// Reads everything again. `contents`: of the files as they were seen. `asked`: a signal asked for it, and every result is
    /// logged.
    pub(super) async fn read(&mut self, contents: &Contents, asked: bool) -> Result<(), Stopped> {
        let (args, running, upstream) = (self.args.clone(), self.tls.clone(), self.upstream);
        let reading = tokio::task::spawn_blocking(move || read(&args, &running, upstream));
        let Ok((layers, result)) = reading.await else { return Err(Stopped) };
        if let Some(layers) = layers {
            self.files = files(&self.args, &layers);
        }
        match result {
            Ok(read) => self.take(read, contents, asked).await,
            Err(refused) => {
                self.complain(refused, asked);
                Ok(())
            }
        }
    }

    async fn take(&mut self, read: Read, contents: &Contents, asked: bool) -> Result<(), Stopped> {
        let Read { layers, config, tls, certificates } = read;
        let live = Live {
            certificates,
            core: Reload { proxy: config.proxy, upstream: config.upstream },
            nameservers: config.nameservers,
            connect_timeout: config.transport.connect_timeout,
            connections: config.transport.limits.connections,
            drain_timeout: config.drain_timeout,
        };
        let (to, taken) = oneshot::channel();
        self.running.requests.send(Request::Reload(Box::new(live), to)).await.map_err(|_| Stopped)?;
        if let Err(error) = taken.await.map_err(|_| Stopped)? {
            self.complain(Refused::Tls(error), asked);
            return Ok(());
        }
        self.running.access.renew(config.admitted);
        self.running.metrics.set_config_refused(None);
        let repaired = self.complaint.take().is_some();

        let rewritten = layers.files().into_iter().filter(|(_, path)| {
            let before = self.contents.get(path);
            before.is_some() && before != contents.get(path)
        });
        let mut changed = layers.differences(&self.layers);
        changed.extend(rewritten.map(|(name, _)| name));
        changed.retain(|name| find(name).is_some_and(|key| key.live));
        Self::log_changes(&changed, asked || repaired);
        if changed.contains(&"log_level") && !logging::set_level(&config.log.level) {
            tracing::warn!("log_level has no effect: RUST_LOG decides");
        }
        let fresh = config.notes.iter().filter(|note| !self.notes.contains(&note.text));
        fresh.for_each(notes::log);

        let mut frozen = layers.differences(&self.start);
        frozen.retain(|name| find(name).is_some_and(|key| !key.live));
        if config.contact_key != self.contact_key && !frozen.contains(&"contact_key") {
            frozen.push("contact_key");
        }
        if !frozen.is_empty() && (asked || frozen != self.frozen) {
            tracing::warn!(keys = frozen.join(", "), "settings have changed that need a restart");
        }
        self.frozen = frozen;
        self.notes = config.notes.into_iter().map(|note| note.text).collect();
        self.contents.clone_from(contents);
        (self.layers, self.tls) = (layers, tls);
        Ok(())
    }

    /// `anyway`: also if there are none.
    fn log_changes(changed: &[&'static str], anyway: bool) {
        let certificates = changed.iter().any(|name| CERTIFICATES.contains(name));
        if certificates || anyway {
            tracing::info!("certificates read again");
        }
        if !changed.is_empty() || anyway {
            tracing::info!(changed = changed.join(", "), "configuration read again");
        }
    }

    /// Logs one line for each thing that is wrong, not one for each look at it.
    fn complain(&mut self, refused: Refused, asked: bool) {
        let complaint = match &refused {
            Refused::Config(error) => error.to_string(),
            Refused::Tls(error) => error.to_string(),
        };
        self.running.metrics.set_config_refused(Some(&complaint));
        if !asked && self.complaint.as_ref() == Some(&complaint) {
            return;
        }
        self.complaint = Some(complaint);
        match refused {
            Refused::Tls(error) => tracing::error!(%error, "certificates cannot be used; the old ones stay"),
            Refused::Config(ConfigError { key, value, origin, remedy }) => {
                let from = origin.to_string();
                if CERTIFICATES.contains(&key.as_str()) {
                    tracing::error!(
                        key,
                        value,
                        from,
                        remedy = &*remedy,
                        "certificates cannot be used; the old ones stay"
                    );
                } else {
                    tracing::error!(
                        key,
                        value,
                        from,
                        remedy = &*remedy,
                        "configuration cannot be used; the old one stays"
                    );
                }
            }
        }
    }
}

/// Settings that name certificates, keys and authorities.
const CERTIFICATES: [&str; 6] =
    ["tls_cert", "tls_key", "upstream_ca", "upstream_ca_only", "upstream_cert", "upstream_key"];

fn files(args: &RunArgs, layers: &Layers) -> Vec<PathBuf> {
    let named = layers.files().into_iter().map(|(_, path)| path);
    args.file.iter().map(|(path, _)| path.clone()).chain(named).collect()
}

/// The settings as text, if the file could be read at all, and what they are worth.
fn read(args: &RunArgs, running: &TlsSettings, upstream: Transport) -> (Option<Layers>, Result<Read, Refused>) {
    let layers = match args.with_file() {
        Ok(layers) => layers,
        Err(error) => return (None, Err(Refused::Config(error))),
    };
    let config = match Config::build(&layers) {
        Ok(config) => config,
        Err(error) => return (Some(layers), Err(Refused::Config(error))),
    };
    let mut tls = TlsSettings { domain: running.domain.clone(), ..config.transport.tls.clone() };
    if tls.server_cert.is_none() {
        // Taken out together with its listener, perhaps, which goes only with a restart: until then it has to show something.
        tls.server_cert.clone_from(&running.server_cert);
        tls.server_key.clone_from(&running.server_key);
    }
    let result = match Certificates::read(&tls, upstream) {
        Ok(certificates) => Ok(Read { layers: layers.clone(), config, tls, certificates }),
        Err(error) => Err(Refused::Tls(error)),
    };
    (Some(layers), result)
}
