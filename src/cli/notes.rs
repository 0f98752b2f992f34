//! What is odd about a valid configuration, in the log: at the start, and again where a reload brings something new.

use crate::config::{Config, Note};
use crate::upstream::Source;

/// One line, a warning where the note is likely to be about a mistake.
pub(super) fn log(Note { warning, text }: &Note) {
    match warning {
        true => tracing::warn!("{text}"),
        false => tracing::info!("{text}"),
    }
}

/// What requests will be sent to, in words.
pub(super) fn upstream(config: &Config) -> String {
    let transport = config.upstream.transport;
    match &config.upstream.source {
        Source::Srv { name } => format!("SRV record {name} over {transport}"),
        Source::Static { host, port } => {
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            format!("outbound proxy {host}{port} over {transport}")
        }
    }
}
