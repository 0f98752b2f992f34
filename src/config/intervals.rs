//! Intervals for which 0 means none.

use std::time::Duration;

use super::ConfigError;
use super::layers::Layers;
use super::value;

/// `None` for 0: what the PBX grants, exactly.
pub(super) fn register_interval(layers: &Layers) -> Result<Option<Duration>, ConfigError> {
    let interval =
        layers.need("register_interval", |t| value::duration(t, Duration::ZERO, Duration::from_secs(86_400)))?;
    match interval.as_secs() {
        0 if interval.is_zero() => Ok(None),
        0..60 => Err(layers.error("register_interval", "must be 60 or more, or 0 for exactly what the PBX grants")),
        _ => Ok(Some(interval)),
    }
}

/// `None` for 0: no keep-alives.
pub(super) fn upstream_keepalive(layers: &Layers) -> Result<Option<Duration>, ConfigError> {
    const LEAST: Duration = Duration::from_secs(5);
    let interval =
        layers.need("upstream_keepalive", |t| value::duration(t, Duration::ZERO, Duration::from_secs(3600)))?;
    if interval.is_zero() {
        return Ok(None);
    }
    if interval < LEAST {
        return Err(layers.error("upstream_keepalive", "must be 5s or more, or 0 for none"));
    }
    Ok(Some(interval))
}
