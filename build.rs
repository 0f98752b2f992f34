//! Says which commit is being built: `HOLDLINE_REVISION`, compiled into the version and into `holdline_build_info`.
//!
//! Asked in this order: the variable of that name (container builds, which have no repository); `git`, where this folder is
//! the top of a repository; `.revision`, which `git archive` fills in. Where none of them knows, it is `unknown`.
//!
//! What git says is a commit's first twelve digits. `-modified` follows where a file that is compiled differs from it. In the
//! development profile it is `-dev` instead: "built on top of that commit". That stays true when the same files are committed
//! afterwards, so that a commit alone builds nothing anew.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// What is compiled: only these can make a build differ from its commit.
const INPUTS: [&str; 4] = ["Cargo.toml", "Cargo.lock", "build.rs", "src"];

fn main() {
    println!("cargo::rerun-if-env-changed=HOLDLINE_REVISION");
    for input in INPUTS {
        println!("cargo::rerun-if-changed={input}");
    }
    let given = env::var("HOLDLINE_REVISION").ok().map(|given| given.trim().to_owned());
    let revision = given.filter(|given| is_plain(given)).or_else(from_git).or_else(from_archive);
    println!("cargo::rustc-env=HOLDLINE_REVISION={}", revision.as_deref().unwrap_or("unknown"));
}

/// What may stand in a label of a metric and in a version, whatever the variable held.
fn is_plain(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._+".contains(&b))
}

fn from_git() -> Option<String> {
    // A repository further up is somebody else's: these sources lie in it unpacked.
    if !Path::new(".git").exists() {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| is_plain(commit))?;
    if env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return Some(format!("{commit}-dev"));
    }
    // A commit, a checkout and a reset move one of these. Not the index: looking at the repository may write it.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let changed = git(&[&["status", "--porcelain", "--"], &INPUTS[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-modified") })
}

/// What git prints, or nothing where it is not installed or refuses.
fn git(arguments: &[&str]) -> Option<String> {
    // It looks at the repository, and writes nothing there.
    let ran = Command::new("git").env("GIT_OPTIONAL_LOCKS", "0").args(arguments).output().ok()?;
    ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).trim().to_owned())
}

fn from_archive() -> Option<String> {
    println!("cargo::rerun-if-changed=.revision");
    let text = fs::read_to_string(".revision").ok()?;
    // Outside of an archive the placeholder still stands there.
    let commit = text.lines().find(|line| !line.starts_with('#'))?.trim();
    let digits = commit.get(..12)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| digits.to_owned())
}
