//! Every metric's name, help and labels, once (the names are a contract: `docs/metrics.md`).
//!
//! Handles of closed label sets are made at the start and kept in arrays, so that counting is one atomic addition and
//! every series exists at 0 before anything happens. Only the targets' series come and go ([`Metrics::set_targets`]).
//! Never a label from an AOR, an address, a Call-ID or a User-Agent.

mod certificates;
mod cluster;
mod durations;
mod family;
mod gather;
mod labels;
mod outgoing;
mod said;
mod targets;

use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder};

pub use crate::proxy::{AttemptOutcome, Direction, FailureReason, Origin};
pub use family::Family;
pub use labels::{CertificateRole, Handshake, LookupOutcome, Record, Resource};
pub use outgoing::{HepPacket, Notification};
pub use targets::{MAX_TARGETS, TargetLabels, TargetMetrics};

use crate::flow::{Side, Transport};
use crate::message::Method;
use crate::proxy::Facts;
use crate::upstream::Reason;
use certificates::Certificates;
use cluster::Cluster;
use family::Families;
use labels::{CONNECTION_ERRORS, DROP_REASONS, position};
use outgoing::Outgoing;
use said::Said;
use targets::Targets;

/// A resolver that answers from its cache to one that is asked three times in vain.
const LOOKUP_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Response classes as label values; the index is the class less one.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

const METHODS: usize = Method::ALL.len();
const SIDES: usize = Side::ALL.len();
const TRANSPORTS: usize = Transport::ALL.len();
const ORIGINS: usize = Origin::ALL.len();

/// All of Holdline's metrics, in a registry of their own.
pub struct Metrics {
    /// Targets of the set in use may be out of date: the last refresh failed or was empty (0 or 1).
    pub dns_stale: IntGauge,
    /// Seconds since 1970 of the last good answer; 0 before the first.
    pub dns_last_success: Gauge,
    /// Strikes that make a rollover.
    pub failover_threshold: IntGauge,
    /// Seconds since 1970 of the last rollover; 0 before the first.
    pub failover_last: Gauge,
    /// A full cycle of the targets passed without a single success (0 or 1).
    pub all_targets_failed: IntGauge,
    /// Strikes by unserved handsets alone that were void, because the target answered when it was asked.
    pub strikes_voided: IntCounter,
    /// Second and later tries within one handset transaction.
    pub register_retries: IntCounter,
    /// Handset transactions for which every try failed.
    pub register_exhausted: IntCounter,
    /// Server and client transactions alive.
    pub transactions: IntGauge,
    /// Bytes of messages kept, by requests under way and by connections.
    pub message_bytes: IntGauge,
    /// Bindings known.
    pub bindings: IntGauge,
    /// Bindings at another target than the active one: the PBX reaches them only after their next REGISTER.
    pub bindings_orphaned: IntGauge,
    /// Stopping: new dialogs are refused (0 or 1).
    pub draining: IntGauge,
    /// The configuration read last, certificates included, was accepted (0 or 1).
    pub config_last_reload_successful: IntGauge,
    /// `store_writable`.
    pub store_writable: IntGauge,
    /// `cluster_ignored_total`.
    pub cluster_ignored: IntCounter,

    requests: Vec<IntCounter>,
    responses: Vec<IntCounter>,
    dropped: Vec<IntCounter>,
    retransmissions: Vec<IntCounter>,
    received_bytes: Vec<IntCounter>,
    sent_bytes: Vec<IntCounter>,
    udp_receive_drops: Vec<IntCounter>,
    large_datagrams: Vec<IntCounter>,
    connections: Vec<IntGauge>,
    connection_errors: Vec<IntCounter>,
    handshakes: Vec<IntCounter>,
    lookups: Vec<IntCounter>,
    lookup_duration: Vec<Histogram>,
    failovers: Vec<IntCounter>,
    limits: Vec<IntGauge>,
    certificates: Certificates,
    cluster: Cluster,
    instance_info: IntGaugeVec,
    said: RwLock<Said>,
    targets: Targets,
    /// What was gathered last, so that counters go up by what is new.
    gathered: Mutex<Facts>,
    outgoing: Outgoing,
    families: Vec<Family>,
    registry: Registry,
}

