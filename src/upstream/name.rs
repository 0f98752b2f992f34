//! The configured SRV name: cleaning what people paste, and the transport that its labels say (RFC 2782, RFC 3263 §4.1).
//!
//! The name is looked up as it was configured; nothing here derives another one. Hosted PBXs publish `_sip._tls`, which
//! is not what RFC 3263 derives, so the transport is read from the labels instead.

use std::net::IpAddr;

use thiserror::Error;

use crate::flow::Transport;

/// A usable SRV name and what its labels say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvName {
    /// The name to look up: absolute, without the trailing dot, case as configured.
    pub name: String,
    /// The name without its two labels, lower case: the SIP domain, unless `domain` says otherwise.
    pub domain: String,
    /// What the labels say, or what `--transport` said instead.
    pub transport: Transport,
    /// Something an operator should read once.
    pub warning: Option<String>,
}

/// Why a configured SRV name cannot be used. Reads after `srv = "…"`: each message says what to enter instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// A SIP URI was pasted.
    #[error(
        "is a URI; enter the SRV name alone, as the provider publishes it, for example _sip._udp.{host}, _sip._tcp.{host} or _sips._tcp.{host}"
    )]
    Uri {
        /// The host found in the URI.
        host: String,
    },
    /// `host:port`.
    #[error("carries a port, which the SRV record itself says; enter {name}")]
    Port {
        /// The name without the port.
        name: String,
    },
    /// An address literal.
    #[error("is an IP address, which has no SRV record; leave srv empty and set outbound_proxy = \"{address}\"")]
    Address {
        /// The address.
        address: String,
    },
    /// `_sips._udp`: DTLS (RFC 3261 §26.2.1 does not define it for SIP).
    #[error(
        "means SIP over DTLS, which Holdline does not speak; if the provider expects TLS over TCP, say so with --transport tls"
    )]
    Dtls,
    /// No `_service._protocol` labels to read a transport from.
    #[error(
        "does not begin with a service and a protocol label, so it does not say the transport; enter for example _sip._udp.{name}, or keep the name and say --transport udp, tcp or tls"
    )]
    NoLabels {
        /// The name as cleaned.
        name: String,
    },
    /// A protocol label other than `_udp`, `_tcp`, `_tls`.
    #[error(
        "has the protocol label {label}; Holdline speaks _udp, _tcp and _tls: enter one of them, or say --transport udp, tcp or tls"
    )]
    Protocol {
        /// The label.
        label: String,
    },
    /// `_sip._udp` with nothing behind it.
    #[error("has no domain after its two labels; enter for example {name}.pbx.example.com")]
    NoDomain {
        /// The name as cleaned.
        name: String,
    },
    /// A label that DNS does not allow (RFC 1035 §2.3.4), or that no host has.
    #[error(
        "is not a DNS name ({why}); enter letters, digits, '-', '_' and single dots, for example _sip._udp.pbx.example.com"
    )]
    NotAName {
        /// What is wrong.
        why: String,
    },
}

impl SrvName {
    /// Cleans the configured name. `transport` is `--transport`, which wins over the labels.
    ///
    /// `None` for a blank name, in each of its spellings: absent, empty, only spaces, a pair of quotes.
    pub fn parse(configured: Option<&str>, transport: Option<Transport>) -> Result<Option<SrvName>, NameError> {
        let Some(name) = configured.map(strip_wrapping).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        refuse_what_is_no_name(name)?;
        let labels = Labels::of(name)?;
        let said = labels.transport();
        let (transport, warning) = match (transport, said) {
            (Some(chosen), Ok((Transport::Tls, _))) if chosen != Transport::Tls => (
                chosen,
                Some(format!("the SRV name {name} says TLS, but --transport says {chosen}: packets go unencrypted")),
            ),
            (Some(chosen), _) => (chosen, None),
            (None, Ok((transport, None))) => (transport, None),
            (None, Ok((transport, Some(odd)))) => (
                transport,
                Some(format!("the SRV name {name} has the unusual service label {odd}: taken as {transport}")),
            ),
            (None, Err(error)) => return Err(error),
        };
        Ok(Some(SrvName { name: name.to_owned(), domain: labels.domain.to_ascii_lowercase(), transport, warning }))
    }
}

/// Spaces and quotes of every kind off both ends, as often as they are nested.
pub(crate) fn strip_wrapping(text: &str) -> &str {
    text.trim_matches(|c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '"' | '\'' | '`' | '“' | '”' | '„' | '‘' | '’' | '«' | '»' | '\u{200b}' | '\u{feff}')
    })
}

