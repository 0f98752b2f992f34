//! Limits that depend on the machine.

use super::ConfigError;
use super::layers::Layers;
use super::value;
use crate::memory::{self, Budget};

/// What messages may take, and what connections may.
pub(super) fn memory(layers: &Layers) -> Result<Budget, ConfigError> {
    let mebibytes = layers.one("limit_memory", |t| value::number::<usize>(t, 8, 65_536))?;
    Ok(Budget::of(mebibytes.map_or_else(memory::a_quarter, |mebibytes| mebibytes << 20)))
}
