//! Seen from outside: metrics, `/status`, probes, and what never shows.

use std::collections::BTreeMap;
use std::time::Duration;

use holdline::agents::phone::RegisterOutcome;
use serde_json::Value;

use super::stage::{Setup, registered};
use crate::transport::certificates::Authority;

/// The contract: name, type, labels.
#[rustfmt::skip]
const METRICS: &[(&str, &str, &[&str])] = &[
    ("build_info", "gauge", &["revision", "version"]),
    ("dns_lookups_total", "counter", &["outcome", "record"]),
    ("dns_lookup_duration_seconds", "histogram", &["record"]),
    ("dns_last_success_timestamp_seconds", "gauge", &[]),
    ("dns_stale", "gauge", &[]),
    ("targets", "gauge", &[]),
    ("target_info", "gauge", &["priority", "target", "transport", "weight"]),
    ("target_priority", "gauge", &["target"]),
    ("target_active", "gauge", &["target"]),
    ("target_consecutive_register_failures", "gauge", &["target"]),
    ("failover_threshold", "gauge", &[]),
    ("failover_last_timestamp_seconds", "gauge", &[]),
    ("all_targets_failed", "gauge", &[]),
    ("failovers_total", "counter", &["reason"]),
    ("register_attempts_total", "counter", &["outcome", "target"]),
    ("register_failures_total", "counter", &["reason", "target"]),
    ("register_duration_seconds", "histogram", &["target"]),
    ("register_retries_total", "counter", &[]),
    ("register_exhausted_total", "counter", &[]),
    ("requests_total", "counter", &["method", "side", "transport"]),
    ("responses_total", "counter", &["code_class", "method", "origin", "side"]),
    ("messages_dropped_total", "counter", &["reason", "side"]),
    ("retransmissions_total", "counter", &["side"]),
    ("transactions", "gauge", &[]),
    ("message_bytes", "gauge", &[]),
    ("bindings", "gauge", &[]),
    ("bindings_orphaned", "gauge", &[]),
    ("limit", "gauge", &["resource"]),
    ("connections", "gauge", &["side", "transport"]),
    ("connection_errors_total", "counter", &["reason", "side", "transport"]),
    ("tls_handshakes_total", "counter", &["outcome", "side"]),
    ("tls_certificate_not_after_timestamp_seconds", "gauge", &["role"]),
    ("received_bytes_total", "counter", &["side"]),
    ("sent_bytes_total", "counter", &["side"]),
    ("udp_receive_drops_total", "counter", &["side"]),
    ("udp_large_datagrams_total", "counter", &["direction", "side"]),
    ("draining", "gauge", &[]),
    ("config_last_reload_successful", "gauge", &[]),
    ("instance_info", "gauge", &["name"]),
    ("store_writable", "gauge", &[]),
    ("strikes_voided_total", "counter", &[]),
    ("notifications_total", "counter", &["outcome"]),
    ("hep_packets_total", "counter", &["outcome"]),
    ("cluster_away", "gauge", &[]),
    ("cluster_diverged", "gauge", &[]),
    ("cluster_epoch", "gauge", &[]),
    ("cluster_ignored_total", "counter", &[]),
];

/// Closed sets of label values, each of which exists from the start.
#[rustfmt::skip]
const VALUES: &[(&str, &str, &[&str])] = &[
    ("dns_lookups_total", "outcome", &["ok", "nxdomain", "nodata", "servfail", "timeout", "error"]),
    ("failovers_total", "reason", &["register_failures", "target_removed", "manual", "cluster"]),
    ("register_attempts_total", "outcome", &["success", "challenged", "rejected", "failed"]),
    ("register_failures_total", "reason",
        &["timeout", "refused", "reset", "tls", "unreachable", "unresolved", "response"]),
    ("requests_total", "side", &["phone", "upstream"]),
    ("requests_total", "transport", &["udp", "tcp", "tls"]),
    ("responses_total", "origin", &["local", "relayed"]),
    ("limit", "resource", &["transactions", "bindings", "connections", "memory"]),
];

/// `name{a="x",b="y"}` in parts. No value here holds a comma or a quote.
fn parts(series: &str) -> (String, BTreeMap<String, String>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let label =
        |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()));
    (name.to_owned(), labels.trim_end_matches('}').split(',').filter_map(label).collect())
}