impl Metrics {
    /// Registers everything; all counters of closed label sets exist at 0 from here on.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut f = Families::new();
        let info = f.gauges("build_info", &["version", "revision"], "Always 1: what is running.");
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), REVISION]).set(1);

        let lookups = f.counters("dns_lookups_total", &["record", "outcome"], "DNS questions, by what came back.");
        let lookup_duration = f.histograms(
            "dns_lookup_duration_seconds",
            &["record"],
            &LOOKUP_BUCKETS,
            "From a DNS question to its answer or failure, tries included.",
        );
        let dns_last_success = f.timestamp(
            "dns_last_success_timestamp_seconds",
            "When DNS last gave a usable set of targets (Unix time); 0 before the first.",
        );
        let dns_stale =
            f.gauge("dns_stale", "1 while the last good set is used because the latest refresh failed or was empty.");
        let targets = Targets::new(&mut f);

        let failover_threshold = f.gauge("failover_threshold", "Strikes in a row that make the next target active.");
        let failover_last = f
            .timestamp("failover_last_timestamp_seconds", "When the active target last changed (Unix time); 0: never.");
        let all_targets_failed =
            f.gauge("all_targets_failed", "1 after a full cycle of the targets without one success.");
        let failovers = f.counters("failovers_total", &["reason"], "Changes of the active target, by reason.");
        let strikes_voided = f.counter(
            "strikes_voided_total",
            "Strikes that were void: handsets never served had failed, and the target answered an OPTIONS.",
        );
        let register_retries =
            f.counter("register_retries_total", "Second and later tries within one handset's REGISTER transaction.");
        let register_exhausted =
            f.counter("register_exhausted_total", "Handsets' REGISTER transactions for which every try failed.");

        let requests = f.counters(
            "requests_total",
            &["side", "method", "transport"],
            "Requests received, without retransmissions.",
        );
        let responses = f.counters(
            "responses_total",
            &["side", "method", "code_class", "origin"],
            "Responses sent, by the side they leave on; local ones are Holdline's own.",
        );
        let dropped = f.counters(
            "messages_dropped_total",
            &["side", "reason"],
            "What was received and could not even be answered.",
        );
        let retransmissions = f.counters(
            "retransmissions_total",
            &["side"],
            "Requests and responses sent again, by the side they leave on.",
        );
        let transactions = f.gauge("transactions", "Server and client transactions alive.");
        let message_bytes =
            f.gauge("message_bytes", "Bytes of messages kept, by requests under way and by connections.");
        let bindings = f.gauge("bindings", "Phones' bindings known.");
        let bindings_orphaned = f.gauge(
            "bindings_orphaned",
            "Bindings the PBX reaches only after their next REGISTER: they are at another target.",
        );
        let limits = f.gauges("limit", &["resource"], "What saturation is measured against.");
        let connections =
            f.gauges("connections", &["side", "transport"], "Connections open; for udp, connected sockets.");
        let connection_errors = f.counters(
            "connection_errors_total",
            &["side", "transport", "reason"],
            "Connections that failed or broke, by reason.",
        );
        let handshakes = f.counters("tls_handshakes_total", &["side", "outcome"], "TLS handshakes, by outcome.");
        let certificates = f.certificates(
            "tls_certificate_not_after_timestamp_seconds",
            "When a certificate ends (Unix time): ours (listener, client), or the one a target showed last (upstream); absent without one.",
        );
        let instance_info = f.gauges("instance_info", &["name"], "Always 1: the name of this instance.");
        let received_bytes = f.counters("received_bytes_total", &["side"], "Bytes of SIP received.");
        let sent_bytes = f.counters("sent_bytes_total", &["side"], "Bytes of SIP sent.");
        let udp_receive_drops = f.counters(
            "udp_receive_drops_total",
            &["side"],
            "Datagrams the kernel dropped because a receive buffer was full.",
        );
        let large_datagrams = f.counters(
            "udp_large_datagrams_total",
            &["side", "direction"],
            "Datagrams of SIP beyond 1300 bytes, received (in) and sent (out): a path may cut or lose them.",
        );
        let draining = f.gauge("draining", "1 while stopping: new dialogs are refused.");
        let config_last_reload_successful = f.gauge(
            "config_last_reload_successful",
            "1 if the configuration read last, certificates included, was accepted.",
        );
        config_last_reload_successful.set(1);
        let store_writable = f.gauge(
            "store_writable",
            "1 unless state_dir cannot be written: then a restart forgets bindings and active target.",
        );
        store_writable.set(1);
        let outgoing = Outgoing::new(&mut f);
        let cluster = Cluster::new(&mut f);
        let cluster_ignored = cluster::ignored(&mut f);

        #[cfg(target_os = "linux")]
        register_process(&f.registry);

        let side = |vec: &IntCounterVec| Side::ALL.map(|s| vec.with_label_values(&[s.as_str()])).to_vec();
        Arc::new(Self {
            requests: cross(&[&sides(), &texts(&Method::ALL, Method::as_str), &transports()], |l| {
                requests.with_label_values(l)
            }),
            responses: cross(
                &[&sides(), &texts(&Method::ALL, Method::as_str), &CLASSES, &texts(Origin::ALL, Origin::as_str)],
                |l| responses.with_label_values(l),
            ),
            dropped: cross(&[&sides(), DROP_REASONS], |l| dropped.with_label_values(l)),
            retransmissions: side(&retransmissions),
            received_bytes: side(&received_bytes),
            sent_bytes: side(&sent_bytes),
            udp_receive_drops: side(&udp_receive_drops),
            large_datagrams: cross(&[&sides(), &texts(Direction::ALL, Direction::as_str)], |l| {
                large_datagrams.with_label_values(l)
            }),
            connections: cross(&[&sides(), &transports()], |l| connections.with_label_values(l)),
            connection_errors: cross(&[&sides(), &transports(), CONNECTION_ERRORS], |l| {
                connection_errors.with_label_values(l)
            }),
            handshakes: cross(&[&sides(), &texts(Handshake::ALL, Handshake::as_str)], |l| {
                handshakes.with_label_values(l)
            }),
            lookups: cross(
                &[&texts(Record::ALL, Record::as_str), &texts(LookupOutcome::ALL, LookupOutcome::as_str)],
                |l| lookups.with_label_values(l),
            ),
            lookup_duration: cross(&[&texts(Record::ALL, Record::as_str)], |l| lookup_duration.with_label_values(l)),
            failovers: cross(&[&texts(&Reason::ALL, Reason::as_str)], |l| failovers.with_label_values(l)),
            limits: cross(&[&texts(Resource::ALL, Resource::as_str)], |l| limits.with_label_values(l)),
            dns_stale,
            dns_last_success,
            failover_threshold,
            failover_last,
            all_targets_failed,
            strikes_voided,
            register_retries,
            register_exhausted,
            transactions,
            message_bytes,
            bindings,
            bindings_orphaned,
            draining,
            config_last_reload_successful,
            certificates,
            cluster,
            cluster_ignored,
            store_writable,
            instance_info,
            said: RwLock::default(),
            targets,
            gathered: Mutex::default(),
            outgoing,
            families: f.list,
            registry: f.registry,
        })
    }

    /// `requests_total`: a request received (not a retransmission) on this side.
    pub fn requests(&self, side: Side, method: Method, transport: Transport) -> &IntCounter {
        &self.requests[(side as usize * METHODS + method as usize) * TRANSPORTS + transport as usize]
    }

    /// `responses_total`: a response that leaves on this side. A status outside 100–699 counts with its nearest class.
    pub fn responses(&self, side: Side, method: Method, status: u16, origin: Origin) -> &IntCounter {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        &self.responses
            [((side as usize * METHODS + method as usize) * CLASSES.len() + class) * ORIGINS + origin as usize]
    }

    /// `messages_dropped_total`. A reason that is not in the closed list counts as `other`.
    pub fn dropped(&self, side: Side, reason: &str) -> &IntCounter {
        &self.dropped[side as usize * DROP_REASONS.len() + position(DROP_REASONS, reason)]
    }

    /// `retransmissions_total`: something sent again on this side.
    pub fn retransmissions(&self, side: Side) -> &IntCounter {
        &self.retransmissions[side as usize]
    }

    /// `received_bytes_total`.
    pub fn received_bytes(&self, side: Side) -> &IntCounter {
        &self.received_bytes[side as usize]
    }

    /// `sent_bytes_total`.
    pub fn sent_bytes(&self, side: Side) -> &IntCounter {
        &self.sent_bytes[side as usize]
    }

    /// `udp_receive_drops_total`.
    pub fn udp_receive_drops(&self, side: Side) -> &IntCounter {
        &self.udp_receive_drops[side as usize]
    }

    /// `udp_large_datagrams_total`: a datagram beyond 1300 bytes.
    pub fn large_datagrams(&self, side: Side, direction: Direction) -> &IntCounter {
        &self.large_datagrams[side as usize * Direction::ALL.len() + direction as usize]
    }

    /// `connections`.
    pub fn connections(&self, side: Side, transport: Transport) -> &IntGauge {
        &self.connections[side as usize * TRANSPORTS + transport as usize]
    }

    /// `connection_errors_total`. The reason is a [`Cause`](crate::flow::Cause)'s label or `limit`, `source_limit`, `framing`,
    /// `queue_full`, `idle`, `silent`, `memory`, `proxy_protocol`; anything else counts as `other`.
    pub fn connection_errors(&self, side: Side, transport: Transport, reason: &str) -> &IntCounter {
        let row = side as usize * TRANSPORTS + transport as usize;
        &self.connection_errors[row * CONNECTION_ERRORS.len() + position(CONNECTION_ERRORS, reason)]
    }

    /// `tls_handshakes_total`.
    pub fn handshakes(&self, side: Side, outcome: Handshake) -> &IntCounter {
        &self.handshakes[side as usize * Handshake::ALL.len() + outcome as usize]
    }

    /// `dns_lookups_total`.
    pub fn lookups(&self, record: Record, outcome: LookupOutcome) -> &IntCounter {
        &self.lookups[record as usize * LookupOutcome::ALL.len() + outcome as usize]
    }

    /// `dns_lookup_duration_seconds`.
    pub fn lookup_duration(&self, record: Record) -> &Histogram {
        &self.lookup_duration[record as usize]
    }

    /// `failovers_total`.
    pub fn failovers(&self, reason: Reason) -> &IntCounter {
        &self.failovers[reason as usize]
    }

    /// `limit`.
    pub fn limit(&self, resource: Resource) -> &IntGauge {
        &self.limits[resource as usize]
    }

    /// `tls_certificate_not_after_timestamp_seconds`, in seconds since 1970. The series exists from the first call on:
    /// an end in 1970 would ring every alarm.
    pub fn set_certificate_not_after(&self, role: CertificateRole, seconds: f64) {
        self.certificates.set_own(role, seconds);
    }

    /// Announces the target set: new targets get series at 0, vanished ones lose theirs, those that stay keep their
    /// counts. Beyond [`MAX_TARGETS`] a target has no series.
    pub fn set_targets(&self, targets: &[TargetLabels<'_>]) {
        for gone in self.targets.set(targets) {
            self.certificates.forget(&gone);
        }
    }

    /// The handles of one target (`host:port`); of a target that is not announced, handles that nothing shows.
    pub fn target(&self, label: &str) -> Arc<TargetMetrics> {
        self.targets.get(label)
    }

    /// Every family, in the order of registration, the standard `process_*` left out.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics could not be written");
            String::new()
        })
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("families", &self.families.len()).finish_non_exhaustive()
    }
}

