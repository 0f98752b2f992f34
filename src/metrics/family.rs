//! Registration: every family is described once, and the description is kept for the pages that list them.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::certificates::Certificates;
use super::durations::Durations;

/// One metric family as it appears in `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Full name, prefix included.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names, in order.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// Builds families into one registry. A name registered twice or malformed is a mistake in this program, not of its
/// user: it panics, in every test that makes a `Metrics`.
pub(super) struct Families {
    pub(super) registry: Registry,
    pub(super) list: Vec<Family>,
}

const NAMESPACE: &str = "holdline";
const WELL_FORMED: &str = "metric names are unique and well formed";

impl Families {
    pub(super) fn new() -> Self {
        Self { registry: Registry::new(), list: Vec::new() }
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> IntCounter {
        self.add("counter", name, &[], help, IntCounter::with_opts(opts(name, help)))
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> IntCounterVec {
        self.add("counter", name, labels, help, IntCounterVec::new(opts(name, help), labels))
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> IntGauge {
        self.add("gauge", name, &[], help, IntGauge::with_opts(opts(name, help)))
    }

    pub(super) fn gauges(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> IntGaugeVec {
        self.add("gauge", name, labels, help, IntGaugeVec::new(opts(name, help), labels))
    }

    /// A point in time: seconds since 1970, with fractions.
    pub(super) fn timestamp(&mut self, name: &'static str, help: &'static str) -> Gauge {
        self.add("gauge", name, &[], help, Gauge::with_opts(opts(name, help)))
    }

    /// When certificates end, in seconds since 1970.
    pub(super) fn certificates(&mut self, name: &'static str, help: &'static str) -> Certificates {
        let vec = |labels: &[&str]| GaugeVec::new(opts(name, help), labels);
        let collector = vec(&["role"]).and_then(|own| Ok(Certificates::new(own, vec(&["role", "target"])?)));
        self.add("gauge", name, &["role", "target"], help, collector)
    }

    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        buckets: &[f64],
        help: &'static str,
    ) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).namespace(NAMESPACE).buckets(buckets.to_vec());
        self.add("histogram", name, labels, help, HistogramVec::new(opts, labels))
    }

    /// The core's own histogram of durations.
    pub(super) fn durations(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str; 1],
        help: &'static str,
    ) -> Durations {
        let collector = Durations::new(format!("{NAMESPACE}_{name}"), help, labels[0]);
        self.add("histogram", name, labels, help, collector)
    }

    fn add<C: Collector + Clone + 'static>(
        &mut self,
        kind: &'static str,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        collector: prometheus::Result<C>,
    ) -> C {
        let collector = collector.expect(WELL_FORMED);
        self.registry.register(Box::new(collector.clone())).expect(WELL_FORMED);
        self.list.push(Family { name: format!("{NAMESPACE}_{name}"), kind, labels, help });
        collector
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

/// A counter that no registry knows.
pub(super) fn detached_counter() -> IntCounter {
    IntCounter::new("detached", "detached").expect(WELL_FORMED)
}

/// A gauge that no registry knows.
pub(super) fn detached_gauge() -> IntGauge {
    IntGauge::new("detached", "detached").expect(WELL_FORMED)
}
