//! The driver: feeds the core, performs its actions, and alone reads the clock.
//!
//! One task on one thread owns the core and the sockets. Whatever waits (DNS, the store, a connection being opened) waits
//! elsewhere and comes back as an event, so that nothing stands between a datagram and its forwarding.

mod answers;
mod keep;
mod lookups;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lookups::observed_resolver;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::cluster::{self, Cluster};
use crate::dns::Resolver;
use crate::fleet::{Fleet, RejoinError, Word};
use crate::hep::Hep;
use crate::metrics::{Metrics, Resource};
use crate::notify::Notices;
use crate::proxy::phones::{Phones, Query};
use crate::proxy::{Action, BindingId, Core, Event, Reload, Settings as ProxySettings, Socket, Start};
use crate::store::{Keep, RestoredState, Store, StoreError};
use crate::systemd::Notifier;
use crate::tap::{Filter, Tap, TooManyTraces, Traced};
use crate::transport::tls::TlsError;
use crate::transport::{self, BindError, Transports};
use crate::upstream::{self, LookupFailure, RecordSet, RollError, Rollover, Source, TargetId, Upstream};

/// Timers run together at most this much late: the deadlines of thousands of handsets must not be thousands of wake-ups.
const GRAIN: Duration = Duration::from_millis(50);
/// How long connections may take at the end to write what is queued.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// With everything answered, a drain waits so long for what follows an answer: the ACK, a 2xx that is repeated.
const AFTER_ANSWERS: Duration = Duration::from_secs(2);
/// Gauges, heartbeat and stored bindings are brought up to date this often.
const TICK: Duration = Duration::from_secs(1);

/// Everything the driver is started with. Valid by construction of `config`.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where targets come from and when to leave them.
    pub upstream: upstream::Settings,
    /// Sockets and TLS.
    pub transport: transport::Settings,
    /// The proxy core.
    pub proxy: ProxySettings,
    /// DNS servers; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Where the active target, the last good set and the bindings are kept; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// The key that marks Contacts as ours; `None`: the stored one, or a new one.
    pub contact_key: Option<[u8; 32]>,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// The memory that is shared with other instances; `None`: there are no others.
    pub cluster: Option<cluster::Settings>,
}

/// The part of newly read settings that a running driver takes over. Valid by construction of `config`.
#[derive(Debug)]
pub struct Live {
    /// Certificates, keys and authorities, already read.
    pub certificates: transport::Certificates,
    /// The core's part.
    pub core: Reload,
    /// DNS servers; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// What a connection may take to open.
    pub connect_timeout: Duration,
    /// Connections accepted at once, on each side.
    pub connections: usize,
    /// How long a drain may take. One that has begun keeps its own.
    pub drain_timeout: Duration,
}

/// A question to the running driver.
#[derive(Debug)]
pub enum Request {
    /// The upstream's part of `/status`.
    Status(oneshot::Sender<Value>),
    /// The same with the last hour, minute by minute: what the status page draws.
    StatusWithHistory(oneshot::Sender<Value>),
    /// Handsets that match, at most so many. For the control socket alone.
    Phones(Query, usize, oneshot::Sender<Phones>),
    /// An operator's rollover: to this target, or to the next one.
    Roll(Option<String>, oneshot::Sender<Result<Rollover, RollError>>),
    /// Back to where the fleet is: from where, to where.
    Rejoin(oneshot::Sender<Result<(TargetId, TargetId), RejoinError>>),
    /// What passes and the filter wants, from now on; or the recent failures, since so long ago.
    Trace(Filter, Option<Duration>, oneshot::Sender<Result<Traced, TooManyTraces>>),
    /// Bring the gauges up to date before a scrape.
    Gauges(oneshot::Sender<()>),
    /// Other settings from now on. The answer is what could not be used; everything is as it was then.
    Reload(Box<Live>, oneshot::Sender<Result<(), TlsError>>),
}

/// What is known about the driver without asking it.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Counts up at least once a second while the loop turns.
    pub beats: AtomicU64,
    /// A record set is there and nothing drains.
    pub ready: AtomicBool,
    /// SIGTERM came.
    pub draining: AtomicBool,
}

/// Why a start failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound: exit code 69.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Another process has the state directory: exit code 69.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread for the shared memory.
    #[error("the fleet's shared memory: {0}")]
    Cluster(io::Error),
    /// No randomness for keys and branches.
    #[error("the system gives no random numbers")]
    Random,
}

/// The core with its sockets, ready to run.
pub struct Driver {
    core: Core,
    transports: Transports,
    store: Option<Store>,
    /// What the core wants, in its order; empty between turns.
    actions: Vec<Action>,
    resolver: Resolver,
    /// What it asks.
    nameservers: Vec<SocketAddr>,
    source: Source,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
    lookups: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    drain_timeout: Duration,
    rollovers: u64,
    notifier: Notifier,
    tap: Tap,
    notices: Option<Notices>,
    cluster: Option<Cluster>,
    /// Bindings that the fleet's memory may have lost.
    told_again: Vec<BindingId>,
}

