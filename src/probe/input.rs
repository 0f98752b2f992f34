//! What people paste: SRV names, domains, outbound-proxy URLs, `host:port`; quoted, with a trailing dot, with spaces.

use std::net::IpAddr;

use super::plain::plain;
use crate::flow::Transport;
use crate::upstream::name::{SrvName, strip_wrapping};

/// One NAME of the command line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    /// What it is.
    pub kind: Kind,
    /// What was left out or guessed, for people.
    pub notes: Vec<String>,
}

/// What a NAME can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Begins with two underscored labels.
    Srv {
        /// To be looked up verbatim; without the trailing dot.
        name: String,
        /// The name without the two labels, lower case.
        domain: String,
    },
    /// A host or a domain.
    Host {
        /// Lower case.
        host: String,
        /// As pasted.
        port: Option<u16>,
        /// What scheme or parameters say.
        transport: Option<Transport>,
    },
    /// An address, which has no SRV records.
    Address {
        /// The address.
        ip: IpAddr,
        /// As pasted.
        port: Option<u16>,
        /// What scheme or parameters say.
        transport: Option<Transport>,
    },
}

impl Input {
    /// Takes the text apart. The error says what is wrong with it and what would be right.
    pub(super) fn parse(text: &str) -> Result<Input, String> {
        let mut notes = Vec::new();
        let unwrapped = unwrapped(strip_wrapping(text), &mut notes)?;
        let text = strip_wrapping(&unwrapped).trim_end_matches([',', ';']);
        let (scheme, rest) = scheme(text);
        let scheme = scheme.map(str::to_ascii_lowercase);
        if scheme.as_deref() == Some("tel") {
            return Err("is a telephone number; enter the PBX's domain, for example pbx.example.com".to_owned());
        }
        let (place, parameters) = rest.find([';', '?', '/', '#']).map_or((rest, ""), |at| rest.split_at(at));
        let place = place.rsplit_once('@').map_or(place, |(_, host)| host).trim();
        let transport = said(scheme.as_deref(), parameters, &mut notes)?;
        let (host, port) = host_and_port(place)?;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Input { kind: Kind::Address { ip, port, transport }, notes });
        }
        let name = cleaned(host)?;
        if scheme.is_some() || place.len() != text.len() {
            let port = port.map_or(String::new(), |port| format!(", port {port}"));
            let over = transport.map_or(String::new(), |transport| format!(", over {transport}"));
            notes.push(format!("understood as the host {name}{port}{over}"));
        }
        let name = underscored(name, &mut notes);
        let mut labels = name.splitn(3, '.');
        let kind = match (labels.next(), labels.next(), labels.next()) {
            (Some(a), Some(b), Some(domain)) if a.starts_with('_') && b.starts_with('_') => {
                if let Some(port) = port {
                    notes.push(format!("the SRV record says its own ports: {port} is left out"));
                }
                Kind::Srv { domain: domain.to_ascii_lowercase(), name }
            }
            (Some(a), Some(b), None) if a.starts_with('_') && b.starts_with('_') => {
                return Err(format!("has no domain after its two labels; enter for example {name}.pbx.example.com"));
            }
            (Some(a), Some(b), rest) if a.starts_with('_') => {
                let host = rest.map_or(b.to_owned(), |rest| format!("{b}.{rest}")).to_ascii_lowercase();
                notes
                    .push(format!("an SRV name has two labels in front, as _sip._tls has: taken as the domain {host}"));
                Kind::Host { host, port, transport }
            }
            _ => Kind::Host { host: name.to_ascii_lowercase(), port, transport },
        };
        Ok(Input { kind, notes })
    }
}

