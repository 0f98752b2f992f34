//! Notifications to a service manager: sd_notify(3), over the Unix datagram socket that `NOTIFY_SOCKET` names.
//!
//! Three words matter: READY once the sockets are bound, STOPPING when a drain begins, WATCHDOG while the driver's loop
//! turns. A manager that set `WATCHDOG_USEC` and gets none for so long restarts the service. Started by anything else,
//! all of it does nothing.

use std::env::{self, VarError};
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The way to the service manager, or none.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// Half of what the manager waits, sd_watchdog_enabled(3).
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` as the manager set them. What cannot be used is a logged
    /// warning: the manager then ends the start by its own time-out, and the log says why.
    #[must_use]
    pub fn from_environment() -> Notifier {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Notifier::default() };
        let socket = connect(&name)
            .inspect_err(|error| tracing::warn!(socket = ?name, %error, "NOTIFY_SOCKET cannot be used"))
            .ok();
        Notifier { socket, every: watchdog(env::var("WATCHDOG_USEC"), env::var("WATCHDOG_PID")), next: None }
    }

    /// Reports that Holdline serves.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that Holdline drains.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Reports that the loop turns. To be called at least once a second; the notification leaves when one is due.
    pub fn alive(&mut self, now: Instant) {
        let Some(every) = self.every else { return };
        if self.next.is_none_or(|next| next <= now) {
            self.next = Some(now + every);
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::warn!(state, %error, "the service manager cannot be told");
        }
    }
}

/// A path, or `@name` for an abstract one (unix(7)). Sending never waits: a manager that does not read delays nothing.
fn connect(name: &OsString) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// The interval of watchdog notifications: half of the manager's time-out, and none if it means another process.
fn watchdog(microseconds: Result<String, VarError>, pid: Result<String, VarError>) -> Option<Duration> {
    let patience: u64 = microseconds.ok()?.parse().ok().filter(|patience| *patience > 0)?;
    let ours = pid.map_or(true, |pid| pid.parse() == Ok(std::process::id()));
    ours.then(|| Duration::from_micros(patience / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_both_spoken_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("holdline-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (manager, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{abstract_name}").into()),
        ] {
            let notifier = Notifier { socket: Some(connect(&name).unwrap()), ..Notifier::default() };
            notifier.ready();
            notifier.stopping();
            assert_eq!((received(&manager), received(&manager)), ("READY=1".to_owned(), "STOPPING=1".to_owned()));
        }
        for nonsense in ["", "vsock:2:1234", "relative/path"] {
            assert!(connect(&nonsense.into()).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn the_watchdog_hears_at_half_its_patience_and_not_more_often() {
        let (ours, manager) = UnixDatagram::pair().unwrap();
        manager.set_nonblocking(true).unwrap();
        let every = watchdog(Ok("4000000".to_owned()), Err(VarError::NotPresent));
        let mut notifier = Notifier { socket: Some(ours), every, next: None };
        let start = Instant::now();
        let mut heard = Vec::new();
        for second in 0..=6 {
            notifier.alive(start + Duration::from_secs(second));
            if manager.recv(&mut [0; 64]).is_ok() {
                heard.push(second);
            }
        }
        assert_eq!(heard, [0, 2, 4, 6]);
    }

    #[test]
    fn a_watchdog_of_another_process_or_of_nobody_is_not_fed() {
        let mine = std::process::id().to_string();
        let is = |usec: &str, pid: &str| watchdog(Ok(usec.to_owned()), Ok(pid.to_owned())).is_some();
        assert!(is("1000000", &mine));
        assert!(!is("1000000", "1"));
        assert!(!is("0", &mine));
        assert!(!is("soon", &mine));
        assert_eq!(watchdog(Err(VarError::NotPresent), Ok(mine)), None);
    }
}
