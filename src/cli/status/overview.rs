//! `holdline status --all`: one line for each Holdline of this machine, found by the files they are configured with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};

use super::super::Failure;
use super::super::locate::{FileArgs, admin_of, token_of};
use super::super::terminal::{self, span, table, visible};
use super::page::page;
use super::view::{Status, overview};

/// More files than this are no machine's customers.
const MAX_INSTANCES: usize = 256;

/// What was found of one instance: its name (the file's, without `.toml`), and its `/status` or why there is none.
struct Instance {
    name: String,
    status: Result<Value, String>,
}

/// The text, and whether every instance answered.
pub(super) fn all(folder: &Path, as_json: bool) -> Result<(String, bool), Failure> {
    let instances = instances(folder)?;
    let complete = instances.iter().all(|instance| instance.status.is_ok());
    if as_json {
        let objects = instances
            .into_iter()
            .map(|Instance { name, status }| (name, status.unwrap_or_else(|error| json!({ "error": error }))));
        return Ok((terminal::json(&Value::Object(objects.collect::<Map<_, _>>()), true), complete));
    }
    let head = ["INSTANCE", "UPSTREAM", "ACTIVE", "FOR", "PHONES", "STATE"].map(str::to_owned);
    let rows: Vec<Vec<String>> = std::iter::once(head.to_vec()).chain(instances.iter().map(row)).collect();
    Ok((table(&rows), complete))
}

fn instances(folder: &Path) -> Result<Vec<Instance>, Failure> {
    let listed = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()));
    let mut files: Vec<PathBuf> = listed
        .map_err(Failure::Unavailable)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::Unavailable(anyhow!(
            "{} has no .toml file: no Holdline is configured there",
            folder.display()
        )));
    }
    if files.len() > MAX_INSTANCES {
        return Err(Failure::Unavailable(anyhow!(
            "{} has {} files; at most {MAX_INSTANCES} are looked at",
            folder.display(),
            files.len()
        )));
    }
    // Of two files with one address, one instance cannot have started: whoever answers there is not both.
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    Ok(files.into_iter().map(|path| look(path, &mut seen)).collect())
}

fn look(path: PathBuf, seen: &mut BTreeMap<String, String>) -> Instance {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let file = FileArgs::of(path);
    let status = match admin_of(&file) {
        Err(failure) => Err(failure.to_string()),
        Ok(address) => match seen.get(&address) {
            Some(other) => Err(format!("has the admin address of {other}, {address}: give each file its own")),
            None => {
                seen.insert(address.clone(), name.clone());
                let asked = token_of(&file).and_then(|token| page(&address, token.as_deref()));
                // Where nobody answers, a mistake in the file is the likelier reason.
                asked.map_err(|failure| file.mistake().unwrap_or_else(|| failure.to_string()))
            }
        },
    };
    Instance { name, status }
}

fn row(instance: &Instance) -> Vec<String> {
    let name = visible(&instance.name);
    let unknown = |why: &str| [name.as_str(), "", "", "", "", why].map(str::to_owned).to_vec();
    let status = match &instance.status {
        Ok(status) => status,
        Err(error) => return unknown(&visible(error)),
    };
    match serde_json::from_value::<Status>(status.clone()) {
        Err(error) => unknown(&format!("this is not the /status of a Holdline: {error}")),
        Ok(status) => {
            let seen = overview(&status);
            let active = seen.active.map_or("none".to_owned(), visible);
            let since = seen.active_seconds.map(span).unwrap_or_default();
            vec![name, visible(seen.source), active, since, seen.handsets.to_string(), seen.state]
        }
    }
}
