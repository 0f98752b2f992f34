//! `/status`, fetched from an admin address.

use anyhow::anyhow;
use serde_json::Value;

use super::super::Failure;
use super::super::locate::get;
use super::super::terminal::visible;

/// The JSON of the page; an error names the page and says why it is none.
pub(super) fn page(address: &str, token: Option<&str>) -> Result<Value, Failure> {
    let (code, body) = get(address, "/status", token)?;
    let unusable = |why: &str| Failure::Unavailable(anyhow!("http://{address}/status: {why}"));
    match code {
        401 if token.is_none() => return Err(unusable("it asks for a token; give its --admin-token-file or --config")),
        401 => return Err(unusable("it asks for another token than the one in --admin-token-file")),
        421 => return Err(unusable("it is not known by this name; ask by address, or name it in admin_host")),
        _ => {}
    }
    let status: Value = serde_json::from_str(&body).map_err(|_| unusable("not the page of a Holdline"))?;
    match (code, status["error"].as_str()) {
        (200, _) => Ok(status),
        (_, Some(error)) => Err(unusable(&visible(error))),
        (code, None) => Err(unusable(&format!("status {code}"))),
    }
}