fn refuse_what_is_no_name(name: &str) -> Result<(), NameError> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Err(NameError::Address { address: address.to_string() });
    }
    let lower = name.to_ascii_lowercase();
    let schemed = ["sip:", "sips:", "tel:", "dns:"].iter().any(|scheme| lower.starts_with(scheme));
    if schemed || name.contains(['@', ';', '<', '>', '/', '?', '=']) {
        return Err(NameError::Uri { host: host_in_uri(&lower) });
    }
    if let Some((host, port)) = name.rsplit_once(':')
        && !port.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(NameError::Port { name: host.trim_end_matches('.').to_owned() });
    }
    let wrong = |why: String| Err(NameError::NotAName { why });
    if name.len() > 253 {
        return wrong(format!("{} characters, at most 253 are allowed", name.len()));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return wrong("an empty label between two dots".to_owned());
        }
        if label.len() > 63 {
            return wrong(format!("the label {label} is longer than 63 characters"));
        }
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')) {
        Some(c) if c.is_whitespace() => wrong("a space inside".to_owned()),
        Some(c) if !c.is_ascii() => wrong(format!("the character {c}; write international names in their xn-- form")),
        Some(c) => wrong(format!("the character {c}")),
        None => Ok(()),
    }
}

/// The host of a pasted URI, as good as it can be guessed; for a suggestion only.
fn host_in_uri(lower: &str) -> String {
    let text = lower.trim_start_matches('<');
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = ["sip:", "sips:", "tel:", "dns:"].iter().find_map(|s| text.strip_prefix(s)).unwrap_or(text);
    let text = text.trim_start_matches('/');
    let text = text.split([';', '?', '>', '/', '=']).next().unwrap_or_default();
    let text = text.rsplit('@').next().unwrap_or_default();
    let text = text.split(':').next().unwrap_or_default();
    let text = text.trim_end_matches('.');
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    let host = if plain { text } else { "pbx.example.com" };
    // A URI of the SRV name itself ("sip:_sip._udp.example.com") must not suggest the labels twice.
    let mut labels = host.splitn(3, '.');
    match (labels.next(), labels.next(), labels.next()) {
        (Some(a), Some(b), Some(rest)) if a.starts_with('_') && b.starts_with('_') => rest.to_owned(),
        _ => host.to_owned(),
    }
}

struct Labels<'n> {
    /// `_sip`, `_udp`; none where the name does not begin with two underscored labels.
    service: Option<(&'n str, &'n str)>,
    name: &'n str,
    domain: &'n str,
}

impl<'n> Labels<'n> {
    fn of(name: &'n str) -> Result<Self, NameError> {
        let mut parts = name.splitn(3, '.');
        let (first, second, rest) = (parts.next(), parts.next(), parts.next());
        match (first, second) {
            (Some(service), Some(protocol)) if service.starts_with('_') && protocol.starts_with('_') => {
                let domain = rest.ok_or_else(|| NameError::NoDomain { name: name.to_owned() })?;
                Ok(Labels { service: Some((service, protocol)), name, domain })
            }
            _ => Ok(Labels { service: None, name, domain: name }),
        }
    }

