//! Answers to questions while the driver runs: status, phones, an operator's rollover, other settings.

use std::time::Instant;

use serde_json::Value;

use super::lookups::observed_resolver;
use super::{Driver, Live, Request, set_limits, unix_now};
use crate::proxy::Event;
use crate::store::Store;
use crate::transport::tls::TlsError;

impl Driver {
    /// All of it, or nothing.
    fn reload(&mut self, live: Live, now: Instant) -> Result<(), TlsError> {
        self.transports.renew(live.certificates)?;
        self.transports.set_bounds(live.connect_timeout, live.connections, &live.core.proxy.allow);
        self.drain_timeout = live.drain_timeout;
        if live.nameservers != self.nameservers {
            self.resolver = observed_resolver(&live.nameservers, &self.metrics);
            self.nameservers = live.nameservers;
        }
        self.metrics.failover_threshold.set(i64::from(live.core.upstream.failures));
        set_limits(&self.metrics, &live.core.proxy, self.transports.connection_limit());
        self.core.handle(Event::Settings(Box::new(live.core)), now);
        Ok(())
    }

    /// Adds what the core does not know: whose status it is, whether state is kept, whether the settings are those of the file,
    /// and when the certificates end that targets have shown.
    fn completed(&self, mut status: Value) -> Value {
        status["instance"] = self.metrics.instance().into();
        status["store"] = serde_json::json!({ "writable": self.store.as_ref().map(Store::writable) });
        status["config"] = serde_json::json!({ "refused": self.metrics.config_refused() });
        let targets = status.pointer_mut("/upstream/targets").and_then(Value::as_array_mut);
        for target in targets.into_iter().flatten() {
            let end = target["target"].as_str().and_then(|label| self.metrics.shown_certificate(label));
            target["certificate_not_after"] = end.into();
        }
        status
    }

    #[allow(clippy::disallowed_methods)]
    pub(super) fn answer(&mut self, request: Request) {
        // The asker may have gone away meanwhile: then the answer is dropped.
        match request {
            Request::Status(to) => {
                let _ = to.send(self.completed(self.core.status(Instant::now())));
            }
            Request::StatusWithHistory(to) => {
                let _ = to.send(self.completed(self.core.status_with_history(Instant::now())));
            }
            Request::Phones(query, limit, to) => {
                let _ = to.send(self.core.phones(&query, limit, Instant::now()));
            }
            Request::Roll(target, to) => {
                let _ = to.send(self.core.roll(target.as_deref(), Instant::now()));
            }
            Request::Rejoin(to) => {
                let _ = to.send(self.core.rejoin(Instant::now()));
            }
            Request::Trace(filter, last, to) => {
                let _ = to.send(self.tap.trace(filter, last, unix_now()));
            }
            Request::Gauges(to) => {
                self.gather();
                let _ = to.send(());
            }
            Request::Reload(live, to) => {
                let _ = to.send(self.reload(*live, Instant::now()));
            }
        }
    }
}