type Answer = Result<RecordSet, LookupFailure>;

impl Driver {
    /// Opens the store, binds every socket, and puts the core together. Nothing is sent yet.
    ///
    /// # Errors
    /// A socket that cannot be bound, or a state directory that another process uses. A store that cannot be read or
    /// written is a logged warning, never an error.
    #[allow(clippy::disallowed_methods)]
    pub async fn start(setup: Setup, metrics: Arc<Metrics>) -> Result<Driver, StartError> {
        let now = Instant::now();
        let (store, restored) = match &setup.state_dir {
            Some(dir) => Store::open(dir).map(|(store, restored)| (Some(store), restored))?,
            None => (None, RestoredState::default()),
        };
        let transports = Transports::bind(&setup.transport, metrics.clone()).await?;
        let sockets = transports.listeners().iter().map(socket).collect();
        let random = SystemRandom::new();
        let key = match setup.contact_key.or(restored.key) {
            Some(key) => key,
            None => draw(&random)?,
        };
        let seed = u64::from_be_bytes(draw(&random)?);
        let first_branch = u64::from_be_bytes(draw(&random)?) >> 16;
        let source = setup.upstream.source.clone();
        let protocol = setup.upstream.transport;
        metrics.failover_threshold.set(i64::from(setup.upstream.failures));
        set_limits(&metrics, &setup.proxy, transports.connection_limit());
        metrics.limit(Resource::Memory).set((setup.proxy.max_bytes + transports.memory_limit()) as i64);
        let upstream = Upstream::new(setup.upstream, restored.upstream, seed, now);
        let id = format!("{:016x}", u64::from_be_bytes(draw(&random)?));
        let fleet = setup.cluster.as_ref().map(|cluster| Fleet::new(&cluster.instance, &id, now));
        let cluster = setup.cluster.map(|settings| cluster::start(settings, &id, metrics.clone()));
        let cluster = cluster.transpose().map_err(StartError::Cluster)?;
        let start = Start { settings: setup.proxy, upstream, transport: protocol, sockets, key, first_branch, fleet };
        let mut core = Core::new(start, now);
        let unix = unix_now().as_secs();
        let known = restored.bindings.len();
        let kept = restored.bindings.iter().filter(|binding| core.restore_binding(binding, now, unix)).count();
        if known > 0 {
            tracing::info!(kept, stored = known, "restored bindings");
        }
        Ok(Driver {
            core,
            transports,
            store,
            actions: Vec::new(),
            resolver: observed_resolver(&setup.nameservers, &metrics),
            nameservers: setup.nameservers,
            source,
            metrics,
            pulse: Arc::new(Pulse::default()),
            lookups: mpsc::channel(4),
            drain_timeout: setup.drain_timeout,
            rollovers: 0,
            notifier: Notifier::from_environment(),
            tap: Tap::default(),
            notices: None,
            cluster,
            told_again: Vec::new(),
        })
    }

    /// Rollovers are reported there from now on.
    pub fn report_rollovers_to(&mut self, notices: Option<Notices>) {
        self.notices = notices;
    }

    /// Messages are copied there from now on.
    pub fn copy_messages_to(&mut self, hep: Hep) {
        self.tap.copy_to(hep);
    }

    /// The bound sockets, with real ports.
    #[must_use]
    pub fn sockets(&self) -> &[transport::BoundSocket] {
        self.transports.listeners()
    }

