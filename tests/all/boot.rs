//! The process from outside: how it starts, what it says, how it ends.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::binary::{self, Running};
use crate::support::http::get_blocking;
use crate::support::sockets;
use crate::support::wait::until_blocking;

/// `run` without DNS (an address literal needs none) before a port at which nothing answers; the log is piped.
fn holdline(more: &[&str]) -> Command {
    let mut command = binary::run(&[&["--outbound-proxy=127.0.0.1:9"], more].concat());
    command.stderr(Stdio::piped());
    command
}

/// A page's body.
fn get(address: SocketAddr, path: &str) -> String {
    let (status, body) = get_blocking(address, path).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[test]
fn it_tells_its_real_ports_answers_probes_and_leaves_with_0_on_sigterm() {
    let mut running = Running::start(holdline(&[]));
    let (lines, admin) = running.until_bound();
    let listening: Vec<&Value> = lines.iter().filter(|line| line["message"] == "listening").collect();
    for (side, transport) in [("phone", "udp"), ("phone", "tcp"), ("upstream", "udp")] {
        let line = listening.iter().find(|line| line["side"] == side && line["transport"] == transport).unwrap();
        let address = line["address"].as_str().unwrap();
        assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
    }
    assert!(lines.iter().any(|l| l["message"] == "upstream: outbound proxy 127.0.0.1:9 over udp"), "{lines:#?}");
    assert!(lines.iter().any(|l| l["version"] == env!("CARGO_PKG_VERSION")), "{lines:#?}");
    assert!(lines.iter().all(|l| l["timestamp"].is_string() && l["level"] != "WARN"), "{lines:#?}");

    get(admin, "/livez");
    assert!(get(admin, "/metrics").contains("holdline_build_info"));

    running.signal("TERM");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_in_use_is_unavailable_in_one_line() {
    let taken = sockets::udp();
    let address = taken.local_addr().unwrap().to_string();
    let output = holdline(&[&format!("--listen=udp:{address}"), "--log-level=error"]).output().unwrap();
    unavailable(&output, &["udp", &address, "--listen"]);

    let taken = sockets::listener();
    let address = taken.local_addr().unwrap().to_string();
    let output = holdline(&[&format!("--listen=tcp:{address}"), "--log-level=error"]).output().unwrap();
    unavailable(&output, &["tcp", &address, "--listen"]);

    let output = holdline(&[&format!("--admin={address}"), "--log-level=error"]).output().unwrap();
    unavailable(&output, &["admin", &address, "another", "--admin"]);
}

#[track_caller]
fn unavailable(output: &Output, parts: &[&str]) {
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} in {line}");
}

#[test]
fn a_misspelt_variable_is_a_warning_and_what_kubernetes_sets_is_not() {
    let mut command = holdline(&[]);
    command.env("HOLDLINE_ATTEMPT_TIMOUT", "4s").env("HOLDLINE_SERVICE_HOST", "10.0.0.1");
    let (lines, _) = Running::start(command).until_bound();
    let warnings: Vec<&Value> = lines.iter().filter(|line| line["level"] == "WARN").collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(warnings[0]["variable"], "HOLDLINE_ATTEMPT_TIMOUT");
    assert!(warnings[0]["message"].as_str().unwrap().contains("HOLDLINE_ATTEMPT_TIMEOUT"));
}

/// Writes a self-signed pair that ends in this year, and says when (Unix time).
fn pair(folder: &Path, year: i32) -> f64 {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["holdline.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let end = params.not_after.unix_timestamp();
    fs::write(folder.join("tls.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    end as f64
}

fn value(admin: SocketAddr, series: &str) -> Option<f64> {
    get(admin, "/metrics").lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn a_new_certificate_is_taken_and_a_mismatched_pair_keeps_the_old_one() {
    const END: &str = r#"holdline_tls_certificate_not_after_timestamp_seconds{role="listener"}"#;
    const SUCCESS: &str = "holdline_config_last_reload_successful";
    let folder = tempfile::tempdir().unwrap();
    let first = pair(folder.path(), 2040);
    let file = |name: &str| folder.path().join(name).display().to_string();
    let mut running = Running::start(holdline(&[
        "--listen=tls:127.0.0.1:0",
        &format!("--tls-cert={}", file("tls.crt")),
        &format!("--tls-key={}", file("tls.key")),
    ]));
    let (_, admin) = running.until_bound();
    assert_eq!(value(admin, END), Some(first));

    let old_key = fs::read(file("tls.key")).unwrap();
    let second = pair(folder.path(), 2041);
    let new_key = fs::read(file("tls.key")).unwrap();
    fs::write(file("tls.key"), old_key).unwrap();
    running.signal("HUP");
    running.until("certificates cannot be used");
    assert_eq!((value(admin, END), value(admin, SUCCESS)), (Some(first), Some(0.0)));

    fs::write(file("tls.key"), new_key).unwrap();
    running.signal("HUP");
    running.until("certificates read again");
    assert_eq!((value(admin, END), value(admin, SUCCESS)), (Some(second), Some(1.0)));
}

/// Paths of all fields: `upstream.targets[].priority`.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                fields(value, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[test]
fn status_has_the_shape_that_is_documented() {
    let page = include_str!("../../docs/status.md");
    let example = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut documented = BTreeSet::new();
    fields(&serde_json::from_str(example).unwrap(), "", &mut documented);
    // Nothing has happened yet in the process below.
    documented.retain(|field| !field.starts_with("upstream.events[]"));

    let mut running = Running::start(holdline(&[]));
    let (_, admin) = running.until_bound();
    // An address literal needs no lookup to speak of, but it is still an event of its own.
    until_blocking("readiness", || get_blocking(admin, "/readyz").unwrap().0 == 200);
    let status = get(admin, "/status");
    let mut found = BTreeSet::new();
    fields(&serde_json::from_str(&status).unwrap(), "", &mut found);
    found.retain(|field| !field.starts_with("upstream.events[]"));
    assert_eq!(found, documented);
}
