//! Settings and certificates are read again while phones are served: on SIGHUP, and when the files change.

use std::fs;
use std::path::{Path, PathBuf};

use holdline::agents::phone::RegisterOutcome;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::stage::{Setup, Stage, registered};
use crate::support::sockets;
use crate::support::wait::PATIENCE;
use crate::transport::certificates::{Authority, Files};

const SUCCESS: &str = "config_last_reload_successful";

/// A configuration file on its own.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> File {
        let file = File { folder: tempfile::tempdir().unwrap() };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("holdline.toml")
    }

    /// As an editor does it: the new file takes the old one's place.
    fn write(&self, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.path()).unwrap();
    }

    fn argument(&self) -> String {
        format!("--config={}", self.path().display())
    }

    async fn start(&self, more: &[&str]) -> Stage {
        Setup::new().with(&[&self.argument()]).with(more).start().await
    }
}

fn changed(line: &Value) -> &str {
    line["changed"].as_str().unwrap()
}

#[tokio::test]
async fn reload_a_changed_file_is_taken_and_acted_upon() {
    let file = File::new("failures = 3\nretry = false\nexhausted = \"503\"\n");
    let stage = file.start(&[]).await;
    let phone = stage.phone("100");
    stage.servers[0].behave("answer 503").await;
    assert_eq!(phone.register().await, RegisterOutcome::Rejected(500));
    assert_eq!((stage.count(0).await, stage.active().await), (1, 0));

    file.write("failures = 2\nretry = false\nexhausted = \"503\"\nattempt_timeout = \"2s\"\nlimit_bindings = 7\n");
    let line = stage.holdline.logged("configuration read again").await;
    assert_eq!(changed(&line), "failures, attempt_timeout, limit_bindings");
    let metrics = stage.holdline.until("failover_threshold", 2).await;
    assert_eq!((metrics.get("limit{resource=\"bindings\"}"), metrics.get(SUCCESS)), (7, 1));
    assert_eq!((stage.count(0).await, stage.active().await), (1, 0), "a change of settings is no failure");

    assert_eq!(phone.register().await, RegisterOutcome::Rejected(500));
    assert_eq!(stage.active().await, 1, "the second strike is the last");
    registered(phone.register().await);
}

/// A folder as kubelet makes it: `name` → `..data/name`, `..data` → `..1/`. A change is one `rename` of `..data`.
struct Volume {
    folder: tempfile::TempDir,
    version: u32,
}