#[tokio::test]
async fn metrics_are_all_there_from_the_start_by_name_type_and_label() {
    let authority = Authority::new("seen");
    let files = authority.sign("holdline", &["holdline.example"]);
    let setup = Setup::new().with(&[
        "--listen=udp:127.0.0.1:0,tls:127.0.0.1:0",
        &format!("--tls-cert={}", files.cert.display()),
        &format!("--tls-key={}", files.key.display()),
    ]);
    let stage = setup.start().await;
    let (_, text) = stage.holdline.get("/metrics").await;
    let metrics = stage.holdline.metrics().await;
    let series: Vec<(String, BTreeMap<String, String>, u64)> = metrics
        .0
        .keys()
        .map(|series| (parts(series), metrics.get(series)))
        .map(|((name, labels), value)| (name, labels, value))
        .collect();
    for (family, kind, labels) in METRICS {
        assert!(text.contains(&format!("# TYPE holdline_{family} {kind}\n")), "{family} as {kind}");
        let sample = if *kind == "histogram" { format!("{family}_count") } else { (*family).to_owned() };
        let all: Vec<_> = series.iter().filter(|(name, ..)| *name == sample).collect();
        assert!(!all.is_empty(), "no series of {family}");
        for (name, has, value) in all {
            assert_eq!(has.keys().collect::<Vec<_>>(), *labels, "{name}");
            // DNS was asked, and its answer is what made it ready; nothing else has happened yet.
            assert!(*kind != "counter" || family.starts_with("dns_") || *value == 0, "{name} {has:?} is {value}");
        }
    }
    for (family, label, values) in VALUES {
        for value in *values {
            let there = |(name, labels, _): &&(String, BTreeMap<String, String>, u64)| {
                name == family && labels.get(*label).is_some_and(|is| is == value)
            };
            assert!(series.iter().any(|series| there(&series)), "{family}{{{label}={value:?}}}");
        }
    }
    let ours = |line: &&str| line.starts_with("# TYPE holdline_");
    assert_eq!(text.lines().filter(ours).count(), METRICS.len(), "no family that is not in the contract");
    for standard in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(metrics.find(standard).is_some(), "{standard}");
    }
    assert_eq!((metrics.get("failover_threshold"), metrics.get("targets")), (3, 2));
    assert_eq!(metrics.get(&stage.target(0, "target_active")), 1);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let stage = Setup::new().start().await;
    let phone = stage.phone("100");
    registered(phone.register().await);
    assert_eq!(phone.request("OPTIONS", "sip:200@pbx.example", &[], b"").await.status(), 200);
    let metrics = stage.holdline.metrics().await;
    let a = &stage.labels[0];
    assert_eq!(metrics.get(&format!("register_attempts_total{{outcome=\"challenged\",target=\"{a}\"}}")), 1);
    assert_eq!(metrics.get(&format!("register_attempts_total{{outcome=\"success\",target=\"{a}\"}}")), 1);
    assert_eq!(metrics.get(&format!("register_duration_seconds_count{{target=\"{a}\"}}")), 2);
    assert_eq!(metrics.get("requests_total{method=\"REGISTER\",side=\"phone\",transport=\"udp\"}"), 2);
    assert_eq!(metrics.get("requests_total{method=\"OPTIONS\",side=\"phone\",transport=\"udp\"}"), 1);
    let responses = |class: &str, method: &str| {
        metrics.get(&format!(
            "responses_total{{code_class=\"{class}\",method=\"{method}\",origin=\"relayed\",side=\"phone\"}}"
        ))
    };
    assert_eq!((responses("4xx", "REGISTER"), responses("2xx", "REGISTER"), responses("2xx", "OPTIONS")), (1, 1, 1));
    assert_eq!(metrics.get("bindings"), 1);
    assert!(metrics.get("received_bytes_total{side=\"phone\"}") > 500);
    assert!(metrics.get("dns_last_success_timestamp_seconds") > 1_700_000_000);
}

