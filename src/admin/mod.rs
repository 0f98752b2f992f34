//! The admin listener, for probes, scrapers and operators. Nothing here changes anything, and nothing shows who the
//! phones are.
//!
//! | route | answer |
//! |---|---|
//! | `/` | the status page, which watches `/events` |
//! | `/events` | server-sent events: what the page shows, whenever it changes (`docs/status.md`) |
//! | `/metrics` | Prometheus' text format (`docs/metrics.md`) |
//! | `/livez` | 200 while the driver's loop turns; its listeners are bound before this one answers |
//! | `/readyz` | 200 once there are targets (an answer, the last good set, or the outbound proxy) and until a drain begins |
//! | `/status` | JSON: targets, counts, events, flows, versions (`docs/status.md`) |
//!
//! It runs on a thread and a runtime of its own, so that rendering a page never stands between a datagram and its
//! forwarding, and a loop that hangs is seen. One request a connection, a bounded number of connections, each with a
//! deadline and a source that holds no more than its share. Who is answered is in [`Access`].

mod access;
mod listener;
mod live;
mod page;
mod routes;
mod watch;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

pub use access::{Access, Admitted, Token};

use crate::driver::{Pulse, Request};
use crate::metrics::{Metrics, REVISION};
use live::Feed;
use watch::Watch;

/// How long the driver may take to answer a question before the page goes on without it.
const PATIENCE: Duration = Duration::from_millis(800);

/// What the pages are made from.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// What the driver says about itself without being asked.
    pub pulse: Arc<Pulse>,
    /// Questions to the driver.
    pub requests: mpsc::Sender<Request>,
    /// Who is answered.
    pub access: Access,
}

/// The bound listener, not yet answering.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Admin {
    /// Binds. Port 0 takes any port.
    pub fn bind(addr: SocketAddr) -> io::Result<Admin> {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        Ok(Admin { listener, addr })
    }

    /// Where it listens, the real port included.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers from now on, on a thread of its own, until the process ends.
    pub fn serve(self, shared: Shared) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = move || runtime.block_on(self.answer(shared));
        thread::Builder::new().name("admin".to_owned()).spawn(serve).map(|_| ())
    }

    async fn answer(self, shared: Shared) {
        let listener = match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => listener::Bounded::new(listener),
            Err(error) => return tracing::error!(%error, "the admin listener cannot be served"),
        };
        let (watch, feed) = (Arc::new(Watch::new(Instant::now())), Arc::new(Feed::new()));
        let pages = Pages { shared, watch, feed, started: Instant::now() };
        tokio::spawn(pages.watch.clone().observe(pages.shared.pulse.clone()));
        tokio::spawn(Feed::publish(pages.clone()));
        let router = routes::router(pages).into_make_service_with_connect_info::<listener::Visit>();
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin listener ended");
        }
    }
}

/// What is running, and for how long: the `holdline` object of `/status`.
pub(crate) fn about(started: Instant) -> serde_json::Value {
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": REVISION,
        "uptime_seconds": started.elapsed().as_secs(),
    })
}

/// State of the routes.
#[derive(Debug, Clone)]
struct Pages {
    shared: Shared,
    watch: Arc<Watch>,
    feed: Arc<Feed>,
    started: Instant,
}

impl Pages {
    /// Asks the driver; `None` where it does not answer in time.
    async fn ask<T>(&self, question: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> Request) -> Option<T> {
        let (to, answer) = tokio::sync::oneshot::channel();
        timeout(PATIENCE, async {
            self.shared.requests.send(question(to)).await.ok()?;
            answer.await.ok()
        })
        .await
        .ok()
        .flatten()
    }
}

#[cfg(test)]
mod tests;
