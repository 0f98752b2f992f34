//! Programs that a test needs, and what is said where they are missing.

use std::path::{Path, PathBuf};

/// True where every program is installed. Where one is missing, says so in the form that `scripts/test.sh` collects, or
/// fails if `CI` is set.
pub(crate) fn installed(test: &str, programs: &[&str]) -> bool {
    installed_by(test, programs, found)
}

/// The same for programs that are looked for in another way.
pub(crate) fn installed_by(test: &str, programs: &[&str], find: impl Fn(&str) -> Option<PathBuf>) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
    missing.is_empty() || not_run(test, &missing)
}

/// Says that a test does not run for want of these; false.
pub(crate) fn not_run(test: &str, missing: &[&str]) -> bool {
    let line = format!("NOT RUN: {test} (needs {})", missing.join(", "));
    assert!(std::env::var_os("CI").is_none(), "{line}: make test-deps installs it");
    // Past the test framework, which keeps what a passing test prints.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
    false
}

/// Where a program is.
pub(crate) fn found(program: &str) -> Option<PathBuf> {
    // Kamailio lives in /usr/sbin, which not every user has on the path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}
