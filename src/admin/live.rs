//! `/events`: what the status page shows, as server-sent events.
//!
//! One task asks the driver once a second while anybody watches, and writes down each report once for all of them. A
//! subscriber gets the newest report whenever it is ready for one: a slow one misses some, and none pile up. Subscribers
//! are bounded in number and time; one that takes nothing is dropped by its connection (see `listener`).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::listener::Stay;
use super::{Pages, about};
use crate::driver::Request;

/// Pages that may watch at once.
pub(super) const SUBSCRIBERS: usize = 16;

/// The driver is asked this often while anybody watches.
const EVERY: Duration = Duration::from_secs(1);

/// Without a change a report goes out this often all the same: a page tells silence from peace.
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// A subscription ends after this long. The page comes again by itself.
const LONGEST: Duration = Duration::from_secs(3600);

/// The reports, and who gets them.
#[derive(Debug)]
pub(super) struct Feed {
    latest: watch::Sender<Bytes>,
    /// Somebody came who has seen nothing yet.
    newcomer: AtomicBool,
    came: Notify,
    seats: Arc<Semaphore>,
}

impl Feed {
    pub(super) fn new() -> Self {
        Feed {
            latest: watch::Sender::new(Bytes::new()),
            newcomer: AtomicBool::new(false),
            came: Notify::new(),
            seats: Arc::new(Semaphore::new(SUBSCRIBERS)),
        }
    }

    /// Reports for ever; asks nobody while nobody watches.
    pub(super) async fn publish(pages: Pages) {
        let feed = &pages.feed;
        let (mut last, mut at) = (Value::Null, Instant::now());
        loop {
            if feed.latest.receiver_count() == 0 {
                feed.came.notified().await;
            }
            let report = report(&pages).await;
            let essence = essence(&report);
            let newcomer = feed.newcomer.swap(false, Ordering::Relaxed);
            if newcomer || essence != last || at.elapsed() >= AT_LEAST_EVERY {
                feed.latest.send_replace(Bytes::from(format!("retry: 2000\ndata: {report}\n\n")));
                (last, at) = (essence, Instant::now());
            }
            sleep(EVERY).await;
        }
    }

    /// `None`: all places are taken.
    fn subscribe(&self) -> Option<Subscription> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let reports = self.latest.subscribe();
        self.newcomer.store(true, Ordering::Relaxed);
        self.came.notify_one();
        Some(Subscription { reports, ends: Instant::now() + LONGEST, _seat: seat })
    }
}

struct Subscription {
    reports: watch::Receiver<Bytes>,
    ends: Instant,
    _seat: OwnedSemaphorePermit,
}

impl Subscription {
    /// The newest report not seen yet, when there is one; `None` at the end.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Subscription)> {
        tokio::select! {
            changed = self.reports.changed() => changed.ok()?,
            () = sleep_until(self.ends) => return None,
        }
        let report = self.reports.borrow_and_update().clone();
        Some((Ok(report), self))
    }
}

pub(super) async fn events(State(pages): State<Pages>, ConnectInfo(stay): ConnectInfo<Stay>) -> Response {
    let Some(subscription) = pages.feed.subscribe() else {
        let why = format!("{SUBSCRIBERS} pages watch already; close one\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(CONTENT_TYPE, "text/plain; charset=utf-8")], why).into_response();
    };
    stay.while_read();
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(stream::unfold(subscription, Subscription::next))).into_response()
}

/// As `/status`, with the history the page draws.
async fn report(pages: &Pages) -> Value {
    match pages.ask(Request::StatusWithHistory).await {
        Some(mut report) => {
            report["holdline"] = about(pages.started);
            report
        }
        None => json!({ "error": "the driver does not answer; see /livez" }),
    }
}

/// A report without what changes by the mere passing of time.
fn essence(report: &Value) -> Value {
    match report {
        Value::Object(fields) => {
            let lasting = fields.iter().filter(|(name, _)| !name.ends_with("_seconds"));
            lasting.map(|(name, value)| (name.clone(), essence(value))).collect()
        }
        Value::Array(items) => items.iter().map(essence).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_alone_are_no_news() {
        let report = |age: u64, epoch: u64| json!({ "upstream": { "epoch": epoch, "active_seconds": age, "events": [{ "age_seconds": age, "to": "b" }] } });
        assert_eq!(essence(&report(1, 1)), essence(&report(2, 1)));
        assert_ne!(essence(&report(1, 1)), essence(&report(1, 2)));
    }
}
