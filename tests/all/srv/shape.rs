//! The JSON's shape is a contract: `docs/srv.md` lists every field that can be there, and no other; and every code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use holdline::agents::dns::{self, Srv};
use holdline::agents::registrar::Behaviour;
use holdline::flow::Transport::{Tls, Udp};
use serde_json::Value;

use super::stage::{Stage, behaving, port, registrar};
use crate::transport::certificates::Authority;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/srv.md")).unwrap()
}

/// First cells of the table with this head: every quoted word in them.
fn documented(head: &str) -> BTreeSet<String> {
    let page = page();
    let (_, table) = page.split_once(head).expect("the table is there");
    let rows =
        table.lines().skip(1).skip_while(|line| line.starts_with("|--")).take_while(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Every path of a value. Lists end in `[]`, the targets of a name server are one NAME, and an outbound proxy is a record.
fn paths(at: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = if at == "nameservers[].addresses" { "NAME" } else { name };
                let path = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
                let inside = if path == "outbound_proxy" { "record" } else { path.as_str() };
                match value {
                    Value::Array(items) => {
                        found.insert(format!("{path}[]"));
                        for item in items {
                            paths(&format!("{inside}[]"), item, found);
                        }
                    }
                    Value::Object(_) if path == "nameservers[].addresses" => paths(&path, value, found),
                    _ => {
                        found.insert(path.clone());
                        paths(inside, value, found);
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                paths(&format!("{at}[]"), item, found);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_page_lists_every_field() {
    let authority = Authority::new("authority");
    let stage = Stage::open().await;
    let (a, b) = (registrar("a", Some(&authority.sign("a", &["pbx.example"]))), behaving("b", Behaviour::Refuse).await);
    stage.publish(
        "_sip._tls",
        &[Srv::new(1, 0, port(&a, Tls), "a.pbx.example"), Srv::new(2, 0, port(&b, Udp), "b.pbx.example")],
    );
    stage.dns.set_loopback("pbx.example", 60);
    stage.dns.set_naptr("pbx.example", 60, &[(1, 1, "s", "SIP+D2U", "_sip._udp.pbx.example")]);
    let other = dns::Server::start().await.unwrap();
    let arguments = [
        "--json".to_owned(),
        format!("--upstream-ca-only={}", authority.file.display()),
        format!("--nameserver={}", stage.dns.addr()),
        format!("--nameserver={}", other.addr()),
        format!("pbx.example:{}", port(&a, Udp)),
    ];
    let seen = stage.srv(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await.json();
    let mut found = BTreeSet::new();
    paths("", &seen["names"][0], &mut found);
    let mut top: Vec<&String> = seen.as_object().unwrap().keys().collect();
    top.sort();
    assert_eq!(top, ["exit_status", "names", "verdict", "version"]);
    assert_eq!(found, documented("| field | meaning |\n"), "{seen:#}");
}

fn sources(folder: PathBuf) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        text.push_str(source.split("#[cfg(test)]").next().unwrap());
    }
    text
}

#[test]
fn the_page_lists_every_code() {
    let source = sources(root().join("src/probe"));
    let documented = documented("| code | severity | meaning |\n");
    let mut called = 0;
    for method in ["error(", "warning(", "note(", "worse(", "add_about("] {
        for call in source.split(&format!("findings.{method}")).skip(1) {
            let call = call.split(';').next().unwrap();
            let word = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            // A code that is worked out is a quoted word elsewhere in the source.
            if let Some(code) = call.split('"').nth(1).filter(word) {
                called += 1;
                assert!(documented.contains(code), "docs/srv.md lacks {code}");
            }
        }
    }
    assert!(called > 30, "{called} calls were found");
    let labels = ["nxdomain", "nodata", "servfail", "timeout", "error"];
    for code in &documented {
        assert!(source.contains(&format!("\"{code}\"")) || labels.contains(&code.as_str()), "no code says {code}");
    }
}