    /// What `/livez` and `/readyz` look at.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// Runs until `stop` resolves and what is in flight has ended, or `drain_timeout` is over.
    #[allow(clippy::disallowed_methods)]
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>, stop: impl Future<Output = ()>) {
        let mut events = Vec::with_capacity(transport::EVENTS);
        let mut stop = std::pin::pin!(stop);
        let mut drain_until: Option<Instant> = None;
        let mut answered_since: Option<Instant> = None;
        let mut next_tick = Instant::now();
        let mut timers_from = next_tick;
        let mut armed = next_tick;
        let mut sleep = std::pin::pin!(tokio::time::sleep_until(armed.into()));
        self.notifier.ready();
        loop {
            let now = Instant::now();
            if timers_from <= now && self.core.poll_timeout() <= now {
                self.core.handle_timeout(now);
                timers_from = now + GRAIN;
            }
            if next_tick <= now {
                next_tick = now + TICK;
                self.tick(now);
                if drain_until.is_some() {
                    answered_since = if self.core.unanswered() == 0 { answered_since.or(Some(now)) } else { None };
                }
            }
            self.perform(now);
            if let Some(until) = drain_until
                && (now >= until
                    || self.core.is_quiet()
                    || (answered_since.is_some_and(|since| since + AFTER_ANSWERS <= now)
                        && self.core.unanswered() == 0))
            {
                break;
            }
            let wake = self.core.poll_timeout().max(timers_from).min(next_tick).min(drain_until.unwrap_or(next_tick));
            // An early wake-up costs one turn of the loop; arming the timer for every datagram would cost more.
            if wake < armed || armed <= now {
                armed = wake;
                sleep.as_mut().reset(wake.into());
            }
            tokio::select! {
                () = self.transports.next(&mut events) => {
                    let now = Instant::now();
                    for event in events.drain(..) {
                        if self.tap.listens() {
                            self.tap.heard(&event, &self.core, unix_now());
                        }
                        self.core.handle(Event::Net(event), now);
                    }
                }
                () = &mut sleep => {}
                Some(result) = self.lookups.1.recv() => self.looked_up(result),
                Some(request) = requests.recv() => self.answer(request),
                word = word(&mut self.cluster) => self.heard(word),
                () = &mut stop, if drain_until.is_none() => {
                    // Readiness is false before the drain is logged.
                    self.pulse.draining.store(true, Ordering::Relaxed);
                    tracing::info!(timeout = ?self.drain_timeout, in_flight = self.core.unanswered(), "draining");
                    drain_until = Some(Instant::now() + self.drain_timeout);
                    self.notifier.stopping();
                    self.core.handle(Event::Drain, Instant::now());
                }
            }
        }
        let cut = self.core.unanswered();
        self.perform(Instant::now());
        // The last answers may still be in the connections' queues.
        self.transports.finish(LAST_WORDS).await;
        if self.store.as_ref().is_some_and(|store| !store.flush()) {
            tracing::warn!("the store keeps nothing: a restart begins without this one's bindings");
        }
        tracing::info!(cut_off = cut, "stopped");
    }

    /// Performs everything the core wants. What has to outlive the process is kept first: a 2xx that a handset sees, and a request
    /// that another target sees, may be the last things this process does.
    fn perform(&mut self, now: Instant) {
        let mut actions = std::mem::take(&mut self.actions);
        let mut upstream = None;
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Persist(state) => upstream = Some(state),
                Action::Net(_) | Action::Lookup | Action::Failed(_) | Action::RolledOver(_) | Action::Fleet(_) => {
                    actions.push(action);
                }
            }
        }
        self.keep(upstream.map(Keep::Upstream), now);
        for action in actions.drain(..) {
            match action {
                Action::Net(command) => {
                    if self.tap.listens() {
                        self.tap.sends(&command, &self.core, unix_now());
                    }
                    self.transports.perform(command);
                }
                Action::Lookup => self.look_up(),
                Action::Failed(failed) => self.tap.failed(*failed, now, unix_now()),
                Action::RolledOver(rollover) => {
                    self.tap.rolled_over(&rollover, unix_now());
                    if let Some(notices) = &self.notices {
                        notices.rolled_over(&rollover, unix_now());
                    }
                }
                Action::Fleet(command) => {
                    if let Some(cluster) = &self.cluster {
                        cluster.ask(command);
                    }
                }
                Action::Persist(_) => {}
            }
        }
        self.actions = actions;
        self.transports.flush();
    }

    fn tick(&mut self, now: Instant) {
        self.pulse.beats.fetch_add(1, Ordering::Relaxed);
        self.notifier.alive(now);
        self.pulse.ready.store(self.core.ready(), Ordering::Relaxed);
        self.gather();
        self.tap.tidy();
        self.tell_again(now);
        let rollovers = self.core.facts().all_rollovers();
        if self.rollovers != rollovers {
            self.rollovers = rollovers;
            self.metrics.failover_last.set(unix_now().as_secs_f64());
        }
        if let Some(store) = &self.store {
            self.metrics.store_writable.set(i64::from(store.writable()));
        }
    }

    fn gather(&self) {
        let levels = self.core.levels();
        self.metrics.gather(self.core.facts(), &levels);
        self.metrics.message_bytes.set((levels.bytes + self.transports.buffered_bytes()) as i64);
    }
}

/// What the fleet's shared memory says next; nothing ever where there is none.
async fn word(cluster: &mut Option<Cluster>) -> Word {
    match cluster {
        Some(cluster) => cluster.word().await,
        None => std::future::pending().await,
    }
}

fn socket(bound: &transport::BoundSocket) -> Socket {
    Socket {
        id: bound.socket,
        side: bound.side,
        transport: bound.transport,
        local: bound.local,
        advertise: bound.advertise.clone(),
    }
}

fn set_limits(metrics: &Metrics, proxy: &ProxySettings, connections: usize) {
    metrics.limit(Resource::Transactions).set(proxy.max_transactions as i64);
    metrics.limit(Resource::Bindings).set(proxy.max_bindings as i64);
    metrics.limit(Resource::Connections).set(connections as i64);
}

fn draw<const N: usize>(random: &SystemRandom) -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| StartError::Random)?;
    Ok(bytes)
}

#[allow(clippy::disallowed_methods)]
fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
