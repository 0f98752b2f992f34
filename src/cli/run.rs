//! `holdline run`: the boot story, top to bottom.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::Failure;
use super::args::RunArgs;
use super::notes::log;
use super::notes::upstream;
use super::reload::{Reloader, Running};
use super::watch::watch;
use crate::admin::{Access, Admin, Shared};
use crate::config::{Config, ControlPath, Layers, machine, misspelt_variables};
use crate::control::{self, Control, Place};
use crate::dns::Resolver;
use crate::driver::{Driver, Request, Setup, StartError};
use crate::flow::Transport;
use crate::hep;
use crate::logging;
use crate::metrics::{Metrics, REVISION};
use crate::notify::{self, About, Notices};
use crate::transport::{bind_remedy, descriptors};
use crate::upstream::Source;

/// Questions of the admin listener that may wait for the driver.
const QUESTIONS: usize = 16;

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends at once.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let layers = args.with_file()?;
    let config = Config::build(&layers)?;
    logging::start(&config.log);
    introduce(&config);
    if let Err(error) = descriptors::raise() {
        tracing::warn!(%error, "the limit on descriptors cannot be raised to what the system allows");
    }

    let admin =
        Admin::bind(config.admin).map_err(|error| Failure::Unavailable(cannot_bind_admin(config.admin, &error)))?;

    // One thread for SIP: the driver owns everything, and nothing in it waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(serve(args, layers, config, admin))
}

pub(super) fn cannot_bind_admin(addr: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let remedy = bind_remedy(error, Transport::Tcp, addr, "--admin");
    anyhow::anyhow!("cannot bind the admin listener {addr}: {error}; {remedy}")
}

async fn serve(args: &RunArgs, layers: Layers, config: Config, admin: Admin) -> Result<(), Failure> {
    let metrics = Metrics::new();
    metrics.set_instance(&config.instance);
    // Before anything is bound: a signal from here on is a drain, never a sudden death.
    let stop = Stop::listen()?;
    let hangup = signal(SignalKind::hangup()).context("signals cannot be received")?;
    hint_at_srv_records(&config);
    let (requests, questions) = mpsc::channel(QUESTIONS);

    let access = Access::new(config.admitted.clone());
    let running = Running { requests: requests.clone(), access: access.clone(), metrics: metrics.clone() };
    let reloader = Reloader::new(args.clone(), layers, &config, running);
    let control = config.control.clone();
    let notices = notices(&config, admin.addr(), &metrics)?;
    let copies = config.hep.clone().map(|settings| hep::start(settings, metrics.clone()));
    let mut driver = Driver::start(Setup::from(config), metrics.clone()).await.map_err(|error| match error {
        StartError::Bind(_) | StartError::Store(_) => Failure::Unavailable(error.into()),
        StartError::Random | StartError::Cluster(_) => Failure::Other(error.into()),
    })?;
    driver.report_rollovers_to(notices);
    if let Some(copies) = copies {
        driver.copy_messages_to(copies.context("hep")?);
    }
    for socket in driver.sockets() {
        tracing::info!(side = socket.side.as_str(), transport = %socket.transport, address = %socket.local, "listening");
    }

    let _place = match &control {
        Some(wanted) => control_socket(wanted, requests.clone())?,
        None => None,
    };
    tracing::info!(address = %admin.addr(), "admin: /metrics /livez /readyz /status");
    admin.serve(Shared { metrics, pulse: driver.pulse(), requests, access }).context("admin")?;
    tokio::spawn(watch(reloader, hangup));

    // On the heap: the core is large.
    Box::pin(driver.run(questions, stop.wait())).await;
    Ok(())
}

/// Who is told of a rollover, if anybody is.
fn notices(config: &Config, admin: SocketAddr, metrics: &Arc<Metrics>) -> Result<Option<Notices>, Failure> {
    let Some(target) = config.on_rollover.clone() else { return Ok(None) };
    // A wildcard is nobody's address.
    let page = if admin.ip().is_unspecified() {
        format!("http://{}:{}/", machine(), admin.port())
    } else {
        format!("http://{admin}/")
    };
    let about = About { instance: config.instance.clone(), page };
    Ok(Some(notify::start(target, about, metrics.clone()).context("notify")?))
}

/// The operator's socket. Where its path is only a default, a state directory that cannot be used is no reason not to start.
fn control_socket(wanted: &ControlPath, requests: mpsc::Sender<Request>) -> Result<Option<Place>, Failure> {
    match Control::bind(&wanted.path) {
        Ok(Control { listener, place }) => {
            control::serve(listener, requests).context("control")?;
            tracing::info!(path = %wanted.path.display(), "control socket: holdline phones, roll, rejoin and trace");
            Ok(Some(place))
        }
        Err(error) if wanted.default => {
            tracing::warn!(%error, "no control socket: holdline phones, roll and trace cannot reach this one");
            Ok(None)
        }
        Err(error) => Err(Failure::Unavailable(error.into())),
    }
}

impl From<Config> for Setup {
    fn from(config: Config) -> Self {
        Setup {
            upstream: config.upstream,
            transport: config.transport,
            proxy: config.proxy,
            nameservers: config.nameservers,
            state_dir: config.state_dir,
            contact_key: config.contact_key,
            drain_timeout: config.drain_timeout,
            cluster: config.cluster,
        }
    }
}

/// Who this is, what it will do, and what about it is odd.
fn introduce(config: &Config) {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), revision = REVISION, instance = config.instance, "holdline");
    tracing::info!(failures = config.upstream.failures, "upstream: {}", upstream(config));
    if let Some(cluster) = &config.cluster {
        tracing::info!(
            name = cluster.name,
            instance = config.instance,
            "one of several: they share {}",
            cluster.address
        );
    }
    config.notes.iter().for_each(log);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (name, meant) in misspelt_variables(names) {
        tracing::warn!(variable = name, "not a setting; did you mean {meant}?");
    }
}

/// A static outbound proxy whose host publishes SRV records could fail over: say so, once, without waiting for it.
fn hint_at_srv_records(config: &Config) {
    let Source::Static { host, .. } = &config.upstream.source else { return };
    if host.parse::<std::net::IpAddr>().is_ok() {
        return;
    }
    let (host, resolver) = (host.clone(), Resolver::new(&config.nameservers));
    tokio::spawn(async move {
        if let Some(name) = resolver.srv_hint(&host).await {
            tracing::info!("{host} publishes an SRV record; --srv {name} would give failover");
        }
    });
}

/// SIGTERM and SIGINT.
struct Stop {
    term: Signal,
    int: Signal,
}

impl Stop {
    fn listen() -> Result<Stop, Failure> {
        let signal = |kind| signal(kind).context("signals cannot be received");
        Ok(Stop { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Resolves at the first signal. The second one ends the process at once.
    async fn wait(mut self) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("second signal: leaving without draining");
            std::process::exit(1);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
