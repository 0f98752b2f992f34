//! Flags over variables over the file over defaults, as text that remembers where it came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::keys::{KEYS, Key, closest, find};

/// What is wrong with a value and what would be right.
pub(super) type Remedy = Cow<'static, str>;

/// One value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    text: String,
    origin: Origin,
}

/// What was given for each key, the strongest source only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    given: BTreeMap<&'static str, Vec<Value>>,
}

impl Layers {
    /// Adds the file: weaker than what is there.
    pub fn read_file(&mut self, path: &Path, origin: Origin) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, origin, &error))?;
        self.add_toml(&text, &path.display().to_string())
    }

    /// Adds only these settings of a file: weaker than what is there. Whatever else is wrong in the file does not matter to
    /// somebody who looks for the Holdline that runs with it: that one refused the change, and goes on.
    pub fn read_only(&mut self, names: &[&str], path: &Path, origin: Origin) -> Result<(), ConfigError> {
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, origin, &error))?;
        let text = String::from_utf8_lossy(&bytes);
        let path: Arc<str> = path.display().to_string().into();
        let (table, _) = DeTable::parse_recoverable(&text);
        for (name, value) in table.get_ref() {
            let Some(key) = find(name.get_ref()).filter(|key| names.contains(&key.name)) else { continue };
            let Ok(values) = texts(value.get_ref(), key) else { continue };
            let origin = Origin::File { path: Arc::clone(&path), line: line(&text, name.span().start) };
            let values = values.into_iter().map(|(text, _)| Value { text, origin: origin.clone() });
            self.given.entry(key.name).or_insert_with(|| values.collect());
        }
        Ok(())
    }

    /// Adds the text of a file: weaker than what is there.
    pub fn add_toml(&mut self, text: &str, path: &str) -> Result<(), ConfigError> {
        let path: Arc<str> = path.into();
        let at = |offset: usize| Origin::File { path: Arc::clone(&path), line: line(text, offset) };
        let table = DeTable::parse(text).map_err(|error| ConfigError {
            key: "config".to_owned(),
            value: None,
            origin: at(error.span().map_or(0, |span| span.start)),
            remedy: format!("not valid TOML: {}", error.message().replace('\n', ", ")).into(),
        })?;
        for (name, value) in table.get_ref() {
            let origin = at(name.span().start);
            let key = find(name.get_ref()).ok_or_else(|| unknown(name.get_ref(), origin.clone()))?;
            let values = texts(value.get_ref(), key).map_err(|remedy| ConfigError {
                key: key.name.to_owned(),
                value: None,
                origin: at(value.span().start),
                remedy,
            })?;
            let values = values
                .into_iter()
                .map(|(text, offset)| Value { text, origin: offset.map_or_else(|| origin.clone(), at) });
            self.given.entry(key.name).or_insert_with(|| values.collect());
        }
        Ok(())
    }

    /// Adds what a flag or a variable said: weaker than what is there, except that an empty variable says nothing, but
    /// for `srv` and `outbound_proxy`, whose blank is an answer.
    pub fn add(&mut self, key: &'static Key, texts: Vec<String>, origin: &Origin) {
        let blank = texts.iter().all(|text| text.trim().is_empty());
        let blank_counts = matches!(key.name, "srv" | "outbound_proxy") || !matches!(origin, Origin::Variable(_));
        if blank && !blank_counts {
            return;
        }
        let values = texts.into_iter().map(|text| Value { text, origin: origin.clone() });
        self.given.entry(key.name).or_insert_with(|| values.collect());
    }

    /// Names of the settings whose values are not the same in both, in the table's order. One that is given as its default is
    /// the same as one that is not given.
    #[must_use]
    pub fn differences(&self, other: &Layers) -> Vec<&'static str> {
        KEYS.iter().filter(|key| self.items(key) != other.items(key)).map(|key| key.name).collect()
    }

    /// The files that are named, each with its setting's name.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let named = |key: &Key| self.items(key).into_iter().map(PathBuf::from).map(|path| (key.name, path)).next();
        KEYS.iter().filter(|key| key.value == "FILE").filter_map(named).collect()
    }

    /// What is in force for a key, as text; nothing for a blank.
    fn items(&self, key: &Key) -> Vec<String> {
        let given = self.given.get(key.name);
        let texts = given.map_or_else(|| vec![key.default], |values| values.iter().map(|v| v.text.as_str()).collect());
        let texts = if key.many { texts } else { texts.into_iter().last().into_iter().collect() };
        let items = texts.into_iter().flat_map(|text| if key.many { split(text) } else { vec![text.to_owned()] });
        items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    }

    /// The value of a key that has a default.
    pub(super) fn need<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Remedy>) -> Result<T, ConfigError> {
        if let Some(value) = self.one(name, &parse)? {
            return Ok(value);
        }
        let key = known(name);
        parse(key.default).map_err(|remedy| refuse(name, Some(key.default), Origin::Default, remedy))
    }

    /// The value of a key, if one was given. A blank counts as none for `srv` and `outbound_proxy`.
    pub(super) fn one<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Remedy>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.given.get(known(name).name).and_then(|values| values.last()) else { return Ok(None) };
        if value.text.trim().is_empty() {
            return match name {
                "srv" | "outbound_proxy" => Ok(None),
                _ => Err(refuse(name, Some(&value.text), value.origin.clone(), "must not be blank".into())),
            };
        }
        let text = value.text.trim();
        parse(text).map(Some).map_err(|remedy| refuse(name, Some(text), value.origin.clone(), remedy))
    }

    /// The values of a key that takes several; the default where none were given.
    pub(super) fn many<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Remedy>) -> Result<Vec<T>, ConfigError> {
        let key = known(name);
        let default = [Value { text: key.default.to_owned(), origin: Origin::Default }];
        let values = self.given.get(key.name).map_or(default.as_slice(), Vec::as_slice);
        let mut parsed = Vec::new();
        for value in values {
            for item in split(&value.text) {
                let item = item.trim();
                parsed.push(parse(item).map_err(|remedy| refuse(name, Some(item), value.origin.clone(), remedy))?);
            }
        }
        Ok(parsed)
    }

    /// The values of a key as they were given, one by one: commas part nothing. Empty where none was given.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let given = self.given.get(known(name).name);
        given.into_iter().flatten().map(|value| value.text.clone()).collect()
    }

    /// Whether this key was given a value that is not blank.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.get(known(name).name).is_some_and(|values| values.iter().any(|v| !v.text.trim().is_empty()))
    }

    /// A refusal of this key that does not show its value.
    pub(super) fn error_about(&self, name: &str, remedy: &'static str) -> ConfigError {
        ConfigError { value: None, ..self.error(name, remedy) }
    }

    /// A refusal of this key for a reason that its text alone does not show.
    pub(super) fn error(&self, name: &str, remedy: impl Into<Remedy>) -> ConfigError {
        let key = known(name);
        match self.given.get(key.name).and_then(|values| values.last()) {
            Some(value) => refuse(name, Some(&value.text), value.origin.clone(), remedy.into()),
            None if key.default.is_empty() => refuse(name, None, Origin::Default, remedy.into()),
            None => refuse(name, Some(key.default), Origin::Default, remedy.into()),
        }
    }
}

