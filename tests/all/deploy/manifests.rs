//! Everything that `kubectl apply --kustomize` would send: rendered, and shown to schemas and linters.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::tools::{command, find, installed, output, read, root, said, succeed, yaml};

/// Native sidecars are on by default from here on.
pub(super) const OLDEST: &str = "1.29";
/// The newest that the pinned kubernetes-validate knows.
pub(super) const NEWEST: &str = "1.37";

/// One kustomization, rendered.
pub(super) struct Rendered {
    /// Its folder below `deploy/kustomize`.
    pub name: String,
    /// What it renders to.
    pub file: PathBuf,
    /// The same, parsed.
    pub resources: Vec<Value>,
}

/// All folders that can be applied, rendered once. Needs kubectl and yamllint.
pub(super) fn rendered() -> &'static [Rendered] {
    static ALL: OnceLock<(TempDir, Vec<Rendered>)> = OnceLock::new();
    let (_, all) = ALL.get_or_init(|| {
        // Checkov passes hidden folders by.
        let folder = tempfile::Builder::new().prefix("manifests").tempdir().unwrap();
        let render = |name: String| {
            let rendered = output(command("kubectl").arg("kustomize").arg(root().join("deploy/kustomize").join(&name)));
            assert!(rendered.status.success(), "{name}: {}", said(&rendered));
            let file = folder.path().join(format!("{}.yaml", name.replace('/', "-")));
            std::fs::write(&file, rendered.stdout).unwrap();
            let resources = yaml(&file);
            Rendered { name, file, resources }
        };
        let all = applicable().into_iter().map(render).collect();
        (folder, all)
    });
    all
}

/// The folders with a `kind: Kustomization`.
fn applicable() -> Vec<String> {
    let base = root().join("deploy/kustomize");
    let mut found = Vec::new();
    let mut folders = vec![base.clone()];
    while let Some(folder) = folders.pop() {
        let text = std::fs::read_to_string(folder.join("kustomization.yaml")).unwrap_or_default();
        if text.contains("kind: Kustomization") {
            found.push(folder.strip_prefix(&base).unwrap().display().to_string());
        }
        folders.extend(std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|at| at.is_dir()));
    }
    found.sort();
    found
}

fn files() -> Vec<&'static Path> {
    rendered().iter().map(|one| one.file.as_path()).collect()
}

#[test]
fn every_kustomization_renders() {
    if installed("deploy::manifests::every_kustomization_renders", &["kubectl", "yamllint"]) {
        let names: Vec<&str> = rendered().iter().map(|one| one.name.as_str()).collect();
        let expected = [
            "base",
            "examples/monitoring",
            "examples/sidecar",
            "examples/tls",
            "overlays/hostnetwork-daemonset",
            "overlays/loadbalancer",
        ];
        assert_eq!(names, expected);
        assert!(rendered().iter().all(|one| !one.resources.is_empty()));
    }
}

/// What no Kubernetes schema knows: these are checked by [`custom_resources_have_their_types`] and by reading.
const WITHOUT_SCHEMA: [&str; 3] = ["PodMonitor", "PrometheusRule", "Certificate"];

