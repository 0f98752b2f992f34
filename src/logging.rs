//! The log: on standard error, as text or as JSON, one event a line.
//!
//! error: something an operator must repair · warn: something degraded, or likely a mistake · info: what changed (start,
//! rollover, record set, drain) · debug: single requests, with URIs · trace: packets. A healthy day is quiet at `info`.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

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

/// The filter in force, where `log_level` decides.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging for the whole process. `RUST_LOG`, if set and not blank, replaces the level. A second call changes
/// nothing.
pub fn start(settings: &Settings) {
    let rust_log = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let (filter, refused, fixed) = match rust_log.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None, true),
        Some(Err(error)) => (own(&settings.level), Some(error), false),
        None => (own(&settings.level), None, false),
    };
    let (filter, handle) = reload::Layer::new(filter);
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
    if started.is_ok() && !fixed {
        // The first to start logging; nobody else gets here.
        let _ = LEVEL.set(handle);
    }
    if let (Ok(()), Some(error)) = (started, refused) {
        tracing::warn!(%error, "RUST_LOG is not a filter; log_level is used");
    }
}

/// Holdline's own events from this level on, those of libraries from `warn` on.
fn own(level: &str) -> EnvFilter {
    EnvFilter::new(format!("warn,holdline={level}"))
}

/// Changes the level while it runs. False where `RUST_LOG` decides, or nothing was started.
pub fn set_level(level: &str) -> bool {
    LEVEL.get().is_some_and(|filter| filter.reload(own(level)).is_ok())
}
