//! Texts to values. Each refusal says what would be right.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::layers::Remedy;
use crate::flow::{HostPort, Transport};

type Parsed<T> = Result<T, Remedy>;

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    choice(text, &[("true", true), ("false", false)])
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("must be {}", all.join(" or ")).into()
    })
}

/// A whole number between two others, both included.
pub(super) fn number<T: FromStr + PartialOrd + Display + Copy>(text: &str, least: T, most: T) -> Parsed<T> {
    match text.parse() {
        Ok(n) if n >= least && n <= most => Ok(n),
        _ => Err(format!("must be a whole number from {least} to {most}").into()),
    }
}

/// `4s`, `500ms`, `1m`, `1h`, or plain seconds; between two bounds, both included.
pub(super) fn duration(text: &str, least: Duration, most: Duration) -> Parsed<Duration> {
    const FORM: &str = "not a duration; write 4s, 500ms, 1m, or plain seconds";
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(FORM.into()),
    };
    let number = number.trim_end();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(FORM.into());
    }
    let seconds: f64 = number.parse().map_err(|_| FORM)?;
    let duration = Duration::try_from_secs_f64(seconds * scale).map_err(|_| FORM)?;
    if duration < least || duration > most {
        return Err(format!("must be from {least:?} to {most:?}").into());
    }
    Ok(duration)
}

/// `udp`, `tcp` or `tls`.
pub(super) fn transport(text: &str) -> Parsed<Transport> {
    match text.to_ascii_lowercase().as_str() {
        "udp" => Ok(Transport::Udp),
        "tcp" => Ok(Transport::Tcp),
        "tls" => Ok(Transport::Tls),
        "dtls" => Err("DTLS is not supported; must be udp, tcp or tls".into()),
        _ => Err("must be udp, tcp or tls".into()),
    }
}

/// A few words on one line.
pub(super) fn label(text: &str) -> Parsed<String> {
    const LONGEST: usize = 64;
    if text.chars().count() > LONGEST || text.chars().any(char::is_control) {
        return Err(format!("must be at most {LONGEST} characters on one line").into());
    }
    Ok(text.to_owned())
}

/// A file or directory name. Nothing is opened.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.contains('\0') {
        return Err("not a file name".into());
    }
    Ok(PathBuf::from(text))
}

/// A network in CIDR form; a lone address stands for itself.
pub(super) fn network(text: &str) -> Parsed<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    text.parse().map_err(|_| "not a network; write 192.168.0.0/16, fd00::/8 or a single address".into())
}

/// A host name (lower case, no trailing dot) or an address without brackets.
pub(super) fn host(text: &str) -> Parsed<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').unwrap_or_default();
        return match inner.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => Ok(inner.to_ascii_lowercase()),
            _ => Err("not an IPv6 address in brackets; write [2001:db8::1]".into()),
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_ascii_lowercase());
    }
    if let Some(remedy) = pasted(text) {
        return Err(remedy.into());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if name.len() > 253 || numeric || !name.split('.').all(label) {
        return Err("not a host name or address; write pbx.example.com, 192.0.2.1 or [2001:db8::1]".into());
    }
    Ok(name.to_ascii_lowercase())
}

/// `HOST[:PORT]`; a port of 0 is refused.
pub(super) fn host_port(text: &str) -> Parsed<HostPort> {
    if let Some(remedy) = pasted(text) {
        return Err(remedy.into());
    }
    let (name, port_text) = match text.rfind(':') {
        // An IPv6 address without brackets has no port.
        Some(_) if text.parse::<IpAddr>().is_ok() => (text, None),
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    Ok(HostPort { host: host(name)?, port: port_text.map(port).transpose()? })
}

/// As [`host_port`], for what is announced to peers: a wildcard address would mean nothing to them.
pub(super) fn advertised(text: &str) -> Parsed<HostPort> {
    let given = host_port(text)?;
    match given.host.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => {
            Err("advertise must be an address others can send to, not a wildcard; leave it out for the local one"
                .into())
        }
        _ => Ok(given),
    }
}

/// `IP[:PORT]`.
pub(super) fn ip_port(text: &str, default_port: u16) -> Parsed<SocketAddr> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, default_port));
    }
    text.parse().map_err(|_| {
        let bad_port = text.rsplit_once(':').is_some_and(|(ip, port)| {
            ip.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() && port.parse::<u16>().is_err()
        });
        if bad_port {
            PORT.into()
        } else {
            format!("not an address; write 192.0.2.1:{default_port} or [2001:db8::1]:{default_port}").into()
        }
    })
}

const PORT: &str = "the port must be a number from 1 to 65535";

fn port(text: &str) -> Parsed<u16> {
    match text.parse() {
        Ok(0) | Err(_) => Err(PORT.into()),
        Ok(port) => Ok(port),
    }
}

/// A pasted URI or SRV name, and what to enter instead.
fn pasted(text: &str) -> Option<String> {
    let rest = ["sip:", "sips:", "tel:", "http://", "https://"].iter().find_map(|scheme| {
        text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &text[scheme.len()..])
    });
    let looks_like_uri = rest.is_some() || text.contains(['@', ';', '/', '<', '>', '?']);
    if looks_like_uri {
        let rest = rest.unwrap_or(text).trim_start_matches(['/', '<']);
        let rest = rest.rsplit('@').next().unwrap_or(rest);
        let end = rest.find([';', '>', '/', '?', '&']).unwrap_or(rest.len());
        return Some(format!("looks like a URI; enter only the host: {}", &rest[..end]));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::ZERO;
    const LONGEST: Duration = Duration::from_secs(86_400);

    #[test]
    fn durations_are_read_with_unit_or_as_seconds() {
        for (text, millis) in [
            ("4s", 4000),
            ("500ms", 500),
            ("1m", 60_000),
            ("300", 300_000),
            ("1.5s", 1500),
            ("2h", 7_200_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text, SHORTEST, LONGEST), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "4 parsecs", "-1s", "1e3", "NaN", "inf", "1.2.3", "4sec", "99999999999999999999h"] {
            assert!(duration(text, SHORTEST, LONGEST).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_and_ports_are_told_apart_from_what_people_paste() {
        for (text, host, port) in [
            ("pbx.example.com", "pbx.example.com", None),
            ("PBX.example.com.:5061", "pbx.example.com", Some(5061)),
            ("192.0.2.1:5060", "192.0.2.1", Some(5060)),
            ("[2001:DB8::1]:5060", "2001:db8::1", Some(5060)),
            ("2001:db8::1", "2001:db8::1", None),
        ] {
            assert_eq!(host_port(text), Ok(HostPort { host: host.to_owned(), port }), "{text}");
        }
        for (text, hint) in [
            ("sip:alice@pbx.example.com;transport=tls", "enter only the host: pbx.example.com"),
            ("https://pbx.example.com/login", "enter only the host: pbx.example.com"),
            ("pbx.example.com:0", "1 to 65535"),
            ("pbx.example.com:65536", "1 to 65535"),
            ("pbx.example.com:", "1 to 65535"),
            ("pbx..example.com", "not a host name"),
            ("300.1.2.3", "not a host name"),
            ("[192.0.2.1]", "brackets"),
        ] {
            assert!(host_port(text).is_err_and(|remedy| remedy.contains(hint)), "{text}: {:?}", host_port(text));
        }
    }

    #[test]
    fn a_wildcard_is_never_advertised() {
        assert!(advertised("0.0.0.0:5060").is_err());
        assert!(advertised("[::]").is_err());
        assert!(advertised("192.0.2.1").is_ok());
    }
}
