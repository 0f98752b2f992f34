//! The unit: what systemd says of it, and a service manager's side of the conversation, played by the test.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::tools::{command, installed, output, read, root, said};
use crate::loopback::process::{Holdline, command as holdline};
use crate::support::binary;

/// The unit with a program that is here, its drop-in applied, in a folder of its own.
fn unit(folder: &std::path::Path, change: impl Fn(String) -> String) -> std::path::PathBuf {
    let text = read("deploy/systemd/holdline.service").replace("/usr/bin/holdline", env!("CARGO_BIN_EXE_holdline"));
    let path = folder.join("holdline.service");
    std::fs::write(&path, change(text)).unwrap();
    std::fs::write(folder.join("holdline@.service"), change(read("deploy/systemd/holdline@.service"))).unwrap();
    let drop_ins = folder.join("holdline.service.d");
    std::fs::create_dir_all(&drop_ins).unwrap();
    std::fs::write(drop_ins.join("tls.conf"), read("deploy/systemd/tls.conf")).unwrap();
    path
}

#[test]
fn systemd_analyze_has_nothing_to_say_about_the_unit() {
    if !installed("deploy::systemd::systemd_analyze_has_nothing_to_say_about_the_unit", &["systemd-analyze"]) {
        return;
    }
    // It returns 0 on values it does not know: what it says counts.
    let verify = |change: fn(String) -> String| {
        let folder = tempfile::tempdir().unwrap();
        said(&output(command("systemd-analyze").args(["verify", "--man=no"]).arg(unit(folder.path(), change))))
    };
    assert_eq!(verify(|text| text), "");
    let typo = verify(|text| text.replace("ProtectSystem=strict", "ProtectSystem=strictly"));
    assert!(typo.contains("strictly"), "{typo}");
}

#[test]
fn systemd_analyze_finds_the_unit_little_exposed() {
    if !installed("deploy::systemd::systemd_analyze_finds_the_unit_little_exposed", &["systemd-analyze"]) {
        return;
    }
    let security = |change: fn(String) -> String| {
        let folder = tempfile::tempdir().unwrap();
        let unit = unit(folder.path(), change);
        // In tenths: the network is what it is for, the rest is shut.
        output(command("systemd-analyze").args(["security", "--offline=yes", "--threshold=15"]).arg(unit))
    };
    let ours = security(|text| text);
    assert!(ours.status.success(), "{}", said(&ours));
    assert!(!security(|text| text.replace("SystemCallFilter=", "#").replace("Protect", "#")).status.success());
}

/// Several records on one machine: the same unit, with a file, a state and a name of its own for each.
#[test]
fn the_template_is_the_unit_with_a_name_in_it() {
    let made = read("deploy/systemd/holdline.service")
        .replace("Description=Holdline:", "Description=Holdline for %i:")
        .replace("/etc/holdline/holdline.toml", "/etc/holdline/%i.toml")
        // systemd makes a user up for each: of one name they would share their files.
        .replace("User=holdline\n", "")
        .replace("Directory=holdline\n", "Directory=holdline-%i\n")
        .replace("=%S/holdline\n", "=%S/holdline-%i\n");
    assert_eq!(read("deploy/systemd/holdline@.service"), made);
}

/// Like the checkers of settings: the unit's stop time-out, the shipped configuration.
#[test]
fn the_shipped_configuration_is_accepted_and_drains_before_the_unit_is_killed() {
    let unit = read("deploy/systemd/holdline.service");
    let seconds = |text: &str, key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"));
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    let config = root().join("deploy/systemd/holdline.toml");
    let drain = seconds(&read("deploy/systemd/holdline.toml"), "drain_timeout = ");
    assert!(seconds(&unit, "TimeoutStopSec=") > drain + 5);

    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("contact.key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let mut check = binary::holdline(["run", "--check", &format!("--config={}", config.display())]);
    check.env("HOLDLINE_STATE_DIR", folder.path()).env("HOLDLINE_CONTACT_KEY", &key);
    let checked = output(&mut check);
    assert!(checked.status.success() && !said(&checked).contains("WARN"), "{}", said(&checked));
}

/// A service manager that listens.
struct Manager(tempfile::TempDir, UnixDatagram);

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Manager(folder, socket)
    }

    /// Waits for the next word, on a thread where waiting holds nobody up.
    async fn hears(&self) -> String {
        let socket = self.1.try_clone().unwrap();
        let heard = tokio::task::spawn_blocking(move || {
            let mut bytes = [0; 256];
            let length = socket.recv(&mut bytes).expect("a word");
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        });
        heard.await.unwrap()
    }
}

fn notifying(manager: &Manager, watchdog: &str) -> tokio::process::Command {
    let mut command = holdline(&["--srv=_sip._udp.pbx.example".to_owned(), "--nameserver=127.0.0.1:9".to_owned()]);
    command.env("NOTIFY_SOCKET", manager.0.path().join("notify")).env("WATCHDOG_USEC", watchdog);
    command
}

/// `Type=notify`: ready once it serves, which does not wait for DNS (there is none here), and stopping when told to.
#[tokio::test]
async fn the_manager_hears_ready_then_the_watchdog_then_stopping() {
    let manager = Manager::new();
    let mut holdline = Holdline::start_with(notifying(&manager, "2000000")).await;
    assert_eq!(manager.hears().await, "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.hears().await, "WATCHDOG=1");
    }
    holdline.signal("TERM").await;
    while manager.hears().await != "STOPPING=1" {}
    assert_eq!(holdline.ended().await.code(), Some(0));
}

/// A loop that hangs is not reported alive: that is what the manager restarts it for.
#[tokio::test]
async fn a_holdline_that_hangs_does_not_feed_the_watchdog() {
    let manager = Manager::new();
    let holdline = Holdline::start_with(notifying(&manager, "2000000")).await;
    assert_eq!(manager.hears().await, "READY=1");
    assert_eq!(manager.hears().await, "WATCHDOG=1");
    holdline.signal("STOP").await;
    // What was said before it stopped may still wait.
    manager.1.set_nonblocking(true).unwrap();
    while manager.1.recv(&mut [0; 256]).is_ok() {}
    manager.1.set_nonblocking(false).unwrap();
    manager.1.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(manager.1.recv(&mut [0; 256]).is_err(), "silence for more than twice its interval");
    holdline.signal("CONT").await;
    manager.1.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(manager.hears().await, "WATCHDOG=1");
}