/// What is inside of what people and pages put around a name: `Some Name <sip:host;lr>`, `_sip._tcp."domain"`,
/// `_sip._tcp.<domain>`, the address of a web page that shows a record.
fn unwrapped(text: &str, notes: &mut Vec<String>) -> Result<String, String> {
    let placeholder = |inner: &str| {
        let word = inner.to_ascii_lowercase().replace(['-', '_', ' '], "");
        matches!(word.as_str(), "domain" | "yourdomain" | "domainname" | "name" | "customer" | "tenant")
    };
    let text = match text.split_once('<') {
        Some((before, inner)) => {
            let (inner, after) = inner.split_once('>').unwrap_or((inner, ""));
            if !before.trim_start_matches(QUOTES).starts_with('_') {
                inner.to_owned()
            } else if placeholder(inner) {
                return Err(format!(
                    "still has a placeholder in it, <{}>: put the PBX's domain there, for example {}pbx.example.com",
                    plain(inner),
                    plain(before)
                ));
            } else {
                format!("{before}{inner}{after}")
            }
        }
        None => text.to_owned(),
    };
    let text: String = text.chars().filter(|c| !QUOTES.contains(c)).collect();
    let web = ["http://", "https://"].iter().any(|s| text.get(..s.len()).is_some_and(|t| t.eq_ignore_ascii_case(s)));
    match web.then(|| shown_by(&text)).flatten() {
        Some(name) => {
            notes.push(format!("the address of a web page; looked at is {} in it", plain(&name)));
            Ok(name)
        }
        None => Ok(text),
    }
}