impl Volume {
    fn new(files: &[(&str, &[u8])]) -> Volume {
        let mut volume = Volume { folder: tempfile::tempdir().unwrap(), version: 0 };
        volume.swap(files);
        for (name, _) in files {
            std::os::unix::fs::symlink(Path::new("..data").join(name), volume.path(name)).unwrap();
        }
        volume
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn swap(&mut self, files: &[(&str, &[u8])]) {
        let old = format!("..{}", self.version);
        self.version += 1;
        let new = format!("..{}", self.version);
        fs::create_dir(self.path(&new)).unwrap();
        for (name, content) in files {
            fs::write(self.path(&new).join(name), content).unwrap();
        }
        std::os::unix::fs::symlink(&new, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        if self.version > 1 {
            fs::remove_dir_all(self.path(&old)).unwrap();
        }
    }
}

#[tokio::test]
async fn reload_a_volume_changes_by_a_swap_of_a_symbolic_link() {
    let authority = Authority::new("swapped");
    let pair = |name: &str| {
        let Files { cert, key, .. } = authority.sign(name, &["holdline.example"]);
        (fs::read(cert).unwrap(), fs::read(key).unwrap())
    };
    let (first, second) = (pair("first"), pair("second"));
    let mut volume =
        Volume::new(&[("holdline.toml", b"min_handsets = 1\n"), ("tls.crt", &first.0), ("tls.key", &first.1)]);
    let setup = Setup::new().with(&[
        "--listen=udp:127.0.0.1:0,tls:127.0.0.1:0",
        &format!("--config={}", volume.path("holdline.toml").display()),
        &format!("--tls-cert={}", volume.path("tls.crt").display()),
        &format!("--tls-key={}", volume.path("tls.key").display()),
    ]);
    let stage = setup.start().await;

    // Half of a pair: everything stays, and the settings beside it are not taken either.
    volume.swap(&[("holdline.toml", b"min_handsets = 2\n"), ("tls.crt", &second.0), ("tls.key", &first.1)]);
    let line = stage.holdline.logged("certificates cannot be used").await;
    assert_eq!((&line["level"], &line["key"]), (&"ERROR".into(), &"tls_key".into()), "{line}");
    assert!(line["remedy"].as_str().unwrap().contains("does not belong"), "{line}");
    assert!(line["value"].as_str().unwrap().ends_with("tls.key"), "{line}");
    assert_eq!(stage.holdline.metrics().await.get(SUCCESS), 0);
    assert_eq!(stage.holdline.status().await["upstream"]["min_handsets"], 1);
    registered(stage.phone("100").register().await);

    volume.swap(&[("holdline.toml", b"min_handsets = 2\n"), ("tls.crt", &second.0), ("tls.key", &second.1)]);
    let line = stage.holdline.logged("configuration read again").await;
    assert_eq!(changed(&line), "min_handsets, tls_cert, tls_key");
    stage.holdline.logged("certificates read again").await;
    assert_eq!(stage.holdline.metrics().await.get(SUCCESS), 1);
    assert_eq!(stage.holdline.status().await["upstream"]["min_handsets"], 2);
    assert_eq!(stage.holdline.said("certificates cannot be used").len(), 1, "said once, not at every look");
}

#[tokio::test]
async fn reload_a_bad_file_keeps_the_old_settings_and_says_what_is_wrong() {
    const GOOD: &str = "failures = 4\n";
    let file = File::new(GOOD);
    let stage = file.start(&[]).await;
    assert_eq!(stage.holdline.metrics().await.get("failover_threshold"), 4);
    for (n, (bad, key, value, remedy)) in [
        ("failures = = 5\n", "config", Value::Null, "not valid TOML"),
        ("failures = 5\nfailurs = 6\n", "failurs", Value::Null, "did you mean failures?"),
        ("failures = 0\n", "failures", "0".into(), "from 1"),
        ("failures = 5\nallow = [\"10.0.0.0/40\"]\n", "allow", "10.0.0.0/40".into(), ""),
        (
            "failures = 5\nupstream_ca = \"/nowhere/ca.pem\"\n",
            "upstream_ca",
            "/nowhere/ca.pem".into(),
            "cannot be read",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        file.write(bad);
        stage.holdline.signal("HUP").await;
        let complaints =
            |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("cannot be used; the old"));
        let lines = stage.holdline.until_lines(n + 1, complaints).await;
        let line = &lines[n];
        assert_eq!((&line["key"], &line["value"]), (&key.into(), &value), "{line}");
        assert!(line["remedy"].as_str().is_some_and(|text| text.contains(remedy)), "{line}");
        assert!(line["from"].as_str().unwrap().contains("holdline.toml:"), "{line}");
        let metrics = stage.holdline.metrics().await;
        assert_eq!((metrics.get(SUCCESS), metrics.get("failover_threshold")), (0, 4), "{bad}");
        registered(stage.phone("100").register().await);
    }
    fs::remove_file(file.path()).unwrap();
    stage.holdline.signal("HUP").await;
    let line = stage.holdline.logged_times("configuration cannot be used", 5).await;
    assert!(line["remedy"].as_str().unwrap().contains("cannot be read"), "{line}");
    file.write(GOOD);
    stage.holdline.until(SUCCESS, 1).await;
    assert_eq!(stage.holdline.metrics().await.get("failover_threshold"), 4);
}

#[tokio::test]
async fn reload_what_needs_a_restart_is_named_and_flags_win_still() {
    let file = File::new("failures = 3\nselection = \"highest-weight\"\n");
    let stage = file.start(&["--failures=5"]).await;
    assert_eq!(stage.holdline.metrics().await.get("failover_threshold"), 5);
    file.write("failures = 2\nselection = \"weighted\"\nsrv = \"_sip._udp.other.example\"\ndomain = \"other.example\"\nmin_handsets = 2\n");
    stage.holdline.signal("HUP").await;
    let line = stage.holdline.logged("settings have changed that need a restart").await;
    // The flag --srv wins over the file, as --failures does.
    assert_eq!((&line["keys"], &line["level"]), (&"domain, selection".into(), &"WARN".into()));
    let line = stage.holdline.logged("configuration read again").await;
    assert_eq!(changed(&line), "min_handsets");
    let status = stage.holdline.status().await;
    assert_eq!(status["upstream"]["failover_threshold"], 5);
    assert_eq!(status["upstream"]["selection"], "highest-weight");
    assert_eq!(status["upstream"]["min_handsets"], 2);
    // Nothing new: an answer all the same, because somebody asked.
    stage.holdline.signal("HUP").await;
    let line = stage.holdline.logged_times("configuration read again", 2).await;
    assert_eq!(changed(&line), "");
    stage.holdline.logged_times("settings have changed that need a restart", 2).await;
}

#[tokio::test]
async fn reload_the_log_level_changes_both_ways() {
    let file = File::new("");
    let stage = file.start(&[]).await;
    let debug = |stage: &Stage| stage.holdline.lines().iter().filter(|line| line["level"] == "DEBUG").count();
    registered(stage.phone("100").register().await);
    assert_eq!(debug(&stage), 0);
    file.write("log_level = \"debug\"\n");
    stage.holdline.signal("HUP").await;
    stage.holdline.logged("configuration read again").await;
    // Nothing listens there: a line at debug about each packet that is not SIP.
    let untrusted = sockets::udp();
    let listener = stage.holdline.socket("phone", holdline::flow::Transport::Udp);
    untrusted.send_to(b"nonsense\r\n\r\n", listener).unwrap();
    stage.holdline.logged("dropped").await;
    file.write("log_level = \"info\"\n");
    stage.holdline.signal("HUP").await;
    stage.holdline.logged_times("configuration read again", 2).await;
    let before = debug(&stage);
    untrusted.send_to(b"nonsense\r\n\r\n", listener).unwrap();
    stage.holdline.until("messages_dropped_total{reason=\"not_sip\",side=\"phone\"}", 2).await;
    assert_eq!(debug(&stage), before);
}

#[tokio::test]
async fn reload_allow_shuts_out_whom_it_no_longer_names() {
    let file = File::new("");
    let stage = file.start(&[]).await;
    let mut connection =
        TcpStream::connect(stage.holdline.socket("phone", holdline::flow::Transport::Tcp)).await.unwrap();
    stage.holdline.until("connections{side=\"phone\",transport=\"tcp\"}", 1).await;
    registered(stage.phone("100").register().await);
    file.write("allow = [\"192.0.2.0/24\"]\nlimit_connections = 1\n");
    stage.holdline.signal("HUP").await;
    stage.holdline.logged("configuration read again").await;
    let end = timeout(PATIENCE, connection.read(&mut [0; 1])).await.expect("the connection is closed");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let before = stage.holdline.metrics().await.get("messages_dropped_total{reason=\"not_allowed\",side=\"phone\"}");
    let untrusted = sockets::udp();
    untrusted
        .send_to(b"OPTIONS sip:x SIP/2.0\r\n\r\n", stage.holdline.socket("phone", holdline::flow::Transport::Udp))
        .unwrap();
    let dropped = "messages_dropped_total{reason=\"not_allowed\",side=\"phone\"}";
    stage.holdline.until(dropped, before + 1).await;
    file.write("");
    stage.holdline.signal("HUP").await;
    stage.holdline.logged_times("configuration read again", 2).await;
    registered(stage.phone("100").register().await);
}
