//! The revision that a build says it is: `build.rs` by itself, in repositories made for it.

use std::path::Path;
use std::process::Command;

use super::tools::{installed, output, root, said, succeed};

/// `build.rs`, compiled, and a folder with the files that it looks at.
struct Build {
    folder: tempfile::TempDir,
    script: tempfile::TempDir,
}

impl Build {
    fn new() -> Build {
        let build = Build { folder: tempfile::tempdir().unwrap(), script: tempfile::tempdir().unwrap() };
        let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or("rustc".to_owned()));
        rustc.args(["--edition", "2024", "-o"]).arg(build.script.path().join("build"));
        succeed(rustc.arg(root().join("build.rs")).current_dir(root()));
        for name in ["Cargo.toml", "Cargo.lock", "build.rs", "README.md", "src/main.rs"] {
            build.write(name, "as committed\n");
        }
        for name in [".revision", ".gitattributes"] {
            std::fs::copy(root().join(name), build.path().join(name)).unwrap();
        }
        build
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.current_dir(self.path()).args(["-c", "user.name=a", "-c", "user.email=a@example.com"]).args(arguments);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        succeed(&mut git).trim().to_owned()
    }

    /// Commits everything; the first twelve digits of it.
    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--no-verify", "--message=a commit"]);
        self.git(&["rev-parse", "--short=12", "HEAD"])
    }

    fn run(&self, profile: &str, given: Option<&str>) -> String {
        let mut build = Command::new(self.script.path().join("build"));
        build.current_dir(self.path()).env("PROFILE", profile).env_remove("HOLDLINE_REVISION");
        build.envs(given.map(|given| ("HOLDLINE_REVISION", given)));
        let ran = output(&mut build);
        assert!(ran.status.success(), "{}", said(&ran));
        said(&ran)
    }

    /// What a build of this profile would say it is.
    fn revision(&self, profile: &str, given: Option<&str>) -> String {
        let told = self.run(profile, given);
        let line = told.lines().find_map(|line| line.strip_prefix("cargo::rustc-env=HOLDLINE_REVISION="));
        line.unwrap_or_else(|| panic!("{told}")).to_owned()
    }
}

#[test]
fn a_checkout_is_built_as_its_commit_and_says_what_differs() {
    if !installed("deploy::revision::a_checkout_is_built_as_its_commit_and_says_what_differs", &["git"]) {
        return;
    }
    let build = Build::new();
    build.git(&["init", "--quiet"]);
    let first = build.commit();
    assert_eq!(build.revision("release", None), first);
    assert_eq!(build.revision("debug", None), format!("{first}-dev"));
    build.write("README.md", "not compiled\n");
    assert_eq!(build.revision("release", None), first);
    build.write("src/more.rs", "not committed\n");
    assert_eq!(build.revision("release", None), format!("{first}-modified"));
    let second = build.commit();
    assert_ne!(first, second);
    assert_eq!(build.revision("release", None), second);
    // A commit must make cargo run it again.
    let told = build.run("release", None);
    for watched in [".git/HEAD", ".git/logs/HEAD", "src"] {
        assert!(told.lines().any(|line| line == format!("cargo::rerun-if-changed={watched}")), "{watched}: {told}");
    }
    // And a second working tree of the repository, whose .git is a file.
    let other = tempfile::tempdir().unwrap();
    let other = other.path().join("other");
    build.git(&["worktree", "add", "--quiet", other.to_str().unwrap(), &first]);
    let mut script = Command::new(build.script.path().join("build"));
    let told = said(&output(script.current_dir(&other).env("PROFILE", "release").env_remove("HOLDLINE_REVISION")));
    assert!(told.contains(&format!("HOLDLINE_REVISION={first}\n")), "{told}");
}

#[test]
fn a_build_without_a_repository_says_what_it_was_given() {
    if !installed("deploy::revision::a_build_without_a_repository_says_what_it_was_given", &["git", "tar"]) {
        return;
    }
    let build = Build::new();
    assert_eq!(build.revision("release", None), "unknown", "the placeholder is no commit");
    assert_eq!(build.revision("release", Some(" 0123abc\n")), "0123abc");
    for unusable in ["", "two words", "\"quoted\"", "line\nbreak"] {
        assert_eq!(build.revision("release", Some(unusable)), "unknown", "{unusable:?}");
    }
    // Unpacked below somebody else's repository, it is not that one's commit.
    let inner = build.path().join("inner");
    build.git(&["init", "--quiet"]);
    let commit = build.commit();
    std::fs::create_dir(&inner).unwrap();
    let archive = build.path().join("archive.tar");
    build.git(&["archive", "--output", archive.to_str().unwrap(), "HEAD"]);
    succeed(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&inner));
    let mut script = Command::new(build.script.path().join("build"));
    let told = said(&output(script.current_dir(&inner).env("PROFILE", "release").env_remove("HOLDLINE_REVISION")));
    assert!(told.contains(&format!("HOLDLINE_REVISION={commit}\n")), "an archive carries its commit: {told}");
}

/// What these tests themselves were built from.
#[test]
fn this_build_says_its_commit() {
    let revision = holdline::metrics::REVISION;
    if root().join(".git").exists() && installed("deploy::revision::this_build_says_its_commit", &["git"]) {
        let digits = revision.split('-').next().unwrap();
        succeed(Command::new("git").current_dir(root()).args(["cat-file", "-e", &format!("{digits}^{{commit}}")]));
    }
    let printed = succeed(Command::new(env!("CARGO_BIN_EXE_holdline")).arg("--version"));
    assert_eq!(printed.trim(), format!("holdline {} ({revision})", env!("CARGO_PKG_VERSION")));
}
