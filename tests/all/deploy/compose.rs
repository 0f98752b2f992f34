//! The Compose file: its schema, and that what it names is there. No engine runs it here.

use std::path::Path;

use serde_json::Value;

use super::rules::list;
use super::tools::{command, installed, output, read, root, said, succeed, yaml};

const FILE: &str = "deploy/compose.yaml";

fn compose() -> Value {
    yaml(&root().join(FILE)).remove(0)
}

#[test]
fn the_schema_accepts_the_compose_file() {
    if !installed("deploy::compose::the_schema_accepts_the_compose_file", &["check-jsonschema"]) {
        return;
    }
    let check = |file: &Path| {
        let mut check = command("check-jsonschema");
        output(check.args(["--builtin-schema", "vendor.compose-spec"]).arg(file))
    };
    let ran = check(&root().join(FILE));
    assert!(ran.status.success(), "{}", said(&ran));
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("compose.yaml");
    std::fs::write(&bad, read(FILE).replace("healthcheck:", "healthchek:")).unwrap();
    assert!(!check(&bad).status.success(), "and it would refuse");
}

/// Every file that is mounted exists, every volume is declared, and the healthcheck is a command there is.
#[test]
fn what_the_compose_file_names_is_there() {
    if !installed("deploy::compose::what_the_compose_file_names_is_there", &["yamllint"]) {
        return;
    }
    let file = compose();
    let services = file["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["grafana", "holdline", "prometheus"]);
    for (name, service) in services {
        assert_eq!(service["network_mode"], "host", "{name}");
        for volume in list(&service["volumes"]).iter().filter_map(Value::as_str) {
            let source = volume.split(':').next().unwrap();
            let there = match source.strip_prefix("./") {
                Some(path) => root().join("deploy").join(path).exists(),
                None => file["volumes"].as_object().unwrap().contains_key(source),
            };
            assert!(there, "{name}: {volume}");
        }
    }
    let holdline = &services["holdline"];
    assert_eq!(holdline["healthcheck"]["test"], serde_json::json!(["CMD", "/holdline", "healthcheck", "--ready"]));
    assert!(root().join("deploy").join(holdline["build"]["context"].as_str().unwrap()).join("Cargo.toml").exists());
    let dockerfile = root().join(holdline["build"]["dockerfile"].as_str().unwrap());
    assert!(dockerfile.exists(), "{}", dockerfile.display());
    // Grafana finds the dashboard where it looks for it.
    let provider = &yaml(&root().join("deploy/compose/grafana/dashboards.yaml"))[0]["providers"][0];
    let path = provider["options"]["path"].as_str().unwrap();
    assert!(services["grafana"]["volumes"].to_string().contains(&format!("./grafana:{path}:ro")));
}

/// What is mounted does what it is mounted for: Holdline accepts its file, Prometheus its own.
#[test]
fn the_mounted_configurations_are_accepted() {
    if !installed("deploy::compose::the_mounted_configurations_are_accepted", &["promtool"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_holdline"));
    check.args(["run", "--check", "--config=deploy/compose/holdline/holdline.toml"]).env_clear();
    check.arg(format!("--state-dir={}", folder.path().display()));
    let checked = succeed(check.current_dir(root()));
    assert!(!checked.contains("WARN"), "{checked}");
    for (name, to) in [("compose/prometheus.yml", "prometheus.yml"), ("prometheus/rules.yml", "rules.yml")] {
        std::fs::copy(root().join("deploy").join(name), folder.path().join(to)).unwrap();
    }
    succeed(command("promtool").args(["check", "config"]).arg(folder.path().join("prometheus.yml")));
}