/// Around a name, and within one as it stands in a manual.
const QUOTES: [char; 7] = ['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];

/// The name that a web page's address is about: an SRV name anywhere in it, else a name given as a parameter.
fn shown_by(url: &str) -> Option<String> {
    let url = url.to_ascii_lowercase().replace("%5f", "_").replace("%2e", ".").replace("%3a", ":").replace("%2f", "/");
    let within = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let words = || url.split(|c| !within(c)).map(|word| word.trim_matches('.'));
    let is_srv = |word: &&str| {
        let mut labels = word.split('.');
        matches!((labels.next(), labels.next(), labels.next()), (Some(a), Some(b), Some(_)) if a.starts_with("_sip") && b.starts_with('_'))
    };
    if let Some(srv) = words().find(is_srv) {
        return Some(srv.to_owned());
    }
    let (_, parameters) = url.split_once('?')?;
    parameters.split(['&', '#', ';']).find_map(|one| {
        let (name, value) = one.split_once('=')?;
        let about =
            matches!(name, "name" | "domain" | "host" | "hostname" | "query" | "q" | "dn" | "target" | "address");
        let value = value.rsplit(['/', ':']).next()?.trim_matches('.');
        (about && value.contains('.') && value.chars().all(within)).then(|| value.to_owned())
    })
}

/// `sip._tls.pbx.example.com` and `_sip.tls.pbx.example.com` with the underscore that got lost.
fn underscored(name: String, notes: &mut Vec<String>) -> String {
    let is = |label: &str, known: &[&str]| known.iter().any(|known| label.eq_ignore_ascii_case(known));
    let mut labels = name.splitn(3, '.');
    let (Some(a), Some(b), Some(domain)) = (labels.next(), labels.next(), labels.next()) else { return name };
    let meant = if is(a, &["sip", "sips", "sip2"]) && b.starts_with('_') {
        format!("_{a}.{b}.{domain}")
    } else if a.starts_with("_sip") && is(b, &["udp", "tcp", "tls"]) {
        format!("{a}._{b}.{domain}")
    } else {
        return name;
    };
    notes.push(format!("both labels of an SRV name begin with an underscore: taken as {meant}"));
    meant
}

/// A known scheme, or any with `//` behind it. `pbx.example.com:5061` has none.
fn scheme(text: &str) -> (Option<&str>, &str) {
    let Some((before, after)) = text.split_once(':') else { return (None, text) };
    let known = ["sip", "sips", "tel", "dns"].iter().any(|known| before.eq_ignore_ascii_case(known));
    let word = before.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    match after.strip_prefix("//") {
        Some(rest) if word => (Some(before), rest),
        _ if known => (Some(before), after),
        _ => (None, text),
    }
}

/// The transport that scheme and parameters say.
fn said(scheme: Option<&str>, parameters: &str, notes: &mut Vec<String>) -> Result<Option<Transport>, String> {
    let mut transport = match scheme {
        Some("sips" | "tls" | "tcps") => Some(Transport::Tls),
        Some("tcp") => Some(Transport::Tcp),
        Some("udp") => Some(Transport::Udp),
        None | Some("sip" | "dns") => None,
        Some("dtls") => {
            return Err("means DTLS, which Holdline cannot use; ask the provider for TLS, TCP or UDP".to_owned());
        }
        Some(other) => {
            notes.push(format!("{other}:// is no SIP address: only its host is looked at"));
            None
        }
    };
    let parameter = parameters.split([';', '?', '&']).find_map(|one| {
        let (name, value) = one.split_once('=')?;
        name.trim().eq_ignore_ascii_case("transport").then(|| value.trim().to_ascii_lowercase())
    });
    match parameter.as_deref() {
        None => {}
        Some("tls") => transport = Some(Transport::Tls),
        // `sips:…;transport=tcp` is TLS over TCP (RFC 3261 §26.2.2).
        Some("tcp") => transport = transport.or(Some(Transport::Tcp)),
        Some("udp") => transport = transport.or(Some(Transport::Udp)),
        Some(other) => {
            notes.push(format!("transport={} is not one that Holdline speaks (udp, tcp, tls)", plain(other)));
        }
    }
    Ok(transport)
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`, or a bare IPv6 address.
fn host_and_port(place: &str) -> Result<(&str, Option<u16>), String> {
    let port = |text: &str| match text.trim().parse::<u16>() {
        Ok(0) | Err(_) => Err("the port must be a number from 1 to 65535".to_owned()),
        Ok(port) => Ok(Some(port)),
    };
    if place.parse::<IpAddr>().is_ok() {
        return Ok((place, None));
    }
    if let Some((inner, rest)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return Ok((inner, rest.strip_prefix(':').map_or(Ok(None), port)?));
    }
    match place.rsplit_once(':') {
        Some((host, text)) => Ok((host.trim(), port(text)?)),
        None => Ok((place, None)),
    }
}

/// A name DNS can be asked for.
fn cleaned(host: &str) -> Result<String, String> {
    // The transport only keeps it from asking for labels that say one.
    match SrvName::parse(Some(host), Some(Transport::Udp)) {
        Ok(Some(name)) => Ok(name.name),
        Ok(None) => {
            Err("is blank; enter the PBX's SRV record or domain, for example _sip._tls.pbx.example.com".to_owned())
        }
        Err(error) => Err(plain(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str, port: Option<u16>, transport: Option<Transport>) -> Kind {
        Kind::Host { host: host.to_owned(), port, transport }
    }

    #[test]
    fn what_people_paste_is_understood() {
        use Transport::{Tcp, Tls, Udp};
        let srv = Kind::Srv { name: "_sip._tls.pbx.example.com".to_owned(), domain: "pbx.example.com".to_owned() };
        let table = [
            ("_sip._tls.pbx.example.com", srv.clone()),
            (" \"_sip._tls.pbx.example.com.\" ", srv.clone()),
            ("'_sip._tls.pbx.example.com'", srv.clone()),
            ("_sip._tls.pbx.example.com:5061", srv.clone()),
            ("sip:_sip._tls.pbx.example.com;lr", srv.clone()),
            ("dns:_sip._tls.pbx.example.com", srv.clone()),
            ("_sip._tls.\"pbx.example.com\"", srv.clone()),
            ("_sip._tls.<pbx.example.com>", srv.clone()),
            ("\u{201c}_sip._tls.pbx.example.com\u{201d}", srv.clone()),
            ("sip._tls.pbx.example.com", srv.clone()),
            ("_sip.tls.pbx.example.com", srv.clone()),
            (
                "https://mxtoolbox.example/SuperTool.aspx?action=srv%3a_sip._tls.pbx.example.com&run=toolpage",
                srv.clone(),
            ),
            ("https://dns.example/resolve?name=_sip._tls.pbx.example.com&type=SRV", srv.clone()),
            ("https://checker.example/#SRV/_sip._tls.pbx.example.com", srv.clone()),
            ("https://lookup.example/domains/_sip._tls.pbx.example.com/dns-records/srv/", srv),
            ("https://dns.example/resolve?name=pbx.example.com&type=SRV", host("pbx.example.com", None, None)),
            ("core2-nj.example.com", host("core2-nj.example.com", None, None)),
            ("PBX.example.com.", host("pbx.example.com", None, None)),
            ("sip:pbx.example.com;lr", host("pbx.example.com", None, None)),
            ("\"sip:pbx.example.com;lr\"", host("pbx.example.com", None, None)),
            ("<sip:pbx.example.com;lr>", host("pbx.example.com", None, None)),
            (
                "\"The PBX\" <sip:100@pbx.example.com:5070;transport=tcp>",
                host("pbx.example.com", Some(5070), Some(Tcp)),
            ),
            ("sips:pbx.example.com", host("pbx.example.com", None, Some(Tls))),
            ("SIPS:100@pbx.example.com:5061;transport=tcp", host("pbx.example.com", Some(5061), Some(Tls))),
            ("tls://pbx.example.com:5061", host("pbx.example.com", Some(5061), Some(Tls))),
            ("udp://pbx.example.com", host("pbx.example.com", None, Some(Udp))),
            ("sip://pbx.example.com/", host("pbx.example.com", None, None)),
            ("https://pbx.example.com/login?next=1", host("pbx.example.com", None, None)),
            ("pbx.example.com:5061", host("pbx.example.com", Some(5061), None)),
            ("pbx.example.com.:5061", host("pbx.example.com", Some(5061), None)),
            ("pbx.example.com;transport=UDP", host("pbx.example.com", None, Some(Udp))),
            ("_sip.pbx.example.com", host("pbx.example.com", None, None)),
        ];
        for (text, kind) in table {
            assert_eq!(Input::parse(text).map(|input| input.kind), Ok(kind), "{text}");
        }
        for (text, ip, port) in [
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:5070", "192.0.2.1", Some(5070)),
            ("2001:db8::1", "2001:db8::1", None),
            ("sip:[2001:db8::1]:5060;lr", "2001:db8::1", Some(5060)),
        ] {
            let kind = Kind::Address { ip: ip.parse().unwrap(), port, transport: None };
            assert_eq!(Input::parse(text).map(|input| input.kind), Ok(kind), "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever is pasted is a name, or a refusal that a terminal can be shown.
        #[test]
        fn nothing_that_is_pasted_panics(text in "(sips?:|tls://|<|\"|_sip\\.)?\\PC{0,12}[a-z._:;@\\[\\]<>/?=,\u{1b} 0-9]{0,24}") {
            match Input::parse(&text) {
                Ok(input) => match input.kind {
                    Kind::Srv { name, .. } | Kind::Host { host: name, .. } => {
                        proptest::prop_assert!(!name.is_empty() && name.is_ascii() && !name.contains([' ', '\u{1b}']), "{name:?}");
                    }
                    Kind::Address { .. } => {}
                },
                Err(error) => proptest::prop_assert!(!error.chars().any(super::super::plain::commands), "{error:?}"),
            }
        }
    }

    #[test]
    fn what_is_left_out_is_said() {
        assert!(Input::parse("https://pbx.example.com/").unwrap().notes[0].contains("no SIP address"));
        assert!(Input::parse("sip:pbx.example.com;transport=ws").unwrap().notes[0].contains("transport=ws"));
        assert!(Input::parse("_sip._udp.pbx.example.com:5060").unwrap().notes[0].contains("5060 is left out"));
        assert_eq!(Input::parse("_sip._udp.pbx.example.com").unwrap().notes, [""; 0]);
        assert_eq!(Input::parse("pbx.example.com:5060").unwrap().notes, [""; 0]);
    }

    #[test]
    fn what_is_no_name_is_refused_in_words() {
        for (text, part) in [
            ("", "blank"),
            (" \"\" ", "blank"),
            ("sip:", "blank"),
            ("tel:+15551234", "telephone"),
            ("pbx.example.com:0", "1 to 65535"),
            ("pbx.example.com:70000", "1 to 65535"),
            ("pbx example com", "space"),
            ("pbx..example.com", "empty label"),
            ("pbx.exämple.com", "xn--"),
            ("_sip._udp", "no domain"),
            ("_sip._tcp.<domain>", "placeholder"),
            ("a\u{1b}[31mb.example.com", "not a DNS name"),
        ] {
            let error = Input::parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
            assert!(!error.chars().any(super::super::plain::commands), "{error:?}");
        }
    }
}
