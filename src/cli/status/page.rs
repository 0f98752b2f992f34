//! `/status`, fetched from an admin address.

use anyhow::anyhow;
use serde_json::Value;

use super::super::Failure;
use super::super::locate::get;
use super::super::terminal::visible;

/// The JSON of the page; an error names the page and says why it is none.
pub(super) fn page(address: &str) -> Result<Value, Failure> {
    let (code, body) = get(address, "/status")?;
    let unusable = |why: &str| Failure::Unavailable(anyhow!("http://{address}/status: {why}"));
    let status: Value = serde_json::from_str(&body).map_err(|_| unusable("not the page of a Holdline"))?;
    match (code, status["error"].as_str()) {
        (200, _) => Ok(status),
        (_, Some(error)) => Err(unusable(&visible(error))),
        (code, None) => Err(unusable(&format!("status {code}"))),
    }
}
