//! The log: on standard error, as text or as JSON, one event a line.
//!
//! The fields are a contract, described in `docs/logs.md`. Whatever is logged about a message carries its Call-ID; text of an
//! untrusted peer is escaped and bounded; credentials and bodies are never shown (`message::shown`).
//!
//! error: something an operator must repair · warn: something degraded, or likely a mistake · info: what changed (start,
//! rollover, record set, drain) · debug: single requests, with URIs · trace: packets. A healthy day is quiet at `info`.

mod fields;
mod lines;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use lines::{Json, Text};

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
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (filter, handle) = reload::Layer::new(filter);
    let started = log_to(settings.format, filter, colours, std::io::stderr).try_init();
    if started.is_ok() && !fixed {
        // Only the first caller gets here.
        let _ = LEVEL.set(handle);
    }
    if let (Ok(()), Some(error)) = (started, refused) {
        tracing::warn!(%error, "RUST_LOG is not a filter; log_level is used");
    }
}

/// The same lines somewhere else, for as long as the returned dispatcher is the default one: tests read them.
pub fn to<W>(settings: &Settings, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    log_to(settings.format, own(&settings.level), false, writer)
}

fn log_to<F, W>(format: Format, filter: F, colours: bool, writer: W) -> Dispatch
where
    F: Layer<Registry> + Send + Sync + 'static,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    match format {
        Format::Text => registry.with(layer.event_format(Text)).into(),
        Format::Json => registry.with(layer.event_format(Json)).into(),
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
