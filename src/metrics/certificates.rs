//! When certificates end: our own by their role, and those that targets showed, by target.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::GaugeVec;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::Metrics;
use super::labels::CertificateRole;

/// One family with two sets of labels: `role`, and `role` with `target`. Clones share it.
#[derive(Clone)]
pub(super) struct Certificates {
    own: GaugeVec,
    shown: GaugeVec,
    ends: Arc<RwLock<HashMap<String, i64>>>,
}

impl Certificates {
    /// `own` has the label `role`, `shown` the labels `role` and `target`; both have the same name.
    pub(super) fn new(own: GaugeVec, shown: GaugeVec) -> Self {
        Certificates { own, shown, ends: Arc::default() }
    }

    pub(super) fn set_own(&self, role: CertificateRole, seconds: f64) {
        self.own.with_label_values(&[role.as_str()]).set(seconds);
    }

    /// What this target showed last. Callers bound the number of labels.
    pub(super) fn set_shown(&self, target: &str, not_after: i64) {
        self.shown.with_label_values(&[CertificateRole::Upstream.as_str(), target]).set(not_after as f64);
        self.ends.write().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned(), not_after);
    }

    pub(super) fn shown(&self, target: &str) -> Option<i64> {
        self.ends.read().unwrap_or_else(PoisonError::into_inner).get(target).copied()
    }

    pub(super) fn forget(&self, target: &str) {
        if self.ends.write().unwrap_or_else(PoisonError::into_inner).remove(target).is_some() {
            // It was registered with exactly these labels.
            let _ = self.shown.remove_label_values(&[CertificateRole::Upstream.as_str(), target]);
        }
    }
}

impl Metrics {
    /// `tls_certificate_not_after_timestamp_seconds` of the certificate that a target (`host:port`) showed, accepted or not. One
    /// that is not announced has no series.
    pub fn set_shown_certificate(&self, target: &str, not_after: i64) {
        if self.targets.is_listed(target) {
            self.certificates.set_shown(target, not_after);
        }
    }

    /// When the certificate ends that this target showed last, in seconds since 1970.
    #[must_use]
    pub fn shown_certificate(&self, target: &str) -> Option<i64> {
        self.certificates.shown(target)
    }
}

impl Collector for Certificates {
    fn desc(&self) -> Vec<&Desc> {
        self.own.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.own.collect();
        if let (Some(family), Some(shown)) = (families.first_mut(), self.shown.collect().first_mut()) {
            family.mut_metric().append(shown.mut_metric());
        }
        families
    }
}