#[tokio::test]
async fn status_tells_the_set_the_counts_and_why_it_rolled_over() {
    let stage = Setup::new().with(&["--retry=false", "--exhausted=503"]).start().await;
    let phone = stage.phone("eve-4711");
    stage.servers[0].behave("answer 503").await;
    assert_eq!(phone.register().await, RegisterOutcome::Rejected(500));
    assert_eq!(phone.register().await, RegisterOutcome::Rejected(500));
    let upstream = &stage.holdline.status().await["upstream"];
    assert_eq!((&upstream["failures"], &upstream["failing_handsets"]), (&2.into(), &1.into()), "{upstream:#}");
    stage.servers[0].behave("refuse").await;
    assert_eq!(phone.register().await, RegisterOutcome::Rejected(503));
    registered(phone.register().await);

    let status = stage.holdline.status().await;
    assert!(status["holdline"]["version"].is_string(), "{status:#}");
    let upstream = &status["upstream"];
    assert_eq!(
        (&upstream["kind"], &upstream["source"]),
        (&"srv".into(), &"_sip._udp.pbx.example".into()),
        "{upstream:#}"
    );
    assert_eq!(
        (&upstream["active"], &upstream["failures"]),
        (&stage.labels[1].clone().into(), &0.into()),
        "{upstream:#}"
    );
    assert!(upstream["active_seconds"].as_f64().is_some_and(|seconds| seconds < 60.0), "{upstream:#}");
    let targets: Vec<(&Value, &Value)> =
        upstream["targets"].as_array().unwrap().iter().map(|target| (&target["target"], &target["active"])).collect();
    let labels: Vec<Value> = stage.labels.iter().map(|label| label.clone().into()).collect();
    assert_eq!(targets, [(&labels[0], &false.into()), (&labels[1], &true.into())], "in order");
    assert_eq!(upstream["dns"]["ttl_seconds"], 3600.0, "{upstream:#}");
    assert!(upstream["dns"]["age_seconds"].is_number() && upstream["dns"]["stale"] == false, "{upstream:#}");

    let events = upstream["events"].as_array().unwrap();
    let rollover = events.iter().find(|event| event["event"] == "rollover").unwrap();
    assert_eq!((&rollover["from"], &rollover["to"]), (&labels[0], &labels[1]), "{rollover:#}");
    assert_eq!((&rollover["reason"], &rollover["handsets"]), (&"register_failures".into(), &1.into()), "{rollover:#}");
    let strikes: Vec<(&Value, &Value)> =
        rollover["strikes"].as_array().unwrap().iter().map(|strike| (&strike["cause"], &strike["code"])).collect();
    let response = (&"response".into(), &503.into());
    assert_eq!(strikes, [response, response, (&"refused".into(), &Value::Null)], "when, why, with what code");
    assert!(rollover["strikes"][0]["age_seconds"].is_number(), "{rollover:#}");
    assert_eq!(status["bindings"]["count"], 1, "{status:#}");
    assert!(status["flows"].as_array().is_some_and(|flows| !flows.is_empty()), "{status:#}");

    // Who the phones are shows nowhere: not their names, not their addresses.
    let address = phone.local().await.unwrap().to_string();
    let pages = [status.to_string(), stage.holdline.get("/metrics").await.1, stage.holdline.text()];
    for page in pages {
        assert!(!page.contains("eve-4711") && !page.contains(&address), "{page}");
    }
    assert_eq!(stage.holdline.get("/phones").await.0, 404);
}

#[tokio::test]
async fn log_of_a_start_is_short() {
    let stage = Setup::new().start().await;
    assert!(stage.holdline.lines().len() <= 10, "{}", stage.holdline.text());
    // On the way out, too.
    stage.holdline.signal("TERM").await;
    stage.holdline.logged("stopped").await;
    assert!(stage.holdline.lines().len() <= 12, "{}", stage.holdline.text());
}

#[tokio::test]
async fn log_secrets_never_show_at_debug() {
    secrets_do_not_show("debug").await;
}

#[tokio::test]
async fn log_secrets_never_show_at_trace() {
    secrets_do_not_show("trace").await;
}

async fn secrets_do_not_show(level: &str) {
    let level_argument = format!("--log-level={level}");
    let setup = Setup::new().with(&[&level_argument, "--retry=false", "--exhausted=503"]);
    let stage = setup.start().await;
    let phone = stage.phone("100");
    registered(phone.register().await);
    for behaviour in ["answer 503", "refuse", "challenge-then 503"] {
        stage.servers[0].behave(behaviour).await;
        assert!(!phone.register().await.is_registered());
    }
    registered(phone.register().await);
    let mut digests = stage.servers[0].report().await.digests;
    digests.extend(stage.servers[1].report().await.digests);
    assert!(digests.len() >= 4, "{digests:?}");
    let log = stage.holdline.text();
    assert!(log.lines().any(|line| line.contains(&format!("\"{}\"", level.to_uppercase()))), "{log}");
    for secret in digests.iter().map(String::as_str).chain(["secret", "response=", "nonce=", "username="]) {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    let packets = log.matches("Authorization: Digest (hidden)").count();
    assert_eq!(packets > 0, level == "trace", "packets are shown at trace, without what is secret");
}

/// A phone in a network that `allow` does not name is met with silence; the operator is not.
#[tokio::test]
async fn seen_an_untrusted_peer_is_reported_once() {
    let stage = Setup::new().with(&["--allow=192.0.2.0/24"]).start().await;
    let untrusted = stage.impatient("100", Duration::from_secs(1));
    assert_eq!(untrusted.register().await, RegisterOutcome::TimedOut);
    let line = stage.holdline.logged("not answered, it is not in `allow`").await;
    assert_eq!((&line["level"], &line["source"]), (&"WARN".into(), &"127.0.0.1".into()), "{line}");
    // The REGISTER and its repetitions.
    let metrics = stage.holdline.metrics().await;
    assert!(metrics.get("messages_dropped_total{reason=\"not_allowed\",side=\"phone\"}") >= 2);
    assert_eq!(stage.holdline.said("not answered").len(), 1, "{}", stage.holdline.text());
}