/// Commit of the build, as `build.rs` found it; `unknown` where nothing says it.
pub const REVISION: &str = env!("HOLDLINE_REVISION");

#[cfg(target_os = "linux")]
fn register_process(registry: &Registry) {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    if let Err(error) = registry.register(Box::new(process)) {
        tracing::warn!(%error, "process metrics are not available");
    }
}

fn sides() -> [&'static str; SIDES] {
    Side::ALL.map(Side::as_str)
}

fn transports() -> [&'static str; TRANSPORTS] {
    Transport::ALL.map(Transport::as_str)
}

fn texts<T: Copy>(all: &[T], text: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|value| text(*value)).collect()
}

/// Calls `make` for every combination of label values, the last dimension fastest: the order the lookups above index in.
fn cross<T>(dimensions: &[&[&'static str]], mut make: impl FnMut(&[&'static str]) -> T) -> Vec<T> {
    let total = dimensions.iter().map(|d| d.len()).product();
    (0..total)
        .map(|mut n| {
            let mut labels = vec![""; dimensions.len()];
            for (label, dimension) in labels.iter_mut().zip(dimensions).rev() {
                *label = dimension[n % dimension.len()];
                n /= dimension.len();
            }
            make(&labels)
        })
        .collect()
}

#[cfg(test)]
mod tests;
