//! The helm chart: linted, and rendering to what the kustomizations render to.

use serde_json::Value;

use super::manifests::{Rendered, rendered};
use super::semantics::complaints;
use super::tools::{command, installed, output, said, succeed, yaml};

const CHART: &str = "deploy/helm/holdline";

/// What the chart renders to with these values.
fn helm(values: &[&str]) -> Result<Vec<Value>, String> {
    let mut template = command("helm");
    template.args(["template", "holdline", CHART, "--namespace=holdline", "--set=createNamespace=true"]);
    template.args(values.iter().map(|value| format!("--set={value}")));
    let ran = output(&mut template);
    if !ran.status.success() {
        return Err(said(&ran));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ran.stdout).unwrap();
    Ok(yaml(file.path()))
}

/// In an order of its own, with the hash in a ConfigMap's name taken out: both hash the content, each in its way.
fn canonical(resources: &[Value]) -> Vec<Value> {
    let mut all: Vec<Value> = resources.iter().map(|resource| sorted(resource.clone())).collect();
    all.sort_by_key(Value::to_string);
    all
}

/// Lists of objects (ports, mounts, variables) in an order of their own; lists of words (arguments) as they are.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, inner)| (name, sorted(inner))).collect(),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(sorted).collect();
            if items.iter().all(Value::is_object) {
                items.sort_by_key(Value::to_string);
            }
            Value::Array(items)
        }
        Value::String(text) => Value::String(match text.strip_prefix("holdline-") {
            Some(hash) if hash.len() == 10 && hash.bytes().all(|b| b.is_ascii_alphanumeric()) => "holdline-HASH".into(),
            _ => text,
        }),
        other => other,
    }
}

fn kustomization(name: &str) -> &'static Rendered {
    rendered().iter().find(|one| one.name == name).unwrap()
}

#[test]
fn the_chart_renders_to_what_kustomize_renders_to() {
    let test = "deploy::chart::the_chart_renders_to_what_kustomize_renders_to";
    if !installed(test, &["helm", "kubectl", "yamllint"]) {
        return;
    }
    for (name, values) in [
        ("base", &["mode=service"][..]),
        ("overlays/loadbalancer", &["mode=loadBalancer"]),
        ("overlays/hostnetwork-daemonset", &[]),
        ("examples/monitoring", &["monitoring.enabled=true"]),
        ("examples/tls", &["mode=service", "tls.enabled=true"]),
    ] {
        let chart = helm(values).unwrap_or_else(|said| panic!("{name}: {said}"));
        // cert-manager's Certificate is the example's, not the component's.
        let theirs: Vec<Value> =
            kustomization(name).resources.iter().filter(|one| one["kind"] != "Certificate").cloned().collect();
        let (ours, theirs) = (canonical(&chart), canonical(&theirs));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(ours.len(), theirs.len(), "{name}");
        assert_eq!(complaints(&chart), Vec::<String>::new(), "{name}");
    }
    let other = canonical(&helm(&["mode=service", "storage=65Mi"]).unwrap());
    assert_ne!(other, canonical(&kustomization("base").resources), "and they could differ");
}

#[test]
fn helm_lints_the_chart_and_refuses_wrong_values() {
    let test = "deploy::chart::helm_lints_the_chart_and_refuses_wrong_values";
    if !installed(test, &["helm", "yamllint"]) {
        return;
    }
    succeed(command("helm").args(["lint", "--strict", CHART]));
    for (values, complaint) in [
        (&["mode=sidecar"][..], "mode"),
        (&["tsl.enabled=true"], "tsl"),
        (&["handsetNetworks={10.0.0.0}"], "handsetNetworks"),
        (&["mode=loadBalancer", "tls.enabled=true"], "advertise"),
    ] {
        let refused = helm(values).expect_err(complaint);
        assert!(refused.contains(complaint), "{values:?}: {refused}");
    }
}

/// A configuration of one's own is the one that runs, and another one is another ConfigMap.
#[test]
fn a_given_configuration_takes_the_place_of_the_example() {
    let test = "deploy::chart::a_given_configuration_takes_the_place_of_the_example";
    if !installed(test, &["helm", "yamllint"]) {
        return;
    }
    let map = |resources: &[Value]| resources.iter().find(|one| one["kind"] == "ConfigMap").unwrap().clone();
    let example = map(&helm(&["mode=service"]).unwrap());
    let own = map(&helm(&["mode=service", r#"config=srv = "_sip._tls.pbx.example.net""#]).unwrap());
    assert_eq!(own["data"]["holdline.toml"].as_str().unwrap().trim(), r#"srv = "_sip._tls.pbx.example.net""#);
    assert_ne!(own["metadata"]["name"], example["metadata"]["name"]);
}
