//! What is odd about a valid configuration, in the log: at the start, and again where a reload brings something new.

use crate::config::Note;

/// One line, a warning where the note is likely to be about a mistake.
pub(super) fn log(Note { warning, text }: &Note) {
    match warning {
        true => tracing::warn!("{text}"),
        false => tracing::info!("{text}"),
    }
}
