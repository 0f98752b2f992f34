//! What the kernel says of a process and its children: processor time and resident memory.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::time::Duration;

/// The kernel's clock ticks a second in /proc (`USER_HZ`: 100 on every architecture Linux knows).
const TICKS: u64 = 100;

/// User and system time of `pid` and everything below it, together.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut ticks = 0;
    for pid in family(pid)? {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Fields 14 and 15 of proc(5); counted from behind the name, which may contain anything.
        let fields: Vec<&str> = after_name(&stat).split_whitespace().collect();
        for field in [11, 12] {
            ticks += fields.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Resident memory of `pid` and everything below it, in KiB. Pages that the processes share are counted once for each.
pub(crate) fn resident_kib(pid: u32) -> io::Result<u64> {
    let mut kib = 0;
    for pid in family(pid)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        kib += line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(kib)
}

/// `pid` and its children's children.
fn family(pid: u32) -> io::Result<HashSet<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the listing and here.
        let Ok(stat) = fs::read_to_string(format!("/proc/{child}/stat")) else { continue };
        if let Some(parent) = after_name(&stat).split_whitespace().nth(1).and_then(|text| text.parse::<u32>().ok()) {
            parents.push((child, parent));
        }
    }
    let mut family = HashSet::from([pid]);
    loop {
        let before = family.len();
        family.extend(
            parents.iter().filter(|(_, parent)| family.contains(parent)).map(|(child, _)| *child).collect::<Vec<_>>(),
        );
        if family.len() == before {
            return Ok(family);
        }
    }
}

fn after_name(stat: &str) -> &str {
    stat.rfind(')').map_or("", |end| &stat[end + 1..])
}
