//! How much memory there is, and how it is divided.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// No more is taken by itself, however much there is.
const MOST: usize = 512 << 20;
/// Connections' part is no larger: each has bounds of its own beside.
const MOST_CONNECTIONS: usize = 64 << 20;

/// Bytes of messages that may be kept at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Of requests under way: what transactions and exchanges keep.
    pub messages: usize,
    /// Of all connections together: half-read messages, and what waits to be written.
    pub connections: usize,
}

impl Budget {
    /// A quarter is for connections, up to 64 MiB.
    #[must_use]
    pub fn of(whole: usize) -> Self {
        let connections = (whole / 4).min(MOST_CONNECTIONS);
        Budget { messages: whole - connections, connections }
    }
}

/// A quarter of what the container may use, or the machine has; at most 512 MiB, and that where nothing can be found out.
#[must_use]
pub fn a_quarter() -> usize {
    quarter_below(Path::new("/"))
}

fn quarter_below(root: &Path) -> usize {
    let whole = group_limits(root).into_iter().chain(machine(root)).min();
    whole.map_or(MOST, |whole| usize::try_from(whole / 4).unwrap_or(MOST).min(MOST))
}

fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?;
    Some(kibibytes.parse::<u64>().ok()? << 10)
}

/// The limits of our control group and of those it is in: version 2, else the memory controller of version 1. In a container our
/// own group is the root that is seen.
fn group_limits(root: &Path) -> Vec<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (top, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = root.join(top);
        limits.extend(limit(&group, file));
        for name in PathBuf::from(path).components() {
            if let Component::Normal(name) = name {
                group.push(name);
                limits.extend(limit(&group, file));
            }
        }
    }
    limits
}

fn limit(group: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_limit_counts_and_half_a_gibibyte_is_the_most() {
        let meminfo = ("proc/meminfo", "MemTotal:        1048576 kB\nMemFree:  1 kB\n");
        let two = "0::/pod/holdline\n";
        for (files, expected) in [
            (vec![], 512 << 20),
            (vec![meminfo], 256 << 20),
            (vec![("proc/meminfo", "MemTotal: 67108864 kB\n")], 512 << 20),
            (vec![meminfo, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "268435456\n")], 64 << 20),
            (vec![meminfo, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "max\n")], 256 << 20),
            (
                vec![
                    meminfo,
                    ("proc/self/cgroup", two),
                    ("sys/fs/cgroup/pod/memory.max", "134217728\n"),
                    ("sys/fs/cgroup/pod/holdline/memory.max", "max\n"),
                ],
                32 << 20,
            ),
            (
                vec![
                    meminfo,
                    ("proc/self/cgroup", "4:cpu:/x\n7:memory,hugetlb:/x\n"),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                    ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "134217728\n"),
                ],
                32 << 20,
            ),
        ] {
            assert_eq!(quarter_below(machine_with(&files).path()), expected, "{files:?}");
        }
    }

    #[test]
    fn connections_have_a_quarter_of_it_and_not_more_than_64_mebibytes() {
        assert_eq!(Budget::of(64 << 20), Budget { messages: 48 << 20, connections: 16 << 20 });
        assert_eq!(Budget::of(512 << 20), Budget { messages: 448 << 20, connections: 64 << 20 });
    }
}
