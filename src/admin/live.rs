//! `/events`: what the status page shows, as server-sent events.
//!
//! One task asks the driver once a second while anybody watches, and writes down each report once for all of them. A
//! subscriber gets the newest report whenever it is ready for one: a slow one misses some, and none pile up. Subscribers
//! are bounded in number, of one source as well, and in time; one that takes nothing is dropped by its connection (see
//! `listener`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::listener::Visit;
use super::{Pages, about};
use crate::driver::Request;

/// Pages that may watch at once.
pub(super) const SUBSCRIBERS: usize = 16;

/// Of those, from one source address (IPv6: one /64).
pub(super) const OF_ONE_SOURCE: usize = 4;

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
    seats: Seats,
}

impl Feed {
    pub(super) fn new() -> Self {
        Feed {
            latest: watch::Sender::new(Bytes::new()),
            newcomer: AtomicBool::new(false),
            came: Notify::new(),
            seats: Seats::default(),
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

    /// An error says which places are taken.
    fn subscribe(&self, source: IpAddr) -> Result<Subscription, String> {
        let seat = self.seats.take(source)?;
        let reports = self.latest.subscribe();
        self.newcomer.store(true, Ordering::Relaxed);
        self.came.notify_one();
        Ok(Subscription { reports, ends: Instant::now() + LONGEST, _seat: seat })
    }
}

/// How many watch, by source.
#[derive(Debug, Clone, Default)]
struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Seats {
    fn take(&self, source: IpAddr) -> Result<Seat, String> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= SUBSCRIBERS {
            return Err(format!("{SUBSCRIBERS} pages watch already; close one\n"));
        }
        let own = taken.entry(source).or_default();
        if *own >= OF_ONE_SOURCE {
            return Err(format!("{OF_ONE_SOURCE} pages watch from your address already; close one\n"));
        }
        *own += 1;
        Ok(Seat { seats: self.clone(), source })
    }
}

/// Somebody's place, free when this is dropped.
struct Seat {
    seats: Seats,
    source: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

struct Subscription {
    reports: watch::Receiver<Bytes>,
    ends: Instant,
    _seat: Seat,
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

pub(super) async fn events(State(pages): State<Pages>, ConnectInfo(visit): ConnectInfo<Visit>) -> Response {
    let subscription = match pages.feed.subscribe(visit.source()) {
        Ok(subscription) => subscription,
        Err(why) => {
            let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
            return (StatusCode::SERVICE_UNAVAILABLE, kind, why).into_response();
        }
    };
    visit.stay_while_read();
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
