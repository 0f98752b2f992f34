//! Who is told of a rollover.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::error::ConfigError;
use super::layers::Layers;
use super::{Note, keys};
use crate::notify::{Target, Url};

/// A web hook, or a program with its arguments; nothing where neither is given. What is wrong with an address is said without
/// it: its path is often a secret.
pub(super) fn on_rollover(layers: &Layers, notes: &mut Vec<Note>) -> Result<Option<Target>, ConfigError> {
    const NAME: &str = "on_rollover";
    debug_assert!(keys::find(NAME).is_some_and(|key| key.many), "a list");
    let words = layers.list(NAME);
    let Some(first) = words.first() else { return Ok(None) };
    if words.iter().all(|word| word.trim().is_empty()) {
        return Err(layers.error(NAME, "must not be blank; leave it out to tell nobody"));
    }
    if first.contains("://") {
        if words.len() > 1 {
            return Err(layers.error_about(NAME, "takes one address, or a program with its arguments"));
        }
        let url = Url::parse(first.trim()).map_err(|remedy| layers.error_about(NAME, remedy))?;
        return Ok(Some(Target::Webhook(url)));
    }
    let program = Path::new(first);
    if !program.is_absolute() {
        let remedy = "is neither an address (https://…) nor the absolute path of a program";
        return Err(layers.error_about(NAME, remedy));
    }
    if access(program, AccessFlags::X_OK).is_err() || program.is_dir() {
        notes
            .push(Note::warning(format!("on_rollover: {first} cannot be run now: nobody would be told of a rollover")));
    }
    Ok(Some(Target::Command(words)))
}
