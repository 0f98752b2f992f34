//! Copies of messages for a Homer.

use super::error::ConfigError;
use super::layers::{Layers, Remedy};
use super::{Note, value};
use crate::flow::Transport;
use crate::hep::Settings;

/// Nothing where no receiver is named.
pub(super) fn settings(layers: &Layers, notes: &mut Vec<Note>) -> Result<Option<Settings>, ConfigError> {
    let receiver = layers.one("hep", receiver)?;
    let capture_id = layers.need("hep_capture_id", |text| value::number(text, 0, u32::MAX))?;
    let methods = layers.many("hep_methods", method)?;
    let share = layers.need("hep_share", |text| value::number(text, 1, 100))?;
    let Some((transport, host, port)) = receiver else {
        if !methods.is_empty() || layers.has("hep_share") || layers.has("hep_capture_id") {
            notes.push(Note::warning("hep_methods, hep_share and hep_capture_id have no effect without hep"));
        }
        return Ok(None);
    };
    Ok(Some(Settings { transport, host, port, capture_id, methods, share }))
}

fn receiver(text: &str) -> Result<(Transport, String, u16), Remedy> {
    const FORM: &str = "not a receiver; write udp://HOST:9060, tcp://HOST:9060 or tls://HOST:9061";
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    let transport = Transport::ALL.into_iter().find(|transport| transport.as_str() == scheme).ok_or(FORM)?;
    let address = value::host_port(rest.trim_end_matches('/'))?;
    Ok((transport, address.host, address.port.ok_or(FORM)?))
}

fn method(text: &str) -> Result<String, Remedy> {
    if text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        Ok(text.to_owned())
    } else {
        Err("not a method; write INVITE,BYE".into())
    }
}
