//! `--emit-config`: a file that `holdline run --config` takes, with the firewall list as comments.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::flow::Transport;
use crate::probe::moment;
use crate::probe::plain::commands;
use crate::probe::report::{Look, RecordLook};
use crate::transport::TlsSettings;

/// Everything is TOML or a comment. Strangers' names stand in comments only, one line each.
pub(super) fn emit(look: &Look, tls: &TlsSettings, nameservers: &[SocketAddr]) -> String {
    let mut out = String::new();
    let mut comment = |text: &str| {
        let _ = writeln!(out, "# {}", tame(text));
    };
    comment(&format!("holdline srv {}, {}: {}", look.input, moment(look.at as i64), look.verdict.as_str()));
    for finding in &look.findings {
        let about = if finding.about.is_empty() { String::new() } else { format!("{}: ", finding.about.join(", ")) };
        comment(&format!("{}: {about}{}", finding.severity.as_str(), finding.text));
    }
    let Some(enter) = &look.enter else {
        comment("nothing that would work was found: there is no configuration to print");
        return out;
    };
    out.push('\n');
    let mut key = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(out, "{name} = {}", quoted(value));
        }
    };
    key("srv", enter.srv.as_deref());
    key("outbound_proxy", enter.outbound_proxy.as_deref());
    key("transport", enter.transport.as_deref());
    let record = if enter.srv.is_some() { &look.record } else { &look.outbound_proxy };
    let record = record.as_ref().filter(|record| enter.srv.as_ref().is_none_or(|srv| *srv == record.name));
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(Path::display).map(|path| path.to_string());
    if record.is_some_and(|record| record.transport == Some(Transport::Tls)) {
        key("upstream_verify", enter.upstream_verify.as_deref());
        key("upstream_ca", path(&tls.ca).as_deref());
        key("upstream_ca_only", path(&tls.ca_only).as_deref());
        key("upstream_cert", path(&tls.client_cert).as_deref());
        key("upstream_key", path(&tls.client_key).as_deref());
    }
    if !nameservers.is_empty() {
        let list: Vec<String> = nameservers.iter().map(|server| quoted(&server.to_string())).collect();
        let _ = writeln!(out, "nameserver = [{}]", list.join(", "));
    }
    out.push_str("# state_dir = \"/var/lib/holdline\"  # the active target survives a restart\n");
    if let Some(record) = record {
        firewall(record, nameservers, &mut out);
    }
    out
}

/// What has to be let through, from the host Holdline runs on.
fn firewall(record: &RecordLook, nameservers: &[SocketAddr], out: &mut String) {
    let Some(transport) = record.transport else { return };
    let protocol = if transport == Transport::Udp { "udp" } else { "tcp" };
    let mut rows: Vec<[String; 5]> = Vec::new();
    let mut known = BTreeSet::new();
    for target in record.usable() {
        for address in target.addresses.iter().filter(|address| known.insert((address.address.clone(), target.port))) {
            rows.push([
                "out".to_owned(),
                protocol.to_owned(),
                address.address.clone(),
                target.port.to_string(),
                format!("{} ({})", target.host, if transport == Transport::Tls { "SIP over TLS" } else { "SIP" }),
            ]);
        }
    }
    let sources: BTreeSet<&str> = known.iter().map(|(address, _)| address.as_str()).collect();
    if transport == Transport::Udp {
        for address in sources {
            let text = "answers and calls, to upstream_bind".to_owned();
            rows.push(["in".to_owned(), protocol.to_owned(), address.to_owned(), "5080".to_owned(), text]);
        }
    }
    let servers: Vec<(String, u16)> = if nameservers.is_empty() {
        vec![("name servers".to_owned(), 53)]
    } else {
        nameservers.iter().map(|server| (server.ip().to_string(), server.port())).collect()
    };
    for (server, port) in servers {
        for protocol in ["udp", "tcp"] {
            rows.push(["out".to_owned(), protocol.to_owned(), server.clone(), port.to_string(), "DNS".to_owned()]);
        }
    }
    out.push_str(
        "\n# Firewall, as of this look (addresses change with DNS). in: from that address, to the local port\n",
    );
    let longest = rows.iter().map(|row| row[2].len()).max().unwrap_or(0);
    for [way, protocol, address, port, text] in rows {
        let _ = writeln!(out, "#   {way:<3}  {protocol}  {address:<longest$}  {port:>5}  {}", tame(&text));
    }
    let calls = match transport {
        Transport::Udp => "UDP: requests leave from upstream_bind (0.0.0.0:5080), and calls come in there.",
        Transport::Tcp | Transport::Tls => {
            "TCP: calls come in over the connections Holdline opens; a PBX that dials the Contact needs tcp in to upstream_bind (5080)."
        }
    };
    let _ = writeln!(
        out,
        "# {calls}\n# Media (RTP, udp) does not pass through Holdline: the phones' own way to the provider must be open."
    );
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if commands(c) => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// For a comment: one line, whatever it holds.
fn tame(text: &str) -> String {
    text.chars().map(|c| if commands(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_toml_whatever_they_hold() {
        for text in ["/etc/ca.pem", "a\"b\\c", "a\nb\u{7f}\u{9b}", "ü"] {
            let line = format!("x = {}", quoted(text));
            let table: toml::Table = line.parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text), "{line}");
        }
    }
}