#[test]
fn the_schemas_of_the_oldest_and_the_newest_kubernetes_accept_everything() {
    let test = "deploy::manifests::the_schemas_of_the_oldest_and_the_newest_kubernetes_accept_everything";
    if !installed(test, &["kubectl", "yamllint", "kubernetes-validate"]) {
        return;
    }
    for version in [OLDEST, NEWEST] {
        let mut validate = command("kubernetes-validate");
        let said = succeed(validate.args(["--strict", "--kubernetes-version", version]).args(files()));
        let passed = said.lines().filter(|line| line.starts_with("INFO ") && line.contains(" passed ")).count();
        let other: Vec<&str> = said
            .lines()
            .filter(|line| !line.starts_with("INFO ") && !line.is_empty())
            .filter(|line| !WITHOUT_SCHEMA.iter().any(|kind| line.contains(&format!("schema for kind {kind} "))))
            .collect();
        assert!(other.is_empty(), "{version}: {other:#?}");
        let known = |resource: &&Value| !WITHOUT_SCHEMA.iter().any(|kind| resource["kind"] == *kind);
        let all = rendered().iter().flat_map(|one| &one.resources).filter(known).count();
        assert_eq!(passed, all, "{version}: {said}");
    }

    // And they would refuse.
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.yaml");
    let text = std::fs::read_to_string(&rendered()[0].file).unwrap();
    std::fs::write(&bad, text.replace("terminationGracePeriodSeconds:", "terminationGracePeriod:")).unwrap();
    let refused = output(command("kubernetes-validate").args(["--strict", "-k", NEWEST]).arg(&bad));
    assert!(!refused.status.success(), "{}", said(&refused));
}

#[test]
fn custom_resources_have_their_types() {
    let test = "deploy::manifests::custom_resources_have_their_types";
    if !installed(test, &["kubectl", "yamllint", "node", "prometheus-operator-models"]) {
        return;
    }
    let monitoring = rendered().iter().find(|one| one.name == "examples/monitoring").unwrap();
    let of_kind = |kind: &str| monitoring.resources.iter().find(|one| one["kind"] == kind).unwrap().clone();
    let check = |resources: &[Value]| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resources.json");
        std::fs::write(&file, serde_json::to_vec(resources).unwrap()).unwrap();
        let models = find("prometheus-operator-models").unwrap();
        output(command("node").arg(root().join("tests/deploy/custom-resources.mjs")).arg(models).arg(file))
    };
    let good = check(&[of_kind("PodMonitor"), of_kind("PrometheusRule")]);
    assert!(good.status.success(), "{}", said(&good));
    let mut bad = of_kind("PodMonitor");
    bad["spec"]["podMetricsEndpoints"][0]["portNumber"] = "9460".into();
    assert!(!check(&[bad]).status.success());
    let mut bad = of_kind("PrometheusRule");
    bad["spec"]["groups"][0]["rules"][0]["expr"] = Value::Bool(true);
    assert!(!check(&[bad]).status.success());
}

#[test]
fn yamllint_has_nothing_to_say() {
    if installed("deploy::manifests::yamllint_has_nothing_to_say", &["yamllint"]) {
        let said = succeed(command("yamllint").args(["--strict", "-c", "deploy/.yamllint", "deploy"]));
        assert_eq!(said, "");
    }
}

#[test]
fn checkov_finds_nothing_but_what_is_justified() {
    let test = "deploy::manifests::checkov_finds_nothing_but_what_is_justified";
    if !installed(test, &["checkov", "kubectl", "yamllint"]) {
        return;
    }
    let folder = rendered()[0].file.parent().unwrap();
    let mut checkov = command("checkov");
    checkov.args(["--skip-download", "--compact", "--framework", "kubernetes", "--output", "json"]);
    checkov.args(["--config-file", "deploy/kustomize/checkov.yaml", "--directory"]).arg(folder);
    let ran = output(&mut checkov);
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", said(&ran)));
    assert!(ran.status.success(), "{:#}", report["results"]["failed_checks"]);
    assert!(report["summary"]["passed"].as_u64() > Some(300), "{:#}", report["summary"]);
    // A skip beside a resource carries its reason; one for all has a comment before it.
    for skipped in report["results"]["skipped_checks"].as_array().unwrap() {
        let reason = skipped["check_result"]["suppress_comment"].as_str().unwrap_or_default();
        assert!(reason.split(' ').count() >= 5, "{skipped:#}");
    }
    let config = read("deploy/kustomize/checkov.yaml");
    let lines: Vec<&str> = config.lines().map(str::trim).collect();
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("- CKV")) {
        assert!(lines[place - 1].starts_with('#'), "no reason for {line}");
    }
}
