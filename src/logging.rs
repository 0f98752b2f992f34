//! The log: on standard error, as text or as JSON, one event a line.
//!
//! error: something an operator must repair · warn: something degraded, or likely a mistake · info: what changed (start,
//! rollover, record set, drain) · debug: single requests, with URIs · trace: packets. A healthy day is quiet at `info`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, the event's fields at the top level.
    Json,
}

/// What to log and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Form of a line.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug` or `trace`, for Holdline's own events. Libraries stay at `warn`.
    pub level: String,
}

/// Starts logging for the whole process. `RUST_LOG`, if set and not blank, replaces the level. A second call changes
/// nothing.
pub fn start(settings: &Settings) {
    let rust_log = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let default = format!("warn,holdline={}", settings.level);
    let (filter, refused) = match rust_log.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(&default), Some(error)),
        None => (EnvFilter::new(&default), None),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        Format::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
            registry.with(layer.with_target(false)).try_init()
        }
        Format::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
            registry.with(layer.with_span_list(false).with_writer(std::io::stderr)).try_init()
        }
    };
    if let (Ok(()), Some(error)) = (started, refused) {
        tracing::warn!(%error, "RUST_LOG is not a filter; log_level is used");
    }
}
