//! How many connections may be accepted before the process has no descriptor left for what it cannot do without.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Left free, whatever comes.
const SPARE: usize = 64;
/// Connections and sockets to the upstream, as many as the core opens.
const UPSTREAM: usize = 256;
/// The admin listener's connections, and one that gives way.
const ADMIN: usize = 65;
/// DNS, the store and its journal, the control socket's clients, the log, the runtimes.
const OTHERS: usize = 48;

/// Raises the soft limit on descriptors to the hard one.
pub fn raise() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// The limit in force; without any where the system does not say.
pub(super) fn limit() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(usize::MAX, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Connections that may be accepted on both sides together, given the limit and the sockets that listen. A quarter of a limit that is
/// too small for everything: then what comes first is served.
pub(super) fn room(limit: usize, listening: usize) -> usize {
    limit.saturating_sub(SPARE + UPSTREAM + ADMIN + OTHERS + listening).max(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_leaves_what_the_rest_needs() {
        assert_eq!(room(1_048_576, 4), 1_048_576 - 437);
        assert_eq!(room(1024, 4), 587);
        assert_eq!(room(256, 4), 64);
        assert!(room(usize::MAX, 4) > 1 << 40);
    }
}
