//! Whether this instance is one of several, and where their shared memory is.

use super::error::ConfigError;
use super::layers::Layers;
use super::{Note, files, value};
use crate::cluster::{Address, Password, Settings};
use crate::upstream::Source;

/// Nothing where no shared memory is named. What is wrong with an address is said without it: people put passwords there.
pub(super) fn settings(
    layers: &Layers,
    source: &Source,
    instance: &str,
    notes: &mut Vec<Note>,
) -> Result<Option<Settings>, ConfigError> {
    let text = layers.one("cluster", |text| Ok(text.to_owned()))?;
    let name = layers.one("cluster_name", name)?;
    let password = match layers.one("cluster_password_file", value::path)? {
        Some(path) => {
            let secret = files::secret(layers, "cluster_password_file", &path, 1)?;
            let remedy = "holds no text";
            Some(String::from_utf8(secret).map_err(|_| layers.error("cluster_password_file", remedy))?)
        }
        None => None,
    };
    let Some(text) = text else {
        if name.is_some() || password.is_some() {
            notes.push(Note::warning("cluster_name and cluster_password_file have no effect without cluster"));
        }
        return Ok(None);
    };
    if !layers.has("contact_key") {
        notes.push(Note::info(
            "cluster without contact_key: a call finds a handset only at the instance that registered it; give all the same file",
        ));
    }
    let address = Address::parse(&text).map_err(|remedy| layers.error_about("cluster", remedy))?;
    if address.has_user() && password.is_none() {
        let remedy = "names a user, who is asked for a password: give it in cluster_password_file (any text, where the user has none)";
        return Err(layers.error_about("cluster", remedy));
    }
    Ok(Some(Settings {
        address,
        password: password.map(Password),
        name: name.unwrap_or_else(|| source.to_string()),
        instance: instance.to_owned(),
    }))
}

/// It becomes a part of keys, in braces.
fn name(text: &str) -> Result<String, super::layers::Remedy> {
    const LONGEST: usize = 253;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if text.len() <= LONGEST && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be at most {LONGEST} letters, digits, -, _, . and :").into())
    }
}
