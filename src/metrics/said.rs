//! What numbers alone do not say: whose metrics these are, and why settings were refused.

use std::sync::PoisonError;

use super::Metrics;

#[derive(Debug, Default)]
pub(super) struct Said {
    instance: String,
    config_refused: Option<String>,
}

impl Metrics {
    /// The name of this instance, once, at the start.
    pub fn set_instance(&self, name: &str) {
        self.instance_info.with_label_values(&[name]).set(1);
        name.clone_into(&mut self.said.write().unwrap_or_else(PoisonError::into_inner).instance);
    }

    /// As in `instance_info`.
    #[must_use]
    pub fn instance(&self) -> String {
        self.said.read().unwrap_or_else(PoisonError::into_inner).instance.clone()
    }

    /// Why the settings read last were not taken; `None` where they were. `config_last_reload_successful`, in words.
    pub fn set_config_refused(&self, why: Option<&str>) {
        self.config_last_reload_successful.set(why.is_none().into());
        self.said.write().unwrap_or_else(PoisonError::into_inner).config_refused = why.map(str::to_owned);
    }

    /// As it was set last.
    #[must_use]
    pub fn config_refused(&self) -> Option<String> {
        self.said.read().unwrap_or_else(PoisonError::into_inner).config_refused.clone()
    }
}
