//! A digest that a PBX cannot verify, because it was made for another Request-URI than the one that arrives (RFC 3261 §22.4).
//!
//! It cannot be cured here: the handset alone knows the password. It can be named.

use std::sync::Arc;

use crate::message::{Message, Name};
use crate::proxy::edge::Edge;
use crate::proxy::site::Site;
use crate::upstream::bounded;

/// In words, if a handset's credentials are for another URI than its request goes up with.
pub(crate) fn mismatch(request: &Message, from: &Edge, site: &Site) -> Option<Arc<str>> {
    let value = request.value(request.first(Name::Authorization)?);
    let signed = quoted(value, b"uri=\"")?;
    let sent = site.names.mapped(request.bytes(), request.request_uri(), Some(from.local));
    if signed == sent {
        return None;
    }
    let words = [b"digest is for ", signed, b", the PBX gets ", &sent].concat();
    bounded(&words)
}

/// The value of a quoted parameter.
fn quoted<'v>(value: &'v [u8], name: &[u8]) -> Option<&'v [u8]> {
    let lower = value.to_ascii_lowercase();
    let begins = |at: usize| at == 0 || matches!(lower[at - 1], b' ' | b',' | b'\t');
    let at = memchr::memmem::find_iter(&lower, name).find(|at| begins(*at))?;
    let rest = &value[at + name.len()..];
    Some(&rest[..memchr::memchr(b'"', rest)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_parameter_is_found_by_its_whole_name() {
        let uri =
            |value: &str| quoted(value.as_bytes(), b"uri=\"").map(|uri| String::from_utf8_lossy(uri).into_owned());
        assert_eq!(uri("Digest username=\"a\", URI=\"sip:pbx\", response=\"1\"").as_deref(), Some("sip:pbx"));
        assert_eq!(uri("Digest nouri=\"x\",uri=\"sip:a@b\"").as_deref(), Some("sip:a@b"));
        for none in ["", "Digest uri=sip:pbx", "Digest uri=\"sip:pbx", "Digest nouri=\"x\""] {
            assert_eq!(uri(none), None, "{none}");
        }
    }
}
