//! The histogram of attempts' durations. The core counts them in classes; this shows the counts as they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::proxy::{DURATIONS, TargetFacts};

/// One histogram for each target. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct Durations {
    desc: Desc,
    shown: Arc<Mutex<BTreeMap<String, TargetFacts>>>,
}

impl Durations {
    pub(super) fn new(name: String, help: &str, label: &str) -> prometheus::Result<Self> {
        let desc = Desc::new(name, help.to_owned(), vec![label.to_owned()], std::collections::HashMap::new())?;
        Ok(Durations { desc, shown: Arc::default() })
    }

    /// What a target's histogram shows from now on.
    pub(super) fn set(&self, target: &str, facts: TargetFacts) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned(), facts);
    }

    pub(super) fn remove(&self, target: &str) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
    }
}

impl Collector for Durations {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(
            shown.iter().map(|(target, facts)| metric(&self.desc.variable_labels[0], target, facts)).collect(),
        );
        vec![family]
    }
}

fn metric(label: &str, target: &str, facts: &TargetFacts) -> Metric {
    let mut below = 0;
    let buckets = DURATIONS.iter().zip(facts.durations).map(|(end, count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*end);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(facts.durations.iter().sum());
    histogram.set_sample_sum(facts.seconds);
    let mut pair = LabelPair::default();
    pair.set_name(label.to_owned());
    pair.set_value(target.to_owned());
    let mut metric = Metric::from_label(vec![pair]);
    metric.set_histogram(histogram);
    metric
}
