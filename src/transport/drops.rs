//! `udp_receive_drops_total`: datagrams that the kernel dropped because a receive buffer was full, from `/proc/net/udp`.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::flow::Side;
use crate::metrics::Metrics;

const EVERY: Duration = Duration::from_secs(10);

/// The sockets to look at, by inode, each with what was counted so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Drops {
    sockets: Arc<Mutex<HashMap<u64, (Side, u64)>>>,
}

impl Drops {
    /// Adds a socket; returns its inode, 0 where there is no `/proc`.
    pub(super) fn add(&self, socket: &impl AsRawFd, side: Side) -> u64 {
        let Ok(about) = fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())) else { return 0 };
        self.lock().insert(about.ino(), (side, 0));
        about.ino()
    }

    /// Forgets a socket.
    pub(super) fn remove(&self, inode: u64) {
        self.lock().remove(&inode);
    }

    /// Counts every ten seconds until aborted.
    pub(super) fn watch(&self, metrics: Arc<Metrics>) -> AbortHandle {
        let drops = self.clone();
        let task = tokio::spawn(async move {
            let mut turns = tokio::time::interval(EVERY);
            loop {
                turns.tick().await;
                drops.count(&metrics);
            }
        });
        task.abort_handle()
    }

    /// Adds what was dropped since the last time.
    pub(super) fn count(&self, metrics: &Metrics) {
        for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
            let Ok(text) = fs::read_to_string(table) else { continue };
            let mut sockets = self.lock();
            for (inode, drops) in text.lines().skip(1).filter_map(row) {
                if let Some((side, counted)) = sockets.get_mut(&inode) {
                    metrics.udp_receive_drops(*side).inc_by(drops.saturating_sub(*counted));
                    *counted = drops.max(*counted);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (Side, u64)>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Inode and drops, the tenth and the last column.
fn row(line: &str) -> Option<(u64, u64)> {
    let mut columns = line.split_whitespace();
    let inode = columns.nth(9)?.parse().ok()?;
    let drops = columns.last()?.parse().ok()?;
    Some((inode, drops))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_proc_net_udp() {
        let line = "  123: 0100007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 \
                    0000000000000000 42";
        assert_eq!(row(line), Some((4711, 42)));
        assert_eq!(row("  sl  local_address"), None);
    }

    #[test]
    fn what_overflows_a_receive_buffer_is_counted_once_and_for_its_side() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let addr = socket.local_addr().unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 1000], addr.as_socket().unwrap()).unwrap();
        }
        let (drops, metrics) = (Drops::default(), Metrics::new());
        let inode = drops.add(&socket, Side::Upstream);
        drops.count(&metrics);
        let counted = metrics.udp_receive_drops(Side::Upstream).get();
        assert!((50..100).contains(&counted), "{counted}");
        drops.count(&metrics);
        assert_eq!(metrics.udp_receive_drops(Side::Upstream).get(), counted);
        assert_eq!(metrics.udp_receive_drops(Side::Phone).get(), 0);
        drops.remove(inode);
        assert!(drops.lock().is_empty());
    }
}