    /// The transport the labels say, and the service label if it is an unusual one.
    fn transport(&self) -> Result<(Transport, Option<String>), NameError> {
        let Some((service, protocol)) = self.service else {
            return Err(NameError::NoLabels { name: self.name.to_owned() });
        };
        let (service, protocol) = (service.to_ascii_lowercase(), protocol.to_ascii_lowercase());
        match (service.as_str(), protocol.as_str()) {
            ("_sip", "_udp") => Ok((Transport::Udp, None)),
            ("_sip", "_tcp") => Ok((Transport::Tcp, None)),
            ("_sip" | "_sips" | "_sip2", "_tls") | ("_sips", "_tcp") => Ok((Transport::Tls, None)),
            (secure, "_udp") if secure.contains("sips") => Err(NameError::Dtls),
            (secure, "_tcp") if secure.contains("sips") => Ok((Transport::Tls, Some(service))),
            (_, "_udp") => Ok((Transport::Udp, Some(service))),
            (_, "_tcp") => Ok((Transport::Tcp, Some(service))),
            (_, "_tls") => Ok((Transport::Tls, Some(service))),
            (_, other) => Err(NameError::Protocol { label: other.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<Option<SrvName>, NameError> {
        SrvName::parse(Some(name), None)
    }

    fn transport(name: &str) -> Transport {
        parse(name).unwrap().unwrap().transport
    }

    #[test]
    fn blank_in_all_four_spellings_is_no_name() {
        assert_eq!(SrvName::parse(None, None), Ok(None));
        for blank in ["", "   ", "\t \n", "\"\"", "''", " \" \" "] {
            assert_eq!(parse(blank), Ok(None), "{blank:?}");
        }
    }

    #[test]
    fn every_spelling_says_its_transport() {
        let table = [
            ("_sip._udp.pbx.example.com", Transport::Udp),
            ("_sip._tcp.pbx.example.com", Transport::Tcp),
            ("_sip._tls.pbx.example.com", Transport::Tls),
            ("_sips._tls.pbx.example.com", Transport::Tls),
            ("_sip2._tls.pbx.example.com", Transport::Tls),
            ("_sips._tcp.pbx.example.com", Transport::Tls),
            ("_SIP._UDP.pbx.example.com", Transport::Udp),
        ];
        for (name, expected) in table {
            let srv = parse(name).unwrap().unwrap();
            assert_eq!((srv.transport, srv.warning), (expected, None), "{name}");
            assert_eq!(srv.name, name, "looked up verbatim");
            assert_eq!(srv.domain, "pbx.example.com");
        }
    }

    #[test]
    fn other_service_labels_warn() {
        for (name, expected) in [
            ("_voip._udp.example.com", Transport::Udp),
            ("_voip._tcp.example.com", Transport::Tcp),
            ("_voip._tls.example.com", Transport::Tls),
            ("_sip2._udp.example.com", Transport::Udp),
            ("_sips2._tcp.example.com", Transport::Tls),
        ] {
            let srv = parse(name).unwrap().unwrap();
            assert_eq!(srv.transport, expected, "{name}");
            assert!(srv.warning.unwrap().contains("unusual service label"), "{name}");
        }
    }

    #[test]
    fn dtls_is_refused_and_the_remedy_named() {
        let error = parse("_sips._udp.example.com").unwrap_err();
        assert_eq!(error, NameError::Dtls);
        assert!(error.to_string().contains("--transport"));
        let chosen = SrvName::parse(Some("_sips._udp.example.com"), Some(Transport::Tls)).unwrap().unwrap();
        assert_eq!(chosen.transport, Transport::Tls);
    }

    #[test]
    fn quotes_dot_and_spaces_are_cleaned() {
        for name in [
            "\"_sip._udp.example.com\"",
            "'_sip._udp.example.com'",
            "  _sip._udp.example.com  ",
            "_sip._udp.example.com.",
            " \"_sip._udp.example.com.\" ",
            "“_sip._udp.example.com”",
        ] {
            assert_eq!(parse(name).unwrap().unwrap().name, "_sip._udp.example.com", "{name:?}");
        }
    }

    #[test]
    fn a_pasted_uri_gets_told_what_to_enter() {
        for uri in [
            "sip:pbx.example.com",
            "SIPS:pbx.example.com",
            "sip:alice@pbx.example.com",
            "<sip:pbx.example.com;transport=tls>",
            "sip:pbx.example.com:5060",
            "https://pbx.example.com/",
            "sip://pbx.example.com",
            "alice@pbx.example.com",
        ] {
            let error = parse(uri).unwrap_err();
            assert_eq!(error, NameError::Uri { host: "pbx.example.com".to_owned() }, "{uri}");
            assert!(error.to_string().contains("_sip._udp.pbx.example.com"), "{error}");
        }
        let own = parse("sip:_sip._udp.pbx.example.com").unwrap_err();
        assert_eq!(own, NameError::Uri { host: "pbx.example.com".to_owned() });
    }

    #[test]
    fn what_is_no_srv_name_is_refused() {
        assert!(matches!(parse("_sip._udp.example.com:5060"), Err(NameError::Port { .. })));
        assert!(matches!(parse("192.0.2.1"), Err(NameError::Address { .. })));
        assert!(matches!(parse("[2001:db8::1]"), Err(NameError::Address { .. })));
        assert!(matches!(parse("pbx.example.com"), Err(NameError::NoLabels { .. })));
        assert!(matches!(parse("_sip.example.com"), Err(NameError::NoLabels { .. })));
        assert!(matches!(parse("_sip._sctp.example.com"), Err(NameError::Protocol { .. })));
        assert!(matches!(parse("_sip._udp"), Err(NameError::NoDomain { .. })));
        for not_a_name in ["_sip._udp..example.com", "_sip._udp.exa mple.com", "_sip._udp.exämple.com", ".", "a:b"] {
            assert!(matches!(parse(not_a_name), Err(NameError::NotAName { .. })), "{not_a_name}");
        }
        let long = format!("_sip._udp.{}.com", "a".repeat(64));
        assert!(matches!(parse(&long), Err(NameError::NotAName { .. })));
        let longer = format!("_sip._udp.{}com", "abcdefg.".repeat(40));
        assert!(matches!(parse(&longer), Err(NameError::NotAName { .. })));
    }

    #[test]
    fn transport_given_by_hand_wins_over_the_labels() {
        let bare = SrvName::parse(Some("sip.example.com"), Some(Transport::Tcp)).unwrap().unwrap();
        assert_eq!((bare.transport, bare.domain.as_str()), (Transport::Tcp, "sip.example.com"));
        let wrong = SrvName::parse(Some("_sip._udp.example.com"), Some(Transport::Tls)).unwrap().unwrap();
        assert_eq!((wrong.transport, wrong.warning), (Transport::Tls, None));
        let weaker = SrvName::parse(Some("_sip._tls.example.com"), Some(Transport::Udp)).unwrap().unwrap();
        assert!(weaker.warning.unwrap().contains("unencrypted"));
        assert_eq!(transport("_sip._tls.example.com"), Transport::Tls);
    }
}
