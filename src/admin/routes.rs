//! The pages.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Pages, about};
use crate::driver::Request;

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

pub(super) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(super::page::page))
        .route("/events", get(super::live::events))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(elsewhere)
        .layer(from_fn_with_state(pages.clone(), super::access::admit))
        .layer(map_response(close))
        .with_state(pages)
}

/// One request a connection, so that no idle one holds a place.
async fn close(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Gauges are brought up to date first; a driver that does not answer must not take the counters from view.
async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let _late = pages.ask(Request::Gauges).await;
    page(StatusCode::OK, METRICS, pages.shared.metrics.render())
}

async fn livez(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.watch.hangs_for(Instant::now()) {
        None => page(StatusCode::OK, TEXT, "ok\n".to_owned()),
        Some(silence) => {
            let why = format!("the driver's loop has not turned for {} s\n", silence.as_secs());
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, why)
        }
    }
}

/// Never "the PBX is up": a readiness that follows the PBX would take the phones' only proxy away.
async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    let pulse = &pages.shared.pulse;
    let (status, why) = if pulse.draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if pulse.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no target yet: DNS has not answered; see /status\n")
    };
    page(status, TEXT, why.to_owned())
}

async fn status(State(pages): State<Pages>) -> impl IntoResponse {
    let about = about(pages.started);
    let (code, value) = if let Some(Value::Object(mut said)) = pages.ask(Request::Status).await {
        said.insert("holdline".to_owned(), about);
        (StatusCode::OK, Value::Object(said))
    } else {
        let error = "the driver does not answer; see /livez";
        (StatusCode::SERVICE_UNAVAILABLE, json!({ "holdline": about, "error": error }))
    };
    page(code, JSON, format!("{value:#}\n"))
}

async fn elsewhere(uri: Uri) -> impl IntoResponse {
    let hint = format!("nothing at {}; there is /, /events, /metrics, /livez, /readyz and /status\n", uri.path());
    page(StatusCode::NOT_FOUND, TEXT, hint)
}

fn page(status: StatusCode, kind: &'static str, body: String) -> (StatusCode, [(HeaderName, &'static str); 2], String) {
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body)
}
