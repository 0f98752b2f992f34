//! DNS: asked beside the loop, and counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Answer, Driver, unix_now};
use crate::dns::Resolver;
use crate::metrics::{LookupOutcome, Metrics, Record};
use crate::proxy::Event;

impl Driver {
    pub(super) fn look_up(&self) {
        let (resolver, source, answers) = (self.resolver.clone(), self.source.clone(), self.lookups.0.clone());
        tokio::spawn(async move {
            // Nobody waits for it any more only when the driver has ended.
            let _ = answers.send(resolver.lookup(&source).await).await;
        });
    }

    #[allow(clippy::disallowed_methods)]
    pub(super) fn looked_up(&mut self, result: Answer) {
        if result.is_ok() {
            self.metrics.dns_last_success.set(unix_now().as_secs_f64());
        }
        self.core.handle(Event::Lookup(result), Instant::now());
        // Before anything is sent to them, the targets have series: what their certificates say belongs there.
        self.gather();
        self.pulse.ready.store(self.core.ready(), Ordering::Relaxed);
    }
}

/// A resolver that counts what it asks.
pub(super) fn observed_resolver(nameservers: &[SocketAddr], metrics: &Arc<Metrics>) -> Resolver {
    let metrics = metrics.clone();
    Resolver::observed(nameservers, move |asked| {
        let Some(&record) = Record::ALL.iter().find(|record| record.as_str() == asked.record) else { return };
        let outcome = LookupOutcome::ALL.iter().find(|outcome| outcome.as_str() == asked.outcome);
        metrics.lookups(record, *outcome.unwrap_or(&LookupOutcome::Error)).inc();
        metrics.lookup_duration(record).observe(asked.took.as_secs_f64());
    })
}
