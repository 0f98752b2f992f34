//! Prometheus rules: one source, tested alerts, metrics that exist, a runbook that knows them.

use std::collections::{BTreeMap, BTreeSet};

use holdline::metrics::Metrics;
use serde_json::Value;

use super::tools::{command, installed, output, read, root, said, succeed, yaml};

const RULES: &str = "deploy/prometheus/rules.yml";

/// Every `holdline_…` in a text, histograms' suffixes taken off.
pub(super) fn metrics_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !word(c)).filter(|word| word.starts_with("holdline_"));
    let base = |name: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        histogram.filter(|base| known().contains(*base)).unwrap_or(name).to_owned()
    };
    words.map(base).collect()
}

/// Every metric there is.
pub(super) fn known() -> BTreeSet<String> {
    Metrics::new().families().iter().map(|family| family.name.clone()).collect()
}

#[test]
fn the_rules_use_only_metrics_that_exist() {
    let used = metrics_in(&read(RULES));
    assert!(used.len() > 10, "{used:?}");
    let known = known();
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(metrics_in("rate(holdline_register_duration_seconds_bucket[5m])").is_subset(&known));
    assert!(!metrics_in("holdline_registrations_total").is_subset(&known));
}

#[test]
fn every_alert_has_a_runbook_section_and_a_severity() {
    let (rules, runbook) = (read(RULES), read("docs/runbook.md"));
    let anchors: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-").replace(',', ""))
        .collect();
    let mut alerts = 0;
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let field = |field: &str| {
            let line = alert.lines().find_map(|line| line.trim().strip_prefix(field));
            line.unwrap_or_else(|| panic!("{name} has no {field}")).trim()
        };
        let (page, anchor) = field("runbook_url:").split_once('#').unwrap_or_else(|| panic!("{name}: no anchor"));
        assert!(page.starts_with("https://") && page.ends_with("/docs/runbook.md"), "{name}: {page}");
        assert!(anchors.contains(anchor), "{name}: no section {anchor} in {anchors:?}");
        assert!(["critical", "warning", "info"].contains(&field("severity:")), "{name}");
        assert!(!field("summary:").is_empty() && !field("description:").is_empty(), "{name}");
        alerts += 1;
    }
    assert_eq!(alerts, 23, "an alert was added or lost: say so here");
}

/// The PrometheusRule is the plain file below `spec`. With `HOLDLINE_BLESS` set it becomes it.
#[test]
fn the_prometheus_rule_is_the_rules_file() {
    let mut expected = String::from(
        "# Made from deploy/prometheus/rules.yml (HOLDLINE_BLESS=1 cargo test the_prometheus_rule): change it there.\n\
         apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: holdline\nspec:\n",
    );
    let rules = read(RULES);
    let (_, groups) = rules.split_once("\ngroups:\n").expect("groups");
    for line in format!("groups:\n{groups}").lines() {
        expected.push_str(if line.is_empty() { "" } else { "  " });
        expected.push_str(line);
        expected.push('\n');
    }
    let path = "deploy/kustomize/components/monitoring/prometheusrule.yaml";
    if std::env::var_os("HOLDLINE_BLESS").is_some() {
        std::fs::write(root().join(path), &expected).unwrap();
    }
    assert!(read(path) == expected, "{path} differs; HOLDLINE_BLESS=1 cargo test the_prometheus_rule writes it");
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    if !installed("deploy::rules::promtool_accepts_the_rules_and_their_tests_pass", &["promtool"]) {
        return;
    }
    succeed(command("promtool").args(["check", "rules", RULES]));
    succeed(command("promtool").args(["check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml"]));
    succeed(command("promtool").args(["test", "rules", "deploy/prometheus/rules.test.yml"]));

    // A rule that is wrong does not pass them.
    let folder = tempfile::tempdir().unwrap();
    let wrong = read(RULES).replace("[30m])) > 2.5", "[30m])) > 1.5");
    assert_ne!(wrong, read(RULES));
    std::fs::write(folder.path().join("rules.yml"), wrong).unwrap();
    std::fs::write(folder.path().join("rules.test.yml"), read("deploy/prometheus/rules.test.yml")).unwrap();
    let failed = output(command("promtool").args(["test", "rules"]).arg(folder.path().join("rules.test.yml")));
    assert!(!failed.status.success() && said(&failed).contains("HoldlineFlapping"), "{}", said(&failed));
}

#[test]
fn every_alert_has_a_test_that_fires_and_one_that_does_not() {
    if !installed("deploy::rules::every_alert_has_a_test_that_fires_and_one_that_does_not", &["yamllint"]) {
        return;
    }
    let rules = yaml(&root().join(RULES)).remove(0);
    let tests = yaml(&root().join("deploy/prometheus/rules.test.yml")).remove(0);
    let mut tried: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for case in list(&tests["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])) {
        let (fires, quiet) = tried.entry(case["alertname"].as_str().unwrap().to_owned()).or_default();
        *if list(&case["exp_alerts"]).is_empty() { quiet } else { fires } += 1;
    }
    for rule in list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"])) {
        if let Some(alert) = rule["alert"].as_str() {
            let (fires, quiet) = tried.remove(alert).unwrap_or_default();
            assert!(fires > 0 && quiet > 0, "{alert}: fires in {fires} tests, stays quiet in {quiet}");
        }
    }
    assert!(tried.is_empty(), "tests of alerts that do not exist: {tried:?}");
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