/// Variables that look like a misspelt setting of ours. (Kubernetes sets `HOLDLINE_SERVICE_HOST` and its like for a
/// Service of that name, so that an unknown variable cannot be an error.)
pub fn misspelt_variables(names: impl Iterator<Item = String>) -> Vec<(String, &'static str)> {
    names
        .filter(|name| !KEYS.iter().any(|key| key.variable == name) && name != "HOLDLINE_CONFIG")
        .filter_map(|name| {
            let meant = closest(name.strip_prefix("HOLDLINE_")?)?;
            Some((name, find(meant)?.variable))
        })
        .collect()
}

/// Commas part items; `advertise=` belongs to the item before it.
fn split(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for piece in text.split(',').filter(|piece| !piece.trim().is_empty()) {
        match items.last_mut() {
            Some(last) if piece.trim_start().starts_with("advertise=") => {
                last.push(',');
                last.push_str(piece.trim());
            }
            _ => items.push(piece.to_owned()),
        }
    }
    items
}

/// A TOML value as texts, with the offset of each item of a list.
fn texts(value: &DeValue<'_>, key: &Key) -> Result<Vec<(String, Option<usize>)>, Remedy> {
    if let DeValue::Array(items) = value {
        if !key.many {
            return Err("takes one value, not a list".into());
        }
        return items.iter().map(|item| Ok((scalar(item.get_ref())?, Some(item.span().start)))).collect();
    }
    Ok(vec![(scalar(value)?, None)])
}

fn scalar(value: &DeValue<'_>) -> Result<String, Remedy> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(yes) => Ok(yes.to_string()),
        other => Err(format!("{} is not a value here; write text, a number, true or false", other.type_str()).into()),
    }
}

fn unreadable(path: &Path, origin: Origin, error: &std::io::Error) -> ConfigError {
    let remedy = format!("cannot be read: {error}").into();
    ConfigError { key: "config".to_owned(), value: Some(path.display().to_string()), origin, remedy }
}

/// The number of the line in which this offset is.
fn line(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count()
}

fn unknown(name: &str, origin: Origin) -> ConfigError {
    let remedy = match closest(name) {
        Some(meant) => format!("unknown key; did you mean {meant}?"),
        None => "unknown key; `holdline run --help` lists them".to_owned(),
    };
    ConfigError { key: name.to_owned(), value: None, origin, remedy: remedy.into() }
}

fn refuse(name: &str, value: Option<&str>, origin: Origin, remedy: Remedy) -> ConfigError {
    ConfigError { key: name.to_owned(), value: value.map(str::to_owned), origin, remedy }
}

fn known(name: &str) -> &'static Key {
    find(name).expect("every key that is asked for is in the table")
}
